"""GoogLeNet, the first Inception.

Going Deeper with Convolutions, Szegedy 2014, arXiv 1409.4842, table 1.

As in Caffe's reference model: biases, no batch norm, local response normalisation around the stem's second
half, 5x5 convolutions where torchvision has 3x3, and pools that round up. Departures: the two auxiliary
classifiers, which serve training only, are left out, and with He's initialisation aren't needed for it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, initialise, initialise_classifier
from vertebra.zoo.registry import register

STEM_CHANNELS = 64
FIRST_CHANNELS = 192


class Row(NamedTuple):
    """Channels of one Inception module, as the columns of table 1."""

    conv1: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    pool: int


STAGES = (
    (Row(64, 96, 128, 16, 32, 32), Row(128, 128, 192, 32, 96, 64)),  # 3a, 3b
    (
        Row(192, 96, 208, 16, 48, 64),  # 4a
        Row(160, 112, 224, 24, 64, 64),
        Row(128, 128, 256, 24, 64, 64),
        Row(112, 144, 288, 32, 64, 64),
        Row(256, 160, 320, 32, 128, 128),  # 4e
    ),
    (Row(256, 160, 320, 32, 128, 128), Row(384, 192, 384, 48, 128, 128)),  # 5a, 5b
)


def conv_relu(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True)))


def half_pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def response_norm() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)


class Inception(nn.Module):
    """1x1, 3x3 and 5x5 convolutions and a max pool side by side; 1x1 convolutions keep each cheap."""

    def __init__(self, in_channels: int, row: Row) -> None:
        super().__init__()
        self.conv1 = conv_relu(in_channels, row.conv1, 1)
        self.reduce3 = conv_relu(in_channels, row.reduce3, 1)
        self.conv3 = conv_relu(row.reduce3, row.conv3, 3)
        self.reduce5 = conv_relu(in_channels, row.reduce5, 1)
        self.conv5 = conv_relu(row.reduce5, row.conv5, 5)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.project = conv_relu(in_channels, row.pool, 1)
        self.out_channels = row.conv1 + row.conv3 + row.conv5 + row.pool

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self.conv1(x),
                self.conv3(self.reduce3(x)),
                self.conv5(self.reduce5(x)),
                self.project(self.pool(x)),
            ],
            dim=1,
        )


class GoogLeNet(Backbone):
    """Three convolutions, nine Inception modules, one full layer."""

    min_size = 31

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.4) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=conv_relu(in_channels, STEM_CHANNELS, 7, stride=2),  # (B, 64, 112, 112)
                pool=half_pool(),  # (B, 64, 56, 56)
                norm=response_norm(),
            )
        )
        first = nn.Sequential(
            OrderedDict(
                reduce=conv_relu(STEM_CHANNELS, STEM_CHANNELS, 1),
                conv=conv_relu(STEM_CHANNELS, FIRST_CHANNELS, 3),
                norm=response_norm(),
            )
        )
        self.stages = nn.Sequential(first)  # (B, 192, 56, 56)
        source, features = FIRST_CHANNELS, [Feature("stages.0", FIRST_CHANNELS, 4)]
        for index, rows in enumerate(STAGES, 1):  # 28, 14, 7 pixels
            stage = nn.Sequential(half_pool())
            for row in rows:
                module = Inception(source, row)
                stage.append(module)
                source = module.out_channels
            self.stages.append(stage)
            features.append(Feature(f"stages.{index}", source, 4 << index))
        self.head = average_head(source, num_classes, dropout=dropout)
        self.feature_info = tuple(features)
        initialise(self)
        initialise_classifier(self.classifier)


@register
def googlenet(**options: Any) -> GoogLeNet:
    return GoogLeNet(**options)
