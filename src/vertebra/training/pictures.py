"""The pictures of a training: looked at before the first step, and split into those to learn and to evaluate.

Classes travel by their names: label n of the training set is output n, and another set's classes are found
among those, wherever its folders put them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from vertebra.data import datasets, folds, grouping, inspection, kept_fingerprints
from vertebra.data.datasets import Dataset, Sample
from vertebra.data.datasets.splits import NoSplitError
from vertebra.data.findings import Inspection
from vertebra.data.labels import LabelSet
from vertebra.errors import InvalidInputError
from vertebra.measuring.evaluation import match
from vertebra.progress import Listener

#: The share of the pictures that is held out where there are none to evaluate on.
HOLD_OUT = 0.2
#: The split of the part that is held out.
HELD_OUT = "held out"


@dataclass(frozen=True)
class Looked:
    """What was found out about the pictures, as plain values: `labels` for each sample, -1 where it isn't
    trained on; `held_out`, the places of those to evaluate on, None where another set has these; `content`,
    the sha256 of all of it; and for people `lines`, the `report` and the `split` as CSV."""

    labels: tuple[int, ...]
    held_out: tuple[int, ...] | None
    content: str
    lines: tuple[str, ...]
    report: dict[str, Any] = field(default_factory=dict)
    split: bytes | None = None
    inspection: Inspection | None = None

    def files(self) -> dict[str, bytes]:
        """The report and the split as files of the run's folder."""
        found = {"pictures.json": json.dumps(self.report, indent=2, ensure_ascii=False).encode() + b"\n"}
        return found if self.split is None else {**found, "split.csv": self.split}


def opened(pictures: str | Path, *, split: str | None, **how: Any) -> Dataset:
    """The labelled pictures; of several splits training's, unless another is named."""
    if split is None:
        try:
            return datasets.open(pictures, split="train", **how)
        except NoSplitError:
            pass
    return datasets.open(pictures, split=split, **how)


def validation(pictures: str | Path, given: str | None, training: Dataset, **how: Any) -> Dataset | None:
    """The pictures to evaluate on: the split or the place `given`; else the set's split "val", where it has
    one beside training's; else None. Raises InvalidInputError for one that is training's own."""
    found: Dataset | None
    if given is not None and not Path(given).expanduser().exists():
        found = datasets.open(pictures, split=given, **how)
    elif given is not None:
        found = opened_alone(given, **how)
    else:
        try:
            found = datasets.open(pictures, split="val", **how) if training.split == "train" else None
        except NoSplitError:
            found = None
    if found is not None and (found.name, found.split, found.sha256) == (
        training.name, training.split, training.sha256,
    ):  # fmt: skip
        raise InvalidInputError(
            f"The pictures to evaluate on are those that are trained on: {found.name}.",
            "name others with --validation, or leave it out: a part is held out then",
        )
    return found


def opened_alone(place: str | Path, *, format: str | None = None, **how: Any) -> Dataset:
    """A set of its own to evaluate on, whatever layout the training set has."""
    del how
    return datasets.open(place, format=None)


def classes_of(data: Dataset) -> tuple[str, ...]:
    """What the outputs are called. Raises InvalidInputError for fewer than two classes."""
    names = tuple(data.class_name(label) for label in range(data.num_classes))
    if len(names) < 2:
        raise InvalidInputError(
            f"All {len(data):,} pictures of {data.name} are of one class, {names[0]}.",
            "at least two classes are needed, each with several pictures: a folder for each class",
        )
    return names


def look(
    data: Dataset,
    other: Dataset | None,
    *,
    hold_out: float = HOLD_OUT,
    group: str | None = None,
    conflicts: str = "refuse",
    strict: bool = False,
    seed: int = 0,
    progress: Listener | None = None,
) -> Looked:
    """Inspect the pictures, and hold a part of them out unless there is an `other` set to evaluate on.

    Raises InvalidInputError where nothing can be learnt: one class, a class of one picture, a picture in two
    classes, classes of `other` that `data` doesn't have.
    """
    names = classes_of(data)
    if other is not None:
        match(other, LabelSet(data.name, names), len(names))
    groups = None if group is None else grouping.groups(data, group)
    with kept_fingerprints.of(data.name) as kept:
        found = inspection.inspect(
            data, groups=groups, strict=strict, conflicts=conflicts, kept=kept, progress=progress
        )
    labels = [-1] * len(data)
    for one in found.kept:
        labels[one.place] = one.label
    held_out, dealt, told = None, (1,) * len(found.kept), list[str]()
    if other is None:
        parts, dealt = _dealt(found, hold_out, seed)
        held_out = tuple(one.place for one, part in zip(found.kept, dealt, strict=True) if part == 0)
        for place in held_out:
            labels[place] = -1
        told.append(
            f"{len(held_out):,} pictures, 1 of {parts} of each class, are held out to evaluate on; "
            "near-duplicates are on one side"
        )
    else:
        told += _beside(found, other, conflicts, progress)
    content = _content(found, labels, held_out, other)
    report = {"training": found.to_json(), "remarks": told}
    split = _split_csv(found, dealt)
    return Looked(tuple(labels), held_out, content, tuple(told), report, split, found)


