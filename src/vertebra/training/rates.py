"""The rate of each step, and which parameters it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from vertebra.training.recipe import Recipe


def rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of a step, counted from 0 over all epochs; a group's own is this times its "lr_scale"."""
    raise NotImplementedError


def groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The network's parameters as an optimizer's groups, each with "params", "weight_decay", "lr_scale" and
    "name"."""
    raise NotImplementedError


def optimizer(network: nn.Module, recipe: Recipe) -> Optimizer:
    """The recipe's optimizer over `groups`."""
    raise NotImplementedError


def freeze(network: nn.Module, recipe: Recipe, epoch: int) -> bool:
    """Whether `epoch` trains the head only; sets requires_grad of all parameters accordingly."""
    raise NotImplementedError
