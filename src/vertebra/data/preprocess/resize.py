"""Resampling of only those pixels that the crop shows.

Every function returns the rectangle (top, left, height, width) of the picture that `resized` (height, width)
would be, without making the rest of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels: TypeAlias = npt.NDArray[np.uint8]
    Levels: TypeAlias = npt.NDArray[np.float32]
    Floats: TypeAlias = npt.NDArray[np.float64]
    Weights: TypeAlias = npt.NDArray[np.int32]
    Places: TypeAlias = npt.NDArray[np.intp]
    #: (top, left, height, width) in the resized picture
    Crop: TypeAlias = tuple[int, int, int, int]
    #: first and last output, first and last pixel that they are computed from, weights (pixels, outputs)
    Block: TypeAlias = tuple[int, int, int, int, Levels]


def resize(
    pixels: Pixels, resized: tuple[int, int], crop: Crop, interpolation: str, *, quick: bool = False
) -> Pixels:
    """The crop (top, left, height, width) of the picture resized to `resized`; (H, W, 3), uint8.

    Exactly what Pillow, or OpenCV for "opencv-bilinear", makes of the whole picture; with `quick` a value
    may be off by one grey level, rarely two.
    """
    import numpy as np

    levels = resample(pixels, resized, crop, interpolation, quick=quick)
    return np.rint(levels).astype(np.uint8).transpose(1, 2, 0)


def resample(
    pixels: Pixels, resized: tuple[int, int], crop: Crop, interpolation: str, *, quick: bool = False
) -> Levels:
    """What `resize` returns, as grey levels (3, H, W), float32, contiguous; with `quick` not rounded."""
    import numpy as np

    if pixels.shape[:2] == resized:
        top, left, height, width = crop
        pixels = pixels[top : top + height, left : left + width]
    elif quick:
        return _approximate(pixels, resized, crop, interpolation)
    elif interpolation == "opencv-bilinear":
        pixels = _opencv_bilinear(pixels, resized, crop)
    else:
        return _antialiased(pixels, resized, crop, interpolation)
    return pixels.transpose(2, 0, 1).astype(np.float32, order="C")


# ------------------------------------------------------------------ Pillow's filters
#
# Pillow sums uint8 by weights of 22 bits, rounds to uint8 after the horizontal pass and again after the
# vertical one. Matrix products in float32 are off by less than a known tolerance; where a sum lies that close
# to a rounding boundary, it is done again in float64, which holds it exactly, in any order of addition.
# Pillow's own `box` would also leave out what the crop doesn't show, but holds the crop's edges as float32:
# about one value in a thousand is off by a level, rarely by two.

#: half-width of Pillow's filters, in pixels of the coarser picture
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}

_BITS = 22

#: Outputs per block: more would multiply more zeros, fewer would make products too small to be worth a call.
_OUTPUTS = 8

#: Products of one call: what stays in the cache. OpenBLAS spreads those above 2^18 over threads, where the
#: calls of several workers would wait for each other.
_PRODUCTS = 2**17

#: Sums that are done again at once: in a drawing every sum may lie on a rounding boundary.
_REPAIRS = 2**14


class _Axis(NamedTuple):
    """How pixels `first` to `last` of a row or column become the outputs: small dense matrices for some at a
    time; and for one at a time its first pixel and its weights (outputs, taps), float64. A sum in float32 is
    less than `tolerance` off."""

    first: int
    last: int
    blocks: tuple[Block, ...]
    low: Places
    weights: Floats
    tolerance: float


def _antialiased(pixels: Pixels, resized: tuple[int, int], crop: Crop, interpolation: str) -> Levels:
    import numpy as np

    top, left, height, width = crop
    rows = _axis(pixels.shape[0], resized[0], top, height, interpolation)
    columns = _axis(pixels.shape[1], resized[1], left, width, interpolation)
    across = _horizontal_pass(pixels[rows.first : rows.last, columns.first : columns.last], columns, width)
    down = _vertical_pass(across, rows, height)

    def exact(places: Places) -> Floats:
        row, column = np.divmod(places, 3 * width)
        return _exact_sums(across, rows, row, column[:, None], of_rows=True)

    _settle(down, rows.tolerance, exact)
    return np.ascontiguousarray(down.reshape(height, 3, width).transpose(1, 0, 2))


def _horizontal_pass(pixels: Pixels, columns: _Axis, width: int) -> Levels:
    """(H, 3 · width), one channel after the other in each row."""
    import numpy as np

    across = np.empty((len(pixels), 3 * width), np.float32)
    for chunk in _chunks(len(pixels), 3 * max(len(block[4]) for block in columns.blocks)):
        planar = pixels[chunk].transpose(0, 2, 1).astype(np.float32, order="C")
        planar = planar.reshape(-1, planar.shape[2])
        part = across[chunk].reshape(-1, width)
        for begin, end, low, high, weights in columns.blocks:
            np.matmul(planar[:, low:high], weights, out=part[:, begin:end])

        def exact(places: Places, planar: Levels = planar) -> Floats:
            row, column = np.divmod(places, width)
            return _exact_sums(planar, columns, column, row[:, None], of_rows=False)

        _settle(part, columns.tolerance, exact)
    return across


def _vertical_pass(values: Levels, rows: _Axis, height: int) -> Levels:
    import numpy as np

    length = values.shape[1]
    down = np.empty((height, length), np.float32)
    for begin, end, low, high, weights in rows.blocks:
        for chunk in _chunks(length, len(weights)):
            np.matmul(weights.T, values[low:high, chunk], out=down[begin:end, chunk])
    return down


def _chunks(length: int, products: int) -> list[slice]:
    step = max(_PRODUCTS // (_OUTPUTS * products), 1)
    return [slice(begin, begin + step) for begin in range(0, length, step)]


def _settle(sums: Levels, tolerance: float, exact: Callable[[Places], Floats]) -> None:
    """Round to uint8's values, in place, halves up; what is too close to a half by what `exact` gives for its
    flat place."""
    import numpy as np

    sums += np.float32(0.5)
    rounded = np.floor(sums)
    sums -= rounded
    sums -= np.float32(0.5)
    np.abs(sums, out=sums)
    doubtful = np.flatnonzero(sums > np.float32(0.5 - tolerance))
    for begin in range(0, len(doubtful), _REPAIRS):
        places = doubtful[begin : begin + _REPAIRS]
        rounded.ravel()[places] = np.floor(exact(places) + 0.5)
    np.clip(rounded, 0, 255, out=sums)


def _exact_sums(values: Levels, axis: _Axis, outputs: Places, others: Places, *, of_rows: bool) -> Floats:
    """The sums of `outputs` along an axis of `values`, at the places `others` of the other axis."""
    import numpy as np

    place = axis.low[outputs, None] - axis.first + np.arange(axis.weights.shape[1])
    np.minimum(place, axis.last - axis.first - 1, out=place)  # beyond that the weights are zero
    taken = values[place, others] if of_rows else values[others, place]
    sums: Floats = np.einsum("ij,ij->i", taken.astype(np.float64), axis.weights[outputs])
    return sums


@lru_cache(maxsize=64)
def _axis(size: int, resized: int, start: int, length: int, interpolation: str) -> _Axis:
    """The weights of outputs `start` to `start + length`."""
    import numpy as np

    taps = _two_taps if interpolation == "opencv-bilinear" else _pillow_taps
    low, high, weights = taps(size, resized, start, length, interpolation)
    first, last = int(low[0]), int(high[-1])
    blocks = []
    for begin, end in pairwise([*range(0, length, _OUTPUTS), length]):
        place = low[begin:end, None] + np.arange(weights.shape[1]) - low[begin]
        output = np.broadcast_to(np.arange(end - begin)[:, None], place.shape)
        inside = place < (high[begin:end, None] - low[begin])
        matrix = np.zeros((int(high[end - 1] - low[begin]), end - begin), np.float32)
        matrix[place[inside], output[inside]] = weights[begin:end][inside]
        blocks.append((begin, end, int(low[begin]) - first, int(high[end - 1]) - first, matrix))
    # Each of n products and additions is off by 2^-24 of what was added so far; then comes the half.
    largest = 255 * np.abs(weights).sum(axis=1).max()
    tolerance = float(largest * (weights.shape[1] + 2) * 2.0**-24 + 2.0**-16)
    return _Axis(first, last, tuple(blocks), low, weights, tolerance)


def _pillow_taps(
    size: int, resized: int, start: int, length: int, interpolation: str
) -> tuple[Places, Places, Floats]:
    """First pixel of each output, the one after its last, and the weights (outputs, taps) in 22 bits."""
    import numpy as np

    scale = size / resized
    stretch = max(scale, 1.0)
    support = _SUPPORT[interpolation] * stretch
    centre = (np.arange(start, start + length) + 0.5) * scale
    low = np.maximum(centre - support + 0.5, 0).astype(np.intp)
    high = np.minimum(centre + support + 0.5, size).astype(np.intp)
    place = low[:, None] + np.arange(int((high - low).max()))
    weights = _filter((place - centre[:, None] + 0.5) / stretch, interpolation)
    weights[place >= high[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    unit = 2.0**_BITS
    return low, high, np.trunc(weights * unit + np.copysign(0.5, weights)) / unit


def _filter(x: Floats, interpolation: str) -> Floats:
    import numpy as np

    x = np.abs(x)
    if interpolation == "bilinear":
        return np.maximum(1 - x, 0)
    if interpolation == "lanczos":
        return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)
    inner = (1.5 * x - 2.5) * x * x + 1  # Keys' cubic with a = -1/2
    outer = -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


def _approximate(pixels: Pixels, resized: tuple[int, int], crop: Crop, interpolation: str) -> Levels:
    """The same weights in float32, the vertical pass first and nothing rounded: about twice as fast."""
    import numpy as np

    top, left, height, width = crop
    rows = _axis(pixels.shape[0], resized[0], top, height, interpolation)
    columns = _axis(pixels.shape[1], resized[1], left, width, interpolation)
    part = pixels[rows.first : rows.last, columns.first : columns.last]
    down = _vertical_pass(part.astype(np.float32, order="C").reshape(len(part), -1), rows, height)
    planar = np.ascontiguousarray(down.reshape(height, -1, 3).transpose(2, 0, 1)).reshape(3 * height, -1)
    across = np.empty((3 * height, width), np.float32)
    for begin, end, low, high, weights in columns.blocks:
        for chunk in _chunks(3 * height, len(weights)):
            np.matmul(planar[chunk, low:high], weights, out=across[chunk, begin:end])
    np.clip(across, 0, 255, out=across)
    return across.reshape(3, height, width)


# ------------------------------------------------------------------ OpenCV's bilinear
#
# Fixed point, as cv2.resize computes it on uint8: weights of 11 bits; the horizontal sum keeps 15 (>> 4);
# each vertical product loses 16 more before the two are added; two remain for the rounding.


def _opencv_bilinear(pixels: Pixels, resized: tuple[int, int], crop: Crop) -> Pixels:
    import numpy as np

    top, left, height, width = crop
    if (2 * resized[0], 2 * resized[1]) == pixels.shape[:2]:
        return _halved(pixels, crop)
    upper, lower, rows = _rows(pixels.shape[0], resized[0], top, height)
    near, far, coarse, fine = _columns(pixels.shape[1], resized[1], left, width)
    low, high = int(near[0]), int(far[-1]) + 1
    strip = pixels[:, low // 3 : high // 3]
    above = _horizontal(strip[upper], near - low, far - low, coarse, fine).astype(np.int32)
    below = _horizontal(strip[lower], near - low, far - low, coarse, fine).astype(np.int32)
    above *= rows[0][:, None]
    above >>= 16
    below *= rows[1][:, None]
    below >>= 16
    above += below
    above += 2
    above >>= 2
    return above.astype(np.uint8).reshape(height, width, 3)


def _horizontal(
    rows: Pixels, near: Places, far: Places, coarse: npt.NDArray[np.int16], fine: npt.NDArray[np.int16]
) -> npt.NDArray[np.int16]:
    """(near · (2048 - w) + far · w) >> 4 with w = 16 · coarse + fine, rearranged so that int16 holds every
    step: 128 · near + coarse · (far - near) + (fine · (far - near) >> 4)."""
    import numpy as np

    flat = rows.reshape(len(rows), -1)
    result = flat[:, near].astype(np.int16)
    difference = flat[:, far].astype(np.int16)
    difference -= result
    result <<= 7
    result += coarse * difference
    difference *= fine
    difference >>= 4
    result += difference
    return result


def _halved(pixels: Pixels, crop: Crop) -> Pixels:
    """At exactly one half OpenCV takes the mean of four."""
    import numpy as np

    top, left, height, width = crop
    part = pixels[2 * top : 2 * (top + height), 2 * left : 2 * (left + width)].astype(np.uint16)
    total = part[0::2, 0::2] + part[1::2, 0::2] + part[0::2, 1::2] + part[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


@lru_cache(maxsize=64)
def _rows(size: int, resized: int, start: int, length: int) -> tuple[Places, Places, tuple[Weights, Weights]]:
    """Upper and lower row of each output row, and their weights: at the edges the row is clamped, not its
    weight."""
    import numpy as np

    place, weight = _places(size, resized, start, length)
    upper, lower = place.clip(0, size - 1), (place + 1).clip(0, size - 1)
    return upper, lower, (_fixed(np.float32(1) - weight), _fixed(weight))


@lru_cache(maxsize=64)
def _columns(
    size: int, resized: int, start: int, length: int
) -> tuple[Places, Places, npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Flat places (3 a pixel) of the near and the far column, and the far one's weight in two parts."""
    import numpy as np

    place, weight = _places(size, resized, start, length)
    outside = (place < 0) | (place >= size - 1)
    weight = np.where(outside, np.float32(0), weight)
    near = place.clip(0, size - 1)
    far = (near + 1).clip(0, size - 1)
    channels = np.arange(3)
    fixed = np.repeat(_fixed(weight), 3).astype(np.int16)
    return (
        (3 * near[:, None] + channels).ravel(),
        (3 * far[:, None] + channels).ravel(),
        fixed >> 4,
        fixed & 15,
    )


def _places(size: int, resized: int, start: int, length: int) -> tuple[Places, npt.NDArray[np.float32]]:
    """The pixel at or before each output pixel's centre, and how far beyond it the centre lies."""
    import numpy as np

    centre = ((np.arange(start, start + length) + 0.5) * (size / resized) - 0.5).astype(np.float32)
    floor = np.floor(centre)
    return floor.astype(np.intp), centre - floor


def _two_taps(
    size: int, resized: int, start: int, length: int, interpolation: str
) -> tuple[Places, Places, Floats]:
    """As `_pillow_taps`, for two pixels an output and weights that aren't rounded."""
    import numpy as np

    place, weight = _places(size, resized, start, length)
    low, high = place.clip(0, size - 1), (place + 2).clip(1, size)
    far = np.where(high - low == 2, weight, 0).astype(np.float64)
    return low, high, np.stack([1 - far, far], axis=1)


def _fixed(weight: npt.NDArray[np.float32]) -> Weights:
    import numpy as np

    fixed: Weights = np.rint(weight * np.float32(2048)).astype(np.int32)
    return fixed
