"""What several families share: convolution with batch norm, and He initialisation."""

from __future__ import annotations

from torch import nn


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """Convolution without bias, padded to keep the size, then batch norm, then ReLU unless told otherwise."""
    layers = nn.Sequential()
    layers.add_module(
        "conv",
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
    )
    layers.add_module("bn", nn.BatchNorm2d(out_channels))
    if relu:
        layers.add_module("relu", nn.ReLU(inplace=True))
    return layers


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
