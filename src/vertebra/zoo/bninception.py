"""BN-Inception, the network that batch normalisation was introduced with.

Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift, Ioffe 2015,
arXiv 1502.03167, figure 5, in the widths of the network that was released for Caffe, which PyTorch's ports
follow: the paper's table differs by a few channels.

Convolutions have biases although batch norms follow, and the pools that halve the size round up.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, conv_bn, initialise, initialise_classifier
from vertebra.zoo.registry import register

STEM_CHANNELS = 64
FIRST_CHANNELS = 192


class Row(NamedTuple):
    """Channels of one module. Without `conv1` it halves the size, and its pool isn't projected."""

    conv1: int
    reduce3: int
    conv3: int
    reduce_double: int
    double: int
    pool: int
    averages: bool = True


STAGES = (
    (Row(64, 64, 64, 64, 96, 32), Row(64, 64, 96, 64, 96, 64)),  # 3a, 3b
    (
        Row(0, 128, 160, 64, 96, 0),  # 3c
        Row(224, 64, 96, 96, 128, 128),  # 4a
        Row(192, 96, 128, 96, 128, 128),
        Row(160, 128, 160, 128, 160, 128),
        Row(96, 128, 192, 160, 192, 128),  # 4d
    ),
    (
        Row(0, 128, 192, 192, 256, 0),  # 4e
        Row(352, 192, 320, 160, 224, 128),  # 5a
        Row(352, 192, 320, 192, 224, 128, averages=False),  # 5b
    ),
)


class HalfPool(nn.Module):
    """A maximum over 3x3 with the output size of a strided convolution: half, rounded up."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        # The input is never negative, so zeros beyond the edge change no maximum.
        even = functional.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x
        return functional.max_pool2d(even, 3, stride=2, ceil_mode=True)


class Inception(nn.Module):
    """Convolutions of 1x1, 3x3 and twice 3x3 side by side with a pool."""

    def __init__(self, in_channels: int, row: Row) -> None:
        super().__init__()
        stride = 1 if row.conv1 else 2
        self.strides = stride == 2
        if row.conv1:
            self.conv1 = conv_bn(in_channels, row.conv1, 1, bias=True)
        self.reduce3 = conv_bn(in_channels, row.reduce3, 1, bias=True)
        self.conv3 = conv_bn(row.reduce3, row.conv3, 3, stride=stride, bias=True)
        self.reduce_double = conv_bn(in_channels, row.reduce_double, 1, bias=True)
        self.double1 = conv_bn(row.reduce_double, row.double, 3, bias=True)
        self.double2 = conv_bn(row.double, row.double, 3, stride=stride, bias=True)
        self.pool = _pool(row)
        if row.pool:
            self.project = conv_bn(in_channels, row.pool, 1, bias=True)
        self.out_channels = row.conv1 + row.conv3 + row.double + (row.pool or in_channels)

    def forward(self, x: Tensor) -> Tensor:
        middle = [self.conv3(self.reduce3(x)), self.double2(self.double1(self.reduce_double(x)))]
        if self.strides:
            return torch.cat([*middle, self.pool(x)], dim=1)
        return torch.cat([self.conv1(x), *middle, self.project(self.pool(x))], dim=1)


def _pool(row: Row) -> nn.Module:
    if not row.conv1:
        return HalfPool()
    kind = nn.AvgPool2d if row.averages else nn.MaxPool2d
    return kind(3, stride=1, padding=1)


class BNInception(Backbone):
    """Three convolutions, ten Inception modules, one full layer."""

    min_size = 7

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=conv_bn(in_channels, STEM_CHANNELS, 7, stride=2, bias=True),  # (B, 64, 112, 112)
                pool=nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (B, 64, 56, 56)
                reduce=conv_bn(STEM_CHANNELS, STEM_CHANNELS, 1, bias=True),
                conv2=conv_bn(STEM_CHANNELS, FIRST_CHANNELS, 3, bias=True),
                pool2=nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (B, 192, 28, 28)
            )
        )
        self.stages = nn.Sequential()  # 28, 14, 7 pixels
        source, features = FIRST_CHANNELS, []
        for index, rows in enumerate(STAGES):
            stage = nn.Sequential()
            for row in rows:
                module = Inception(source, row)
                stage.append(module)
                source = module.out_channels
            self.stages.append(stage)
            features.append(Feature(f"stages.{index}", source, 8 << index))
        self.head = average_head(source, num_classes)
        self.feature_info = tuple(features)
        initialise(self)
        initialise_classifier(self.classifier)


@register
def bninception(**options: Any) -> BNInception:
    return BNInception(**options)
