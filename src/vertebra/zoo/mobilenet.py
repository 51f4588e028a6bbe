"""MobileNetV2, in a form whose first block has all three convolutions.

MobileNetV2: Inverted Residuals and Linear Bottlenecks, Sandler 2018, arXiv 1801.04381, table 2.

The first row of that table expands by 1. The authors' own network leaves out the convolution that would do
so, as timm and torchvision do; the form built here keeps it, 32 channels to 32, as the networks that Bianco
compared do. It has 1,088 parameters and 12.8 million multiplications more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, initialise, initialise_classifier, scale_output
from vertebra.zoo.registry import register

STEM_CHANNELS = 32
LAST_CHANNELS = 1280
STAGES = (  # rows of table 2: expansion, channels, blocks, stride of the first
    ((1, 16, 1, 1),),
    ((6, 24, 2, 2),),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)


def conv_relu6(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, and ReLU capped at 6."""
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels), relu=nn.ReLU6(inplace=True)))


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel, narrow by a 1x1; add where the shape allows."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = expansion * in_channels
        self.expand = conv_relu6(in_channels, width, 1)
        self.depthwise = conv_relu6(width, width, 3, stride=stride, groups=width)
        self.project = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(width, out_channels, 1, bias=False), bn=nn.BatchNorm2d(out_channels))
        )
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class MobileNetV2(Backbone):
    """One convolution, five stages of inverted residuals, and one full layer."""

    min_size = 1

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.stem = conv_relu6(in_channels, STEM_CHANNELS, 3, stride=2)  # (B, 32, 112, 112)
        self.stages = nn.Sequential()  # (B, 1280, 7, 7)
        source, features = STEM_CHANNELS, []
        for index, rows in enumerate(STAGES):
            stage = nn.Sequential()
            for expansion, channels, depth, stride in rows:
                for block in range(depth):
                    step = stride if block == 0 else 1
                    stage.append(InvertedResidual(source, channels, step, expansion))
                    source = channels
            if index == len(STAGES) - 1:
                stage.append(conv_relu6(source, LAST_CHANNELS, 1))
                source = LAST_CHANNELS
            self.stages.append(stage)
            features.append(Feature(f"stages.{index}", source, 2 << index))
        self.head = average_head(source, num_classes, dropout=dropout)
        self.feature_info = tuple(features)
        self._initialise()

    def _initialise(self) -> None:
        initialise(self)
        initialise_classifier(self.classifier)
        blocks = [part for part in self.modules() if isinstance(part, InvertedResidual)]
        for block in blocks:
            if block.adds:
                scale_output(block.project, len(blocks) ** -0.5)


@register
def mobilenetv2_expanded(**options: Any) -> MobileNetV2:
    return MobileNetV2(**options)
