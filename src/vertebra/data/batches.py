"""From pictures, wherever they come from, to batches of a network's inputs.

Pictures are decoded on threads, ahead of whoever uses the batches. Their order stays, and one that can't be
read keeps its place, with the reason.

>>> from vertebra.data.preprocess import Preprocess
>>> tiny = Preprocess(input_size=(2, 2), resize=(2, 2), interpolation="bilinear")
>>> [batch] = in_batches([b"no picture"], lambda content: content, tiny, 8)
>>> [(item, str(error)) for item, error in batch.unreadable]
[(b'no picture', "<10 bytes>: not a JPEG, PNG, WebP, BMP, GIF or TIFF file: it begins with b'no pictu'.")]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from vertebra.data.preprocess import MAX_PIXELS, Preprocess, preprocess_many
from vertebra.errors import ImageError, InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.data.preprocess.pipeline import Given

    Input: TypeAlias = npt.NDArray[np.float32]

#: What a picture is to the caller: a sample, a request, a file's name.
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Batch(Generic[Item]):
    """Pictures that follow each other in their source.

    `entries` holds every item, in order, with the row of `images` that is its own, or with the reason why it
    can't be read. `images` (N, 3, H, W), float32, holds the readable ones; N may be 0.
    """

    entries: Sequence[tuple[Item, int | ImageError]]
    images: Input

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def readable(self) -> list[Item]:
        """The items of `images`, row by row."""
        return [item for item, row in self.entries if not isinstance(row, ImageError)]

    @property
    def unreadable(self) -> list[tuple[Item, ImageError]]:
        """The other items, with their reasons."""
        return [(item, error) for item, error in self.entries if isinstance(error, ImageError)]


def in_batches(
    items: Iterable[Item],
    source_of: Callable[[Item], Given],
    record: Preprocess,
    size: int,
    *,
    workers: int | None = None,
    prefetch: int | None = None,
    reuse: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Generator[Batch[Item]]:
    """`items` with the inputs that `record` makes of them, `size` to a batch; the last may be smaller.

    `source_of` gives an item's picture, the reason why there is none, or a function that gives either on a
    worker's thread. A batch also ends after `size` unreadable pictures, so that a source of nothing else
    neither piles up nor keeps its reasons back.
    `items` may be endless: it is read no further ahead than `prefetch` pictures, decoded on `workers` threads
    (as in `preprocess_many`); one with more than `max_pixels` isn't decoded. Closing the generator ends the
    threads.

    Each batch has an array of its own. With `reuse` all stand in one, which the next batch overwrites: for
    callers that are finished with a batch when they ask for the next.

    Raises InvalidInputError where a count is below 1.
    """
    if size < 1:
        raise InvalidInputError(f"The batch size is {size}; it must be at least 1.")
    ready = _prepared(items, source_of, record, workers, prefetch, max_pixels)
    return _gathered(ready, (size, 3, *record.input_size), reuse)


def _prepared(
    items: Iterable[Item],
    source_of: Callable[[Item], Given],
    record: Preprocess,
    workers: int | None,
    prefetch: int | None,
    max_pixels: int,
) -> Generator[tuple[Item, Input | ImageError]]:
    """Each item with its input or its error, in order."""
    under_way: deque[Item] = deque()

    def sources() -> Iterator[Given]:
        for item in items:
            under_way.append(item)
            yield source_of(item)

    made = preprocess_many(sources(), record, workers=workers, prefetch=prefetch, max_pixels=max_pixels)
    with closing(made) as results:
        for result in results:
            yield under_way.popleft(), result


def _gathered(
    ready: Generator[tuple[Item, Input | ImageError]], shape: tuple[int, int, int, int], reuse: bool
) -> Generator[Batch[Item]]:
    import numpy as np

    # Closed by name: an exception's traceback would keep the generators, and so the threads, alive.
    with closing(ready):
        size, images = shape[0], np.empty(shape, np.float32)
        entries: list[tuple[Item, int | ImageError]] = []
        rows = 0
        for item, result in ready:
            if isinstance(result, ImageError):
                entries.append((item, result))
            else:
                images[rows] = result
                entries.append((item, rows))
                rows += 1
            if size in (rows, len(entries) - rows):
                yield Batch(entries, images[:rows])
                entries, rows = [], 0
                images = images if reuse else np.empty(shape, np.float32)
        if entries:
            yield Batch(entries, images[:rows])
