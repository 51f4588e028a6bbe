"""Prediction: pictures from any source, a loaded network, and the most likely classes.

`predict` runs in batches while the next pictures are decoded, and keeps only these in memory. A picture that
can't be read gets an error instead, and the others go on.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.data.batches import Batch, in_batches
from vertebra.data.labels import LabelSet
from vertebra.data.names import printable
from vertebra.data.preprocess import MAX_PIXELS, Preprocess, Source, open_image
from vertebra.errors import ImageError, InvalidInputError
from vertebra.inference.prediction.sources import Given, Picture, is_on_disk, pictures_of
from vertebra.measurements import display

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.inference.loading import Loaded

    Array = npt.NDArray[np.float32]

__all__ = [
    "Answer", "Given", "Picture", "Prediction", "absent", "answers", "check_counts", "pictures_of", "predict",
    "probabilities",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """One class with its probability, 0 to 1. `id` and `name` are None if the labels don't have them."""

    index: int
    id: str | None
    name: str | None
    probability: float

    @property
    def called(self) -> str:
        """The name, else the id, else the number of the output."""
        return self.name or self.id or f"class {self.index}"


@dataclass(frozen=True, repr=False)
class Prediction(display.Shown):
    """A network's answer for one picture: `top`, the most likely class first, or `error`, why there is none.

    `assumed` names what nobody stated of the network, as in a Bundle's manifest.
    `features` (D,) and `picture` (H, W, 3), uint8, the picture as the network sees it, are set on request.
    """

    source: str
    top: tuple[Answer, ...] = ()
    error: str | None = None
    assumed: tuple[str, ...] = field(default=(), compare=False, repr=False)
    features: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    picture: npt.NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)

    def summary(self) -> str:
        """The picture's name with the first answer or the error."""
        if self.error is not None:
            return f"{self.source}: {self.error}"
        answers = (f"{one.called} {100 * one.probability:.1f} %" for one in self.top[:1])
        return f"{self.source}: {', '.join(answers)}"

    def tables(self) -> Iterable[list[display.Line]]:
        """The answers."""
        yield [{"class": one.called, "probability": f"{100 * one.probability:.2f} %"} for one in self.top]


def predict(
    sources: Iterable[Given],
    loaded: Loaded,
    *,
    top: int = 5,
    features: bool = False,
    pictures: bool = False,
    every: int = 1,
    upright: bool = True,
    max_pixels: int | None = None,
) -> Iterator[Prediction]:
    """The `top` classes of each picture in `sources`, in order, as soon as its batch is done.

    A source is the path of a picture or a folder (searched with its subfolders), a pattern, an http(s)
    address, "-" (one picture on standard input), "camera:0", a video's path (every `every`th frame), a
    picture's bytes, or pixels (H, W, 3), uint8, RGB. With `upright`, pictures are turned by their EXIF
    orientation even if the network's record ignores it; without, the record decides, as in an evaluation.
    A picture with more than `max_pixels` (by default MAX_PIXELS) isn't decoded.
    Raises InvalidInputError (a count below 1), and MissingRuntimeError if a video needs OpenCV.
    """
    check_counts(top, every, max_pixels)
    return answers(
        pictures_of(sources, every), loaded, top=top, features=features, pictures=pictures, upright=upright,
        max_pixels=max_pixels,
    )  # fmt: skip


def check_counts(top: int = 5, every: int = 1, max_pixels: int | None = None) -> None:
    """Raise InvalidInputError for a count below 1."""
    for name, value in (("top", top), ("every", every), ("max_pixels", max_pixels)):
        if value is not None and value < 1:
            raise InvalidInputError(f"{name} is {value}, but must be at least 1.")


def answers(
    found: Iterable[Picture],
    loaded: Loaded,
    *,
    top: int = 5,
    features: bool = False,
    pictures: bool = False,
    upright: bool = True,
    max_pixels: int | None = None,
) -> Iterator[Prediction]:
    """As `predict`, of pictures that were found already."""
    most = MAX_PIXELS if max_pixels is None else max_pixels
    record = replace(loaded.preprocess, apply_orientation=True) if upright else loaded.preprocess
    batches = in_batches(found, _source_of, record, loaded.settings.batch_size, max_pixels=most)
    return _predictions(batches, loaded, top, features, pictures)


def absent(sources: Sequence[Given], max_pixels: int | None = None) -> list[Prediction]:
    """The errors of `sources` if all are files and none is a picture, so that no network must be loaded to
    report them; empty if there is a picture, or may be one."""
    errors: list[Prediction] = []
    if not all(map(is_on_disk, sources)):
        return errors
    for picture in pictures_of(sources):
        error = picture.error or _flaw(picture, max_pixels or MAX_PIXELS)
        if error is None:
            return []
        errors.append(Prediction(picture.name, error=error))
    return errors


def _flaw(picture: Picture, max_pixels: int) -> str | None:
    """Why the picture can't be read, judged by its header."""
    try:
        open_image(picture.content, max_pixels=max_pixels)
    except ImageError as error:
        return _reason(error, picture)
    return None


def _predictions(
    batches: Generator[Batch[Picture]], loaded: Loaded, top: int, features: bool, pictures: bool
) -> Iterator[Prediction]:
    with closing(batches) as ready:
        for batch in ready:
            yield from _answered(batch, loaded, top, features, pictures)


def _source_of(picture: Picture) -> Source | ImageError:
    return picture.content if picture.error is None else ImageError(picture.error)


def _reason(error: ImageError, picture: Picture) -> str:
    """The message without the name at its start: a Prediction has its source as well as the error."""
    if isinstance(picture.content, Path):
        return error.message.removeprefix(f"{printable(picture.content)}: ")
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
        prediction = _prediction(picture.name, logits[row], loaded, top)
        if vectors is not None:
            prediction = replace(prediction, features=vectors[row])
        if pictures:
            prediction = replace(prediction, picture=_seen(batch.images[row], loaded.preprocess))
        yield prediction


def _prediction(source: str, logits: Array, loaded: Loaded, top: int) -> Prediction:
    import numpy as np

    if not np.isfinite(logits).all():
        return Prediction(source, error="the network answered with values that are not finite.")
    shares = sigmoids(logits) if loaded.independent else probabilities(logits)
    best = np.argsort(-shares, kind="stable")[:top]
    answers = tuple(_answer(int(index), float(shares[index]), loaded.labels) for index in best)
    return Prediction(source, answers, assumed=loaded.assumed)


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


def sigmoids(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The share of each class on its own, in float64.

    >>> import numpy as np
    >>> sigmoids(np.array([0.0, 1000.0, -1000.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    import numpy as np

    shares: npt.NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))
    return shares


def _seen(image: Array, record: Preprocess) -> npt.NDArray[np.uint8]:
    """The picture (H, W, 3) of an input: the normalisation undone."""
    import numpy as np

    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (record.mean, record.std))
    levels = np.rint((image * std + mean) * 255).clip(0, 255)
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))
