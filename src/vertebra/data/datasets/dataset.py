"""One labelled picture, and a set of them that is read as it is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from hashlib import sha256
from itertools import islice
from pathlib import Path

from vertebra.data.preprocess import Source
from vertebra.errors import InvalidInputError

#: Endings of pictures' file names, in lower case; the content decides the format.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

#: The split that is used where none is named, in this order: what a network was not trained on.
DEFAULT_SPLITS = ("val", "valid", "validation", "test")

#: Several spellings of one split.
SPELLINGS = {"valid": "val", "validation": "val", "dev": "val", "t10k": "test", "training": "train"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture: its encoded bytes, its path, or its pixels (H, W, 3) of uint8; the index of its class; and
    its name, unique in its set."""

    source: Source
    label: int
    name: str


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures, opened one at a time while it is iterated, in the same order each time.

    `classes` are the names of the labels, or None where the set has only numbers. `num_classes` is their
    count, or the largest label plus one. `largest_at` is where the largest label is.
    """

    name: str
    split: str | None
    format: str
    classes: tuple[str, ...] | None
    num_classes: int
    length: int
    largest_at: str
    read: Callable[[], Iterator[Sample]] = field(repr=False)
    #: Name, label and bytes of each sample, where that is cheaper than reading all of them.
    sizes: Callable[[], Iterator[tuple[str, int, int]]] | None = field(default=None, repr=False)

    @cached_property
    def sha256(self) -> str:
        """What the set holds, in 64 hex digits: the pictures' base names, labels and bytes, in any order.

        Equal for a copy of the set in another folder. Pixels aren't read; a missing file counts as 0 bytes.
        """
        lines = (
            f"{name.rpartition('/')[2]}\0{self.class_name(label)}\0{size}"
            for name, label, size in (self.sizes or self._sizes)()
        )
        # A sum needs no list of all pictures in memory, and no order.
        total = sum(
            int.from_bytes(sha256(line.encode("utf-8", "surrogateescape")).digest()) for line in lines
        )
        return sha256(f"{len(self)} {total % 2**256:064x}".encode()).hexdigest()

    def _sizes(self) -> Iterator[tuple[str, int, int]]:
        return ((sample.name, sample.label, _size(sample.source)) for sample in self.read())

    def class_name(self, label: int) -> str:
        """What the class of a label is called: its name, or its number where the set has only numbers."""
        return str(label) if self.classes is None else self.classes[label]

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Sample]:
        return self.read()

    def part(self, count: int) -> Dataset:
        """The set of the first `count` samples."""
        if count >= len(self):
            return self
        sizes = None if self.sizes is None else partial(_first_sizes, self.sizes, count)
        return replace(self, length=count, read=partial(self.first, count), sizes=sizes)

    def first(self, count: int) -> Iterator[Sample]:
        """The first `count` samples."""
        return islice(self.read(), count)


def _first_sizes(
    sizes: Callable[[], Iterator[tuple[str, int, int]]], count: int
) -> Iterator[tuple[str, int, int]]:
    return islice(sizes(), count)


def _size(source: Source) -> int:
    """Bytes of an encoded picture, 0 where its file is missing, or of pixels."""
    if isinstance(source, str | Path):
        try:
            return os.stat(source).st_size
        except OSError:
            return 0
    return len(source) if isinstance(source, bytes | bytearray) else source.nbytes


def of(
    samples: Sequence[tuple[str, int]],
    locate: Callable[[str], Source],
    *,
    name: str,
    split: str | None,
    format: str,
    classes: tuple[str, ...] | None,
    at: Callable[[int], str],
) -> Dataset:
    """A set whose names and labels are known and whose pictures are found by `locate`; `at` gives the
    place of a sample's label by its number. Raises InvalidInputError for an empty set."""
    if not samples:
        raise empty(name, format)

    def read() -> Iterator[Sample]:
        return (Sample(locate(sample), label, sample) for sample, label in samples)

    largest = max(range(len(samples)), key=lambda index: samples[index][1])
    count = samples[largest][1] + 1 if classes is None else len(classes)
    return Dataset(name, split, format, classes, count, len(samples), at(largest), read)


def empty(name: str | Path, format: str) -> InvalidInputError:
    """The error that a set of this format contains no pictures."""
    return InvalidInputError(
        f"{name}, read as {format}, contains no pictures.",
        f"pictures end in {', '.join(SUFFIXES)}; if this is another layout, pass --format",
    )


def is_picture(name: str) -> bool:
    """Whether a file's name is a picture's; hidden files never are."""
    base = name.rpartition("/")[2]
    return base.lower().endswith(SUFFIXES) and not base.startswith(".")


def class_index(labels: Sequence[str]) -> tuple[tuple[str, ...] | None, dict[str, int]]:
    """The classes that text `labels` name, in order, and each one's index.

    Labels that are all whole numbers are the indices themselves, and the classes are None.
    """
    distinct = sorted(set(labels))
    if all(label.isascii() and label.isdecimal() and len(label) < 10 for label in distinct):
        return None, {label: int(label) for label in distinct}
    return tuple(distinct), {label: index for index, label in enumerate(distinct)}
