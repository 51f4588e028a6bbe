"""READ: which network to measure next, so that a pick by estimates becomes a pick by measurements.

A network that never ran here is a candidate with an interval. It can stay unmeasured if the chance that it
meets every limit, and is better than the best network that certainly does, is less than the chance of lying
beyond one end of a 90 % interval. Only the others are open questions. The most promising one comes first: a
measurement that confirms it answers every question below it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vertebra import metrics
from vertebra.measurements import Measurement, WideRow
from vertebra.reading.choice import again, rule
from vertebra.reading.choice.rule import Demand, Ending, Limit, Pick, described

#: What Ctrl-C and a request to end raise.
STOPS = (KeyboardInterrupt, SystemExit)
#: A candidate is not measured if its chance is less than this: one end of a 90 % interval, ...
_LEAST_CHANCE = 0.05
#: ... which is this many standard deviations from the middle.
_DEVIATIONS = 1.645


@dataclass(frozen=True)
class Settled:
    """The answer, the networks that were measured for it ("vgg16 on openvino"), and why the measuring ended:
    "settled" if each remaining estimate has a chance of less than 5 % to change the answer, "too few" if
    others couldn't be estimated because measurements failed."""

    pick: Pick
    measured: tuple[str, ...]
    ended: Ending


def is_estimated(row: WideRow, asked: Iterable[str]) -> bool:
    """Whether one of the figures `asked` is an estimate."""
    return any(row.figures[name].origin == "estimated" for name in asked if name in row.figures)


def open_questions(
    rows: Iterable[WideRow],
    limits: Sequence[Limit] = (),
    objective: str = "top1",
    *,
    demands: Sequence[Demand] = (),
    least_grade: str | None = None,
) -> list[WideRow]:
    """The estimated candidates that have at least `_LEAST_CHANCE` to change the answer, the most promising
    first."""
    asked = (objective, *(limit.metric for limit in limits))
    candidates = [
        row for row in rows
        if row.value(objective) is not None and all(demand.holds(row) for demand in demands)
    ]  # fmt: skip
    sure = [row for row in candidates if not is_estimated(row, asked)]
    choice = rule.pick(sure, limits, objective, least_grade=least_grade).choice if sure else None
    promising = [
        row for row in candidates
        if is_estimated(row, asked) and _chance(row, limits, objective, choice) >= _LEAST_CHANCE
    ]  # fmt: skip
    return sorted(promising, key=lambda row: (*_expected(row, objective, limits), row.model))


def open_question(rows: Iterable[WideRow], *asked: Any, **more: Any) -> WideRow | None:
    """The first of `open_questions`, or None if there is none."""
    return next(iter(open_questions(rows, *asked, **more)), None)


def chance(row: WideRow, picked: Pick) -> float:
    """The chance that an estimated candidate would be the choice, were it measured; 0 where it is too small
    to count."""
    found = _chance(row, picked.limits, picked.objective, picked.choice)
    return found if found >= _LEAST_CHANCE else 0.0


def _chance(row: WideRow, limits: Sequence[Limit], objective: str, choice: WideRow | None) -> float:
    """The chance that `row` meets every limit and is better than `choice`, if the errors of its estimates are
    normal in logarithms and independent."""
    chance = math.prod(_chance_of(limit, row) for limit in limits)
    if choice is None:
        return chance
    figure, best = row.figures[objective], choice.figures[objective].value
    if figure.origin == "estimated":
        return chance * _chance_of(Limit(objective, best), row)
    is_better = figure.value < best if Limit(objective, best).is_ceiling else figure.value > best
    return chance if is_better else 0.0


def _chance_of(limit: Limit, row: WideRow) -> float:
    """The chance that `row` meets `limit`."""
    figure = row.figures.get(limit.metric)
    spread = 0.0 if figure is None or figure.origin != "estimated" else _spread(figure)
    if figure is None or spread == 0 or limit.bound <= 0:
        return float(limit.verdict(row) in ("met", "borderline"))
    above = math.log(limit.bound / figure.value) / spread
    return 0.5 * math.erfc((-above if limit.is_ceiling else above) / math.sqrt(2))


def _spread(figure: Measurement) -> float:
    """The standard deviation of an estimate's logarithm; 0 where it has no interval."""
    if not figure.low or not figure.high:
        return 0.0
    return math.log(figure.high / figure.low) / (2 * _DEVIATIONS)


def _expected(row: WideRow, objective: str, limits: Sequence[Limit]) -> tuple[float, float]:
    """The order of promise: by the objective, then by the distance from the limits."""
    value = row.figures[objective].value
    sign = -1 if metrics.find(objective).better == "higher" else 1
    return sign * value, max((limit.miss(row) for limit in limits), default=0.0)


def settle(
    candidates: Callable[[], list[WideRow]],
    measure: Callable[[WideRow], list[Measurement]],
    limits: Sequence[Limit] = (),
    objective: str = "top1",
    *,
    demands: Sequence[Demand] = (),
    least_grade: str | None = None,
    has_time: Callable[[], bool] = lambda: True,
) -> Settled:
    """Measure what the answer depends on, best promise first, until no estimate is likely to change it or
    time is up; then, again, what was measured with a wide interval that leaves the answer open.

    `candidates` gives the wide rows as they are known by now; `measure` measures one of them, and if that
    fails the form is no longer a candidate. One of `STOPS` ends it with the answer so far.
    """
    asked = (objective, *(limit.metric for limit in limits))
    measured: dict[tuple[Any, ...], str] = {}
    repeats: Counter[tuple[Any, ...]] = Counter()
    ended: Ending | None = None
    while True:
        rows = [row for row in candidates() if _way(row) not in measured or not is_estimated(row, asked)]
        if ended is None:
            question = open_question(rows, limits, objective, demands=demands, least_grade=least_grade)
            if question is None:
                question = again.worth_repeating(
                    rows, limits, objective, demands=demands, least_grade=least_grade,
                    repeated=lambda row: repeats[_way(row)],
                )  # fmt: skip
                repeats.update([] if question is None else [_way(question)])
            ended = "settled" if question is None else None if has_time() else "budget"
        if ended is not None:
            picked = rule.pick(rows, limits, objective, demands=demands, least_grade=least_grade)
            known = set(map(_way, rows))  # without those that failed or were stopped
            return Settled(picked, tuple(name for way, name in measured.items() if way in known), ended)
        assert question is not None
        try:
            measure(question)
        except STOPS:
            ended = "interrupted"
        else:
            measured[_way(question)] = described(question)


def _way(row: WideRow) -> tuple[Any, ...]:
    """The network and the engine and precision that it is measured with."""
    return row.model, row.conditions.get("engine"), row.conditions.get("precision")
