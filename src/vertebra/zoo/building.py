"""Our networks built from their builders, untrained."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    from torch import nn

    from vertebra.zoo.backbone import Backbone
    from vertebra.zoo.names import Model


def untrained(model: Model, *, num_classes: int, in_channels: int = 3) -> Backbone:
    """The network that `model`, one of ours, names. Raises InvalidInputError for a count below 1."""
    module, _, function = model.builder.partition(":")
    network: Backbone = getattr(importlib.import_module(module), function)(
        num_classes=num_classes, in_channels=in_channels
    )
    return network


def draw(network: nn.Module, name: str) -> None:
    """Give the network called `name` the parameters that its graph is measured with. Raises InvalidInputError
    where its definition, in the installed version of its library, isn't that of the graph."""
    import torch

    from vertebra.zoo.graphs import drawing, store

    graph = store.find(name)
    state = network.state_dict()
    for key, _, shape in graph.parameters():
        if key not in state or tuple(state[key].shape) != shape:
            found = tuple(state[key].shape) if key in state else "missing"
            raise InvalidInputError(
                f"{name} as installed isn't that of the graph, of {graph.library} {graph.version}: {key} is "
                f"{found}; {shape} was expected.",
                f"install {graph.library} {graph.version}, or leave out eager and compile",
            )
        state[key].copy_(torch.from_numpy(drawing.draw(graph.name, key, shape)))
