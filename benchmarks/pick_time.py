"""Time a pick over the whole field: from a warm table, and from one with all published figures.

    python benchmarks/pick_time.py [--runs N]

Warm: a made-up latency and memory of 24 networks on two engines, from which all others are estimated. Full:
the rows of `vertebra cite all`, and a made-up latency and memory for every network that has a count, none
estimated. The estimates stay in the user's cache (VERTEBRA_CACHE) from one run to the next, so all but the
first compute none. Prints in seconds the best of N runs of the call, of the command, and of `python -c pass`;
before estimates were the default, the full one took 0.30 s and was the only one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import vertebra
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, shipped

LIMITS = {"top1": "75%", "latency": "50ms"}
WARM = {"fps": "30", "memory": "200MB"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.sqlite"
        table = Table(path)
        start = time.process_time()
        cited = vertebra.cite("all", table=table)
        print(f"vertebra cite all: {cited} rows, {time.process_time() - start:.2f} s of processor time")
        table.append(made_up())
        print(f"the table holds {len(table)} rows of {len(shipped.counts())} networks")
        warm = Table(Path(folder) / "warm.sqlite")
        warm.append(anchors())
        nothing = best(lambda: run([sys.executable, "-c", "pass"]), runs)
        for name, source, limits in (("warm", warm, WARM), ("full", table, LIMITS)):
            show(name, source, limits, nothing, runs)


def show(name: str, source: Table, limits: dict[str, str], nothing: float, runs: int) -> None:
    options = [text for limit, bound in limits.items() for text in (f"--{limit}", bound)]
    command = [sys.executable, "-m", "vertebra", "pick", *options, "--table", str(source.path)]
    call = best(lambda: vertebra.pick(table=source, **limits), runs)
    whole = best(lambda: run(command), runs)
    print(f"{name}: vertebra.pick(...): {call:.3f} s")
    print(
        f"{name}: vertebra pick: {whole:.3f} s, {whole / nothing:.1f} times python -c pass ({nothing:.3f} s)"
    )


def anchors() -> list[Measurement]:
    """Some of the light networks of `made_up`, as measured, on two engines."""
    light = [row for row in made_up() if 2e8 < shipped.counts()[row.model].macs < 2e9]
    models = sorted({row.model for row in light})[::10][:24]
    return [
        replace(row, engine=engine, origin="benched", scenario="single-stream", streams=1)
        for row in light if row.model in models
        for engine in ("onnxruntime", "openvino")
    ]  # fmt: skip


def made_up() -> list[Measurement]:
    """A made-up latency and memory for every network, in proportion to its counts."""
    form = {"system": system.describe().id, "engine": "onnxruntime", "device": "cpu", "precision": "float32",
            "batch_size": 1, "threads": 2, "origin": "estimated"}  # fmt: skip
    return [
        Measurement(model=name, metric=metric, value=value, input_size=count.input_size, **form)
        for name, count in shipped.counts().items()
        for metric, value in (
            ("latency", count.macs / 5e10),
            ("memory_total", 1e8 + 1.2 * count.weight_bytes),
        )
    ]


def best(function: Callable[[], object], runs: int) -> float:
    """Seconds of the quickest of `runs`, after one that isn't counted."""
    function()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
