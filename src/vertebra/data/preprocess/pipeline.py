"""Carries out the record: for one picture, and for many on all cores."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from vertebra.data.preprocess.decode import MAX_PIXELS, Pixels, Source, open_image
from vertebra.data.preprocess.record import Preprocess
from vertebra.data.preprocess.resize import resample
from vertebra.errors import ImageError, InvalidInputError
from vertebra.machine import system

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Input: TypeAlias = npt.NDArray[np.float32]
    #: A picture, the reason why there is none, or a function that is called on the worker's thread for these.
    Given: TypeAlias = Source | ImageError | Callable[[], Source | ImageError]


def preprocess(source: Source, record: Preprocess, *, max_pixels: int = MAX_PIXELS) -> Input:
    """A network's input (3, H, W), float32, contiguous, of one picture. Raises ImageError.

    `source` is the encoded picture, as bytes or a path; or RGB pixels (H, W, 3) of uint8, as from a video.
    """
    pixels, shape = _pixels(source, record, max_pixels)
    resized = record.resized(*shape)
    crop = (*record.corner(*resized), *record.input_size)
    quick = record.decode == "scaled"
    levels = resample(pixels, resized, crop, record.interpolation, quick=quick)
    normalise(levels, record)
    return levels


def preprocess_many(
    sources: Iterable[Given],
    record: Preprocess,
    *,
    workers: int | None = None,
    prefetch: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Generator[Input | ImageError]:
    """Inputs of many pictures, in the order of `sources`, made on `workers` threads ahead of the reader.

    A picture that can't be read gives its ImageError and doesn't end the run; an error among `sources`, where
    there is no picture to read, is given back in its place; a function among them is called for either, on a
    worker's thread. At most `prefetch` pictures are in progress or waiting, so memory stays steady however
    slow the reader is; `sources` is read no further ahead. By default one worker per core, and twice as many
    pictures ahead.
    """
    workers = system.default_threads() if workers is None else workers
    prefetch = 2 * workers if prefetch is None else prefetch
    if workers < 1 or prefetch < 1:
        raise InvalidInputError(f"workers is {workers} and prefetch {prefetch}; both must be at least 1.")
    return _ordered(iter(sources), record, workers, prefetch, max_pixels)


def _ordered(
    sources: Iterator[Given], record: Preprocess, workers: int, prefetch: int, max_pixels: int
) -> Generator[Input | ImageError]:
    # Threads, not processes: the decoders and Pillow release the interpreter's lock, and nothing is copied.
    pool = ThreadPoolExecutor(workers, thread_name_prefix="preprocess")
    waiting: deque[Future[Input | ImageError]] = deque()
    try:
        for source in itertools.islice(sources, prefetch):
            waiting.append(pool.submit(_attempt, source, record, max_pixels))
        while waiting:
            result = waiting.popleft().result()
            for source in itertools.islice(sources, 1):
                waiting.append(pool.submit(_attempt, source, record, max_pixels))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _attempt(source: Given, record: Preprocess, max_pixels: int) -> Input | ImageError:
    try:
        if callable(source):
            source = source()
        if isinstance(source, ImageError):
            return source
        return preprocess(source, record, max_pixels=max_pixels)
    except ImageError as error:
        return error.with_traceback(None)  # a traceback would keep the picture alive


def _pixels(source: Source, record: Preprocess, max_pixels: int) -> tuple[Pixels, tuple[int, int]]:
    """Pixels, perhaps scaled, and (height, width) of the picture that they show."""
    import numpy as np

    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or source.size == 0:
            raise InvalidInputError(
                f"Pixels must be (H, W, 3) of uint8, not {source.shape} of {source.dtype}."
            )
        return source, source.shape[:2]
    image = open_image(source, max_pixels=max_pixels)
    shape = image.shape(apply_orientation=record.apply_orientation)
    at_least = record.resized(*shape) if record.decode == "scaled" else None
    pixels = image.pixels(apply_orientation=record.apply_orientation, at_least=at_least)
    return pixels, (shape if at_least is not None else pixels.shape[:2])


def normalise(levels: Input, record: Preprocess) -> None:
    """Levels (3, H, W), float32, 0 to 255, become what the network takes, in place: (level / 255 - mean) /
    std in this order, which is torchvision's to the bit."""
    import numpy as np

    for plane, mean, std in zip(levels, record.mean, record.std, strict=True):  # a core's cache holds one
        plane /= np.float32(255)
        plane -= np.float32(mean)
        plane /= np.float32(std)
