"""Networks small enough for every test, as a user's own module would hold them."""

from __future__ import annotations

import torch
from torch import nn


def small_net(*, num_classes: int = 10, in_channels: int = 3, seed: int = 0) -> nn.Module:
    """Convolution, batch norm with statistics of its own, pool, two full layers: what engines fuse."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        norm = nn.BatchNorm2d(16)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        return nn.Sequential(
            nn.Conv2d(in_channels, 16, 3, stride=2, padding=1),
            norm,
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(256, 64),
            nn.ReLU(),
            nn.Linear(64, num_classes),
        )


def half_net(**options: int) -> nn.Module:
    return small_net(**options).half()


def tangled_net(*, num_classes: int = 10) -> nn.Module:
    """A network that asks about its data, which no graph can hold."""

    class Tangled(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.sum().item() > 0:
                return images.flatten(1)[:, :num_classes]
            return images.flatten(1)[:, -num_classes:]

    return Tangled()


def no_net() -> int:
    return 3
