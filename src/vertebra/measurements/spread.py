"""How far an independent survey of the same machine may lie from a latency, as logarithms.

What a run's own samples say is how narrow one process was. Between runs a latency differs more: each process
has its own luck, the machine is another one at another time, and a short run sees few of the moments between
which it wanders. These parts are variances. They begin as a prior, fitted to repeated surveys, whose evidence
ships with it (`benchmarks/calibration.py`); a table's own repeats then scale it to the machine.

Where others used the processors during a block, or a virtual machine's processors shared no cache, a quiet
machine is faster by an amount that nobody knows, so the interval reaches down by what that was seen to cost
at most.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.measurements import statistics
from vertebra.measurements.blocks import HANDOVER, Block, by_process
from vertebra.measurements.measurement import Measurement

if TYPE_CHECKING:
    from vertebra.measurements.database import Store

#: The prior, as data.
FILE = "spread.json"
#: The metric whose rows have such an interval.
METRIC = "latency"
#: Half of a 95 % interval in standard deviations, and its third and fifth powers' sum for Student's.
_NORMAL = 1.959964
#: How many blocks a process has where its row came without its samples.
_USUAL_BLOCKS = 8
#: The own deviation of a row whose samples were too few for an interval.
_WITHOUT_INTERVAL = 0.3
#: How much a case's own repeats must outweigh the machine's: as many degrees of freedom.
_OF_THE_MACHINE = 8
#: Others' use of the processors up to here is the kernel's rounding and the system's own housekeeping.
_IDLE = 0.10
#: Processors shared no cache if handing over took this much longer than in the machine's quickest runs.
_FAR = 0.30
#: The lists of a run's samples that tell its blocks, without the latencies.
_LISTS = ("latency.process", "surroundings.others_cpu", "surroundings.steal", HANDOVER)


@dataclass(frozen=True)
class Prior:
    """Standard deviations of a latency's logarithm: between `times`, between `processes` of one time, of one
    block of a quarter second in `blocks`; how much of the run's `own` counts beside them, as a factor; how
    many times the logarithm of the processors' remaining share a latency is `slower` at most; how many times
    as long it takes at most on processors `far` from each other; and the degrees of `freedom` with which they
    are known. `evidence` says what they were fitted to."""

    times: float
    processes: float
    blocks: float
    own: float
    slower: float
    far: float
    freedom: float
    evidence: str


@cache
def prior() -> Prior:
    """The prior that ships with the package."""
    text = (Path(__file__).parent / "shipped" / FILE).read_text(encoding="utf-8")
    return Prior(**json.loads(text))


@dataclass(frozen=True)
class Seen:
    """What a run's blocks say beside their latencies: how many `processes` and `blocks` it had, and in its
    middle block the share of the processors that `others` took (0 to 1) and the seconds of a `handover`
    between processors; `apart` is by what share that exceeds the machine's quickest runs (`compared`)."""

    processes: int = 1
    blocks: int = _USUAL_BLOCKS
    others: float = 0.0
    handover: float | None = None
    apart: float = 0.0


def seen_of(blocks: Sequence[Block]) -> Seen:
    """As `Seen` says, of a case's blocks."""
    around = [block.surroundings for block in blocks if block.surroundings is not None]
    taken = [(one.others_cpu or 0.0) + (one.steal or 0.0) for one in around]
    handed = [block.handover_s for block in blocks if block.handover_s is not None]
    return Seen(len(by_process(blocks)), len(blocks), _middle(taken) or 0.0, _middle(handed))


