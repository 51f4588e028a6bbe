"""The shipped profiles of the zoo's networks: layers, stages and totals at native size, read without torch.

`python tools/profiles.py` rewrites the files that this module reads; a test compares them with a new count.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from vertebra.errors import UnknownNameError
from vertebra.measurements.shipped import catalogue

#: The file of each collection of networks, `Model.collection`.
FILES = {
    "classics": "classics_layers.json",
    "further": "classics_layers.json",
    "papers": "papers_layers.json",
}


class Layer(NamedTuple):
    """One call of one module, with what it adds to its network's totals.

    `name` is the module's dotted path. `output_shape` is the shape of the first returned tensor, including
    the batch of 1. A module that is called again is another layer, without parameters.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    activations: int

    @property
    def stage(self) -> str:
        """The part of the network: `stem`, `stages.0`, …, `head`, or the first part of another path."""
        parts = self.name.split(".")
        return ".".join(parts[:2] if parts[0] == "stages" else parts[:1])


class Stage(NamedTuple):
    """The sum over the layers of one part of a network, in call order, and the shape of that part's
    output."""

    name: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    activations: int


def models() -> tuple[str, ...]:
    """The networks whose profiles ship."""
    return tuple(_shipped())


def layers(model: str) -> list[Layer]:
    """The layers of `model`, by its own name, at its native size. Raises UnknownNameError."""
    return [Layer(row[0], row[1], tuple(row[2]), *row[3:]) for row in _profile(model)["layers"]]


def stages(model: str) -> list[Stage]:
    """The stages of `model`, by its own name, at its native size. Raises UnknownNameError."""
    return [Stage(row[0], tuple(row[1]), *row[2:]) for row in _profile(model)["stages"]]


def totals(model: str) -> dict[str, int]:
    """The totals of `model` by metric, with `macs_conv`, `macs_linear` and the `input_size` that they belong
    to.

    Works for timm's and torchvision's networks too. Raises UnknownNameError.
    """
    count = catalogue.find(model) if ":" in model else None
    if count is None:
        return dict(_profile(model)["totals"])
    return count.totals()


def encode(profiles: dict[str, dict[str, Any]]) -> str:
    """The text of the shipped file: one line per layer, so that a diff shows what changed."""
    return "{\n" + ",\n".join(_encode(name, one) for name, one in profiles.items()) + "\n}\n"


def _encode(name: str, profile: dict[str, Any]) -> str:
    stages_ = ",\n".join(_compact(row) for row in profile["stages"])
    layers_ = ",\n".join(_compact(row) for row in profile["layers"])
    return (
        f'"{name}":{{"totals":{_compact(profile["totals"])},\n'
        f'"stages":[\n{stages_}],\n"layers":[\n{layers_}]}}'
    )


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _profile(model: str) -> dict[str, Any]:
    shipped = _shipped()
    if model not in shipped:
        raise UnknownNameError.of("shipped profile", model, shipped, "vertebra list")
    return shipped[model]


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    shipped: dict[str, dict[str, Any]] = {}
    for file in dict.fromkeys(FILES.values()):
        shipped |= json.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    return shipped
