"""Compare the training loop with timm's and torchvision's own train.py: images a second, and its waits.

    python benchmarks/training.py [--timm FILE] [--torchvision FILE] [--networks NAME …] [--rounds 3]
                                  [--seconds 6] [--batch 8] [--size 160] [--threads N] [--pictures 256]
                                  [FOLDER]

FILE is train.py of github.com/huggingface/pytorch-image-models, and references/classification/train.py of
github.com/pytorch/vision, with the files beside it. Without one of them its comparison is left out. A plain
loop over timm's own factories (`create_dataset`, `create_loader`, `create_optimizer_v2`) is always compared.

Trains on the pictures in FOLDER, or on made JPEGs of 500x375, in class folders. All do the same: the same
network with the same parameters, SGD with momentum in float32, a random resized crop and a mirrored half, the
same batch and threads. Theirs load in worker processes, ours on threads.

Each side is a process of its own, and only one runs at a time: the others are stopped, with their loaders.
They take turns in a rotating order; a turn counts from the end of its first step to the end of its last one.
A ratio is the median over the rounds of ours to theirs of the same round (goal: at least 1). Then, of ours,
the share of the time in which the next batch wasn't ready (goal: at most 10 %), and what a checkpoint takes
(goal: at most 1 % of the time, which the loop holds by writing fewer). Exits with status 1 if a share is
missed, or if theirs was faster in every round.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

NETWORKS = ("squeezenet1_1", "resnet50_acnet", "darknet53")
CLASSES = 8  # of which torchvision takes the first five
WAITING, KEPT = 0.10, 0.01
#: Names of each picture, so that no side comes to the end of an epoch, and evaluates.
REPEAT = 60
CHECKPOINT_S = 60.0
#: Steps before the first turn; the fewest in a turn.
WARM, LEAST = 3, 3
PATIENCE_S = 300.0


def main() -> int:
    arguments = _arguments()
    from vertebra._version import __version__
    from vertebra.machine.system import describe, library_versions

    about = ", ".join(
        f"{name} {version}" for name, version in library_versions(("torch", "timm", "torchvision")).items()
    )
    print(f"machine   {describe().id}\nversions  vertebra {__version__}, {about}")
    print(f"batch {arguments.batch}, {arguments.size} pixels, {arguments.threads} threads, float32")
    print(f"{'network':<16}{'side':<14}{'images/s':>9}{'ours to it':>12}{'range':>16}")
    missed = False
    with tempfile.TemporaryDirectory() as scratch:
        root = _linked(Path(scratch), arguments)
        for network in arguments.networks:
            missed |= _compare(network, root, Path(scratch) / network.replace(":", "-"), arguments)
    return int(missed)


def _arguments() -> argparse.Namespace:
    from vertebra.machine.system import default_threads

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--timm", type=Path)
    parser.add_argument("--torchvision", type=Path)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--pictures", type=int, default=256)
    return parser.parse_args()


# ------------------------------------------------------------------ pictures


def _linked(scratch: Path, arguments: argparse.Namespace) -> Path:
    """Class folders train and val, of links to the pictures."""
    pictures = arguments.folder or _made(scratch / "made", arguments.pictures)
    for place in sorted(one for one in pictures.iterdir() if one.is_dir()):
        files = sorted(place.iterdir())
        for part, times, some in (("train", REPEAT, files), ("val", 1, files[:2])):
            folder = scratch / "root" / part / place.name
            folder.mkdir(parents=True)
            for turn in range(times):
                for file in some:
                    (folder / f"{turn}-{file.name}").symlink_to(file.resolve())
    return scratch / "root"


def _made(root: Path, count: int) -> Path:
    """Class folders of JPEGs that compress as photographs do: spots of colour with noise on them."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for number in range(count):
        spots = Image.fromarray(chance.integers(0, 255, (12, 16, 3), np.uint8)).resize((500, 375))
        noise = chance.normal(0, 8, (375, 500, 3))
        pixels = np.clip(np.asarray(spots) + noise, 0, 255).astype(np.uint8)
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=88)
    return root


# ------------------------------------------------------------------ the comparison


