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


def fading_net(*, num_classes: int = 10, seed: int = 0, factor: float = 1e-20) -> nn.Module:
    """Layers that each leave `factor` of what came, so that float32's smallest numbers are soon reached."""
    network = small_net(num_classes=num_classes, seed=seed)
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.mul_(factor)
                layer.bias.zero_()
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.zero_()
    return network


def odd_net(*, num_classes: int = 10) -> nn.Module:
    """A network with an operator that runtimes for phones have no layer of: a triangular solve."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.full = nn.Linear(3, num_classes)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            small = images[:, :, :3, :3].mean(1) + 4 * torch.eye(3)
            return self.full(torch.linalg.solve_triangular(small, small[:, :, :1], upper=False)[:, :, 0])

    return Odd().eval()


def pooled_net(*, num_classes: int = 10, seed: int = 0, softmax: bool = False) -> nn.Module:
    """A pool whose rounding shows, a batch norm with a small variance, and probabilities where asked for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        norm = nn.BatchNorm2d(16)
        nn.init.uniform_(norm.running_var, 0.001, 0.01)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, bias=False),
            norm,
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(16, 16, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, num_classes),
            nn.Softmax(dim=1) if softmax else nn.Identity(),
        )
