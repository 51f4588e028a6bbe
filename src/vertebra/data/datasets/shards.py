"""WebDataset shards: tar archives whose members of one base name are one sample (`0001.jpg`, `0001.cls`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tarfile import TarFile, TarInfo

from vertebra.data.datasets import tars
from vertebra.data.datasets.dataset import SUFFIXES, Dataset, Sample, class_index, empty
from vertebra.errors import InvalidInputError

FORMAT = "tar shards"

#: The most bytes of a .cls or .json member.
_MOST = 2**20
_JSON_KEYS = ("label", "cls", "class", "class_id", "class_name")


@dataclass(frozen=True)
class _Found:
    """The result of one pass over the shards: the count of samples, the classes' texts, the largest index."""

    count: int
    classes: tuple[str, ...] | None
    index: dict[str, int]
    largest_at: str


def open_shards(files: Sequence[Path], *, name: str, split: str | None) -> Dataset:
    """The samples of all shards in order. One pass over the members counts and checks them first.

    A label is the text of `.cls`, or of `.json` under label, cls or class; whole numbers are indices.
    Raises InvalidInputError, naming shard and key, for a sample without picture or label, a key that occurs
    twice in one shard, a member that points outside, and an archive that is cut short.
    """
    found = _scan(files)
    if not found.count:
        raise empty(files[0], FORMAT)
    classes = found.classes
    count = len(classes) if classes is not None else max(found.index.values()) + 1

    def read() -> Iterator[Sample]:
        for file in files:
            for key, text, picture, _ in _samples(file, pictures=True):
                yield Sample(picture, found.index[text], _name(files, file, key))

    def sizes() -> Iterator[tuple[str, int, int]]:
        for file in files:
            for key, text, _, size in _samples(file, pictures=False):
                yield key, found.index[text], size

    return Dataset(name, split, FORMAT, classes, count, found.count, found.largest_at, read, sizes)


def _name(files: Sequence[Path], file: Path, key: str) -> str:
    return key if len(files) == 1 else f"{file.name}:{key}"


def _scan(files: Sequence[Path]) -> _Found:
    count = 0
    first: dict[str, str] = {}
    for file in files:
        keys: set[int] = set()
        for key, text, _, _ in _samples(file, pictures=False):
            if hash(key) in keys:
                raise InvalidInputError(f"{file}: the key {key} occurs twice.", "write each sample once")
            keys.add(hash(key))
            first.setdefault(text, f"{file}: {key}")
            count += 1
    classes, index = class_index(list(first))
    largest = max(index, key=lambda text: index[text], default="")
    return _Found(count, classes, index, first.get(largest, ""))


def _samples(file: Path, *, pictures: bool) -> Iterator[tuple[str, str, bytes, int]]:
    """Key, label's text, encoded picture if asked for, and the picture's bytes, of each sample."""
    with tars.opened(file) as archive:
        everything = tars.members(archive, str(file))
        for key, group in groupby(everything, key=lambda member: _split(member.name)[0]):
            yield _sample(archive, file, key, group, pictures)


def _split(name: str) -> tuple[str, str]:
    """Key and ending: the ending begins at the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _sample(
    archive: TarFile, file: Path, key: str, group: Iterator[TarInfo], pictures: bool
) -> tuple[str, str, bytes, int]:
    label: str | None = None
    picture: bytes | None = None
    size = 0
    for member in group:
        ending = _split(member.name)[1]
        if ending == "cls":
            label = _text(tars.content(archive, member, str(file), _MOST)).strip()
        elif ending == "json" and label is None:
            label = _from_json(tars.content(archive, member, str(file), _MOST))
        elif f".{ending}" in SUFFIXES:
            picture, size = tars.content(archive, member, str(file)) if pictures else b"", member.size
    if picture is None or not label:
        lacks = "picture" if picture is None else "label"
        raise InvalidInputError(
            f"{file}: the sample {key} has no {lacks}.",
            f"each key needs a picture ({', '.join(SUFFIXES[:3])}, …) and a .cls, or a .json with label",
        )
    return key, label, picture, size


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _from_json(data: bytes) -> str | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    label = (
        next((value[key] for key in _JSON_KEYS if key in value), None) if isinstance(value, dict) else None
    )
    is_label = isinstance(label, int | str) and not isinstance(label, bool)
    return str(label).strip() if is_label else None
