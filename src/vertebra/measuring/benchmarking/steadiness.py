"""Whether samples are steady: drift, outliers, several modes, processes that differ from each other.

A figure from unsteady samples is still shown, with a worse grade and the reason. As in
`measurements.statistics`, nothing assumes a shape of the distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra.measurements.blocks import Block, by_process, latencies
from vertebra.measurements.statistics import MAD_TO_SD, median, sign_test

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]

#: Tukey's fences, in interquartile ranges beyond the quartiles.
_MILD, _SEVERE = 1.5, 3.0

#: A distribution has more than one mode if its distance from every unimodal one, times the root of the
#: number of samples, exceeds this. Of 100 sets of uniform samples (the unimodal ones that are hardest to
#: recognise), 1 does.
_ONE_MODE = 0.53
#: The distance is found on at most this many quantiles, for at most this many samples.
_QUANTILES, _MOST_FOR_MODES = 256, 4096
#: Two modes are reported if they are at least this far apart and the smaller holds at least this share.
_APART, _LEAST_SHARE = 0.02, 0.1


@dataclass(frozen=True)
class Outliers:
    """How many samples lie beyond Tukey's fences; they are reported and stay among the samples."""

    mild: int
    severe: int


@dataclass(frozen=True)
class Spread:
    """Standard deviations relative to the median: of processes' medians, and of a process's samples.

    `between` is None for one process. `within` is computed from the median absolute deviation, so that
    the long tail doesn't determine it.
    """

    between: float | None
    within: float


@dataclass(frozen=True)
class Modes:
    """Two modes of the samples: the slower has `ratio` times the other's median, and holds `share`."""

    ratio: float
    share: float


def drift(samples: Sequence[float], *, least: float = 0.01) -> float:
    """By how much the second half's median exceeds the first's, or 0.0 if that may be chance or is small.

    Chance is judged with the Cox-Stuart sign test at 1 %: sample i of the first half is paired with
    sample i of the second. A change below `least` doesn't count, however certain it is: with
    thousands of samples every machine drifts a little.
    """
    half = len(samples) // 2
    if half == 0:
        return 0.0
    first, second = samples[:half], samples[-half:]
    before = median(first)
    change = (median(second) - before) / before if before else 0.0
    rises = sum(late > early for early, late in zip(first, second, strict=True))
    falls = sum(late < early for early, late in zip(first, second, strict=True))
    return change if abs(change) >= least and sign_test(rises, falls) < 0.01 else 0.0


def drift_of_blocks(blocks: Sequence[Block]) -> float:
    """`drift` inside the processes: the median over processes of the change from the first half of a
    process's samples to the second, or 0.0 if most processes show none."""
    changes = [drift(latencies(process)) for process in by_process(blocks)]
    return median(changes)


def agree(first: Sequence[float], second: Sequence[float], *, within: float = 0.01) -> bool:
    """Whether the medians of two windows differ by at most `within` of the smaller."""
    low, high = sorted((median(first), median(second)))
    return high - low <= within * low


def outliers(samples: Sequence[float]) -> Outliers:
    """Counts beyond Tukey's inner (mild) and outer (severe) fences, on both sides."""
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    lower, upper = ordered[quarter], ordered[-1 - quarter]
    spread = upper - lower
    beyond = [max(lower - sample, sample - upper) for sample in ordered]
    severe = sum(distance > _SEVERE * spread for distance in beyond)
    mild = sum(distance > _MILD * spread for distance in beyond) - severe
    return Outliers(mild, severe)


def disagreement(processes: Sequence[Sequence[float]]) -> float:
    """How far the slowest process's median lies above the fastest's, as a share; 0.0 for one process."""
    medians = [median(samples) for samples in processes]
    return max(medians) / min(medians) - 1 if min(medians) > 0 else 0.0


