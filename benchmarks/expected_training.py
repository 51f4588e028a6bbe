"""Compare what `vertebra train --dry-run` expects with what the training then takes, over six networks.

    python benchmarks/expected_training.py [--pictures 96] [--epochs 3] [--batch 16] [--size 160] [FOLDER]
                                           [--networks NAME …]

Trains on the pictures in FOLDER, or on made ones, in class folders. Dry run and training are processes of
their own, with the same command apart from --dry-run; the training's time is that of its own record, and the
memory the most that its process had. Goals: within 25 % of the time and within 15 % of the memory. With a
large batch the expectation is from smaller steps. Exits with status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vertebra import zoo
from vertebra._version import __version__
from vertebra.machine.system import describe

NETWORKS = (
    "squeezenet1_1", "alexnet", "resnet18_acnet", "darknet53", "timm:mobilenetv3_small_100",
    "timm:resnet50",
)  # fmt: skip
TIME, MEMORY = 0.25, 0.15
CLASSES = 4


def main() -> int:
    arguments = _arguments()
    print(f"machine   {describe().id}\nversions  vertebra {__version__}")
    print(
        f"{'network':<28}{'expected s':>12}{'actual s':>10}{'off':>8}{'expected MB':>13}"
        f"{'actual MB':>11}{'off':>8}"
    )
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or _made(Path(scratch) / "pictures", arguments.pictures)
        for name in arguments.networks:
            place = Path(scratch) / name.replace(":", "-")
            expected, _ = _run(name, folder, place, arguments, "--dry-run")
            actual, peak = _run(name, folder, place, arguments)
            missed += _print(name, expected, actual, peak)
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=160, help="pixels, of networks that take any size")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("folder", nargs="?", type=Path)
    return parser.parse_args()


def _made(folder: Path, count: int) -> Path:
    """JPEGs of 500 × 375 in class folders, of soft colours with grain."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        pixels = np.clip(smooth + chance.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.jpg", quality=90)
    return folder


def _run(
    name: str, pictures: Path, output: Path, arguments: argparse.Namespace, *more: str
) -> tuple[dict[str, Any], int]:
    """The record that the command prints, and the most bytes that its process had."""
    changes = {"epochs": arguments.epochs, "batch": arguments.batch, "warmup_epochs": 0, "ema": 0}
    if not zoo.find(name).fixed_size:
        changes["input_size"] = arguments.size
    command = [
        sys.executable, "-m", "vertebra", "train", name, str(pictures), "--recipe", "modern", "--json",
        "-o", str(output), *more,
        *(part for key, value in changes.items() for part in ("--set", f"{key}={value}")),
    ]  # fmt: skip
    environment = {**os.environ, "VERTEBRA_TABLE": str(output.parent / "table"),
                   "VERTEBRA_CACHE": str(output.parent / "cache")}  # fmt: skip
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr) as process:
            try:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = status
            finally:
                if process.returncode is None:
                    process.kill()
        stdout.seek(0)
        stderr.seek(0)
        if status:
            sys.exit(f"{' '.join(command[2:])}\n{stderr.read()}")
        found = json.loads(stdout.read())
    return (found[0] if isinstance(found, list) else found), usage.ru_maxrss * 1024


def _print(name: str, expected: dict[str, Any], actual: dict[str, Any], peak: int) -> bool:
    """Print a line; whether a goal is missed."""
    time_off = expected["seconds"] / actual["seconds"] - 1
    memory_off = expected["memory"] / peak - 1
    print(
        f"{name:<28}{expected['seconds']:>12.1f}{actual['seconds']:>10.1f}{time_off:>+8.0%}"
        f"{expected['memory'] / 1e6:>13.0f}{peak / 1e6:>11.0f}{memory_off:>+8.0%}  tried {expected['tried']}",
        flush=True,
    )
    return abs(time_off) > TIME or abs(memory_off) > MEMORY


if __name__ == "__main__":
    sys.exit(main())
