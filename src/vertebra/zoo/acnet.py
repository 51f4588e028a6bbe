"""ResNets whose convolutions larger than 1x1 are asymmetric convolution blocks.

ACNet: Strengthening the Kernel Skeletons for Powerful CNN via Asymmetric Convolution Blocks, Ding 2019,
arXiv 1908.03930, figure 2, put into Deep Residual Learning for Image Recognition, He 2015,
arXiv 1512.03385, table 1.

As in PaddleClas, the 7x7 stem is such a block too, which the authors' own code leaves plain; a bottleneck
strides in its 3x3; and the first block of the 18- and 34-layer networks projects its shortcut, although
its width doesn't change.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, cast

import torch
from torch import Tensor, nn

from vertebra.zoo import shapes
from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.layers import average_head, conv_bn, initialise, initialise_classifier, scale_output
from vertebra.zoo.registry import register

WIDTHS = (64, 128, 256, 512)


class AsymmetricBlock(nn.Module):
    """The sum of a kxk, a kx1 and a 1xk convolution, each with its own batch norm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        shape = (in_channels, out_channels)
        options: dict[str, Any] = {"stride": stride, "groups": groups, "relu": False}
        self.square = conv_bn(*shape, kernel_size, **options)
        self.vertical = conv_bn(*shape, (kernel_size, 1), **options)
        self.horizontal = conv_bn(*shape, (1, kernel_size), **options)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.square(x) + (self.vertical(x) + self.horizontal(x))
        return y

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """The one biased convolution with the same output as this block in evaluation mode (section 3.3)."""
        square, bias = _absorb_norm(self.square)
        vertical, vertical_bias = _absorb_norm(self.vertical)
        horizontal, horizontal_bias = _absorb_norm(self.horizontal)
        kernel = square.clone()
        middle = kernel.shape[-1] // 2
        kernel[:, :, :, middle] += vertical[:, :, :, 0]
        kernel[:, :, middle, :] += horizontal[:, :, 0, :]
        fused = _biased_like(cast(nn.Conv2d, self.square.get_submodule("conv")))
        fused.weight.copy_(kernel)
        cast(Tensor, fused.bias).copy_(bias + (vertical_bias + horizontal_bias))
        return fused


def _absorb_norm(branch: nn.Sequential) -> tuple[Tensor, Tensor]:
    """The kernel and bias of one branch, its batch norm multiplied in."""
    conv = cast(nn.Conv2d, branch.get_submodule("conv"))
    bn = cast(nn.BatchNorm2d, branch.get_submodule("bn"))
    assert bn.running_mean is not None
    assert bn.running_var is not None
    factor = bn.weight / (bn.running_var + bn.eps).sqrt()
    return conv.weight * factor[:, None, None, None], bn.bias - bn.running_mean * factor


def _biased_like(conv: nn.Conv2d) -> nn.Conv2d:
    return nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        cast("tuple[int, int]", conv.kernel_size),
        stride=cast("tuple[int, int]", conv.stride),
        padding=cast("tuple[int, int]", conv.padding),
        groups=conv.groups,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )


def spatial(in_channels: int, out_channels: int, kernel_size: int, stride: int, deploy: bool) -> nn.Module:
    """An asymmetric block, or the single convolution that it fuses into."""
    if deploy:
        padding = kernel_size // 2
        return nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding)
    return AsymmetricBlock(in_channels, out_channels, kernel_size, stride=stride)


def basic(in_channels: int, width: int, stride: int, deploy: bool) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=spatial(in_channels, width, 3, stride, deploy),
            relu1=nn.ReLU(inplace=True),
            conv2=spatial(width, width, 3, 1, deploy),
        )
    )


def bottleneck(in_channels: int, width: int, stride: int, deploy: bool) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=conv_bn(in_channels, width, 1),
            conv2=spatial(width, width, 3, stride, deploy),
            relu2=nn.ReLU(inplace=True),
            conv3=conv_bn(width, 4 * width, 1, relu=False),
        )
    )


