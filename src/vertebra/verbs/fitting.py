"""The steps of `fit`: look at the pictures, race the networks, ship the winner, and tell it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles, zoo
from vertebra.bundles import places
from vertebra.data import datasets, folds, grouping, inspection, kept_fingerprints
from vertebra.data.datasets.splits import NoSplitError
from vertebra.errors import InvalidInputError, MeasurementError, VertebraError
from vertebra.machine import leftovers
from vertebra.measurements import Measurement, Table, WideRow, wide
from vertebra.progress import Listener, Progress, silent
from vertebra.reading.reports import inspected

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.bundles import Bundle
    from vertebra.data.datasets import Dataset
    from vertebra.data.findings import Inspection
    from vertebra.inference.loading import Loaded
    from vertebra.measuring.evaluation.heads import Head
    from vertebra.measuring.evaluation.racing import Entry, Outcome, Race
    from vertebra.reading.choice.candidates import Question
    from vertebra.reading.choice.contender import Contender
    from vertebra.reading.choice.rule import Limit
    from vertebra.reading.reports.fitted import Fitted
    from vertebra.verbs.contenders import Field

    Vectors = npt.NDArray[np.float32]

#: Images in one call of a network that gives features.
_BATCH = 32
#: The Bundle is compared with its head on at most this many of the pictures.
_COMPARED = 64
#: Seconds of the Bundle's own measurement.
_CASE_S = 8.0
#: Seconds of a second one, in three processes, where a limit lies within the first one's interval.
_AGAIN_S = 15.0


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
    """The labelled pictures; of several splits training's, unless another is named."""
    if split is None:
        try:
            return datasets.open(pictures, split="train", **how)
        except NoSplitError:
            pass
    return datasets.open(pictures, split=split, **how)


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
    most, fewer = folds.possible(found.labels, found.groups, count, found.names)
    listener = progress or silent
    for line in (*inspected.lines(found), *filter(None, [fewer])):
        listener(Progress(line))
    return Sorted(found, folds.split(found.labels, found.groups, most, seed, names=found.names))


# ------------------------------------------------------------------ the race


@dataclass(frozen=True)
class Job:
    """All that a race and a shipment need."""

    data: Dataset
    sorted: Sorted
    field: Field
    question: Question
    table: Table
    balanced: bool
    seed: int
    networks: Networks
    progress: Listener | None

    @property
    def classes(self) -> int:
        return len(self.sorted.inspection.classes)


def race(job: Job) -> Race:
    """The networks against each other, on these pictures."""
    from vertebra.measuring.evaluation import racing

    entries = [_entry(one, job) for one in job.field.contenders]
    return racing.race(
        entries, job.sorted.labels, job.sorted.folds, job.sorted.groups, classes=job.classes,
        balanced=job.balanced, seed=job.seed, progress=job.progress,
    )  # fmt: skip


def _entry(one: Contender, job: Job) -> Entry:
    from vertebra.measuring.evaluation.racing import Entry

    return Entry(one.name, 1000 * one.latency_s, _extractor(one, job))


def _extractor(one: Contender, job: Job) -> Callable[[Sequence[int]], Vectors]:
    """What gives a network's features of the pictures in these rows."""
    from vertebra.inference import kept_features

    def extract(rows: Sequence[int]) -> Vectors:
        kept = [job.sorted.inspection.kept[row] for row in rows]
        listener = job.progress or silent
        found = kept_features.features(
            job.networks.loaded(one), job.data, kept, strict=True,
            progress=lambda event: listener(replace(event, text=f"features of {one.name}")),
        )  # fmt: skip
        return found.vectors

    return extract


