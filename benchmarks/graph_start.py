"""Seconds from a graph that ships to a ready ONNX Runtime session, step by step, in a fresh process for each
run.

    python benchmarks/graph_start.py [--network timm:resnet50] [--runs 5] [--size PIXELS]

Prints the median of each step, and of all: finding the graph and putting it together, drawing the parameters
into model.onnx.data, and loading the file in ONNX Runtime with its optimisations, as a measurement does.
"proof" is what a Bundle costs beside: the comparison with eager PyTorch's answers, which ship, and the
reference's logits. The goal is 1.5 s for resnet50 without the imports. Exits with status 1 only if a run
fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median

_RUN = """
import json, sys, tempfile, time
from pathlib import Path
marks = [("", time.perf_counter())]
def mark(name):
    marks.append((name, time.perf_counter()))
import numpy, onnxruntime
from vertebra.zoo.graphs import filling, store
from vertebra.exporting import filled
mark("imports")
graph = store.find(sys.argv[1], int(sys.argv[2]) or None)
skeleton = store.skeleton(graph)
slots = tuple(filling.Slot(*one) for one in graph.parameters())
mark("graph")
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.onnx"
    filling.write(skeleton, slots, filling.drawn(graph.name, slots), path)
    mark("parameters")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    mark("session")
    del session
    size = int(sys.argv[2]) or graph.native_size
    started = time.perf_counter()
    filled.write(graph, Path(folder) / "bundle", model=graph.name, input_size=size, compared=False)
    whole = time.perf_counter() - started
steps = {name: end - begin for (_, begin), (name, end) in zip(marks, marks[1:])}
steps["to a ready session"] = steps["graph"] + steps["parameters"] + steps["session"]
steps["a whole Bundle, with its proof"] = whole
print(json.dumps(steps))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", default="timm:resnet50")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=0)
    asked = parser.parse_args()
    runs = []
    for _ in range(asked.runs):
        words = [sys.executable, "-c", _RUN, asked.network, str(asked.size)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        runs.append(json.loads(done.stdout))
    for step in runs[0]:
        print(f"{step:32} {median(run[step] for run in runs):6.3f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
