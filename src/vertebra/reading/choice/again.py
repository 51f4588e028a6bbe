"""READ: which measured network to measure again, because its interval leaves the answer open.

A run that others disturbed says that a network may be a few times faster. If that network would be better
than the choice, another run settles it; one with a usual interval around a limit isn't worth the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from vertebra import metrics
from vertebra.measurements import Measurement, WideRow
from vertebra.reading.choice import rule
from vertebra.reading.choice.rule import Demand, Limit

#: Half of the interval's width above which another run is likely to narrow it, as a logarithm: that of an
#: undisturbed quick run is about 0.1.
WIDE = 0.15
#: How often one form is measured again for one answer.
MOST = 2


def worth_repeating(
    rows: Iterable[WideRow],
    limits: Sequence[Limit] = (),
    objective: str = "top1",
    *,
    demands: Sequence[Demand] = (),
    least_grade: str | None = None,
    repeated: Callable[[WideRow], int] = lambda row: 0,
) -> WideRow | None:
    """The best network that was measured here, is better than the choice, and is borderline for its wide
    interval; None where there is none. `repeated` says how often a form was measured again already."""
    candidates = [row for row in rows if row.value(objective) is not None]
    if not candidates or not limits:
        return None
    picked = rule.pick(candidates, limits, objective, demands=demands, least_grade=least_grade)
    better = metrics.find(objective).better
    sign = -1 if better == "higher" else 1
    choice = next((row for row in picked.ranked if rule.is_sure(row, picked)), None)
    bar = math.inf if choice is None else sign * choice.figures[objective].value
    found = [
        row for row in candidates
        if sign * row.figures[objective].value < bar and rule.is_sure(row, picked)
        and all(demand.holds(row) for demand in demands)
        and _is_wide(row, limits) and repeated(row) < MOST
    ]  # fmt: skip
    return min(found, key=lambda row: (sign * row.figures[objective].value, row.model), default=None)


def _is_wide(row: WideRow, limits: Sequence[Limit]) -> bool:
    """Whether `row` is borderline, and by a wide interval wherever it is."""
    verdicts = [(limit, limit.verdict(row)) for limit in limits]
    open_ones = [limit for limit, verdict in verdicts if verdict == "borderline"]
    broken = any(verdict in ("broken", "unknown") for _, verdict in verdicts)
    return bool(open_ones) and not broken and all(
        _half_width(row.figures[limit.metric]) > WIDE for limit in open_ones
    )  # fmt: skip


def _half_width(figure: Measurement) -> float:
    if figure.origin != "benched" or not figure.low or figure.high is None:
        return 0.0
    return math.log(figure.high / figure.low) / 2
