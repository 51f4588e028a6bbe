"""Fashion-MNIST from random parameters: the recipe, and a run of it with its accuracy on all test pictures.

    python benchmarks/fashion_mnist.py [--epochs 3] [--seed 0] [--shuffled] [--threads N] [FOLDER]

This file is a recipe, so that the run is one documented command:

    vertebra train resnet18_acnet_deploy /usr/share/datasets/fashion-mnist -o fashion \\
        --recipe benchmarks/fashion_mnist.py --hold-out 0.05
    vertebra eval resnet18_acnet_deploy /usr/share/datasets/fashion-mnist --split test --weights fashion

FOLDER has the four files of the data set; Debian's package dataset-fashion-mnist puts them there. Goals, on
two quiet cores: at least 85 % within 10 minutes (2 or 3 epochs) and at least 90 % within 40 (6 or more),
whatever the seed. With --shuffled the training labels are in random order, and the same command must end at
10 %, one more or less: a leak would raise it. Exits with status 1 if an accuracy is missed; times are only
printed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vertebra.data.preprocess import Preprocess
from vertebra.training.recipe import Recipe

MODEL, PLACE = "resnet18_acnet_deploy", Path("/usr/share/datasets/fashion-mnist")
#: the fewest epochs -> the least accuracy, and the most minutes
GOALS = {1: (0.85, 10.0), 6: (0.90, 40.0)}
SHUFFLED = (0.09, 0.11)

#: Mean and deviation are those of the training pictures, in units of full scale.
RECIPE = Recipe(
    name="fashion-mnist",
    notes=("a residual network at 28 pixels, one cycle of the rate, shifted and mirrored pictures",),
    evaluation=Preprocess(
        input_size=(28, 28), resize=28, interpolation="bilinear", mean=(0.286,) * 3, std=(0.353,) * 3
    ),
    epochs=3, batch=128, lr=0.02, lr_batch=128, optimizer="nesterov", weight_decay=5e-4, decay_1d=False,
    schedule="onecycle", crop="pad", padding=2, flip=0.5,
)  # fmt: skip


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        place, run = arguments.folder, Path(scratch) / "run"
        if arguments.shuffled:
            place = _shuffled(place, Path(scratch) / "fashion-mnist", arguments.seed)
        threads = [] if arguments.threads is None else ["--threads", str(arguments.threads)]
        table = ["--table", str(Path(scratch) / "table.sqlite"), "--json"]
        start = time.monotonic()
        _vertebra(
            "train", MODEL, place, "-o", run, "--recipe", __file__, "--hold-out", "0.05", "--conflicts",
            "leave out", "--set", f"epochs={arguments.epochs}", "--set", f"seed={arguments.seed}", *threads,
            *table,
        )  # fmt: skip
        minutes = (time.monotonic() - start) / 60
        rows = _vertebra("eval", MODEL, place, "--split", "test", "--weights", run, *table)
    top1 = next(row for row in rows if row["metric"] == "top1")
    value, low, high = (float(top1[name]) for name in ("value", "low", "high"))
    mixed = ", shuffled" if arguments.shuffled else ""
    print(
        f"{MODEL}, {arguments.epochs} epochs, seed {arguments.seed}{mixed}: top-1 "
        f"{value:.2%} ({low:.2%} to {high:.2%}) on {top1['samples']:,} test pictures, {minutes:.1f} minutes"
    )
    if arguments.shuffled:
        return int(not SHUFFLED[0] <= value <= SHUFFLED[1])
    least, most = next(GOALS[fewest] for fewest in sorted(GOALS, reverse=True) if fewest <= arguments.epochs)
    print(f"goals: {least:.0%} within {most:g} minutes on two idle cores")
    return int(value < least)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=PLACE)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--shuffled", action="store_true")
    return parser.parse_args()


def _vertebra(*words: Any) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "vertebra", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _shuffled(place: Path, folder: Path, seed: int) -> Path:
    """A copy of the set with the training labels in random order."""
    shutil.copytree(place, folder)
    labels = folder / "train-labels-idx1-ubyte.gz"
    content = gzip.decompress(labels.read_bytes())
    mixed = list(content[8:])
    random.Random(seed).shuffle(mixed)
    labels.write_bytes(gzip.compress(content[:8] + bytes(mixed)))
    return folder


if __name__ == "__main__":
    sys.exit(main())
