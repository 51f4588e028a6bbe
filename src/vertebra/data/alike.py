"""Which pictures are near-duplicates: one photograph saved again, smaller, a little lighter, or mirrored.

Each picture is compared as a grey thumbnail of 32 × 32. Two are alike if their average colours and contrasts
are close, if the thumbnails correlate, and if their fine detail (what a blur takes away) correlates too:
without the last, all T-shirts on white are alike. Small pictures have little detail, and in some sets all
pictures are similar; there the limits are stricter.

>>> import numpy as np
>>> thumbnail(np.full((64, 48, 3), (200, 100, 0), np.uint8)).colour
(200, 100, 0)
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from vertebra.machine import system

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]
    Flags = npt.NDArray[np.bool_]
    Places = npt.NDArray[np.int64]
    Hashes = npt.NDArray[np.uint64]

Given = TypeVar("Given")
Made = TypeVar("Made")

#: Height and width of a thumbnail, and of the coarse picture that hashes are made from.
SIDE = 32
_COARSE = 8
#: A picture of fewer pixels is small.
SMALL = 48 * 48
#: Standard deviation of the grey levels below which a picture shows nothing to recognise it by.
FLAT = 4.0
#: How far averages of red, green and blue may be apart, in levels of 255, and contrasts, as a factor.
_COLOUR, _CONTRAST = 32, 1.5
#: A bit of the hash says that one field is lighter than its neighbour by more than this: the noise of a plain
#: ground sets none.
_STEP = 2
#: Levels of detail that are noise, and that more isn't counted of.
_NOISE, _EDGE = 1, 8
#: A group of more pictures than this is made again by the strict limits.
LARGE = 20
#: Pictures in a leaf at most, and how many thumbnails are compared at a time.
_LEAF, _THUMBS = 2**10, 2**12
#: In how many directions leaves are told apart, and how many pictures show which.
_AXES, _SAMPLED = 8, 20_000
#: What rounding to float32 may take from a correlation, many times over.
_ROUNDING = 1e-4


class Limits(NamedTuple):
    """The most bits of 112 that hashes differ by, and the least correlation of the coarse pictures, of the
    thumbnails and of their detail."""

    bits: int
    coarse: float
    whole: float
    detail: float


USUAL = Limits(12, 0.98, 0.97, 0.82)
STRICT = Limits(8, 0.99, 0.97, 0.95)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """32 × 32 grey levels, row by row, and the averages of red, green and blue."""

    grey: bytes
    colour: tuple[int, int, int]


def thumbnail(pixels: Any) -> Thumbnail:
    """The thumbnail of pixels (H, W, 3), uint8."""
    import numpy as np
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    red, green, blue = np.asarray(small).mean((0, 1)).round().astype(int).tolist()
    return Thumbnail(small.convert("L").tobytes(), (red, green, blue))


def is_flat(grey: bytes) -> bool:
    """Whether a thumbnail shows nothing to recognise the picture by."""
    import numpy as np

    return float(np.frombuffer(grey, np.uint8).std()) < FLAT


# ------------------------------------------------------------------ pairs


@dataclass(frozen=True)
class Pairs:
    """The places of pictures that are alike, and whether they are by the strict limits, pair by pair."""

    first: Places
    second: Places
    strictly: Flags

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class _Facts:
    """What is known of each of N pictures, by place; `hashes` (2, N, 2) are of each as it is, and
    mirrored."""

    thumbs: Bytes
    colours: npt.NDArray[np.int16]
    small: Flags
    contrast: Floats
    coarse: Bytes
    hashes: Hashes


@dataclass(frozen=True)
class _Leaves:
    """The n pictures that aren't flat, in L leaves: `places` one leaf after the other, which end at `ends`;
    and where they lie along the directions in which coarse pictures differ most: `points` (2, n, AXES), as
    they are and mirrored, and the boxes around the leaves, `low` to `high` (2, L, AXES). Pictures that may be
    alike correlate by `least`, seen coarsely."""

    places: Places
    ends: tuple[int, ...]
    points: Floats
    low: Floats
    high: Floats
    least: float

    def of(self, leaf: int) -> slice:
        """Which of the places are a leaf's."""
        return slice(self.ends[leaf - 1] if leaf else 0, self.ends[leaf])

    def near(self, leaf: int, mirrored: bool) -> Iterator[tuple[Places, Places]]:
        """Numbers of pictures in the leaf, and of those in it and in the leaves after it that may be like
        them. With the mean taken away and one length, the correlation of two is 1 - d² / 2 at a distance d,
        and nothing is nearer than the box around it."""
        import numpy as np

        side, part = int(mirrored), self.of(leaf)
        low, high = self.low[side, leaf], self.high[side, leaf]
        for other in np.flatnonzero(self._reach(self.low[0], self.high[0], low, high)).tolist():
            if other < leaf:
                continue
            mine, theirs = self.points[side, part], self.points[0, self.of(other)]
            first = np.flatnonzero(self._reach(mine, mine, self.low[0, other], self.high[0, other]))
            second = np.flatnonzero(self._reach(theirs, theirs, low, high))
            if len(first) and len(second):
                yield first + part.start, second + self.of(other).start

    def _reach(self, low: Floats, high: Floats, lowest: Floats, highest: Floats) -> Flags:
        """Whether each of several boxes is near enough to one."""
        import numpy as np

        gap = np.maximum(0, np.maximum(low - highest, lowest - high))
        found: Flags = np.square(gap).sum(axis=1) <= 2 * (1 - self.least)
        return found


