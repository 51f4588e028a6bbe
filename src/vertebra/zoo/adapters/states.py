"""Checkpoints of other libraries' networks, fitted by name or, where the names differ, by order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vertebra.errors import WeightsError
from vertebra.zoo import checkpoints, weights

_COUNTER = ".num_batches_tracked"


def read(source: str | Path, checks: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file or an address by their names there, in its order.

    `checks` are `sha256` and `accept_unverified`, of which only the first matters here.
    Raises WeightsError, DownloadError and MissingRuntimeError.
    """
    path = weights.file_of(source, sha256=checks.get("sha256"))
    arrays = weights.without_wrapping(checkpoints.read(path))
    # Always a copy: the state owns its memory and doesn't change with the arrays.
    state = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
    weights.check_finite(state)
    return state


def held_classes(state: Mapping[str, Tensor], classifiers: Iterable[str], otherwise: int) -> int:
    """The checkpoint's number of classes: by its classifier, or `otherwise` where none is there."""
    for name in classifiers:
        for part in (f"{name}.bias", f"{name}.weight"):
            if part in state:
                return len(state[part])
    return otherwise


def check_classes(model: str, source: str | Path, held: int, asked: int | None) -> None:
    """Raise WeightsError unless the count of classes that is asked for, if any, is the one held."""
    if asked is not None and asked != held:
        raise WeightsError(
            f"{source} has {held} classes; {asked} were asked for {model}.",
            f"build it with num_classes={held}, or leave num_classes out",
        )


def by_name(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """`state` as a state dict of the names and shapes of `like`, or None where its names or shapes differ.

    Counters of batches may be missing, and are then 0.
    """
    if _without_counters(like) != _without_counters(state):
        return None
    return {name: state.get(name, torch.zeros_like(like[name])) for name in like}


def by_order(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """`state`, which has other names, with those of `like`; None unless every shape agrees in order."""
    ours, theirs = _without_counters(like), _without_counters(state)
    if list(ours.values()) != list(theirs.values()) or set(ours) & set(theirs):
        return None  # common names mean that the other names should match too
    renamed = {mine: state[other] for mine, other in zip(ours, theirs, strict=True)}
    return {name: renamed.get(name, torch.zeros_like(like[name])) for name in like}


def refusal(model: str, state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> WeightsError:
    """The error that names the first difference between `state` and `like`."""
    ours, theirs = _without_counters(like), _without_counters(state)
    hint = "check that the file belongs to exactly this network and variant"
    shared = ours.keys() & theirs.keys()
    for name in ours:
        if name in shared and ours[name] != theirs[name]:
            reason = f"{name} has the shape {theirs[name]}; {ours[name]} was expected"
            return WeightsError(f"The weights don't fit {model}: {reason}.", hint)
    if shared:
        missing, more = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
        reason = f"{len(missing)} missing {missing[:3]}, {len(more)} unexpected {more[:3]}"
        return WeightsError(f"The weights don't fit {model}: {reason}.", hint)
    return WeightsError(f"The weights don't fit {model}: {_first_difference(ours, theirs)}.", hint)


def _first_difference(ours: Mapping[str, object], theirs: Mapping[str, object]) -> str:
    if len(ours) != len(theirs):
        return f"none of their names is known, and there are {len(theirs)} where {len(ours)} are needed"
    pairs = zip(ours.items(), theirs.items(), strict=True)
    place, (mine, other) = next((place, pair) for place, pair in enumerate(pairs) if pair[0][1] != pair[1][1])
    return (
        f"none of their names is known, and by order entry {place}, {other[0]}, has the shape {other[1]} "
        f"where {mine[0]} needs {mine[1]}"
    )


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(values.shape) for name, values in state.items() if not name.endswith(_COUNTER)}
