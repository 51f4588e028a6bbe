"""FILL: published figures as rows, each with its source, unit and convention.

The figures are data files of the package (`rows/`), as they were printed. Each kind of source has a file
here; `tables` reads your own tables. An accuracy belongs to its weights, its input size and its source, and
is never combined with another by the name of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vertebra.errors import UnknownNameError
from vertebra.measurements import Measurement
from vertebra.measuring.citations import libraries, papers
from vertebra.measuring.citations import paddleclas as _paddleclas
from vertebra.measuring.citations.paddleclas import DISPUTED, EDITIONS, paddleclas

__all__ = ["DISPUTED", "EDITIONS", "SOURCES", "Source", "find", "paddleclas", "read_table"]


def read_table(
    path: str | Path, mapping: str, *, source: str | None = None, decimal: str | None = None,
    **fixed: str | None,
) -> list[Measurement]:  # fmt: skip
    """The rows of your own table; see `tables.read_table`."""
    from vertebra.measuring.citations import tables

    return tables.read_table(path, mapping, source=source, decimal=decimal, **fixed)


@dataclass(frozen=True)
class Source:
    """Figures that ship with the package: `read` makes their rows."""

    name: str
    read: Callable[[], list[Measurement]]
    what: str
    origin: str


_ENTRIES = (
    Source(
        "paddleclas",
        paddleclas,
        "accuracy, counts and latency of the eleven classics, with known misprints",
        _paddleclas.PAGE,
    ),
    Source(
        "imagenet",
        libraries.accuracies,
        "ImageNet accuracy of timm's and torchvision's weights, each at its input sizes",
        f"{libraries.TIMM}; {libraries.TORCHVISION}",
    ),
    Source(
        "complexity",
        libraries.complexities,
        "parameters, MACs, activations and file sizes as timm and torchvision state them",
        f"{libraries.TIMM}; {libraries.TORCHVISION}",
    ),
    Source(
        "timm",
        libraries.throughputs,
        "images per second of timm's networks on its authors' GPUs and CPUs",
        libraries.TIMM,
    ),
    Source(
        "bianco2018",
        papers.bianco2018,
        "accuracy and recounted complexity of the networks of Bianco et al. 2018",
        papers.BIANCO,
    ),
    Source(
        "canziani2016",
        papers.canziani2016,
        "accuracy and operations of Canziani et al. 2016, as others read them off its charts",
        papers.CANZIANI,
    ),
    Source(
        "catalogue",
        libraries.counts,
        "our own counts of every network of ours, timm and torchvision, at native size",
        "counted by vertebra",
    ),
)

SOURCES: dict[str, Source] = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> Source:
    """The source called `name`. Raises UnknownNameError with close matches."""
    source = SOURCES.get(name.lower())
    if source is None:
        raise UnknownNameError.of("source of figures", name, SOURCES, "vertebra list sources")
    return source
