"""What a subject refers to, without loading it: the network, its weights, preprocessing and labels.

A subject is a Bundle's folder, or a name as `zoo.find` takes it. Bundles and ONNX files don't need torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.bundles import Bundle, Card, identity, native, proof
from vertebra.bundles.manifest import INDEPENDENT, LOGITS, OUTPUTS, OWN_LOGITS, PROBABILITIES, SIGMOIDS
from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, UnknownNameError, WeightsError, warn
from vertebra.machine import files
from vertebra.progress import Progress, silent

if TYPE_CHECKING:
    from vertebra.progress import Listener
    from vertebra.zoo import Model
    from vertebra.zoo.adapters import NetworkFile

#: No record is longer; what else is named by mistake may be.
_MAX_RECORD_BYTES = 2**20

#: The seed of an untrained network's parameters.
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A network with its weights, found but not loaded: the subject to run, and the facts about it.

    `network_sha256` is its content if that comes from a file; `file` is that file if it is ONNX, and
    `card.outputs` is then only what was given. `batch_size` is the only one that it takes; None: it takes
    any. It computes in `precision`. With `has_fitted_head` another preprocessing than its own spoils it.
    """

    subject: Subject
    input_size: int
    num_classes: int
    card: Card
    network_sha256: str | None = None
    file: NetworkFile | None = None
    batch_size: int | None = None
    precision: str = "float32"
    has_fitted_head: bool = False


# ------------------------------------------------------------------ Bundles


def is_bundle(subject: str | Path) -> bool:
    """Whether `subject` is a folder: a bare name is a network's, even if a folder has that name.

    Raises InvalidInputError for a file of weights, which needs its network's name beside it."""
    from vertebra.zoo import names, spellings

    _refuse_weights(subject)
    _refuse_run(subject)
    if str(subject).lower().endswith(".onnx") and not Path(subject).is_dir():
        return False
    if isinstance(subject, Path):
        return True
    if not os.path.exists(subject) and (":" in subject or spellings.is_library(subject)):
        return False
    if "/" in subject or "\\" in subject or subject in (".", ".."):
        return True
    if bundles.is_zipped(subject):
        return True
    if not os.path.isdir(subject):
        return False
    try:
        names.find(subject)
    except UnknownNameError:
        return True
    return False


def _refuse_weights(subject: str | Path) -> None:
    from vertebra.zoo.spellings import SUFFIXES

    path = Path(subject)
    if path.suffix.lower() in SUFFIXES and ":" not in str(subject) and not path.is_dir():
        raise InvalidInputError(
            f"{subject} is a file of weights; the network isn't named.",
            f"name the network, and the file with --weights: NAME --weights {subject}",
        )


def _refuse_run(subject: str | Path) -> None:
    from vertebra.bundles import runs

    if runs.is_run(subject):
        model = runs.read(subject).record["model"]
        raise InvalidInputError(
            f"{subject} is the folder of a training; its network isn't named.",
            f"name it, and the folder with --weights: {model} --weights {subject}",
        )


def from_bundle(
    folder: str | Path,
    *,
    labels: str | Path | None = None,
    preprocess: str | Path | Preprocess | None = None,
    trust_code: bool = False,
    outputs: str | None = None,
) -> Resolved:
    """The network of a Bundle, after its files are checked against its manifest. Raises BundleError, also if
    it is native code that may not be loaded (see `bundles.native`), and InvalidInputError if it doesn't take
    colour pictures, or if no preprocessing is known."""
    kept = bundles.read(folder)
    native.check(kept, trust_code=trust_code, called=folder)
    if kept.in_channels != 3:
        raise InvalidInputError(
            f"The network in {folder} takes {kept.in_channels} channels; pictures have 3."
        )
    if preprocess is None and labels is None:
        proof.check(kept)
    card = Card(
        weights=kept.weights,
        weights_sha256=kept.weights_sha256,
        licence=kept.licence,
        preprocess=kept.preprocess if preprocess is None else _record(preprocess, kept.preprocess),
        labels=kept.label_set() if labels is None else _labels(labels, kept.num_classes),
        outputs=outputs_of(kept, outputs),
        assumed=_left(kept.assumed, preprocess, labels),
    )
    if card.preprocess is None:
        raise InvalidInputError(
            f"The Bundle {folder} doesn't record a preprocessing.",
            "name one, a protocol or a JSON file: --preprocess NAME|FILE, or export the network again with "
            "its weights",
        )
    _check_size(kept.model, card.preprocess, kept.input_size)
    if kept.fitted is not None and card.preprocess != kept.preprocess:
        warn(
            f"The head of {folder} was fitted on pictures prepared as the Bundle records, not as asked for: "
            "its accuracy doesn't hold for these.",
            "leave --preprocess out, or fit it so: vertebra fit PICTURES --preprocess NAME|FILE",
        )
    return Resolved(
        subject=Subject(kept.model, bundle=str(folder), trust_code=trust_code),
        input_size=kept.input_size,
        num_classes=kept.num_classes,
        card=card,
        network_sha256=kept.network_sha256,
        batch_size=kept.batch_size,
        precision=kept.precision,
        has_fitted_head=kept.fitted is not None,
    )


