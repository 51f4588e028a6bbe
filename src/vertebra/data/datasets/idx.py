"""The MNIST family's idx files, plain or gzipped: grey pictures and their labels, as two files.

Source of the format: http://yann.lecun.com/exdb/mnist/. Header: two zeros, the kind of number (8: uint8), how
many dimensions, then each dimension as 32 bits, the highest byte first.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vertebra.data.datasets import splits
from vertebra.data.datasets.dataset import Dataset, Sample, empty
from vertebra.errors import InvalidInputError

FORMAT = "idx files"

_NAME = re.compile(r"(.*?)[-_.]?(images|labels)[-_.]idx([13])[-_]ubyte(\.gz)?", re.IGNORECASE)
_MOST_PIXELS = 2**24


def pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Split -> its file of pictures and its file of labels, where `folder` holds both."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match and path.is_file():
            prefix = match[1].lower()
            found.setdefault((splits.named(prefix) or prefix or "all", match[2].lower()), path)
    there = dict.fromkeys(split for split, _ in found)
    return {
        split: (found[split, "images"], found[split, "labels"])
        for split in there
        if {(split, "images"), (split, "labels")} <= found.keys()
    }


def open_idx(images: Path, labels: Path, *, name: str, split: str | None) -> Dataset:
    """Pictures as pixels (H, W, 3), the grey repeated, read one by one.

    Raises InvalidInputError where a file isn't an idx file of this kind, is cut short, or the counts of the
    two differ.
    """
    targets = _labels(labels)
    count, height, width = _shape(images, 3)
    if count != len(targets):
        raise InvalidInputError(
            f"{images} has {count} pictures; {labels} has {len(targets)} labels.",
            "use two files of the same split",
        )
    if not count:
        raise empty(images, FORMAT)
    if not 0 < height * width <= _MOST_PIXELS:
        raise InvalidInputError(
            f"{images} has pictures of {width} × {height} pixels; 1 to {_MOST_PIXELS:,} are allowed."
        )

    def read() -> Iterator[Sample]:
        return _samples(images, targets, height, width)

    largest = max(range(count), key=targets.__getitem__)
    at = f"{labels}, number {largest}"
    return Dataset(name, split, FORMAT, None, targets[largest] + 1, count, at, read)


def _samples(images: Path, targets: bytes, height: int, width: int) -> Iterator[Sample]:
    import numpy as np

    with _opened(images) as stream:
        stream.read(16)
        for number, label in enumerate(targets):
            data = stream.read(height * width)
            if len(data) < height * width:
                raise InvalidInputError(f"{images} is cut short at picture {number}.", "download it again")
            grey = np.frombuffer(data, np.uint8).reshape(height, width, 1)
            yield Sample(np.repeat(grey, 3, axis=2), label, f"{images.name}[{number}]")


def _labels(path: Path) -> bytes:
    (count,) = _shape(path, 1)
    with _opened(path) as stream:
        stream.read(8)
        data = stream.read(count)
    if len(data) < count:
        raise InvalidInputError(
            f"{path} should contain {count} labels and has {len(data)}.", "download it again"
        )
    return bytes(data)


def _shape(path: Path, dimensions: int) -> tuple[int, ...]:
    with _opened(path) as stream:
        header = stream.read(4 + 4 * dimensions)
    if header[:4] != bytes((0, 0, 8, dimensions)) or len(header) < 4 + 4 * dimensions:
        raise InvalidInputError(
            f"{path} is not an idx file of {dimensions} dimension{'s'[: dimensions > 1]} of uint8: "
            f"it begins with {header[:4]!r}.",
            "use the MNIST family's files as published",
        )
    return struct.unpack_from(f">{dimensions}I", header, 4)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            yield stream
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(f"Can't read {path}: {reason}.", "download it again") from error
