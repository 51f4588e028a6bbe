"""SqueezeNet under Caffe's names, as ports of it to Keras keep it, into torchvision's network.

Both round their pools up and neither pads the first convolution, so the two are the same network, except
for their inputs: Caffe's gets pixels of 0 to 255 in the order B, G, R less a mean. That is folded into the
first convolution, so that the network takes what torchvision's own takes: exactly, since there is no padding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vertebra.data.preprocess.record import IMAGENET_MEAN, IMAGENET_STD

#: Caffe's mean pixel of ImageNet, B, G, R, of 0 to 255.
MEAN_BGR = (104.0, 117.0, 123.0)

_FIRST, _LAST = "conv1", "conv10"


def is_squeezenet(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of Caffe's SqueezeNet: `conv1.0`, `fire2/squeeze1x1.0`, …"""
    return {f"{_FIRST}.0", f"{_LAST}.0", "fire2/squeeze1x1.0", "fire9/expand3x3.1"} <= set(state)


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same in torchvision's order and layout, its first convolution taking torchvision's pixels."""
    ends = {f"{_LAST}.0", f"{_LAST}.1"}
    names = [name for name in state if name not in ends] + sorted(ends)
    # Keras keeps kernels as (height, width, in, out).
    moved = {
        name: state[name].permute(3, 2, 0, 1) if state[name].ndim == 4 else state[name] for name in names
    }
    kernel, bias = fold(moved[f"{_FIRST}.0"], moved[f"{_FIRST}.1"])
    return {**moved, f"{_FIRST}.0": kernel, f"{_FIRST}.1": bias}


def fold(kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A first convolution on Caffe's pixels, (out, 3, h, w) and (out,), as one on (rgb - mean) / std."""
    precise = kernel.double().flip(1)  # B, G, R to R, G, B
    mean, deviation = (torch.tensor(values).double() for values in (IMAGENET_MEAN, IMAGENET_STD))
    offset = 255 * mean - torch.tensor(MEAN_BGR[::-1]).double()
    moved_bias = bias.double() + (precise * offset[:, None, None]).sum((1, 2, 3))
    return (precise * (255 * deviation)[:, None, None]).float(), moved_bias.float()
