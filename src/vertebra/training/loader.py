"""From labelled pictures to the batches of training, on threads that are ahead of the steps.

Threads, not processes: a batch is written where it will be used, and nothing is copied or started again in an
epoch. Decoders, resizing and arithmetic release the interpreter's lock. What holds it took 0.15 of 1.6 ms for
a picture of 500 × 375, so that threads keep about ten cores busy, and more with larger pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra.data.datasets import Dataset
from vertebra.data.preprocess import MAX_PIXELS
from vertebra.data.preprocess.pipeline import normalise
from vertebra.errors import ImageError, InvalidInputError, warn
from vertebra.machine import system
from vertebra.training import augmentation, order, storage
from vertebra.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    Places = npt.NDArray[np.int64]
    Levels = npt.NDArray[np.float32]

#: Tasks of a batch for each worker: fewer leave workers idle at a batch's end, more cost time themselves.
_TASKS = 4
#: Bytes of a batch above which only one is made ahead.
_LARGE = 2**26


@dataclass(frozen=True, eq=False)
class Batch:
    """One process's share of a step: `images` (N, 3, S, S), float32, normalised; `labels` (N,), int64;
    `places` (N,), int64: each picture's index in its set; and its name."""

    images: Tensor
    labels: Tensor
    places: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)


