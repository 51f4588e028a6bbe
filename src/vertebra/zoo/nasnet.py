"""NASNet-A, in its mobile and its large size.

Learning Transferable Architectures for Scalable Image Recognition, Zoph 2017, arXiv 1707.07012, figure 4
and appendix A.4, with the stem and the widths of the authors' release: 4 @ 1056 and 6 @ 4032.

TensorFlow pads an even picture by one pixel less at the top left than at the bottom right where a layer
strides. As the ports to PyTorch do, a reduction cell here pads such a picture by one more row and column
there, in all its branches, and drops the first row and column of the output of each branch's first half: the
same outputs, counted with the dropped ones. Departure: no auxiliary classifier, which serves training only.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, initialise, initialise_classifier, scale_output
from vertebra.zoo.registry import register

EPSILON = 1e-3

Shift = tuple[int, int]  # rows and columns to pad at the top left, and to drop again
Pair = tuple[Tensor, Tensor]  # outputs of the cell before the last, and of the last


@dataclass(frozen=True)
class Size:
    """`depth` normal cells in each of three stages; `width` of the first; `skips`: see `Stage`."""

    depth: int
    width: int
    stem_channels: int
    skips: bool
    min_size: int


SIZES = {
    "nasnetamobile": Size(4, 44, 32, skips=False, min_size=3),
    "nasnetalarge": Size(6, 168, 96, skips=True, min_size=3),
}


def shift_of(x: Tensor) -> Shift:
    """One where the side is even."""
    return 1 - x.shape[2] % 2, 1 - x.shape[3] % 2


def pad(x: Tensor, shift: Shift) -> Tensor:
    return functional.pad(x, (shift[1], 0, shift[0], 0)) if any(shift) else x


def drop(x: Tensor, shift: Shift) -> Tensor:
    return x[:, :, shift[0] :, shift[1] :] if any(shift) else x


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)


def project(in_channels: int, out_channels: int) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=conv, bn=norm(out_channels)))


def separable(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    depthwise = nn.Conv2d(
        in_channels, in_channels, kernel_size, stride, kernel_size // 2, groups=in_channels, bias=False
    )
    pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))


class Separables(nn.Module):
    """Twice ReLU, separable convolution and batch norm; the first convolution strides."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = separable(in_channels, out_channels, kernel_size, stride)
        self.bn1 = norm(out_channels)
        self.conv2 = separable(out_channels, out_channels, kernel_size, 1)
        self.bn2 = norm(out_channels)

    def forward(self, x: Tensor, shift: Shift = (0, 0)) -> Tensor:
        first = self.bn1(drop(self.conv1(pad(self.relu(x), shift)), shift))
        y: Tensor = self.bn2(self.conv2(self.relu(first)))
        return y


