"""What compression leaves beside a network's weights: narrower layers, and the ranges of its activations.

A file of weights holds it in its record, a text in JSON that may say more, so that the network can be built
and exported again without the code that made it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vertebra.errors import WeightsError

#: the name of the record in a file of weights
KEY = "vertebra"

Range = tuple[float, float]
#: the names of a network's parameters and buffers that pruning made smaller, and their shapes
Widths = Mapping[str, tuple[int, ...]]

_T = TypeVar("_T")
_MOST_NAMES = 100_000
_MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Ranges:
    """The ranges that a network's activations were trained for. `inputs` and `outputs` are of what each layer
    takes and gives, by its name; `joins` of the results of additions and the like, by the kind that ONNX
    calls them, in the order of calls. Each range holds 0."""

    inputs: Mapping[str, Range] = field(default_factory=dict)
    outputs: Mapping[str, Range] = field(default_factory=dict)
    joins: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Compressed:
    """`widths` is empty where nothing was pruned, `ranges` None where nothing was trained in eight bits."""

    widths: Widths = field(default_factory=dict)
    ranges: Ranges | None = None

    def __bool__(self) -> bool:
        return bool(self.widths) or self.ranges is not None

    def to_dict(self) -> dict[str, Any]:
        """The keys of a file's record that say it; none for a network that isn't compressed."""
        told: dict[str, Any] = {}
        if self.widths:
            told["widths"] = {name: list(shape) for name, shape in self.widths.items()}
        if self.ranges is not None:
            told["ranges"] = {
                "inputs": {name: list(ends) for name, ends in self.ranges.inputs.items()},
                "outputs": {name: list(ends) for name, ends in self.ranges.outputs.items()},
                "joins": {kind: [list(ends) for ends in every] for kind, every in self.ranges.joins.items()},
            }
        return told

    def to_json(self) -> str:
        """The record, with nothing else in it."""
        return json.dumps({"version": 1, **self.to_dict()})


def read(text: str) -> Compressed:
    """The record in a file of weights. Raises WeightsError for any other text."""
    try:
        told = json.loads(text)
        if not isinstance(told, dict) or told.get("version") != 1:
            raise ValueError("a record of another version")
        ranges = told.get("ranges")
        widths = _named(told.get("widths", {}), _shape)
        return Compressed(widths, None if ranges is None else _ranges(ranges))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(
            f"The file's record of a compressed network can't be read: {error}.",
            "use the file as training wrote it, of this version or an earlier one",
        ) from error


def _ranges(told: Mapping[str, Any]) -> Ranges:
    def several(values: Any) -> tuple[Range, ...]:
        if not isinstance(values, list):
            raise ValueError("ranges that aren't a list")
        return tuple(map(_range, values))

    inputs, outputs = (_named(told[name], _range) for name in ("inputs", "outputs"))
    return Ranges(inputs, outputs, _named(told["joins"], several))


def _named(values: Any, take: Callable[[Any], _T]) -> dict[str, _T]:
    if not isinstance(values, dict) or len(values) > _MOST_NAMES:
        raise ValueError("a part that isn't an object")
    return {name: take(value) for name, value in values.items()}


def _range(value: Any) -> Range:
    low, high = value
    if not (math.isfinite(low) and math.isfinite(high) and low <= 0 <= high):
        raise ValueError(f"the range {low} to {high}, in which 0 isn't")
    return float(low), float(high)


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MOST_DIMENSIONS:
        raise ValueError("a shape that isn't a list")
    if any(type(one) is not int or one < 1 for one in value):
        raise ValueError(f"the shape {value}")
    return tuple(value)
