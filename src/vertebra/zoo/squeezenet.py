"""SqueezeNet 1.0 and 1.1.

SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, Iandola 2016,
arXiv 1602.07360, table 1 and the plain (bypass-free) column of figure 2; version 1.1 as its authors
released it afterwards.

Both follow the trained networks of PaddleClas where implementations differ: every pool rounds down, and the
first convolution of 1.1 pads by 1, that of 1.0 by none. Departure: He's initialisation, because the variance
of 1 / fan_in that the authors used halves the signal at each of the 18 ReLU layers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from vertebra.zoo import shapes
from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import initialise, initialise_classifier
from vertebra.zoo.registry import register


class Fire(nn.Module):
    """Squeeze the channels by a 1x1 convolution, then expand them by a 1x1 and a 3x3 side by side."""

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], dim=1)


class SqueezeNet(Backbone):
    """A convolution, eight fire modules in three stages, and a convolution as classifier."""

    def __init__(
        self, variant: shapes.Squeeze, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.min_size = variant.min_size
        self.stem = nn.Sequential(  # (B, 3, 224, 224); sizes of 1.0, then of 1.1
            nn.Conv2d(
                in_channels,
                variant.stem_channels,
                variant.stem_kernel,
                stride=2,
                padding=variant.stem_padding,
            ),  # (B, 96, 109, 109) or (B, 64, 112, 112)
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential()
        channels, features = variant.stem_channels, []
        for index, fires in enumerate(variant.stages):  # 54, 26, 12 or 55, 27, 13 pixels
            stage = nn.Sequential(nn.MaxPool2d(3, stride=2))
            for squeeze, expand in fires:
                stage.append(Fire(channels, squeeze, expand))
                channels = 2 * expand
            self.stages.append(stage)
            features.append(Feature(f"stages.{index}", channels, 4 << index))
        self.head = nn.Sequential(
            OrderedDict(
                dropout=nn.Dropout(dropout),
                classifier=nn.Conv2d(channels, num_classes, 1),
                relu=nn.ReLU(inplace=True),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
            )
        )
        self.feature_info = tuple(features)
        initialise(self)
        initialise_classifier(self.classifier)


@register
def squeezenet1_0(**options: Any) -> SqueezeNet:
    return SqueezeNet(shapes.SQUEEZENET["1_0"], **options)


@register
def squeezenet1_1(**options: Any) -> SqueezeNet:
    return SqueezeNet(shapes.SQUEEZENET["1_1"], **options)