def _compare(network: str, root: Path, scratch: Path, arguments: argparse.Namespace) -> bool:
    """Print a network's lines. Whether it misses a goal."""
    scripts = {"ours": None, "plain": None, "timm": arguments.timm, "torchvision": arguments.torchvision}
    names = [name for name, script in scripts.items() if script or name in ("ours", "plain")]
    sides: dict[str, Side] = {}
    try:
        for name in names:
            sides[name] = Side(name, network, root, scratch / name, scripts[name], arguments)
            sides[name].pause()
        rates: dict[str, list[float]] = {name: [] for name in names}
        waits: list[float] = []
        for number in range(arguments.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                steps = sides[name].turn(arguments.seconds)
                took = steps[-1]["at"] - steps[0]["at"]
                rates[name].append((len(steps) - 1) * arguments.batch / took)
                if name == "ours":
                    waits.append((steps[-1]["waited"] - steps[0]["waited"]) / took)
    finally:
        for side in sides.values():
            side.close()
    waited, kept = statistics.median(waits), sides["ours"].lines[0]["checkpoint"]
    return _print(network, rates, waited, kept)


def _print(network: str, rates: dict[str, list[float]], waited: float, kept: float) -> bool:
    slower = []
    for name, values in rates.items():
        line = f"{network:<16}{name:<14}{statistics.median(values):>9.1f}"
        if name != "ours":
            ratios = [mine / other for mine, other in zip(rates["ours"], values, strict=True)]
            line += f"{statistics.median(ratios):>11.2f}×{f'{min(ratios):.2f} to {max(ratios):.2f}':>16}"
            slower += [name] if max(ratios) < 1 else []
        print(line)
    share = kept / max(CHECKPOINT_S, kept / KEPT)
    print(
        f"{network:<16}ours waits {waited:.1%} of the time; a checkpoint takes {kept:.2f} s, {share:.2%} of "
        "the time",
        flush=True,
    )
    return bool(slower) or waited > WAITING or share > KEPT


class Side:
    """A process that trains, and is stopped and continued with all of its children."""

    def __init__(
        self, name: str, network: str, root: Path, scratch: Path, script: Path | None,
        arguments: argparse.Namespace,
    ) -> None:  # fmt: skip
        scratch.mkdir(parents=True)
        self.name, self.lines = name, list[dict[str, Any]]()
        read, write = os.pipe()
        command = [
            sys.executable, str(Path(__file__).with_name("training_side.py")), name, network, str(root),
            str(scratch), *(f"--{one}={getattr(arguments, one)}" for one in ("batch", "size", "threads")),
            f"--report={write}", *([] if script is None else [f"--script={script.resolve()}"]),
        ]  # fmt: skip
        threads = str(arguments.threads)
        self.log = (scratch / "output.txt").open("w+")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=subprocess.STDOUT, pass_fds=(write,), start_new_session=True,
            cwd=scratch, env={**os.environ, "OMP_NUM_THREADS": threads},
        )  # fmt: skip
        os.close(write)
        threading.Thread(target=self._read, args=(read,), daemon=True).start()
        try:
            self._steps(0, WARM)
        except BaseException:
            self.close()
            raise

    def _read(self, read: int) -> None:
        with os.fdopen(read) as stream:
            for line in stream:
                self.lines.append(json.loads(line))

    def _steps(self, first: int, least: int) -> list[dict[str, Any]]:
        """The steps since `first` lines were there, once there are at least so many."""
        start = time.monotonic()
        while True:
            found = [line for line in self.lines[first:] if "at" in line]
            if len(found) >= least:
                return found
            if self.process.poll() is not None or time.monotonic() - start > PATIENCE_S:
                self.log.seek(0)
                sys.exit(f"{self.name} doesn't train:\n{self.log.read()[-3000:]}")
            time.sleep(0.05)

    def turn(self, seconds: float) -> list[dict[str, Any]]:
        """The steps that end within so many seconds, or the first few where these take longer."""
        first = len(self.lines)
        self._signal(signal.SIGCONT)
        time.sleep(seconds)
        self._steps(first, LEAST)
        self.pause()
        return self._steps(first, LEAST)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def close(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def _signal(self, what: signal.Signals) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, what)


if __name__ == "__main__":
    sys.exit(main())
