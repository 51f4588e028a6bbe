"""VGG with 11, 13, 16 and 19 layers.

Very Deep Convolutional Networks for Large-Scale Image Recognition, Simonyan 2014, arXiv 1409.1556, table 1,
columns A, B, D and E.

As in PaddleClas, the convolutions have no bias. Departures: an adaptive pool before the head lets any size
from 32 up through, and changes nothing at the native 224; He's initialisation, because the paper could not
train its deeper columns from random weights and started them from column A.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from vertebra.zoo import shapes
from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import initialise, initialise_classifier
from vertebra.zoo.registry import register

WIDTHS = (64, 128, 256, 512, 512)


def stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    """`depth` 3x3 convolutions, each with ReLU, then a max pool that halves the size."""
    layers = nn.Sequential()
    for index in range(depth):
        source = in_channels if index == 0 else out_channels
        layers.append(nn.Conv2d(source, out_channels, 3, padding=1, bias=False))
        layers.append(nn.ReLU(inplace=True))
    return layers.append(nn.MaxPool2d(2, stride=2))


class VGG(Backbone):
    """Five stages of 3x3 convolutions, then three full layers."""

    min_size = 32

    def __init__(
        self,
        depths: tuple[int, ...],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        sources = (in_channels, *WIDTHS)
        self.stages = nn.Sequential(*map(stage, sources, WIDTHS, depths))  # (B, 512, 7, 7)
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(7),
                flatten=nn.Flatten(),  # (B, 25088)
                fc1=nn.Linear(512 * 7 * 7, 4096),
                relu1=nn.ReLU(inplace=True),
                dropout1=nn.Dropout(dropout),
                fc2=nn.Linear(4096, 4096),
                relu2=nn.ReLU(inplace=True),
                dropout2=nn.Dropout(dropout),
                classifier=nn.Linear(4096, num_classes),
            )
        )
        self.feature_info = tuple(
            Feature(f"stages.{index}", width, 2 << index) for index, width in enumerate(WIDTHS)
        )
        initialise(self)
        initialise_classifier(self.classifier)


@register
def vgg11(**options: Any) -> VGG:
    return VGG(shapes.VGG[11], **options)


@register
def vgg13(**options: Any) -> VGG:
    return VGG(shapes.VGG[13], **options)


@register
def vgg16(**options: Any) -> VGG:
    return VGG(shapes.VGG[16], **options)


@register
def vgg19(**options: Any) -> VGG:
    return VGG(shapes.VGG[19], **options)
