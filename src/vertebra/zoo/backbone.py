"""What every network of the zoo offers, as one base class."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from vertebra.errors import InvalidInputError
from vertebra.zoo.layers import initialise_classifier


class Feature(NamedTuple):
    """One stage's output: its name, its channels, and by how much it is smaller than the input."""

    name: str
    channels: int
    reduction: int


class Backbone(nn.Module):
    """A network of three parts: `stem`, `stages` (one scale each), and `head`, which ends in `classifier`.

    A family sets the three parts and `feature_info`, and calls `initialise` and `initialise_classifier`.
    Inputs are `(B, in_channels, H, W)`, floating point, with H and W at least `min_size`.
    """

    min_size: int
    stem: nn.Module
    stages: nn.Sequential
    head: nn.Sequential
    feature_info: tuple[Feature, ...]

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        _check_count("num_classes", num_classes)
        _check_count("in_channels", in_channels)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.stem = nn.Identity()

    @property
    def classifier(self) -> nn.Conv2d | nn.Linear:
        """The last layer that has parameters: the one whose width is `num_classes`."""
        return cast("nn.Conv2d | nn.Linear", self.head.get_submodule("classifier"))

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, num_classes)`. Raises InvalidInputError for a shape that doesn't fit."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """The last stage's output `(B, channels, h, w)`."""
        self.check_input(images)
        return cast(Tensor, self.stages(self.stem(images)))

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits `(B, num_classes)` from the output of `forward_features`."""
        return cast(Tensor, self.head(features))

    def forward_stages(self, images: Tensor) -> list[Tensor]:
        """Every stage's output, finest first, as `feature_info` describes them."""
        self.check_input(images)
        x = self.stem(images)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def reset_head(self, num_classes: int) -> None:
        """Replace the last layer by a fresh one of `num_classes`, for fine-tuning; the rest is kept."""
        _check_count("num_classes", num_classes)
        old = self.classifier
        place: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype}
        new: nn.Conv2d | nn.Linear
        if isinstance(old, nn.Conv2d):
            new = nn.Conv2d(old.in_channels, num_classes, kernel_size=1, **place)
        else:
            new = nn.Linear(old.in_features, num_classes, **place)
        initialise_classifier(new)
        self.head.add_module("classifier", new)
        self.num_classes = num_classes

    def check_input(self, images: Tensor) -> None:
        """Raise InvalidInputError unless `images` has the channels, the size and the type that are needed."""
        least = self.min_size
        expected = f"(batch, {self.in_channels}, height, width) with height and width from {least} up"
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise InvalidInputError(
                f"{type(self).__name__} got an input of shape {tuple(images.shape)}; it takes {expected}.",
                f"give {self.in_channels} channels, or build the network with another in_channels",
            )
        if images.shape[2] < least or images.shape[3] < least:
            raise InvalidInputError(
                f"{type(self).__name__} got an input of {images.shape[2]}x{images.shape[3]} pixels; "
                f"it takes {expected}.",
                f"the smallest square input that works is {least}x{least}",
            )
        if not images.is_floating_point():
            raise InvalidInputError(
                f"{type(self).__name__} got an input of type {images.dtype}; it takes floating point.",
                "convert it and normalise it first",
            )


def _check_count(what: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"{what} is {value!r}; it must be a whole number from 1 up.")
