"""Batch norms folded into the convolutions before them: fewer nodes to trace, the same answers."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """`network`, changed in place: each convolution takes in the batch norm that follows it in a Sequential.

    In evaluation mode a batch norm is a scale and a shift per channel, which a convolution's weights and
    bias can hold. Outside a Sequential it isn't known what follows a convolution, so nothing changes there.
    """
    assert not network.training
    for parent in network.modules():
        if isinstance(parent, nn.Sequential):
            _fold(parent)
    return network


def _fold(sequence: nn.Sequential) -> None:
    names = list(sequence._modules)
    for name, next_name in pairwise(names):
        layer, following = sequence._modules[name], sequence._modules[next_name]
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            sequence._modules[name] = fuse_conv_bn_eval(layer, following)
            sequence._modules[next_name] = nn.Identity()
