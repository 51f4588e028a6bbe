"""The loop of `pick` that measures what its answer depends on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from vertebra.campaigns import campaign, cases, paired
from vertebra.errors import InvalidInputError, warn
from vertebra.measurements import Measurement, Table, WideRow, shipped
from vertebra.measuring import estimation
from vertebra.measuring.benchmarking import Case, quiet
from vertebra.progress import Listener
from vertebra.reading.choice import again, next_to_measure, rule
from vertebra.reading.choice.candidates import Question, absences, candidates, comparable, is_here
from vertebra.reading.choice.next_to_measure import Settled
from vertebra.reading.choice.rule import Pick

#: Multiply-accumulates of the largest network that is measured only to estimate others from.
_ANCHOR_MACS = 1e10
#: How the names of timm's own test networks begin; they are of no use and unlike any other.
_TOYS = "timm:test_"
#: The conditions of the measurements.
_LOAD: dict[str, Any] = {"device": "cpu", "scenario": "single-stream", "batch_size": 1}
#: Least seconds for a quick case of an anchor, with its part of the export.
_ANCHOR_S = 8.0


def settled(
    source: Table,
    question: Question,
    budget_s: float,
    *,
    engines: Sequence[str] = (),
    progress: Listener | None = None,
) -> Settled:
    """The choice among the catalogue, after measuring what it depends on; see `next_to_measure.settle`.

    Networks are measured on `engines` (by default all usual ones that are installed), so a candidate is a
    network with an engine and a precision. If too few networks are measured on them to estimate the others,
    the most useful ones are measured first, in at most half of the time. An interrupt ends the measuring; the
    answer is then from the rows measured so far.
    """
    start = time.monotonic()
    runners = list(engines) or cases.found_here()
    filters = {**question.filters, **_LOAD, "engine": tuple(runners)}
    question = replace(question, among="catalogue", filters=filters)
    bench = _bench(source, progress)
    before = _sure_choice(source, question)
    interrupted = False
    waited: quiet.Waited | None = None
    try:
        waited = quiet.wait(min(quiet.LONGEST_S, budget_s / 4), warn)
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
    told: list[str] = []
    known = candidates(source, question, told)
    worse = rule.fallen(before, known, found.pick)
    notes = (*filter(None, [worse, str(waited or "")]), *told, *absences(shipped.counts(), "were left out"))
    picked = replace(found.pick, notes=notes)
    if not interrupted and found.ended == "settled":
        picked = _decided(picked, known, source, start + budget_s, progress)
    return replace(found, pick=picked, ended="interrupted" if interrupted else found.ended)


#: Seconds that are worth a comparison of two in interleaved blocks: two exports, and three processes of each.
_PAIR_S = 45.0


def _decided(
    picked: Pick, rows: Sequence[WideRow], source: Table, deadline: float, progress: Listener | None
) -> Pick:
    """The choice between two forms that differ in their latency only, by the ratio of interleaved blocks, if
    there is time for it."""
    rival = again.close_rival(picked, rows)
    if rival is None or picked.choice is None or deadline - time.monotonic() < _PAIR_S:
        return picked
    (first,), (second,) = _case_of(picked.choice), _case_of(rival)
    try:
        found = paired.measure(first, second, source, deadline=deadline, progress=progress)
    except KeyboardInterrupt:
        return picked
    return picked if found.difference is None else again.decided(picked, rival, found.difference)


def _sure_choice(source: Table, question: Question) -> WideRow | None:
    """The choice by what is measured already; None where there is none."""
    try:
        rows = candidates(source, replace(question, among="table"))
        return rule.pick(
            rows, question.limits, question.objective, demands=question.demands, least_grade=question.trust
        ).choice
    except InvalidInputError:  # nothing that can be chosen was measured
        return None


def _bench(source: Table, progress: Listener | None) -> Callable[[Sequence[Case], float], list[Measurement]]:
    """A function that measures cases quickly in the time left until a deadline."""

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
    """Not an estimate in int8: it needs calibration pictures, and a pick has none."""
    latency = row.figures.get("latency")
    estimated = latency is not None and latency.origin == "estimated"
    return not (estimated and str(row.conditions.get("precision")).startswith("int8"))


def _anchor_cases(source: Table, runners: Sequence[str], seconds: float) -> Sequence[Case]:
    """The cases still to be measured on the engines before other networks can be estimated there: networks
    that are small enough to be exported here, the same on each engine."""
    known = {engine: set[str]() for engine in runners}
    for row in comparable(source, metric=("latency",), engine=tuple(runners), precision="float32", **_LOAD):
        if row.metric == "latency" and row.origin == "benched" and row.network_sha256 is None:
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
