"""Measure what a teacher and training in eight bits are worth: each with and without, over several seeds.

    python benchmarks/compression.py [--seeds 3] [--train 6000] [--test 10000] [--epochs 6] [--fine 2]
                                     [--student squeezenet1_1] [--teacher resnet18_acnet_deploy] [--quick]

Fashion-MNIST (Debian's dataset-fashion-mnist), padded to 32 pixels by resizing; the first pictures of its two
splits. A teacher is trained once. For each seed:

  distillation     the student is trained from random parameters on labels alone, and with the teacher
  eight bits       the student from labels alone is trained on for a few epochs: in float32, then rounded by
                   calibration, or in eight bits with moving and with learnt ranges; all three as int8 Bundles

With and without see the same pictures in the same order. Each seed's difference has a 95 % interval for pairs
over the test pictures; the line below it is the mean over seeds with its interval of Student's t, which says
whether another seed would find the same. The last lines say "better than without", or that it isn't.
"""

from __future__ import annotations

import argparse
import gzip
import math
import os
import shutil
import statistics
import struct
import sys
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

import vertebra
from vertebra import bundles, engines
from vertebra._version import __version__
from vertebra.data import datasets
from vertebra.data.batches import in_batches
from vertebra.engines import Settings, Subject
from vertebra.machine.system import describe, library_versions
from vertebra.measuring.evaluation import match
from vertebra.measuring.evaluation.paired import paired

FASHION = Path("/usr/share/datasets/fashion-mnist")
SIDE, BATCH = 32, 100
#: of Student's t, 97.5 %, by degrees of freedom
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}

RECIPE = """
from vertebra.data.preprocess import Preprocess
from vertebra.training.recipe import Recipe

def recipe(model):
    return Recipe(
        name="fashion", epochs={epochs}, batch=64, lr_batch=64, optimizer="adamw", lr={lr},
        weight_decay=0.01, schedule="onecycle", crop="pad", padding=2, clip=5.0,
        evaluation=Preprocess(input_size=({side}, {side}), resize={side}, interpolation="bilinear"),
    )
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=6_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--fine", type=int, default=2)
    parser.add_argument("--student", default="squeezenet1_1")
    parser.add_argument("--teacher", default="resnet18_acnet_deploy")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--quick", action="store_true", help="see that it runs: tiny sets, one epoch")
    asked = parser.parse_args()
    if asked.quick:
        asked.train, asked.test, asked.epochs, asked.fine, asked.seeds = 256, 200, 1, 1, 1
        asked.teacher = asked.student
    if not FASHION.is_dir():
        print("no Fashion-MNIST: apt-get install dataset-fashion-mnist", file=sys.stderr)
        return 2
    about = library_versions(("torch", "onnxruntime", "numpy"))
    print(f"vertebra {__version__}, {describe().id}; {', '.join(f'{a} {b}' for a, b in about.items())}")
    print(
        f"{asked.student}, {asked.train:,} pictures to train, {asked.test:,} to test, {asked.epochs} epochs"
    )
    with tempfile.TemporaryDirectory() as scratch:
        Bench(asked, Path(scratch)).run()
    return 0


class Bench:
    def __init__(self, asked: argparse.Namespace, place: Path) -> None:
        self.asked, self.place = asked, place
        self.pictures = place / "fashion"
        write_part(self.pictures, asked.train, asked.test)
        self.calibration = write_pictures(self.pictures, place / "calibration")
        self.validation = datasets.open(self.pictures, split="test")
        os.environ["VERTEBRA_CACHE"] = str(place / "cache")

    def run(self) -> None:
        asked = self.asked
        teacher = self.train("teacher", asked.teacher, asked.epochs, 0)
        print(f"teacher {asked.teacher}: {teacher.accuracy:.2%}")
        gains: dict[str, list[float]] = {"teacher": [], "moving ranges": [], "learnt ranges": []}
        for seed in range(asked.seeds):
            plain = self.train(f"plain{seed}", asked.student, asked.epochs, seed)
            taught = self.train(
                f"taught{seed}", asked.student, asked.epochs, seed, teacher=asked.teacher,
                teacher_weights=self.place / "teacher",
            )  # fmt: skip
            without, with_ = (self.right(self.bundle(one)) for one in (plain, taught))
            gains["teacher"].append(row(f"seed {seed}: teacher", without, with_))
            start = self.place / f"plain{seed}"
            longer = self.train(f"longer{seed}", asked.student, asked.fine, seed, weights=start, lr=1e-4)
            without = self.right(self.rounded(longer))
            for source in ("moving", "learnt"):
                fine = self.train(
                    f"{source}{seed}",
                    asked.student,
                    asked.fine,
                    seed,
                    weights=start,
                    lr=1e-4,
                    quantise=source,
                )
                with_ = self.right(fine.folder / "int8")
                gains[f"{source} ranges"].append(row(f"seed {seed}: {source} ranges, int8", without, with_))
        print()
        for name, every in gains.items():
            print(verdict(name, every))

    def train(
        self, name: str, model: str, epochs: int, seed: int, *, lr: float = 1e-3, **options: Any
    ) -> Any:
        recipe = self.place / f"{name}.py"
        recipe.write_text(RECIPE.format(epochs=epochs, lr=lr, side=SIDE))
        return vertebra.train(
            model, self.pictures, recipe=str(recipe), set={"seed": seed}, output=self.place / name,
            validation="test", inspect=False, threads=self.asked.threads, table=self.place / "table.sqlite",
            **options,
        )  # fmt: skip

    def bundle(self, run: Any) -> Path:
        folder = run.folder / "bundle"
        vertebra.export(run.record["model"], folder, weights=run.folder)
        return folder

    def rounded(self, run: Any) -> Path:
        """The int8 Bundle of weights that were trained in float32: ranges by calibration alone."""
        folder = run.folder / "calibrated"
        vertebra.export(
            run.record["model"], folder, weights=run.folder, precision="int8", calibrate=self.calibration,
            guard=0.5, engine="onnxruntime",
        )  # fmt: skip
        return folder

    def right(self, folder: Path) -> np.ndarray:
        """For every test picture, whether the Bundle's first class is right."""
        kept = bundles.read(folder)
        settings = Settings(
            batch_size=BATCH, input_size=kept.input_size, num_classes=kept.num_classes,
            precision=kept.precision, threads=self.asked.threads or 1,
        )  # fmt: skip
        outputs = match(self.validation, kept.label_set(), kept.num_classes)
        session = engines.load("onnxruntime", Subject(kept.model, bundle=str(folder)), settings)
        found: list[np.ndarray] = []
        with closing(in_batches(self.validation, lambda one: one.source, kept.preprocess, BATCH)) as ready:
            for batch in ready:
                images = np.zeros((BATCH, *batch.images.shape[1:]), np.float32)
                images[: len(batch.images)] = batch.images
                first = session.run(images)[: len(batch.images)].argmax(1)
                found.append(first == [outputs[sample.label] for sample in batch.readable])
        session.close()
        return np.concatenate(found)


