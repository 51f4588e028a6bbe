"""Resampling of only those pixels that the crop shows.

Every function gives the rectangle (top, left, height, width) of the picture that `resized` (height, width) would
be, without making the rest of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels: TypeAlias = npt.NDArray[np.uint8]
    Weights: TypeAlias = npt.NDArray[np.int32]
    Places: TypeAlias = npt.NDArray[np.intp]

#: half-width of Pillow's filters, in pixels of the coarser picture
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}


def resize(
    pixels: Pixels, resized: tuple[int, int], crop: tuple[int, int, int, int], interpolation: str
) -> Pixels:
    """The crop (top, left, height, width) of the picture resized to `resized`; (H, W, 3), uint8."""
    if pixels.shape[:2] == resized:
        top, left, height, width = crop
        return pixels[top : top + height, left : left + width]
    if interpolation == "opencv-bilinear":
        return _opencv_bilinear(pixels, resized, crop)
    return _pillow(pixels, resized, crop, interpolation)


def _pillow(
    pixels: Pixels, resized: tuple[int, int], crop: tuple[int, int, int, int], interpolation: str
) -> Pixels:
    """By Pillow's own kernel. Its `box` is float32, so that one value in some thousand may be one grey level off
    what resizing everything and cropping gives."""
    import numpy as np
    from PIL import Image

    support = _SUPPORT[interpolation]
    rows, top, bottom = _window(pixels.shape[0], resized[0], crop[0], crop[2], support)
    columns, left, right = _window(pixels.shape[1], resized[1], crop[1], crop[3], support)
    part = Image.fromarray(pixels[rows, columns])
    method = Image.Resampling[interpolation.upper()]
    return np.asarray(part.resize((crop[3], crop[2]), method, box=(left, top, right, bottom)))


def _window(size: int, resized: int, start: int, length: int, support: float) -> tuple[slice, float, float]:
    """The pixels that the filter reaches, and where the crop begins and ends among them."""
    scale = size / resized
    first, last = start * scale, (start + length) * scale
    reach = support * max(scale, 1.0) + 2
    low = max(int(first - reach), 0)
    high = min(int(last + reach) + 1, size)
    return slice(low, high), first - low, min(last - low, float(high - low))


# ------------------------------------------------------------------ OpenCV's bilinear
#
# Fixed point, as cv2.resize computes it on uint8: weights of 11 bits; the horizontal sum keeps 15 bits (>> 4); each
# vertical product loses 16 more before the two are added; two remain for the rounding.


def _opencv_bilinear(pixels: Pixels, resized: tuple[int, int], crop: tuple[int, int, int, int]) -> Pixels:
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
    """(near · (2048 - w) + far · w) >> 4 with w = 16 · coarse + fine, rearranged so that int16 holds every step:
    128 · near + coarse · (far - near) + (fine · (far - near) >> 4)."""
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


def _halved(pixels: Pixels, crop: tuple[int, int, int, int]) -> Pixels:
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
    """The pixel at or before each output pixel's centre, and how far beyond it the centre lies, in float32."""
    import numpy as np

    centre = ((np.arange(start, start + length) + 0.5) * (size / resized) - 0.5).astype(np.float32)
    floor = np.floor(centre)
    return floor.astype(np.intp), centre - floor


def _fixed(weight: npt.NDArray[np.float32]) -> Weights:
    import numpy as np

    return np.rint(weight * np.float32(2048)).astype(np.int32)
