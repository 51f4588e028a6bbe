"""The shipped published tables: lines of cells as they were printed, read without torch.

`python tools/published.py FOLDER` rewrites the files that this module reads.
"""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

#: What zlib calls gzip's format; the module gzip takes a moment to import.
_GZIP = 31


class Benchmark(NamedTuple):
    """One of timm's tables of inference speed: the name of its file, and a figure per network and size.

    `figures` maps (model, weights, input size) to (batch size, images per second); `weights` is "" except for
    networks whose name at that time included the weights.
    """

    name: str
    figures: dict[tuple[str, str, int], tuple[int, float]]


def printed(name: str) -> Iterator[dict[str, str]]:
    """The lines of a shipped table, cells by column, as text."""
    lines = csv.reader(_text(name).splitlines())
    columns = next(lines)
    for cells in lines:
        yield dict(zip(columns, cells, strict=True))


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


def rates(wanted: Mapping[tuple[str, int], int]) -> tuple[tuple[str, ...], list[list[float]]]:
    """The names of timm's tables of inference speed, and for each place in `wanted`, which maps a network and
    an input size to it, the images per second in each table, not a number where a table lacks them. Where a
    network's name included its weights at one time, the last line counts."""
    lines = iter(_text("timm_benchmarks.csv.gz").splitlines())
    names = tuple(next(lines).split(",")[3:])
    found = [[math.nan] * len(names) for _ in wanted]
    for line in lines:
        model, _, input_size, *cells = line.split(",")
        place = wanted.get((model, int(input_size)))
        if place is None:
            continue
        for table, cell in enumerate(cells):
            if cell:
                found[place][table] = float(cell.partition(":")[2])
    return names, found


def _text(name: str) -> str:
    content = Path(__file__).with_name(name).read_bytes()
    return (zlib.decompress(content, _GZIP) if name.endswith(".gz") else content).decode("utf-8")
