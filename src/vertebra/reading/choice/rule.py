"""READ: which network, under these limits? The choice, the runner-up, and why the better ones are excluded.

Candidates are wide rows: a network together with one way of running it. They are compared only
where the load is the same (machine, batch size, scenario); engine, precision and threads are part
of the choice. A limit is met when the slow end of the interval meets it; a candidate is borderline if a
limit lies within its interval, and is named but not chosen. The interval alone decides: a grade is advice,
and settles a tie. It excludes only where the caller asks for a grade, or where a figure of grade C has no
interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from vertebra import metrics, units
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, WideRow, display

#: What must be equal before two candidates may be compared.
LOAD = ("system", "device", "batch_size", "scenario", "streams", "arrival_rate", "beside")

#: Name of a limit -> the metric that it bounds.
LIMITS = {
    "latency": "latency",
    "fps": "fps",
    "memory": "memory_total",
    "size": "weight_bytes",
    "params": "params",
    "macs": "macs",
    "operations": "operations",
    "top1": "top1",
    "top5": "top5",
    "probe": "probe_top1",
}

_NAMES = ("model", "engine", "grade")

Verdict = Literal["met", "borderline", "broken", "unknown"]
#: Why the measuring for an answer ended; see `Pick`.
Ending = Literal["settled", "budget", "interrupted", "too few"]


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
        return f"{metric.label} {'≤' if self.is_ceiling else '≥'} {units.show_bound(self.bound, metric.unit)}"

    def verdict(self, row: WideRow) -> Verdict:
        """Whether `row` meets this limit, by the whole of its interval."""
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
        """How many times over the limit `row` is; 1 or less if it meets it, infinite if unknown."""
        value = row.value(self.metric)
        if value is None:
            return float("inf")
        over, under = (value, self.bound) if self.is_ceiling else (self.bound, value)
        return over / under if under > 0 else float("inf")

    def margin(self, row: WideRow) -> str:
        """How far `row` meets this limit: "5.3 times" what is asked for, "65 % of it" where less is better,
        or by how many points; nothing where the limit is 0."""
        value = row.figures[self.metric].value
        if metrics.find(self.metric).unit == "fraction":
            return f"{100 * abs(value - self.bound):.3g} points"
        if self.bound <= 0:
            return ""
        share = value / self.bound
        return f"{100 * share:.0f} % of it" if self.is_ceiling else f"{share:.3g} times"

    def reason(self, row: WideRow) -> str:
        """Why `row` doesn't certainly meet this limit, in words."""
        metric = metrics.find(self.metric)
        figure = row.figures.get(self.metric)
        if figure is None:
            return f"{metric.label} is not known"
        shown = display.mark(figure) + units.show(figure.value, metric.unit)
        if figure.low is not None and figure.high is not None:
            shown += f" ({units.show(figure.low, metric.unit)} to {units.show(figure.high, metric.unit)})"
        return f"{metric.label} {shown}, limit {units.show(self.bound, metric.unit)}"

    def needed(self, row: WideRow) -> float | None:
        """The bound that `row` would certainly meet, rounded away from it to three digits; None if its figure
        isn't known."""
        figure = row.figures.get(self.metric)
        if figure is None:
            return None
        end = figure.high if self.is_ceiling else figure.low
        return _rounded(figure.value if end is None else end, upwards=self.is_ceiling)


def _rounded(value: float, *, upwards: bool) -> float:
    """`value` in three digits, so that the bound as printed can be typed and is met by `value`."""
    if value <= 0:
        return value
    exponent = math.floor(math.log10(value)) - 2
    digits = value / 10.0**exponent
    nearest = float(f"{round(digits)}e{exponent}")
    if nearest == value:
        return nearest
    return float(f"{math.ceil(digits) if upwards else math.floor(digits)}e{exponent}")


@dataclass(frozen=True)
class Demand:
    """A property that a network must have: its `name` (licence, family, input size), as `value_of` gives it,
    is one of `wanted`, or one of those that a word in `wanted` stands for in `groups`."""

    name: str
    wanted: tuple[str, ...]
    value_of: Callable[[WideRow], str | None]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {' or '.join(self.wanted)}"

    def holds(self, row: WideRow) -> bool:
        """Whether `row` has one of the wanted values; an unknown value is not wanted."""
        return self.takes(self.value_of(row))

    def takes(self, value: str | None) -> bool:
        """Whether the value is wanted."""
        return value in self.wanted or any(value in self.groups.get(word, ()) for word in self.wanted)

    def reason(self, row: WideRow) -> str:
        """Why `row` isn't wanted, in words."""
        value = self.value_of(row)
        return (
            f"{self.name} is not known"
            if value is None
            else f"{self.name} {value}, wanted: {' or '.join(self.wanted)}"
        )


