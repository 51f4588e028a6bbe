"""AlexNet, in its single-column form.

ImageNet Classification with Deep Convolutional Neural Networks, Krizhevsky 2012 (NIPS), is the network
that won ILSVRC 2012, split over two GPUs. The form built here, undivided and without local response
normalisation, is that of One weird trick for parallelizing convolutional neural networks, Krizhevsky 2014,
arXiv 1404.5997.

Departures: an adaptive pool before the head lets any size from 63 up through, and changes nothing at the
native 224; He's initialisation, because the paper's (deviation 0.01 everywhere) was tuned together with the
normalisation layers that are absent here, and lets the signal fade through the eight layers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import initialise, initialise_classifier
from vertebra.zoo.registry import register


def conv_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int, padding: int
) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding),
        nn.ReLU(inplace=True),
    ]


class AlexNet(Backbone):
    """Five convolutions in three stages, each closed by an overlapping max pool, then three full layers."""

    min_size = 63

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stages = nn.Sequential(  # (B, 3, 224, 224)
            nn.Sequential(
                *conv_relu(in_channels, 64, 11, stride=4, padding=2),  # (B, 64, 55, 55)
                nn.MaxPool2d(3, stride=2),  # (B, 64, 27, 27)
            ),
            nn.Sequential(
                *conv_relu(64, 192, 5, stride=1, padding=2),
                nn.MaxPool2d(3, stride=2),  # (B, 192, 13, 13)
            ),
            nn.Sequential(
                *conv_relu(192, 384, 3, stride=1, padding=1),
                *conv_relu(384, 256, 3, stride=1, padding=1),
                *conv_relu(256, 256, 3, stride=1, padding=1),
                nn.MaxPool2d(3, stride=2),  # (B, 256, 6, 6)
            ),
        )
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(6),
                flatten=nn.Flatten(),  # (B, 9216)
                dropout6=nn.Dropout(dropout),
                fc6=nn.Linear(256 * 6 * 6, 4096),
                relu6=nn.ReLU(inplace=True),
                dropout7=nn.Dropout(dropout),
                fc7=nn.Linear(4096, 4096),
                relu7=nn.ReLU(inplace=True),
                classifier=nn.Linear(4096, num_classes),
            )
        )
        self.feature_info = (
            Feature("stages.0", 64, 8),
            Feature("stages.1", 192, 16),
            Feature("stages.2", 256, 32),
        )
        initialise(self)
        initialise_classifier(self.classifier)


@register
def alexnet(**options: Any) -> AlexNet:
    return AlexNet(**options)
