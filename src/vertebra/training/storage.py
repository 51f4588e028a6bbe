"""Any picture of a set, in any order: training shuffles, and most layouts are read from front to back.

Files are read where they are, and so are the members of tar archives, which are found once. Pixels stay in
memory. Pictures of other layouts (compressed archives, Parquet) are copied once into one temporary file.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vertebra.data.datasets import Dataset, Sample
from vertebra.data.preprocess import Source
from vertebra.errors import InvalidInputError, warn

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Copies of more than this are announced.
_LARGE = 2**28


class Pictures(Protocol):
    """The pictures of a set by their index, for any number of threads."""

    @property
    def names(self) -> Sequence[str]:
        """Each picture's name."""

    @property
    def shards(self) -> Sequence[int] | None:
        """How many pictures follow each other in each file, where several are in one."""

    def source(self, place: int) -> Source:
        """The picture at `place`: its path, bytes, or pixels (H, W, 3). Raises InvalidInputError."""


def of(data: Dataset) -> Pictures:
    """The pictures of a set. One pass over it finds them. Raises InvalidInputError where it can't be read."""
    if data.located is not None:
        return _located(data)
    samples = iter(data)
    first = next(samples)
    if isinstance(first.source, str | Path):
        return _Files.of(first, samples)
    if isinstance(first.source, bytes | bytearray | memoryview):
        return _copied(first, samples, data)
    return _Arrays.of(first, samples)


# ------------------------------------------------------------------ files


@dataclass(frozen=True)
class _Files:
    names: Sequence[str]
    paths: Sequence[str]
    shards: Sequence[int] | None = None

    @classmethod
    def of(cls, first: Sample, others: Iterator[Sample]) -> _Files:
        names, paths = [first.name], [_path(first)]
        for sample in others:
            names.append(sample.name)
            paths.append(_path(sample))
        return cls(names, paths)

    def source(self, place: int) -> Source:
        return self.paths[place]


def _path(sample: Sample) -> str:
    """As text: a million Path objects would take a gigabyte."""
    assert isinstance(sample.source, str | Path), "a layout has one kind of source"
    return os.fspath(sample.source)


# ------------------------------------------------------------------ pixels


@dataclass(frozen=True)
class _Arrays:
    """Pixels; grey ones, equal in all three channels, are kept once."""

    names: Sequence[str]
    pixels: Sequence[npt.NDArray[np.uint8]]
    shards: Sequence[int] | None = None

    @classmethod
    def of(cls, first: Sample, others: Iterator[Sample]) -> _Arrays:
        names, pixels = [first.name], [_compact(first)]
        for sample in others:
            names.append(sample.name)
            pixels.append(_compact(sample))
        return cls(names, pixels)

    def source(self, place: int) -> Source:
        import numpy as np

        pixels = self.pixels[place]
        return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def _compact(sample: Sample) -> npt.NDArray[np.uint8]:
    import numpy as np

    pixels = np.asarray(sample.source)
    if (pixels == pixels[:, :, :1]).all():
        return np.ascontiguousarray(pixels[:, :, 0])
    return pixels


# ------------------------------------------------------------------ parts of files


class _Parts:
    """Pictures that are parts of few files: each has a file, a first byte and a count."""

    def __init__(
        self,
        names: Sequence[str],
        files: Sequence[int],
        spans: npt.NDArray[np.int64],
        shards: Sequence[int] | None,
    ) -> None:
        """`files`: descriptors, which are closed with this; `spans` (N, 3): index of the file, first byte,
        bytes."""
        self.names = names
        self.shards = shards
        self._files = files
        self._spans = spans
        weakref.finalize(self, _close, files)

    def source(self, place: int) -> Source:
        file, begin, count = self._spans[place].tolist()
        try:
            # pread has no position that threads would share.
            data = os.pread(self._files[file], count, begin)
        except OSError as error:
            raise InvalidInputError(
                f"{self.names[place]}: its file can't be read any more: {error.strerror}.",
                "look at the disk or the network that it is on",
            ) from error
        if len(data) < count:
            raise InvalidInputError(
                f"{self.names[place]}: its file was cut short while it was being read.",
                "leave the data as it is while a run reads it",
            )
        return data


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def _located(data: Dataset) -> Pictures:
    import numpy as np

    assert data.located is not None
    names, spans = [], []
    numbers: dict[Path, int] = {}
    counts: list[int] = []
    for name, path, begin, count in data.located():
        number = numbers.setdefault(path, len(numbers))
        if number == len(counts):
            counts.append(0)
        counts[number] += 1
        names.append(name)
        spans.append((number, begin, count))
    files: list[int] = []
    try:
        for path in numbers:
            files.append(os.open(path, os.O_RDONLY))
    except OSError as error:
        _close(files)
        raise InvalidInputError(f"Can't read {error.filename}: {error.strerror}.") from error
    return _Parts(names, files, np.asarray(spans, np.int64).reshape(-1, 3), counts)


def _copied(first: Sample, others: Iterator[Sample], data: Dataset) -> Pictures:
    """Encoded pictures of a layout that is only read from front to back."""
    import numpy as np

    names: list[str] = []
    spans: list[tuple[int, int, int]] = []
    total = 0
    try:
        with tempfile.TemporaryFile(prefix="vertebra-") as stream:
            for sample in _both(first, others):
                content = bytes(sample.source)  # type: ignore[arg-type]
                stream.write(content)
                names.append(sample.name)
                spans.append((0, total, len(content)))
                total += len(content)
            stream.flush()
            file = os.dup(stream.fileno())
    except OSError as error:
        raise InvalidInputError(
            f"The pictures of {data.name}, {data.format}, don't fit into {tempfile.gettempdir()}: "
            f"{error.strerror}, after {total / 1e6:,.0f} MB. They are copied there because this layout can't "
            "be read in random order.",
            "write them as plain .tar shards or as files, or set TMPDIR to a folder with room",
        ) from error
    if total > _LARGE:
        warn(
            f"the pictures of {data.name} ({total / 1e6:,.0f} MB) were copied into {tempfile.gettempdir()}: "
            f"{data.format} can't be read in random order",
            "plain .tar shards are read where they are",
        )
    return _Parts(names, [file], np.asarray(spans, np.int64), None)


def _both(first: Sample, others: Iterator[Sample]) -> Iterator[Sample]:
    yield first
    yield from others
