"""What a set of latency samples says, and how certainly: nothing here assumes a shape of their distribution.

The headline is the median, because latencies have a long right tail. Inside one process its 95 % interval
comes from the order statistics (the sign test turned round): exact for any continuous distribution, the same
at every call, and cheap enough to ask between samples. A bootstrap of the median would estimate the same
discrete distribution with random numbers. What it can't see is bias that is common to a whole process:
where there are several, whole processes are drawn again too.

Two cases are compared by their blocks, process by process. Samples of one block and blocks of one process
resemble each other, so that counting them as independent would find differences where there are none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from vertebra.measurements.blocks import Block, by_process, latencies

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]

#: The fewest samples for which a 95 % interval of the median exists: 2 x 0.5**6 is the first below 5 %.
FEWEST_FOR_INTERVAL = 6

#: Percentile -> the fewest samples from which it is given. These are the fewest with which MLPerf LoadGen's
#: early stopping accepts a percentile with 99 % confidence.
FEWEST_FOR_PERCENTILE = {50: 11, 90: 64, 95: 130, 99: 662}

#: The least difference that is ever claimed between two cases, and between two that weren't interleaved:
#: from one hour to the next a machine's own speed changes more than from one moment to the next.
LEAST_DIFFERENCE, LEAST_DIFFERENCE_APART = 0.01, 0.03

#: Two fresh processes of one network differ by about 1 % (standard deviation of the difference) for reasons
#: that stay with a process, such as where its memory lies. Three rounds alone would estimate that badly, so
#: this counts as 4 more, unless what is seen has more than twice the variance: then only what is seen counts.
_PROCESS_SPREAD, _PROCESS_WEIGHT, _PROCESS_SURPRISE = 0.01, 4, 2.0

#: Blocks of two cases are paired where no more time than this lies between the one's and the other's.
_SAME_STRETCH_S = 60.0

#: With fewer blocks than this, a process's level is known better from their samples.
_FEWEST_BLOCKS = FEWEST_FOR_INTERVAL

_RESAMPLES = 4000
#: From the median absolute deviation to the standard deviation, and the variance of a median in variances of
#: a mean: both for a normal distribution.
MAD_TO_SD, _MEDIAN_TO_MEAN = 1.4826, math.pi / 2


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
class Difference:
    """How many times the first case's latency the second's is, with a 95 % interval.

    `p_value` is Mann-Whitney's, of the blocks' medians; it is shown, and decides nothing. `margin` is the
    least difference that would be claimed, as a share. `paired` says whether the blocks were interleaved.
    """

    ratio: float
    low: float
    high: float
    p_value: float
    detected: bool
    margin: float = LEAST_DIFFERENCE
    paired: bool = True


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
    """The smallest sample that `percent` of the samples don't exceed; None if there are too few samples.

    `percent` is a key of `FEWEST_FOR_PERCENTILE`.
    """
    if len(samples) < FEWEST_FOR_PERCENTILE[percent]:
        return None
    return sorted(samples)[-(-len(samples) * percent // 100) - 1]


def sign_test(rises: int, falls: int) -> float:
    """The two-sided chance of a split at least this uneven between two equally likely signs."""
    count = rises + falls
    tail = math.fsum(_binomial_half(count, hits) for hits in range(min(rises, falls) + 1))
    return min(1.0, 2 * tail)


# ------------------------------------------------------------------ several processes


def process_interval(processes: Sequence[Sequence[float]], *, seed: int = 0) -> Interval:
    """The median of the processes' medians, with its 95 % interval by the bootstrap.

    Processes are drawn with replacement, and inside each its samples. Of one process it is
    `median_interval`. With three processes the interval spans them, and no bootstrap can know more.
    """
    if len(processes) == 1:
        return median_interval(processes[0])
    centre = median([median(samples) for samples in processes])
    if sum(map(len, processes)) < FEWEST_FOR_INTERVAL:
        return Interval(centre, None, None)
    return _around(centre, *_drawn_again(processes, seed))


def _around(centre: float, low: float, high: float) -> Interval:
    """The interval, widened to its own centre where that lies outside: a process whose slow blocks hold few
    samples has its median among the fast ones. Wider, it covers the truth no less often."""
    return Interval(centre, min(low, centre), max(high, centre))


def interval(blocks: Sequence[Block], *, seed: int = 0) -> Interval:
    """`process_interval` of a case's blocks, with blocks drawn in place of samples where a process has at
    least six: the samples of one block resemble each other, and so say less than their number does."""
    processes = by_process(blocks)
    samples = [latencies(process) for process in processes]
    centre = median([median(one) for one in samples])
    if min(map(len, processes)) < _FEWEST_BLOCKS:
        return process_interval(samples, seed=seed)
    # The medians stay as they are: moved by a difference so that their own median is the centre, the fast
    # blocks of a process that was disturbed half of the time would lie below 0 s, and the interval with them.
    levels = [[median(block.latencies) for block in process] for process in processes]
    if len(levels) > 1:
        return _around(centre, *_drawn_again(levels, seed))
    found = median_interval(levels[0])
    assert found.low is not None
    assert found.high is not None
    return _around(centre, found.low, found.high)


def _drawn_again(processes: Sequence[Sequence[float]], seed: int) -> tuple[float, float]:
    """The middle 95 % of the median of medians over resamples of processes, and of what is in them.

    The median of n draws from n sorted values is the value at a rank whose share is a median of n uniform
    draws, which is Beta(n/2 + 1/2, n/2 + 1/2): one number is drawn where a plain bootstrap draws n.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    count = len(processes)
    chosen = generator.integers(count, size=(_RESAMPLES, count))
    ordered = [np.sort(np.asarray(samples, dtype=np.float64)) for samples in processes]
    sizes = np.array([len(samples) for samples in ordered])
    ranks = (generator.beta((sizes[chosen] + 1) / 2, (sizes[chosen] + 1) / 2) * sizes[chosen]).astype(int)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    medians = np.median(np.concatenate(ordered)[starts[chosen] + ranks], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


# ------------------------------------------------------------------ two cases


def compare(
    first: Sequence[Block], second: Sequence[Block], *, floor: float = LEAST_DIFFERENCE
) -> Difference:
    """How the second case's latency stands to the first's, from the blocks of both.

    Where the blocks were interleaved, each round (a fresh process of each case, in the same stretch of time)
    gives one difference, freed of what the machine did to both. The interval is Student's, over rounds and
    not over samples, with what is known of processes beforehand counted in. Blocks of two separate times
    give an interval from each case's processes, and a larger least difference.

    `floor` is this machine's own: the smallest difference that it can show, as a share. A
    difference is detected if the whole interval lies beyond that and `LEAST_DIFFERENCE`.
    """
    rounds = _rounds(first, second)
    if rounds:
        margin = max(floor, LEAST_DIFFERENCE)
        middle, error, freedom = _paired(rounds)
    else:
        margin = max(floor, LEAST_DIFFERENCE_APART, _canaries_apart(first, second))
        middle, error, freedom = _apart(first, second)
    reach = error * _student(freedom)
    low, high = middle - reach, middle + reach
    detected = low > math.log1p(margin) or high < -math.log1p(margin)
    ratios = math.exp(middle), math.exp(low), math.exp(high)
    return Difference(*ratios, _mann_whitney(first, second), detected, margin, bool(rounds))


_Round = tuple[list[Block], list[Block]]


def _rounds(first: Sequence[Block], second: Sequence[Block]) -> list[_Round]:
    """The processes of both cases that were there in the same stretch of time; none where the blocks aren't
    of one sequence."""
    ordered = sorted([*first, *second], key=lambda block: block.order)
    is_one = all(early.order < late.order and early.started_s <= late.started_s
                 for early, late in pairwise(ordered))  # fmt: skip
    if not is_one:
        return []
    left, right = ({process[0].process: process for process in by_process(case)} for case in (first, second))
    both = [(left[number], right[number]) for number in left if number in right]
    return [pair for pair in both if _together(*pair)]


def _together(left: Sequence[Block], right: Sequence[Block]) -> bool:
    starts = max(left[0].started_s, right[0].started_s)
    ends = min(side[-1].started_s + math.fsum(side[-1].latencies) for side in (left, right))
    return starts - ends <= _SAME_STRETCH_S


def _paired(rounds: Sequence[_Round]) -> tuple[float, float, int]:
    """Mean log ratio over the rounds, its standard error, and the degrees of freedom of that."""
    found = [_of_round(*pair) for pair in rounds]
    differences = [difference for difference, _ in found]
    noise = math.fsum(variance for _, variance in found) / len(found)
    mean = math.fsum(differences) / len(differences)
    squares = math.fsum((difference - mean) ** 2 for difference in differences)
    expected = _PROCESS_SPREAD**2 + noise
    variance, freedom = _moderated(squares, len(differences) - 1, expected)
    return mean, math.sqrt(variance / len(differences)), freedom


def _moderated(squares: float, freedom: int, expected: float) -> tuple[float, int]:
    """A variance from a few squares and what is expected, with its degrees of freedom.

    Where the squares alone are far more than expected, they alone count, if that gives the wider interval.
    """
    both = (_PROCESS_WEIGHT * expected + squares) / (_PROCESS_WEIGHT + freedom), _PROCESS_WEIGHT + freedom
    if not freedom or squares / freedom <= _PROCESS_SURPRISE * expected:
        return both
    alone = squares / freedom, freedom
    return max(both, alone, key=lambda one: one[0] * _student(one[1]) ** 2)


def _of_round(left: Sequence[Block], right: Sequence[Block]) -> tuple[float, float]:
    """The log ratio of a round, and the variance that the noise of its blocks gives it.

    What both cases' blocks share of a slope in time is the machine's and is taken off. Then each block of the
    one is compared with each of the other, and the middle of these differences (Hodges and Lehmann's shift)
    keeps out what hits single blocks.
    """
    import numpy as np

    sides = [_timed(left), _timed(right)]
    slope = _common_slope(sides)
    first, second = (level - slope * at for at, level in sides)
    ratio = float(np.median(np.subtract.outer(second, first)))
    if min(len(left), len(right)) >= _FEWEST_BLOCKS:
        return ratio, _noise(first) + _noise(second)
    samples = ([_log(latency) for latency in latencies(side)] for side in (left, right))
    return ratio, sum(_noise(np.array(side)) for side in samples)


def _common_slope(sides: Sequence[tuple[Numbers, Numbers]]) -> float:
    """The median slope between any two blocks of one case, as Theil and Sen's; 0.0 where there are few."""
    import numpy as np

    if min(len(at) for at, _ in sides) < _FEWEST_BLOCKS:
        return 0.0
    slopes = []
    for at, level in sides:
        early, late = np.triu_indices(len(at), 1)
        apart = at[late] > at[early]
        slopes.append((level[late] - level[early])[apart] / (at[late] - at[early])[apart])
    every = np.concatenate(slopes)
    return float(np.median(every)) if len(every) else 0.0


def _timed(side: Sequence[Block]) -> tuple[Numbers, Numbers]:
    """When the blocks of a process ran, and the logarithms of their medians."""
    import numpy as np

    levels = [_log(median(block.latencies)) for block in side]
    return np.array([block.started_s for block in side]), np.array(levels)


def _log(latency_s: float) -> float:
    """The logarithm of a latency, at least a nanosecond's, the finest that clocks resolve."""
    return math.log(max(latency_s, 1e-9))


def _noise(values: Numbers) -> float:
    """The variance of the median of `values`, were they independent."""
    import numpy as np

    deviation = MAD_TO_SD * float(np.median(np.abs(values - np.median(values))))
    return _MEDIAN_TO_MEAN * deviation**2 / len(values)


def _apart(first: Sequence[Block], second: Sequence[Block]) -> tuple[float, float, int]:
    """As `_paired`, from the levels of each case's processes alone."""
    import numpy as np

    cases = [[np.array([_log(one) for one in latencies(process)]) for process in by_process(case)]
             for case in (first, second)]  # fmt: skip
    levels = [[float(np.median(samples)) for samples in case] for case in cases]
    means = [math.fsum(case) / len(case) for case in levels]
    squares = math.fsum(
        (level - mean) ** 2 for case, mean in zip(levels, means, strict=True) for level in case
    )
    noises = [_noise(samples) for case in cases for samples in case]
    expected = _PROCESS_SPREAD**2 / 2 + math.fsum(noises) / len(noises)
    variance, freedom = _moderated(squares, sum(map(len, levels)) - 2, expected)
    error = math.sqrt(variance * sum(1 / len(case) for case in levels))
    return means[1] - means[0], error, freedom


def _canaries_apart(first: Sequence[Block], second: Sequence[Block]) -> float:
    """By what share the machine's own speed differed between two separate times, as the canary saw it."""
    seen = [[block.canary_s for block in case if block.canary_s] for case in (first, second)]
    if not all(seen):
        return 0.0
    low, high = sorted(median(case) for case in seen)
    return high / low - 1


@lru_cache(maxsize=64)
def _student(freedom: int) -> float:
    """The 97.5 % point of Student's distribution."""
    from scipy.special import stdtrit  # the import of scipy.stats takes a second

    return float(stdtrit(freedom, 0.975))


def _mann_whitney(first: Sequence[Block], second: Sequence[Block]) -> float:
    """The two-sided chance that blocks of equal cases lie so unevenly above each other."""
    from scipy import stats

    medians = [[median(block.latencies) for block in case] for case in (first, second)]
    return float(stats.mannwhitneyu(*medians, alternative="two-sided").pvalue)
