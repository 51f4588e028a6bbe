"""Darknet-53.

YOLOv3: An Incremental Improvement, Redmon 2018, arXiv 1804.02767, table 1.

As in PaddleClas, and unlike the author's framework, the activation is ReLU without a leak. The five stages
are YOLOv3's: its detector reads the last three.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vertebra.zoo import shapes
from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, conv_bn, initialise, initialise_classifier, scale_output
from vertebra.zoo.registry import register

STEM_CHANNELS = 32


class Residual(nn.Module):
    """Halve the channels by a 1x1 convolution, restore them by a 3x3, and add; no activation follows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(channels, channels // 2, 1)
        self.conv2 = conv_bn(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv2(self.conv1(x))
        return y


def stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    """A convolution of stride 2, then `depth` residual blocks."""
    blocks = [Residual(out_channels) for _ in range(depth)]
    return nn.Sequential(conv_bn(in_channels, out_channels, 3, stride=2), *blocks)


class DarkNet(Backbone):
    """One convolution, five stages that each halve the size, and one full layer."""

    min_size = 1

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stem = conv_bn(in_channels, STEM_CHANNELS, 3)  # (B, 32, 256, 256)
        self.stages = nn.Sequential()  # (B, 1024, 8, 8)
        source = STEM_CHANNELS
        for channels, depth in shapes.DARKNET:
            self.stages.append(stage(source, channels, depth))
            source = channels
        self.head = average_head(source, num_classes)
        self.feature_info = tuple(
            Feature(f"stages.{index}", channels, 2 << index)
            for index, (channels, _) in enumerate(shapes.DARKNET)
        )
        self._initialise()

    def _initialise(self) -> None:
        initialise(self)
        initialise_classifier(self.classifier)
        blocks = [part for part in self.modules() if isinstance(part, Residual)]
        for block in blocks:
            # What the branches add is never negative, so n of them grow the sum n-fold.
            scale_output(block.conv2, 1 / len(blocks))


@register
def darknet53(**options: Any) -> DarkNet:
    return DarkNet(**options)
