"""The loop of `pick` that measures what its answer depends on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from vertebra.campaigns import campaign, cases
from vertebra.measurements import Measurement, Table, WideRow, shipped
from vertebra.measuring import estimation
from vertebra.measuring.benchmarking import Case
from vertebra.progress import Listener
from vertebra.reading.choice import next_to_measure
from vertebra.reading.choice.candidates import Question, absences, candidates, comparable, is_here
from vertebra.reading.choice.next_to_measure import Verified

#: Multiply-accumulates of the heaviest network that is measured only so that others can be priced.
_ANCHOR_MACS = 1e10
#: How networks are called that are made for tests of their library: nobody's backbone, and like none.
_TOYS = "timm:test_"
#: What candidates are measured under.
_LOAD: dict[str, Any] = {"device": "cpu", "scenario": "single-stream", "batch_size": 1}
#: Seconds that a quick case of an anchor takes at the least, with its part of the export.
_ANCHOR_S = 8.0


def verified(
    source: Table,
    question: Question,
    budget_s: float,
    *,
    engines: Sequence[str] = (),
    progress: Listener | None = None,
) -> Verified:
    """The choice among the catalogue after what it depends on was measured; see `verification.settle`.

    Networks are measured on the engines given (all the usual ones that are here), so that a candidate is a
    network together with its engine and precision. Where too few are measured on them to price the others
    from, those that help most with that are measured first, in half of the time at most. An interruption ends
    the measuring, and the answer comes from the rows that are there by then.
    """
    start = time.monotonic()
    runners = list(engines) or cases.found_here()
    filters = {**question.filters, **_LOAD, "engine": tuple(runners)}
    question = replace(question, among="catalogue", filters=filters)
    bench = _bench(source, progress)
    interrupted = False
    try:
        bench(_anchor_cases(source, runners, budget_s / 2), start + budget_s / 2)
    except KeyboardInterrupt:
        interrupted = True
    found = next_to_measure.settle(
        lambda: [row for row in candidates(source, question) if is_here(row.model) and _can_be_made(row)],
        lambda row: bench(_case_of(row), start + budget_s),
        question.limits,
        question.objective,
        demands=question.demands,
        least_grade=question.trust,
        has_time=lambda: not interrupted and time.monotonic() < start + budget_s,
    )
    notes = tuple(absences(shipped.counts(), "were left out"))
    return replace(
        found, pick=replace(found.pick, notes=notes), ended="interrupted" if interrupted else found.ended
    )


def _bench(source: Table, progress: Listener | None) -> Callable[[Sequence[Case], float], list[Measurement]]:
    """A function that measures cases quickly inside what is left until a deadline."""

    def bench(wanted: Sequence[Case], deadline: float) -> list[Measurement]:
        if not wanted or time.monotonic() >= deadline:
            return []
        least = campaign.limits(len(wanted), quick=True)
        return campaign.measure(wanted, source, limits=least, deadline=deadline, progress=progress)

    return bench


def _case_of(row: WideRow) -> Sequence[Case]:
    engine, precision = row.conditions["engine"], row.conditions["precision"]
    return cases.cases([row.model], [engine], precisions=[precision])


def _can_be_made(row: WideRow) -> bool:
    """Eight bits want pictures to calibrate with, and a pick has none: such a form is no estimate."""
    latency = row.figures.get("latency")
    estimated = latency is not None and latency.origin == "estimated"
    return not (estimated and str(row.conditions.get("precision")).startswith("int8"))


def _anchor_cases(source: Table, runners: Sequence[str], seconds: float) -> Sequence[Case]:
    """What is still to be measured on the engines before others can be priced there: networks that are light
    enough to be exported here, the same on each engine."""
    known = {engine: set[str]() for engine in runners}
    for row in comparable(source, metric=("latency",), engine=tuple(runners), precision="float32", **_LOAD):
        if row.metric == "latency" and row.origin == "benched":
            known[str(row.engine)].add(row.model)
    shared = set.intersection(*known.values())
    affordable = max(estimation.FEWEST_ANCHORS, int(seconds / (_ANCHOR_S * len(runners))))
    missing = min(estimation.ANCHORS, affordable) - len(shared)
    if missing <= 0:
        return []
    ready = [
        name for name, count in shipped.counts().items()
        if count.macs <= _ANCHOR_MACS and is_here(name) and not name.startswith(_TOYS)
    ]  # fmt: skip
    chosen = estimation.anchors(missing, among=ready, known=sorted(shared))
    return [case for case in cases.cases(chosen, runners) if case.model not in known[case.engine]]