@dataclass(frozen=True)
class Exclusion:
    """A network that would have been better, and why it is excluded (its nearest form): what is `unmet`, and
    the `doubts` of its figures."""

    row: WideRow
    unmet: tuple[Limit | Demand, ...]
    doubts: tuple[str, ...]
    borderline: bool

    @property
    def unwanted(self) -> tuple[Demand, ...]:
        """The demands that it doesn't meet."""
        return tuple(one for one in self.unmet if isinstance(one, Demand))

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why it is excluded, in words; there are hundreds, of which few are printed."""
        return (*(one.reason(self.row) for one in self.unmet), *self.doubts)

    @property
    def why(self) -> str:
        """The reasons in one line."""
        return ("borderline: " if self.borderline else "") + "; ".join(self.reasons)


@dataclass(frozen=True)
class Relaxation:
    """What relaxing one limit alone would buy: with its bound at `to`, or with `to` wanted too, `row` would
    be the choice. `gain` is its objective minus that of the current choice, None if there is no choice."""

    limit: Limit | Demand
    to: float | str
    row: WideRow
    gain: float | None


@dataclass(frozen=True)
class Outlook:
    """What measuring could still change. `contenders` are the forms with estimates that have at least one
    chance in twenty to change the answer, the most promising first; `unpriced` is the number of networks that
    can't be compared, because too few others were measured here."""

    contenders: tuple[WideRow, ...] = ()
    unpriced: int = 0

    @property
    def networks(self) -> int:
        """The number of networks among the contenders."""
        return len({row.model for row in self.contenders})


