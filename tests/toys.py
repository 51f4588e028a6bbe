"""Small sets of pictures that a network can learn, and jobs that train on them in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vertebra.data import datasets
from vertebra.data.preprocess import Preprocess
from vertebra.training import pictures
from vertebra.training.job import Job
from vertebra.training.recipe import Recipe

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
