"""Compare the images per second of an evaluation with what its parts allow, in one run on a CPU.

    python benchmarks/eval_throughput.py [FOLDER]

Decoding and the engine share the cores, so the parts allow 1 / (1/decode + 1/engine) images/s. The goal is at
least 90 % of that. Without FOLDER, JPEGs of 500 × 375 pixels are made. Rounds of the three alternate, so that
other load affects all alike; medians are compared. Exits with status 1 only if a result is wrong.
"""

from __future__ import annotations

import io
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vertebra._version import __version__
from vertebra.data import datasets
from vertebra.data.preprocess import preprocess_many
from vertebra.inference import loading
from vertebra.machine.system import describe, library_versions
from vertebra.measuring.evaluation import evaluate

ASKED = 0.9
IMAGES, BATCH_SIZE, ROUNDS = 256, 32, 5
MODELS = ("squeezenet1_1", "alexnet")


def main() -> int:
    versions = library_versions(("numpy", "onnxruntime", "simplejpeg"))
    print(f"machine   {describe().id}, {platform.platform()}")
    print(f"versions  vertebra {__version__}, {', '.join(map(' '.join, versions.items()))}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else made(Path(scratch))
        return max(compare(model, datasets.open(folder)) for model in MODELS)


def made(folder: Path) -> Path:
    """Write smooth noise, which compresses about as photographs do, into ten class folders."""
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=90)
        place = folder / str(number % 10)
        place.mkdir(exist_ok=True)
        (place / f"{number}.jpg").write_bytes(stream.getvalue())
    return folder


def compare(model: str, pictures: datasets.Dataset) -> int:
    with loading.load(model, engine="onnxruntime", batch_size=BATCH_SIZE, untrained=True) as loaded:
        sources = [sample.source for sample in pictures.first(BATCH_SIZE)]
        made = preprocess_many(sources, loaded.preprocess)
        batch = np.stack([image for image in made if isinstance(image, np.ndarray)])
        loaded.logits(batch)
        rates: dict[str, list[float]] = {"decode": [], "engine": [], "eval": []}
        right = set()
        for _ in range(ROUNDS):
            rates["decode"].append(decoded(pictures, loaded))
            rates["engine"].append(answered(batch, loaded, len(pictures)))
            rate, found = evaluated(pictures, loaded)
            rates["eval"].append(rate)
            right.add(found)
    decode, engine, whole = (statistics.median(rates[name]) for name in ("decode", "engine", "eval"))
    allowed = 1 / (1 / decode + 1 / engine)
    print(f"\n{model}: {len(pictures)} images, batches of {BATCH_SIZE}, {ROUNDS} rounds")
    print(f"decode    {decode:8.1f} images/s\nengine    {engine:8.1f} images/s")
    print(f"allowed   {allowed:8.1f} images/s\neval      {whole:8.1f} images/s")
    print(f"ratio     {whole / allowed:8.3f} of what the parts allow (goal: {ASKED})")
    if len(right) != 1:
        print(f"failed    rounds counted differently: {sorted(right)}", file=sys.stderr)
        return 1
    return 0


def decoded(pictures: datasets.Dataset, loaded: loading.Loaded) -> float:
    start = time.perf_counter()
    sources = (sample.source for sample in pictures)
    count = sum(1 for _ in preprocess_many(sources, loaded.preprocess))
    return count / (time.perf_counter() - start)


def answered(batch: np.ndarray, loaded: loading.Loaded, images: int) -> float:
    start = time.perf_counter()
    for _ in range(-(-images // BATCH_SIZE)):
        loaded.logits(batch)
    return -(-images // BATCH_SIZE) * BATCH_SIZE / (time.perf_counter() - start)


def evaluated(pictures: datasets.Dataset, loaded: loading.Loaded) -> tuple[float, int]:
    """Images per second, and how many were right."""
    start = time.perf_counter()
    found = evaluate(
        replace(pictures, classes=None),  # numbers, so that a network of a thousand outputs takes ten folders
        loaded.logits,
        loaded.preprocess,
        num_classes=loaded.num_classes,
        batch_size=BATCH_SIZE,
    )
    return found.total / (time.perf_counter() - start), found.top1.right


if __name__ == "__main__":
    sys.exit(main())
