"""The machine without measuring its speed: its hardware, its load, and what is missing."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertebra import engines, units
from vertebra.machine import system
from vertebra.measurements.blocks import Surroundings
from vertebra.measuring.benchmarking import energy, surroundings

_ROOT = Path("/")
#: Shares of the processors' time above which others disturb.
_OTHERS, _STEAL, _PRESSURE = 0.05, 0.01, 0.10
_LIBRARIES = {
    "torch": "profiles, exports, and every measurement of the networks",
    "vl_convert": "charts and reports",
    "sklearn": "probing on your own pictures",
    "timm": "timm's networks",
    "torchvision": "torchvision's networks",
}
_EXTRAS = {"torch": "torch", "vl_convert": "charts", "sklearn": "probe", "timm": "catalogue",
           "torchvision": "catalogue"}  # fmt: skip


@dataclass(frozen=True)
class EngineState:
    """One engine that vertebra knows; `missing` is None if it runs here, else why not and how to install what
    is missing."""

    name: str
    version: str | None
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    missing: str | None


@dataclass(frozen=True)
class State:
    """`machine` is `System.to_dict`'s; `around` is what happened while nothing was measured; `governor` is
    the clock's, and `counters` those of energy. None means unknown."""

    machine: dict[str, Any]
    default_threads: int
    around: Surroundings
    governor: str | None
    counters: tuple[str, ...]
    engines: tuple[EngineState, ...]
    advice: tuple[str, ...]


def look(seconds: float = 1.0, *, sleep: Callable[[float], None] = time.sleep, root: Path = _ROOT) -> State:
    """Observe the machine for `seconds`, while this process sleeps."""
    described = system.describe()
    before = surroundings.snapshot(root=root)
    sleep(seconds)
    around = surroundings.between(before, surroundings.snapshot(root=root))
    counters = tuple(counter.name for counter in energy.Meter(root=root).counters)
    has_card = bool(described.gpus)
    states = tuple(_engine(info, has_card=has_card) for info in engines.known() if info.name != "null")
    governor = _governor(root)
    advice = [
        *_of_others(around),
        *_of_clock(around, governor),
        *_of_energy(counters, root),
        *_of_cards(described),
        *_of_libraries(),
    ]
    return State(
        described.to_dict(), system.default_threads(), around, governor, counters, states, tuple(advice)
    )


def _engine(info: engines.EngineInfo, *, has_card: bool) -> EngineState:
    """The engine here, with the devices that this machine has."""
    missing = engines.missing(info.name)
    version = engines.version(info.name)
    usable = tuple(device for device in info.devices if device == "cpu" or has_card)
    return EngineState(info.name, version, usable, info.precisions, missing)


def _governor(root: Path) -> str | None:
    file = root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    try:
        return file.read_text(encoding="ascii", errors="replace").strip() or None
    except OSError:
        return None


def _of_others(around: Surroundings) -> Iterable[str]:
    def much(share: float | None, most: float) -> bool:
        return share is not None and share > most

    if much(around.others_cpu, _OTHERS):
        yield (
            f"Other processes use {units.show(around.others_cpu or 0, 'fraction')} of the processors now: "
            "figures will be noisy until they finish."
        )
    elif much(around.pressure, _PRESSURE):
        yield (
            f"Tasks wait for a processor {units.show(around.pressure or 0, 'fraction')} of the time, though "
            "little is running here: processes outside this container may use it."
        )
    if much(around.steal, _STEAL):
        yield (
            f"The hypervisor gives {units.show(around.steal or 0, 'fraction')} of this machine's time to "
            "other machines; nothing here can change that."
        )
    if around.throttled_s:
        yield "This container's CPU quota stops its processes: raise the quota, or use fewer threads."


def _of_clock(around: Surroundings, governor: str | None) -> Iterable[str]:
    if governor is not None and governor != "performance":
        yield (
            f'The clock\'s governor is "{governor}": latencies of short calls vary. To fix it: '
            "sudo cpupower frequency-set -g performance"
        )
    if around.clock_hz is None:
        yield "This machine reports no clock frequency; the time of a fixed piece of work is used instead."


def _of_energy(counters: Iterable[str], root: Path) -> Iterable[str]:
    if tuple(counters):
        return
    if energy.rapl_zones(root):
        yield (
            "This machine has energy counters, but only root may read them. To allow it: "
            "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
        )
    else:
        yield "This machine has no energy counter: power and energy can't be measured."


def _of_cards(described: system.System) -> Iterable[str]:
    if described.gpus and importlib.util.find_spec("pynvml") is None:
        yield "To measure the memory and energy of NVIDIA's cards: pip install nvidia-ml-py"


def _of_libraries() -> Iterable[str]:
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    for name in missing:
        yield f'{_LIBRARIES[name].capitalize()} need {name}: pip install "vertebra[{_EXTRAS[name]}]"'
