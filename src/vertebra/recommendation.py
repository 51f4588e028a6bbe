"""READ: which network, under these limits? The choice, the runner-up, and why the better ones fell out.

Candidates are wide rows: a network together with one way of running it. They are compared only
where the load is the same (machine, batch size, scenario); engine, precision and threads are part
of the choice. A limit is met when the slow end of the interval meets it; a candidate whose interval
straddles a limit is borderline, and is named but not chosen. Neither is one that a figure of grade C speaks
for: such a figure can't be believed, unless the caller says that it may.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from vertebra import metrics, units
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, WideRow

#: What must be equal before two candidates may be compared.
LOAD = ("system", "device", "batch_size", "scenario", "streams", "arrival_rate")

Verdict = Literal["met", "borderline", "broken", "unknown"]


@dataclass(frozen=True)
class Limit:
    """A bound on one metric, in its base unit: from above where less is better, else from below."""

    metric: str
    bound: float

    @cached_property
    def is_ceiling(self) -> bool:
        return metrics.find(self.metric).better == "lower"

    def __str__(self) -> str:
        metric = metrics.find(self.metric)
        return f"{metric.label} {'≤' if self.is_ceiling else '≥'} {units.show(self.bound, metric.unit)}"

    def verdict(self, row: WideRow) -> Verdict:
        """How `row` stands to this limit, by the whole of its interval."""
        figure = row.figures.get(self.metric)
        if figure is None:
            return "unknown"
        low = figure.value if figure.low is None else figure.low
        high = figure.value if figure.high is None else figure.high
        worst, best = (high, low) if self.is_ceiling else (low, high)
        if self._holds(worst):
            return "met"
        return "borderline" if self._holds(best) else "broken"

    def _holds(self, value: float) -> bool:
        return value <= self.bound if self.is_ceiling else value >= self.bound

    def miss(self, row: WideRow) -> float:
        """How many times over the limit `row` is; 1 or less where it holds, infinite where unknown."""
        value = row.value(self.metric)
        if value is None:
            return float("inf")
        over, under = (value, self.bound) if self.is_ceiling else (self.bound, value)
        return over / under if under > 0 else float("inf")

    def reason(self, row: WideRow) -> str:
        """Why `row` does not surely meet this limit, in words."""
        metric = metrics.find(self.metric)
        figure = row.figures.get(self.metric)
        if figure is None:
            return f"{metric.label} is not known"
        shown = units.show(figure.value, metric.unit)
        if figure.low is not None and figure.high is not None:
            shown += f" ({units.show(figure.low, metric.unit)} to {units.show(figure.high, metric.unit)})"
        return f"{metric.label} {shown}, limit {units.show(self.bound, metric.unit)}"


@dataclass(frozen=True)
class Exclusion:
    """A network that would have been better, and what kept it out (of its nearest form)."""

    row: WideRow
    reasons: tuple[str, ...]
    borderline: bool

    @property
    def why(self) -> str:
        """The reasons in one line."""
        return ("borderline: " if self.borderline else "") + "; ".join(self.reasons)


@dataclass(frozen=True)
class Pick:
    """The answer: networks that meet every limit, best first, each in its best form."""

    objective: str
    limits: tuple[Limit, ...]
    ranked: tuple[WideRow, ...]
    excluded: tuple[Exclusion, ...]

    @property
    def choice(self) -> WideRow | None:
        return self.ranked[0] if self.ranked else None

    @property
    def runner_up(self) -> WideRow | None:
        return self.ranked[1] if len(self.ranked) > 1 else None


def pick(
    rows: Iterable[WideRow],
    limits: Sequence[Limit] = (),
    objective: str = "top1",
    *,
    least_grade: str = "B",
) -> Pick:
    """The networks among `rows` that meet all `limits`, by `objective`, then latency, then name.

    Where a figure that this asks for has a grade worse than `least_grade`, the network isn't chosen.

    `excluded` holds the networks that rank above the choice but don't surely meet the limits, or,
    where none meets them, all networks, the nearest miss first. Raises InvalidInputError where the
    rows were made under different loads, or none tells the objective.
    """
    if metrics.find(objective).better == "neither":
        raise InvalidInputError(f'"{objective}" has no better direction, so nothing can be picked by it.')
    candidates = [row for row in rows if row.value(objective) is not None]
    if not candidates:
        raise InvalidInputError(
            f"No row tells the {metrics.find(objective).label} of a network.",
            "fill the table with: vertebra survey",
        )
    refuse_mixed_loads(candidates)
    doubts = _Doubts((objective, *(limit.metric for limit in limits)), least_grade)
    meeting = [row for row in candidates
               if all(limit.verdict(row) == "met" for limit in limits) and not doubts.of(row)]  # fmt: skip
    ranked = _best_form_of_each(meeting, objective)
    inside = {row.model for row in ranked}
    outside = [row for row in candidates if row.model not in inside]
    nearest = _nearest_form_of_each(outside, limits, doubts)
    if ranked:
        bar = _rank(ranked[0], objective)[0]
        better = [row for row in nearest if _rank(row, objective)[0] < bar]
        better.sort(key=lambda row: _rank(row, objective))
    else:
        better = sorted(nearest, key=lambda row: _distance(row, limits, doubts))
    excluded = tuple(_exclusion(row, limits, doubts) for row in better)
    return Pick(objective, tuple(limits), tuple(ranked), excluded)


def refuse_mixed_loads(rows: Sequence[WideRow]) -> None:
    """Raise InvalidInputError, naming the condition that differs, where `rows` aren't of one load."""
    for name in LOAD:
        values = {row.conditions[name] for row in rows if name in row.conditions}
        if len(values) > 1:
            told = ", ".join(sorted(map(str, values)))
            raise InvalidInputError(
                f"The rows were measured under different conditions: {name} is {told}.",
                f"choose one, for example: --{name.replace('_', '-')} {sorted(map(str, values))[0]}",
            )