class Networks:
    """The networks that give features, each loaded once for all the times that it is asked."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._loaded: dict[str, Loaded] = {}

    def loaded(self, one: Contender) -> Loaded:
        """The network, ready to run."""
        from vertebra.inference import loading

        if one.name not in self._loaded:
            made = loading.load(
                one.name, weights=one.source, engine=one.engine, usual_batch_size=_BATCH, features=True,
                **one.checks,
            )  # fmt: skip
            self._loaded[one.name] = self._held.enter_context(made)
        return self._loaded[one.name]

    def close(self) -> None:
        """Let go of all of them, as before a measurement; one that is asked again is loaded again."""
        self._loaded.clear()
        self._held.close()

    def __enter__(self) -> Networks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ------------------------------------------------------------------ what ships


def ship(job: Job, raced: Race, folder: Path, *, anyway: bool = False) -> Fitted:
    """The best network whose Bundle meets every limit here. Raises MeasurementError if none does."""
    from vertebra.reading.reports.fitted import Fitted

    of_name = {one.name: one for one in job.field.contenders}
    failed = {one.name: one.failed for one in raced.outcomes if one.failed is not None}
    unmet: dict[str, str] = {}
    for outcome in raced.outcomes:
        if outcome.held is None or outcome.pictures < len(job.sorted.folds):
            continue
        if unmet and not (anyway or outcome.held.learnt):
            continue
        one = of_name[outcome.name]
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
            kept, rows = _made(job, raced, outcome, one, Path(scratch) / "bundle")
            rows += _measured(job, kept, one)
            row, missed = _judged(job, kept, one)
            if missed and not _is_broken(row, job.question.limits):
                rows += _measured(job, kept, one, again=True)
                row, missed = _judged(job, kept, one)
            if not missed:
                kept = bundles.copy(kept, folder)
        if not missed:
            return Fitted(
                data=job.data, bundle=kept, winner=one, row=row, limits=job.question.limits,
                held=outcome.held, race=raced, inspection=job.sorted.inspection,
                contenders=tuple(job.field.contenders), failures={**job.field.failures, **failed},
                rows=tuple(rows), unmet=unmet,
            )  # fmt: skip
        unmet[one.name] = missed
    told = "; ".join(f"{name}: {why}" for name, why in unmet.items())
    raise MeasurementError(
        f"No network surely meets the limits with its new head: {told}.",
        "relax a limit or name other networks; on a busy machine, repeat it when it is quiet: the features "
        "are kept",
    )


def _made(
    job: Job, raced: Race, outcome: Outcome, one: Contender, folder: Path
) -> tuple[Bundle, list[Measurement]]:
    """The Bundle of a network with its head, compared with it on the pictures and measured here; its rows."""
    from vertebra.exporting import joined
    from vertebra.inference import resolving
    from vertebra.measuring.evaluation import fitted as facts
    from vertebra.measuring.evaluation import heads
    from vertebra.zoo import arrays
    from vertebra.zoo.graphs import store

    vectors = _extractor(one, job)(range(len(job.sorted.folds)))
    head = raced.head if one.name == raced.winner else heads.fit(
        vectors, job.sorted.labels, classes=job.classes, folds=job.sorted.folds, groups=job.sorted.groups,
        balanced=job.balanced, seed=job.seed,
    )  # fmt: skip
    found = resolving.resolve(one.name, weights=one.source, **one.checks)
    asked = found.subject.arguments
    kept = joined.join(
        store.find(one.name, found.input_size), folder, head=head, made=_facts(job, raced, outcome, head),
        model=one.name, card=found.card,
        arrays=arrays.take(
            zoo.find(one.name), asked["weights"], input_size=found.input_size, **one.checks
        ).arrays,
        split=[(picture.sha256, fold) for picture, fold in
               zip(job.sorted.inspection.kept, job.sorted.folds, strict=True)],
    )  # fmt: skip
    job.networks.close()
    _compare(job, kept, one, heads.logits(head, vectors[:_COMPARED]))
    rows = facts.rows(kept)
    job.table.append(rows)
    return kept, rows


def _measured(job: Job, kept: Bundle, one: Contender, *, again: bool = False) -> list[Measurement]:
    """The rows of a measurement of the Bundle here, if it lacks one, or `again` and more thoroughly."""
    from vertebra.campaigns import campaign, cases

    wanted = cases.bundle_cases(kept, [one.engine])
    if not again:
        wanted = cases.remaining(wanted, job.table.rows())
    if not wanted:
        return []
    limits = campaign.limits(1, quick=not again, seconds=_AGAIN_S if again else _CASE_S)
    return campaign.measure(wanted, job.table, limits=limits, progress=job.progress)


def _facts(job: Job, raced: Race, outcome: Outcome, head: Head) -> Any:
    from vertebra.bundles.fitted import Fitted as Facts

    held = raced.nested if outcome.name == raced.winner else outcome.held
    assert held is not None
    found = job.sorted.inspection
    chosen = (
        f", chosen inside the folds among {len(job.field.contenders)} networks"
        if held is raced.nested
        else ""
    )
    weighed = ", classes weighed alike" if job.balanced else ""
    return Facts(
        pictures=found.identity, pictures_sha256=found.sha256, classes=found.classes,
        folds=len(set(job.sorted.folds)), accuracy=held.accuracy, low=held.low, high=held.high,
        how=f"logistic regression on frozen features, penalty {head.penalty:g}{weighed}{chosen}",
        remarks=tuple(found.remarks()[:8]),
    )  # fmt: skip


def _compare(job: Job, kept: Bundle, one: Contender, expected: Vectors) -> None:
    """Raise MeasurementError unless the Bundle answers to the first pictures as its head does."""
    from vertebra.exporting import joined

    places_ = [picture.place for picture in job.sorted.inspection.kept[: len(expected)]]
    last = max(places_) + 1
    sources = {
        place: sample.source for place, sample in enumerate(job.data.first(last)) if place in set(places_)
    }
    joined.agreement(
        kept, [sources[place] for place in places_], expected, engine=one.engine, progress=job.progress
    )


def _is_broken(row: WideRow, limits: Sequence[Limit]) -> bool:
    return any(limit.verdict(row) == "broken" for limit in limits)


def _judged(job: Job, kept: Bundle, one: Contender) -> tuple[WideRow, str]:
    """The Bundle's figures here, and which limits it doesn't surely meet ("" for none)."""
    from vertebra.reading.choice import candidates

    mine = candidates.comparable(
        job.table, model=kept.model, network_sha256=kept.network_sha256, engine=one.engine,
        precision=kept.precision,
    )  # fmt: skip
    rows = [row for row in wide(mine) if row.conditions]
    if not rows:
        return one.row, f"{kept.model} has no figures on {one.engine}"
    # what is counted, and not measured, is the network's: its new head is about as large
    figures = {**one.row.figures, **rows[0].figures}
    row = replace(rows[0], figures=figures)
    missed = [limit for limit in job.question.limits if limit.verdict(row) != "met"]
    return row, "; ".join(limit.reason(row) for limit in missed)


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
