"""The network at its first step: built, with the parameters to start from, and a head for the classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vertebra import zoo
from vertebra.data import labels
from vertebra.errors import InvalidInputError, VertebraError, WeightsError
from vertebra.progress import Listener, Progress, silent
from vertebra.zoo import narrowing
from vertebra.zoo.adapters import states
from vertebra.zoo.layers import initialise_classifier
from vertebra.zoo.pooling import classifier_of

if TYPE_CHECKING:
    from torch import Tensor


def network(
    model: str, classes: tuple[str, ...], *, weights: str | Path | None, checks: Mapping[str, Any], seed: int
) -> tuple[nn.Module, str]:
    """The network with an output for each class, on the CPU in float32, and a sentence on where its
    parameters are from.

    With `weights`, only the layer that gives the classes is new, and not even that where they are of the same
    classes in the same order. Raises what `zoo.build` raises.
    """
    fresh = zoo.build(model, num_classes=len(classes), seed=seed)
    if weights is None:
        return fresh, "random parameters"
    trained = zoo.build(model, weights=weights, **checks).state_dict()
    head = head_of(model, len(classes))
    _narrow(fresh, trained, head)
    if has_classes(model, weights, checks, classes):
        head = frozenset()
    state: dict[str, Tensor] = {}
    for name, value in fresh.state_dict().items():
        state[name] = value if name in head else trained.get(name, value)
        if name not in head and (name not in trained or trained[name].shape != value.shape):
            raise WeightsError(
                f"{weights} can't be the start of {model} with {len(classes)} classes: {name} doesn't fit.",
                "pass weights of the same network, made for pictures of the same size",
            )
    fresh.load_state_dict(state)
    if head:
        _soften(fresh, seed)
    new = "with their own head" if not head else f"with a new head for {len(classes)} classes"
    return fresh, f"parameters of {Path(str(weights)).name}, {new}"


def check_weights(
    model: str, weights: str | Path, checks: Mapping[str, Any], progress: Listener = silent
) -> None:
    """Raise what `zoo.build` raises unless the network can be built with these weights; those that are far
    away are downloaded."""
    progress(Progress(f"reading the weights {Path(str(weights)).name}"))
    zoo.build(model, weights=weights, **checks)


def _narrow(fresh: nn.Module, trained: Mapping[str, Tensor], head: frozenset[str]) -> None:
    """Give `fresh` as few channels as a pruned network has."""
    widths: dict[str, tuple[int, ...]] = {}
    for name, value in fresh.state_dict().items():
        own = tuple(trained[name].shape) if name in trained else tuple(value.shape)
        wanted = (value.shape[0], *own[1:]) if name in head else own
        if len(wanted) == value.ndim and all(a <= b for a, b in zip(wanted, value.shape, strict=True)):
            widths[name] = wanted
    changed = {name: one for name, one in widths.items() if one != tuple(fresh.state_dict()[name].shape)}
    if changed:
        narrowing.narrow(fresh, changed)


def narrower(model: str, num_classes: int, state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes in `state` that are smaller than the network's own: those of a pruned one."""
    whole = states.skeleton(lambda: zoo.build(model, num_classes=num_classes))
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    return {name: shape for name, shape in shapes.items() if shape != tuple(whole[name].shape)}


def _soften(network: nn.Module, seed: int) -> None:
    """Give a new head small weights, whatever its library gives it: on trained features, which can be large,
    others answer at random with great confidence, and the first gradients would damage the features."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        initialise_classifier(classifier_of(network))


def head_of(model: str, num_classes: int) -> frozenset[str]:
    """The names of the parameters whose shape depends on the number of classes."""
    one = states.skeleton(lambda: zoo.build(model, num_classes=num_classes))
    other = states.skeleton(lambda: zoo.build(model, num_classes=num_classes + 1))
    return frozenset(name for name, value in one.items() if other[name].shape != value.shape)


def has_classes(model: str, weights: str | Path, checks: Mapping[str, Any], classes: tuple[str, ...]) -> bool:
    """Whether the outputs of `weights` are these classes, by name or identifier, in this order."""
    facts = zoo.facts(model, weights, ema=checks.get("ema"))
    if facts.label_names is not None:
        return facts.label_names == classes
    if facts.labels is None or "labels" in facts.assumed:
        return False
    known = labels.resolve(facts.labels)
    return classes in (known.names, known.ids)


def check_size(network: nn.Module, model: str, side: int) -> None:
    """Raise InvalidInputError unless the network takes pictures of `side` pixels a side."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            like = next(network.parameters())
            network(torch.zeros(1, 3, side, side, dtype=like.dtype, device=like.device))
    except (RuntimeError, ValueError, AssertionError, VertebraError) as error:
        found = zoo.find(model)
        reason = error.message if isinstance(error, VertebraError) else (str(error).splitlines() or [""])[0]
        takes = f"{found.input_size}x{found.input_size}" + (
            "" if found.fixed_size else f", or others from {found.min_size}x{found.min_size} up"
        )
        raise InvalidInputError(
            f"The recipe gives pictures of {side}x{side}, which {model} doesn't take: {reason}",
            f"choose an input size that it takes ({takes}): --set input_size={found.input_size}",
        ) from error
    finally:
        network.train(was_training)
