"""The steps of `fit`: look at the pictures, race the networks, ship the winner, and tell it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vertebra import zoo
from vertebra.bundles import fitted, places
from vertebra.data import datasets, folds, grouping, inspection, kept_fingerprints
from vertebra.data.datasets import splits
from vertebra.data.datasets.folders import FORMAT as CLASS_FOLDERS
from vertebra.data.datasets.shards import FORMAT as SHARDS
from vertebra.data.datasets.splits import NoSplitError
from vertebra.data.names import printable
from vertebra.data.preprocess import protocols
from vertebra.errors import InvalidInputError, MeasurementError, VertebraError
from vertebra.measurements import Table
from vertebra.progress import Listener, Progress, silent
from vertebra.reading.choice.precisions import USUAL
from vertebra.reading.reports import inspected

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.bundles import Bundle
    from vertebra.bundles.fitted import Fitted as Facts
    from vertebra.data.datasets import Dataset
    from vertebra.data.findings import Inspection
    from vertebra.data.preprocess import Source
    from vertebra.inference.loading import Loaded
    from vertebra.measuring.evaluation.heads import Head
    from vertebra.measuring.evaluation.racing import Entry, Outcome, Race
    from vertebra.reading.choice.contender import Contender
    from vertebra.reading.choice.rule import Limit
    from vertebra.verbs.contenders import Field, Search

    Vectors = npt.NDArray[np.float32]

#: Images in one call of a network that gives features.
_BATCH = 32
#: Of more pictures no other way of preparing them is tried: it would take as long as the features have.
MOST_TRIED = 10_000
#: What a Bundle says of the licence of a file that somebody brought.
_OWN = "these weights are a file of your own, which states no licence: the terms on which you have it apply"


# ------------------------------------------------------------------ the pictures


@dataclass(frozen=True)
class Sorted:
    """The pictures that count, and the fold of each."""

    inspection: Inspection
    folds: tuple[int, ...]

    @property
    def labels(self) -> list[int]:
        return list(self.inspection.labels)

    @property
    def groups(self) -> list[int]:
        return list(self.inspection.groups)


def opened(pictures: str | Path, *, split: str | None, **how: Any) -> Dataset:
    """The labelled pictures; of several splits training's, unless another is named, which is said."""
    if split is None:
        try:
            data = datasets.open(pictures, split="train", **how)
        except NoSplitError:
            pass
        else:
            others = () if data.format == SHARDS else splits.DEFAULTS  # opening shards reads all of them
            there = ["train", *(one for one in others if _has(pictures, one, how))]
            return replace(data, assumed=(*data.assumed, *splits.unasked(there, "train", None)))
    return datasets.open(pictures, split=split, **how)


def _has(pictures: str | Path, split: str, how: Mapping[str, Any]) -> bool:
    try:
        datasets.open(pictures, split=split, **how)
    except InvalidInputError:
        return False
    return True


def place(output: str | Path | None, data: Dataset) -> Path:
    """Where the Bundle goes. Raises BundleError, before anything runs, where it can't be written."""
    folder = Path(output) if output is not None else Path(f"{data.name}-fitted")
    places.check(folder)
    return folder


def look(
    data: Dataset, *, count: int, group: str | None, seed: int, strict: bool, conflicts: str = "refuse",
    progress: Listener | None,
) -> Sorted:  # fmt: skip
    """Inspect the pictures and deal them into folds. Raises InvalidInputError where nothing can be learnt."""
    groups = None if group is None else grouping.groups(data, group)
    with kept_fingerprints.of(data.name) as kept:
        found = inspection.inspect(
            data, groups=groups, strict=strict, conflicts=conflicts, kept=kept, progress=progress
        )
    listener = progress or silent
    for line in inspected.lines(found):
        listener(Progress(line))
    found = found.filled()
    _check_depth(data, found)
    fitted.check_names(found.names)
    most, fewer = folds.possible(found.labels, found.groups, count, found.names)
    if fewer is not None:
        listener(Progress(fewer))
    return Sorted(found, folds.split(found.labels, found.groups, most, seed, names=found.names))


