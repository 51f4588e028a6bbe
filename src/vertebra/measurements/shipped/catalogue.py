"""The shipped counts of every network of the catalogue: totals at native size, read without torch.

`python tools/catalogue.py` rewrites the file that this module reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path

FILE = "catalogue.csv"


@dataclass(frozen=True)
class Count:
    """The totals of one network for one image of `input_size`, by the definitions in `vertebra.metrics`.

    Parameters that layers share are counted once. `unused_params` are those that the answer does
    not depend on, such as an auxiliary classifier's: no other figure here includes them. `buffers` holds
    every stored one, batch norms' step counters too, so that `weight_bytes` (float32, counters as they
    are) is the size of what is stored. `macs_linear` covers fully connected layers and all other matrix
    products. `macs_fvcore` is what fvcore's rule gives, by which timm publishes its counts.
    """

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

    def totals(self) -> dict[str, int]:
        """The figures of the whole network, by metric, and the `input_size` that they belong to."""
        names = ("input_size", "params", "buffers", "weight_bytes", "macs", "macs_conv", "macs_linear")
        return {name: getattr(self, name) for name in (*names, "activations")}


@cache
def counts() -> Mapping[str, Count]:
    """The counts of every network, by its name."""
    text = Path(__file__).with_name(FILE).read_text(encoding="utf-8")
    lines = (line.split(",") for line in text.splitlines()[1:])
    return {line[0]: Count(line[0], *map(int, line[1:])) for line in lines}


def find(model: str) -> Count | None:
    """The count of a network by its name, with or without its weights' tag; None if none ships."""
    return counts().get(model) or counts().get(model.partition(".")[0])


def encode(every: Iterable[Count]) -> str:
    """The text of the shipped file: one line per network."""
    lines = [",".join(map(str, astuple(one))) for one in every]
    return "\n".join([",".join(field.name for field in fields(Count)), *lines, ""])
