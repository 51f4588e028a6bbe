"""This process's memory in parts, as the kernel and the driver count it.

The kernel records peaks, so none is missed between two polls. The parts are differences between moments of
one fresh process, so that they add up:

baseline      runtime imported and initialised, nothing loaded
weights       what loading the network added permanently
activations   what running it added at the peak; baseline + weights + activations = total
workspace     the part of the activations that the engine keeps between inferences
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vertebra.machine import system
from vertebra.measuring.benchmarking import nvml

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes() -> int:
    """The memory that the process holds now; where that is unknown (not Linux), its peak so far."""
    return _status_bytes("VmRSS") or _peak_so_far()


def reset_peak() -> bool:
    """Reset the peak to what is held now. False if the system can't."""
    if _status_bytes("VmHWM") is None:
        return False
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """The most that the process held since `reset_peak`, or since its start if that returned False."""
    return _status_bytes("VmHWM") or _peak_so_far()


def _status_bytes(name: str) -> int | None:
    """A line of /proc/self/status such as `VmHWM:    12345 kB`."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _peak_so_far() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# ------------------------------------------------------------------ graphics cards


def device_bytes() -> int | None:
    """The memory that this process holds on all cards together, as NVIDIA's driver reports it, or None.

    Needs the package nvidia-ml-py or the program nvidia-smi. In a container the driver may know this process
    by another number; then the result is None rather than another process's memory.
    """
    held = nvml.ask(_by_library)
    return _by_program() if held is None else held


def _by_library(library: Any) -> int | None:
    cards = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
    processes = [one for card in cards for one in library.nvmlDeviceGetComputeRunningProcesses(card)]
    return _own_bytes([(one.pid, one.usedGpuMemory) for one in processes])


def _by_program() -> int | None:
    lines = system.query_nvidia("compute-apps", ("pid", "used_memory"))
    return _own_bytes([(int(pid), int(mib) * 2**20) for pid, mib in lines if (pid + mib).isdecimal()])


def _own_bytes(processes: list[tuple[int, int | None]]) -> int | None:
    own = [held for pid, held in processes if pid == os.getpid() and held is not None]
    return sum(own) if own else None


# ------------------------------------------------------------------ parts


@dataclass(frozen=True)
class Parts:
    """Bytes. `was_reset` is False if the peak of loading couldn't be separated from that of running.

    `device_*` are the driver's figures of a graphics card, None elsewhere; `allocator` holds what the
    engine's own allocator reports as peaks, by name (`allocated`, `reserved`).
    """

    baseline: int
    weights: int
    activations: int
    workspace: int
    was_reset: bool = True
    device_baseline: int | None = None
    device_total: int | None = None
    allocator: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Peak of the process in main memory: exactly baseline + weights + activations."""
        return self.baseline + self.weights + self.activations

    @property
    def net(self) -> int:
        """The peak beyond the runtime: weights + activations."""
        return self.weights + self.activations

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` takes."""
        return {**asdict(self), "allocator": dict(self.allocator)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Parts:
        return cls(**values)

    def figures(self, device: str = "cpu") -> dict[str, float]:
        """Metric -> value, of those known. On a device other than the processor, `memory_total` and
        `memory_net` are the card's, and missing if the driver doesn't report them."""
        known: dict[str, int | None] = {
            "memory_baseline": self.baseline,
            "memory_weights": self.weights,
            "memory_activations": self.activations,
            "memory_workspace": self.workspace,
            "memory_total": self.total,
            "memory_net": self.net,
        }
        if device != "cpu":
            known = {"memory_total": self.device_total, "memory_net": self._device_net()}
            known.update({f"memory_{name}": self.allocator.get(name) for name in ("allocated", "reserved")})
        return {metric: float(held) for metric, held in known.items() if held is not None}

    def reasons(self) -> tuple[str, ...]:
        """What a reader must know about the figures."""
        return () if self.was_reset else ("includes the peak of loading: this system can't reset the peak",)

    def _device_net(self) -> int | None:
        if self.device_total is None:
            return None
        return max(0, self.device_total - (self.device_baseline or 0))


class Meter:
    """Takes the parts' moments in one process, in this order: `runtime`, `loaded`, `ready`, `ran`.

    meter = Meter(device="cpu")
    meter.runtime()                       # runtime imported and initialised
    session = engines.load(...)
    meter.loaded()
    prepared = session.prepare(images)
    meter.ready()                         # the peak starts here
    session.infer(prepared)               # at least three times
    parts = meter.ran(session.memory())
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._held: dict[str, int] = {}
        self._device_baseline: int | None = None
        self._was_reset = False

    def runtime(self) -> None:
        self._held["runtime"] = resident_bytes()
        self._device_baseline = self._on_device()

    def loaded(self) -> None:
        self._held["loaded"] = resident_bytes()

    def ready(self) -> None:
        self._was_reset = reset_peak()
        self._held["ready"] = resident_bytes()

    def ran(self, allocator: Mapping[str, int] | None = None) -> Parts:
        """The parts up to now; may be called again after more inferences."""
        return parts(
            self._held["runtime"],
            self._held["loaded"],
            self._held["ready"],
            kept=resident_bytes(),
            peak=peak_bytes(),
            was_reset=self._was_reset,
            device=(self._device_baseline, self._on_device()),
            allocator=allocator or {},
        )

    def _on_device(self) -> int | None:
        return None if self._device == "cpu" else device_bytes()


def parts(
    runtime: int,
    loaded: int,
    ready: int,
    *,
    kept: int,
    peak: int,
    was_reset: bool = True,
    device: tuple[int | None, int | None] = (None, None),
    allocator: Mapping[str, int] | None = None,
) -> Parts:
    """The parts of a peak from what was held at each moment, in bytes.

    If an engine frees memory after loading, a later moment can hold less than an earlier one; still no part
    is negative, and they add up to the peak.
    """
    peak = max(peak, kept, runtime)
    loaded = min(max(loaded, runtime), peak)
    activations = peak - loaded
    workspace = min(max(0, kept - ready), activations)
    return Parts(
        baseline=runtime,
        weights=loaded - runtime,
        activations=activations,
        workspace=workspace,
        was_reset=was_reset,
        device_baseline=device[0],
        device_total=device[1],
        allocator=dict(allocator or {}),
    )
