"""Pictures in, answers out: whatever holds pictures, a loaded network, and the classes that it finds likely.

`predict` runs in batches with the next pictures already being decoded, and keeps only these in memory. What
can't be read is answered with the reason, and the rest goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.data.batches import Batch, in_batches
from vertebra.errors import ImageError, InvalidInputError
from vertebra.labels import LabelSet
from vertebra.prediction.sources import Given, Picture, is_on_disk, pictures_of
from vertebra.preprocess import Preprocess, Source, open_image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.inference.loading import Loaded

    Array = npt.NDArray[np.float32]

__all__ = ["Answer", "Given", "Prediction", "absent", "predict", "probabilities"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One class with its probability, 0 to 1. `id` and `name` are None where the labels don't tell."""

    index: int
    id: str | None
    name: str | None
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a network says of one picture: `top`, the likeliest first, or `error`, why there is nothing.

    `features` (D,) and `picture` (H, W, 3), uint8, what the network saw, are there where they were asked for.
    """

    source: str
    top: tuple[Answer, ...] = ()
    error: str | None = None
    features: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    picture: npt.NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)


def predict(
    sources: Iterable[Given],
    loaded: Loaded,
    *,
    top: int = 5,
    features: bool = False,
    pictures: bool = False,
    every: int = 1,
    upright: bool = True,
) -> Iterator[Prediction]:
    """The `top` classes of each picture in `sources`, in order, as soon as its batch is answered.

    A source is the path of a picture or a folder (searched to its depths), a pattern, an http(s) address,
    "-" (one picture on standard input), "camera:0", a video's path (each `every`th frame is answered), a
    picture's bytes, or pixels (H, W, 3), uint8, RGB. With `upright` EXIF orientation turns a picture upright
    whatever the network's record says; without it the record alone counts, as in an evaluation.
    Raises InvalidInputError (a count below 1), and MissingRuntimeError where a video needs OpenCV.
    """
    for name, value in (("top", top), ("every", every)):
        if value < 1:
            raise InvalidInputError(f"{name} is {value}, but must be at least 1.")
    record = replace(loaded.preprocess, apply_orientation=True) if upright else loaded.preprocess
    return _predictions(pictures_of(sources, every), loaded, record, top, features, pictures)


def absent(sources: Sequence[Given]) -> list[Prediction]:
    """What is to be said of `sources` where they mean files, and no picture is among them, so that no network
    need be loaded to say it; nothing where there is anything to answer."""
    told: list[Prediction] = []
    if not all(map(is_on_disk, sources)):
        return told
    for picture in pictures_of(sources):
        error = picture.error or _flaw(picture)
        if error is None:
            return []
        told.append(Prediction(picture.name, error=error))
    return told


def _flaw(picture: Picture) -> str | None:
    """Why the picture can't be read, as far as its header tells."""
    try:
        open_image(picture.content)
    except ImageError as error:
        return _reason(error, picture)
    return None


def _predictions(
    found: Iterator[Picture], loaded: Loaded, record: Preprocess, top: int, features: bool, pictures: bool
) -> Iterator[Prediction]:
    with closing(in_batches(found, _source_of, record, loaded.settings.batch_size)) as ready:
        for batch in ready:
            yield from _answered(batch, loaded, top, features, pictures)


def _source_of(picture: Picture) -> Source | ImageError:
    return picture.content if picture.error is None else ImageError(picture.error)


def _reason(error: ImageError, picture: Picture) -> str:
    """The message without the name that it begins with: a Prediction has its source beside the error."""
    if isinstance(picture.content, Path):
        return error.message.removeprefix(f"{picture.content}: ")
    return re.sub(r"^<[\d,]+ bytes>: ", "", error.message)


def _answered(
    batch: Batch[Picture], loaded: Loaded, top: int, features: bool, pictures: bool
) -> Iterator[Prediction]:
    some = len(batch.images) > 0
    logits = loaded.logits(batch.images) if some else batch.images
    vectors = loaded.features(batch.images) if some and features else None
    for picture, row in batch.entries:
        if isinstance(row, ImageError):
            yield Prediction(picture.name, error=picture.error or _reason(row, picture))
            continue
        prediction = _prediction(picture.name, logits[row], loaded.labels, top)
        if vectors is not None:
            prediction = replace(prediction, features=vectors[row])
        if pictures:
            prediction = replace(prediction, picture=_seen(batch.images[row], loaded.preprocess))
        yield prediction


def _prediction(source: str, logits: Array, labels: LabelSet | None, top: int) -> Prediction:
    import numpy as np

    if not np.isfinite(logits).all():
        return Prediction(source, error="the network answered with values that are not finite.")
    shares = probabilities(logits)
    best = np.argsort(-shares, kind="stable")[:top]
    return Prediction(source, tuple(_answer(int(index), float(shares[index]), labels) for index in best))


def _answer(index: int, probability: float, labels: LabelSet | None) -> Answer:
    if labels is None:
        return Answer(index, None, None, probability)
    label = labels[index]
    return Answer(index, label.id, label.name, probability)


def probabilities(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Softmax over the last axis, in float64; no logit is too large for it.

    >>> import numpy as np
    >>> probabilities(np.array([1000.0, 1000.0, -1000.0])).tolist()
    [0.5, 0.5, 0.0]
    """
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _seen(image: Array, record: Preprocess) -> npt.NDArray[np.uint8]:
    """The picture (H, W, 3) that an input was made of: the normalisation undone."""
    import numpy as np

    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (record.mean, record.std))
    levels = np.rint((image * std + mean) * 255).clip(0, 255)
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))