def _middle(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def compared(rows: Iterable[Measurement], seen: Mapping[str, Seen]) -> dict[str, Seen]:
    """`seen` with what each run's handover is beside that of the quickest quarter of its machine's runs among
    `rows`."""
    systems = {row.run: row.system for row in rows if row.run is not None and row.run in seen}
    every: dict[str | None, list[float]] = defaultdict(list)
    for run, system in systems.items():
        if one := seen[run].handover:
            every[system].append(one)
    near = {system: sorted(several)[len(several) // 4] for system, several in every.items()}
    found = dict(seen)
    for run, system in systems.items():
        if one := seen[run].handover:
            found[run] = replace(seen[run], apart=max(0.0, one / near[system] - 1))
    return found


def seen(store: Store, runs: Iterable[str]) -> dict[str, Seen]:
    """What the table holds of the blocks of `runs`, for those that have any."""
    wanted = set(runs)
    lists: dict[str, dict[str, list[float]]] = defaultdict(dict)
    query = f"SELECT run, name, samples FROM samples WHERE name IN ({', '.join('?' * len(_LISTS))})"
    for run, name, text in store.select(query, _LISTS):
        if run in wanted and (values := _numbers(text)) is not None:
            lists[run][name] = values
    return {run: _of_lists(found) for run, found in lists.items() if found.get(_LISTS[0])}


def _numbers(text: object) -> list[float] | None:
    """The numbers in a cell; None where it holds anything else, which an edited cell may."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    is_good = isinstance(found, list) and all(isinstance(one, int | float) for one in found)
    return found if is_good else None


def _of_lists(lists: Mapping[str, Sequence[float]]) -> Seen:
    processes, *shares, handed = (lists.get(name, ()) for name in _LISTS)
    taken = [sum(max(0.0, one) for one in block) for block in zip(*filter(None, shares), strict=False)]
    known = [one for one in handed if one > 0]
    return Seen(len(set(processes)), len(processes), _middle(taken) or 0.0, _middle(known))


#: The same in the words of a row's grade, of this version and of earlier ones.
_PROCESSES = re.compile(r"(\d+) processes")
_TAKEN = re.compile(
    r"(?:others took|other processes used) (\d+) % of the processors(?: in (\d+) of (\d+) blocks)?"
)


def seen_in(row: Measurement) -> Seen:
    """What a row's grade says of its blocks, for a row that came without its samples."""
    processes, others = 1, 0.0
    for reason in row.grade_reasons:
        if found := _PROCESSES.match(reason):
            processes = max(1, int(found[1]))
        if found := _TAKEN.match(reason):
            most = found[2] is None or 2 * int(found[2]) > int(found[3])
            others = max(others, int(found[1]) / 100 if most else 0.0)
    return Seen(processes, _USUAL_BLOCKS * processes, others)


def counted(reason: str) -> str | None:
    """The part of a grade's reason that `seen_in` reads; None where it reads nothing."""
    found = _PROCESSES.match(reason) or _TAKEN.match(reason)
    return None if found is None else found[0]


@dataclass(frozen=True)
class Spread:
    """How widely latencies spread on one machine: the prior's variances times `scale`, as its own repeats
    show, with as many degrees of `freedom`."""

    scale: float = 1.0
    freedom: float = 0.0

    def shared(self) -> float:
        """The variance that runs of one time have in common."""
        return self.scale * prior().times ** 2

    def single(self, row: Measurement, seen: Seen) -> float:
        """The variance of one run's logarithm beyond `shared`."""
        return self.between(seen) + (prior().own * own_deviation(row)) ** 2

    def between(self, seen: Seen) -> float:
        """The part of `single` that a run's own samples don't show."""
        known = prior()
        return self.scale * (known.processes**2 / seen.processes + known.blocks**2 / max(seen.blocks, 1))

    def reach(self) -> float:
        """Half of a 95 % interval in standard deviations: Student's, with the prior's freedom and ours."""
        return student(prior().freedom + self.freedom)


def student(freedom: float) -> float:
    """The 97.5 % point of Student's distribution, to a thousandth from 8 degrees of freedom on (Abramowitz
    and Stegun 26.7.5)."""
    z = _NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))


def own_deviation(row: Measurement) -> float:
    """The standard deviation of a row's logarithm by its own interval."""
    if not row.low or row.high is None:
        return _WITHOUT_INTERVAL
    return math.log(row.high / row.low) / (2 * _NORMAL) if row.high > row.low else 0.0


def slowed(seen: Seen) -> float:
    """By how much, as a logarithm, a run may have been slowed down: by others, unless they took a tenth of
    the processors or less, and by processors that shared no cache."""
    by_others = 0.0 if seen.others <= _IDLE else -prior().slower * math.log(1 - min(seen.others, 0.98))
    return by_others + (math.log(prior().far) if seen.apart > _FAR else 0.0)


def half_width(blocks: Sequence[Block]) -> float:
    """Half of the interval that an independent survey falls into, as a share of the latency, by the blocks of
    one case and the prior; infinite where they are too few for an interval of their own."""
    found, seen = statistics.interval(blocks), seen_of(blocks)
    if not found.low or found.high is None:
        return math.inf
    own = math.log(found.high / found.low) / (2 * _NORMAL)
    plain = Spread()
    variance = plain.shared() + plain.between(seen) + (prior().own * own) ** 2
    return plain.reach() * math.sqrt(2 * variance) + slowed(seen)


def learn(repeats: Iterable[Sequence[tuple[Measurement, Seen]]], base: Spread | None = None) -> Spread:
    """The spread that repeats show: each of `repeats` holds undisturbed runs of one form. The prior counts as
    its degrees of freedom, so that few repeats move it little and many replace it.

    With `base`, a machine's spread, that is where one case's own repeats start from.
    """
    squares, freedom = 0.0, 0
    plain = Spread()
    for runs in repeats:
        kept = [(math.log(row.value), plain.shared() + plain.single(row, seen)) for row, seen in runs]
        if len(kept) < 2:
            continue
        weight = math.fsum(1 / variance for _, variance in kept)
        middle = math.fsum(log / variance for log, variance in kept) / weight
        squares += math.fsum((log - middle) ** 2 / variance for log, variance in kept)
        freedom += len(kept) - 1
    start, known = (1.0, prior().freedom) if base is None else (base.scale, _OF_THE_MACHINE)
    scale = (known * start + squares) / (known + freedom)
    return Spread(scale, freedom + (0.0 if base is None else base.freedom))


@dataclass(frozen=True)
class Level:
    """What one run or several say of a form: the logarithm of its latency, the `variance` of that, the
    variance `again` of an independent survey around the truth, and by how much others may have `slowed` it.
    """

    log: float
    variance: float
    again: float
    slowed: float

    def bounds(self, spread: Spread) -> tuple[float, float]:
        """Seconds between which an independent survey of this machine falls with 95 %."""
        half = spread.reach() * math.sqrt(self.variance + self.again)
        return math.exp(self.log - half - self.slowed), math.exp(self.log + half + self.slowed / 2)


def level(runs: Sequence[tuple[Measurement, Seen]], spread: Spread) -> Level:
    """The runs of one form together, each weighted by its variance; those of one day share their time."""
    singles = [spread.single(row, seen) for row, seen in runs]
    shared = spread.shared()
    weights = [1 / (one + shared) for one in singles]
    total = math.fsum(weights)
    log = math.fsum(weight * math.log(row.value) for weight, (row, _) in zip(weights, runs, strict=True))
    days: dict[str | None, float] = defaultdict(float)
    for weight, (row, _) in zip(weights, runs, strict=True):
        days[day(row)] += weight / total
    variance = shared * math.fsum(share**2 for share in days.values())
    variance += math.fsum((weight / total) ** 2 * one for weight, one in zip(weights, singles, strict=True))
    disturbed = max(slowed(seen) for _, seen in runs)
    return Level(log / total, variance, shared + statistics.median(singles), disturbed)


def day(row: Measurement) -> str | None:
    """The date of a row: runs of one day share what the machine was like."""
    return None if row.measured_at is None else row.measured_at[:10]


def survey_interval(
    row: Measurement, seen: Seen | None = None, spread: Spread | None = None
) -> tuple[float, float]:
    """Seconds between which an independent survey of this machine falls with 95 %, from one measured row.

    `seen` is what its blocks say (by default what its grade says), `spread` what the table's repeats do.
    """
    spread = Spread() if spread is None else spread
    return level([(row, seen_in(row) if seen is None else seen)], spread).bounds(spread)


def calibrated(row: Measurement, found: Level, spread: Spread) -> Measurement:
    """`row` with the interval of `found`, which holds its value."""
    low, high = found.bounds(spread)
    return replace(row, low=min(low, row.value), high=max(high, row.value))
