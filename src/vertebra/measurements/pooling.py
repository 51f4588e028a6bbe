"""Repeated runs of one form made one row: pooled where they agree, set aside where the others contradict.

Of several versions of an engine the newest counts. A run counts by its day and its grade, so that one that
was measured while something went wrong changes nothing until an independent one agrees with it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from vertebra import units
from vertebra.measurements import spread as spreads
from vertebra.measurements import views
from vertebra.measurements.measurement import Measurement
from vertebra.measurements.possible import trouble
from vertebra.measurements.spread import Seen, Spread

#: Two runs contradict each other if they are further apart than this many standard deviations, and than this
#: factor: what is nearer is pooled, and widens the interval.
_CONTRADICTION, _LEAST_FACTOR = 5.0, 1.3
#: What a day's best run of a grade counts; a run of grade B stands by itself, one of grade C doesn't.
_WEIGHTS = {"A": 3, "B": 2, "C": 1, None: 2}
_STANDS = 2
#: Days that are looked at: a machine that changed isn't measured against all of its past.
_DAYS = 5
#: Versions that aren't of an engine or its driver.
_OF_THE_HARNESS = frozenset({"python", "numpy", "vertebra"})

#: How the reason begins that says of how many runs a row is made.
_NOTE = "pooled from "
_DAYS_POOLED = re.compile(_NOTE + r"\d+ runs of (\d+) days")

#: A row of one form, and what its run's blocks say.
RunOfForm = tuple[Measurement, Seen]


@dataclass(frozen=True)
class Aside:
    """Rows of one form that the others contradict, and what is said of them."""

    rows: tuple[Measurement, ...]
    why: str


@dataclass(frozen=True)
class Pooled:
    """One row for each form and figure, in the order of their first rows, and what was set aside."""

    rows: tuple[Measurement, ...]
    aside: tuple[Aside, ...] = ()


def is_pooled(row: Measurement) -> bool:
    """Whether a row is of a metric whose runs are pooled."""
    return row.metric == spreads.METRIC and row.origin == "benched" and trouble(row) is None


def stands(row: Measurement) -> bool:
    """Whether a row counts against others that contradict it: by its grade, or by runs of several days."""
    days = [found for reason in row.grade_reasons if (found := _DAYS_POOLED.match(reason))]
    return _WEIGHTS[row.grade] >= _STANDS or any(int(one[1]) >= _STANDS for one in days)


def pool(rows: Iterable[Measurement], seen: Mapping[str, Seen] | None = None) -> Pooled:
    """`rows`, oldest first, with the measured latencies of each form pooled into one.

    Each such row then has the interval that an independent survey of its machine falls into with 95 %. `seen`
    are the runs' blocks; without them the rows' grades tell. Other rows stay as they are.
    """
    every = list(rows)
    groups = forms(every, seen)
    learnt = learnt_from(groups.values())
    asides: list[Aside] = []
    found = {key: _one(runs, learnt[runs[0][0].system], asides) for key, runs in groups.items()}
    kept = []
    for row in every:
        if not is_pooled(row):
            kept.append(row)
        elif (one := found.pop(views.identity(row), None)) is not None:
            kept.append(one)
    return Pooled(tuple(kept), tuple(asides))


def forms(
    rows: Iterable[Measurement], seen: Mapping[str, Seen] | None = None
) -> dict[Hashable, list[RunOfForm]]:
    """The rows that are pooled, by their form (`views.identity`), each with what its blocks say."""
    every = list(rows)
    seen = spreads.compared(every, seen or {})
    groups: dict[Hashable, list[RunOfForm]] = defaultdict(list)
    for row in every:
        if is_pooled(row):
            blocks = seen.get(row.run or "")
            groups[views.identity(row)].append((row, spreads.seen_in(row) if blocks is None else blocks))
    return groups


def of_one(runs: Sequence[RunOfForm], machine: Spread) -> Pooled:
    """One row of the runs of one form, on a machine with that spread."""
    asides: list[Aside] = []
    return Pooled((_one(runs, machine, asides),), tuple(asides))


def undisturbed(runs: Sequence[RunOfForm]) -> list[RunOfForm]:
    """Of runs of one form under one version those that nothing disturbed, without those set aside."""
    quiet = [run for run in runs if not spreads.slowed(run[1])]
    return _counted(_clusters(quiet, Spread())) if len(quiet) > 1 else quiet


def learnt_from(groups: Iterable[Sequence[RunOfForm]]) -> dict[str | None, Spread]:
    """The spread of each machine, by its own repeats."""
    by_system: dict[str | None, list[list[RunOfForm]]] = defaultdict(list)
    for runs in groups:
        versions: dict[Hashable, list[RunOfForm]] = defaultdict(list)
        for run in runs:
            versions[version(run[0])].append(run)
        by_system[runs[0][0].system] += [undisturbed(one) for one in versions.values()]
    return {system: spreads.learn(several) for system, several in by_system.items()}


# ------------------------------------------------------------------ one form


def _one(runs: Sequence[RunOfForm], machine: Spread, asides: list[Aside]) -> Measurement:
    """The row of one form. What is set aside is added to `asides`."""
    versions: dict[Hashable, list[RunOfForm]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: views.moment_of(run[0])):
        versions[version(run[0])].append(run)
    newest_first = sorted(versions.values(), key=lambda one: views.moment_of(one[-1][0]), reverse=True)
    settled = [_clusters(one, machine) for one in newest_first]
    for place, clusters in enumerate(settled):
        chosen = _counted(clusters)
        if _weight(chosen) < _STANDS and (other := _contradicting(chosen, settled[place + 1 :], machine)):
            asides.append(_aside(chosen, other))
            continue
        tied = [one for one in clusters if one is not chosen and _is_tied(one, chosen)]
        rest = [one for one in clusters if one is not chosen and not _is_tied(one, chosen)]
        asides += [_aside(one, chosen) for one in rest]
        return _row(chosen, tied, machine)
    raise AssertionError("the oldest version is contradicted by none")


def version(row: Measurement) -> tuple[tuple[str, str], ...]:
    """The versions of a row's engine and its driver."""
    return tuple(sorted((name, one) for name, one in row.versions.items() if name not in _OF_THE_HARNESS))


