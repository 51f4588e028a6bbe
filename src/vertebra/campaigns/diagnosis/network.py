"""The network that the machine's peak rate is measured with: nothing but matrix products."""

from __future__ import annotations

from torch import nn

#: Channels, layers and side of the square input: 8 products of (pixels x 512) with (512 x 512).
CHANNELS, LAYERS, SIDE = 512, 8, 16
#: Operations of one image: two per multiply-accumulate.
OPERATIONS = 2 * LAYERS * SIDE**2 * CHANNELS**2


def dense(*, seed: int = 0) -> nn.Module:
    """Pointwise convolutions with ReLU, then a mean over the pixels: (B, 512, 16, 16) -> (B, 512).

    Pointwise, because no method computes these with fewer multiplications than are counted.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers: list[nn.Module] = []
        for _ in range(LAYERS):
            convolution = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
