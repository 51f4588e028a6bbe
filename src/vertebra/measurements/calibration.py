"""Whether intervals hold: of repeated runs of a form, does the interval of one hold another one's value?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from vertebra.measurements import pooling, statistics, views
from vertebra.measurements import spread as spreads
from vertebra.measurements.measurement import Measurement
from vertebra.measurements.spread import Seen, Spread

#: Runs that began within this many seconds of each other are of one time.
ONE_TIME_S = 15 * 60.0

Run = tuple[Measurement, Seen]


@dataclass(frozen=True)
class Coverage:
    """Of `pairs` ordered pairs of runs of one form, in how many the interval of the one holds the other's
    value: its `own` interval, and the one that an independent survey falls into (`survey`). The half-widths
    are medians, relative to the value; None where there are no pairs."""

    pairs: int
    own: int
    survey: int
    own_half_width: float | None
    half_width: float | None


@dataclass(frozen=True)
class Split:
    """Where the spread of repeated runs comes from, as standard deviations relative to the value: from the
    `samples` inside a process, from one run to the next within a time (`processes`), and from one time to
    another (`times`). None where too few runs tell."""

    samples: float | None
    processes: float | None
    times: float | None


@dataclass(frozen=True)
class Calibration:
    """The coverage of a table's intervals: of runs that nothing disturbed, by how many processes they had; of
    disturbed runs, whether they hold the values of quiet ones; and the split of the spread. `forms` counts
    those with several runs."""

    forms: int
    quiet: Mapping[int, Coverage]
    disturbed: Coverage
    split: Split


def examine(rows: Iterable[Measurement], seen: Mapping[str, Seen], *, learn: bool = True) -> Calibration:
    """How well the intervals of a table's repeated runs hold. Each is made without the runs of its own form;
    with `learn`, from the repeats of the other forms on its machine."""
    forms = repeated(rows, seen)
    judged = [(runs, _learnt(forms, place) if learn else Spread()) for place, runs in enumerate(forms)]
    quiet = [
        ([run for run in runs if not spreads.slowed(run[1])], learnt) for runs, learnt in judged
    ]  # fmt: skip
    counts = sorted({one.processes for runs, _ in quiet for _, one in runs})
    by_count = {count: _coverage(_pairs(_of(quiet, count))) for count in counts}
    split = split_of([runs for runs, _ in quiet])
    kept = {count: one for count, one in by_count.items() if one.pairs}
    disturbed = [
        pair for pair in _pairs(judged) if spreads.slowed(pair[0][1]) and not spreads.slowed(pair[1][1])
    ]  # fmt: skip
    return Calibration(len(forms), kept, _coverage(disturbed), split)


def repeated(rows: Iterable[Measurement], seen: Mapping[str, Seen]) -> list[list[Run]]:
    """The runs of each form under equal versions, of those that have several; the oldest first."""
    forms: dict[Hashable, list[Run]] = defaultdict(list)
    rows = list(rows)
    seen = spreads.compared(rows, seen)
    for row in rows:
        if pooling.is_pooled(row):
            blocks = seen.get(row.run or "")
            key = views.identity(row), pooling.version(row)
            forms[key].append((row, spreads.seen_in(row) if blocks is None else blocks))
    return [sorted(runs, key=lambda run: views.moment_of(run[0])) for runs in forms.values() if len(runs) > 1]


def _learnt(forms: Sequence[Sequence[Run]], left_out: int) -> Spread:
    system = forms[left_out][0][0].system
    others = [
        pooling.undisturbed(runs) for place, runs in enumerate(forms)
        if place != left_out and runs[0][0].system == system
    ]  # fmt: skip
    return spreads.learn(others)


_Judged = Sequence[tuple[Sequence[Run], Spread]]


def _of(judged: _Judged, processes: int) -> _Judged:
    return [([run for run in runs if run[1].processes == processes], learnt) for runs, learnt in judged]


def _pairs(judged: _Judged) -> list[tuple[Run, Run, Spread]]:
    return [(one, other, learnt) for runs, learnt in judged for one, other in permutations(runs, 2)]


def _coverage(pairs: Sequence[tuple[Run, Run, Spread]]) -> Coverage:
    own, survey, own_halves, halves = 0, 0, list[float](), list[float]()
    for (row, blocks), (other, _), learnt in pairs:
        low, high = spreads.survey_interval(row, blocks, learnt)
        survey += low <= other.value <= high
        halves.append((high - low) / 2 / row.value)
        if row.low is not None and row.high is not None:
            own += row.low <= other.value <= row.high
            own_halves.append((row.high - row.low) / 2 / row.value)
    middles = [statistics.median(every) if every else None for every in (own_halves, halves)]
    return Coverage(len(pairs), own, survey, *middles)


def split_of(forms: Iterable[Sequence[Run]]) -> Split:
    """The spread's parts, by the analysis of variance of nested groups."""
    forms = [runs for runs in forms if len(runs) > 1]
    own = [spreads.own_deviation(row) ** 2 for runs in forms for row, _ in runs]
    within, between = _Sum(), _Sum()
    for runs in forms:
        groups = [[math.log(row.value) for row, _ in group] for group in times(runs)]
        for group in groups:
            within.add(group)
        means = [math.fsum(group) / len(group) for group in groups]
        shared = [1 / len(group) for group in groups]
        between.add(means, math.fsum(shared) / len(shared))
    single = within.variance()
    samples = math.fsum(own) / len(own) if own else None
    process = None if single is None else max(0.0, single - (samples or 0.0))
    apart = between.variance()
    time = None if apart is None else max(0.0, apart - (single or 0.0) * between.share())
    return Split(*(None if one is None else math.sqrt(one) for one in (samples, process, time)))


class _Sum:
    """A pooled variance: squares about each group's own mean, and their degrees of freedom."""

    def __init__(self) -> None:
        self._squares, self._freedom, self._shares = 0.0, 0, 0.0

    def add(self, values: Sequence[float], share: float = 1.0) -> None:
        mean = math.fsum(values) / len(values)
        self._squares += math.fsum((value - mean) ** 2 for value in values)
        self._freedom += len(values) - 1
        self._shares += share * (len(values) - 1)

    def variance(self) -> float | None:
        return self._squares / self._freedom if self._freedom else None

    def share(self) -> float:
        return self._shares / self._freedom


def times(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """The runs of each time, oldest first: a new one begins where none ran for `ONE_TIME_S`."""
    group: list[Run] = []
    for run in runs:
        if group and views.moment_of(run[0]) - views.moment_of(group[-1][0]) > ONE_TIME_S:
            yield group
            group = []
        group.append(run)
    if group:
        yield group