class Residual(nn.Module):
    """ReLU of the sum of `branch` and `shortcut`."""

    def __init__(self, branch: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.branch(x) + self.shortcut(x))
        return y


class ACNet(Backbone):
    """A 7x7 stem, four stages of residual blocks, one full layer; `deploy` builds the fused form."""

    min_size = 1

    def __init__(
        self,
        depths: tuple[int, ...],
        bottlenecks: bool,
        *,
        deploy: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        self.deploy = deploy
        self.stem = nn.Sequential(
            OrderedDict(
                conv=spatial(in_channels, WIDTHS[0], 7, 2, deploy),  # (B, 64, 112, 112)
                relu=nn.ReLU(inplace=True),
                pool=nn.MaxPool2d(3, stride=2, padding=1),  # (B, 64, 56, 56)
            )
        )
        expansion = 4 if bottlenecks else 1
        make = bottleneck if bottlenecks else basic
        self.stages = nn.Sequential()  # (B, 512 * expansion, 7, 7)
        source = WIDTHS[0]
        for index, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            stage = nn.Sequential()
            for block in range(depth):
                stride = 2 if block == 0 and index > 0 else 1
                channels = width * expansion
                shortcut = (
                    conv_bn(source, channels, 1, stride=stride, relu=False) if block == 0 else nn.Identity()
                )
                stage.append(Residual(make(source, width, stride, deploy), shortcut))
                source = channels
            self.stages.append(stage)
        self.head = average_head(source, num_classes)
        self.feature_info = tuple(
            Feature(f"stages.{index}", width * expansion, 4 << index) for index, width in enumerate(WIDTHS)
        )
        self._initialise()

    def _initialise(self) -> None:
        initialise(self)
        initialise_classifier(self.classifier)
        for part in self.modules():
            if isinstance(part, AsymmetricBlock):
                scale_output(part, 3**-0.5)  # three branches together give the variance of one
        blocks = [part for part in self.modules() if isinstance(part, Residual)]
        for block in blocks:
            scale_output(block.branch[-1], len(blocks) ** -0.5)

    def reparameterize(self) -> ACNet:
        """A deploy-form copy, in evaluation mode, with the same outputs as this network in that mode."""
        fused = copy.deepcopy(self).eval()
        for parent in list(fused.modules()):
            for name, part in list(parent.named_children()):
                if isinstance(part, AsymmetricBlock):
                    setattr(parent, name, part.fuse())
        fused.deploy = True
        return fused


def _acnet(layers: int, deploy: bool, options: dict[str, Any]) -> ACNet:
    depths, bottlenecks = shapes.ACNET[layers]
    return ACNet(depths, bottlenecks, deploy=deploy, **options)


@register
def resnet18_acnet(**options: Any) -> ACNet:
    return _acnet(18, False, options)


@register
def resnet18_acnet_deploy(**options: Any) -> ACNet:
    return _acnet(18, True, options)


@register
def resnet34_acnet(**options: Any) -> ACNet:
    return _acnet(34, False, options)


@register
def resnet34_acnet_deploy(**options: Any) -> ACNet:
    return _acnet(34, True, options)


@register
def resnet50_acnet(**options: Any) -> ACNet:
    return _acnet(50, False, options)


@register
def resnet50_acnet_deploy(**options: Any) -> ACNet:
    return _acnet(50, True, options)


@register
def resnet101_acnet(**options: Any) -> ACNet:
    return _acnet(101, False, options)


@register
def resnet101_acnet_deploy(**options: Any) -> ACNet:
    return _acnet(101, True, options)


@register
def resnet152_acnet(**options: Any) -> ACNet:
    return _acnet(152, False, options)


@register
def resnet152_acnet_deploy(**options: Any) -> ACNet:
    return _acnet(152, True, options)