# ------------------------------------------------------------------ names


def resolve(
    name: str,
    *,
    weights: str | Path | None = None,
    untrained: bool = False,
    labels: str | Path | None = None,
    preprocess: str | Path | Preprocess | None = None,
    outputs: str | None = None,
    sha256: str | None = None,
    accept_unverified: bool = False,
    ema: bool | None = None,
    transform_input: bool | None = None,
    progress: Listener | None = None,
) -> Resolved:
    """The network called `name` with its weights, downloaded if needed. `progress` gets a line for what was
    taken out of the file, or assumed about it. Raises what `load` raises."""
    from vertebra import zoo

    model = zoo.find(name)
    if model.is_file:
        if weights is not None or untrained or ema is not None or transform_input is not None:
            raise InvalidInputError(f"{name} is a file and has its own weights.", "leave weights out")
        return _file(model, labels, preprocess, outputs)
    if untrained and weights is not None:
        raise InvalidInputError(
            "Weights and an untrained network were both asked for.", "leave one of them out"
        )
    source = None if untrained else weights or _published(model)
    checks = {"sha256": sha256, "accept_unverified": accept_unverified}
    digest = None if source is None else _fetched(model, source, checks, progress)
    choices = {"ema": ema, "transform_input": transform_input}
    facts = zoo.facts(name, source, **choices)
    for note in facts.notes:
        (progress or silent)(Progress(note))
    record = facts.preprocess if preprocess is None else _record(preprocess, facts.preprocess)
    _check_record(replace(model, input_size=facts.input_size), record)
    chosen = (facts.label_names or facts.labels) if labels is None else labels
    _check_outputs(outputs, facts.num_classes, name)
    if outputs in (PROBABILITIES, SIGMOIDS):
        raise InvalidInputError(
            f"{name} gives logits, not {outputs}.", f"use --outputs {OWN_LOGITS}, or leave it out"
        )
    card = Card(
        weights=_weights_name(facts.weights),
        weights_sha256=digest,
        licence=facts.licence,
        preprocess=record,
        labels=None if chosen is None else _labels(chosen, facts.num_classes, facts.source),
        outputs=outputs,
        assumed=_left(facts.assumed, preprocess, labels),
    )
    arguments: dict[str, Any] = {"name": name, "num_classes": facts.num_classes}
    arguments |= {"seed": SEED} if source is None else _build_arguments(source, checks)
    arguments |= {name: value for name, value in choices.items() if value is not None}
    subject = Subject(model.name, builder="vertebra.zoo:build", arguments=arguments)
    return Resolved(
        subject=subject,
        input_size=record.input_size[0],
        num_classes=facts.num_classes,
        card=card,
        network_sha256=identity.of_weights(model.name, card.weights, digest),
    )