def _clusters(runs: Sequence[RunOfForm], spread: Spread) -> list[list[RunOfForm]]:
    """Runs that agree, from the fastest to the slowest; in each the oldest first."""
    ordered = sorted(runs, key=lambda run: run[0].value)
    clusters = [[run] for run in ordered[:1]]
    for before, run in pairwise(ordered):
        if _agree(before, run, spread):
            clusters[-1].append(run)
        else:
            clusters.append([run])
    for one in clusters:
        one.sort(key=lambda run: views.moment_of(run[0]))
    return clusters


def _agree(one: RunOfForm, other: RunOfForm, spread: Spread) -> bool:
    variance = 2 * spread.shared() + spread.single(*one) + spread.single(*other)
    apart = abs(math.log(one[0].value / other[0].value))
    return apart <= max(_CONTRADICTION * math.sqrt(variance), math.log(_LEAST_FACTOR))


def _weight(runs: Sequence[RunOfForm], days: frozenset[str | None] | None = None) -> int:
    best: dict[str | None, int] = {}
    for row, _ in runs:
        best[spreads.day(row)] = max(best.get(spreads.day(row), 0), _WEIGHTS[row.grade])
    return sum(weight for when, weight in best.items() if days is None or when in days)


def _counted(clusters: Sequence[list[RunOfForm]]) -> list[RunOfForm]:
    """The cluster that counts: the heaviest over the last days; of equally heavy ones the newer where each
    stands by itself, else the one that others disturbed less, then the older."""
    days = _last_days(run for one in clusters for run in one)

    def merit(one: list[RunOfForm]) -> tuple[float, ...]:
        weight = _weight(one, days)
        newest = views.moment_of(one[-1][0])
        if weight >= _STANDS:
            return weight, newest
        return weight, -min(spreads.slowed(seen) for _, seen in one), -views.moment_of(one[0][0])

    return max(clusters, key=merit)


def _last_days(runs: Iterable[RunOfForm]) -> frozenset[str | None]:
    dates = {spreads.day(row) for row, _ in runs}
    return frozenset(sorted(dates, key=lambda one: one or "")[-_DAYS:])


def _is_tied(one: Sequence[RunOfForm], chosen: Sequence[RunOfForm]) -> bool:
    """Whether neither can be set aside: both stand by themselves, and weigh the same."""
    days = _last_days([*one, *chosen])
    return _weight(one, days) == _weight(chosen, days) >= _STANDS


def _contradicting(
    runs: Sequence[RunOfForm], older: Sequence[Sequence[list[RunOfForm]]], spread: Spread
) -> list[RunOfForm] | None:
    """What an older version says, if that is something else; None where none does or one agrees."""
    said = [_counted(clusters) for clusters in older]
    for other in said:
        if any(_agree(one, two, spread) for one in runs for two in other):
            return None
    return said[0] if said else None


def _row(chosen: Sequence[RunOfForm], tied: Sequence[Sequence[RunOfForm]], machine: Spread) -> Measurement:
    """The newest row of the runs that count, with the value and the interval of all of them."""
    quiet = [run for run in chosen if not spreads.slowed(run[1])] or chosen
    newest = quiet[-1][0]
    if newest.low is None and len(quiet) == 1:
        return newest  # too few samples for any claim
    own = spreads.learn([quiet], machine) if len(quiet) > 1 else machine
    found = spreads.level(quiet, own)
    bounds = [found.bounds(own), *(spreads.level(one, machine).bounds(machine) for one in tied)]
    lows, highs = zip(*bounds, strict=True)
    value = newest.value if len(quiet) == 1 else math.exp(found.log)
    changed: dict[str, Any] = {"value": value, "low": min(value, *lows), "high": max(value, *highs)}
    if len(quiet) > 1:
        best = min(quiet, key=lambda run: run[0].grade or "Z")[0]
        note = f"{_NOTE}{len(quiet)} runs of {len({spreads.day(row) for row, _ in quiet})} days"
        changed |= {"grade": best.grade, "grade_reasons": (*best.grade_reasons, note),
                    "samples": sum(row.samples or 0 for row, _ in quiet) or None}  # fmt: skip
    if tied:
        told = f"{len(tied) + 1} groups of runs contradict each other; the interval spans them"
        changed["grade_reasons"] = (*changed.get("grade_reasons", newest.grade_reasons), told)
    return replace(newest, **changed)


def _aside(runs: Sequence[RunOfForm], chosen: Sequence[RunOfForm]) -> Aside:
    row, other = runs[-1][0], chosen[-1][0]
    times = row.value / other.value
    way = f"{times:.3g} times as slow as" if times > 1 else f"{1 / times:.3g} times as fast as"
    where = f"{row.model} on {row.engine}"
    when = f"of {spreads.day(row)}" if row.measured_at else "without a date"
    grade = f", grade {row.grade}" if row.grade else ""
    others = "the other run" if len(chosen) == 1 else f"the {len(chosen)} others"
    count = "" if len(runs) == 1 else f"; {len(runs)} runs"
    return Aside(
        tuple(one for one, _ in runs),
        f"{where}: {units.show(row.value, 's')} {when}{grade}{count} is {way} {others} "
        f"({units.show(other.value, 's')}); left out until an independent run agrees",
    )
