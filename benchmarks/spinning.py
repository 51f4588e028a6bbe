"""What an engine's threads cost while they spin, and what letting them sleep costs, as `vertebra serve` does.

    python benchmarks/spinning.py BUNDLE [--engine onnxruntime] [--calls 200] [--rounds 3]

Calls with one image, one after the other and with pauses of 20 ms (a server that is little asked), of the
engine with all cores whose threads may spin, whose threads sleep, and with one thread. Each has a process of
its own, in turns. Prints the processor time of a call, which other programs change little, and its median
latency, for which the machine must be quiet. Takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from vertebra.inference import loading
from vertebra.machine import system

PAUSES_S = (0.0, 0.02)


def measured(bundle: Path, engine: str | None, threads: int, spins: bool, calls: int) -> list[float]:
    """Milliseconds of processor time and the median latency, for each pause."""
    found = []
    with loading.load(bundle, engine=engine, threads=threads, spins=spins) as loaded:
        image = np.zeros((1, *loaded.settings.input_shape[1:]), np.float32)
        for pause_s in PAUSES_S:
            for _ in range(5):
                loaded.logits(image)
            times, before = [], time.process_time()
            for _ in range(calls):
                begin = time.perf_counter()
                loaded.logits(image)
                times.append(time.perf_counter() - begin)
                time.sleep(pause_s)
            found += [1e3 * (time.process_time() - before) / calls, 1e3 * statistics.median(times)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        threads, spins = json.loads(asked.one)
        print(json.dumps(measured(asked.bundle, asked.engine, threads, spins, asked.calls)))
        return
    cores = system.default_threads()
    kinds = {f"{cores} threads that spin": (cores, True), f"{cores} threads that sleep": (cores, False)}
    kinds["1 thread"] = (1, False)
    found: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for _ in range(asked.rounds):
        for kind, (threads, spins) in kinds.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--one", json.dumps([threads, spins])]
            policy = {} if spins else {"OMP_WAIT_POLICY": "PASSIVE"}
            ran = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **policy}
            )
            found[kind].append(json.loads(ran.stdout))
    for kind, rounds in found.items():
        busy, latency, paused, after_pause = (statistics.median(one) for one in zip(*rounds, strict=True))
        print(
            f"{kind}: {busy:.1f} ms of processor time and {latency:.1f} ms a call; with pauses "
            f"{paused:.1f} and {after_pause:.1f} ms"
        )


if __name__ == "__main__":
    main()
