"""What several families share: convolution with batch norm, the head, how an untrained network starts."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    relu: bool = True,
) -> nn.Sequential:
    """`conv`, padded by half its kernel and without bias, then `bn`, then `relu`, unless set otherwise."""
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        (height, width),
        stride=stride,
        padding=(height // 2, width // 2),
        groups=groups,
        bias=bias,
    )
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels))
    if relu:
        layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


def average_head(in_channels: int, num_classes: int, *, dropout: float | None = None) -> nn.Sequential:
    """The average of each channel over the picture, then one full layer, `classifier`."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    if dropout is not None:
        layers["dropout"] = nn.Dropout(dropout)
    layers["classifier"] = nn.Linear(in_channels, num_classes)
    return nn.Sequential(layers)


def initialise(network: nn.Module) -> None:
    """Give every convolution and linear layer He's normal weights (arXiv 1502.01852) and zero biases.

    The variance 2 / fan_in keeps the scale of activations through any number of ReLU layers, so that
    an untrained network already gives outputs of ordinary size.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_classifier(classifier: nn.Conv2d | nn.Linear) -> None:
    """Give the last layer weights of deviation 0.01, as Krizhevsky did, so that no class starts favoured."""
    nn.init.normal_(classifier.weight, std=0.01)
    if classifier.bias is not None:
        nn.init.zeros_(classifier.bias)


@torch.no_grad()
def scale_output(layer: nn.Module, factor: float) -> None:
    """Multiply the output of `layer` by `factor`, through its batch norms or, where it has none, its weights.

    Residual networks start with it on the last layer of each branch. At 1 the outputs of an untrained
    network in evaluation mode double block after block, past 1e7 in fifty layers; at 0, the usual cure, the
    branches would be switched off, and a comparison of two runtimes on an untrained network would miss them.
    """
    norms: list[nn.Module] = [part for part in layer.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms or [layer]:
        part.get_parameter("weight").mul_(factor)
