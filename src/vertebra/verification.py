"""READ: which network to measure next, so that a pick made by estimates becomes one made by measurements.

A network that nobody ran here is a candidate with an interval. It can be left unmeasured where the whole of
its interval is out of a limit, or where it couldn't be better than what surely meets every limit already;
only the others are questions. The one with the best promise comes first: a measurement that confirms it
closes every question below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vertebra import metrics, recommendation
from vertebra.measurements import Measurement, WideRow
from vertebra.recommendation import Demand, Limit, Pick, told

Ending = Literal["settled", "budget", "interrupted"]

#: By how much wider, in logarithms, an estimate's interval is taken before a candidate is left unmeasured.
_CAUTION = 2.0


@dataclass(frozen=True)
class Verified:
    """The answer, the networks that were measured for it ("vgg16 on openvino"), and why the measuring ended:
    it is "settled" where no estimate that is left could change it."""

    pick: Pick
    measured: tuple[str, ...]
    ended: Ending


def is_estimated(row: WideRow, asked: Iterable[str]) -> bool:
    """Whether one of the figures that are asked for is an estimate."""
    return any(row.figures[name].origin == "estimated" for name in asked if name in row.figures)


def open_question(
    rows: Iterable[WideRow],
    limits: Sequence[Limit] = (),
    objective: str = "top1",
    *,
    demands: Sequence[Demand] = (),
    least_grade: str = "B",
) -> WideRow | None:
    """The estimated candidate that promises most, or None where no estimate could change the answer."""
    asked = (objective, *(limit.metric for limit in limits))
    candidates = [
        row for row in rows
        if row.value(objective) is not None and all(demand.holds(row) for demand in demands)
    ]  # fmt: skip
    sure = [row for row in candidates if not is_estimated(row, asked)]
    choice = recommendation.pick(sure, limits, objective, least_grade=least_grade).choice if sure else None
    promising = [
        row for row in map(_cautious, candidates)
        if is_estimated(row, asked)
        and all(limit.verdict(row) in ("met", "borderline") for limit in limits)
        and (choice is None or _best(row, objective) < _best(choice, objective))
    ]  # fmt: skip
    return min(promising, key=lambda row: (*_expected(row, objective, limits), row.model), default=None)


def _cautious(row: WideRow) -> WideRow:
    """The row with its estimates' intervals wider by `_CAUTION`: one in ten lies outside of them as they are,
    and among many candidates that one would be missed."""
    wider = {name: _widened(figure) for name, figure in row.figures.items() if figure.origin == "estimated"}
    return replace(row, figures={**row.figures, **wider})


def _widened(figure: Measurement) -> Measurement:
    if figure.low is None or figure.high is None:
        return figure
    low = figure.value * (figure.low / figure.value) ** _CAUTION
    high = figure.value * (figure.high / figure.value) ** _CAUTION
    return replace(figure, low=low, high=high)


def _best(row: WideRow, objective: str) -> float:
    """The most favourable end of the objective's interval where it is estimated, else its value; less is
    better."""
    figure = row.figures[objective]
    ends = [figure.value]
    if figure.origin == "estimated":
        ends += [end for end in (figure.low, figure.high) if end is not None]
    sign = -1 if metrics.find(objective).better == "higher" else 1
    return min(sign * end for end in ends)


def _expected(row: WideRow, objective: str, limits: Sequence[Limit]) -> tuple[float, float]:
    """The order of promise: by the objective, and how far from the limits."""
    value = row.figures[objective].value
    sign = -1 if metrics.find(objective).better == "higher" else 1
    return sign * value, max((limit.miss(row) for limit in limits), default=0.0)


def verify(
    candidates: Callable[[], list[WideRow]],
    measure: Callable[[WideRow], list[Measurement]],
    limits: Sequence[Limit] = (),
    objective: str = "top1",
    *,
    demands: Sequence[Demand] = (),
    least_grade: str = "B",
    has_time: Callable[[], bool] = lambda: True,
) -> Verified:
    """Measure what the answer hangs on, best promise first, until no estimate could change it or time is up.

    `candidates` gives the wide rows as they are known by now; `measure` measures one of them, and where that
    fails the form is a candidate no longer. A KeyboardInterrupt ends it with the answer so far.
    """
    asked = (objective, *(limit.metric for limit in limits))
    measured: dict[tuple[Any, ...], str] = {}
    ended: Ending | None = None
    while True:
        rows = [row for row in candidates() if _way(row) not in measured or not is_estimated(row, asked)]
        if ended is None:
            question = open_question(rows, limits, objective, demands=demands, least_grade=least_grade)
            ended = "settled" if question is None else None if has_time() else "budget"
        if ended is not None:
            picked = recommendation.pick(rows, limits, objective, demands=demands, least_grade=least_grade)
            return Verified(picked, tuple(measured.values()), ended)
        assert question is not None
        try:
            measure(question)
        except KeyboardInterrupt:
            ended = "interrupted"
        else:
            measured[_way(question)] = told(question)


def _way(row: WideRow) -> tuple[Any, ...]:
    """The network and what it is measured with."""
    return row.model, row.conditions.get("engine"), row.conditions.get("precision")