def _check_depth(data: Dataset, found: Inspection) -> None:
    """Raise InvalidInputError where the only class is a folder of folders, as archives often unpack."""
    if len(found.classes) != 1 or data.format != CLASS_FOLDERS:
        return
    folders = {PurePosixPath(one.name).parent for one in found.kept}
    above = PurePosixPath(os.path.commonpath([*map(str, folders)]))
    if above in folders:
        return
    inner = sorted({one.relative_to(above).parts[0] for one in folders})
    raise InvalidInputError(
        f"All {len(found.kept)} pictures are in one folder, {above}, which holds the folders "
        f"{', '.join(inner[:3])}{' and others' if len(inner) > 3 else ''}.",
        f"if these are the classes or the splits, pass the folder {above}",
    )


# ------------------------------------------------------------------ the race


@dataclass(frozen=True)
class Job:
    """All that a race and a shipment need."""

    data: Dataset
    sorted: Sorted
    field: Field
    search: Search
    balanced: bool
    seed: int
    networks: Networks
    precision: str = USUAL

    @property
    def table(self) -> Table:
        return self.search.table

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self.search.question.limits

    @property
    def progress(self) -> Listener | None:
        return self.search.progress

    def contender(self, label: str) -> Contender:
        """The network that is called so in the race."""
        known = {each.label: each for one in self.field.contenders for each in (one, one.otherwise())}
        return known[label]

    @property
    def classes(self) -> int:
        return len(self.sorted.inspection.classes)


def race(job: Job) -> Race:
    """The networks against each other, on these pictures."""
    from vertebra.measuring.evaluation import kept_heads, racing

    pictures = len(job.sorted.folds)
    if job.search.preprocess is None and pictures > MOST_TRIED:
        job.search.say(
            f"pictures are prepared as for each network's weights; with more than {MOST_TRIED:,} no other "
            "way is tried: --preprocess whole crops nothing"
        )
    entries = [_entry(one, job) for one in job.field.contenders]
    return racing.race(
        entries, job.sorted.labels, job.sorted.folds, job.sorted.groups, classes=job.classes,
        balanced=job.balanced, seed=job.seed, recall=kept_heads.recalled, progress=job.progress,
    )  # fmt: skip


def _entry(one: Contender, job: Job) -> Entry:
    from vertebra.measuring.evaluation.racing import Entry

    cost = 1000 * one.latency_s
    other = one.otherwise() if _has_other(one, job) else None
    otherwise = None if other is None else Entry(other.label, cost, extractor(other, job))
    return Entry(one.label, cost, extractor(one, job), otherwise)


def _has_other(one: Contender, job: Job) -> bool:
    """Whether another way of preparing pictures is tried: nobody named one, and it differs."""
    from vertebra.inference import resolving

    if one.preprocess is not None or len(job.sorted.folds) > MOST_TRIED:
        return False
    record = resolving.resolve(one.name, weights=one.source, **one.options).card.preprocess
    return record is not None and protocols.whole(record) != record


def extractor(one: Contender, job: Job) -> Callable[[Sequence[int]], Vectors]:
    """What gives a network's features of the pictures in these rows."""
    from vertebra.inference import kept_features

    def extract(rows: Sequence[int]) -> Vectors:
        asked = one.name, one.tried, one.engine, tuple(rows)
        earlier = job.networks.features.get(asked)
        if earlier is not None:
            return earlier
        kept = [job.sorted.inspection.kept[row] for row in rows]
        found = kept_features.features(
            job.networks.loaded(one),
            job.data,
            kept,
            strict=True,
            progress=_computing(one.label, job.progress),
        )
        # a winner is asked again for all of its own, after it was tried with pictures prepared otherwise
        same = {key: held for key, held in job.networks.features.items()
                if (key[0], key[3]) == (asked[0], asked[3])}  # fmt: skip
        job.networks.features = {**same, asked: found.vectors}
        return found.vectors

    return extract


def _computing(name: str, progress: Listener | None) -> Listener:
    """Tells how many features are there, from the first event on that isn't the last: each round asks for
    those of before again, and those aren't computed."""
    begun = False

    def tell(event: Progress) -> None:
        nonlocal begun
        begun = begun or event.done != event.total
        if begun:
            (progress or silent)(replace(event, text=f"features of {name}"))

    return tell


