"""The input of a network's classifier: pooled features, to build on."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vertebra.errors import InvalidInputError


def extract(network: nn.Module, images: Tensor) -> Tensor:
    """The features (N, D) of `images` (N, C, H, W); see `zoo.features`."""
    if hasattr(network, "pretrained_cfg"):
        timms: Any = network
        return flat(timms.forward_head(timms.forward_features(images), pre_logits=True))
    return flat(_input_of(network, classifier_of(network), images))


def classifier_of(network: nn.Module) -> nn.Linear | nn.Conv2d:
    """The layer that gives the logits: known for ours, the last one defined in torchvision's networks.

    Raises InvalidInputError where there is none.
    """
    own = getattr(network, "classifier", None)
    if isinstance(own, nn.Linear | nn.Conv2d):
        return own
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not layers:
        raise InvalidInputError(f"{type(network).__name__} has no classifier, so no features before it.")
    return layers[-1]


def _input_of(network: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """What `layer` gets when `network` sees `images`."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    handle = layer.register_forward_pre_hook(keep)
    try:
        network(images)
    finally:
        handle.remove()
    assert len(seen) == 1, f"the classifier ran {len(seen)} times"
    return seen[0]


def flat(features: Tensor) -> Tensor:
    """(N, D) of features (N, D), maps (N, D, H, W), or tokens (N, T, D)."""
    if features.ndim == 4:
        return features.mean((2, 3))
    return features.mean(1) if features.ndim == 3 else features
