"""The counts of every network of the catalogue as they ship: totals at native size, read without torch.

`python tools/catalogue.py` rewrites the file behind this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

FILE = "catalogue.csv"


class Count(NamedTuple):
    """One network's totals for one image, as `profiler.Profile` defines them."""

    model: str
    input_size: int
    params: int
    unused_params: int
    buffers: int
    macs_conv: int
    macs_linear: int
    activations: int
    weight_bytes: int
    macs_fvcore: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates: `macs_conv` and `macs_linear` together."""
        return self.macs_conv + self.macs_linear


@cache
def counts() -> Mapping[str, Count]:
    """The counts of every network, by its name."""
    text = files("vertebra.rows").joinpath(FILE).read_text(encoding="utf-8")
    lines = (line.split(",") for line in text.splitlines()[1:])
    return {line[0]: Count(line[0], *map(int, line[1:])) for line in lines}


def find(model: str) -> Count | None:
    """The count of a network by its name, with or without its weights' tag; None where none ships."""
    return counts().get(model) or counts().get(model.partition(".")[0])


def encode(told: Iterable[Count]) -> str:
    """The text of the shipped file: one line a network."""
    lines = [",".join(map(str, one)) for one in told]
    return "\n".join([",".join(Count._fields), *lines, ""])