def _file(
    model: Model,
    labels: str | Path | None,
    preprocess: str | Path | Preprocess | None,
    outputs: str | None,
) -> Resolved:
    from vertebra import zoo
    from vertebra.zoo import adapters
    from vertebra.zoo.adapters import onnx

    file = adapters.network_file(model.name)
    facts, seen = zoo.facts(model.name), onnx.signature(file.path)
    if seen.in_channels != 3:
        raise InvalidInputError(
            f"{model.name} takes {seen.in_channels} channels; pictures have 3.",
            "it can be measured: vertebra bench",
        )
    _check_outputs(outputs, seen.num_classes, model.name)
    record = facts.preprocess if preprocess is None else _record(preprocess, facts.preprocess)
    _check_record(model, record)
    chosen = facts.labels if labels is None else labels
    card = Card(
        weights=facts.weights,
        weights_sha256=adapters.content_sha256(model.name),
        preprocess=record,
        labels=None if chosen is None else _labels(chosen, facts.num_classes),
        outputs=outputs,
        assumed=_left(facts.assumed, preprocess, labels),
    )
    return Resolved(
        subject=Subject(
            zoo.name_in_rows(model), builder=model.builder, arguments={"name": f"onnx:{file.path}"}
        ),
        input_size=record.input_size[0],
        num_classes=facts.num_classes,
        card=card,
        network_sha256=card.weights_sha256,
        file=file,
        batch_size=seen.batch_size,
        precision=onnx.precision(onnx.graph(file.path)),
    )


def _published(model: Model) -> str:
    """The source of the network's preferred published weights."""
    from vertebra.zoo import weights

    if model.source != "vertebra":
        return "pretrained"
    published = weights.records(model.name)
    if not published:
        raise WeightsError(
            f"No weights are published for {model.name}, and an untrained network only guesses.",
            "pass a weights file, or use the untrained network: --untrained",
        )
    return published[0].name


def _fetched(
    model: Model, source: str | Path, checks: dict[str, Any], progress: Listener | None
) -> str | None:
    """The digest of the file of `source`, downloaded if needed; None if building will download it."""
    from vertebra.machine import downloads
    from vertebra.zoo import weights

    if model.source == "vertebra":
        path, _ = weights.locate(model.name, source, progress=progress, **checks)
        return weights.digest_of(path)
    if source == "pretrained":
        from vertebra.zoo import adapters

        address, known = adapters.load(model.source).published(model)
        sha256 = checks["sha256"] or known
        return downloads.digest(weights.file_of(address, sha256=sha256, progress=progress))
    path = files.named(source)
    if path.exists():
        return weights.digest_of(path)
    if not str(source).startswith(("hf:", "https://", "http://")):
        return None
    return downloads.digest(weights.file_of(source, sha256=checks["sha256"], progress=progress))


def _build_arguments(source: str | Path, checks: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `zoo.build` for these weights; a file or a folder by its absolute path, for other
    processes."""
    path = files.named(source)
    known = {name: value for name, value in checks.items() if value}
    return {"weights": str(path.resolve()) if path.exists() else str(source), **known}


def _weights_name(source: str | None) -> str | None:
    """A file's name without its folders, which differ on other machines."""
    return source if source is None or source.startswith("hf:") else source.rstrip("/").rsplit("/", 1)[-1]


# ------------------------------------------------------------------ what the outputs are, what is assumed


def outputs_of(kept: Bundle, told: str | None = None) -> str:
    """What a Bundle's outputs are, one of `manifest.OUTPUTS`. Raises InvalidInputError if nobody told, and
    its reference doesn't show it."""
    told = told or kept.outputs
    _check_outputs(told, kept.num_classes, str(kept.folder))
    if told in (PROBABILITIES, SIGMOIDS) and told != kept.outputs and not kept.gives_shares():
        raise InvalidInputError(
            f"The outputs of {kept.folder} leave the range from 0 to 1: they are no {told}.",
            f"use --outputs {OWN_LOGITS}, or leave it out",
        )
    if told is not None:
        return told
    if kept.gives_probabilities():
        return PROBABILITIES
    if kept.model.partition(":")[0] in ("onnx", "paddle") and kept.gives_shares():
        raise InvalidInputError(
            f"The outputs of {kept.folder} are all from 0 to 1 but don't sum to 1: probably a share for each "
            "class on its own.",
            f"say what they are: --outputs {SIGMOIDS} if so, --outputs {LOGITS} to put a softmax on them",
        )
    return LOGITS


def _check_outputs(told: str | None, num_classes: int, name: str) -> None:
    if told is not None and told not in OUTPUTS:
        raise UnknownNameError.of("kind of outputs", told, OUTPUTS, ", ".join(OUTPUTS))
    if num_classes == 1 and told not in INDEPENDENT:
        raise InvalidInputError(
            f"{name} has one output: as the only class it would get 100 % for every picture.",
            f"say what it is: --outputs {SIGMOIDS} for a share from 0 to 1, --outputs {OWN_LOGITS} for a "
            "logit, of which a sigmoid makes a share",
        )


def _left(assumed: Sequence[str], preprocess: object, labels: object) -> tuple[str, ...]:
    """What is still assumed after the user gave a preprocessing, which has the input size, or labels."""
    given = {"labels"} if labels is not None else set()
    given |= {"preprocess", "input_size"} if preprocess is not None and not _is_way(preprocess) else set()
    return tuple(one for one in assumed if one not in given)


def assumptions(name: str, card: Card, *, has_fitted_head: bool = False) -> str | None:
    """In one line what is assumed of a network and how to change it; None if nothing is. A head that was
    fitted on pictures prepared so goes with no others, so there it isn't said how."""
    told = []
    options = []
    if "preprocess" in card.assumed and card.preprocess is not None:
        told.append(f"preprocessing ({_in_words(card.preprocess)})")
        options.append("--preprocess NAME|FILE")
    elif "input_size" in card.assumed and card.preprocess is not None:
        told.append(f"input size {card.preprocess.input_size[0]}")
    if "labels" in card.assumed and card.labels is not None:
        told.append(f"labels ({card.labels.name})")
        options.append("--labels FILE")
    if not told:
        return None
    how = f"; to change it: {' '.join(options)}" if options and not has_fitted_head else ""
    return f"assumed for {name}, whose file doesn't state it: {', '.join(told)}{how}"


def _in_words(record: Preprocess) -> str:
    resize = "x".join(map(str, record.resize)) if isinstance(record.resize, tuple) else str(record.resize)
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (record.mean, record.std))
    size = record.input_size[0]
    return f"resize {resize} {record.interpolation}, crop {size}, mean {mean}, std {std}"


