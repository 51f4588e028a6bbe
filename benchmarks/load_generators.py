"""Whether `vertebra bench --scenario server URL` measures what others' load generators measure.

    python benchmarks/load_generators.py BUNDLE --analyzer FOLDER --loadgen PYTHON [--rate 20] [--seconds 30]

FOLDER has NVIDIA's perf_analyzer and its library (see .ci/more, which unpacks both), PYTHON is that of an
environment with `mlcommons-loadgen`. One server of the Bundle, pinned as in serving.py, is asked by each in
turns, for some rounds, with the same tensor at the same rate of random times:

p50, p99   ours beside perf_analyzer's (asked: within 10 %) and beside LoadGen's
verdict    at several rates around the largest that holds the bound: ours beside LoadGen's Server scenario.
           "unclear" is LoadGen's INVALID: neither shows with 99 % confidence that the bound is kept

Run it on a quiet machine: about 6 x --rounds x --seconds for the figures, and 16 x --seconds for the
verdicts.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import serving_parts as parts
from serving_parts import OTHER_CORE, Process
from vertebra.inference.clients import addresses, inputs
from vertebra.inference.clients.inputs import Question
from vertebra.inference.clients.opening import client
from vertebra.measuring.benchmarking.scenarios import Bound
from vertebra.measuring.requests import offering
from vertebra.measuring.requests.offering import Offered

MODEL = "measured"
#: Rates at which verdicts are compared, as shares of the one at which this generator finds the bound broken.
SHARES = (0.5, 0.7, 0.85, 1.0, 1.3, 2.0)


def ours(url: str, rate: float, bound_s: float, seconds: float) -> tuple[Offered, Question]:
    """A run of our generator with one tensor, and the tensor."""

    async def run() -> tuple[Offered, Question]:
        asked = client(addresses.parsed(url), None)
        try:
            await asked.opened()
            about = await asked.about()
            (question, *_) = inputs.tensors(about.taken, batch_size=1, input_size=None, seed=0)
            await asked.prepare([question], at_once=32)
            queries = max(662, round(rate * seconds))
            found = await offering.offer(asked.ask, rate=rate, bound=Bound(bound_s), queries=queries)
        finally:
            await asked.close()
        return found, question

    with asyncio.Runner(loop_factory=offering.loop) as runner:
        return runner.run(run())


def analyzer(
    folder: Path, at: str, how: str, rate: float, seconds: float, question: Question
) -> dict[str, float]:
    """perf_analyzer's 50th and 99th percentile, in seconds."""
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / question.name).write_bytes(question.content)
        report = Path(work) / "report.csv"
        command = [
            str(folder / "tritonclient-2.45.0.data/data/bin/perf_analyzer"), "-m", MODEL, "-i", how, "-u", at,
            "--request-rate-range", f"{rate:g}", "--request-distribution", "poisson", "--percentile", "99",
            "--measurement-interval", str(round(1000 * max(seconds, 662 / rate) / 3)), "--max-trials", "3",
            "--stability-percentage", "999", "--input-data", work, "--max-threads", "32", "-f", str(report),
        ]  # fmt: skip
        libraries = {"LD_LIBRARY_PATH": str(folder / "nvidia/cuda_runtime/lib")}
        ran = subprocess.run(
            command, env={**os.environ, **libraries}, capture_output=True, text=True, check=False
        )
        if ran.returncode or not report.exists():
            raise SystemExit(f"perf_analyzer: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        (row,) = csv.DictReader(report.open())
    return {f"p{percent}": float(row[f"p{percent} latency"]) / 1e6 for percent in (50, 99)}


def loadgen(
    python: Path, server: Process, rate: float, bound_s: float, seconds: float, question: Question
) -> Any:
    """What LoadGen's Server scenario says."""
    body, length = question.http()
    with tempfile.NamedTemporaryFile() as file:
        file.write(str(length).encode() + b"\n" + body)
        file.flush()
        script = Path(__file__).with_name("loadgen_client.py")
        arguments = (
            "127.0.0.1",
            server.port,
            f"/v2/models/{MODEL}/infer",
            file.name,
            rate,
            1e3 * bound_s,
            seconds,
        )
        command = [str(python), str(script), *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"LoadGen: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return json.loads(ran.stdout.strip().splitlines()[-1])


def figures(asked: argparse.Namespace, server: Process, url: str) -> None:
    """Percentiles of each at one rate, in turns."""
    found: dict[tuple[str, str], list[float]] = {}

    def note(who: str, values: dict[str, float]) -> None:
        for name in ("p50", "p99"):
            found.setdefault((who, name), []).append(values[name])

    for _ in range(asked.rounds):
        run, question = ours(url, asked.rate, 60.0, asked.seconds)
        p50, p99 = statistics.median(run.latencies_s), run.percentile(99)
        assert p99 is not None, f"{run.failures}"
        print(f"ours: p50 {1e3 * p50:.2f} ms, p99 {1e3 * p99:.2f} ms, left late: {1e3 * run.lag_s:.2f} ms")
        note("ours", {"p50": p50, "p99": p99})
        if asked.analyzer is not None:
            at = f"127.0.0.1:{server.port}"
            note("perf_analyzer", analyzer(asked.analyzer, at, "http", asked.rate, asked.seconds, question))
        if asked.loadgen is not None:
            note("LoadGen", loadgen(asked.loadgen, server, asked.rate, 60.0, asked.seconds, question))
    for (who, name), values in found.items():
        middle, reference = statistics.median(values), statistics.median(found["ours", name])
        each = ", ".join(f"{1e3 * value:.2f}" for value in values)
        less = (
            f"; ours is {reference / middle - 1:+.1%} (asked: within 10 %)" if who == "perf_analyzer" else ""
        )
        print(f"{name} at {asked.rate:g}/s, {who}: {1e3 * middle:.2f} ms ({each}){less}")


def verdicts(asked: argparse.Namespace, server: Process, url: str) -> None:
    """Kept or not, at rates around the limit."""
    bound_s = asked.bound / 1e3
    low, high = asked.rate, 2 * asked.rate
    while ours(url, high, bound_s, asked.seconds)[0].verdict == "kept":
        low, high = high, 2 * high
    while high > 1.1 * low:
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if ours(url, middle, bound_s, asked.seconds)[0].verdict == "kept"
            else (low, middle)
        )
    agreeing = 0
    for share in SHARES:
        rate = share * high
        run, question = ours(url, rate, bound_s, asked.seconds)
        judged = loadgen(asked.loadgen, server, rate, bound_s, asked.seconds, question)
        same = (run.verdict == "kept") == judged["valid"]
        agreeing += same
        print(
            f"p99 within {asked.bound:g} ms at {rate:.1f}/s: ours {run.verdict} ({run.missed} of "
            f"{run.sent} missed), "
            f"LoadGen {'VALID' if judged['valid'] else 'INVALID'} (p99 {1e3 * judged['p99']:.1f} ms): "
            f"{'the same' if same else 'another verdict'}"
        )
    print(f"the same verdict at {agreeing} of {len(SHARES)} rates")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--analyzer", type=Path, metavar="FOLDER")
    parser.add_argument("--loadgen", type=Path, metavar="PYTHON")
    parser.add_argument("--rate", type=float, default=20.0, help="a second; about half of what is served")
    parser.add_argument("--bound", type=float, default=100.0, help="milliseconds, of the verdicts")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a run, at least 662 requests")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {OTHER_CORE})
    server = parts.measured(asked.bundle, MODEL, "--no-grpc")
    try:
        url = f"http://127.0.0.1:{server.port}"
        figures(asked, server, url)
        if asked.loadgen is not None:
            verdicts(asked, server, url)
    finally:
        server.close()


if __name__ == "__main__":
    main()
