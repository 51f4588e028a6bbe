"""An ACNet trained in three branches becomes the network that ships, and is proved to be the same one."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.zoo.acnet import ACNet, AsymmetricBlock

#: How far the fused network's logits may be from the trained one's.
LIMIT = 1e-4
TRAINED, FUSED = "_acnet", "_acnet_deploy"


@dataclass(frozen=True)
class Proof:
    """Two networks' logits for the same `pictures`: the `largest` difference, and of the pictures whose first
    class isn't the same the number, `ties`: in each, both classes' logits lay closer than twice the largest
    difference that is allowed."""

    pictures: int
    largest: float
    ties: int


def has_branches(network: nn.Module) -> bool:
    """Whether the network has asymmetric blocks that aren't fused."""
    return any(isinstance(part, AsymmetricBlock) for part in network.modules())


def fuse(network: nn.Module) -> ACNet:
    """A copy of an ACNet, pruned or not, with one convolution for each block, in evaluation mode. The sums
    are taken in float64 and rounded once. Raises InvalidInputError for any other network."""
    if not isinstance(network, ACNet) or not has_branches(network):
        raise InvalidInputError(
            f"{type(network).__name__} has no branches to fuse.", "train one of the ACNets: resnet18_acnet"
        )
    dtype = next(network.parameters()).dtype
    wide = copy.deepcopy(network).double()
    fused = wide.reparameterize().to(dtype)
    fused.feature_info = network.feature_info
    return fused


@torch.no_grad()
def prove(trained: nn.Module, fused: nn.Module, batches: Iterable[Tensor], *, limit: float = LIMIT) -> Proof:
    """The proof that both give the same answers for `batches` of pictures (N, 3, S, S), in evaluation mode.

    Raises MeasurementError where a logit differs by more than `limit`, a first class differs that wasn't a
    tie, or there is no picture.
    """
    modes = trained.training, fused.training
    trained.eval(), fused.eval()
    pictures = ties = 0
    largest = 0.0
    for images in batches:
        expected, got = trained(images), fused(images)
        gap = float((expected - got).abs().max()) if len(images) else 0.0
        largest = max(largest, gap)
        if not gap <= limit:
            raise MeasurementError(
                f"The fused network isn't the trained one: a logit of pictures {pictures} to "
                f"{pictures + len(images) - 1} differs by {gap:.2g}; {limit:g} is allowed.",
                "report this with the weights: nothing was written",
            )
        first, second = expected.argmax(1), got.argmax(1)
        other = (first != second).nonzero().flatten()
        between = (expected[other, first[other]] - expected[other, second[other]]).abs()
        if bool((between > 2 * limit).any()):
            raise MeasurementError("The fused network's first class differs where there was no tie.")
        pictures, ties = pictures + len(images), ties + len(other)
    trained.train(modes[0]), fused.train(modes[1])
    if not pictures:
        raise MeasurementError("No picture was there to prove the fused network on.", "pass a data set")
    return Proof(pictures, largest, ties)


def deployed(name: str) -> str:
    """The model that the ACNet called `name` is when fused: `resnet18_acnet_deploy` for `resnet18_acnet`."""
    return name if name.endswith(FUSED) else name.replace(TRAINED, FUSED)