def spread(processes: Sequence[Sequence[float]]) -> Spread:
    """Where the variance is: between the processes, or within each."""
    medians = [median(samples) for samples in processes]
    centre = median(medians)
    if not centre:
        return Spread(0.0 if len(medians) > 1 else None, 0.0)
    deviations = [abs(sample - middle) for samples, middle in zip(processes, medians, strict=True)
                  for sample in samples]  # fmt: skip
    within = MAD_TO_SD * median(deviations) / centre
    if len(medians) == 1:
        return Spread(None, within)
    mean = math.fsum(medians) / len(medians)
    variance = math.fsum((middle - mean) ** 2 for middle in medians) / (len(medians) - 1)
    return Spread(math.sqrt(variance) / centre, within)


def modes(samples: Sequence[float]) -> Modes | None:
    """The two modes of the samples, or None if only one is found.

    The test is like Hartigan's dip: how far is the empirical distribution from the nearest that is convex up
    to some point and concave after it? Outliers don't make a mode, because they are few. Modes less than 2 %
    apart, or with less than a tenth of the samples in the smaller, aren't reported.
    """
    import numpy as np

    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    if len(ordered) > _QUANTILES:
        ordered = np.quantile(ordered, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    root = math.sqrt(min(len(samples), _MOST_FOR_MODES))
    if ordered[-1] <= ordered[0] or _distance_from_one_mode(ordered) * root <= _ONE_MODE:
        return None
    return _two_modes(ordered)


def _distance_from_one_mode(ordered: Numbers) -> float:
    """The least distance of the samples' distribution from a convex-then-concave one, over all turns.

    The distance on the left grows with the turn and that on the right falls, so the best is where they meet.
    """
    import numpy as np

    values, counts = np.unique(ordered, return_counts=True)
    upper = np.cumsum(counts) / len(ordered)
    lower = upper - counts / len(ordered)

    def left(turn: int) -> float:
        steps = np.append(upper[:turn], lower[turn])  # a mode may contain its own step
        return _above_convex(values[: turn + 1], lower[: turn + 1], steps)

    def right(turn: int) -> float:
        steps = np.append(1 - lower[turn + 1 :][::-1], 1 - upper[turn])
        return _above_convex(-values[turn:][::-1], 1 - upper[turn:][::-1], steps)

    low, high = 0, len(values) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if left(middle) < right(middle) else (low, middle)
    return min(max(left(turn), right(turn)) for turn in (low, high)) / 2


def _above_convex(at: Numbers, lower: Numbers, upper: Numbers) -> float:
    """How far `upper` rises above the largest convex function under `lower`, both at the ascending `at`."""
    import numpy as np

    hull: list[int] = []
    for point in range(len(at)):
        while len(hull) > 1 and _is_above(at, lower, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return float((upper - np.interp(at, at[hull], lower[hull])).max())


def _is_above(at: Numbers, values: Numbers, left: int, middle: int, right: int) -> bool:
    """Whether the middle point lies on or above the line between the other two."""
    rise = (values[right] - values[left]) * (at[middle] - at[left])
    return bool((values[middle] - values[left]) * (at[right] - at[left]) >= rise)


def _two_modes(ordered: Numbers) -> Modes | None:
    """Cut the samples where the two parts vary least inside themselves; outliers don't move the cut."""
    import numpy as np

    quarter = len(ordered) // 4
    fence = _SEVERE * (ordered[-1 - quarter] - ordered[quarter])
    inside = ordered[(ordered >= ordered[quarter] - fence) & (ordered <= ordered[-1 - quarter] + fence)]
    before = np.arange(1, len(inside))
    sums = np.cumsum(inside)
    # the variances are least where the squares of the parts' sums, each over its size, are largest
    parted = sums[:-1] ** 2 / before + (sums[-1] - sums[:-1]) ** 2 / (len(inside) - before)
    cut = 1 + int(np.argmax(parted))
    fast, slow = float(np.median(inside[:cut])), float(np.median(inside[cut:]))
    share = (len(inside) - cut) / len(inside)
    if not fast or slow / fast - 1 < _APART or min(share, 1 - share) < _LEAST_SHARE:
        return None
    return Modes(slow / fast, share)