def _dealt(found: Inspection, hold_out: float, seed: int) -> tuple[int, tuple[int, ...]]:
    """The number of parts, and the part of each picture; part 0 is held out."""
    if not 0 < hold_out <= 0.5:
        raise InvalidInputError(f"hold_out is {hold_out:g}; it must be above 0 and at most 0.5.")
    wanted = max(2, round(1 / hold_out))
    most, _ = folds.possible(found.labels, found.groups, wanted, found.names)
    dealt = folds.split(found.labels, found.groups, most, seed, names=found.names)
    return len(set(dealt)), dealt


def _split_csv(found: Inspection, dealt: Sequence[int]) -> bytes:
    import csv

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("name", "class", "fold", "group", "sha256"))
    for one, part in zip(found.kept, dealt, strict=True):
        rows.writerow([one.name, found.names[one.label], part, one.group, one.sha256])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _beside(found: Inspection, other: Dataset, conflicts: str, progress: Listener | None) -> Iterator[str]:
    """What should be known of a set that is evaluated on, seen from the training set."""
    with kept_fingerprints.of(other.name) as kept:
        seen = inspection.inspect(other, conflicts="leave out", kept=kept, progress=progress)
    yield f"{len(seen.kept):,} pictures of {other.name}, split {other.split or 'all'}, are evaluated on"
    known = {one.sha256 for one in found.kept}
    common = [one.name for one in seen.kept if one.sha256 in known]
    if common:
        yield (
            f"{len(common):,} of these are among the training pictures too, such as {common[0]}: the "
            "accuracy counts pictures that the network learnt by heart"
        )
    there = {seen.names[one.label] for one in seen.kept}
    missing = [name for name in found.names if name not in there]
    if missing and other.classes is not None:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        yield f"none of these is of {', '.join(missing[:3])}{more}"


def _content(
    found: Inspection, labels: Sequence[int], held_out: Sequence[int] | None, other: Dataset | None
) -> str:
    whole = sha256(found.sha256.encode())
    for one in found.kept:
        whole.update(f"{one.place} {one.label} {one.sha256}\n".encode())
    whole.update(repr((list(labels), None if held_out is None else list(held_out))).encode())
    whole.update(("" if other is None else other.sha256).encode())
    return whole.hexdigest()


def unseen(data: Dataset, other: Dataset | None, *, hold_out: float, seed: int) -> Looked:
    """The same without looking at a picture: for sets that are too large, and known to be in order.

    Labels, and what is held out, are then of every file: broken ones, copies and near-duplicates too.
    """
    names = classes_of(data)
    labels = [sample.label for sample in data]
    held_out = None
    if other is None:
        parts = max(2, round(1 / hold_out))
        most, _ = folds.possible(labels, range(len(labels)), parts, names)
        dealt = folds.split(labels, range(len(labels)), most, seed, names=names)
        held_out = tuple(place for place, part in enumerate(dealt) if part == 0)
        for place in held_out:
            labels[place] = -1
    else:
        match(other, LabelSet(data.name, names), len(names))
    told = "the pictures weren't looked at: copies, conflicts and near-duplicates may be on both sides"
    beside = "" if other is None else other.sha256
    content = sha256(f"{data.sha256} {beside} {labels} {held_out}".encode()).hexdigest()
    return Looked(tuple(labels), held_out, content, (told,), {"remarks": [told]})


def part(data: Dataset, places: Sequence[int], *, split: str = HELD_OUT) -> Dataset:
    """The samples of `data` at `places`, in its order, as a set of its own."""
    wanted = frozenset(places)

    def read() -> Iterator[Sample]:
        return (sample for place, sample in enumerate(data) if place in wanted)

    own = split if data.split is None else f"{data.split}, {split}"
    return replace(data, split=own, length=len(wanted), read=read, sizes=None, column=None, located=None)
