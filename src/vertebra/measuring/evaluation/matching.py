"""Which output of the network is which class of the data set: matched by name or by index."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vertebra.data.datasets import Dataset
from vertebra.data.datasets.dataset import whole_number
from vertebra.data.labels import LabelSet
from vertebra.errors import InvalidInputError, UnknownNameError

#: As in n02085620-Chihuahua.
_SYNSET = re.compile(r"(n\d{8})[-_ .]")


def match(
    data: Dataset, labels: LabelSet | None, num_classes: int, *, by_index: bool = False
) -> tuple[int, ...]:
    """The network's output for each class of `data`.

    If both sides have names, each class must be one of the network's labels (by identifier or name; a data
    set may have fewer). If one side has none, or with `by_index`, class n is output n, and the counts must be
    equal, unless the data set has only numbers, which must all be among the outputs.
    Raises InvalidInputError with the reason if the two can't be matched.
    """
    if data.classes is None:
        return _numbers(data, num_classes)
    if labels is not None and not by_index:
        return _names(data.classes, labels, data.name)
    if len(data.classes) != num_classes:
        reason = "matched by index" if by_index else "and its outputs have no names to match by"
        raise InvalidInputError(
            f"{data.name} has {len(data.classes)} classes; the network has {num_classes}, {reason}.",
            "name the network's outputs: --labels FILE, or --labels imagenet-1k",
        )
    return tuple(range(num_classes))


def matched_by(data: Dataset, labels: LabelSet | None, *, by_index: bool = False) -> str:
    """How `match` finds the outputs, in a few words."""
    if data.classes is None:
        return "class n is output n"
    if labels is not None and not by_index:
        return f"matched to the outputs by name ({labels.name})"
    return "the first class is the first output, and so on"


def _numbers(data: Dataset, num_classes: int) -> tuple[int, ...]:
    if data.num_classes > num_classes:
        raise InvalidInputError(
            f"{data.largest_at}: the label is {data.num_classes - 1}; the network has the classes 0 to "
            f"{num_classes - 1}.",
            "count classes from 0, and use a network that was trained on these classes",
        )
    return tuple(range(data.num_classes))


def _names(classes: Sequence[str], labels: LabelSet, name: str) -> tuple[int, ...]:
    by_id = {word: index for index, word in enumerate(labels.ids or ())}
    outputs: list[int | None] = [by_id.get(word, _index(labels, word)) for word in classes]
    strange = [word for word, output in zip(classes, outputs, strict=True) if output is None]
    if strange:
        shown = ", ".join(f'"{word}"' for word in strange[:3])
        raise InvalidInputError(
            f"{len(strange)} of the {len(classes)} classes of {name} are not among the network's "
            f"{len(labels)} ({labels.name}): {shown}{', …' if len(strange) > 3 else ''}.",
            _hint(strange, labels),
        )
    found = [output for output in outputs if output is not None]
    _check_apart(classes, found, labels)
    return tuple(found)


def _hint(strange: Sequence[str], labels: LabelSet) -> str:
    numbers = [whole_number(word) for word in strange]
    first = numbers[0]
    if first is None or None in numbers or first >= len(labels):
        return "name the classes as the network does; or, if their order is the outputs', pass --labels index"
    known = labels[first]
    called = f"{known.id} or {known.name.partition(',')[0]}" if known.id else known.name
    return (
        "folders are called by number only if they are 0, 1, 2, … without a gap; name the classes as the "
        f"network does: output {first} is {called}"
    )


def _index(labels: LabelSet, word: str) -> int | None:
    """The output of a class: by its name, also with _ for blanks, or the synset that its name begins with."""
    synset = _SYNSET.match(word)
    for name in (word, word.replace("_", " "), *([synset[1]] if synset else [])):
        try:
            return labels.index_of(name)
        except UnknownNameError:
            continue
    return None


def _check_apart(classes: Sequence[str], outputs: Sequence[int], labels: LabelSet) -> None:
    first: dict[int, str] = {}
    for word, output in zip(classes, outputs, strict=True):
        if output in first:
            raise InvalidInputError(
                f'"{first[output]}" and "{word}" are both the network\'s class {output}, '
                f"{labels[output].name}.",
                "merge them into one class",
            )
        first[output] = word
