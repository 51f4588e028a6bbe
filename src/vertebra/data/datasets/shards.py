"""WebDataset shards: tar archives whose members of one base name are one sample (`0001.jpg`, `0001.cls`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tarfile import TarFile, TarInfo

from vertebra.data.datasets import tars
from vertebra.data.datasets.dataset import (
    BY_NAME,
    BY_NUMBER,
    Dataset,
    Sample,
    check_negative,
    check_numbers,
    class_index,
    empty,
)
from vertebra.data.names import printable
from vertebra.data.walking import HIDDEN, NOT_PICTURES, SUFFIXES, is_hidden, is_picture
from vertebra.errors import InvalidInputError

FORMAT = "tar shards"

#: The most bytes of a .cls or .json member.
_MOST = 2**20
_JSON_KEYS = ("label", "cls", "class", "class_id", "class_name")


@dataclass(frozen=True)
class _Found:
    """The result of one pass over the shards: the count of samples, the classes' texts, the largest index,
    and the members that aren't part of a sample."""

    count: int
    classes: tuple[str, ...] | None
    index: dict[str, int]
    largest_at: str
    left_out: Counter[str]


def open_shards(files: Sequence[Path], *, name: str, split: str | None) -> Dataset:
    """The samples of all shards in order. One pass over the members counts and checks them first.

    A label is the text of `.cls`, or of `.json` under label, cls or class; whole numbers are indices. Hidden
    members, and those that are neither picture nor label of a sample, are left out.
    Raises InvalidInputError, naming shard and member, for a sample without picture or label, a key that
    occurs twice in one shard, a member that points outside, and an archive that is cut short.
    """
    found = _scan(files)
    if not found.count:
        raise empty(files[0], FORMAT)
    classes = found.classes
    count = len(classes) if classes is not None else max(found.index.values()) + 1

    def read() -> Iterator[Sample]:
        for file in files:
            for key, text, picture, _, _ in _samples(file, pictures=True):
                yield Sample(picture, found.index[text], _name(files, file, key))

    def sizes() -> Iterator[tuple[str, int, int]]:
        for file in files:
            for key, text, _, size, _ in _samples(file, pictures=False):
                yield key, found.index[text], size

    def located() -> Iterator[tuple[str, Path, int, int]]:
        for file in files:
            for key, _, _, size, first_byte in _samples(file, pictures=False):
                yield _name(files, file, key), file, first_byte, size

    order = BY_NUMBER if classes is None else BY_NAME
    return Dataset(
        name, split, FORMAT, classes, count, found.count, found.largest_at, read, sizes, order,
        found.left_out, located=located if all(map(tars.is_plain, files)) else None,
    )  # fmt: skip


def _name(files: Sequence[Path], file: Path, key: str) -> str:
    return printable(key if len(files) == 1 else f"{file.name}:{key}")


def _scan(files: Sequence[Path]) -> _Found:
    count = 0
    first: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for file in files:
        keys: set[int] = set()
        for key, text, *_ in _samples(file, pictures=False, left_out=left_out):
            if hash(key) in keys:
                raise InvalidInputError(
                    f"{printable(file)}: the key {printable(key)} occurs twice.", "write each sample once"
                )
            keys.add(hash(key))
            if text not in first:
                first[text] = f"{printable(file)}: {printable(key)}"
                check_negative(text, first[text])
            count += 1
    check_numbers(first)
    classes, index = class_index(list(first))
    largest = max(index, key=lambda text: index[text], default="")
    return _Found(count, classes, index, first.get(largest, ""), left_out)


def _samples(
    file: Path, *, pictures: bool, left_out: Counter[str] | None = None
) -> Iterator[tuple[str, str, bytes, int, int]]:
    """Key, label's text, encoded picture if asked for, the picture's bytes, and the place of its first one in
    the archive, of each sample; `left_out` counts the members that aren't part of one."""
    with tars.opened(file) as archive:
        others: Counter[str] = Counter() if left_out is None else left_out
        members = _visible(tars.members(archive, str(file)), others)
        for key, group in groupby(members, key=lambda member: _split(member.name)[0]):
            sample = _sample(archive, file, key, group, pictures, others)
            if sample is not None:
                yield sample


def _visible(members: Iterator[TarInfo], left_out: Counter[str]) -> Iterator[TarInfo]:
    for member in members:
        if any(is_hidden(part) for part in member.name.split("/") if part not in ("", ".", "..")):
            left_out[HIDDEN] += 1
        else:
            yield member


def _split(name: str) -> tuple[str, str]:
    """Key and ending: the ending begins at the first dot of the base name."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, ending = base.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _sample(
    archive: TarFile, file: Path, key: str, group: Iterator[TarInfo], pictures: bool, left_out: Counter[str]
) -> tuple[str, str, bytes, int, int] | None:
    """The sample, or None where its members are neither a picture nor a label."""
    label: str | None = None
    picture: bytes | None = None
    size = first_byte = 0
    names = []
    for member in group:
        names.append(member.name)
        ending = _split(member.name)[1]
        if ending == "cls":
            label = _text(tars.content(archive, member, str(file), _MOST)).strip()
        elif ending == "json" and label is None:
            label = _from_json(tars.content(archive, member, str(file), _MOST))
        elif f".{ending}" in SUFFIXES:
            picture = tars.content(archive, member, str(file)) if pictures else b""
            size, first_byte = member.size, member.offset_data
    if picture is None and not label and not any(_is_part(name) for name in names):
        left_out[NOT_PICTURES] += len(names)
        return None
    if picture is None or not label:
        raise _broken(file, key, names, "picture" if picture is None else "label")
    return key, label, picture, size, first_byte


def _is_part(name: str) -> bool:
    return is_picture(name) or name.lower().endswith(".cls")


def _broken(file: Path, key: str, names: Sequence[str], lacks: str) -> InvalidInputError:
    dots = next((name for name in names if is_picture(name) and _split(name)[1].count(".")), None)
    hint = f"each key needs a picture ({', '.join(SUFFIXES[:2])}, …) and a .cls, or a .json with label"
    if lacks == "picture" and dots is not None:
        hint = "its name has two dots: the key ends at the first, and the rest must be an ending like .jpg"
    return InvalidInputError(
        f"{printable(file)}: the sample {printable(key)} has no {lacks}: it consists of "
        f"{', '.join(map(printable, names[:3]))}.",
        hint,
    )


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
    is_label = isinstance(label, int | float | str) and not isinstance(label, bool)
    return str(label).strip() if is_label else None
