"""RandAugment's (arXiv 1909.13719) and TrivialAugment's (2103.10158, its wide space) fourteen operations.

What surrounds a sheared, moved or rotated picture is black; pixels aren't interpolated. Magnitudes go in 30
equal steps, 0 changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from vertebra.training import draws

if TYPE_CHECKING:
    from PIL.Image import Image

#: Steps of a magnitude, without 0.
STEPS = 30

#: operation -> the largest magnitude of RandAugment and of TrivialAugment: a shear's tangent, a share of the
#: side or pixels, degrees, a factor's distance from 1, bits that are dropped, levels that are inverted; None:
#: there is nothing to scale
_MOST: dict[str, tuple[float | None, float | None]] = {
    "identity": (None, None),
    "shear x": (0.3, 0.99),
    "shear y": (0.3, 0.99),
    "translate x": (150 / 331, 32),
    "translate y": (150 / 331, 32),
    "rotate": (30, 135),
    "brightness": (0.9, 0.99),
    "colour": (0.9, 0.99),
    "contrast": (0.9, 0.99),
    "sharpness": (0.9, 0.99),
    "posterise": (4, 6),
    "solarise": (255, 255),
    "auto-contrast": (None, None),
    "equalise": (None, None),
}
NAMES = tuple(_MOST)
#: Operations in either direction.
_SIGNED = frozenset(NAMES[1:10])


def randaugment(image: Image, count: int, magnitude: int, shares: Sequence[float]) -> Image:
    """`count` operations, drawn with replacement, of one magnitude (0 to 30). `shares` are three uniform
    draws for each."""
    for number in range(count):
        which, sign, _ = shares[3 * number : 3 * number + 3]
        name = NAMES[draws.whole(which, len(NAMES))]
        image = apply(image, name, strength(name, magnitude, wide=False, size=image.size, sign=sign))
    return image


def trivialaugment(image: Image, shares: Sequence[float]) -> Image:
    """One operation of a random magnitude. `shares` are three uniform draws."""
    which, sign, how_much = shares[:3]
    name = NAMES[draws.whole(which, len(NAMES))]
    magnitude = draws.whole(how_much, STEPS + 1)
    return apply(image, name, strength(name, magnitude, wide=True, size=image.size, sign=sign))


def strength(name: str, magnitude: int, *, wide: bool, size: tuple[int, int], sign: float) -> float:
    """What `apply` takes for a magnitude of 0 to 30 of a picture of `size` (width, height); negative where
    the operation has two directions and `sign` is 0.5 or more."""
    most = _MOST[name][wide]
    if most is None:
        return 0.0
    value = most * magnitude / STEPS
    if name in ("translate x", "translate y") and not wide:
        value *= size[0] if name == "translate x" else size[1]
    if name == "posterise":
        return 8 - round(value)
    if name == "solarise":
        return most - value
    return -value if name in _SIGNED and sign >= 0.5 else value


def apply(image: Image, name: str, value: float) -> Image:
    """The picture after one operation of a given strength, as `strength` gives it."""
    return _functions()[name](image, value)


@lru_cache(maxsize=1)
def _functions() -> dict[str, Callable[[Image, float], Image]]:
    from PIL import ImageEnhance, ImageOps
    from PIL.Image import Resampling, Transform

    def moved(image: Image, matrix: Sequence[float]) -> Image:
        return image.transform(image.size, Transform.AFFINE, tuple(matrix), Resampling.NEAREST)

    return {
        "identity": lambda image, _: image,
        "shear x": lambda image, value: moved(image, (1, value, 0, 0, 1, 0)),
        "shear y": lambda image, value: moved(image, (1, 0, 0, value, 1, 0)),
        "translate x": lambda image, value: moved(image, (1, 0, -int(value), 0, 1, 0)),
        "translate y": lambda image, value: moved(image, (1, 0, 0, 0, 1, -int(value))),
        "rotate": lambda image, value: image.rotate(value, Resampling.NEAREST),
        "brightness": lambda image, value: ImageEnhance.Brightness(image).enhance(1 + value),
        "colour": lambda image, value: ImageEnhance.Color(image).enhance(1 + value),
        "contrast": lambda image, value: ImageEnhance.Contrast(image).enhance(1 + value),
        "sharpness": lambda image, value: ImageEnhance.Sharpness(image).enhance(1 + value),
        "posterise": lambda image, value: ImageOps.posterize(image, int(value)),
        "solarise": lambda image, value: ImageOps.solarize(image, math.ceil(value)),
        "auto-contrast": lambda image, _: ImageOps.autocontrast(image),
        "equalise": lambda image, _: ImageOps.equalize(image),
    }
