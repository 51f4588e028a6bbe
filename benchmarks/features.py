"""Measure how fast features are computed, how fast they are found again, and whether memory grows with the
pictures.

    python benchmarks/features.py [--quick] [--batch-size 32] [--threads N] [FOLDER]

Speed: decoding and the engine share the cores, so the parts allow 1 / (1/decode + 1/engine) pictures/s. The
goal is at least 90 % of that. Without FOLDER, JPEGs of 500 × 375 pixels are made. Rounds of the parts
alternate, so that other load affects all alike; medians are compared.

Memory: SqueezeNet 1.1 at its smallest input on Fashion-MNIST (Debian's dataset-fashion-mnist), on 1,000 and
60,000 pictures (10,000 with --quick), each in its own process with an empty cache. Goal: the peaks differ by
less than 48 MB: what isn't flat are the names and digests of the pictures themselves.

Exits with status 1 if a result is wrong or memory grows by more.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval_throughput import made
from vertebra._version import __version__
from vertebra.data import datasets
from vertebra.data.preprocess import Preprocess, preprocess_many
from vertebra.inference import kept_features, loading
from vertebra.machine.system import describe, library_versions
from vertebra.measuring.evaluation import probing
from vertebra.zoo.graphs import store

ASKED, ASKED_BYTES = 0.9, 48_000_000
MODEL = "squeezenet1_1"
FASHION = Path("/usr/share/datasets/fashion-mnist")
ROUNDS = 5


@dataclass(frozen=True)
class Kept:
    place: int
    sha256: str


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        return one(int(sys.argv[2]))
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    versions = library_versions(("numpy", "onnxruntime", "simplejpeg"))
    print(f"machine   {describe().id}, {platform.platform()}")
    print(f"versions  vertebra {__version__}, {', '.join(map(' '.join, versions.items()))}")
    grown = memory((1_000, 10_000 if asked.quick else 60_000)) if FASHION.is_dir() else 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or made(Path(scratch))
        return max(grown, speed(datasets.open(folder), asked.batch_size, asked.threads))


# ------------------------------------------------------------------ speed


def speed(pictures: datasets.Dataset, batch_size: int, threads: int | None) -> int:
    kept = probing.look(pictures).kept
    how = {"engine": "onnxruntime", "untrained": True, "features": True}
    with loading.load(MODEL, batch_size=batch_size, threads=threads, **how) as loaded:
        sources = [sample.source for sample in pictures.first(batch_size)]
        ready = preprocess_many(sources, loaded.preprocess)
        batch = np.stack([image for image in ready if isinstance(image, np.ndarray)])
        loaded.features(batch)
        rates: dict[str, list[float]] = {"decode": [], "engine": [], "together": [], "found": []}
        results = []
        for _ in range(ROUNDS):
            rates["decode"].append(decoded(pictures, loaded))
            rates["engine"].append(answered(batch, loaded, len(kept)))
            with tempfile.TemporaryDirectory() as cache:
                os.environ["VERTEBRA_CACHE"] = cache
                for name in ("together", "found"):
                    start = time.perf_counter()
                    found = kept_features.features(loaded, pictures, kept)
                    rates[name].append(len(kept) / (time.perf_counter() - start))
                    results.append((found.computed, found.found, np.array(found.vectors)))
    decode, engine, whole, again = (statistics.median(each) for each in rates.values())
    allowed = 1 / (1 / decode + 1 / engine)
    print(f"\n{MODEL}: {len(kept)} pictures, batches of {batch_size}, {ROUNDS} rounds")
    print(f"decode    {decode:8.1f} pictures/s\nengine    {engine:8.1f} pictures/s")
    print(f"allowed   {allowed:8.1f} pictures/s\ntogether  {whole:8.1f} pictures/s")
    print(f"ratio     {whole / allowed:8.3f} of what the parts allow (goal: {ASKED})")
    print(f"found     {again:8.1f} pictures/s the second time: {whole / again:.1%} of the first's time")
    counts = {(computed, again) for computed, again, _ in results}
    if counts != {(len(kept), 0), (0, len(kept))} or any(
        not np.array_equal(results[0][2], vectors) for *_, vectors in results
    ):
        print("failed    rounds gave different features", file=sys.stderr)
        return 1
    return 0


def decoded(pictures: datasets.Dataset, loaded: loading.Loaded) -> float:
    start = time.perf_counter()
    count = sum(1 for _ in preprocess_many((one.source for one in pictures), loaded.preprocess))
    return count / (time.perf_counter() - start)


def answered(batch: np.ndarray, loaded: loading.Loaded, pictures: int) -> float:
    start, runs = time.perf_counter(), -(-pictures // len(batch))
    for _ in range(runs):
        loaded.features(batch)
    return runs * len(batch) / (time.perf_counter() - start)


# ------------------------------------------------------------------ memory


def memory(counts: tuple[int, int]) -> int:
    peaks = []
    print(f"\n{MODEL} at its smallest input on Fashion-MNIST")
    for count in counts:
        with tempfile.TemporaryDirectory() as cache:
            for run in ("computed", "found"):
                done = subprocess.run(
                    [sys.executable, __file__, "--one", str(count)],
                    env={**os.environ, "VERTEBRA_CACHE": cache}, capture_output=True, text=True, check=True,
                )  # fmt: skip
                rows, peak, seconds = done.stdout.split()
                if int(rows) != count:
                    print(f"failed    {rows} of {count} pictures have features", file=sys.stderr)
                    return 1
                peaks.append(int(peak))
                print(
                    f"{count:>9,} pictures {run:>8}   peak {int(peak) / 1e6:7.1f} MB   "
                    f"{float(seconds):7.1f} s   {count / float(seconds):8.0f} pictures/s",
                    flush=True,
                )
    apart = max(peaks) - min(peaks)
    print(f"apart     {apart / 1e6:.1f} MB (goal: under {ASKED_BYTES / 1e6:.0f})")
    return int(apart >= ASKED_BYTES)


def one(count: int) -> int:
    """Compute or find the features of Fashion-MNIST's first pictures; print how many, the peak in bytes and
    the seconds."""
    import resource

    size = store.find(MODEL).smallest
    record = Preprocess(input_size=(size, size), resize=(size, size), interpolation="bilinear")
    pictures = datasets.open(FASHION, split="train").part(count)
    kept = [
        Kept(place, hashlib.sha256(sample.source.tobytes()).hexdigest())
        for place, sample in enumerate(pictures)
        if isinstance(sample.source, np.ndarray)
    ]
    how = {"engine": "onnxruntime", "untrained": True, "features": True, "preprocess": record}
    with loading.load(MODEL, batch_size=64, **how) as loaded:
        start = time.perf_counter()
        found = kept_features.features(loaded, pictures, kept)
        seconds = time.perf_counter() - start
    kilo = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS only
    print(found.computed + found.found, kilo * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
