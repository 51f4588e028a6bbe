"""Compare the training loader with timm's and torchvision's: images a second on large JPEG photographs.

    python benchmarks/loader.py [--rounds 5] [--workers N] [--photos 46] [--repeat 4] [FOLDER ...]

Needs torch, torchvision, timm, and JPEG photographs of 2 megapixels or more: those in FOLDER, or those below
/usr/share (Debian's mate-backgrounds, plasma-workspace-wallpapers, gcompris-qt-data). All do the same: a
random resized crop to 224 pixels, bilinear, mirrored by half, normalised, in batches of float32.
torchvision's transforms are those of its classification reference; timm's loader is `create_loader` without
its prefetcher, which needs a GPU. Theirs run in worker processes that are started before the first round,
ours on threads.

All take turns, in a rotating order; a round is one epoch. A ratio is the median over the rounds of ours to
theirs of the same round. Then ours with 1, 2, 4, … threads: how far threads carry on this machine.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

MEGAPIXELS = 2_000_000
SIZE = 224
CLASSES = 2


def main() -> int:
    arguments = _arguments()
    photographs = _photographs(arguments.folders or ["/usr/share"], arguments.photos)
    if not photographs:
        sys.exit("No JPEG photographs of 2 megapixels or more: pass a folder of some.")
    with tempfile.TemporaryDirectory() as folder:
        root = _class_folders(Path(folder), photographs, arguments.repeat)
        count = len(photographs) * arguments.repeat // arguments.batch * arguments.batch
        if count == 0:
            sys.exit(
                f"{len(photographs)} photographs don't fill a batch of {arguments.batch}: raise --repeat."
            )
        print(
            f"{len(photographs)} photographs, {count} pictures an epoch in batches of {arguments.batch}, "
            f"{arguments.workers} workers, {arguments.rounds} rounds"
        )
        epochs = {
            "torchvision": _torchvision(root, arguments),
            "timm": _timm(root, arguments),
            "ours, exact": _ours(root, arguments, "exact", arguments.workers),
            "ours, scaled": _ours(root, arguments, "scaled", arguments.workers),
        }
        rates = _rates(epochs, count, arguments.rounds)
        _print(rates)
        _scaling(root, arguments, count)
    return 0


def _arguments() -> argparse.Namespace:
    from vertebra.machine import system

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=system.default_threads())
    parser.add_argument("--photos", type=int, default=46)
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("folders", nargs="*", metavar="FOLDER")
    return parser.parse_args()


def _photographs(folders: list[str], count: int) -> list[Path]:
    """The first `count` distinct JPEGs of 2 MP or more."""
    from vertebra.data.preprocess import open_image
    from vertebra.errors import ImageError

    found: dict[Path, None] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.[jJ][pP]*[gG]")):
            try:
                image = open_image(path)
            except ImageError:
                continue
            if image.format == "JPEG" and image.height * image.width >= MEGAPIXELS:
                found[path.resolve()] = None
            if len(found) == count:
                return list(found)
    return list(found)


def _class_folders(root: Path, photographs: list[Path], repeat: int) -> Path:
    """Links to the photographs in a folder for each class, `repeat` of each."""
    for number in range(CLASSES):
        (root / f"class{number}").mkdir()
    for copy in range(repeat):
        for number, path in enumerate(photographs):
            (root / f"class{number % CLASSES}" / f"{copy}-{number:03}.jpg").symlink_to(path)
    return root


# ------------------------------------------------------------------ loaders

Epoch = Callable[[], Iterable[Any]]


def _ours(root: Path, arguments: argparse.Namespace, decode: str, workers: int) -> Epoch:
    from vertebra.data import datasets
    from vertebra.training.loader import Loader
    from vertebra.training.recipes import find

    recipe = replace(
        find("modern", "resnet50_acnet"), decode=decode, augment="none", erasing=0.0,
        batch=arguments.batch, lr_batch=arguments.batch,
    )  # fmt: skip
    data = datasets.open(root, format="folders")
    loader = Loader(data, [sample.label for sample in data], recipe, workers=workers)
    epochs = iter(range(10**9))
    return lambda: (batch.images for batch in loader.epoch(next(epochs)))


def _torchvision(root: Path, arguments: argparse.Namespace) -> Epoch:
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    pipeline = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE, interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    loader = DataLoader(
        datasets.ImageFolder(str(root), pipeline), arguments.batch, shuffle=True, drop_last=True,
        num_workers=arguments.workers, persistent_workers=arguments.workers > 0,
    )  # fmt: skip
    return lambda: (images for images, _ in loader)


def _timm(root: Path, arguments: argparse.Namespace) -> Epoch:
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", str(root)), (3, SIZE, SIZE), arguments.batch,
        is_training=True, use_prefetcher=False,
        interpolation="bilinear", hflip=0.5, color_jitter=None, auto_augment=None, re_prob=0.0,
        num_workers=arguments.workers, persistent_workers=arguments.workers > 0,
    )  # fmt: skip
    return lambda: (images for images, _ in loader)


# ------------------------------------------------------------------ measuring


def _rates(epochs: dict[str, Epoch], count: int, rounds: int) -> dict[str, list[float]]:
    """Images a second of each loader in each round, after one that isn't timed."""
    names = list(epochs)
    for name in names:
        _seconds(epochs[name], count)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rates[name].append(count / _seconds(epochs[name], count))
    return rates


def _seconds(epoch: Epoch, count: int) -> float:
    begin = time.perf_counter()
    seen = 0
    for images in epoch():
        assert images.shape[1:] == (3, SIZE, SIZE), images.shape
        seen += len(images)
    assert seen == count, f"{seen} pictures in place of {count}"
    return time.perf_counter() - begin


def _print(rates: dict[str, list[float]]) -> None:
    theirs = [name for name in rates if not name.startswith("ours")]
    print(
        f"\n{'loader':<16}{'images/s':>10}{'range':>18}" + "".join(f"{'to ' + name:>16}" for name in theirs)
    )
    for name, values in rates.items():
        ratios = [
            statistics.median(mine / other for mine, other in zip(values, rates[one], strict=True))
            for one in theirs
        ]
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(
            f"{name:<16}{statistics.median(values):>10.1f}{spread:>18}"
            + "".join(f"{ratio:>15.2f}×" for ratio in ratios)
        )


def _scaling(root: Path, arguments: argparse.Namespace, count: int) -> None:
    threads = [1 << power for power in range(8) if 1 << power <= arguments.workers]
    epochs = {f"{number} threads": _ours(root, arguments, "scaled", number) for number in threads}
    rates = _rates(epochs, count, arguments.rounds)
    print("\nours, scaled, by the number of threads (images/s, and how many times one thread's)")
    for name, values in rates.items():
        first = rates[f"{threads[0]} threads"]
        ratio = statistics.median(mine / one for mine, one in zip(values, first, strict=True))
        print(f"  {name:<12}{statistics.median(values):>10.1f}{ratio:>9.2f}×")


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    sys.exit(main())
