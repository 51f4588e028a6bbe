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


def branched_net(*, num_classes: int = 10, seed: int = 0) -> nn.Module:
    """Two branches that meet, batch norms with statistics of their own, two pools whose rounding shows."""

    def norm(channels: int) -> nn.BatchNorm2d:
        made = nn.BatchNorm2d(channels)
        nn.init.uniform_(made.running_mean, -0.5, 0.5)
        nn.init.uniform_(made.running_var, 0.01, 0.1)
        return made

    def block(in_channels: int, out_channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
        )

    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right = block(3, 8), block(8, 16), block(8, 16)
            self.pool1, self.pool2 = nn.MaxPool2d(3, 2), nn.MaxPool2d(3, 2)
            self.full = nn.Linear(16, num_classes)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.pool1(self.stem(images))
            features = self.pool2(self.left(features) + self.right(features))
            return self.full(features.mean((2, 3)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Branched().eval()


class Odd(nn.Module):
    """A layer that calls one of torch's operators which some converters lack; (N, 3, H, W) to (N, 3)."""

    def __init__(self, operator: str) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.operator == "det":
            return torch.linalg.det(images[:, :, :3, :3])
        if self.operator == "erfinv":
            return torch.special.erfinv(images.mean((2, 3)).clamp(-0.5, 0.5))
        assert self.operator == "bernoulli"
        return torch.bernoulli(images.mean((2, 3)).sigmoid())


def lacking_net(*, operator: str, num_classes: int = 10) -> nn.Module:
    """A network whose layer `features.odd` calls `operator`."""
    features = nn.Sequential()
    features.add_module("odd", Odd(operator))
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("full", nn.Linear(3, num_classes))
    return network.eval()


def stacked_net(*, num_classes: int = 10) -> nn.Module:
    """3x3 convolutions on an image of 96 pixels, large enough for the largest tiles of Winograd's method."""
    torch.manual_seed(0)
    wide, narrow = (nn.Conv2d(channels, 64, 3, padding=1) for channels in (64, 3))
    layers = [narrow, nn.ReLU(), wide, nn.ReLU(), nn.MaxPool2d(4), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(64 * 36, num_classes)).eval()