# ------------------------------------------------------------------ figures


def row(name: str, without: np.ndarray, with_: np.ndarray) -> float:
    pair = paired(with_, without)
    print(
        f"{name}: {without.mean():.2%} without, {with_.mean():.2%} with: {100 * pair.difference:+.2f} "
        f"[{100 * pair.low:+.2f}, {100 * pair.high:+.2f}] points on {len(with_):,} pictures",
        flush=True,
    )
    return pair.difference


def verdict(name: str, gains: list[float]) -> str:
    mean = statistics.fmean(gains)
    if len(gains) < 2:
        return f"{name}: {100 * mean:+.2f} points; one seed says nothing of others"
    half = T.get(len(gains) - 1, 2.0) * statistics.stdev(gains) / math.sqrt(len(gains))
    sure = "better than without" if mean - half > 0 else "not surely better than without"
    sure = "worse than without" if mean + half < 0 else sure
    return (
        f"{name}: {100 * mean:+.2f} [{100 * (mean - half):+.2f}, {100 * (mean + half):+.2f}] points over "
        f"{len(gains)} seeds: {sure}"
    )


# ------------------------------------------------------------------ pictures


def write_part(folder: Path, train: int, test: int) -> None:
    """The first pictures of both splits, as idx files."""
    folder.mkdir()
    for prefix, count in (("train", train), ("t10k", test)):
        for what, head in (("images-idx3", 16), ("labels-idx1", 8)):
            name = f"{prefix}-{what}-ubyte.gz"
            content = gzip.decompress((FASHION / name).read_bytes())
            total, each = struct.unpack(">i", content[4:8])[0], 784 if head == 16 else 1
            kept = min(count, total)
            start = content[:4] + struct.pack(">i", kept) + content[8:head]
            (folder / name).write_bytes(gzip.compress(start + content[head : head + kept * each], 1))


def write_pictures(source: Path, folder: Path, count: int = 128) -> Path:
    """Some training pictures as files, to calibrate with."""
    from PIL import Image

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    samples: Iterable[Any] = datasets.open(source, split="train").first(count)
    for place, sample in enumerate(samples):
        Image.fromarray(np.asarray(sample.source)).save(folder / f"{place:04}.png")
    return folder


if __name__ == "__main__":
    sys.exit(main())
