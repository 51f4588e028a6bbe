"""In which order an epoch takes the pictures, for each process."""

from __future__ import annotations

from collections.abc import Sequence


def positions(
    count: int,
    *,
    seed: int,
    epoch: int,
    world: int = 1,
    rank: int = 0,
    weights: Sequence[float] | None = None,
    batch: int | None = None,
    shards: Sequence[int] | None = None,
) -> Sequence[int]:
    """Which of `count` pictures process `rank` of `world` takes in this epoch: equally many on each.

    Without `batch` a process takes every `world`-th picture of the common order. With it, the pictures of a
    step over all processes, each takes its contiguous share of every step, so that a step's pictures are the
    same, in the same order, for any `world`; the step that isn't full is left out. With `weights`, one for
    each picture, pictures are drawn with replacement in proportion. `shards` are counts of pictures that
    follow each other: shards are shuffled, and pictures within a window of neighbouring ones.
    """
    raise NotImplementedError
