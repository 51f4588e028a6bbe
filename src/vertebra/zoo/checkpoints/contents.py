"""Where in a checkpoint a network's parameters are: training programs keep them beside their own state.

>>> import numpy as np
>>> state = {"fc.weight": np.zeros((2, 3))}
>>> find("last.pth", {"epoch": 3, "optimizer": {}, "state_dict": state}).under
'state_dict'
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vertebra.errors import WeightsError
from vertebra.zoo.checkpoints.torch_files import Odd
from vertebra.zoo.compressed import KEY

Array = np.ndarray[Any, Any]

#: Names under which training programs keep a network's parameters, and their averages over the training.
RAW = (
    "state_dict", "model", "model_state_dict", "model_state", "model_weights", "net", "net_state_dict",
    "network", "network_state_dict", "module", "weights", "params", "parameters", "checkpoint", "state",
)  # fmt: skip
AVERAGED = (
    "state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema",
    "ema_model_state_dict", "ema_state", "params_ema", "swa_state_dict", "swa_model", "averaged_model",
)  # fmt: skip
#: Beginnings of the names of what is no network.
_TRAINING = (
    "optim", "opt", "lr_", "sched", "scaler", "grad_scaler", "amp", "loss_scaler", "callback", "loop", "args",
    "hyper", "hparam", "config", "cfg", "rng", "random", "meta", "history", "criterion", "loss", "metric",
    "dataloader",
)  # fmt: skip

#: a prefix of averaged weights
AVERAGED_PREFIX = re.compile(r"([^.]*[._])?(ema|swa|averaged?)[._]", re.IGNORECASE)

MAX_LENGTH = 500  # of a name
MAX_NAMES = 100_000  # the deepest networks have 5,000
_PADDLE_NAMES = "StructuredToParameterName@@"
_PADDLE_SPLIT = "UnpackBigParamInfor@@"


@dataclass(frozen=True)
class Found:
    """Named arrays, `under` which names of the file ("" for the file itself), whether they are `averaged`
    ones, whether the others are there too (`has_both`), and the names `beside` them, which were passed
    over."""

    arrays: Mapping[str, Array]
    under: str = ""
    averaged: bool = False
    has_both: bool = False
    beside: tuple[str, ...] = ()

    def left_of(self, ema: bool | None) -> bool | None:
        """The part of the choice `ema` that prefixes of names must still decide."""
        return None if self.has_both or self.averaged else ema


class _Candidate(NamedTuple):
    under: tuple[str, ...]
    averaged: bool
    content: Mapping[Any, Any]


def find(path: str | Path, content: object, ema: bool | None = None) -> Found:
    """The parameters in a checkpoint's `content`, averaged ones first unless `ema` is False.

    Raises WeightsError where there are none, where `ema` asks for what isn't there, and where it can't be
    told which of several networks is meant.
    """
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} contains a {_kind(content)}; named arrays were expected.",
            "save the network's state dict",
        )
    candidates = list(_wrapped(content, (), False)) or _unwrapped(path, content)
    averaged = [one for one in candidates if one.averaged]
    raw = [one for one in candidates if not one.averaged]
    if ema is not None and not (averaged if ema else raw) and not (ema and _may_hold_averages(raw)):
        held = ", ".join(".".join(one.under) or "the file" for one in candidates)
        raise WeightsError(
            f"{path} holds no {'averaged' if ema else 'raw'} weights, only {held}.",
            "leave out --ema and --no-ema (in Python: ema)",
        )
    chosen = (raw if ema is False or not averaged else averaged)[0]
    return Found(
        _named(path, chosen.content),
        ".".join(chosen.under),
        chosen.averaged,
        has_both=bool(averaged and raw),
        beside=_beside(content, chosen),
    )


def _may_hold_averages(candidates: list[_Candidate]) -> bool:
    """Whether names in one of them may be of averaged weights, beside raw ones under another prefix."""
    return any(AVERAGED_PREFIX.match(f"{name}") for one in candidates for name in one.content)


def _wrapped(content: Mapping[Any, Any], under: tuple[str, ...], averaged: bool) -> Iterator[_Candidate]:
    """The parameters under the names of `RAW` and `AVERAGED`, in this order, the innermost ones."""
    for key in (*RAW, *AVERAGED):
        inner = content.get(key)
        if not isinstance(inner, Mapping) or len(under) > 2:
            continue
        place, is_average = (*under, key), averaged or key in AVERAGED
        deeper = list(_wrapped(inner, place, is_average))
        if deeper:
            yield from deeper
        elif _has_arrays(inner):
            yield _Candidate(place, is_average, inner)
        else:
            yield from _under_any_name(inner, place, is_average)
    if not under and sum(_is_named(name, value) and "." in name for name, value in content.items()) > 1:
        yield _Candidate((), False, content)


def _unwrapped(path: str | Path, content: Mapping[Any, Any]) -> list[_Candidate]:
    if _has_arrays(content):
        return [_Candidate((), False, content)]
    candidates = list(_under_any_name(content, (), False))
    if len(candidates) > 1:
        names = ", ".join(".".join(one.under) for one in candidates)
        raise WeightsError(
            f"{path} holds several networks: {names}.", "save the state dict of the one that is meant"
        )
    return candidates or [_Candidate((), False, content)]


def _under_any_name(
    content: Mapping[Any, Any], under: tuple[str, ...], averaged: bool
) -> Iterator[_Candidate]:
    for key, inner in content.items():
        if (
            isinstance(key, str)
            and isinstance(inner, Mapping)
            and not _is_training(key)
            and _has_arrays(inner)
        ):
            yield _Candidate((*under, key), averaged, inner)


def _beside(content: Mapping[Any, Any], chosen: _Candidate) -> tuple[str, ...]:
    """The names in the file that were passed over."""
    if chosen.under:
        return tuple(str(name) for name in content if name not in (chosen.under[0], _PADDLE_NAMES, KEY))
    passed_over = (name for name, value in content.items() if not _is_named(name, value))
    return tuple(str(name) for name in passed_over if name != _PADDLE_NAMES)


def _named(path: str | Path, content: Mapping[Any, Any]) -> dict[str, Array]:
    if _PADDLE_SPLIT in content:
        raise WeightsError(
            f"{path} contains arrays in pieces, as Paddle splits those above 1 GiB.",
            "save it again with Paddle's pickle protocol 4",
        )
    arrays: dict[str, Array] = {}
    for name, value in content.items():
        if _is_named(name, value):
            arrays |= _flat(name, value)
        elif name != _PADDLE_NAMES and not (isinstance(name, str) and _is_training(name)):
            _refuse_parts(path, name, value)
        if isinstance(name, str) and len(name) > MAX_LENGTH:
            raise WeightsError(f"{path} has a name of {len(name):,} characters.", "save the state dict alone")
        if len(arrays) > MAX_NAMES:
            raise WeightsError(f"{path} names more than {MAX_NAMES:,} arrays.", "save the state dict alone")
    if not arrays:
        raise WeightsError(f"{path} contains no arrays.", "use a checkpoint of a network's parameters")
    return arrays


def _flat(name: str, value: Any) -> dict[str, Array]:
    """The array, or those of a list as name.0, name.1, …"""
    if isinstance(value, np.ndarray):
        return {name: value}
    return {f"{name}.{index}": item for index, item in enumerate(value[:MAX_NAMES])}


def _refuse_parts(path: str | Path, name: object, value: object) -> None:
    """Raise WeightsError for what may be a part of the network: numbers of another kind, and dicts of arrays.
    Texts, numbers and the like are passed over."""
    if isinstance(value, Odd):
        raise WeightsError(
            f"{path} contains {name} as a {value.kind} tensor.", "save plain tensors of numbers"
        )
    if (isinstance(value, Mapping) and _has_arrays(value)) or (isinstance(value, list) and _some(value)):
        raise WeightsError(
            f"{path} contains a {_kind(value)} under {str(name)[:100]!r}; an array was expected.",
            "save only the network's state dict",
        )


def _some(values: list[Any]) -> bool:
    return any(isinstance(value, np.ndarray | Odd) for value in values)


def _has_arrays(content: Mapping[Any, Any]) -> bool:
    return any(_is_named(name, value) or isinstance(value, Odd) for name, value in content.items())


def _is_named(name: object, value: object) -> bool:
    if not isinstance(name, str) or name == _PADDLE_NAMES:
        return False
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, np.ndarray) for item in value)
    return isinstance(value, np.ndarray)


def _is_training(name: str) -> bool:
    return name.lower().lstrip("_").startswith(_TRAINING)


def _kind(value: object) -> str:
    return type(value).__name__.lower()
