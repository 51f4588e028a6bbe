"""SENet-154 in the _vd form.

Squeeze-and-Excitation Networks, Hu 2017, arXiv 1709.01507, with the stem and the shortcuts (its ResNet-D)
of Bag of Tricks for Image Classification with Convolutional Neural Networks, He 2018, arXiv 1812.01187.

As in PaddleClas, and unlike the SENet-154 that Hu's team released, the first 1x1 convolution of a block has
the block's full width, and there is no dropout before the last layer.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vertebra.zoo import shapes
from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, conv_bn, initialise, initialise_classifier, scale_output
from vertebra.zoo.registry import register

STEM_CHANNELS = 128
NUM_GROUPS = 64
REDUCTION = 16


class SqueezeExcitation(nn.Module):
    """Scale each channel by a weight between 0 and 1, found from the averages of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // REDUCTION)
        self.relu = nn.ReLU(inplace=True)
        self.excite = nn.Linear(channels // REDUCTION, channels)

    def forward(self, x: Tensor) -> Tensor:
        averages = x.mean(dim=(2, 3))  # (B, C)
        weights = self.excite(self.relu(self.squeeze(averages))).sigmoid()
        scaled: Tensor = x * weights[:, :, None, None]
        return scaled


class Block(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions of one width, scaled per channel, added to the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(in_channels, channels, 1)
        self.conv2 = conv_bn(channels, channels, 3, stride=stride, groups=NUM_GROUPS)
        self.conv3 = conv_bn(channels, channels, 1, relu=False)
        self.scale = SqueezeExcitation(channels)
        self.shortcut = nn.Sequential()
        if stride == 2:
            self.shortcut.add_module("pool", nn.AvgPool2d(2, stride=2, ceil_mode=True))
        if in_channels != channels:
            self.shortcut.add_module("project", conv_bn(in_channels, channels, 1, relu=False))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale(self.conv3(self.conv2(self.conv1(x))))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out


def stage(in_channels: int, channels: int, depth: int, stride: int) -> nn.Sequential:
    """`depth` blocks, the first of which widens to `channels` and strides."""
    first = Block(in_channels, channels, stride)
    return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(depth - 1)))


class SENet(Backbone):
    """A stem of three convolutions, four stages of squeeze-and-excitation blocks, and one full layer."""

    min_size = 1

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stem = nn.Sequential(
            conv_bn(in_channels, 64, 3, stride=2),  # (B, 64, 112, 112)
            conv_bn(64, 64, 3),
            conv_bn(64, STEM_CHANNELS, 3),
            nn.MaxPool2d(3, stride=2, padding=1),  # (B, 128, 56, 56)
        )
        self.stages = nn.Sequential()  # (B, 2048, 7, 7)
        source = STEM_CHANNELS
        for index, (channels, depth) in enumerate(shapes.SENET):
            self.stages.append(stage(source, channels, depth, stride=1 if index == 0 else 2))
            source = channels
        self.head = average_head(source, num_classes)
        self.feature_info = tuple(
            Feature(f"stages.{index}", channels, 4 << index)
            for index, (channels, _) in enumerate(shapes.SENET)
        )
        self._initialise()

    def _initialise(self) -> None:
        initialise(self)
        initialise_classifier(self.classifier)
        blocks = [part for part in self.modules() if isinstance(part, Block)]
        for block in blocks:
            scale_output(block.conv3, len(blocks) ** -0.5)


@register
def senet154_vd(**options: Any) -> SENet:
    return SENet(**options)
