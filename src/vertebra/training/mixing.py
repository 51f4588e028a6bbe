"""Mixup, CutMix and label smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from vertebra.training.recipe import Recipe


def mix(
    images: Tensor, labels: Tensor, recipe: Recipe, *, seed: int, epoch: int, step: int, classes: int
) -> tuple[Tensor, Tensor]:
    """The images of a step, mixed, and their targets (N, classes), float32, smoothed; always soft.

    All is drawn from (seed, epoch, step). Each picture's partner is its neighbour (0 and 1, 2 and 3, …), so
    that processes and accumulated parts with even counts mix as one would; the last of an odd count stays.
    """
    raise NotImplementedError
