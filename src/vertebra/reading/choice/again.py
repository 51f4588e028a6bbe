"""READ: which measured network to measure again, because its interval leaves the answer open.

A run that others disturbed says that a network may be a few times faster. If that network would be better
than the choice, another run settles it; one with a usual interval around a limit isn't worth the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from vertebra import metrics
from vertebra.measurements import Measurement, WideRow
from vertebra.measurements.statistics import Difference
from vertebra.reading.choice import rule
from vertebra.reading.choice.rule import Demand, Limit, Pick

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


# ------------------------------------------------------------------ a choice between two


def close_rival(picked: Pick, rows: Iterable[WideRow]) -> WideRow | None:
    """The measured form that is as good as the choice but for its latency, where the intervals of both
    latencies overlap: which of the two is faster decides. None where there is none."""
    choice = picked.choice
    if choice is None or not _is_timed(choice):
        return None
    rivals = [
        row for row in rows
        if _is_timed(row) and rule.is_sure(row, picked) and _is_as_good(row, choice, picked)
        and all(limit.verdict(row) == "met" for limit in picked.limits)
        and all(demand.holds(row) for demand in picked.demands)
        and _is_another_case(row, choice)
        and _overlap(row.figures["latency"], choice.figures["latency"])
    ]  # fmt: skip
    return min(rivals, key=lambda row: (row.figures["latency"].value, row.model), default=None)


def _is_another_case(row: WideRow, choice: WideRow) -> bool:
    """Whether both can be measured side by side: networks or engines differ, and nothing else."""
    same = all(
        row.conditions.get(name) == choice.conditions.get(name) for name in ("precision", "threads", "device")
    )
    is_int8 = str(row.conditions.get("precision")).startswith("int8")  # needs pictures, and a pick has none
    ways = [(one.model, one.conditions.get("engine")) for one in (row, choice)]
    return same and not is_int8 and ways[0] != ways[1]


def _is_timed(row: WideRow) -> bool:
    figure = row.figures.get("latency")
    return figure is not None and figure.origin == "benched" and figure.low is not None


def _is_as_good(row: WideRow, choice: WideRow, picked: Pick) -> bool:
    name = picked.objective
    return name in ("latency", "fps") or row.value(name) == choice.value(name)


def _overlap(one: Measurement, other: Measurement) -> bool:
    ends = (one.low, one.high, other.low, other.high)
    low, high, other_low, other_high = (0.0 if end is None else end for end in ends)
    return low <= other_high and other_low <= high


def decided(picked: Pick, rival: WideRow, difference: Difference) -> Pick:
    """`picked` with the faster of its choice and `rival` first, by the ratio of their interleaved blocks (the
    rival's latency over the choice's), which a note states."""
    choice = picked.choice
    assert choice is not None
    ratio = f"{difference.ratio:.3g} times ({difference.low:.3g} to {difference.high:.3g})"
    what = f"{rule.described(rival)} takes {ratio} as long as {rule.described(choice)}"
    is_faster = difference.detected and difference.ratio < 1
    end = "so it is the choice" if is_faster else "so the choice stays"
    notes = (*picked.notes, f"Measured in interleaved blocks, {what}, {end}")
    rest = tuple(row for row in picked.ranked if row.model != rival.model)
    return replace(picked, ranked=(rival, *rest) if is_faster else picked.ranked, notes=notes)
