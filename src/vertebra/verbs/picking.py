"""The loop of `pick` that measures what its answer depends on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vertebra.campaigns import campaign, cases, paired
from vertebra.campaigns.load import Load
from vertebra.errors import InvalidInputError, MissingRuntimeError, warn
from vertebra.measurements import Measurement, Table, WideRow, shipped
from vertebra.measuring import estimation
from vertebra.measuring.benchmarking import Case, Limits, quiet
from vertebra.progress import Listener, Progress, silent
from vertebra.reading.choice import again, field, next_to_measure, precisions, rule
from vertebra.reading.choice.candidates import (
    Question,
    absences,
    can_be_measured,
    candidates,
    comparable,
    is_here,
    nearest_miss,
    priced,
    with_prospects,
)
from vertebra.reading.choice.next_to_measure import STOPS, Settled
from vertebra.reading.choice.rule import Pick, described
from vertebra.zoo.graphs import store

#: Multiply-accumulates and parameters of the largest network that is measured only to estimate others from,
#: and how many are: with larger ones or more, each of which takes longer, the errors of the others are no
#: smaller (benchmarks/estimation_error.py --most-macs 2e9 --anchors 12).
_ANCHOR_MACS, _ANCHOR_PARAMS, _ANCHORS = 2e9, 6e7, 12
#: From how many graphs that ship for each such network they are chosen; fewer would be too much alike.
_CHOICE = 4
#: How many such networks are measured side by side, before it is decided whether there is time for more.
_AT_ONCE = 3
#: The conditions of the measurements.
_LOAD: dict[str, Any] = {"device": "cpu", "scenario": "single-stream", "batch_size": 1}
#: Seconds that a quick case is expected to take, until some have been measured.
_CASE_S = 6.0
#: Of a budget, the share that the time for one case is, and its bounds in seconds.
_CASE_SHARE, _LEAST_CASE_S, _MOST_CASE_S = 1 / 30, 2.0, 10.0
#: Of a budget, the share after which a process without an answer counts as hung, and the least in seconds.
_PATIENCE, _LEAST_PATIENCE_S = 1 / 6, 15.0
#: What measures quickest to no purpose: it can't be shipped, so it is measured only where nothing else runs.
_LAST_RESORT = "eager"


def settled(
    source: Table,
    question: Question,
    budget_s: float,
    *,
    engines: Sequence[str] = (),
    progress: Listener | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Settled:
    """The choice among the catalogue, after measuring what it depends on; see `next_to_measure.settle`.

    Networks are measured on `engines` (by default all usual ones that are installed, without PyTorch's eager
    mode if there is another), so a candidate is a network with an engine. If few networks are measured on
    them to estimate the others, the most useful ones are measured first (`fill`). An interrupt ends the
    measuring; the answer is then from the rows measured so far. Raises MissingRuntimeError if no engine is
    installed.
    """
    runners = list(engines) or _runners()
    filters = {**question.filters, **_LOAD, "engine": tuple(runners)}
    question = replace(question, among="catalogue", filters=filters)
    bench = _Bench(source, budget_s, progress or silent, clock)
    before = _sure_choice(source, question)
    beside = question.filters.get("beside") or None
    known_before = _known(source, runners, beside)
    interrupted = False
    waited: quiet.Waited | None = None
    try:
        waited = quiet.wait(min(quiet.LONGEST_S, budget_s / 4), warn)
        fill(source, runners, bench, beside=beside)
    except STOPS:
        interrupted = True
    filled = _known(source, runners, beside)
    anchored = [f"{name} on {one}" for one in runners for name in sorted(filled[one] - known_before[one])]
    unpriced = 0

    def known() -> list[WideRow]:
        nonlocal unpriced
        rows, unpriced = priced(candidates(source, question), question)
        if not any(row.value(question.objective) is not None for row in rows):
            error = _nothing_measured(interrupted, runners, has_time=bench.has_time(budget_s))
            if interrupted:  # a request to end leaves no error to be shown
                bench.progress(Progress(error.message))
            raise error
        return [row for row in rows if can_be_measured(row) or not _is_estimate(row)]

    def settle() -> Settled:
        return next_to_measure.settle(
            known,
            lambda row: bench(_case_of(row), budget_s),
            question.limits,
            question.objective,
            demands=question.demands,
            least_grade=question.trust,
            has_time=lambda: not interrupted and bench.has_time(budget_s),
        )

    found = settle()
    if found.ended == "settled" and (miss := nearest_miss(found.pick)) is not None:
        try:
            bench(_case_of(miss), budget_s)
        except STOPS:
            interrupted = True
        after = settle()
        found = replace(after, measured=(*found.measured, described(miss), *after.measured))
    told: list[str] = []
    every = candidates(source, question, told)
    worse = rule.fallen(before, every, found.pick)
    left_out = absences(sorted(field.names()), "can't be measured here")
    picked = replace(found.pick, notes=(*filter(None, [worse, str(waited or "")]), *told, *left_out))
    if not interrupted and found.ended == "settled":
        picked = _decided(picked, every, bench)
    picked = with_prospects(picked, source, question, known(), unpriced)
    ended = found.ended
    if interrupted:
        ended = "interrupted"
    elif ended == "settled" and unpriced:  # what can't be estimated asks no question
        ended = "too few" if bench.has_time(budget_s) else "budget"
    return replace(
        found, pick=picked, measured=tuple(dict.fromkeys((*found.measured, *anchored))), ended=ended
    )


#: Seconds that are worth a comparison of two in interleaved blocks: two exports, and three processes of each.
_PAIR_S = 45.0


def _decided(picked: Pick, rows: Sequence[WideRow], bench: _Bench) -> Pick:
    """The choice between two forms that differ in their latency only, by the ratio of interleaved blocks, if
    there is time for it."""
    rival = again.close_rival(picked, rows)
    if rival is None or picked.choice is None or bench.left_s < _PAIR_S:
        return picked
    (first,), (second,) = _case_of(picked.choice), _case_of(rival)
    try:
        found = paired.measure(
            first, second, bench.source, deadline=time.monotonic() + bench.left_s, progress=bench.progress
        )
    except STOPS:
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


def _runners() -> list[str]:
    """The engines to measure on."""
    here = cases.found_here()
    if not here:
        raise MissingRuntimeError(
            "No engine is installed that could measure a network.",
            'install one with: pip install "vertebra[openvino]"',
        )
    return [name for name in here if name != _LAST_RESORT] or here


def _nothing_measured(interrupted: bool, runners: Sequence[str], *, has_time: bool) -> InvalidInputError:
    where = " and ".join(runners)
    if interrupted:
        return InvalidInputError(
            f"Interrupted before enough was measured on {where} for an answer.",
            "the measurements are kept in the table; the same command continues",
        )
    if has_time:
        return InvalidInputError(
            f"Nothing could be measured on {where}: what was tried failed.",
            "what went wrong: vertebra table --metric failure",
        )
    return InvalidInputError(
        f"The time was up before enough was measured on {where} for an answer.",
        "give a longer --budget; the measurements are kept in the table (failures: vertebra table --metric "
        "failure)",
    )


def _is_estimate(row: WideRow) -> bool:
    return any(figure.origin == "estimated" for figure in row.figures.values())


@dataclass
class _Bench:
    """Measures cases quickly, and knows whether there is time for more. Times are seconds of the budget."""

    source: Table
    budget_s: float
    progress: Listener
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._start_s = self.clock()
        self._spent_s, self._cases = 0.0, 0

    def __call__(self, wanted: Sequence[Case], until_s: float) -> list[Measurement]:
        """The rows of `wanted`, which are begun only if they can be finished by `until_s`."""
        if not wanted or not self.has_time(until_s):
            return []
        began = self.clock()
        seconds = min(max(_LEAST_CASE_S, _CASE_SHARE * self.budget_s), _MOST_CASE_S)
        limits = replace(
            campaign.limits(len(wanted), quick=True, seconds=seconds).brief(),
            timeout_s=min(Limits.timeout_s, max(_LEAST_PATIENCE_S, self.budget_s * _PATIENCE)),
        )
        try:
            return campaign.measure(
                wanted, self.source, limits=limits, deadline=self._start_s + until_s, progress=self.progress
            )
        finally:
            self._spent_s += self.clock() - began
            self._cases += len(wanted)

    @property
    def left_s(self) -> float:
        return self._start_s + self.budget_s - self.clock()

    @property
    def has_measured(self) -> bool:
        return self._cases > 0

    def has_time(self, until_s: float, number: int = 1) -> bool:
        """Whether `number` cases are likely to be finished by `until_s`."""
        each = self._spent_s / self._cases if self._cases else _CASE_S
        return self.clock() - self._start_s + number * min(each, self.budget_s / 2) < until_s


def fill_field(
    source: Table, engines: Sequence[str], budget_s: float, progress: Listener | None = None
) -> None:
    """Measure on `engines` what the estimates of the whole field need, for at most `budget_s`."""
    runners = [name for name in engines if name != _LAST_RESORT] or list(engines)
    bench = _Bench(source, budget_s, progress or silent, time.monotonic)
    fill(source, runners, bench, is_all=True)


def fill(
    source: Table,
    runners: Sequence[str],
    bench: _Bench,
    *,
    is_all: bool = False,
    beside: int | None = None,
) -> None:
    """Measure what the estimates of all others need, a few networks at a time: networks that are small, quick
    to measure and unlike each other, the same on each engine, `beside` as many busy threads as are asked for.
    It takes at most half of the budget, or more where nothing could be estimated yet or this is all that the
    budget is for. Where there is no time to measure enough on every engine, it is spent on one of them."""
    wanted = anchors(source, runners, beside)
    told = is_all
    while wanted:
        known = _known(source, runners, beside)
        lacking = {one: max(0, estimation.FEWEST_ANCHORS - len(known[one])) for one in runners}
        is_enough = 0 in lacking.values()
        until_s = bench.budget_s / (2 if is_enough and not is_all else 1)
        is_hurried = not is_enough and not bench.has_time(until_s, sum(lacking.values()))
        able = [min(runners, key=lacking.__getitem__)] if is_hurried else runners
        size = _AT_ONCE
        while not is_enough and size > 1 and not bench.has_time(until_s, size * len(able)):
            size -= 1
        now, wanted = wanted[:size], wanted[size:]
        chosen = _cases_of(now, able, beside)
        chosen = cases.remaining(chosen, source.rows(metric="failure"))  # what failed fails again
        if not bench.has_time(until_s, len(chosen) if bench.has_measured else 1):
            return
        if not told:
            bench.progress(Progress(_saying(bench.budget_s, runners)))
            told = True
        bench(chosen, until_s)


def _cases_of(
    wanted: Sequence[tuple[str, tuple[str, ...]]], engines: Sequence[str], beside: int | None
) -> list[Case]:
    """The cases of networks, each on those of `engines` that lack it."""
    lacking = {(name, engine) for name, several in wanted for engine in several}
    found = cases.cases([name for name, _ in wanted], engines, load=Load(beside=beside))
    return [case for case in found if (case.model, case.engine) in lacking]


def _known(source: Table, runners: Sequence[str], beside: int | None) -> dict[str, set[str]]:
    """The networks measured on each engine, `beside` so many busy threads."""
    known = {engine: set[str]() for engine in runners}
    load = {**_LOAD, "engine": tuple(runners), "precision": "float32", "beside": beside}
    for row in comparable(source, metric=("latency",), **load):
        if row.metric == "latency" and row.origin == "benched" and row.network_sha256 is None:
            known[str(row.engine)].add(row.model)
    return known


def _saying(budget_s: float, runners: Sequence[str]) -> str:
    minutes, seconds = divmod(round(budget_s), 60)
    time_ = (
        f"{minutes} min {seconds} s"
        if minutes and seconds
        else f"{minutes} min"
        if minutes
        else f"{seconds} s"
    )
    return (
        f"Measuring on {' and '.join(runners)} for up to {time_}, first what the estimates of all networks "
        "need (Ctrl-C: the answer so far)"
    )


def anchors(
    source: Table, runners: Sequence[str], beside: int | None = None
) -> list[tuple[str, tuple[str, ...]]]:
    """The networks still to be measured before others can be estimated well, the most useful first, each with
    the engines that lack it; none where as many as are good are known."""
    known = _known(source, runners, beside)
    shared = set.intersection(*known.values())
    ready = [
        name for name, count in shipped.counts().items()
        if count.macs <= _ANCHOR_MACS and count.params <= _ANCHOR_PARAMS
        and is_here(name) and not name.startswith(field.TOYS)
    ]  # fmt: skip
    # A graph that ships is ready in a second, an export in a quarter of a minute.
    quick = [name for name in ready if name in store.names()]
    ready = quick if len(quick) >= _ANCHORS * _CHOICE else ready
    missing = max(0, _ANCHORS - len(shared.intersection(ready)))
    chosen = estimation.anchors(missing, among=ready, known=sorted(shared)) if missing else []
    lacking = [(name, tuple(one for one in runners if name not in known[one])) for name in chosen]
    return [(name, engines) for name, engines in lacking if engines]


def _case_of(row: WideRow) -> Sequence[Case]:
    precision = row.conditions.get("precision", precisions.USUAL)
    load = Load(beside=row.conditions.get("beside"))
    return cases.cases([row.model], [row.conditions["engine"]], precisions=[precision], load=load)
