"""One labelled picture, and a set of them that is read as it is used."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property, partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from vertebra.data.names import printable
from vertebra.data.preprocess import Source
from vertebra.data.walking import SUFFIXES, is_picture
from vertebra.errors import InvalidInputError

__all__ = ["Dataset", "Sample", "class_index", "is_picture"]

#: Where the order of the classes comes from.
BY_NUMBER = "as numbered in the data"
BY_NAME = "in alphabetical order"
BY_VALUE = "in the order of their numbers"
BY_FILE = "as the file lists its classes"
BY_SYNSET = "in the order of ImageNet's synsets"


#: What a pass over a set finds out about each sample.
Fact = TypeVar("Fact")


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
    count, or the largest label plus one. `largest_at` is where the largest label is. `order` says where the
    classes' order comes from, `left_out` counts the files that aren't part of the set by their kind, and
    `assumed` are sentences about what was taken for granted.
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
    order: str = BY_NUMBER
    left_out: Mapping[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    #: Name, file, first byte and count of bytes of each encoded picture, where it is a plain part of a file.
    located: Callable[[], Iterator[tuple[str, Path, int, int]]] | None = field(default=None, repr=False)
    #: Name and text of each sample in a column of the list or table, where there are columns. Raises
    #: InvalidInputError for one that isn't there.
    column: Callable[[str], Iterator[tuple[str, str]]] | None = field(default=None, repr=False)

    @cached_property
    def sha256(self) -> str:
        """What the set holds, in 64 hex digits: the pictures' base names, labels and bytes, in any order.

        Equal for a copy of the set in another folder. Pixels aren't read; a missing file counts as 0 bytes.
        """
        # A sum needs no list of all pictures in memory, and no order.
        total = sum(
            int.from_bytes(sha256(line.encode("utf-8", "surrogateescape")).digest())
            for _, line in self._lines()
        )
        return sha256(f"{len(self)} {total % 2**256:064x}".encode()).hexdigest()

    def _lines(self) -> Iterator[tuple[str, str]]:
        """Each sample's name, and what it is in a copy of the set too."""
        for name, label, size in (self.sizes or self._sizes)():
            yield name, f"{name.rpartition('/')[2]}\0{self.class_name(label)}\0{size}"

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
        sizes = None if self.sizes is None else partial(_first, self.sizes, count)
        located = None if self.located is None else partial(_first, self.located, count)
        return replace(self, length=count, read=partial(self.first, count), sizes=sizes, located=located)

    def share(self, number: int, of: int) -> Dataset:
        """The set of share `number` (from 1) of `of`, which differ by one sample at most. Shares are disjoint
        and together the set. Equal sets have equal shares, in whichever order they list their samples.

        Raises InvalidInputError where there are fewer samples than shares.
        """
        if of > len(self):
            raise InvalidInputError(
                f"{self.name} has {len(self):,} pictures, which can't be {of:,} shares.", "use fewer shares"
            )
        ranked = sorted(
            (sha256(line.encode("utf-8", "surrogateescape")).digest(), name, place)
            for place, (name, line) in enumerate(self._lines())
        )
        places = frozenset(place for *_, place in ranked[number - 1 :: of])
        sizes = None if self.sizes is None else partial(_at, self.sizes, places)
        located = None if self.located is None else partial(_at, self.located, places)
        return replace(
            self, length=len(places), read=partial(_at, self.read, places), sizes=sizes, located=located
        )

    def first(self, count: int) -> Iterator[Sample]:
        """The first `count` samples."""
        return islice(self.read(), count)


def _first(facts: Callable[[], Iterator[Fact]], count: int) -> Iterator[Fact]:
    return islice(facts(), count)


def _at(facts: Callable[[], Iterator[Fact]], places: Container[int]) -> Iterator[Fact]:
    return (fact for place, fact in enumerate(facts()) if place in places)


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
    **facts: Any,
) -> Dataset:
    """A set whose names and labels are known and whose pictures are found by `locate`; `at` gives the
    place of a sample's label by its number, `facts` are a Dataset's order, left_out and assumed. Raises
    InvalidInputError for an empty set."""
    if not samples:
        raise empty(name, format)

    def read() -> Iterator[Sample]:
        return (Sample(locate(sample), label, printable(sample)) for sample, label in samples)

    largest = max(range(len(samples)), key=lambda index: samples[index][1])
    count = samples[largest][1] + 1 if classes is None else len(classes)
    return Dataset(name, split, format, classes, count, len(samples), at(largest), read, **facts)


def empty(name: str | Path, format: str) -> InvalidInputError:
    """The error that a set of this format contains no pictures."""
    return InvalidInputError(
        f"{printable(name)}, read as {format}, contains no pictures.",
        f"pictures end in {', '.join(SUFFIXES)}; if this is another layout, pass --format",
    )


#: A whole number as lists and tables write one: 7, +7, 007, 7.0, 7., 7e0.
_NUMBER = re.compile(r"\+?\d+(\.0*)?([eE][+-]?\d+)?")
_SIGNED = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
#: What programs write where a label is missing.
_MISSING = ("nan", "na", "n/a", "<na>", "null", "none", "nat", "?")


def whole_number(text: str) -> int | None:
    """The whole number from 0 that a label's text is, or None.

    >>> [whole_number(text) for text in ("7", "+7", "007", "7.0", "7e0", "70e-1", "7.5", "-1", "cat")]
    [7, 7, 7, 7, 7, 7, None, None, None]
    """
    if len(text) > 40 or not text.isascii() or not _NUMBER.fullmatch(text):
        return None
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() and value < 10**9 else None


def check_negative(label: str, place: str) -> None:
    """Raise InvalidInputError, naming the place, for a label below 0."""
    if label.startswith("-") and _SIGNED.fullmatch(label):
        raise InvalidInputError(
            f"{place}: the label is {label}; labels begin at 0.", "number the classes from 0"
        )


def check_numbers(places: Mapping[str, str]) -> None:
    """Raise InvalidInputError for a label that isn't a whole number though all are numbers, and for a missing
    one (nan, null, …) among numbers. `places` are the labels' texts and where each is first."""
    missing = [text for text in places if text.lower() in _MISSING]
    numbers = [text for text in places if _SIGNED.fullmatch(text)]
    if not numbers or len(missing) + len(numbers) < len(places):
        return
    broken = next((text for text in numbers if whole_number(text) is None), None)
    if broken is not None:
        raise InvalidInputError(
            f"{places[broken]}: the label is {broken}, which is not a whole number from 0.",
            "number the classes from 0, or name them",
        )
    if missing:
        raise InvalidInputError(
            f'{places[missing[0]]}: the label is "{missing[0]}"; the others are numbers.',
            "leave out pictures without a label",
        )


def class_index(labels: Sequence[str]) -> tuple[tuple[str, ...] | None, dict[str, int]]:
    """The classes that text `labels` name, in order, and each one's index.

    Labels that are all whole numbers, however they are written, are the indices themselves, and the classes
    are None.
    """
    distinct = sorted(set(labels))
    numbers = {label: whole_number(label) for label in distinct}
    if None not in numbers.values():
        return None, {label: number for label, number in numbers.items() if number is not None}
    return tuple(distinct), {label: index for index, label in enumerate(distinct)}