def told(row: WideRow, *metric_names: str) -> str:
    """A network in words: "vgg16 on openvino (top-1 accuracy 72.0 %, latency 81.2 ms)"."""
    engine = row.conditions.get("engine")
    name = f"{row.model} on {engine}" if engine else row.model
    figures = [row.figures[metric] for metric in dict.fromkeys(metric_names) if metric in row.figures]
    parts = [f"{metrics.find(one.metric).label} {_shown(one)}" for one in figures]
    return f"{name} ({', '.join(parts)})" if parts else name


def _shown(figure: Measurement) -> str:
    return units.show(figure.value, metrics.find(figure.metric).unit)


def sentences(picked: Pick) -> list[str]:
    """The answer in words: the choice, the runner-up, and what kept the better ones out."""
    asked = (picked.objective, "latency", *(limit.metric for limit in picked.limits))
    if picked.choice is None:
        nearest = picked.excluded[0]
        return [f"No network surely meets this. The nearest: {told(nearest.row)}: {nearest.why}."]
    lines = [f"Choice: {told(picked.choice, *asked)}."]
    if picked.runner_up is not None:
        lines.append(f"Runner-up: {told(picked.runner_up, *asked)}.")
    if picked.excluded:
        better = "; ".join(f"{told(item.row)}: {item.why}" for item in picked.excluded)
        lines.append(f"Better, but excluded: {better}.")
    return lines


def _rank(row: WideRow, objective: str) -> tuple[float, float, str]:
    value = row.value(objective)
    assert value is not None
    signed = -value if metrics.find(objective).better == "higher" else value
    latency = row.value("latency")
    return signed, float("inf") if latency is None else latency, row.model


def _best_form_of_each(rows: Sequence[WideRow], objective: str) -> list[WideRow]:
    best: dict[str, WideRow] = {}
    for row in sorted(rows, key=lambda row: _rank(row, objective)):
        best.setdefault(row.model, row)
    return list(best.values())


@dataclass(frozen=True)
class _Doubts:
    """Why a candidate's figures of `asked` can't be believed."""

    asked: tuple[str, ...]
    least_grade: str

    def of(self, row: WideRow) -> tuple[str, ...]:
        figures = [row.figures[metric] for metric in dict.fromkeys(self.asked) if metric in row.figures]
        return tuple(
            f"{metrics.find(one.metric).label} is graded {one.grade}: {'; '.join(one.grade_reasons[:1])}"
            for one in figures
            if one.grade is not None and one.grade > self.least_grade
        )


def _nearest_form_of_each(rows: Sequence[WideRow], limits: Sequence[Limit], doubts: _Doubts) -> list[WideRow]:
    nearest: dict[str, WideRow] = {}
    for row in sorted(rows, key=lambda row: _distance(row, limits, doubts)):
        nearest.setdefault(row.model, row)
    return list(nearest.values())


def _distance(row: WideRow, limits: Sequence[Limit], doubts: _Doubts) -> tuple[int, float]:
    open_limits = [limit for limit in limits if limit.verdict(row) != "met"]
    return len(open_limits) + len(doubts.of(row)), max(
        (limit.miss(row) for limit in open_limits), default=1.0
    )


def _exclusion(row: WideRow, limits: Sequence[Limit], doubts: _Doubts) -> Exclusion:
    verdicts = [(limit, limit.verdict(row)) for limit in limits]
    reasons = tuple(limit.reason(row) for limit, verdict in verdicts if verdict != "met")
    near = all(verdict in ("met", "borderline") for _, verdict in verdicts)
    doubted = doubts.of(row) if near else ()  # what is clearly out of a limit needs no second reason
    return Exclusion(row, reasons + doubted, near and not doubted)