@dataclass(frozen=True, repr=False)
class Pick(display.Shown):
    """The answer: networks that meet every limit, best first, each in its best form. `relaxations` holds for
    each limit that keeps a better one out the smallest step that helps, and the one that helps most; `notes`
    what else must be said with the answer.

    Where networks were measured for the answer, `measured` names them ("vgg16 on openvino"), and `ended` says
    why no more were: "settled" where each estimate that is left has less than one chance in twenty to change
    it, "budget", "interrupted", or "too few" where there was time, and too few measurements succeeded to
    estimate the other networks.

    `licence` is that of the choice's published weights, None if it isn't stated or the weights are one's own;
    `terms` says what it allows ("free", "non-commercial", "own terms", "not stated"), and `free` is the best
    network with free weights where the choice's are not. `outlook` says what measuring could still change;
    it is None where only the table's networks are candidates. `gains` holds what other precisions would buy
    (`precisions.Gain`). `meeting` are all forms that meet the limits; `systems` the machines that were
    compared, where several were; `ladder` is what one more point costs (`ladder.Ladder`)."""

    objective: str
    limits: tuple[Limit, ...]
    ranked: tuple[WideRow, ...]
    excluded: tuple[Exclusion, ...]
    demands: tuple[Demand, ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    notes: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    ended: Ending | None = None
    licence: str | None = None
    terms: Literal["free", "non-commercial", "own terms", "not stated"] | None = None
    free: WideRow | None = None
    outlook: Outlook | None = None
    gains: tuple[Any, ...] = ()
    meeting: tuple[WideRow, ...] = ()
    systems: tuple[str, ...] = ()
    ladder: Any = None

    def summary(self) -> str:
        """The choice and its figures, or that there is none."""
        limits = ", ".join(map(str, (*self.limits, *self.demands))) or "no limit"
        if self.choice is None:
            return f"no network surely meets {limits}"
        line = display.glance(self.choice)
        figures = ", ".join(f"{name} {value}" for name, value in line.items() if name not in _NAMES and value)
        meet = "1 network meets" if len(self.ranked) == 1 else f"{len(self.ranked)} networks meet"
        where = f" on {line['engine']}" if line["engine"] else ""
        where += f" on {self.choice.conditions.get('system')}" if self.systems else ""
        return f"{self.choice.model}{where}: {figures} ({meet} {limits})"

    def tables(self) -> Iterable[list[display.Line]]:
        """The networks that meet the limits, then those that would be better."""
        yield [display.glance(row) for row in self.ranked]
        yield [{"better, but excluded": one.row.model, "why": one.why} for one in self.excluded]

    @property
    def choice(self) -> WideRow | None:
        return self.ranked[0] if self.ranked else None

    @property
    def runner_up(self) -> WideRow | None:
        return self.ranked[1] if len(self.ranked) > 1 else None

    @cached_property
    def against(self) -> str:
        """The other metric of the front: the one with the first upper limit, else the latency."""
        ceilings = [limit.metric for limit in self.limits if limit.is_ceiling]
        return next((metric for metric in ceilings if metric != self.objective), "latency")

    @cached_property
    def front(self) -> tuple[WideRow, ...]:
        """The rows of `ranked` that no other beats both in the objective and in `against`, the best first."""
        kept: list[WideRow] = []
        for row in self.ranked:
            value = row.value(self.against)
            if value is not None and (not kept or value < kept[-1].figures[self.against].value):
                kept.append(row)
        return tuple(kept)


def bounds(limits: Mapping[str, str | float]) -> list[Limit]:
    """Limits by name (`LIMITS`): text is read with its unit, a number is in base units."""
    found = []
    for name, bound in limits.items():
        if name not in LIMITS:
            raise InvalidInputError(f'There is no limit "{name}".', _MEANT.get(name, _KNOWN))
        metric = metrics.find(LIMITS[name])
        try:
            value = units.parse(bound, metric.unit) if isinstance(bound, str) else _number(bound, metric)
            _check_bound(value, metric)
        except InvalidInputError as error:
            raise InvalidInputError(f"The limit {name}: {error.message}", error.hint) from None
        found.append(Limit(metric.name, value))
    return found


_KNOWN = f"limits: {', '.join(LIMITS)}"
#: Options whose arguments have another name.
_MEANT = {
    "by": 'the argument is objective="latency"; ' + _KNOWN,
    "top": "slice the result's ranking; " + _KNOWN,
}


def _number(bound: Any, metric: metrics.Metric) -> float:
    """A bound that was given as a number, in base units."""
    try:
        value = math.nan if isinstance(bound, bool) else float(bound)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInputError(
            f"{bound!r} can't be a limit.", f"give a finite number in {metric.unit}, or text with a unit"
        )
    if metric.unit == "fraction" and 1 < value <= 100:
        raise InvalidInputError(
            f"{value:g} is {100 * value:g} %: did you mean {value / 100:g} or '{value:g}%'?",
            "a fraction is at most 1",
        )
    return value


def _check_bound(value: float, metric: metrics.Metric) -> None:
    """Raise InvalidInputError for a bound that the metric can't lie on the right side of, or always does."""
    if value <= 0 and (value < 0 or metric.unit != "fraction"):
        raise InvalidInputError(
            f"{units.show(value, metric.unit)} can't be a limit of {metric.label}.", "give a number above 0"
        )
    if metric.unit == "fraction" and value > 1:
        raise InvalidInputError(f"{100 * value:g} % is more than 100 %.", "a fraction is at most 1")


def pick(
    rows: Iterable[WideRow],
    limits: Sequence[Limit] = (),
    objective: str = "top1",
    *,
    demands: Sequence[Demand] = (),
    least_grade: str | None = None,
    varying: Sequence[str] = (),
) -> Pick:
    """The networks among `rows` that meet `limits` and `demands`, by `objective`, then latency, grade, name.

    Conditions of the load that are `varying` may differ between candidates: the best form decides them too.
    With `least_grade`, a network isn't chosen if a figure that this depends on has a worse one.

    `excluded` holds the networks that rank above the choice but don't certainly meet the limits, or,
    if none meets them, all networks, the nearest miss first. Raises InvalidInputError if the rows were
    measured under different loads, or none has the objective.
    """
    if metrics.find(objective).better == "neither":
        raise InvalidInputError(f'"{objective}" has no better direction, so networks can\'t be picked by it.')
    candidates = [row for row in rows if row.value(objective) is not None]
    if not candidates:
        raise InvalidInputError(
            f"No network has a figure of {metrics.find(objective).label}.",
            "fill the table with: vertebra survey (only published accuracies: vertebra cite)",
        )
    refuse_mixed_loads(candidates, varying)
    asked = _Asked(objective, tuple(limits), tuple(demands), least_grade)
    open_to = {id(row): asked.unmet(row) for row in candidates}  # asked once for each: there are thousands
    meeting = [row for row in candidates if not open_to[id(row)] and not asked.doubts(row)]
    ranked = _best_form_of_each(meeting, objective)
    inside = {row.model for row in ranked}
    outside = [row for row in candidates if row.model not in inside]
    outside.sort(key=lambda row: asked.distance(row, open_to[id(row)]))
    nearest = _first_of_each(outside)
    if ranked:
        bar = _rank(ranked[0], objective)[0]
        nearest = [row for row in nearest if _rank(row, objective)[0] < bar]
        nearest.sort(key=lambda row: _rank(row, objective))
    one_short = [
        (open_to[id(row)][0], row) for row in candidates
        if len(open_to[id(row)]) == 1 and not asked.doubts(row)
    ]  # fmt: skip
    excluded = tuple(asked.exclusion(row, open_to[id(row)]) for row in nearest)
    relaxations = _relaxations(one_short, asked, ranked[0] if ranked else None)
    return Pick(
        objective, asked.limits, tuple(ranked), excluded, asked.demands, relaxations, meeting=tuple(meeting)
    )


def doubts(
    row: WideRow, limits: Sequence[Limit], objective: str, *, least_grade: str | None = None
) -> tuple[str, ...]:
    """Why the figures of `row` that an answer depends on can't be believed; none where they can."""
    return _Asked(objective, tuple(limits), (), least_grade).doubts(row)


def refuse_mixed_loads(rows: Sequence[WideRow], varying: Sequence[str] = ()) -> None:
    """Raise InvalidInputError, naming the condition that differs besides `varying`, if `rows` aren't of one
    load."""
    for name in (name for name in LOAD if name not in varying):
        values = {row.conditions[name] for row in rows if name in row.conditions}
        if name == "beside" and values:  # it isn't stated where nothing ran beside
            values |= {0 for row in rows if row.conditions and name not in row.conditions}
        if len(values) > 1:
            found = ", ".join(sorted(map(str, values)))
            raise InvalidInputError(
                f"The rows were measured under different conditions: {name} is {found}.",
                f"choose one, for example: --{name.replace('_', '-')} {sorted(map(str, values))[0]}",
            )


def fallen(before: WideRow | None, rows: Iterable[WideRow], after: Pick) -> str | None:
    """Why the sure answer is worse than it was, in words; None where it isn't.

    `before` was the choice by measured figures alone, `rows` are what is known now, and `after` is the choice
    from them. Who measures for an answer says this first.
    """
    if before is None:
        return None
    sure = next((row for row in after.ranked if is_sure(row, after)), None)
    if sure is not None and _rank(sure, after.objective)[0] <= _rank(before, after.objective)[0]:
        return None
    named = described(before, after.objective)
    now = "no network surely meets the limits" if sure is None else f"now {described(sure, after.objective)}"
    same = [row for row in rows if row.model == before.model and row.conditions == before.conditions]
    asked = _Asked(after.objective, after.limits, after.demands, None)
    why = "; ".join(asked.exclusion(row, asked.unmet(row)).why for row in same) or "its rows were set aside"
    return (
        f"The sure answer is worse than before measuring: it was {named}, {now}. Why: {before.model}: {why}."
    )


def is_sure(row: WideRow, picked: Pick) -> bool:
    """Whether no figure that the answer depends on is an estimate."""
    asked = (picked.objective, *(limit.metric for limit in picked.limits))
    return all(row.figures[name].origin != "estimated" for name in asked if name in row.figures)


def described(row: WideRow, *metric_names: str) -> str:
    """A network in words: "vgg16 on openvino (top-1 accuracy 72.0 %, latency ~81.2 ms (70.0 to 93.0 ms))"."""
    engine = row.conditions.get("engine")
    name = f"{row.model} on {engine}" if engine else row.model
    figures = [row.figures[metric] for metric in dict.fromkeys(metric_names) if metric in row.figures]
    parts = [f"{metrics.find(one.metric).label} {display.quantity(one)}" for one in figures]
    return f"{name} ({', '.join(parts)})" if parts else name


def sentences(picked: Pick) -> list[str]:
    """The answer in words: the choice, the runner-up, and why the better ones are excluded."""
    asked = (picked.objective, "latency", *(limit.metric for limit in picked.limits))
    if picked.choice is None:
        nearest = picked.excluded[0]
        return [f"No network certainly meets this. The nearest: {described(nearest.row)}: {nearest.why}."]
    lines = [f"Choice: {described(picked.choice, *asked)}."]
    if picked.runner_up is not None:
        lines.append(f"Runner-up: {described(picked.runner_up, *asked)}.")
    if picked.excluded:
        better = "; ".join(f"{described(item.row)}: {item.why}" for item in picked.excluded)
        lines.append(f"Better, but excluded: {better}.")
    return lines


def doubt(figure: Measurement, least_grade: str | None = None) -> str | None:
    """Why `figure` can't decide a limit, in words; None where it can. Without a `least_grade` any grade can
    whose figure has an interval: the interval says how wrong it may be."""
    if figure.grade is None:
        return None
    if least_grade is None:
        doubted = figure.grade == "C" and (figure.low is None or figure.high is None)
    else:
        doubted = figure.grade > least_grade
    label = metrics.find(figure.metric).label
    return f"{label} is graded {figure.grade}: {'; '.join(figure.grade_reasons[:1])}" if doubted else None


def _rank(row: WideRow, objective: str) -> tuple[float, float, str, str]:
    value = row.value(objective)
    assert value is not None
    signed = -value if metrics.find(objective).better == "higher" else value
    latency = row.figures.get("latency")
    if latency is None:
        return signed, math.inf, "", row.model
    return signed, latency.value, latency.grade or "", row.model


def _best_form_of_each(rows: Sequence[WideRow], objective: str) -> list[WideRow]:
    return _first_of_each(sorted(rows, key=lambda row: _rank(row, objective)))


def _first_of_each(rows: Iterable[WideRow]) -> list[WideRow]:
    first: dict[str, WideRow] = {}
    for row in rows:
        first.setdefault(row.model, row)
    return list(first.values())


@dataclass(frozen=True)
class _Asked:
    """Everything that a candidate must meet."""

    objective: str
    limits: tuple[Limit, ...]
    demands: tuple[Demand, ...]
    least_grade: str | None

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Those that the answer depends on."""
        return tuple(dict.fromkeys((self.objective, *(limit.metric for limit in self.limits))))

    def unmet(self, row: WideRow) -> list[Limit | Demand]:
        """What `row` doesn't certainly meet."""
        unwanted = [demand for demand in self.demands if not demand.holds(row)]
        return [*unwanted, *(limit for limit in self.limits if limit.verdict(row) != "met")]

    def doubts(self, row: WideRow) -> tuple[str, ...]:
        """Why the figures that the answer depends on can't be believed."""
        figures = [row.figures[metric] for metric in self.metrics if metric in row.figures]
        return tuple(why for one in figures if (why := doubt(one, self.least_grade)) is not None)

    def distance(self, row: WideRow, unmet: Sequence[Limit | Demand]) -> tuple[int, int, float]:
        """How many demands `row` doesn't meet, how many limits and doubts exclude it, and by how much it
        misses the worst limit."""
        limits = [one for one in unmet if isinstance(one, Limit)]
        miss = max((one.miss(row) for one in limits), default=1.0)
        return len(unmet) - len(limits), len(limits) + len(self.doubts(row)), miss

    def exclusion(self, row: WideRow, unmet: Sequence[Limit | Demand]) -> Exclusion:
        near = all(isinstance(one, Limit) and one.verdict(row) == "borderline" for one in unmet)
        doubted = self.doubts(row) if near else ()  # what clearly breaks a limit needs no second reason
        return Exclusion(row, tuple(unmet), doubted, near and not doubted)


def _relaxations(
    one_short: Sequence[tuple[Limit | Demand, WideRow]], asked: _Asked, choice: WideRow | None
) -> tuple[Relaxation, ...]:
    """For each limit the smallest step that helps, and the one that helps most. `one_short` are the
    candidates that only one limit excludes, with that limit."""
    objective = asked.objective
    bar = math.inf if choice is None else _rank(choice, objective)[0]
    better = [(one, row) for one, row in one_short if _rank(row, objective)[0] < bar]
    found = []
    every: tuple[Limit | Demand, ...] = (*asked.limits, *asked.demands)
    for limit in every:
        rows = sorted((row for one, row in better if one is limit), key=lambda row: _rank(row, objective))
        steps = [(to, row) for row in rows if (to := _needed(limit, row)) is not None]
        for to, row in _helpful_steps(limit, steps):
            gain = None if choice is None else row.figures[objective].value - choice.figures[objective].value
            found.append(Relaxation(limit, to, row, gain))
    return tuple(found)


def _needed(limit: Limit | Demand, row: WideRow) -> float | str | None:
    return limit.needed(row) if isinstance(limit, Limit) else limit.value_of(row)


def _helpful_steps(
    limit: Limit | Demand, steps: Sequence[tuple[float | str, WideRow]]
) -> list[tuple[float | str, WideRow]]:
    """The step to the nearest bound (with the best row that it admits) and the step to the best row, from
    `steps`, best rows first."""
    if not steps or isinstance(limit, Demand):
        return list(steps[:1])
    sign = 1 if limit.is_ceiling else -1
    least = min((to for to, _ in steps), key=lambda to: sign * float(to))
    nearest = next(step for step in steps if step[0] == least)
    return [nearest] if nearest is steps[0] else [nearest, steps[0]]
