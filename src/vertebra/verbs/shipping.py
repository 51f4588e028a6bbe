"""The last step of `fit`: the winner's Bundle is made, measured here, held to the limits, and shipped."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra import bundles
from vertebra.errors import MeasurementError
from vertebra.machine import leftovers
from vertebra.measurements import Measurement, WideRow, wide
from vertebra.reading.choice.precisions import USUAL
from vertebra.verbs import fitting, rounded
from vertebra.verbs.fitting import Job
from vertebra.verbs.rounded import NotRoundedError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.bundles import Bundle
    from vertebra.measuring.evaluation.crossing import Held
    from vertebra.measuring.evaluation.racing import Outcome, Race
    from vertebra.reading.choice.contender import Contender
    from vertebra.reading.choice.rule import Limit
    from vertebra.reading.reports.fitted import Fitted

    Logits = npt.NDArray[np.float32]

#: The Bundle is compared with its head on at most this many of the pictures.
_COMPARED = 64
#: Seconds of the Bundle's own measurement.
_CASE_S = 8.0
#: Seconds of a second one, in three processes, where a limit lies within the first one's interval.
_AGAIN_S = 15.0


def ship(job: Job, raced: Race, folder: Path, *, anyway: bool = False) -> Fitted:
    """The best network whose Bundle meets every limit here. Raises MeasurementError if none does."""
    from vertebra.reading.reports.fitted import Fitted

    failed = {one.name: one.failed for one in raced.outcomes if one.failed is not None}
    unmet: dict[str, str] = {}
    missed_by: set[str] = set()
    for outcome in raced.outcomes:
        if outcome.held is None or outcome.pictures < len(job.sorted.folds):
            continue
        if unmet and not (anyway or outcome.held.learnt):
            continue
        one = job.contender(outcome.name)
        if one.name in missed_by:  # prepared otherwise, it is as fast and as large
            continue
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
            try:
                made = _made(job, raced, outcome, one, Path(scratch), anyway=anyway)
            except NotRoundedError as error:
                unmet[one.label] = error.message
                continue
            row, missed = _met(job, made, one)
            if not missed:
                kept = bundles.copy(made.bundle, folder)
                return Fitted(
                    data=job.data, bundle=kept, winner=one, row=row, limits=job.limits, held=outcome.held,
                    race=raced, inspection=job.sorted.inspection, contenders=tuple(job.field.contenders),
                    failures={**job.field.failures, **failed}, rows=tuple(made.rows), unmet=unmet,
                    rounded=made.rounded,
                )  # fmt: skip
        unmet[one.label] = missed
        missed_by.add(one.name)
    told = "; ".join(f"{name}: {why.rstrip('.')}" for name, why in unmet.items())
    if job.precision != USUAL:
        raise MeasurementError(
            f"No network ships in {job.precision} within the limits: {told}.",
            f"fit in {USUAL}, relax a limit, or name other networks",
        )
    raise MeasurementError(
        f"No network surely meets the limits with its new head: {told}.",
        "relax a limit or name other networks; on a busy machine, repeat it when it is quiet: the features "
        "are kept",
    )


@dataclass
class _Made:
    """A Bundle, the rows that were appended for it, and in another precision than float32 its own answers to
    pictures that its head hadn't seen."""

    bundle: Bundle
    rows: list[Measurement]
    rounded: Held | None = None


def _made(job: Job, raced: Race, outcome: Outcome, one: Contender, scratch: Path, *, anyway: bool) -> _Made:
    """The Bundle of a network with its head, compared with it on the pictures."""
    from vertebra.measuring.evaluation import fitted as facts
    from vertebra.measuring.evaluation import heads, kept_heads

    vectors = fitting.extractor(one, job)(range(len(job.sorted.folds)))
    head = raced.head if one.label == raced.winner else heads.fit(
        vectors, job.sorted.labels, classes=job.classes, folds=job.sorted.folds, groups=job.sorted.groups,
        balanced=job.balanced, seed=job.seed, recall=kept_heads.recalled,
    )  # fmt: skip
    expected = heads.logits(head, vectors[:_COMPARED])
    made = fitting.facts_of(job, raced, outcome, one, head)
    held = None
    if job.precision != USUAL:
        held = rounded.held(job, raced, outcome, one)
        if not (anyway or held.learnt):
            raise NotRoundedError(f"in {job.precision}: {held.verdict}")
        made = rounded.described(made, held, job.precision)
    kept = fitting.joined(job, one, head, made, scratch / "bundle")
    job.networks.close()
    _compare(job, kept, one, expected)
    rows = facts.rows(kept) if held is None else []
    if held is not None:
        kept, rows = rounded.shipped(job, kept, one, scratch)
    job.table.append(rows)
    return _Made(kept, rows, held)


def _met(job: Job, made: _Made, one: Contender) -> tuple[WideRow, str]:
    """The Bundle's figures here, and which limits it doesn't surely meet, after it was measured: once more
    and longer, if it may meet them."""
    made.rows += _measured(job, made.bundle, one)
    row, missed = _judged(job, made.bundle, one)
    if missed and not _is_broken(row, job.limits):
        made.rows += _measured(job, made.bundle, one, again=True)
        row, missed = _judged(job, made.bundle, one)
    return row, missed


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


def _compare(job: Job, kept: Bundle, one: Contender, expected: Logits) -> None:
    """Raise MeasurementError unless the Bundle answers to the first pictures as its head does."""
    from vertebra.exporting import joined

    sources = fitting.sources_of(job, range(len(expected)))
    joined.agreement(kept, sources, expected, engine=one.engine, progress=job.progress)


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
    counted = {name: figure for name, figure in one.row.figures.items()
               if figure.precision in (None, kept.precision)}  # fmt: skip
    figures = {**counted, **rows[0].figures}
    row = replace(rows[0], figures=figures)
    missed = [limit for limit in job.limits if limit.verdict(row) != "met"]
    return row, "; ".join(limit.reason(row) for limit in missed)
