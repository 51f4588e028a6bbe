"""A network with fewer channels than its model has: the layers that pruning left."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vertebra.errors import WeightsError
from vertebra.zoo.backbone import Backbone, Feature
from vertebra.zoo.compressed import Widths


def narrow(network: nn.Module, widths: Widths) -> None:
    """Give the parameters and buffers named in `widths` these shapes, their contents undefined, and their
    layers the counts that follow. Raises WeightsError for a layer of another kind."""
    for name, layer in network.named_modules():
        own = {
            part: widths[key]
            for part in (*layer._parameters, *layer._buffers)
            if (key := f"{name}.{part}" if name else part) in widths
        }
        if own:
            _set_counts(name, layer, own)
            for part, shape in own.items():
                _replace(layer, part, shape)
    if isinstance(network, Backbone):
        network.feature_info = features(network)


def features(network: Backbone) -> tuple[Feature, ...]:
    """The network's stages with the channels that they have now."""
    weight = network.classifier.weight
    size = (1, network.in_channels, network.min_size, network.min_size)
    was_training = network.training
    with torch.no_grad():
        outputs = network.eval().forward_stages(torch.zeros(size, dtype=weight.dtype, device=weight.device))
    network.train(was_training)
    pairs = zip(network.feature_info, outputs, strict=True)
    return tuple(Feature(one.name, output.shape[1], one.reduction) for one, output in pairs)


def widths_of(network: nn.Module, whole: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes in `network` that differ from those of `whole`, the network before it was pruned."""
    before = {name: tuple(values.shape) for name, values in whole.state_dict().items()}
    after = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    return {name: shape for name, shape in after.items() if shape != before[name]}


def _set_counts(name: str, layer: Any, own: Widths) -> None:
    if isinstance(layer, nn.Conv2d):
        outputs, each = own.get("weight", tuple(layer.weight.shape))[:2]
        if layer.groups == layer.in_channels > 1:  # each channel on its own, as many as there are
            layer.groups = outputs // (layer.out_channels // layer.in_channels)
        layer.out_channels, layer.in_channels = outputs, each * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = own.get("weight", tuple(layer.weight.shape))
    elif isinstance(layer, nn.BatchNorm2d):
        (layer.num_features,) = next(iter(own.values()))
    else:
        raise WeightsError(
            f"{name} is a {type(layer).__name__}, whose channels can't be fewer than the model's.",
            "use the weights of a network that wasn't pruned there",
        )


def _replace(layer: nn.Module, part: str, shape: tuple[int, ...]) -> None:
    old: Tensor = getattr(layer, part)
    new = torch.empty(shape, dtype=old.dtype, device=old.device)
    setattr(layer, part, nn.Parameter(new, old.requires_grad) if part in layer._parameters else new)
