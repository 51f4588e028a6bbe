"""One side of benchmarks/training.py, a process that trains until it is ended: it isn't run by hand.

    python benchmarks/training_side.py SIDE NETWORK ROOT SCRATCH --batch N --size N --threads N --report FD
                                       [--script FILE]

ROOT has the class folders train and val. After each step of its optimizer a side writes a line of JSON to the
file descriptor FD: `at`, on the clock that all processes share, and of ours `waited`, the seconds until then
for which the next batch wasn't ready. `ours` first writes what a checkpoint takes. `timm` and `torchvision`
run the script at FILE as it is: only the network is registered before, under its name.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LR, DECAY, MOMENTUM = 0.001, 1e-4, 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("side", choices=list(SIDES))
    parser.add_argument("network")
    parser.add_argument("root", type=Path)
    parser.add_argument("scratch", type=Path)
    for name in ("batch", "size", "threads", "report"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--script", type=Path)
    asked = parser.parse_args()
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    torch.set_num_threads(asked.threads)
    if asked.side != "ours":
        register_optimizer_step_post_hook(lambda *_: told(asked, at=time.monotonic()))
    SIDES[asked.side](asked)


def told(asked: argparse.Namespace, **facts: float) -> None:
    os.write(asked.report, (json.dumps(facts) + "\n").encode())


# ------------------------------------------------------------------ ours


def ours(asked: argparse.Namespace) -> None:
    from vertebra.machine import heap
    from vertebra.training import ranks, rates, run
    from vertebra.training.loop import Training, set_modes
    from vertebra.training.stopping import Stop

    job = _job(asked)
    with heap.kept(), ranks.joined() as team, run.opened(job, is_first=True) as folder, Stop() as stop:
        training = Training(job, team, folder, stop, lambda _: None, watched=False)
        set_modes(training.state.network, rates.freeze(training.state.network, training.recipe, 0))
        told(asked, checkpoint=statistics.median(_checkpoint_s(training) for _ in range(3)))
        for epoch in range(training.recipe.epochs):
            for batch in training.batches(epoch, 0):
                training.step(batch, epoch)
                told(asked, at=time.monotonic(), waited=training.pace.waited_s)


def _checkpoint_s(training: Any) -> float:
    start = time.monotonic()
    training.keep()
    return time.monotonic() - start


def _job(asked: argparse.Namespace) -> Any:
    from vertebra.data import datasets
    from vertebra.data.preprocess import protocols
    from vertebra.training import pictures
    from vertebra.training.job import Job
    from vertebra.training.recipe import Recipe

    data = datasets.open(asked.root / "train")
    recipe = Recipe(
        name="benchmark", evaluation=protocols.torchvision(asked.size, asked.size), epochs=10_000, lr=LR,
        batch=asked.batch, lr_batch=asked.batch, weight_decay=DECAY, momentum=MOMENTUM,
    )  # fmt: skip
    return Job(
        model=asked.network, recipe=recipe, data=data, labels=tuple(sample.label for sample in data),
        validation=datasets.open(asked.root / "val"), classes=pictures.classes_of(data),
        folder=asked.scratch / "run", workers=asked.threads, threads=asked.threads,
    )  # fmt: skip


# ------------------------------------------------------------------ the others


def built(asked: argparse.Namespace, classes: int) -> Any:
    """The network with the parameters that ours begins with."""
    from vertebra import zoo

    return zoo.build(asked.network, num_classes=classes, seed=0)


def plain(asked: argparse.Namespace) -> None:
    """A loop over timm's factories."""
    import torch.nn.functional as F
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2

    from vertebra.data.preprocess.record import IMAGENET_MEAN, IMAGENET_STD

    root = asked.root / "train"
    model = built(asked, len(list(root.iterdir())))
    model.train()
    optimizer = create_optimizer_v2(model, opt="momentum", lr=LR, weight_decay=DECAY, momentum=MOMENTUM)
    loader: Callable[..., Any] = create_loader
    batches = loader(
        create_dataset("", str(root), is_training=True), (3, asked.size, asked.size), asked.batch,
        is_training=True, use_prefetcher=False, no_aug=False, re_prob=0.0, scale=(0.08, 1.0),
        ratio=(3 / 4, 4 / 3), hflip=0.5, color_jitter=0.0, auto_augment=None, interpolation="bilinear",
        mean=IMAGENET_MEAN, std=IMAGENET_STD, num_workers=asked.threads, persistent_workers=True,
    )  # fmt: skip
    while True:
        for images, labels in batches:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def timm(asked: argparse.Namespace) -> None:
    """timm's train.py."""
    from timm.models import register_model

    def benchmarked(pretrained: bool = False, num_classes: int = 1000, **_: Any) -> Any:
        return built(asked, num_classes)

    benchmarked.__module__ = "timm.models.benchmarked"
    sys.modules[benchmarked.__module__] = type(sys)(benchmarked.__module__)
    register_model(benchmarked)
    classes = len(list((asked.root / "train").iterdir()))
    _run(
        asked, "--data-dir", asked.root, "--model", "benchmarked", "--num-classes", classes, "--val-split",
        "val", "--img-size", asked.size, "--batch-size", asked.batch, "--workers", asked.threads, "--opt",
        "momentum", "--momentum", MOMENTUM, "--lr", LR, "--weight-decay", DECAY, "--sched", "step",
        "--decay-epochs", 100, "--warmup-epochs", 0, "--scale", 0.08, 1, "--ratio", 0.75, 4 / 3,
        "--hflip", 0.5, "--color-jitter", 0, "--train-interpolation", "bilinear",
        "--smoothing", 0, "--no-prefetcher", "--device", "cpu",
        "--epochs", 100, "--output", asked.scratch / "timm",
    )  # fmt: skip


def torchvision(asked: argparse.Namespace) -> None:
    """torchvision's references/classification/train.py."""
    import torchvision.models
    from torchvision.models._api import register_model

    def benchmarked(*, num_classes: int = 1000, **_: Any) -> Any:
        return built(asked, num_classes)

    register_model(name="benchmarked")(benchmarked)
    torchvision.models.__dict__["benchmarked"] = benchmarked  # how its earlier scripts find one
    _run(
        asked, "--data-path", asked.root, "--model", "benchmarked", "--device", "cpu", "-b", asked.batch,
        "-j", asked.threads, "--lr", LR, "--momentum", MOMENTUM, "--wd", DECAY, "--epochs", 100,
        "--train-crop-size", asked.size, "--val-crop-size", asked.size, "--val-resize-size", asked.size,
        "--output-dir", asked.scratch / "torchvision",
    )  # fmt: skip


def _run(asked: argparse.Namespace, *words: Any) -> None:
    sys.argv = [str(asked.script), *map(str, words)]
    sys.path.insert(0, str(asked.script.parent))
    runpy.run_path(str(asked.script), run_name="__main__")


SIDES: dict[str, Callable[[argparse.Namespace], None]] = {
    "ours": ours, "plain": plain, "timm": timm, "torchvision": torchvision,
}  # fmt: skip

if __name__ == "__main__":
    main()
