"""How much more often one of two answers to the same pictures is right, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra.measuring.evaluation.statistics import corrected, design_effect, paired_difference, quantile

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
    folds: npt.NDArray[np.intp],
    *,
    groups: Sequence[int] | None = None,
    level: float = 0.95,
) -> Pair:
    """The share right of `first` minus that of `second` over the same pictures (N,), with its interval."""
    import numpy as np

    gaps = first.astype(np.int64) - second.astype(np.int64)
    total, difference = len(gaps), float(gaps.mean())
    alike = 1.0 if groups is None else design_effect(gaps.astype(float).tolist(), list(groups))
    only_first, only_second = int((gaps > 0).sum()), int((gaps < 0).sum())
    low, high = paired_difference(only_first / alike, only_second / alike, total / alike, quantile(level))
    _, places = np.unique(folds, return_inverse=True)
    half = corrected((np.bincount(places, gaps) / np.bincount(places)).tolist(), level)
    return Pair(difference, max(-1.0, min(low, difference - half)), min(1.0, max(high, difference + half)))