class Networks:
    """The networks that give features, each loaded once for all the times that it is asked; and the features
    of the one that was asked last, with pictures prepared in either way."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._loaded: dict[str, Loaded] = {}
        #: The features that were found last, by network, what was tried, engine and rows.
        self.features: dict[tuple[str, str | None, str, tuple[int, ...]], Vectors] = {}

    def loaded(self, one: Contender) -> Loaded:
        """The network, ready to run."""
        from vertebra.inference import loading

        if one.name not in self._loaded:
            made = loading.load(
                one.name, weights=one.source, engine=one.engine, usual_batch_size=_BATCH, features=True,
                **{**one.checks, "preprocess": one.preprocess},
            )  # fmt: skip
            self._loaded[one.name] = self._held.enter_context(made)
        found = self._loaded[one.name]
        if one.tried is None:
            return found
        return replace(found, preprocess=protocols.whole(found.preprocess))

    def close(self) -> None:
        """Let go of all of them, as before a measurement; one that is asked again is loaded again."""
        self._loaded.clear()
        self._held.close()

    def __enter__(self) -> Networks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ------------------------------------------------------------------ a network with its head


def joined(job: Job, one: Contender, head: Head, made: Facts, folder: Path) -> Bundle:
    """The network with the head in place of its classifier, as a Bundle in ONNX and float32."""
    from vertebra.exporting import joined as joining
    from vertebra.inference import resolving
    from vertebra.zoo import arrays
    from vertebra.zoo.graphs import store

    found = resolving.resolve(one.name, weights=one.source, **one.options)
    taken = arrays.take(
        zoo.find(one.name), found.subject.arguments["weights"], input_size=found.input_size, **one.checks
    )
    split = zip(job.sorted.inspection.kept, job.sorted.folds, strict=True)
    return joining.join(
        store.find(one.name, found.input_size), folder, head=head, made=made, model=one.name,
        card=found.card, arrays=taken.arrays, split=[(picture.sha256, fold) for picture, fold in split],
    )  # fmt: skip


def facts_of(job: Job, raced: Race, outcome: Outcome, one: Contender, head: Head) -> Facts:
    """What the head was fitted on, for the Bundle's card."""
    from vertebra.bundles.fitted import Fitted as Facts

    held = raced.nested if outcome.name == raced.winner else outcome.held
    assert held is not None
    found = job.sorted.inspection
    nested = held is raced.nested
    of = len(job.field.contenders)
    chosen = f", chosen inside the folds among {of} network{'s' * (of > 1)}" if nested else ""
    if nested and raced.otherwise is not None:
        chosen += f", as were {'whole pictures' if one.tried else 'pictures prepared as for its weights'}"
    weighed = ", classes weighed alike" if job.balanced else ""
    return Facts(
        pictures=found.identity, pictures_sha256=found.sha256, classes=found.classes,
        folds=len(set(job.sorted.folds)), accuracy=held.accuracy, low=held.low, high=held.high,
        how=f"logistic regression on frozen features, penalty {head.penalty:g}{weighed}{chosen}",
        remarks=tuple(printable(one)[:1000] for one in found.remarks()[:8]),
        permits=_OWN if one.is_own else None,
    )  # fmt: skip


def sources_of(job: Job, rows: Sequence[int]) -> Iterator[Source]:
    """The pictures in these rows, which ascend."""
    wanted = {job.sorted.inspection.kept[row].place for row in rows}
    for place, sample in enumerate(job.data.first(max(wanted) + 1)):
        if place in wanted:
            yield sample.source


# ------------------------------------------------------------------ refusals


def nobody(
    failures: Mapping[str, VertebraError], limits: Sequence[Limit], *, named: bool
) -> InvalidInputError:
    """No network is left to be compared."""
    told = " ".join(f"{name}: {error.message}" for name, error in list(failures.items())[:5])
    hint = next((error.hint for error in failures.values() if error.hint), None)
    if failures:
        return InvalidInputError(f"No network can be fitted. {told}", hint)
    asked = ", ".join(map(str, limits)) or "these conditions"
    return InvalidInputError(
        f"No network of the field may meet {asked} here.",
        "relax a limit; vertebra pick names the nearest miss",
    )


def nothing_learnt(raced: Race) -> MeasurementError:
    """The head is no better than a constant answer."""
    return MeasurementError(
        f"Nothing is shipped: {raced.nested.verdict}",
        "check the labels; more pictures of each class help; to ship it as it is: --anyway",
    )
