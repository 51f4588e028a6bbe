"""Successive halving: which of the forms that are measured in turns may still be the fastest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vertebra.measurements import statistics
from vertebra.measurements.blocks import Block

#: The number of turns before the first look; it doubles before each next one.
FIRST_LOOK = 3


@dataclass(frozen=True)
class Pace:
    """A form's speed from its blocks, in seconds per image: the median, its 95 % interval, and its best
    block's median, which a disturbance during the other blocks doesn't change."""

    seconds: float
    low: float
    high: float
    best: float


def pace(blocks: Sequence[Block], batch_size: int = 1) -> Pace:
    """The pace from at least one block. Without an interval, its ends are those of the blocks' medians."""
    found = statistics.interval(blocks)
    medians = [statistics.median(block.latencies) for block in blocks]
    low = min(medians) if found.low is None else found.low
    high = max(medians) if found.high is None else found.high
    seconds, low, high, best = (one / batch_size for one in (found.median, low, high, min(medians)))
    return Pace(seconds, low, high, best)


def stay(rivals: Sequence[tuple[Sequence[Block], int]]) -> list[bool]:
    """For each rival (blocks and batch size), whether it stays in.

    At a look, the faster half stays, and of the slower half every form whose interval, or whose best block,
    reaches into the interval of the fastest.
    """
    turns = max((len(blocks) for blocks, _ in rivals), default=0)
    if not is_look(turns):
        return [True] * len(rivals)
    paces = [pace(blocks, batch_size) for blocks, batch_size in rivals]
    ordered = sorted(paces, key=lambda one: one.seconds)
    fastest, middle = ordered[0], ordered[(len(ordered) - 1) // 2]
    return [one.seconds <= middle.seconds or min(one.low, one.best) <= fastest.high for one in paces]


def is_look(turns: int) -> bool:
    """Whether slower forms may be dropped after this number of turns.

    >>> [turns for turns in range(1, 30) if is_look(turns)]
    [3, 6, 12, 24]
    """
    return turns >= FIRST_LOOK and math.log2(turns / FIRST_LOOK).is_integer()