def pairs(
    thumbs: Bytes, colours: Bytes, small: Flags, *, share: Callable[[float], None] | None = None
) -> Pairs:
    """The pairs of alike pictures among N, as they are or mirrored.

    `thumbs` (N, 32, 32), `colours` (N, 3) and `small` (N) are of each picture. Pictures are put into leaves
    of similar ones, and only those in leaves that are near each other are compared, on all cores. `share` is
    given the share that is done.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    facts = _facts(thumbs, colours, small)
    leaves = _leaves(facts)
    blocks = [(leaf, mirrored) for leaf in range(len(leaves.ends)) for mirrored in (False, True)]
    found: list[tuple[Places, Places, Flags]] = []
    with threadpool_limits(1, "blas"):  # every core has a block of its own
        for done, made in enumerate(_on_all_cores(lambda one: list(_alike(facts, leaves, *one)), blocks), 1):
            found += made
            if share is not None:
                share(done / len(blocks))
    if not found:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))
    first, second, strictly = (np.concatenate(column) for column in zip(*found, strict=True))
    return Pairs(first, second, strictly)


def _facts(thumbs: Bytes, colours: Bytes, small: Flags) -> _Facts:
    import numpy as np

    count, factor = len(thumbs), SIDE // _COARSE
    coarse = np.empty((count, _COARSE, _COARSE), np.uint8)
    contrast = np.empty(count, np.float32)
    hashes = np.empty((2, count, 2), np.uint64)
    for at in range(0, count, _THUMBS):
        part = slice(at, at + _THUMBS)
        block = thumbs[part].reshape(-1, _COARSE, factor, _COARSE, factor)
        coarse[part] = block.mean((2, 4)).round()
        contrast[part] = block.std((1, 2, 3, 4))
        hashes[:, part] = _hashes(coarse[part]), _hashes(coarse[part, :, ::-1])
    return _Facts(thumbs, colours.astype(np.int16), small, contrast, coarse, hashes)


def _leaves(facts: _Facts) -> _Leaves:
    """The pictures, halved along the direction in which they differ most until few are together."""
    import numpy as np

    coarse = facts.coarse
    places = np.flatnonzero((facts.contrast >= FLAT) & (coarse.min((1, 2)) < coarse.max((1, 2))))
    least = (STRICT.coarse if facts.small.all() else USUAL.coarse) - _ROUNDING
    if not len(places):
        none = np.empty((2, 0, _AXES), np.float32)
        return _Leaves(places, (), none, none, none, least)
    points = _points(coarse, places)
    parts: list[Places] = []
    waiting = [np.arange(len(places))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= _LEAF:
            parts.append(rows)
            continue
        there = points[0, rows]
        axis = int(np.ptp(there, axis=0).argmax())
        order = rows[np.argpartition(there[:, axis], len(rows) // 2)]
        waiting += [order[len(rows) // 2 :], order[: len(rows) // 2]]
    ends = tuple(np.cumsum([len(part) for part in parts]).tolist())
    low = np.stack([points[:, part].min(axis=1) for part in parts], axis=1)
    high = np.stack([points[:, part].max(axis=1) for part in parts], axis=1)
    order = np.concatenate(parts)
    return _Leaves(places[order], ends, points[:, order], low, high, least)


def _points(coarse: Bytes, places: Places) -> Floats:
    """The coarse pictures at `places` along the directions in which they differ most (2, n, AXES), as they
    are and mirrored."""
    import numpy as np

    sampled = places[np.unique(np.linspace(0, len(places) - 1, _SAMPLED).astype(np.intp))]
    units = _units(coarse[sampled])
    _, axes = np.linalg.eigh(units.T @ units)
    axes = axes[:, -_AXES:].astype(np.float32)
    points = np.empty((2, len(places), _AXES), np.float32)
    for at in range(0, len(places), _THUMBS):
        part = slice(at, at + _THUMBS)
        block = coarse[places[part]]
        points[:, part] = _units(block) @ axes, _units(block[:, :, ::-1]) @ axes
    return points


def _units(coarse: Bytes) -> Floats:
    """Coarse pictures (n, 64) with a mean of 0 and a length of 1."""
    import numpy as np

    found = coarse.reshape(len(coarse), -1).astype(np.float32)
    found -= found.mean(axis=1, keepdims=True)
    found /= np.sqrt(np.square(found).sum(axis=1, keepdims=True))
    return found


def _hashes(coarse: Bytes) -> Hashes:
    """112 bits of each picture, in two numbers: where a field is lighter than the last in its row, and in its
    column."""
    import numpy as np

    levels = coarse.astype(np.int16)
    across = np.diff(levels, axis=2) > _STEP
    down = np.diff(levels, axis=1) > _STEP
    count = len(coarse)
    bits = np.zeros((count, 128), np.bool_)
    bits[:, :56], bits[:, 56:112] = across.reshape(count, 56), down.reshape(count, 56)
    return np.packbits(bits, axis=1).view(np.uint64)


def _ones(numbers: Hashes) -> Bytes:
    """How many bits are set in each number."""
    import numpy as np

    if hasattr(np, "bitwise_count"):
        found: Bytes = np.bitwise_count(numbers)
        return found
    table = np.array([number.bit_count() for number in range(2**16)], np.uint8)  # numpy 1
    halves = np.ascontiguousarray(numbers).view(np.uint16).reshape(*numbers.shape, 4)
    summed: Bytes = table[halves].sum(axis=-1, dtype=np.uint8)
    return summed


def _alike(
    facts: _Facts, leaves: _Leaves, leaf: int, mirrored: bool
) -> Iterator[tuple[Places, Places, Flags]]:
    """The places of each pair of which the first is in this leaf, and whether it is one by the strict
    limits."""
    import numpy as np

    for mine, theirs in leaves.near(leaf, mirrored):
        own, against = leaves.places[mine], leaves.places[theirs]
        units = _units(_turned(facts.coarse, own, mirrored))
        close = units @ _units(facts.coarse[against]).T >= leaves.least
        row, column = np.divmod(np.flatnonzero(close), len(against))
        once = theirs[column] > mine[row]
        first, second = own[row[once]], against[column[once]]
        apart = _ones(facts.hashes[int(mirrored), first] ^ facts.hashes[0, second]).sum(1, dtype=np.uint8)
        kept = apart <= np.where(facts.small[first] | facts.small[second], STRICT.bits, USUAL.bits)
        first, second, apart = first[kept], second[kept], apart[kept]
        for at in range(0, len(first), _THUMBS):
            part = slice(at, at + _THUMBS)
            yield _within(facts, first[part], second[part], apart[part], mirrored)


def _within(
    facts: _Facts, first: Places, second: Places, apart: Bytes, mirrored: bool
) -> tuple[Places, Places, Flags]:
    """Those of the pairs whose thumbnails are within the limits."""
    import numpy as np

    colour = np.abs(facts.colours[first] - facts.colours[second]).max(axis=1)
    ratio = facts.contrast[first] / facts.contrast[second]
    kept = (colour <= _COLOUR) & (ratio <= _CONTRAST) & (ratio >= 1 / _CONTRAST)
    first, second, apart = first[kept], second[kept], apart[kept]
    strict = facts.small[first] | facts.small[second]
    coarse = _correlation(_turned(facts.coarse, first, mirrored), facts.coarse[second])
    kept = coarse >= np.where(strict, STRICT.coarse, USUAL.coarse)
    first, second, apart = first[kept], second[kept], apart[kept]
    coarse, strict = coarse[kept], strict[kept]
    one, other = _turned(facts.thumbs, first, mirrored), np.asarray(facts.thumbs[second])
    whole, detail = _correlation(one, other), _correlation(_detail(one), _detail(other))
    strictly = (apart <= STRICT.bits) & (coarse >= STRICT.coarse)
    strictly &= (whole >= STRICT.whole) & (detail >= STRICT.detail)
    kept = strictly | (~strict & (whole >= USUAL.whole) & (detail >= USUAL.detail))
    return first[kept], second[kept], strictly[kept]


def _turned(pictures: Bytes, places: Places, mirrored: bool) -> Bytes:
    found = pictures[places]
    return found[:, :, ::-1] if mirrored else found


def _correlation(first: Bytes | Floats, second: Bytes | Floats) -> Floats:
    """Pearson's correlation of each two pictures; 0 where one is flat."""
    import numpy as np

    fields = first.shape[1] * first.shape[2]
    one, other = (side.reshape(-1, fields).astype(np.float32) for side in (first, second))
    one -= one.mean(axis=1, keepdims=True)
    other -= other.mean(axis=1, keepdims=True)
    lengths = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    found: Floats = (one * other).sum(axis=1) / np.maximum(lengths, np.float32(1e-3))
    return found


