"""Time a pick over the whole catalogue, from a table with all published figures.

    python benchmarks/pick_time.py [--runs N]

Fills a table with the rows of `vertebra cite all`, and with a made-up latency and memory on this machine for
every network that has a count. Prints the best of N runs of the call, of the command, and of
`python -c pass`, in seconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import vertebra
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, shipped

LIMITS = {"top1": "75%", "latency": "50ms"}


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
        limits = [text for name, bound in LIMITS.items() for text in (f"--{name}", bound)]
        command = [sys.executable, "-m", "vertebra", "pick", *limits, "--table", str(path)]
        nothing = best(lambda: run([sys.executable, "-c", "pass"]), runs)
        call = best(lambda: vertebra.pick(table=table, **LIMITS), runs)
        whole = best(lambda: run(command), runs)
    print(f"vertebra.pick(...): {call:.3f} s")
    print(f"vertebra pick: {whole:.3f} s, {whole / nothing:.1f} times python -c pass ({nothing:.3f} s)")


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
