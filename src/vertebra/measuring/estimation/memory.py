"""Memory is estimated as a sum: the runtime's own, an amount per weight, and an amount per activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

#: The share of left-out errors that the interval covers.
_COVERED = 0.9
#: Three unknowns need a few more networks than three.
FEWEST = 5


@dataclass(frozen=True)
class MemoryModel:
    """bytes = `coefficients` times (1, bytes of the weights, activations), none of the three below 0.

    `left_out_error` is the relative error that nine in ten networks of the fit stay within when each is left
    out of it. `scale` and `inverse` (3, 3) make the interval of another: `scale` times the root of one plus
    its leverage, which is small among those of the fit and large far from them.
    """

    coefficients: Array
    left_out_error: float
    scale: float
    inverse: Array

    @classmethod
    def fit(cls, counts: Mapping[str, tuple[float, float]], measured: Mapping[str, float]) -> MemoryModel:
        """Least squares of relative errors. `counts` are each network's bytes of weights and activations.

        Raises InvalidInputError for fewer than `FEWEST` networks.
        """
        import numpy as np

        if len(measured) < FEWEST:
            raise InvalidInputError(
                f"{len(measured)} measured networks are too few to estimate memory; {FEWEST} are needed.",
                "measure more: vertebra survey",
            )
        design = np.array([(1.0, *counts[name]) for name in measured])
        values = np.array(list(measured.values()))
        whole = np.arange(len(values))
        left_out = [_solve(np.delete(design, one, 0), np.delete(values, one)) for one in whole]
        errors = np.abs(np.array([design[one] @ left_out[one] for one in whole]) / values - 1)
        relative = design / values[:, None]
        inverse = np.linalg.pinv(relative.T @ relative, hermitian=True)
        leverage = np.clip(((relative @ inverse) * relative).sum(axis=1), 0.0, 1.0)
        # The error of a left-out network grows with its leverage, its distance from the others.
        alike = errors * np.sqrt(1 - leverage)
        # With few errors, the next one exceeds their 90 % quantile more often than one time in ten.
        next_one = min(1.0, _COVERED * (1 + 1 / len(values)))
        return cls(
            coefficients=_solve(design, values),
            left_out_error=quantile(errors, _COVERED),
            scale=quantile(alike, next_one),
            inverse=inverse,
        )

    def price(self, weight_bytes: float, activations: float) -> tuple[float, float, float]:
        """Bytes, and the bounds of their 90 % interval."""
        ((value,), (low,), (high,)) = self.prices([(weight_bytes, activations)])
        return value, low, high

    def prices(self, counts: Sequence[tuple[float, float]]) -> tuple[list[float], list[float], list[float]]:
        """Bytes of several networks by their `counts` (as in `fit`), and the ends of their 90 % intervals."""
        import numpy as np

        terms = np.column_stack([np.ones(len(counts)), np.array(counts, dtype=np.float64)])
        values = (terms * self.coefficients).sum(axis=1)
        relative = terms / values[:, None]
        leverage = ((relative @ self.inverse) * relative).sum(axis=1)
        spread = self.scale * np.sqrt(1 + np.maximum(leverage, 0.0))
        return values.tolist(), (values / (1 + spread)).tolist(), (values * (1 + spread)).tolist()


def quantile(values: Array, share: float) -> float:
    """As `numpy.quantile`, which imports `numpy.ma` and so takes longer than all else here."""
    ordered = sorted(values.tolist())
    place = share * (len(ordered) - 1)
    below = int(place)
    low, high, part = ordered[below], ordered[min(below + 1, len(ordered) - 1)], place - below
    found: float = low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)
    return found


def _solve(design: Array, values: Array) -> Array:
    """The coefficients, each at least 0, with the least summed squares of relative errors."""
    import numpy as np

    scales = np.maximum(np.abs(design).max(axis=0), 1e-9)
    relative, ones = design / scales / values[:, None], np.ones(len(values))
    best, least = np.zeros(len(scales)), np.inf
    for number in range(2 ** len(scales) - 1, 0, -1):  # few enough to try each set of coefficients above 0
        kept = [place for place in range(len(scales)) if number >> place & 1]
        found, _, rank, _ = np.linalg.lstsq(relative[:, kept], ones, rcond=None)
        error = float(((relative[:, kept] @ found - ones) ** 2).sum())
        if rank == len(kept) and (found >= 0).all() and error < least:
            best, least = np.zeros(len(scales)), error
            best[kept] = found
            if number == 2 ** len(scales) - 1:
                break
    scaled: Array = best / scales
    return scaled
