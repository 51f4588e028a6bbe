"""Our networks built from their builders, untrained."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vertebra.zoo.backbone import Backbone
    from vertebra.zoo.names import Model


def untrained(model: Model, *, num_classes: int, in_channels: int = 3) -> Backbone:
    """The network that `model`, one of ours, names. Raises InvalidInputError for a count below 1."""
    module, _, function = model.builder.partition(":")
    network: Backbone = getattr(importlib.import_module(module), function)(
        num_classes=num_classes, in_channels=in_channels
    )
    return network