class Halve(nn.Module):
    """Two 1x1 convolutions of every second pixel, the second's set off by one each way, side by side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.bn = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        shifted = functional.pad(x, (0, 1, 0, 1))[:, :, 1::2, 1::2]
        y: Tensor = self.bn(torch.cat([self.conv1(x[:, :, ::2, ::2]), self.conv2(shifted)], dim=1))
        return y


class NormalCell(nn.Module):
    """Five sums of the previous cell's output, `p`, and of the last one's, `h`."""

    def __init__(self, previous: nn.Module, in_channels: int, width: int) -> None:
        super().__init__()
        self.previous = previous
        self.last = project(in_channels, width)
        self.sum0_h = Separables(width, width, 5)
        self.sum0_p = Separables(width, width, 3)
        self.sum1_p5 = Separables(width, width, 5)
        self.sum1_p3 = Separables(width, width, 3)
        self.sum4_h = Separables(width, width, 3)
        self.average = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)

    def forward(self, previous: Tensor, last: Tensor) -> Tensor:
        p, h = self.previous(previous), self.last(last)
        average = self.average(p)
        sums = [
            self.sum0_h(h) + self.sum0_p(p),
            self.sum1_p5(p) + self.sum1_p3(p),
            self.average(h) + p,
            average + average,
            self.sum4_h(h) + h,
        ]
        return torch.cat([p, *sums], dim=1)


class ReductionCell(nn.Module):
    """Five sums at half the size, of which four are used. `p` has `previous_width` channels, `h` `width`."""

    def __init__(self, previous: nn.Module, previous_width: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.previous = previous
        self.last = project(in_channels, width)
        self.sum0_h = Separables(width, width, 5, 2)
        self.sum0_p = Separables(previous_width, width, 7, 2)
        self.sum1_p = Separables(previous_width, width, 7, 2)
        self.sum2_p = Separables(previous_width, width, 5, 2)
        self.sum4 = Separables(width, width, 3)
        self.maximum = nn.MaxPool2d(3, stride=2, padding=1)
        self.half_average = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.average = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)

    def forward(self, previous: Tensor, last: Tensor) -> Tensor:
        p, h = self.previous(previous), self.last(last)
        shift = shift_of(h)
        maximum = drop(self.maximum(pad(h, shift)), shift)
        sum0 = self.sum0_h(h, shift) + self.sum0_p(p, shift)
        sum1 = maximum + self.sum1_p(p, shift)
        sum2 = drop(self.half_average(pad(h, shift)), shift) + self.sum2_p(p, shift)
        sum3 = self.average(sum0) + sum1
        sum4 = self.sum4(sum0, shift) + maximum
        return torch.cat([sum1, sum2, sum3, sum4], dim=1)


class Stage(nn.Module):
    """A reduction cell and what follows it.

    Each cell sees the outputs of the two before it. Where the network `skips`, the cell after the reduction
    sees the output of that one's previous cell, not that of its last one.
    """

    def __init__(self, reduction: ReductionCell, cells: list[nn.Module], skips: bool) -> None:
        super().__init__()
        self.reduction = reduction
        self.cells = nn.ModuleList(cells)
        self.skips = skips

    def forward(self, pair: Pair) -> Pair:
        previous, last = pair
        given = self.reduction(previous, last)
        previous, last = (previous if self.skips else last), given
        for cell in self.cells:
            previous, last = last, cell(previous, last)
        return previous, last


class NASNet(Backbone):
    """One unpadded convolution, four stages of cells, one full layer; the first stage is one cell."""

    def __init__(
        self, size: Size, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.min_size = size.min_size
        width = size.width
        conv = nn.Conv2d(in_channels, size.stem_channels, 3, stride=2, bias=False)
        self.stem = nn.Sequential(OrderedDict(conv=conv, bn=norm(size.stem_channels)))  # (B, 32, 111, 111)
        stem_cell = ReductionCell(nn.Identity(), size.stem_channels, size.stem_channels, width // 4)
        self.stages = nn.Sequential(Stage(stem_cell, [], skips=False))  # (B, 44, 56, 56)
        # The channels of the last two cells' outputs, and whether the former of them is twice as large.
        previous, last = size.stem_channels, width
        features = [Feature("stages.0", last, 4)]
        for index in range(3):  # 28, 14, 7 pixels
            stage, previous, last = self._stage(size, index, previous, last)
            self.stages.append(stage)
            features.append(Feature(f"stages.{index + 1}", last, 8 << index))
        self.head = nn.Sequential(
            OrderedDict(
                [("relu", nn.ReLU()), *average_head(last, num_classes, dropout=dropout).named_children()]
            )
        )
        self.feature_info = tuple(features)
        self._initialise()

    def _stage(self, size: Size, index: int, previous: int, last: int) -> tuple[Stage, int, int]:
        """Stage `index` + 1 after cells of `previous` and `last` channels, and those of its own last two."""
        width = size.width << index
        if index == 0:  # the second stem cell, half as wide, whose previous picture is twice as large
            half = width // 2
            reduction = ReductionCell(Halve(previous, half), half, last, half)
            seen, given = last, 4 * half
        else:
            reduction = ReductionCell(project(previous, width), width, last, width)
            seen, given = last, 4 * width
        cells: list[nn.Module] = [NormalCell(Halve(seen, width), given, width)]
        before, after = given, 6 * width
        for _ in range(size.depth - 1):
            cells.append(NormalCell(project(before, width), after, width))
            before, after = after, 6 * width
        return Stage(reduction, cells, size.skips and index > 0), before, after

    def forward_features(self, images: Tensor) -> Tensor:
        return self.forward_stages(images)[-1]

    def forward_stages(self, images: Tensor) -> list[Tensor]:
        self.check_input(images)
        stem = self.stem(images)
        pair, outputs = (stem, stem), []
        for stage in self.stages:
            pair = stage(pair)
            outputs.append(pair[1])
        return outputs

    def _initialise(self) -> None:
        initialise(self)
        initialise_classifier(self.classifier)
        for part in self.modules():
            if isinstance(part, NormalCell | ReductionCell):
                # A cell adds up its inputs again and again, and passes them on next to the sums.
                for source in (part.previous, part.last):
                    if not isinstance(source, nn.Identity):
                        scale_output(source, 0.6)


@register
def nasnetamobile(**options: Any) -> NASNet:
    return NASNet(SIZES["nasnetamobile"], **options)


@register
def nasnetalarge(**options: Any) -> NASNet:
    return NASNet(SIZES["nasnetalarge"], **options)
