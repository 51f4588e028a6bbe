"""AlexNet, in its single-column form, that form with batch norms, and the form of the paper.

ImageNet Classification with Deep Convolutional Neural Networks, Krizhevsky 2012 (NIPS), is the network
that won ILSVRC 2012, split over two GPUs. The form built here, undivided and without local response
normalisation, is that of One weird trick for parallelizing convolutional neural networks, Krizhevsky 2014,
arXiv 1404.5997.

Departures: an adaptive pool before the head lets any size from 63 up through, and changes nothing at the
native 224; He's initialisation, because the paper's (deviation 0.01 everywhere) was tuned together with the
normalisation layers that are absent here, and lets the signal fade through the eight layers.

`bn_alexnet` puts a batch norm after every layer but the last, as Torch7's users did. `bvlc_alexnet` is the
paper's network as Caffe's model of that name has it: two halves that meet in the third and the full layers,
and local response normalisation. Both keep the departures above.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import initialise, initialise_classifier
from vertebra.zoo.registry import register

FEATURES = (Feature("stages.0", 64, 8), Feature("stages.1", 192, 16), Feature("stages.2", 256, 32))


def conv_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int, padding: int, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups),
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
        self.head = full_layers(num_classes, dropout, norms=False)
        self.feature_info = FEATURES
        initialise(self)
        initialise_classifier(self.classifier)


class BNAlexNet(Backbone):
    """The single-column form, a batch norm after each convolution and the first two full layers."""

    min_size = 63

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stages = nn.Sequential(  # (B, 3, 224, 224)
            nn.Sequential(
                *conv_bn_relu(in_channels, 64, 11, stride=4, padding=2), nn.MaxPool2d(3, stride=2)
            ),  # (B, 64, 27, 27)
            nn.Sequential(*conv_bn_relu(64, 192, 5, padding=2), nn.MaxPool2d(3, stride=2)),
            nn.Sequential(
                *conv_bn_relu(192, 384, 3, padding=1),
                *conv_bn_relu(384, 256, 3, padding=1),
                *conv_bn_relu(256, 256, 3, padding=1),
                nn.MaxPool2d(3, stride=2),  # (B, 256, 6, 6)
            ),
        )
        self.head = full_layers(num_classes, dropout, norms=True)
        self.feature_info = FEATURES
        initialise(self)
        initialise_classifier(self.classifier)


class BVLCAlexNet(Backbone):
    """The paper's form: grouped convolutions, and local response normalisation before the first two pools."""

    min_size = 67

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stages = nn.Sequential(  # (B, 3, 227, 227)
            nn.Sequential(
                *conv_relu(in_channels, 96, 11, stride=4, padding=0),  # (B, 96, 55, 55)
                nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75),
                nn.MaxPool2d(3, stride=2),
            ),
            nn.Sequential(
                *conv_relu(96, 256, 5, stride=1, padding=2, groups=2),
                nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75),
                nn.MaxPool2d(3, stride=2),
            ),
            nn.Sequential(
                *conv_relu(256, 384, 3, stride=1, padding=1),
                *conv_relu(384, 384, 3, stride=1, padding=1, groups=2),
                *conv_relu(384, 256, 3, stride=1, padding=1, groups=2),
                nn.MaxPool2d(3, stride=2),  # (B, 256, 6, 6)
            ),
        )
        self.head = full_layers(num_classes, dropout, norms=False)
        self.feature_info = tuple(
            Feature(name, channels, reduction)
            for (name, _, reduction), channels in zip(FEATURES, (96, 256, 256), strict=True)
        )
        initialise(self)
        initialise_classifier(self.classifier)


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int
) -> list[nn.Module]:
    conv, relu = conv_relu(in_channels, out_channels, kernel_size, stride=stride, padding=padding)
    return [conv, nn.BatchNorm2d(out_channels, eps=1e-3), relu]


def full_layers(num_classes: int, dropout: float, *, norms: bool) -> nn.Sequential:
    """The head, as `AlexNet` has it, optionally with batch norms."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AdaptiveAvgPool2d(6), flatten=nn.Flatten())
    for number, width in ((6, 256 * 6 * 6), (7, 4096)):
        layers[f"dropout{number}"] = nn.Dropout(dropout)
        layers[f"fc{number}"] = nn.Linear(width, 4096)
        if norms:
            layers[f"bn{number}"] = nn.BatchNorm1d(4096, eps=1e-3)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
    layers["classifier"] = nn.Linear(4096, num_classes)
    return nn.Sequential(layers)


@register
def alexnet(**options: Any) -> AlexNet:
    return AlexNet(**options)


@register
def bn_alexnet(**options: Any) -> BNAlexNet:
    return BNAlexNet(**options)


@register
def bvlc_alexnet(**options: Any) -> BVLCAlexNet:
    return BVLCAlexNet(**options)
