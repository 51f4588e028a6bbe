"""torchvision's weights for our networks: AlexNet only, the one whose topology is the same in both.

Its SqueezeNets have the same shapes but round their pools up; its VGGs have biases in the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vertebra.zoo.conversion import Array, Entry, Shapes, rename

ALEXNET = {
    "features.0": "stages.0.0",
    "features.3": "stages.1.0",
    "features.6": "stages.2.0",
    "features.8": "stages.2.2",
    "features.10": "stages.2.4",
    "classifier.1": "head.fc6",
    "classifier.4": "head.fc7",
    "classifier.6": "head.classifier",
}


def convert_alexnet(arrays: Mapping[str, Any], like: Shapes) -> dict[str, Array]:
    """The state dict of our AlexNet, of the names and shapes of `like`, from torchvision's `arrays`. Raises
    WeightsError if they don't fit."""
    entries = [
        Entry(f"{theirs}.{part}", f"{ours}.{part}")
        for theirs, ours in ALEXNET.items()
        for part in ("weight", "bias")
    ]
    return rename(entries, arrays, like)
