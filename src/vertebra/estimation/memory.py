"""Memory is a sum, and so is its price: what a runtime holds, so much a weight, so much an activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

#: The share of left-out errors that the interval holds.
_COVERED = 0.9
#: Three unknowns want a few networks more than that.
FEWEST = 5


@dataclass(frozen=True)
class MemoryModel:
    """bytes = `runtime` + `per_weight_byte` x weights + `per_activation` x activations, none below 0.

    `spread` is the relative error that nine in ten anchors stay within when each is left out of the fit.
    """

    runtime: float
    per_weight_byte: float
    per_activation: float
    spread: float

    @classmethod
    def fit(cls, counts: Mapping[str, tuple[float, float]], measured: Mapping[str, float]) -> MemoryModel:
        """Least squares of relative errors. `counts` are each network's bytes of weights and activations.

        Raises InvalidInputError for fewer than `FEWEST` networks.
        """
        import numpy as np

        if len(measured) < FEWEST:
            raise InvalidInputError(
                f"{len(measured)} measured networks are too few to price memory from; {FEWEST} are needed.",
                "measure some: vertebra survey",
            )
        design = np.array([(1.0, *counts[name]) for name in measured])
        values = np.array(list(measured.values()))
        whole = np.arange(len(values))
        left_out = [_solve(np.delete(design, one, 0), np.delete(values, one)) for one in whole]
        predicted = np.array([design[one] @ left_out[one] for one in whole])
        spread = float(np.quantile(np.abs(predicted / values - 1), _COVERED))
        runtime, per_weight_byte, per_activation = map(float, _solve(design, values))
        return cls(runtime, per_weight_byte, per_activation, spread)

    def price(self, weight_bytes: float, activations: float) -> tuple[float, float, float]:
        """Bytes, and the bounds of their 90 % interval."""
        value = self.runtime + self.per_weight_byte * weight_bytes + self.per_activation * activations
        return value, value / (1 + self.spread), value * (1 + self.spread)


def _solve(design: Array, values: Array) -> Array:
    """The coefficients, each at least 0, with the least summed squares of relative errors."""
    import numpy as np

    scales = np.maximum(np.abs(design).max(axis=0), 1e-9)
    relative, ones = design / scales / values[:, None], np.ones(len(values))
    coefficients, _, rank, _ = np.linalg.lstsq(relative, ones, rcond=None)
    if rank < len(scales) or (coefficients < 0).any():  # SciPy is imported only where it is needed
        from scipy.optimize import nnls

        coefficients, _ = nnls(relative, ones)
    scaled: Array = coefficients / scales
    return scaled
