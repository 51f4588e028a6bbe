"""Measure what the harness itself adds to a call: the null engine's time in a real process and loop.

    python benchmarks/null_overhead.py

The null engine answers a constant, so its latency contains only the clock and the call. The goal is at most
20 µs per call. Exits with status 1 only if a result is wrong.
"""

from __future__ import annotations

import platform
import sys

from vertebra import units
from vertebra._version import __version__
from vertebra.engines import Subject
from vertebra.machine.system import describe, library_versions
from vertebra.measuring.benchmarking import Case, Limits, measure

ASKED_S = 20e-6


def main() -> int:
    machine = describe()
    versions = library_versions(("numpy",))
    print(f"machine   {machine.id}, {platform.platform()}")
    print(f"versions  vertebra {__version__}, python {platform.python_version()}, numpy {versions['numpy']}")
    case = Case(
        model="nothing", engine="null", subject=Subject("nothing", builder="none:none"), input_size=224
    )
    result = measure(case, Limits(seconds=5.0), system=machine.id)
    if result.failure is not None:
        print(f"failed    {result.failure}", file=sys.stderr)
        return 1
    latency = next(row for row in result.rows if row.metric == "latency")
    if latency.low is None or latency.high is None or not latency.low <= latency.value <= latency.high:
        print(f"failed    no interval around the median {latency.value}", file=sys.stderr)
        return 1
    shown = [units.show(value, "s") for value in (latency.value, latency.low, latency.high)]
    print(f"overhead  {shown[0]} per call (95 %: {shown[1]} to {shown[2]}, {latency.samples} samples)")
    print(f"ratio     {latency.value / ASKED_S:.3f} of the goal of {units.show(ASKED_S, 's')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
