"""How much more often one of two answers to the same pictures is right, with an interval.

It is Tango's score interval for paired shares, the interval of McNemar's test. It takes the heads as given;
but in pairs, what a head owes to its choice of pictures concerns both sides: where pictures are drawn anew,
two equally good networks differ "surely" in about 5 % of draws, as they should. Nadeau and Bengio's corrected
interval over the folds' differences is twice as wide with five folds, and would let most truly better
networks lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra.measuring.evaluation.statistics import design_effect, paired_difference, quantile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """The difference of two shares of the same pictures, as a share, and its interval."""

    difference: float
    low: float
    high: float

    @property
    def tied(self) -> bool:
        """Whether neither is surely the better."""
        return self.low <= 0 <= self.high


def paired(
    first: Flags,
    second: Flags,
    *,
    groups: Sequence[int] | None = None,
    level: float = 0.95,
) -> Pair:
    """The share right of `first` minus that of `second` over the same pictures (N,), with its interval.
    Pictures of one of `groups` count as fewer, as far as they go together."""
    import numpy as np

    gaps = first.astype(np.int64) - second.astype(np.int64)
    total, difference = len(gaps), float(gaps.mean())
    alike = 1.0 if groups is None else design_effect(gaps.astype(float).tolist(), list(groups))
    only_first, only_second = int((gaps > 0).sum()), int((gaps < 0).sum())
    low, high = paired_difference(only_first / alike, only_second / alike, total / alike, quantile(level))
    return Pair(difference, low, high)
