"""Checkpoints of other libraries' networks, fitted by name or, where the names differ, by order."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vertebra.errors import WeightsError
from vertebra.zoo import checkpoints, dialects, renaming, weights
from vertebra.zoo.checkpoints import prefixes

_COUNTER = ".num_batches_tracked"
BY_ORDER = "its names are not the network's; its entries were matched by their order and shapes"
_LARGEST = 4096  # pixels a side of a network's pictures


@dataclass(frozen=True)
class Read:
    """The tensors of a file by the network's own names as far as they are known, the name of these weights,
    and lines on what was taken out of the file."""

    state: dict[str, Tensor]
    name: str
    notes: tuple[str, ...] = ()

    def noting(self, note: str) -> Read:
        """The same with one more line."""
        return replace(self, notes=(*self.notes, f"{Path(self.name).name}: {note}"))


class Fit(NamedTuple):
    """A checkpoint that fits a network: its `state` by the network's names, or a `network` that another way
    of loading made, its number of classes, the side of the pictures where the file decides it, and further
    arguments of the network's function."""

    read: Read
    num_classes: int
    state: dict[str, Tensor] | None = None
    network: nn.Module | None = None
    size: int | None = None
    more: Mapping[str, Any] = MappingProxyType({})


def read(model: str, source: str | Path, checks: Mapping[str, Any], wanted: Collection[str]) -> Read:
    """The tensors of a file or an address for the network `model`, in the file's order, without what is
    before all names of `wanted`, the network's own, which they get where a rule of `renaming` knows them.

    Of `checks`, `sha256` is what the file must have, and `ema` whether averaged weights are to be taken.
    Raises WeightsError, DownloadError and MissingRuntimeError.
    """
    path = weights.file_of(source, sha256=checks.get("sha256"))
    found = checkpoints.take(path, ema=checks.get("ema"))
    names = {name for name in wanted if not name.endswith(_COUNTER)}
    arrays, note = renaming.renamed(model, found.arrays, names)
    bare = prefixes.without(arrays, names, found.left_of(checks.get("ema")))
    # Always a copy: the state owns its memory and doesn't change with the arrays.
    state = {name: torch.from_numpy(np.array(array, order="C")) for name, array in bare.state.items()}
    dialects.check_finite(state)
    taken = Read(state, prefixes.called(source, found, bare), prefixes.told(source, found, bare))
    return taken if note is None else taken.noting(note)


def skeleton(make: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """The names and shapes of the network that `make` makes, without values where it can be made so."""
    try:
        with torch.device("meta"):
            return make().state_dict()
    except (RuntimeError, NotImplementedError, TypeError):
        return make().state_dict()


def load(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put `state`, of exactly the network's names and shapes, into it."""
    whole: Any = OrderedDict(state)
    # Some of torchvision's networks ask for the version of their layers.
    whole._metadata = cast(Any, network.state_dict())._metadata
    network.load_state_dict(whole)


class NoResampling(TorchFunctionMode):
    """Refuses, with RuntimeError, to resample parameters: a network for pictures of another size."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.interpolate, F.grid_sample):
            raise RuntimeError("the parameters are for another size of pictures")
        return func(*args, **(kwargs or {}))


def sizes(state: Mapping[str, Tensor], like: Mapping[str, Tensor], side: int) -> list[int]:
    """The sides of pictures for which the position embeddings in `state` may have been made, by those of a
    network for pictures of `side` pixels, `like`."""
    found: dict[int, None] = {}
    for name in like.keys() & state.keys():
        theirs, ours = tuple(state[name].shape), tuple(like[name].shape)
        if theirs != ours and len(theirs) == len(ours):
            found |= dict.fromkeys(
                side * other // own for own, other in _grids(ours, theirs) if side * other % own == 0
            )
    return [size for size in found if size <= _LARGEST]


def _grids(ours: tuple[int, ...], theirs: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """How many patches a side two position embeddings may be for: (1, tokens, D), (1, D, H, W), (1, H, W, D),
    or tables of relative positions (entries, heads)."""
    if len(ours) == 3:
        for extra in range(6):  # tokens that are no patch
            own, other = _root(ours[1] - extra), _root(theirs[1] - extra)
            if own and other:
                yield own, other
    if len(ours) == 4 and ours[0] == theirs[0] == 1:
        yield from {pair for pair in zip(ours[1:], theirs[1:], strict=True) if pair[0] != pair[1]}
    if len(ours) == 2 and ours[1] == theirs[1]:
        for extra in (0, 3):
            own, other = _root(ours[0] - extra), _root(theirs[0] - extra)
            if own and other and own % 2 == other % 2 == 1:
                yield (own + 1) // 2, (other + 1) // 2


def _root(value: int) -> int:
    """The square root of a square number; 0 for others."""
    root = math.isqrt(max(0, value))
    return root if root * root == value else 0


def with_own_head(
    read: Read, like: Mapping[str, Tensor], classifiers: Iterable[str]
) -> tuple[Read, str | None]:
    """The same with the classifier under the network's own name where it was replaced by another single layer
    (`fc.1` of dropout and a linear layer, or `classifier` in place of `classifier.1`); and what its layers
    are called where the head is of another form."""
    state = read.state
    for own in classifiers:
        root = own.partition(".")[0] + "."
        if f"{own}.weight" in state or f"{own}.weight" not in like:
            continue
        kept = {name for name in like if name.startswith(root) and not name.startswith(f"{own}.")}
        there = {name for name in state if name.startswith(root)}
        more = sorted(there - kept)
        found = next((name for name in more if name.endswith(".weight")), "").removesuffix(".weight")
        if not kept <= there or not _is_one_layer(more, found, state, like[f"{own}.weight"]):
            return read, ", ".join(more[:4]) or None
        renamed = {_moved(name, found, own): value for name, value in state.items()}
        note = f"took {found} as the network's {own}: the layers around it have no parameters"
        return replace(read, state=renamed).noting(note), None
    return read, None


def _is_one_layer(more: list[str], found: str, state: Mapping[str, Tensor], like: Tensor) -> bool:
    if not found or more != [f"{found}.bias", f"{found}.weight"]:
        return False
    return state[f"{found}.weight"].shape[1:] == like.shape[1:]


def _moved(name: str, old: str, new: str) -> str:
    return f"{new}{name.removeprefix(old)}" if name in (f"{old}.bias", f"{old}.weight") else name


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
    return {name: state[name] if name in state else _zero(like[name]) for name in like}


def by_order(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """`state`, which has other names, with those of `like`; None unless every shape agrees in order."""
    ours, theirs = _without_counters(like), _without_counters(state)
    if list(ours.values()) != list(theirs.values()) or set(ours) & set(theirs):
        return None  # common names mean that the other names should match too
    renamed = {mine: state[other] for mine, other in zip(ours, theirs, strict=True)}
    return {name: renamed[name] if name in renamed else _zero(like[name]) for name in like}


def _zero(like: Tensor) -> Tensor:
    """A counter that the checkpoint lacks; `like` may have no values."""
    return torch.zeros(like.shape, dtype=like.dtype, device="cpu")


def refusal(
    model: str, state: Mapping[str, Tensor], like: Mapping[str, Tensor], head: str | None = None
) -> WeightsError:
    """The error that names the first difference between `state` and `like`; `head` are the names of a
    classifier of another form."""
    ours, theirs = _without_counters(like), _without_counters(state)
    hint = "check that the file belongs to exactly this network and variant"
    if head and ours.keys() & theirs.keys():
        hint = f"its head ({head}) is not the network's own; export that network to ONNX and pass onnx:FILE"
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
