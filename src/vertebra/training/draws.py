"""Random numbers that belong to a place, not to a state that someone carries.

Philox is a counter-based generator: any of its numbers can be made without those before it. Each purpose of
a run has its own key, and the counter says of which epoch and of which picture or step a draw is. So neither
the order in which pictures are made, nor how many workers and processes make them, nor where a run goes on,
can change one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Uniforms = npt.NDArray[np.float64]

#: What a draw is for. A purpose never changes its number: runs of an earlier version go on.
ORDER, PICTURE, MIX = 1, 2, 3


def raw(purpose: int, seed: int, epoch: int, place: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` numbers of 64 random bits, of one place."""
    from numpy.random import Philox

    # The lowest word of the counter is Philox's own: it advances by one for every four numbers.
    return Philox(key=[seed, purpose], counter=[0, place, epoch, 0]).random_raw(count)


def uniform(purpose: int, seed: int, epoch: int, place: int, count: int) -> Uniforms:
    """`count` numbers from 0 to below 1, of 53 bits."""
    import numpy as np

    return (raw(purpose, seed, epoch, place, count) >> 11).astype(np.float64) * 2.0**-53


def generator(purpose: int, seed: int, epoch: int, place: int) -> np.random.Generator:
    """numpy's generator, of one place."""
    from numpy.random import Generator, Philox

    return Generator(Philox(key=[seed, purpose], counter=[0, place, epoch, 0]))


def whole(share: float, count: int) -> int:
    """The whole number from 0 to below `count` that a uniform draw stands for."""
    return min(int(share * count), count - 1)
