"""Compare the training loop with a plain loop over timm's own factories: images a second, and its waits.

    python benchmarks/training.py [--networks NAME …] [--rounds 5] [--seconds 20] [--batch 32] [--size 224]
                                  [--threads N] [--pictures 512] [FOLDER]

Needs torch, timm and torchvision. Trains on the pictures in FOLDER, or on made JPEGs of 500x375, in class
folders. Both do the same: the same network with the same parameters, SGD with momentum in float32, a random
resized crop and a mirrored half, the same batch and threads. The plain loop is written from timm's
`create_dataset`, `create_loader` (without its prefetcher, which needs a graphics card), `create_optimizer_v2`
and cross-entropy: timm's `train.py`, outside of the package, adds to these what it prints. Its loader runs
worker processes; ours, threads.

They take turns: a round is so many seconds of one, then of the other, the first one changing. A ratio is the
median over the rounds of ours to theirs in the same round (goal: at least 1). Then, of ours, the share of the
time in which the next batch wasn't ready (goal: at most 10 %), and what a checkpoint takes (goal: at most 1 %
of the time, which the loop holds by writing fewer). Exits with status 1 if one is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NETWORKS = ("squeezenet1_1", "resnet50_acnet", "darknet53")
CLASSES = 4
WAITING, KEPT = 0.10, 0.01


def main() -> int:
    arguments = _arguments()
    import torch

    from vertebra._version import __version__
    from vertebra.machine.system import describe

    torch.set_num_threads(arguments.threads)
    print(f"machine   {describe().id}\nversions  vertebra {__version__}, torch {torch.__version__}")
    print(f"batch {arguments.batch}, {arguments.size} pixels, {arguments.threads} threads, float32")
    print(f"{'network':<24}{'ours/s':>9}{'plain/s':>9}{'ratio':>8}{'waits':>8}{'checkpoint':>12}{'share':>8}")
    missed = False
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.folder or _made(Path(scratch) / "made", arguments.pictures)
        for network in arguments.networks:
            missed |= _compare(network, root, Path(scratch), arguments)
    return int(missed)


def _arguments() -> argparse.Namespace:
    from vertebra.machine.system import default_threads

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--pictures", type=int, default=512)
    return parser.parse_args()


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
    """Print a network's line. Whether it misses a goal."""
    from vertebra.training import ranks, run
    from vertebra.training.loop import Training
    from vertebra.training.stopping import Stop

    job = _job(network, root, scratch / f"run-{network.replace(':', '-')}", arguments)
    with ranks.joined() as team, run.opened(job, is_first=True) as folder, Stop() as stop:
        training = Training(job, team, folder, stop, lambda _: None, watched=False)
        sides: dict[str, Iterator[int]] = {"ours": _ours(training), "plain": _plain(network, root, arguments)}
        for side in sides.values():
            next(side)  # threads and processes begin, memory is taken
        rates: dict[str, list[float]] = {"ours": [], "plain": []}
        training.pace.trained_s = training.pace.waited_s = 0.0
        for number in range(arguments.rounds):
            order = list(sides) if number % 2 == 0 else list(sides)[::-1]
            for name in order:
                rates[name].append(_rate(sides[name], arguments.seconds))
        waits = training.pace.waiting
        kept = _checkpoint_s(training)
    pairs = zip(rates["ours"], rates["plain"], strict=True)
    ratio = statistics.median(ours / plain for ours, plain in pairs)
    share = kept / max(job.checkpoint_s, kept / KEPT)
    ours, plain = (statistics.median(rates[name]) for name in ("ours", "plain"))
    print(f"{network:<24}{ours:>9.1f}{plain:>9.1f}{ratio:>8.2f}{waits:>8.1%}{kept:>11.2f}s{share:>8.2%}")
    return ratio < 1 or waits > WAITING or share > KEPT


def _rate(side: Iterator[int], seconds: float) -> float:
    """Images a second of one side, for at least so long."""
    start, count = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        count += next(side)
    return count / (time.monotonic() - start)


def _checkpoint_s(training: Any) -> float:
    """Seconds of one checkpoint, the median of three."""
    taken = []
    for _ in range(3):
        start = time.monotonic()
        training.keep()
        taken.append(time.monotonic() - start)
    return statistics.median(taken)


# ------------------------------------------------------------------ the two sides


def _job(network: str, root: Path, folder: Path, arguments: argparse.Namespace) -> Any:
    from vertebra.data import datasets
    from vertebra.data.preprocess import protocols
    from vertebra.training import pictures
    from vertebra.training.job import Job
    from vertebra.training.recipe import Recipe

    data = datasets.open(root)
    record = protocols.torchvision(arguments.size, arguments.size)
    recipe = Recipe(
        name="benchmark", evaluation=record, epochs=10_000, batch=arguments.batch, lr=0.001,
        lr_batch=arguments.batch, weight_decay=1e-4,
    )  # fmt: skip
    labels = tuple(sample.label for sample in data)
    return Job(
        model=network, recipe=recipe, data=data, labels=labels, validation=data,
        classes=pictures.classes_of(data), folder=folder, workers=arguments.threads,
        threads=arguments.threads,
    )  # fmt: skip


def _ours(training: Any) -> Iterator[int]:
    """One step at a time; the number of its images."""
    from vertebra.training import rates
    from vertebra.training.loop import set_modes

    set_modes(training.state.network, rates.freeze(training.state.network, training.recipe, 0))
    for epoch in range(training.recipe.epochs):
        for batch in training.batches(epoch, 0):
            start = time.monotonic()
            training.step(batch, epoch)
            training.pace.trained_s += time.monotonic() - start
            yield len(batch)


def _plain(network: str, root: Path, arguments: argparse.Namespace) -> Iterator[int]:
    """The same with timm's factories."""
    import torch.nn.functional as F
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2

    from vertebra import zoo
    from vertebra.data.preprocess.record import IMAGENET_MEAN, IMAGENET_STD

    model = zoo.build(network, num_classes=CLASSES, seed=0)
    model.train()
    optimizer = create_optimizer_v2(model, opt="momentum", lr=0.001, weight_decay=1e-4, momentum=0.9)
    loader: Callable[..., Any] = create_loader
    batches = loader(
        create_dataset("", str(root), is_training=True), (3, arguments.size, arguments.size),
        arguments.batch, is_training=True, use_prefetcher=False, no_aug=False, re_prob=0.0,
        scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), hflip=0.5, color_jitter=0.0, auto_augment=None,
        interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD, num_workers=arguments.threads,
        persistent_workers=True,
    )  # fmt: skip
    while True:
        for images, labels in batches:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(images)


if __name__ == "__main__":
    sys.exit(main())
