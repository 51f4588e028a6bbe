"""Time `vertebra predict` of one photograph from a Bundle, from a cold start, against the bare runtime.

    python benchmarks/predict_cold.py BUNDLE PHOTOGRAPH [runs]

Each runs in its own process: `vertebra predict` (decode, preprocess, run, name, print), and a script that
only imports ONNX Runtime and numpy, opens the Bundle's network with as many threads and runs it once, on
zeros. They take turns, with compiled bytecode and cached files. Goal: under 4 times. Exits with status 1 only
if there is no answer.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from statistics import median

import vertebra
from vertebra import bundles, engines
from vertebra.machine import system

VERTEBRA = str(Path(sysconfig.get_path("scripts")) / "vertebra")
ASKED = 4.0
BARE = """
import sys
import numpy
import onnxruntime
path, size, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
images = numpy.zeros((1, 3, size, size), numpy.float32)
print(session.run(None, {session.get_inputs()[0].name: images})[0].shape)
"""


def seconds(command: list[str]) -> tuple[float, str]:
    """Wall time of one run, and what it printed."""
    start = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, run.stdout


def main() -> int:
    folder, photograph = sys.argv[1:3]
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 21
    kept = bundles.read(folder)
    settings = [str(kept.input_size), str(system.default_threads())]
    bare = [sys.executable, "-c", BARE, str(kept.network), *settings]
    command = [VERTEBRA] if os.path.exists(VERTEBRA) else [sys.executable, "-m", "vertebra"]
    ours = [*command, "predict", photograph, "--model", folder, "--json"]
    seconds(bare)
    _, printed = seconds(ours)  # compiles what isn't compiled yet
    if not json.loads(printed)["top"]:
        print(f"no answer: {printed}")
        return 1
    times = [(seconds(bare)[0], seconds(ours)[0]) for _ in range(runs)]
    ratio = median(taken / base for base, taken in times)
    print(
        f"vertebra {vertebra.__version__}, onnxruntime {engines.version('onnxruntime')}, "
        f"Python {platform.python_version()}, {kept.model}, {runs} runs in turn"
    )
    print(f"{'bare import, load, run':>24}  {1e3 * median(base for base, _ in times):6.1f} ms")
    print(f"{'vertebra predict':>24}  {1e3 * median(taken for _, taken in times):6.1f} ms")
    print(f"{'ratio':>24}  {ratio:6.2f}     (goal: under {ASKED:g})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