class Loader:
    """Batches of a set's pictures, all randomness from (seed, epoch, place).

    `labels` has, for each sample of `data` in its order, the class that it is trained as; -1 leaves it out
    (a picture of the validation part, or one that can't be used). `workers` is the number of threads, by
    default one for each core; 0: the caller's own. `seed` is the recipe's unless given. Each of `world`
    processes has its own `rank` and gets `batch / world` pictures of each step.

    Raises InvalidInputError where the labels don't fit the set, no picture is left, fewer are left than a
    step takes, or a step can't be shared equally.
    """

    def __init__(
        self,
        data: Dataset,
        labels: Sequence[int],
        recipe: Recipe,
        *,
        workers: int | None = None,
        seed: int | None = None,
        world: int = 1,
        rank: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        import numpy as np

        self.recipe = recipe
        self.workers = system.default_threads() if workers is None else workers
        self.seed = recipe.seed if seed is None else seed
        self._labels: Places = np.asarray(labels, np.int64).reshape(-1)
        self._kept: Places = np.flatnonzero(self._labels >= 0)
        self._world, self._rank = world, rank
        self._max_pixels = max_pixels
        self._check(data)
        self._pictures = storage.of(data)
        self._shards = self._shards_of(data)
        self._table = _levels(recipe)
        self._skipped: dict[int, ImageError] = {}
        self._announced: set[int] = set()

    def _check(self, data: Dataset) -> None:
        if len(self._labels) != len(data):
            raise InvalidInputError(f"{data.name} has {len(data)} pictures; {len(self._labels)} labels came.")
        if self.workers < 0:
            raise InvalidInputError(f"workers is {self.workers}; it must be at least 0.")
        if not len(self._kept):
            raise InvalidInputError(f"No picture of {data.name} is left to train on.")
        if len(self._kept) < self.recipe.batch:
            raise InvalidInputError(
                f"{data.name} has {len(self._kept)} pictures to train on; a step takes {self.recipe.batch}.",
                f"pass a batch of at most {len(self._kept)}",
            )
        # Raises where a step can't be shared.
        order.positions(0, seed=0, epoch=0, world=self._world, rank=self._rank, batch=self.recipe.batch)

    def _shards_of(self, data: Dataset) -> Sequence[int] | None:
        import numpy as np

        if self.recipe.shuffle == "all":
            return None
        counts = self._pictures.shards
        if counts is None:
            raise InvalidInputError(
                f"{data.name}, {data.format}, has no shards to shuffle.", 'pass shuffle "all"'
            )
        shards = np.repeat(np.arange(len(counts)), counts)
        kept: list[int] = np.bincount(shards[self._kept], minlength=len(counts)).tolist()
        return kept

    @property
    def steps(self) -> int:
        """Batches of an epoch: the same on every process. Pictures that don't fill a step are left out, other
        ones in each epoch."""
        return self.recipe.steps(len(self._kept))

    @property
    def pictures(self) -> int:
        """How many pictures there are to train on."""
        return len(self._kept)

    def class_weights(self, classes: int) -> Tensor | None:
        """Each class's weight in the loss (classes,), float32: the inverse of its count, 1 on average over
        the pictures, 0 for a class without any; None unless the recipe asks for them."""
        import numpy as np
        import torch

        if not self.recipe.class_weights:
            return None
        counts = np.bincount(self._labels[self._kept], minlength=classes)
        share = len(self._kept) / np.count_nonzero(counts)
        weights = np.divide(share, counts, out=np.zeros(len(counts)), where=counts > 0)
        return torch.from_numpy(weights.astype(np.float32))

    # ------------------------------------------------------------------ an epoch

    def order(self, epoch: int) -> Places:
        """The places of the pictures that this process takes in an epoch."""
        weights = order.balanced(self._labels[self._kept].tolist()) if self.recipe.balanced else None
        return self._kept[
            order.positions(
                len(self._kept), seed=self.seed, epoch=epoch, world=self._world, rank=self._rank,
                weights=weights, batch=self.recipe.batch, shards=self._shards,
            )
        ]  # fmt: skip

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[Batch]:
        """The batches of an epoch from `first_step`. Close the iterator to end its threads early.

        Raises ImageError, naming it, at a picture that can't be read, unless the recipe skips those.
        """
        places = self.order(epoch).reshape(self.steps, -1)[first_step:]
        if self.workers == 0:
            for share in places:
                begun = self._begin(share, epoch)
                for rows in begun.tasks:
                    self._fill(begun, rows)
                yield self._end(begun)
            return
        yield from self._threaded(places, epoch)

    def _threaded(self, places: Places, epoch: int) -> Generator[Batch]:
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        waiting: deque[tuple[_Begun, list[Future[None]]]] = deque()
        steps = iter(places)

        def begin() -> None:
            share = next(steps, None)
            if share is not None:
                begun = self._begin(share, epoch)
                waiting.append((begun, [pool.submit(self._fill, begun, rows) for rows in begun.tasks]))

        try:
            for _ in range(self._ahead(places.shape[1])):
                begin()
            while waiting:
                begun, tasks = waiting.popleft()
                for task in tasks:
                    task.result()
                begin()
                yield self._end(begun)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _ahead(self, share: int) -> int:
        """Batches of `share` pictures in progress while one is used. Of small ones two, and as many as keep
        all workers busy; of large ones a single one, as each takes hundreds of megabytes."""
        if not self.workers:
            return 0
        is_large = share * 12 * self.recipe.input_size**2 > _LARGE
        return (1 if is_large else 2) + 2 * self.workers // share

    @property
    def memory(self) -> int:
        """Bytes of the batches that are in memory at once."""
        share = self.recipe.batch // self._world
        return (self._ahead(share) + 1) * share * 12 * self.recipe.input_size**2

    def _begin(self, places: Places, epoch: int) -> _Begun:
        import numpy as np

        side = self.recipe.input_size
        if self.recipe.channels_last:
            images = np.empty((len(places), side, side, 3), np.float32).transpose(0, 3, 1, 2)
        else:
            images = np.empty((len(places), 3, side, side), np.float32)
        tasks = min(_TASKS * max(self.workers, 1), len(places))
        return _Begun(epoch, places.copy(), images, np.array_split(np.arange(len(places)), tasks))

    def _fill(self, begun: _Begun, rows: Places) -> None:
        for row in rows.tolist():
            begun.places[row] = self._readable(int(begun.places[row]), begun.epoch, begun.images[row])

    def _readable(self, place: int, epoch: int, into: Levels) -> int:
        """Write the picture at `place`, or the next readable one, and return the place it is from."""
        import numpy as np

        position = int(np.searchsorted(self._kept, place))
        for further in range(len(self._kept)):
            place = int(self._kept[(position + further) % len(self._kept)])
            try:
                self._write(place, epoch, into)
            except ImageError as error:
                named = self._named(place, error)
                if self.recipe.unreadable == "fail":
                    raise named from None
                self._skipped.setdefault(place, named)
            else:
                return place
        raise InvalidInputError("None of the pictures can be read.", "look at them with: vertebra check")

    def _named(self, place: int, error: ImageError) -> ImageError:
        name = self._pictures.names[place]
        message = error.message if name in error.message else f"{name}: {error.message}"
        return ImageError(message, "leave it out, or pass unreadable=skip")

    def _write(self, place: int, epoch: int, into: Levels) -> None:
        import numpy as np

        shares = augmentation.draws_of(self.seed, epoch, place)
        pixels, erased = augmentation.picture(
            self._pictures.source(place), self.recipe, shares, max_pixels=self._max_pixels
        )
        for channel in range(3):
            np.take(self._table[channel], pixels[:, :, channel], out=into[channel], mode="clip")
        if erased is not None:
            # What is 0 after normalisation is the mean colour.
            top, left, height, width = erased
            into[:, top : top + height, left : left + width] = 0

    def _end(self, begun: _Begun) -> Batch:
        import torch

        for place, error in list(self._skipped.items()):
            if place not in self._announced:
                self._announced.add(place)
                warn(f"skipped: {error.message} The next picture is in its place.")
        return Batch(
            torch.from_numpy(begun.images),
            torch.from_numpy(self._labels[begun.places]),
            torch.from_numpy(begun.places),
            [self._pictures.names[place] for place in begun.places.tolist()],
        )

    @property
    def skipped(self) -> dict[str, str]:
        """The pictures that couldn't be read so far, and why."""
        return {self._pictures.names[place]: str(error) for place, error in sorted(self._skipped.items())}


@dataclass(frozen=True, eq=False)
class _Begun:
    """A batch whose images are being made: its places, and the rows of each task."""

    epoch: int
    places: Places
    images: Levels
    tasks: Sequence[Places]


def _levels(recipe: Recipe) -> Levels:
    """What the network takes for each level 0 to 255 of each channel (3, 256)."""
    import numpy as np

    levels = np.tile(np.arange(256, dtype=np.float32), (3, 1))[:, None, :].copy()
    normalise(levels, recipe.evaluation)
    return levels[:, 0]
