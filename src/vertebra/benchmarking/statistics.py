"""What a set of latency samples says, and how surely: nothing here assumes a shape of their distribution.

The headline is the median, because latencies have a long right tail. Its 95 % interval comes from the
order statistics (the sign test turned round): exact for any continuous distribution, the same at every
call, and cheap enough to ask between samples. A bootstrap of the median would estimate the same discrete
distribution with random numbers. What neither can see is bias that is common to a whole process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

#: The fewest samples for which a 95 % interval of the median exists: 2 x 0.5**6 is the first below 5 %.
FEWEST_FOR_INTERVAL = 6

#: Percentile -> samples below which it is not told. These are the fewest with which MLPerf LoadGen's early
#: stopping accepts a percentile with 99 % confidence.
FEWEST_FOR_PERCENTILE = {50: 11, 90: 64, 95: 130, 99: 662}

#: Tukey's fences, in interquartile ranges beyond the quartiles.
_MILD, _SEVERE = 1.5, 3.0


@dataclass(frozen=True)
class Interval:
    """A median and the bounds of its 95 % interval, which are None below six samples."""

    median: float
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float:
        """Half of the interval's width, relative to the median; infinite where there is no interval."""
        if self.low is None or self.high is None:
            return math.inf
        if self.high == self.low:
            return 0.0
        return (self.high - self.low) / 2 / self.median if self.median else math.inf


@dataclass(frozen=True)
class Outliers:
    """How many samples lie beyond Tukey's fences; they are told and stay among the samples."""

    mild: int
    severe: int


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the middle two. `samples` must not be empty."""
    return _median_of_sorted(sorted(samples))


def _median_of_sorted(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_interval(samples: Sequence[float]) -> Interval:
    """The median with its 95 % interval: the k-th smallest and k-th largest sample, k from the binomial.

    >>> median_interval([5.0, 1.0, 4.0, 2.0, 3.0, 6.0])
    Interval(median=3.5, low=1.0, high=6.0)
    """
    ordered = sorted(samples)
    rank = interval_rank(len(ordered))
    if rank is None:
        return Interval(_median_of_sorted(ordered), None, None)
    return Interval(_median_of_sorted(ordered), ordered[rank - 1], ordered[-rank])


@lru_cache(maxsize=256)
def interval_rank(count: int) -> int | None:
    """The largest k with P(Binomial(count, 1/2) < k) <= 2.5 %, or None where even k = 1 is too wide a claim.

    >>> interval_rank(5), interval_rank(6), interval_rank(64), interval_rank(100)
    (None, 1, 24, 40)
    """
    # Twelve standard deviations below the mean the tail is under 1e-31, so summing may start there.
    start = max(0, int(count / 2 - 6 * math.sqrt(count)))
    tail, rank = 0.0, start
    while True:
        tail += _binomial_half(count, rank)
        if tail > 0.025:
            return rank or None
        rank += 1


def _binomial_half(count: int, hits: int) -> float:
    """P(Binomial(count, 1/2) = hits), in logarithms because 2**-count leaves the floats beyond 1074."""
    ways = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return math.exp(ways - count * math.log(2))


def percentile(samples: Sequence[float], percent: int) -> float | None:
    """The smallest sample that `percent` of the samples don't exceed; None where they are too few to tell.

    `percent` is a key of `FEWEST_FOR_PERCENTILE`.
    """
    if len(samples) < FEWEST_FOR_PERCENTILE[percent]:
        return None
    return sorted(samples)[-(-len(samples) * percent // 100) - 1]


def drift(samples: Sequence[float], *, least: float = 0.01) -> float:
    """By how much the second half's median exceeds the first's, or 0.0 where that may be chance or is small.

    Chance is judged with the Cox-Stuart sign test at 1 %: sample i of the first half is paired with
    sample i of the second. A change below `least` is no drift however sure it is, for with thousands
    of samples every machine drifts by something.
    """
    half = len(samples) // 2
    if half == 0:
        return 0.0
    first, second = samples[:half], samples[-half:]
    before = median(first)
    change = (median(second) - before) / before if before else 0.0
    rises = sum(late > early for early, late in zip(first, second, strict=True))
    falls = sum(late < early for early, late in zip(first, second, strict=True))
    return change if abs(change) >= least and _sign_test(rises, falls) < 0.01 else 0.0


def _sign_test(rises: int, falls: int) -> float:
    """The two-sided chance of a split at least this uneven between two equally likely signs."""
    count = rises + falls
    tail = math.fsum(_binomial_half(count, hits) for hits in range(min(rises, falls) + 1))
    return min(1.0, 2 * tail)


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
