"""Mixup (arXiv 1710.09412), CutMix (1905.04899) and label smoothing (1512.00567)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError
from vertebra.training import draws

if TYPE_CHECKING:
    from torch import Tensor

    from vertebra.training.recipe import Recipe

#: top, left, bottom, right
Rectangle = tuple[int, int, int, int]


def mix(
    images: Tensor, labels: Tensor, recipe: Recipe, *, seed: int, epoch: int, step: int, classes: int
) -> tuple[Tensor, Tensor]:
    """The images (N, C, H, W) of a step, mixed, and their targets (N, classes), float32, smoothed and mixed.

    All is drawn from (seed, epoch, step), once for the step. A picture's partner is its neighbour (0 and 1, 2
    and 3, …), so that processes, and parts that are accumulated, mix as the whole step would if their counts
    are even; the last of an odd count stays as it is. Pictures come in random order, so this is the papers'
    random partner.
    """
    import torch

    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InvalidInputError(f"A label is {int(labels.max())}; there are {classes} classes.")
    targets = smoothed(labels, recipe.label_smoothing, classes)
    share, rectangle = drawn(recipe, seed, epoch, step, (images.shape[-2], images.shape[-1]))
    if share == 1:
        return images, targets
    partners = torch.arange(len(images), device=images.device) ^ 1
    partners[partners >= len(images)] -= 1
    if rectangle is None:
        images = images * share + images[partners] * (1 - share)
    else:
        top, left, bottom, right = rectangle
        part = (..., slice(top, bottom), slice(left, right))
        images, others = images.clone(), images[partners][part]
        images[part] = others
    return images, targets * share + targets[partners] * (1 - share)


def smoothed(labels: Tensor, smoothing: float, classes: int) -> Tensor:
    """Targets (N, classes), float32: `smoothing` is shared equally by all classes, the label's included."""
    import torch

    targets = torch.full(
        (len(labels), classes), smoothing / classes, dtype=torch.float32, device=labels.device
    )
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)


def drawn(
    recipe: Recipe, seed: int, epoch: int, step: int, size: tuple[int, int]
) -> tuple[float, Rectangle | None]:
    """A step's share of the picture itself, 1 where it isn't mixed, and CutMix's rectangle of the partner."""
    if not recipe.mixup and not recipe.cutmix:
        return 1.0, None
    generator = draws.generator(draws.MIX, seed, epoch, step)
    whether, which, row, column = generator.random(4)
    if whether >= recipe.mix_probability:
        return 1.0, None
    cut = recipe.cutmix and (not recipe.mixup or which < 0.5)
    alpha = recipe.cutmix if cut else recipe.mixup
    share = float(generator.beta(alpha, alpha))
    if not cut:
        return share, None
    rectangle = _rectangle(share, row, column, size)
    top, left, bottom, right = rectangle
    # What a border cuts off isn't pasted: the share is that of the pixels.
    return 1 - (bottom - top) * (right - left) / (size[0] * size[1]), rectangle


def _rectangle(share: float, row: float, column: float, size: tuple[int, int]) -> Rectangle:
    """A rectangle with the picture's aspect and 1 - share of its area, about a random centre."""
    side = math.sqrt(1 - share)
    height, width = int(size[0] * side), int(size[1] * side)
    middle, centre = draws.whole(row, size[0]), draws.whole(column, size[1])
    top, left = middle - height // 2, centre - width // 2
    return max(top, 0), max(left, 0), min(top + height, size[0]), min(left + width, size[1])