def _detail(pictures: Bytes) -> Floats:
    """What the mean of each 3 × 3 fields takes away: the strong edges of an outline don't outweigh the rest,
    and noise is nothing."""
    import numpy as np

    levels = pictures.astype(np.float32)
    edged = np.pad(levels, ((0, 0), (1, 1), (1, 1)), mode="edge")
    side = levels.shape[1]
    shifted = itertools.product(range(3), range(3))
    found = levels - sum(edged[:, y : y + side, x : x + side] for y, x in shifted) / np.float32(9)
    return np.where(np.abs(found) > _NOISE, found.clip(-_EDGE, _EDGE), np.float32(0))


def _on_all_cores(function: Callable[[Given], Made], given: Iterable[Given]) -> Iterator[Made]:
    """What the function makes of each, in order, on threads: numpy lets go of the interpreter's lock."""
    workers = system.default_threads()
    waiting: deque[Future[Made]] = deque()
    items = iter(given)
    with ThreadPoolExecutor(workers, thread_name_prefix="alike") as pool:
        try:
            for item in itertools.islice(items, 2 * workers):
                waiting.append(pool.submit(function, item))
            while waiting:
                made = waiting.popleft().result()
                for item in itertools.islice(items, 1):
                    waiting.append(pool.submit(function, item))
                yield made
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# ------------------------------------------------------------------ groups


