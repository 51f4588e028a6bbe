"""This process's memory, as the kernel keeps it: a peak that it records can't fall between two polls."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes() -> int:
    """What the process holds in memory now; where the system doesn't tell (not Linux), its peak so far."""
    return _status_bytes("VmRSS") or _peak_so_far()


def reset_peak() -> bool:
    """Let the peak start again from what is held now. False where the system can't."""
    if _status_bytes("VmHWM") is None:
        return False
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """The most that the process held since `reset_peak`, or since its start where that gave False."""
    return _status_bytes("VmHWM") or _peak_so_far()


def _status_bytes(name: str) -> int | None:
    """A line of /proc/self/status such as `VmHWM:    12345 kB`."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _peak_so_far() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
