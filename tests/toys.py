"""Small sets of pictures that a network can learn, and jobs that train on them in seconds."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vertebra.bundles import runs
from vertebra.data import datasets
from vertebra.data.preprocess import Preprocess
from vertebra.training import checkpoints, loop, pictures
from vertebra.training.job import Job
from vertebra.training.recipe import Recipe
from vertebra.training.run import Folder

CLASSES = ("amber", "blue", "coral")
SIDE = 32
RECORD = Preprocess(input_size=(SIDE, SIDE), resize=SIDE, interpolation="bilinear")


def photos(
    folder: Path, each: int = 8, *, classes: Sequence[str] = CLASSES, seed: int = 0, side: int = 36
) -> Path:
    """Class folders of PNG files: spots of all colours, and a tint for each class."""
    chance = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        place = folder / name
        place.mkdir(parents=True)
        for number in range(each):
            spots = chance.integers(0, 110, (5, 5, 3), np.uint8)
            spots[:, :, label % 3] += np.uint8(120)
            picture = Image.fromarray(spots).resize((side, side), Image.Resampling.BICUBIC)
            picture.save(place / f"{number}.png")
    return folder


def recipe(**changes: Any) -> Recipe:
    """Two epochs of plain SGD with all that a checkpoint must keep: averages, mixed pictures, warm-up."""
    plain = Recipe(
        name="toy", evaluation=RECORD, epochs=2, batch=6, lr=0.01, lr_batch=6, momentum=0.9,
        weight_decay=1e-4, schedule="cosine", warmup_epochs=0.5, ema=0.99, mixup=0.2, label_smoothing=0.1,
        clip=5.0,
    )  # fmt: skip
    return replace(plain, **changes)


def job(place: Path, folder: Path, *, model: str = "squeezenet1_1", recipe: Recipe, **facts: Any) -> Job:
    """A job on the pictures at `place`, of which every fourth one is held out."""
    data = datasets.open(place)
    looked = pictures.look(data, None, hold_out=0.25)
    assert looked.held_out is not None
    return Job(
        model=model, recipe=recipe, data=data, labels=looked.labels,
        validation=pictures.part(data, looked.held_out), classes=pictures.classes_of(data), folder=folder,
        content=looked.content, **facts,
    )  # fmt: skip


def content(folder: Path) -> str:
    """All of a run but its times: parameters, averages, optimizer, position, log and weights."""
    kept = checkpoints.load(folder / runs.CHECKPOINT)
    for name in ("seconds", "waited", "log_bytes"):
        del kept[name]
    log = [{key: value for key, value in line.items() if key != "times"} for line in runs.read(folder).log]
    return checkpoints.digest([kept, json.dumps(log), (folder / runs.WEIGHTS).read_bytes().hex()])


def kill() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(place: str, folder: str, workers: int, instant: tuple[str, float] | None) -> None:
    """Train, or go on, in a process that is killed at an instant: in the middle of the nth checkpoint
    ("write"), before or after the nth takes its place ("before", "after"), at the nth line of the log
    ("log"), or after some seconds ("time")."""
    torch.set_num_threads(1)
    if instant is not None:
        _arm(*instant)
    run = Path(folder)
    made = job(Path(place), run, recipe=recipe(), workers=workers, checkpoint_s=0, resume=runs.is_run(run))
    assert loop.train(made).status == "finished"


def _arm(what: str, when: float) -> None:
    count = 0

    def due() -> bool:
        nonlocal count
        count += 1
        return count == int(when)

    save, replace_, log = torch.save, os.replace, Folder.log
    if what == "time":
        timer = threading.Timer(when, kill)
        timer.daemon = True
        timer.start()
    elif what == "write":

        def partly(value: Any, stream: Any) -> None:
            if due():
                whole = io.BytesIO()
                save(value, whole)
                stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])
                stream.flush()
                kill()
            save(value, stream)

        torch.save = partly
    elif what in ("before", "after"):

        def moved(old: Any, new: Any) -> None:
            is_due = str(new).endswith(runs.CHECKPOINT) and due()
            if is_due and what == "before":
                kill()
            replace_(old, new)
            if is_due:
                kill()

        os.replace = moved
    else:

        def logged(self: Any, line: Any) -> None:
            if due():
                self._log.write(b'{"kind": "st')
                self._log.flush()
                kill()
            log(self, line)

        Folder.log = logged  # type: ignore[method-assign]
