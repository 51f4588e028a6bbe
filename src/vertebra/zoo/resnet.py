"""ResNet-101 as Caffe has it, and ResNet-152 as Torch7 has it.

Deep Residual Learning for Image Recognition, He 2015, arXiv 1512.03385, table 1.

Caffe's is the authors' own release: a bottleneck strides in its first 1x1 convolution, and the pool of the
stem isn't padded but rounds up. Torch7's (fb.resnet.torch) strides in the 3x3, and its convolutions have
biases, although a batch norm follows each.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, conv_bn, initialise, initialise_classifier, scale_output
from vertebra.zoo.registry import register

WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


@dataclass(frozen=True)
class Variant:
    """Blocks of each stage; whether the first 1x1 convolution strides, or the 3x3; and what else differs."""

    depths: tuple[int, ...]
    strides_first: bool
    biased: bool
    pool_padding: int  # where it is 0, the stem's pool rounds up
    min_size: int


VARIANTS = {
    "cafferesnet101": Variant((3, 4, 23, 3), strides_first=True, biased=False, pool_padding=0, min_size=3),
    "fbresnet152": Variant((3, 8, 36, 3), strides_first=False, biased=True, pool_padding=1, min_size=1),
}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, added to the shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int, variant: Variant) -> None:
        super().__init__()
        channels = EXPANSION * width
        first, second = (stride, 1) if variant.strides_first else (1, stride)
        options: dict[str, Any] = {"bias": variant.biased}
        self.conv1 = conv_bn(in_channels, width, 1, stride=first, **options)
        self.conv2 = conv_bn(width, width, 3, stride=second, **options)
        self.conv3 = conv_bn(width, channels, 1, relu=False, **options)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels:
            self.shortcut = conv_bn(in_channels, channels, 1, stride=stride, relu=False, **options)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))
        return y


def stage(in_channels: int, width: int, depth: int, stride: int, variant: Variant) -> nn.Sequential:
    """`depth` blocks, the first of which widens and strides."""
    first = Bottleneck(in_channels, width, stride, variant)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * width, width, 1, variant) for _ in range(depth - 1)))


class ResNet(Backbone):
    """A 7x7 stem, four stages of bottlenecks, one full layer."""

    def __init__(self, variant: Variant, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.min_size = variant.min_size
        padding = variant.pool_padding
        self.stem = nn.Sequential(
            OrderedDict(
                conv=conv_bn(in_channels, WIDTHS[0], 7, stride=2, bias=variant.biased),  # (B, 64, 112, 112)
                pool=nn.MaxPool2d(3, stride=2, padding=padding, ceil_mode=not padding),  # (B, 64, 56, 56)
            )
        )
        self.stages = nn.Sequential()  # (B, 2048, 7, 7)
        source = WIDTHS[0]
        for index, (width, depth) in enumerate(zip(WIDTHS, variant.depths, strict=True)):
            self.stages.append(stage(source, width, depth, 1 if index == 0 else 2, variant))
            source = EXPANSION * width
        self.head = average_head(source, num_classes)
        self.feature_info = tuple(
            Feature(f"stages.{index}", EXPANSION * width, 4 << index) for index, width in enumerate(WIDTHS)
        )
        self._initialise()

    def _initialise(self) -> None:
        initialise(self)
        initialise_classifier(self.classifier)
        blocks = [part for part in self.modules() if isinstance(part, Bottleneck)]
        for block in blocks:
            scale_output(block.conv3, len(blocks) ** -0.5)


@register
def cafferesnet101(**options: Any) -> ResNet:
    return ResNet(VARIANTS["cafferesnet101"], **options)


@register
def fbresnet152(**options: Any) -> ResNet:
    return ResNet(VARIANTS["fbresnet152"], **options)