@dataclass(frozen=True)
class Groups:
    """The group of each picture, numbered from 0 by first appearance. `divided` is how many groups were too
    large and were made again by the strict limits."""

    numbers: tuple[int, ...]
    divided: int


def joined(count: int, found: Pairs, bonds: Iterable[tuple[int, int]] = ()) -> Groups:
    """Pictures 0 to `count` - 1 in groups: alike ones together, and those of each of the `bonds` in any
    case."""
    first, second, strictly = found.first.tolist(), found.second.tolist(), found.strictly.tolist()
    roots = _Roots(count)
    for one, other in zip(first, second, strict=True):
        roots.join(one, other)
    sizes = Counter(map(roots.of, {*first, *second}))
    large = {root for root, size in sizes.items() if size > LARGE}
    again = _Roots(count)
    for one, other, strict in zip(first, second, strictly, strict=True):
        if strict or roots.of(one) not in large:
            again.join(one, other)
    for one, other in bonds:
        again.join(one, other)
    return Groups(numbered([again.of(place) for place in range(count)]), len(large))


def numbered(keys: Sequence[Any]) -> tuple[int, ...]:
    """A number for each key, equal for equal keys, from 0 by first appearance.

    >>> numbered("banana")
    (0, 1, 2, 1, 2, 1)
    """
    numbers: dict[Any, int] = {}
    return tuple(numbers.setdefault(key, len(numbers)) for key in keys)


class _Roots:
    """Sets that are joined step by step; each is known by its lowest member."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def of(self, member: int) -> int:
        above = self._above
        while above[member] != member:
            above[member] = above[above[member]]
            member = above[member]
        return member

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.of(one), self.of(other)))
        self._above[high] = low
