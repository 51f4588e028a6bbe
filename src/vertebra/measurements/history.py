"""The history of one form: what was measured on each day under each version, and the steps in between.

A moment is the runs of one day under one version of the engine and its driver, pooled as for a choice.
Moments that agree make a level; a moment whose interval lies beside that of the level's runs begins a new
one, and that is a step. A moment that doesn't stand by itself, such as a single run of grade C, makes none
until another one agrees with it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vertebra.measurements import pooling, views
from vertebra.measurements import spread as spreads
from vertebra.measurements.measurement import Measurement
from vertebra.measurements.pooling import RunOfForm
from vertebra.measurements.spread import Spread


@dataclass(frozen=True)
class Moment:
    """The runs of one day under one version as one `row`, with the interval that an independent survey of the
    machine falls into with 95 %; `runs` are those that it is made of, `aside` what is said of others."""

    row: Measurement
    runs: tuple[RunOfForm, ...]
    aside: tuple[str, ...] = ()

    @property
    def day(self) -> str | None:
        return spreads.day(self.row)

    @property
    def has_interval(self) -> bool:
        return self.row.low is not None and self.row.high is not None


@dataclass(frozen=True)
class Step:
    """A change that the intervals of the runs before and after contradict. `before` and `after` are seconds,
    each with the ends of its 95 % interval; `changed` maps each library of another version to both."""

    at: Moment
    last: Moment
    before: tuple[float, float, float]
    after: tuple[float, float, float]
    changed: Mapping[str, tuple[str | None, str | None]]

    @property
    def times(self) -> float:
        """The latency after as a multiple of that before."""
        return self.after[0] / self.before[0]

    @property
    def between(self) -> tuple[float, float]:
        """The least and the most that `times` is within both intervals."""
        return self.after[1] / self.before[2], self.after[2] / self.before[1]


@dataclass(frozen=True)
class History:
    """The moments of one form, oldest first; its steps; and the moments that contradict the others but don't
    stand by themselves, so that they begin no level."""

    moments: tuple[Moment, ...]
    steps: tuple[Step, ...]
    doubted: tuple[Moment, ...] = ()


def history(runs: Sequence[RunOfForm], machine: Spread) -> History:
    """The history of one form by its `runs` (`pooling.forms`), on a machine with that spread.

    Runs without a date have no place in it and are left out.
    """
    groups: dict[Hashable, list[RunOfForm]] = defaultdict(list)
    for run in runs:
        if run[0].measured_at is not None:
            groups[spreads.day(run[0]), pooling.version(run[0])].append(run)
    moments = sorted(
        (_moment(one, machine) for one in groups.values()), key=lambda one: views.moment_of(one.row)
    )
    levels, doubted = _levels(moments, machine)
    steps = [_step(before, after, machine) for before, after in pairwise(levels)]
    return History(tuple(moments), tuple(steps), tuple(doubted))


def _moment(runs: Sequence[RunOfForm], machine: Spread) -> Moment:
    found = pooling.of_one(runs, machine)
    out = {id(row) for one in found.aside for row in one.rows}
    kept = tuple(run for run in runs if id(run[0]) not in out)
    return Moment(found.rows[0], kept, tuple(one.why for one in found.aside))


def _levels(moments: Sequence[Moment], machine: Spread) -> tuple[list[list[Moment]], list[Moment]]:
    """The moments of each level, and those that no level has."""
    levels: list[list[Moment]] = []
    pending: list[Moment] = []
    doubted: list[Moment] = []
    for one in moments:
        if not levels or _agree(_bounds(levels[-1], machine), one):
            levels[-1:] = [[*levels[-1], one]] if levels else [[one]]
            doubted += pending
            pending = []
            continue
        agreeing = [other for other in pending if _agree(_bounds([other], machine), one)]
        if not agreeing and not pooling.stands(one.row):
            pending.append(one)
            continue
        if not _stands(levels[-1]):
            doubted += levels.pop()
        levels.append([*agreeing, one])
        doubted += [other for other in pending if other not in agreeing]
        pending = []
    return levels, [*doubted, *pending]


def _stands(level: Sequence[Moment]) -> bool:
    """Whether a level counts against another: by one of its moments, or by two of different days."""
    return any(pooling.stands(one.row) for one in level) or len({one.day for one in level}) > 1


def _agree(level: tuple[float, float, float], one: Moment) -> bool:
    """Whether a moment contradicts nothing: one without an interval can't."""
    if one.row.low is None or one.row.high is None:
        return True
    return one.row.low <= level[2] and level[1] <= one.row.high


def _bounds(level: Sequence[Moment], machine: Spread) -> tuple[float, float, float]:
    """The latency of a level's runs together, and the ends of its interval."""
    if len(level) == 1 and level[0].row.low is not None and level[0].row.high is not None:
        row = level[0].row
        return row.value, level[0].row.low, level[0].row.high
    known = [one for one in level if one.has_interval] or level
    found = spreads.level([run for one in known for run in one.runs], machine)
    low, high = found.bounds(machine)
    return math.exp(found.log), low, high


def _step(before: Sequence[Moment], after: Sequence[Moment], machine: Spread) -> Step:
    last, first = before[-1].row.versions, after[0].row.versions
    changed = {
        name: (last.get(name), first.get(name)) for name in sorted({*last, *first})
        if last.get(name) != first.get(name)
    }  # fmt: skip
    return Step(after[0], before[-1], _bounds(before, machine), _bounds(after, machine), changed)
