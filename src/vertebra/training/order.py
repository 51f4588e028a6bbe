"""In which order an epoch takes the pictures, for each process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError
from vertebra.training import draws

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Places = npt.NDArray[np.int64]

#: Pictures that are shuffled among each other where shards are read one after the other.
WINDOW = 8192


def positions(
    count: int,
    *,
    seed: int,
    epoch: int,
    world: int = 1,
    rank: int = 0,
    weights: Sequence[float] | npt.NDArray[np.float64] | None = None,
    batch: int | None = None,
    shards: Sequence[int] | None = None,
) -> Places:
    """Which of `count` pictures process `rank` of `world` takes in this epoch: equally many on each.

    Without `batch` a process takes every `world`-th picture of the common order, which begins again where the
    count isn't a multiple. With it, the pictures of a step over all processes, each takes its contiguous
    share of every step, so that a step's pictures are the same, in the same order, for any `world`; the last
    step, where it isn't full, is left out. With `weights`, one for each picture, `count` pictures are drawn
    with replacement in proportion. `shards` are counts of pictures that follow each other: the shards are
    shuffled, and pictures within windows of 8,192, so that files are read nearly in their order.
    """
    import numpy as np

    if not 0 <= rank < world:
        raise InvalidInputError(f"Process {rank} of {world}; it must be from 0 to {world - 1}.")
    if weights is not None:
        common = _drawn(count, seed, epoch, np.asarray(weights, np.float64))
    elif shards is not None:
        common = _by_shards(count, seed, epoch, np.asarray(shards, np.int64))
    else:
        common = _shuffled(count, draws.raw(draws.ORDER, seed, epoch, 0, count))
    if batch is None:
        return np.resize(common, -(-count // world) * world)[rank::world]
    share, rest = divmod(batch, world)
    if rest or not share:
        raise InvalidInputError(
            f"A step of {batch} pictures can't be shared equally by {world} processes.",
            f"pass a batch that is a multiple of {world}",
        )
    steps = count // batch
    mine: Places = common[: steps * batch].reshape(steps, world, share)[:, rank].ravel()
    return mine


def _shuffled(count: int, keys: npt.NDArray[np.uint64]) -> Places:
    import numpy as np

    # Two of 2^64 keys are hardly ever equal, and a stable order then decides.
    return np.argsort(keys, kind="stable").astype(np.int64)


def _drawn(count: int, seed: int, epoch: int, weights: npt.NDArray[np.float64]) -> Places:
    import numpy as np

    if len(weights) != count or not (weights >= 0).all() or not weights.sum() > 0:
        raise InvalidInputError(f"{count} pictures need as many weights from 0 up, and one above 0.")
    limits = np.cumsum(weights)
    shares = draws.uniform(draws.ORDER, seed, epoch, 1, count) * limits[-1]
    drawn = np.searchsorted(limits, shares, side="right")
    # A product that was rounded up to the last limit is the last picture's.
    places: Places = np.minimum(drawn, np.flatnonzero(weights)[-1]).astype(np.int64)
    return places


def _by_shards(count: int, seed: int, epoch: int, sizes: Places) -> Places:
    import numpy as np

    if sizes.sum() != count or (sizes < 0).any():
        raise InvalidInputError(f"The shards have {sizes.sum()} pictures; there are {count}.")
    first = np.concatenate([[0], np.cumsum(sizes)])
    visited = _shuffled(len(sizes), draws.raw(draws.ORDER, seed, epoch, 2, len(sizes)))
    parts = [np.arange(first[shard], first[shard + 1]) for shard in visited]
    ordered = np.concatenate([*parts, np.empty(0, np.int64)]).astype(np.int64)
    keys = draws.raw(draws.ORDER, seed, epoch, 3, count)
    mixed: Places = ordered[np.lexsort((keys, np.arange(count) // WINDOW))]
    return mixed


def balanced(labels: Sequence[int]) -> npt.NDArray[np.float64]:
    """A weight for each picture with which every class that occurs is drawn equally often."""
    import numpy as np

    counts = np.bincount(np.asarray(labels, np.int64))
    return 1.0 / counts[np.asarray(labels, np.int64)]
