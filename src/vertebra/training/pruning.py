"""Whole channels taken out of a trained network, those of the smallest weights, before it is fine-tuned.

torch-pruning finds which layers must lose the same channels (DepGraph: Towards Any Structural Pruning, Fang
2023, arXiv 2301.12900): what is added together, as the branches of a block, stays of one width. The share is
the same in every layer, and is looked for until the multiply-adds are as few as asked.
"""

from __future__ import annotations

import copy
import importlib.util
from dataclasses import dataclass

import torch
from torch import nn

from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.measuring import profiler
from vertebra.zoo import narrowing
from vertebra.zoo.backbone import Backbone
from vertebra.zoo.compressed import Widths

#: Channels are left in multiples of this, which processors compute with.
ROUND_TO = 8
#: So often the share of channels is halved between too many and too few.
_TRIES = 8
#: How far the pruned network may be from the same one built anew by its record.
_LIMIT = 1e-5


@dataclass(frozen=True)
class Pruned:
    """A network with fewer channels. `widths` are the shapes that became smaller, with which the same network
    is built again; `channels` is the share of them that was taken out. Counts are of one picture."""

    network: nn.Module
    widths: Widths
    channels: float
    macs_before: int
    macs: int
    params_before: int
    params: int


def check(share: float) -> None:
    """Raise InvalidInputError for a share that can't be, and MissingRuntimeError where torch-pruning isn't
    installed."""
    if not 0 < share < 1:
        raise InvalidInputError(
            f"The share of multiply-adds to prune is {share:g}; it must be above 0 and below 1.",
            "use for example --prune 50%",
        )
    if importlib.util.find_spec("torch_pruning") is None:
        raise MissingRuntimeError.of("Pruning", "torch_pruning", "prune")


def prune(network: nn.Module, share: float, *, input_size: int, round_to: int = ROUND_TO) -> Pruned:
    """A copy of `network`, one of ours, without at least `share` of its multiply-adds for a picture of
    `input_size`. The classifier keeps its classes.

    Raises InvalidInputError for a share that can't be reached, a network of another library, and one that the
    record of its widths doesn't build again; MissingRuntimeError without torch-pruning.
    """
    check(share)
    if not isinstance(network, Backbone):
        raise InvalidInputError(
            f"{type(network).__name__} is of another library, and pruned it couldn't be loaded again.",
            "prune one of vertebra's own networks: vertebra list models",
        )
    before = _profile(network, input_size)
    target = (1 - share) * before.macs
    low, high, found, reached = 0.0, 1.0, None, 0.0
    for _ in range(_TRIES):
        ratio = (low + high) / 2
        tried = _without(network, ratio, input_size, round_to)
        if tried is not None and _profile(tried, input_size).macs > target:
            low = ratio
        else:  # few enough, or a layer without any channel
            high = ratio
            found, reached = (found, reached) if tried is None else (tried, ratio)
    if found is None:
        raise InvalidInputError(
            f"{type(network).__name__} can't lose {share:.0%} of its multiply-adds: with the fewest channels "
            f"that it works with, in multiples of {round_to}, too many are left.",
            "ask for a smaller share",
        )
    widths = narrowing.widths_of(found, network)
    _check_again(network, found, widths, input_size)
    if isinstance(found, Backbone):
        found.feature_info = narrowing.features(found)
    after = _profile(found, input_size)
    found.train(network.training)
    return Pruned(found, widths, reached, before.macs, after.macs, before.params, after.params)


def _profile(network: nn.Module, input_size: int) -> profiler.Profile:
    channels = network.in_channels if isinstance(network, Backbone) else 3
    return profiler.profile(network, model="network", input_size=input_size, in_channels=channels)


def _images(network: Backbone, input_size: int) -> torch.Tensor:
    weight = network.classifier.weight
    generator = torch.Generator().manual_seed(0)
    size = (2, network.in_channels, input_size, input_size)
    return torch.randn(size, generator=generator).to(weight.device, weight.dtype)


def _without(network: Backbone, ratio: float, input_size: int, round_to: int) -> Backbone | None:
    """A copy without the share `ratio` of every layer's channels; None where one would lose all."""
    import torch_pruning

    copied = copy.deepcopy(network).eval().requires_grad_(True)
    pruner = torch_pruning.pruner.BasePruner(
        copied,
        _images(network, input_size),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[copied.classifier],
        round_to=round_to,
    )
    pruner.step()
    if any(0 in values.shape for values in copied.state_dict().values()):
        return None
    return copied


def _check_again(network: Backbone, found: nn.Module, widths: Widths, input_size: int) -> None:
    """Raise MeasurementError unless the network built anew by its widths gives the same answers."""
    again = copy.deepcopy(network)
    try:
        narrowing.narrow(again, widths)
        again.load_state_dict(found.state_dict())
        images = _images(network, input_size)
        with torch.no_grad():
            expected, got = found.eval()(images), again.eval()(images)
    except (RuntimeError, ValueError) as error:
        raise MeasurementError(
            f"{type(network).__name__} can't be pruned: built again by its widths it doesn't run "
            f"({str(error).splitlines()[0]})."
        ) from error
    if not torch.allclose(expected, got, rtol=_LIMIT, atol=_LIMIT):
        raise MeasurementError(
            f"{type(network).__name__} can't be pruned: built again by its widths it gives other answers."
        )
