"""ShuffleNet with 8 groups.

ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, Zhang 2017,
arXiv 1707.01083, table 1, column g = 8.

As in the network that Bianco compared, every convolution has a bias, and the first has neither batch norm
nor activation. The head averages the output of the last stage.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, conv_bn, initialise, initialise_classifier, scale_output
from vertebra.zoo.registry import register

NUM_GROUPS = 8
STEM_CHANNELS = 24
STAGES = ((384, 4), (768, 8), (1536, 4))  # channels, units


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; figure 2 (b), or (c) where `stride` is 2.

    With stride 2 the input, averaged, makes up the first channels of the output, and nothing is added.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, first_groups: int) -> None:
        super().__init__()
        width = out_channels // 4
        own = out_channels - in_channels if stride == 2 else out_channels
        self.stride = stride
        self.compress = conv_bn(in_channels, width, 1, groups=first_groups, bias=True)
        self.shuffle = nn.ChannelShuffle(NUM_GROUPS)
        self.depthwise = conv_bn(width, width, 3, stride=stride, groups=width, bias=True, relu=False)
        self.expand = conv_bn(width, own, 1, groups=NUM_GROUPS, bias=True, relu=False)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(self.shuffle(self.compress(x))))
        joined = x + y if self.stride == 1 else torch.cat([self.pool(x), y], dim=1)
        out: Tensor = self.relu(joined)
        return out


def stage(in_channels: int, channels: int, depth: int, first_groups: int) -> nn.Sequential:
    """`depth` units, the first of which widens to `channels` and halves the size."""
    first = ShuffleUnit(in_channels, channels, 2, first_groups)
    return nn.Sequential(first, *(ShuffleUnit(channels, channels, 1, NUM_GROUPS) for _ in range(depth - 1)))


class ShuffleNet(Backbone):
    """One convolution and a pool, three stages of shuffle units, one full layer."""

    min_size = 1

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(in_channels, STEM_CHANNELS, 3, stride=2, padding=1),  # (B, 24, 112, 112)
                pool=nn.MaxPool2d(3, stride=2, padding=1),  # (B, 24, 56, 56)
            )
        )
        self.stages = nn.Sequential()  # (B, 1536, 7, 7)
        source = STEM_CHANNELS
        for index, (channels, depth) in enumerate(STAGES):
            # 24 channels are too few to be divided (section 3.2).
            self.stages.append(stage(source, channels, depth, 1 if index == 0 else NUM_GROUPS))
            source = channels
        self.head = average_head(source, num_classes)
        self.feature_info = tuple(
            Feature(f"stages.{index}", channels, 8 << index) for index, (channels, _) in enumerate(STAGES)
        )
        self._initialise()

    def _initialise(self) -> None:
        initialise(self)
        initialise_classifier(self.classifier)
        units = [part for part in self.modules() if isinstance(part, ShuffleUnit)]
        for unit in units:
            if unit.stride == 1:
                scale_output(unit.expand, len(units) ** -0.5)


@register
def shufflenet_g8(**options: Any) -> ShuffleNet:
    return ShuffleNet(**options)
