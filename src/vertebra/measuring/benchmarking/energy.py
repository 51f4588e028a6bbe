"""Energy by the machine's own counters: RAPL for processors, NVML for NVIDIA's cards. No counter, no figure.

A counter measures the whole package or card, for all users together; the idle power, measured just before, is
subtracted. Nothing is estimated from a load or a nominal power.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vertebra.measuring.benchmarking import nvml

_ROOT = Path("/")
_POWERCAP = "sys/class/powercap"
#: Whole packages. They include their parts (core, uncore); `psys` and the `-mmio` twins count them again.
_PACKAGE = re.compile(r"intel-rapl:\d+")
#: Memory isn't part of the package.
_MEMORY = re.compile(r"intel-rapl:\d+:\d+")


class Counter(Protocol):
    """`modulus_j` is added if a reading is smaller than the one before; None if that never happens."""

    @property
    def name(self) -> str: ...

    @property
    def modulus_j(self) -> float | None: ...

    def read(self) -> float | None:
        """Joules since some moment, or None if it can no longer be read."""
        ...


@dataclass(frozen=True)
class RaplZone:
    """One zone of the kernel's powercap tree, which counts microjoules and restarts at its limit."""

    name: str
    modulus_j: float | None
    file: Path

    def read(self) -> float | None:
        microjoules = _number(self.file)
        return None if microjoules is None else microjoules / 1e6


@dataclass(frozen=True)
class NvmlCard:
    """One NVIDIA card, by CUDA's name; its driver counts millijoules since it was loaded. Cards before
    Volta don't count."""

    name: str
    modulus_j: float | None = None

    def read(self) -> float | None:
        return nvml.ask_card(self.name, _total_j)


def _total_j(library: Any, card: Any) -> float:
    return float(library.nvmlDeviceGetTotalEnergyConsumption(card)) / 1e3


@dataclass(frozen=True)
class Reading:
    """All counters at one moment, seconds by the meter's clock."""

    moment_s: float
    joules: tuple[float | None, ...]


@dataclass(frozen=True)
class Energy:
    """Energy used over `seconds`; idle power isn't subtracted."""

    joules: float
    seconds: float

    @property
    def watts(self) -> float:
        return self.joules / self.seconds


class Meter:
    """The readable counters of `device`; none on most virtual machines and in most containers.

    meter = Meter()
    idle = meter.over(1.0)                # the machine at rest
    before = meter.read()
    ...                                   # process 640 images
    found = figures(meter.between(before, meter.read()), idle, images=640)
    """

    def __init__(
        self, device: str = "cpu", *, root: Path = _ROOT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        found: Sequence[Counter] = rapl_zones(root) if device == "cpu" else [NvmlCard(device)]
        self.counters: tuple[Counter, ...] = tuple(counter for counter in found if counter.read() is not None)
        self._clock = clock

    def read(self) -> Reading:
        return Reading(self._clock(), tuple(counter.read() for counter in self.counters))

    def over(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> Energy | None:
        """Energy used while this process sleeps. None, at once, if there is no counter."""
        if not self.counters:
            return None
        before = self.read()
        sleep(seconds)
        return self.between(before, self.read())

    def between(self, first: Reading, second: Reading) -> Energy | None:
        """Energy of all counters together from `first` to `second`; None if one of them is unknown.

        Only one restart of a counter in between is corrected: read more often than it can restart (every few
        minutes, at full power).
        """
        seconds = second.moment_s - first.moment_s
        taken = [
            _difference(counter, *pair)
            for counter, pair in zip(
                self.counters, zip(first.joules, second.joules, strict=True), strict=True
            )
        ]
        known = [joules for joules in taken if joules is not None]
        if not known or len(known) < len(taken) or seconds <= 0:
            return None
        return Energy(sum(known), seconds)


def figures(busy: Energy | None, idle: Energy | None, *, images: int) -> dict[str, float]:
    """`power` and `energy_per_image` beyond idle; empty if either is unknown or the load doesn't show."""
    if busy is None or idle is None or images < 1:
        return {}
    watts = busy.watts - idle.watts
    if watts <= 0:
        return {}
    return {"power": watts, "energy_per_image": watts * busy.seconds / images}


def rapl_zones(root: Path = _ROOT) -> list[RaplZone]:
    """The packages and the memory that the kernel counts under `root`/sys/class/powercap."""
    folder = root / _POWERCAP
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return list(_zones(paths))


def _zones(paths: Iterable[Path]) -> Iterable[RaplZone]:
    for path in paths:
        name = _text(path / "name") or ""
        package = _PACKAGE.fullmatch(path.name) and name.startswith("package")
        memory = _MEMORY.fullmatch(path.name) and name == "dram"
        if package or memory:
            limit = _number(path / "max_energy_range_uj")
            yield RaplZone(name, None if limit is None else limit / 1e6, path / "energy_uj")


def _difference(counter: Counter, first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return None
    if second >= first:
        return second - first
    return None if counter.modulus_j is None else second - first + counter.modulus_j


def _number(file: Path) -> float | None:
    text = _text(file)
    return float(text) if text is not None and text.isdecimal() else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # Missing, or readable by root only, as in kernels since 2020.
        return None
