"""From base units to pixels: the unit of an axis, its range and its ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vertebra import metrics

#: Unit of the table -> (base units per shown unit, its name), largest first.
_SHOWN: dict[str, list[tuple[float, str]]] = {
    "s": [(1, "s"), (1e-3, "ms"), (1e-6, "µs")],
    "B": [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")],
    "count": [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")],
    "fraction": [(1e-2, "%")],
    "1/s": [(1, "1/s")],
    "J": [(1, "J"), (1e-3, "mJ")],
    "W": [(1, "W")],
    "op/s": [(1e12, "Top/s"), (1e9, "Gop/s")],
    "B/s": [(1e9, "GB/s")],
}
_NAMED = {"accuracy_density": "% per million parameters", "fps": ""}

#: An axis is logarithmic if its largest value is this many times its smallest.
_LOG_FROM = 20


@dataclass(frozen=True)
class Unit:
    """What values are divided by before they are shown, and the name of the result."""

    factor: float
    name: str

    def show(self, value: float) -> float:
        """`value` in this unit, to six significant digits."""
        return float(f"{value / self.factor:.6g}")


def unit_of(metric: str, values: Iterable[float]) -> Unit:
    """The unit in which the largest of `values` has few digits before the point."""
    largest = max(map(abs, values), default=0.0)
    steps = _SHOWN[metrics.find(metric).unit]
    factor, name = next((step for step in steps if largest >= step[0]), steps[-1])
    return Unit(factor, _NAMED.get(metric, name))


def title_of(metric: str, unit: Unit, log: bool = False) -> str:
    """The title of an axis or legend: the metric's label, its unit, and whether it is logarithmic."""
    label = metrics.find(metric).label
    aside = ", ".join(filter(None, [unit.name, "log scale" if log else ""]))
    return label[:1].upper() + label[1:] + (f" ({aside})" if aside else "")


@dataclass(frozen=True)
class Axis:
    """`low` to `high`, in shown units, over `length` pixels; position 0 is at `low`."""

    low: float
    high: float
    log: bool
    length: float

    def position(self, value: float) -> float:
        """Pixels from `low`."""
        low, high = self._bent(self.low), self._bent(self.high)
        return (self._bent(value) - low) / (high - low) * self.length

    def value(self, position: float) -> float:
        """The value at `position` pixels."""
        low, high = self._bent(self.low), self._bent(self.high)
        bent = low + position / self.length * (high - low)
        return 10.0**bent if self.log else bent

    def _bent(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Round values inside the range: 1, 2, 5 in each decade, or even steps."""
        return _log_ticks(self.low, self.high) if self.log else _even_ticks(self.low, self.high)


#: Free pixels between what is drawn and either end of an axis.
_MARGIN = 10


def fit(
    values: Sequence[float],
    radii: Sequence[float],
    length: float,
    extremes: Iterable[float] = (),
    *,
    log: bool | None = None,
) -> Axis:
    """The axis on which a circle around each value, and each of `extremes`, keeps clear of both ends.

    It is logarithmic if all values are above 0 and their range is wide, or `log` is True.
    """
    positive = min(values) > 0
    log = positive and (max(values) / min(values) >= _LOG_FROM if log is None else log)
    radii = [radius if math.isfinite(radius) else 0.0 for radius in radii]
    kept = list(zip(values, radii, strict=True))
    kept += [(value, 0.0) for value in extremes if value > 0 or not log]
    bent = [(math.log10(value) if log else value, radius + _MARGIN) for value, radius in kept]
    low, high = _padded(bent, length)
    return Axis(10.0**low, 10.0**high, True, length) if log else Axis(low, high, False, length)


def _padded(bent: Sequence[tuple[float, float]], length: float) -> tuple[float, float]:
    low, high = min(value for value, _ in bent), max(value for value, _ in bent)
    if low == high:
        half = abs(low) * 0.1 or 1.0
        return low - half, high + half
    inner_low, inner_high = low, high
    for _ in range(50):  # a wider range makes a pixel mean more: repeat until it settles
        pixel = (high - low) / length
        low = min(inner_low, *(value - radius * pixel for value, radius in bent))
        high = max(inner_high, *(value + radius * pixel for value, radius in bent))
    return low, high


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if math.log10(high / low) <= 4 else (1,)
    every = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    return [tick for tick in every if low <= tick <= high]


def _even_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 7
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * decade for factor in (1, 2, 2.5, 5, 10) if factor * decade >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]
