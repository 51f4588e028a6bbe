"""Compare our medians with those of the runtimes' own tools: five networks, ONNX Runtime and OpenVINO.

    python benchmarks/peers.py [seconds]

Each network is exported once. Then, on the same file and with the same threads, these run: OpenVINO's own
`benchmark_app` and a plain loop around ONNX Runtime's `run`, each in a fresh process; our bench, three fresh
processes of each engine in interleaved blocks; and the two peers again. A peer's figure is the median of its
runs' medians. Goal: within 3 % if our grade is A. Exits with status 1 only if an A differs by more, or a case
failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from statistics import median

from vertebra import bundles, zoo
from vertebra.engines import Subject
from vertebra.exporting.process import Exporter
from vertebra.machine import system
from vertebra.measuring import benchmarking
from vertebra.measuring.benchmarking import Case, Limits, Result

NETWORKS = ("squeezenet1_1", "mobilenetv2_expanded", "alexnet", "googlenet", "resnet18_acnet_deploy")
ENGINES = ("onnxruntime", "openvino")
AGREED = 0.03
#: Runs of each peer before ours, and again after.
RUNS, PEER_S = 1, 4

_LOOP = """
import sys, time, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
size = int(sys.argv[3])
images = numpy.random.default_rng(0).standard_normal((1, 3, size, size), dtype=numpy.float32)
feed = {session.get_inputs()[0].name: images}
end, times = time.perf_counter() + float(sys.argv[4]), []
while time.perf_counter() < end:
    start = time.perf_counter()
    session.run(None, feed)
    times.append(time.perf_counter() - start)
half = times[len(times) // 4:]
print(sorted(half)[len(half) // 2])
"""


def loop(network: Path, threads: int, size: int) -> float:
    """Seconds: the median of a plain loop around ONNX Runtime's `run`, its first quarter left out."""
    command = [sys.executable, "-c", _LOOP, str(network), str(threads), str(size), str(PEER_S)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def benchmark_app(network: Path, threads: int, size: int) -> float:
    """Seconds: the median that OpenVINO's own tool reports, one synchronous stream in float32."""
    tool = Path(sysconfig.get_path("scripts")) / "benchmark_app"
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(tool), "-m", str(network), "-d", "CPU", "-api", "sync", "-hint", "none",
            "-nthreads", str(threads), "-infer_precision", "f32", "-shape", f"[1,3,{size},{size}]",
            "-t", str(PEER_S), "-report_type", "no_counters", "-json_stats", "-report_folder", folder,
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        report = json.loads((Path(folder) / "benchmark_report.json").read_text())
    return float(report["execution_results"]["latency (ms)"]) / 1e3


PEERS = {"onnxruntime": loop, "openvino": benchmark_app}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 24.0
    threads, failed = system.default_threads(), False
    print(f"{system.describe().id}, {threads} threads")
    for name in NETWORKS:
        with tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
            for result, theirs in compared(name, Path(scratch) / "bundle", threads, seconds):
                failed |= not agrees(result, theirs)
    sys.exit(failed)


def compared(name: str, folder: Path, threads: int, seconds: float) -> list[tuple[Result, float]]:
    """Our result and the peer's median for each engine on one network."""
    model = zoo.find(name)
    size = model.input_size
    untrained = Subject(model=name, builder="vertebra.zoo:build", arguments={"name": name, "seed": 0})
    with Exporter() as exporter:
        exporter.export(untrained, folder, input_size=size, in_channels=3)
    kept = bundles.read(folder)

    def ask() -> dict[str, list[float]]:
        return {
            engine: [PEERS[engine](kept.network, threads, size) for _ in range(RUNS)] for engine in ENGINES
        }

    cases = [
        Case(model=name, engine=engine, subject=Subject(model=name, bundle=str(folder)), input_size=size,
             threads=threads)
        for engine in ENGINES
    ]  # fmt: skip
    before = ask()
    results = list(benchmarking.measure_all(cases, Limits(seconds=seconds), system=system.describe().id))
    after = ask()
    return [(one, median(before[one.case.engine] + after[one.case.engine])) for one in results]


def agrees(result: Result, theirs: float) -> bool:
    """Print the two; whether they agree as the grade promises."""
    label = f"{result.case.model:24}{result.case.engine:12}"
    if result.failure is not None:
        print(f"{label}failed: {result.failure}")
        return False
    row = next(row for row in result.rows if row.metric == "latency")
    ratio = row.value / theirs
    notes = "" if row.grade == "A" else "; ".join(row.grade_reasons)
    print(
        f"{label}ours {1e3 * row.value:8.3f} ms, theirs {1e3 * theirs:8.3f} ms, ratio {ratio:.3f}, "
        f"grade {row.grade} {notes}",
        flush=True,
    )
    return row.grade != "A" or abs(ratio - 1) <= AGREED


if __name__ == "__main__":
    main()
