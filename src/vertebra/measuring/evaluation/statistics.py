"""Statistics of counts: intervals of shares and of their differences, and the calibration error of binned
confidences."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: The standard normal's quantile of 97.5 %: intervals here are 95 % intervals.
Z = 1.959963984540054

#: The number of equal bins of confidence for the calibration error, as in Guo et al. 2017 (arXiv 1706.04599).
BINS = 15


def wilson(right: float, total: float) -> tuple[float, float]:
    """The 95 % interval of a share of `right` among `total` (Wilson 1927, score interval): sound for small
    counts and shares near 0 and 1, where the normal approximation isn't.

    >>> tuple(round(end, 4) for end in wilson(9, 10))
    (0.5958, 0.9821)
    """
    assert 0 <= right <= total
    assert total > 0
    share, spread = right / total, Z * Z / total
    centre = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return (
        0.0 if right == 0 else max(0.0, centre - half),
        1.0 if right == total else min(1.0, centre + half),
    )


def paired_difference(
    only_first: float, only_second: float, total: float, z: float = Z
) -> tuple[float, float]:
    """The interval (95 %, or what `z` standard errors hold) of the difference between two shares of the same
    `total` things, of which `only_first` count in the first share alone and `only_second` in the second alone
    (Tango 1998, score interval): sound if few or none differ.

    >>> tuple(round(end, 3) for end in paired_difference(1, 7, 21))
    (-0.517, -0.026)
    """
    from scipy.optimize import brentq

    assert min(only_first, only_second) >= 0 < total
    assert only_first + only_second <= total
    found = only_first - only_second

    def score(difference: float) -> tuple[float, float]:
        slope = (2 * total - found) * difference - only_first - only_second
        constant = -only_second * difference * (1 - difference)
        second = (math.sqrt(max(0.0, slope * slope - 8 * total * constant)) - slope) / (4 * total)
        variance = total * (2 * second + difference * (1 - difference))
        return found - total * difference, variance

    def beyond(difference: float) -> float:
        gap, variance = score(difference)
        return gap * gap - z * z * variance

    middle, margin = found / total, 1e-9  # where nothing differs the variance is 0 in the middle itself
    low = -1.0 if found == -total else float(brentq(beyond, -1.0, middle - margin))
    high = 1.0 if found == total else float(brentq(beyond, middle + margin, 1.0))
    return low, high


def bin_of(confidence: float) -> int:
    """The bin of a confidence: bin b holds those above b/15 and up to (b + 1)/15."""
    return min(BINS - 1, max(0, math.ceil(confidence * BINS) - 1))


def quantile(level: float) -> float:
    """How many standard errors to either side hold `level` of a normal distribution.

    >>> round(quantile(0.95), 4)
    1.96
    """
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + level / 2)


def cross_validated(
    right: int, total: int, by_fold: Sequence[float], alike: float = 1.0
) -> tuple[float, float]:
    """The 95 % interval of a cross-validated share: the wider of Wilson's and Nadeau and Bengio's, end by
    end. `alike` is how many pictures count as one (`design_effect`).

    Student's may reach beyond 0 and 1, where no share can be: what is cut off there holds nothing, and the
    rest covers the truth as often.

    >>> tuple(round(end, 3) for end in cross_validated(90, 100, [0.9, 0.8, 1.0, 0.85, 0.95]))
    (0.753, 1.0)
    """
    low, high = wilson(right / alike, total / alike)
    half = corrected(by_fold)
    return max(0.0, min(low, right / total - half)), min(1.0, max(high, right / total + half))


def corrected(by_fold: Sequence[float], level: float = 0.95) -> float:
    """Half of Nadeau and Bengio's corrected interval (2003, Machine Learning 52) of a mean over the folds of
    a cross-validation; 0 with a single fold, which has no spread."""
    from scipy.special import stdtrit  # Student's quantile; the import of scipy.stats takes a second

    folds = len(by_fold)
    if folds < 2:
        return 0.0
    mean = sum(by_fold) / folds
    variance = sum((share - mean) ** 2 for share in by_fold) / (folds - 1)
    # A fold is tested on 1/k of the images and fitted on the rest: their ratio is 1/(k - 1).
    return float(stdtrit(folds - 1, 0.5 + level / 2)) * math.sqrt((1 / folds + 1 / (folds - 1)) * variance)


def bins_error(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """The expected calibration error: the mean distance between confidence and share right in a bin, each bin
    by its count.

    >>> round(bins_error([0.9, 0.9, 0.6, 0.6], [True, True, True, False]), 3)
    0.1
    """
    gaps = [0.0] * BINS
    for confidence, good in zip(confidences, right, strict=True):
        gaps[bin_of(confidence)] += confidence - good
    return sum(map(abs, gaps)) / len(confidences)


def design_effect(values: Sequence[float], groups: Sequence[int]) -> float:
    """How many things count as one, because those of a group resemble each other: the variance of the mean
    with whole groups drawn, over that with single things drawn; at least 1. Where no value differs, a group
    counts once.

    >>> design_effect([1, 1, 0, 0], [0, 0, 1, 1]), design_effect([1, 1, 1], [0, 0, 1])
    (2.0, 1.5)
    """
    mean = sum(values) / len(values)
    sums: dict[int, float] = {}
    for value, group in zip(values, groups, strict=True):
        sums[group] = sums.get(group, 0.0) + value - mean
    spread = sum((value - mean) ** 2 for value in values)
    if not spread:
        return len(values) / len(sums)
    return max(1.0, sum(total * total for total in sums.values()) / spread)
