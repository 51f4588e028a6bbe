"""The shipped published tables: lines of cells as they were printed, read without torch.

`python tools/published.py FOLDER` rewrites the files that this module reads.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple


class Benchmark(NamedTuple):
    """One of timm's tables of inference speed: the name of its file, and a figure per network and size.

    `figures` maps (model, weights, input size) to (batch size, images per second); `weights` is "" except for
    networks whose name at that time included the weights.
    """

    name: str
    figures: dict[tuple[str, str, int], tuple[int, float]]


def printed(name: str) -> Iterator[dict[str, str]]:
    """The lines of a shipped table, cells by column, as text."""
    yield from csv.DictReader(_text(name).splitlines())


def benchmarks() -> list[Benchmark]:
    """timm's tables of inference speed: images per second on its authors' machines, and the batch sizes."""
    reader = csv.reader(_text("timm_benchmarks.csv.gz").splitlines())
    tables = [Benchmark(name, {}) for name in next(reader)[3:]]
    for model, weights, input_size, *cells in reader:
        key = (model, weights, int(input_size))
        for table, cell in zip(tables, cells, strict=True):
            if cell:
                batch_size, _, rate = cell.partition(":")
                table.figures[key] = (int(batch_size), float(rate))
    return tables


def _text(name: str) -> str:
    content = files("vertebra.measurements.shipped").joinpath(name).read_bytes()
    return (gzip.decompress(content) if name.endswith(".gz") else content).decode("utf-8")
