"""What else goes on while a block runs, read from the kernel's counters without any privilege.

The difference between two readings is what happened in between. A counter that this system doesn't have, or
doesn't let us read, gives None, never zero: virtual machines often have no frequency, and only Linux has
/proc.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertebra.machine.system import cgroups
from vertebra.measurements.blocks import Surroundings
from vertebra.measuring.benchmarking import nvml

_ROOT = Path("/")
#: The places in a line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
_BUSY, _STEAL, _COLUMNS = (0, 1, 2, 5, 6), 7, 8
#: The places of user and system time after the name in /proc/<pid>/stat, which ends at the last bracket.
_USER, _SYSTEM = 11, 12
#: NVML's reasons for a lower clock that are a defect: the hardware's brakes, and heat.
_SLOWED = 0x08 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True)
class Reading:
    """The counters at one moment, in seconds if they are times; None if unknown here."""

    at_s: float
    busy_s: float | None = None
    stolen_s: float | None = None
    total_s: float | None = None
    own_s: float | None = None
    pressure_s: float | None = None
    throttled_s: float | None = None
    throttle_events: float | None = None
    clock_hz: float | None = None
    load: float | None = None
    card_clock_hz: float | None = None
    card_slowed: float | None = None


def snapshot(pids: Iterable[int] = (), root: Path = _ROOT, *, device: str = "cpu") -> Reading:
    """The counters now. This process and `pids`, the harness's workers, don't count as others.

    `root` is where /proc and /sys are found. For a card, such as "cuda:0", the driver is asked too.
    """
    busy, stolen, total = _processors(root)
    state = None if device == "cpu" else nvml.ask_card(device, _card)
    card_clock_hz, card_slowed = state or (None, None)
    return Reading(
        at_s=time.monotonic(),
        busy_s=busy,
        stolen_s=stolen,
        total_s=total,
        own_s=_own(root, pids),
        pressure_s=_pressure(root),
        throttled_s=_throttled(root),
        throttle_events=_throttle_events(root),
        clock_hz=_clock(root),
        load=_load(root),
        card_clock_hz=card_clock_hz,
        card_slowed=card_slowed,
    )


def between(before: Reading, after: Reading) -> Surroundings:
    """What happened from one reading to the other."""
    wall_s = after.at_s - before.at_s
    total = _gone(before.total_s, after.total_s)
    others = _others(before, after)
    pressure = _gone(before.pressure_s, after.pressure_s)
    return Surroundings(
        wall_s=wall_s,
        others_cpu=_share(others, total),
        steal=_share(_gone(before.stolen_s, after.stolen_s), total),
        pressure=_share(pressure, wall_s),
        throttled_s=_gone(before.throttled_s, after.throttled_s),
        clock_hz=after.clock_hz,
        throttle_events=_gone(before.throttle_events, after.throttle_events),
        load=after.load,
        card_clock_hz=after.card_clock_hz,
        card_slowed=after.card_slowed,
    )


def _others(before: Reading, after: Reading) -> float | None:
    """Seconds of all usable cores that went to neither this process nor its workers."""
    busy, own = _gone(before.busy_s, after.busy_s), _gone(before.own_s, after.own_s)
    return None if busy is None or own is None else max(0.0, busy - own)


def _gone(before: float | None, after: float | None) -> float | None:
    """How much a counter grew; None if it was reset in between."""
    return None if before is None or after is None or after < before else after - before


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else min(1.0, part / whole)


def _lines(file: Path) -> list[str]:
    """The file's lines; none if it doesn't exist or can't be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _number(file: Path) -> float | None:
    text = "".join(_lines(file)).strip()
    return float(text) if text.isdecimal() else None


def _usable() -> set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else set(range(os.cpu_count() or 1))


def _processors(root: Path) -> tuple[float | None, float | None, float | None]:
    """Busy, stolen and all seconds of the usable cores since the start, from /proc/stat."""
    names = {f"cpu{number}" for number in _usable()}
    found = [line.split() for line in _lines(root / "proc/stat")]
    cores = [[int(ticks) for ticks in line[1 : 1 + _COLUMNS]] for line in found if line and line[0] in names]
    cores = [ticks for ticks in cores if len(ticks) == _COLUMNS]
    if not cores:
        return None, None, None
    sums = [sum(column) / _ticks_per_second() for column in zip(*cores, strict=True)]
    return sum(sums[place] for place in _BUSY), sums[_STEAL], sum(sums)


def _own(root: Path, pids: Iterable[int]) -> float | None:
    """Processor seconds of this process and of `pids`; None if a worker has ended."""
    times = [_processor_time(root, pid) for pid in {os.getpid(), *pids}]
    known = [spent for spent in times if spent is not None]
    return sum(known) if len(known) == len(times) else None


def _processor_time(root: Path, pid: int) -> float | None:
    text = "".join(_lines(root / "proc" / str(pid) / "stat"))
    after_name = text.rpartition(")")[2].split()
    if len(after_name) <= _SYSTEM:
        return None
    return (int(after_name[_USER]) + int(after_name[_SYSTEM])) / _ticks_per_second()


def _ticks_per_second() -> int:
    return os.sysconf("SC_CLK_TCK")


def _pressure(root: Path) -> float | None:
    """Seconds since the start in which some task waited for a processor (PSI)."""
    for line in _lines(root / "proc/pressure/cpu"):
        if line.startswith("some"):
            return int(line.rpartition("total=")[2]) / 1e6
    return None


def _throttled(root: Path) -> float | None:
    """Seconds for which the quota of this process's container stopped it."""
    units = {"throttled_usec": 1e6, "throttled_time": 1e9}  # of cgroups version 2 and 1
    for folder in cgroups(root, "cpu"):
        for line in _lines(folder / "cpu.stat"):
            name, _, count = line.partition(" ")
            if name in units and count.strip().isdecimal():
                return int(count) / units[name]
    return None


def _cores(root: Path) -> list[Path]:
    return [root / f"sys/devices/system/cpu/cpu{number}" for number in sorted(_usable())]


def _throttle_events(root: Path) -> float | None:
    """How often the usable cores, or their packages, were slowed down for heat since the start."""
    names = ("core_throttle_count", "package_throttle_count")
    counts = [_number(core / "thermal_throttle" / name) for core in _cores(root) for name in names]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _clock(root: Path) -> float | None:
    """The frequency of the fastest usable core: idle cores say nothing about a block."""
    frequencies = [_number(core / "cpufreq/scaling_cur_freq") for core in _cores(root)]
    return max((1000 * kilohertz for kilohertz in frequencies if kilohertz is not None), default=None)


def _load(root: Path) -> float | None:
    """Runnable tasks per usable core, as a mean over the last minute; from the C library without /proc."""
    first = " ".join(_lines(root / "proc/loadavg")).split()[:1]
    tasks = float(first[0]) if first else _load_without_proc(root)
    return None if tasks is None else tasks / len(_usable())


def _load_without_proc(root: Path) -> float | None:
    return os.getloadavg()[0] if root == _ROOT and hasattr(os, "getloadavg") else None


def _card(library: Any, card: Any) -> tuple[float, float]:
    """Clock in Hz, and 1 if the card is slowed down."""
    megahertz = library.nvmlDeviceGetClockInfo(card, library.NVML_CLOCK_SM)
    reasons = library.nvmlDeviceGetCurrentClocksThrottleReasons(card)
    return 1e6 * megahertz, float(bool(reasons & _SLOWED))