# ------------------------------------------------------------------ given by the user


def preprocess(given: str | Path | Preprocess) -> str | Preprocess:
    """What was asked for: one of `protocols.WAYS`, or the record of a protocol or a JSON file. Raises
    UnknownNameError, or InvalidInputError for a file that isn't a record."""
    from vertebra.data.preprocess import protocols

    return str(given).lower() if _is_way(given) else _record(given, protocols.torchvision())


def _is_way(given: object) -> bool:
    """Whether it is a way of the network's own Preprocess, and no other record."""
    from vertebra.data.preprocess import protocols

    return isinstance(given, str | Path) and str(given).lower() in protocols.WAYS


def _record(given: str | Path | Preprocess, own: Preprocess | None) -> Preprocess:
    from vertebra.data.preprocess import protocols

    if isinstance(given, Preprocess):
        return given
    if _is_way(given):
        if own is None:
            raise InvalidInputError(
                f'The preprocessing "{given}" is a way of the network\'s own, and none is recorded.',
                "name a protocol or a JSON file: --preprocess NAME|FILE",
            )
        return own if str(given).lower() == protocols.OWN else protocols.whole(own)
    path = files.named(given)
    if path.suffix.lower() != ".json":
        return protocols.find(str(given))
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_RECORD_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"The Preprocess record {path} can't be read: {error}.", "write it with Preprocess.to_json()"
        ) from error
    from vertebra.data.preprocess import foreign

    return foreign.from_json(text)


def _labels(given: str | Path | tuple[str, ...], num_classes: int, source: str = "") -> LabelSet:
    from vertebra.data import labels

    if isinstance(given, tuple):
        name = "config.json" if source.endswith("config.json") else "the weights"
        return labels.from_names(given, name=name)
    found = labels.resolve(given, num_classes=num_classes)
    return replace(found, name=Path(found.name).name)


def _check_record(model: Model, record: Preprocess) -> None:
    height, width = record.input_size
    if height != width:
        raise InvalidInputError(f"The preprocessing gives {height}x{width} pixels; networks take squares.")
    if model.fixed_size:
        _check_size(model.name, record, model.input_size)


def _check_size(model: str, record: Preprocess, input_size: int) -> None:
    height, width = record.input_size
    if (height, width) != (input_size, input_size):
        raise InvalidInputError(
            f"The preprocessing gives {height}x{width} pixels; {model} takes {input_size}x{input_size}.",
            "pass a preprocessing of that size",
        )
