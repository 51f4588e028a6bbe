"""Network in Network with batch normalisation.

Network In Network, Lin 2013, arXiv 1312.4400, in the form that Zagoruyko trained with Torch7 for ImageNet:
a batch norm after every convolution, 1,024 channels in the last block, and a full layer at the end where
the paper averages one map a class.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, initialise, initialise_classifier
from vertebra.zoo.registry import register

BLOCKS = (
    (96, 11, 4, 5),
    (256, 5, 1, 2),
    (384, 3, 1, 1),
    (1024, 3, 1, 1),
)  # channels, kernel, stride, padding


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


def block(in_channels: int, channels: int, kernel_size: int, stride: int, padding: int) -> nn.Sequential:
    """One convolution, then two of 1x1: a small network that slides over the picture."""
    return nn.Sequential(
        *conv(in_channels, channels, kernel_size, stride, padding),
        *conv(channels, channels, 1, 1, 0),
        *conv(channels, channels, 1, 1, 0),
    )


class NIN(Backbone):
    """Four blocks with max pools between them, one full layer."""

    min_size = 1

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stages = nn.Sequential()  # 56, 28, 14, 7 pixels
        source, features = in_channels, []
        for index, row in enumerate(BLOCKS):
            stage = block(source, *row)
            if index:
                stage.insert(0, nn.MaxPool2d(3, stride=2, padding=1))
            self.stages.append(stage)
            source = row[0]
            features.append(Feature(f"stages.{index}", source, 4 << index))
        self.head = average_head(source, num_classes)
        self.feature_info = tuple(features)
        initialise(self)
        initialise_classifier(self.classifier)


@register
def bn_nin(**options: Any) -> NIN:
    return NIN(**options)
