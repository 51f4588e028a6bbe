"""The networks: `names` says which exist, one file a family holds them, `build` makes one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vertebra.errors import MissingRuntimeError
from vertebra.zoo.names import CLASSICS, Model, find, models

if TYPE_CHECKING:
    from vertebra.zoo.backbone import Backbone

__all__ = ["CLASSICS", "Model", "build", "find", "models"]


def build(name: str, *, num_classes: int = 1000, in_channels: int = 3, seed: int | None = None) -> Backbone:
    """Build the network called `name`, untrained, in training mode as torch leaves it.

    With `seed` the initial parameters are reproducible, and the global random state is left as it was.
    Under `with torch.device("meta")` nothing is allocated.
    Raises UnknownNameError, InvalidInputError (a count below 1) and MissingRuntimeError (no torch).
    """
    address = find(name).builder
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of("building a network", "torch", "torch") from error
    module, _, function = address.partition(":")
    builder = getattr(importlib.import_module(module), function)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            # Only the CPU's generator: torch.manual_seed would also reseed every accelerator.
            torch.default_generator.manual_seed(seed)
        network: Backbone = builder(num_classes=num_classes, in_channels=in_channels)
    return network
