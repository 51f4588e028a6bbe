"""What happens to a picture on its way into a training step, by draws that are given.

Two random crops are in use, and differ:

PaddleClas   the aspect is uniform in its range, then the area is uniform in its own, as far as a crop of this
             aspect fits; sides are rounded down
torchvision  the area is uniform and the aspect's logarithm is; up to ten attempts until a crop fits, then the
             largest central one of an allowed aspect; sides are rounded to the nearest. timm's is this one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from vertebra.data.preprocess import MAX_PIXELS, Source, open_image
from vertebra.data.preprocess import resize as resizing
from vertebra.data.preprocess.decode import EncodedImage
from vertebra.training import draws, operations
from vertebra.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.training.draws import Uniforms

    Pixels = npt.NDArray[np.uint8]

#: Attempts at a crop or a rectangle that fits.
_ATTEMPTS = 10
#: Where each step's draws are among those of a picture: of the crop, of the flip, of the operations, of the
#: rectangle. A step never takes another's draws, so that switching one on or off changes no other.
_CROP, _FLIP, _OPERATIONS, _ERASING = slice(0, 40), 40, slice(41, 83), slice(83, 124)
DRAWS = 124

#: Area as a share of the picture's, and height / width, of an erased rectangle (arXiv 1708.04896).
_ERASED_SCALE, _ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)


class Box(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int


def draws_of(seed: int, epoch: int, place: int) -> Uniforms:
    """All uniform draws that the picture at `place` of its set takes in an epoch."""
    return draws.uniform(draws.PICTURE, seed, epoch, place, DRAWS)


def picture(
    source: Source, recipe: Recipe, shares: Uniforms, *, max_pixels: int = MAX_PIXELS
) -> tuple[Pixels, Box | None]:
    """The pixels (S, S, 3), uint8, RGB, that training sees of a picture, and the rectangle of them that is to
    be erased. Raises ImageError."""
    pixels = cropped(source, recipe, shares[_CROP], max_pixels=max_pixels)
    if shares[_FLIP] < recipe.flip:
        pixels = pixels[:, ::-1]
    if recipe.augment != "none":
        pixels = _operated(pixels, recipe, shares[_OPERATIONS])
    return pixels, erased(recipe, pixels.shape[0], pixels.shape[1], shares[_ERASING])


def _operated(pixels: Pixels, recipe: Recipe, shares: Uniforms) -> Pixels:
    import numpy as np
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    given = shares.tolist()
    if recipe.augment == "randaugment":
        image = operations.randaugment(image, recipe.augment_operations, recipe.augment_magnitude, given)
    else:
        image = operations.trivialaugment(image, given)
    return np.asarray(image)


def erased(recipe: Recipe, height: int, width: int, shares: Sequence[float] | Uniforms) -> Box | None:
    """The rectangle that is erased, or None."""
    if shares[0] >= recipe.erasing:
        return None
    for number in range(_ATTEMPTS):
        area, aspect, row, column = shares[1 + 4 * number : 5 + 4 * number]
        target = height * width * _between(area, _ERASED_SCALE)
        ratio = math.exp(_between(aspect, (math.log(_ERASED_RATIO[0]), math.log(_ERASED_RATIO[1]))))
        tall, wide = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < tall < height and 0 < wide < width:
            top, left = draws.whole(row, height - tall + 1), draws.whole(column, width - wide + 1)
            return Box(top, left, tall, wide)
    return None


# ------------------------------------------------------------------ crops


def crop_of(recipe: Recipe, height: int, width: int, shares: Sequence[float] | Uniforms) -> Box:
    """The part of a picture of `height` × `width` that one of the two random crops takes."""
    if recipe.crop == "paddleclas":
        return _paddleclas(height, width, recipe.crop_scale, recipe.crop_ratio, shares)
    return _torchvision(height, width, recipe.crop_scale, recipe.crop_ratio, shares)


def _paddleclas(
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    shares: Sequence[float] | Uniforms,
) -> Box:
    aspect = _between(shares[0], ratio)  # width / height
    fits = min(width / height / aspect, height / width * aspect)  # area of the largest crop of this aspect
    area = height * width * _between(shares[1], (min(scale[0], fits), min(scale[1], fits)))
    wide = min(max(int(math.sqrt(area * aspect)), 1), width)
    tall = min(max(int(math.sqrt(area / aspect)), 1), height)
    left = draws.whole(shares[2], width - wide + 1)
    top = draws.whole(shares[3], height - tall + 1)
    return Box(top, left, tall, wide)


def _torchvision(
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    shares: Sequence[float] | Uniforms,
) -> Box:
    logarithms = (math.log(ratio[0]), math.log(ratio[1]))
    for number in range(_ATTEMPTS):
        area, aspect, row, column = shares[4 * number : 4 * number + 4]
        target = height * width * _between(area, scale)
        shape = math.exp(_between(aspect, logarithms))  # width / height
        wide, tall = round(math.sqrt(target * shape)), round(math.sqrt(target / shape))
        if 0 < wide <= width and 0 < tall <= height:
            top, left = draws.whole(row, height - tall + 1), draws.whole(column, width - wide + 1)
            return Box(top, left, tall, wide)
    wide, tall = width, height
    if width / height < ratio[0]:
        tall = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    return Box((height - tall) // 2, (width - wide) // 2, tall, wide)


def _between(share: float, bounds: tuple[float, float]) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * float(share)


# ------------------------------------------------------------------ pixels


def cropped(
    source: Source, recipe: Recipe, shares: Sequence[float] | Uniforms, *, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """The crop of a picture, resized to (S, S, 3), uint8, RGB. Raises ImageError."""
    import numpy as np

    image = source if isinstance(source, np.ndarray) else open_image(source, max_pixels=max_pixels)
    turned = recipe.evaluation.apply_orientation
    shape = image.shape[:2] if isinstance(image, np.ndarray) else image.shape(apply_orientation=turned)
    if recipe.crop in ("pad", "evaluation"):
        pixels = _evaluated(image, shape, recipe)
        return _shifted(pixels, recipe.padding, shares) if recipe.crop == "pad" else pixels
    box, size = crop_of(recipe, shape[0], shape[1], shares), recipe.input_size
    if isinstance(image, np.ndarray):
        return _resized(image, box, size, recipe.interpolation)
    if recipe.decode == "exact":
        return _resized(image.pixels(apply_orientation=turned), box, size, recipe.interpolation)
    # The whole picture as small as it may be for the crop still to have as many pixels as the network sees.
    least = (-(-shape[0] * size // box.height), -(-shape[1] * size // box.width))
    halved = (-(-shape[0] // 2), -(-shape[1] // 2))
    is_smaller = halved[0] >= least[0] and halved[1] >= least[1]
    pixels = image.pixels(apply_orientation=turned, at_least=least if is_smaller else None)
    return _resized(pixels, box, size, recipe.interpolation, _divisor(shape, pixels))


def _divisor(shape: tuple[int, int], pixels: Pixels) -> int:
    """By how much a picture of `shape` was decoded smaller."""
    return next(by for by in (1, 2, 4, 8) if -(-shape[0] // by) == pixels.shape[0])


def _evaluated(image: Pixels | EncodedImage, shape: tuple[int, int], recipe: Recipe) -> Pixels:
    """The picture as evaluation crops it."""
    import numpy as np

    record = recipe.evaluation
    resized = record.resized(*shape)
    if isinstance(image, np.ndarray):
        pixels, quick = image, False
    else:
        quick = recipe.decode == "scaled"
        pixels = image.pixels(apply_orientation=record.apply_orientation, at_least=resized if quick else None)
    crop = (*record.corner(*resized), *record.input_size)
    return resizing.resize(pixels, resized, crop, record.interpolation, quick=quick)


def _shifted(pixels: Pixels, padding: int, shares: Sequence[float] | Uniforms) -> Pixels:
    """The picture moved by up to `padding` pixels in each direction; black is what comes in."""
    import numpy as np

    height, width = pixels.shape[:2]
    padded = np.zeros((height + 2 * padding, width + 2 * padding, 3), np.uint8)
    padded[padding : padding + height, padding : padding + width] = pixels
    top, left = draws.whole(shares[0], 2 * padding + 1), draws.whole(shares[1], 2 * padding + 1)
    return padded[top : top + height, left : left + width]


def _resized(pixels: Pixels, box: Box, size: int, interpolation: str, divisor: int = 1) -> Pixels:
    """A part of a picture, given in pixels of the whole one, which may have been decoded smaller."""
    import numpy as np
    from PIL import Image

    top, left = box.top / divisor, box.left / divisor
    bottom = min((box.top + box.height) / divisor, pixels.shape[0])
    right = min((box.left + box.width) / divisor, pixels.shape[1])
    row, column = int(top), int(left)
    part = pixels[row : math.ceil(bottom), column : math.ceil(right)]
    if part.shape[:2] == (size, size) and divisor == 1:
        return part
    if interpolation == "opencv-bilinear":
        return resizing.resize(part, (size, size), (0, 0, size, size), interpolation)
    filters = {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    image = Image.fromarray(np.ascontiguousarray(part))
    inside = (left - column, top - row, right - column, bottom - row)
    return np.asarray(image.resize((size, size), filters[interpolation], box=inside))
