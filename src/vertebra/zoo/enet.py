"""ENet's encoder, with a classifier.

ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation, Paszke 2016, arXiv 1606.02147,
table 1, up to the end of stage 3.

Departure: the paper's encoder feeds a decoder that labels every pixel; here an average over the picture and
one full layer follow it. The classifier that Canziani compared was never published as a definition, and what
can be read from that paper's figures (about 5.9 M parameters) shows that it was larger.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, initialise, initialise_classifier, scale_output
from vertebra.zoo.registry import register

EPSILON = 1e-3
STEM_CHANNELS = 13  # next to those of the picture
ASYMMETRIC = 0
STAGES = (  # channels, dropout, and of each block the dilation of its 3x3 convolution, or 1x5 and 5x1
    (64, 0.01, (1,) * 5),
    (128, 0.1, (1, *(1, 2, ASYMMETRIC, 4, 1, 8, ASYMMETRIC, 16) * 2)),
)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)


def narrow(in_channels: int, width: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, width, stride, stride, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=norm(width), relu=nn.PReLU(width)))


def middle(width: int, dilation: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if dilation == ASYMMETRIC:
        layers["row"] = nn.Conv2d(width, width, (1, 5), padding=(0, 2), bias=False)
        layers["conv"] = nn.Conv2d(width, width, (5, 1), padding=(2, 0))
    else:
        layers["conv"] = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
    layers |= {"bn": norm(width), "relu": nn.PReLU(width)}
    return nn.Sequential(layers)


def widen(width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(width, channels, 1, bias=False), bn=norm(channels)))


class InitialBlock(nn.Module):
    """A strided convolution next to a max pool of the picture (figure 2 (a))."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        channels = STEM_CHANNELS + in_channels
        self.conv = nn.Conv2d(in_channels, STEM_CHANNELS, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.bn = norm(channels)
        self.relu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.bn(torch.cat([self.conv(x), self.pool(x)], dim=1)))
        return y


class Bottleneck(nn.Module):
    """Narrow to a quarter, convolve, widen; add to the input, which a stride pools and fills with zeros."""

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int, dropout: float) -> None:
        super().__init__()
        width = channels // 4
        self.narrow = narrow(in_channels, width, stride)
        self.middle = middle(width, dilation)
        self.widen = widen(width, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.pool = nn.MaxPool2d(2, stride=2) if stride == 2 else nn.Identity()
        self.missing = channels - in_channels
        self.relu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.pool(x)
        if self.missing:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.missing))
        y: Tensor = self.relu(self.dropout(self.widen(self.middle(self.narrow(x)))) + shortcut)
        return y


def stage(in_channels: int, channels: int, dropout: float, kinds: tuple[int, ...]) -> nn.Sequential:
    """One block of each of `kinds`, the first of which halves the size."""
    blocks = nn.Sequential()
    for index, dilation in enumerate(kinds):
        source, stride = (in_channels, 2) if index == 0 else (channels, 1)
        blocks.append(Bottleneck(source, channels, stride, dilation, dropout))
    return blocks


class ENet(Backbone):
    """A block that halves the size, two stages of bottlenecks, one full layer."""

    min_size = 7

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stem = InitialBlock(in_channels)  # (B, 16, 112, 112)
        self.stages = nn.Sequential()  # (B, 128, 28, 28)
        source = STEM_CHANNELS + in_channels
        for channels, dropout, kinds in STAGES:
            self.stages.append(stage(source, channels, dropout, kinds))
            source = channels
        self.head = average_head(source, num_classes)
        self.feature_info = tuple(
            Feature(f"stages.{index}", row[0], 4 << index) for index, row in enumerate(STAGES)
        )
        self._initialise()

    def _initialise(self) -> None:
        initialise(self)
        initialise_classifier(self.classifier)
        blocks = [part for part in self.modules() if isinstance(part, Bottleneck)]
        for block in blocks:
            scale_output(block.widen, len(blocks) ** -0.5)


@register
def enet(**options: Any) -> ENet:
    return ENet(**options)
