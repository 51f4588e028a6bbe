"""Statistics of counts: Wilson's interval, and the calibration error of binned confidences."""

from __future__ import annotations

import math

#: The standard normal's quantile of 97.5 %: intervals here are 95 % intervals.
Z = 1.959963984540054

#: The number of equal bins of confidence for the calibration error, as in Guo et al. 2017 (arXiv 1706.04599).
BINS = 15


def wilson(right: int, total: int) -> tuple[float, float]:
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


def paired_difference(only_first: int, only_second: int, total: int) -> tuple[float, float]:
    """The 95 % interval of the difference between two shares of the same `total` things, of which
    `only_first` count in the first share alone and `only_second` in the second alone (Tango 1998, score
    interval): sound if few or none differ.

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
        return gap * gap - Z * Z * variance

    middle, margin = found / total, 1e-9  # where nothing differs the variance is 0 in the middle itself
    low = -1.0 if found == -total else float(brentq(beyond, -1.0, middle - margin))
    high = 1.0 if found == total else float(brentq(beyond, middle + margin, 1.0))
    return low, high


def bin_of(confidence: float) -> int:
    """The bin of a confidence: bin b holds those above b/15 and up to (b + 1)/15."""
    return min(BINS - 1, max(0, math.ceil(confidence * BINS) - 1))
