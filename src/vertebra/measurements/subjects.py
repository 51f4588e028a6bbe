"""What a row is of: a network by its name, or by its name and the content of the file that it comes from.

Names are for people, and two files may share one. So a subject is a name and a digest, and rows are only
joined where both are equal. Where a name stands for several subjects, the output adds the beginning of the
digest: `onnx:model.onnx#3fa2b1c4`. Such a name selects the subject's rows too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from operator import attrgetter

from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements.measurement import Measurement

#: A model's name, and the digest of its file where the name alone doesn't identify it.
Subject = tuple[str, str | None]

subject: attrgetter[Subject] = attrgetter("model", "network_sha256")

#: What marks the rows of a file that were written before rows had digests, and what selects them.
NO_DIGEST = " (no digest)"
_NONE = "none"
_SHOWN = 8
_MARKED = re.compile(rf"(.+)#([0-9a-f]{{4,64}}|{_NONE})")
_FILES = ("onnx:", "paddle:")
_OF_A_FILE = re.compile(
    r"\.(pth|pt|ckpt|bin|safetensors|tar|pkl|pickle|pdparams|npz|h5|msgpack|onnx|gz|zip)$|^hf:|^https?:", re.I
)


#: Between the name of a network's weights and that of the pictures that a head on it was fitted on.
_HEAD = "+"
#: The split of an accuracy on pictures that the head was fitted on: nothing is chosen by it.
SEEN = "seen in fitting"

#: The split of an evaluation of a share of its pictures: "val[share 2/4]".
_SHARE = re.compile(r"(.*)\[share (\d+)/(\d+)\]", re.DOTALL)


def split_of_share(split: str, number: int, of: int) -> str:
    """What rows of share `number` of `of` of a split have in the column `split`.

    >>> share_in(split_of_share("val", 2, 4))
    ('val', 2, 4)
    """
    return f"{split}[share {number}/{of}]"


def share_in(split: str | None) -> tuple[str, int, int] | None:
    """The split, the number of the share, and the number of shares, where `split` is that of a share."""
    found = None if split is None or "[share" not in split else _SHARE.fullmatch(split)
    return None if found is None else (found[1], int(found[2]), int(found[3]))


def is_share(row: Measurement) -> bool:
    """Whether the row is of a share of the pictures, which stands for the whole nowhere."""
    return share_in(row.split) is not None


def with_head(weights: str | None, pictures: str) -> str:
    """What weights are called with a head on them that was fitted on `pictures`; drawn `weights`
    are None.

    >>> with_head("tf_efficientnet_lite0.in1k", "photos@3fa2b1c4d5")
    'tf_efficientnet_lite0.in1k+photos@3fa2b1c4d5'
    """
    return f"{weights or 'drawn'}{_HEAD}{pictures}"


def under_head(weights: str) -> str:
    """The weights that carry a fitted head, where the name is of such; else the name itself."""
    return weights.partition(_HEAD)[0]


def is_published_name(model: str, weights: str | None) -> bool:
    """Whether `weights` are called as published ones of `model` are, and not as a file: `vgg16.tv_in1k`."""
    if weights is None or weights == "untrained":
        return True
    if _HEAD in weights:
        return False
    bare = model.rpartition(":")[2]
    return bare.partition(".")[0] == weights.partition(".")[0] and not _OF_A_FILE.search(weights)


def is_of_catalogue(row: Measurement) -> bool:
    """Whether the row's network is one of the catalogue, also one that was rounded to int8 and so has a
    digest of its own."""
    return row.network_sha256 is None or _is_quantised(row)


def _is_quantised(row: Measurement) -> bool:
    rounded = row.precision is not None and row.precision.startswith("int8")
    return rounded and not row.model.startswith(_FILES) and is_published_name(row.model, row.weights)


def names(rows: Iterable[Measurement]) -> dict[Subject, str]:
    """What each subject of `rows` is called: its model, with the beginning of its digest if several subjects
    share the model's name. A file's rows without a digest are marked.

    A network that was rounded to int8 keeps its name if it is the only such form of it.
    """
    rows = list(rows)
    every = by_model(dict.fromkeys(map(subject, rows)))
    rounded_rows = [row for row in rows if row.precision is not None and row.precision[:4] == "int8"]
    old = {row.model for row in rounded_rows if row.network_sha256 is None}
    quantised = {subject(row) for row in rounded_rows if row.network_sha256 and _is_quantised(row)}
    called: dict[Subject, str] = {}
    for model, digests in every.items():
        if len(digests) == 1 and not model.startswith(_FILES):
            called[model, next(iter(digests))] = model
            continue
        rounded = [digest for digest in digests if (model, digest) in quantised]
        only = len(rounded) == 1 and model not in old
        plain = [digest for digest in digests if digest not in rounded]
        for digest in digests:
            alone = only if digest in rounded else len(plain) == 1
            called[model, digest] = _called(model, digest, alone, digests)
    return called


def _called(model: str, digest: str | None, alone: bool, others: Iterable[str | None]) -> str:
    if digest is None:
        return model + NO_DIGEST if model.startswith(_FILES) else model
    return model if alone else f"{model}#{short(digest, others)}"


def short(digest: str, others: Iterable[str | None] = ()) -> str:
    """The beginning of `digest`, of eight digits or as many as tell it from `others`."""
    rivals = [other for other in others if other is not None and other != digest]
    length = _SHOWN
    while length < len(digest) and any(other.startswith(digest[:length]) for other in rivals):
        length += 1
    return digest[:length]


def parted(name: str) -> tuple[str, str | None]:
    """A name as `names` shows it as the model's name and the beginning of a digest, `none` for the rows
    without one; None where the name has no such part.

    >>> parted("onnx:model.onnx#3fa2b1c4"), parted("vgg16")
    (('onnx:model.onnx', '3fa2b1c4'), ('vgg16', None))
    """
    if name.endswith(NO_DIGEST):
        return name.removesuffix(NO_DIGEST), _NONE
    found = _MARKED.fullmatch(name)
    return (found[1], found[2]) if found else (name, None)


def is_called(row: Measurement, name: str) -> bool:
    """Whether `name` is the row's model, or its model with the beginning of its digest."""
    if row.model == name:
        return True
    model, digest = parted(name)
    return digest is not None and row.model == model and (row.network_sha256 or _NONE).startswith(digest)


def chosen(digest: str, model: str, known: Iterable[str | None]) -> str | None:
    """The one of the digests `known` of `model` that begins with `digest`; None for `none`.

    Raises UnknownNameError where there is none, and InvalidInputError where there are several.
    """
    if digest == _NONE:
        return None
    every = sorted({one for one in known if one is not None})
    fitting = [one for one in every if one.startswith(digest)]
    if not fitting:
        shown = ", ".join(f"{model}#{short(one, every)}" for one in every)
        hint = shown or "list the rows with: vertebra table"
        raise UnknownNameError(f'No row is of "{model}#{digest}".', hint)
    if len(fitting) > 1:
        listed = ", ".join(f"{model}#{short(one, every)}" for one in fitting)
        raise InvalidInputError(f'"{model}#{digest}" could be {listed}.', "write more of the digest")
    return fitting[0]


def by_model(found: Iterable[Subject]) -> Mapping[str, list[str | None]]:
    """The digests of each model."""
    digests: dict[str, list[str | None]] = defaultdict(list)
    for model, digest in found:
        digests[model].append(digest)
    return digests
