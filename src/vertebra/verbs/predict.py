"""`vertebra.predict`: what is on pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vertebra.prediction import Given, Prediction
    from vertebra.reports.sheet import Tile


def predict(*sources: Given, model: str | Path, **options: Any) -> list[Prediction]:
    """What `model`, a network's name or a Bundle's folder, says of the pictures in `sources`.

    A source is a picture's path, a folder, a pattern, an address, "-" for standard input, a video, bytes or
    pixels (H, W, 3); see `prediction.predict`, whose options are taken here (top=5), as are those of
    `loading.load` (weights, engine, batch_size, labels, ...). A picture that can't be read has an `error`.

        [cat] = vertebra.predict("cat.jpg", model="squeezenet1_1")
        print(cat.top[0].name, cat.top[0].probability)
    """
    return list(predictions(*sources, model=model, **options))


def predictions(
    *sources: Given,
    model: str | Path,
    top: int = 5,
    features: bool = False,
    pictures: bool = False,
    every: int = 1,
    upright: bool = True,
    **loaded_by: Any,
) -> Iterator[Prediction]:
    """`predict`'s answers, each when its batch is done: for endless sources, or more than memory holds."""
    from vertebra import prediction
    from vertebra.inference import loading

    absent = prediction.absent(sources)
    if absent:  # before weights are fetched and a network is loaded
        yield from absent
        return
    with loading.load(model, **loaded_by) as loaded:
        yield from prediction.predict(
            sources, loaded, top=top, features=features, pictures=pictures, every=every, upright=upright
        )


def tile(prediction: Prediction) -> Tile:
    """A prediction as the contact sheet shows it; its picture must have been kept."""
    from vertebra.reports.sheet import Tile

    classes = [
        (answer.probability, f"class {answer.index}" if answer.name is None else answer.name)
        for answer in prediction.top
    ]
    return Tile(prediction.source, classes, prediction.error, prediction.picture)
