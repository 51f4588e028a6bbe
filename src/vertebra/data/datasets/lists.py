"""Lists of pictures with their labels: `path label` lines as PaddleClas and Caffe write them, CSV, and JSON
lines.

A list's labels are indices where all of them are whole numbers, and class names otherwise. Paths are relative
to the list's own folder, unless the folder of the pictures is given. Where no file has the path as it is
written, its longest end that exists counts, so that lists from Windows and from other machines are read.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vertebra.data import walking
from vertebra.data.datasets import dataset, splits
from vertebra.data.datasets.dataset import BY_NAME, BY_NUMBER, Dataset
from vertebra.data.datasets.lines import LOOKED_AT, Entry, Listed, header_of
from vertebra.data.datasets.lines import read as read_lines
from vertebra.data.names import printable
from vertebra.errors import InvalidInputError

FORMAT = "list"
SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".jsonl")


def open_list(
    file: Path, *, name: str, split: str | None, asked: str | None = None, images: Path | None = None
) -> Dataset:
    """The pictures that `file` lists, in its order, in the folder `images` (the list's own, where None).

    `split` is that of the files' names, `asked` the one asked for: where a column gives the split of each
    row, the rows of one are read. Raises InvalidInputError, with the place, for a line without a label, a
    negative one, two lines of one picture, an empty list, and where none of the pictures exists.
    """
    root = file.parent if images is None else images
    places = _Places(root)
    listed = read_lines(file, places.exists)
    if not listed.entries:
        raise InvalidInputError(f"{printable(file)} lists no pictures.", 'write "path label" lines, or CSV')
    entries, split, left_out, unasked = _of_split(file, listed, split, asked)
    _check_labels(file, entries)
    places.settle([entry.path for entry in entries[:LOOKED_AT]])
    paths = [places.path_of(entry.path) for entry in entries]
    _check_there(file, places, entries)
    _check_once(file, entries, paths)
    classes, index = dataset.class_index([entry.label for entry in entries])
    samples = [(path, index[entry.label]) for path, entry in zip(paths, entries, strict=True)]

    def column(wanted: str) -> Iterator[tuple[str, str]]:
        again = _of_split(file, read_lines(file, places.exists, wanted), split, asked)[0]
        return ((printable(places.path_of(entry.path)), entry.text) for entry in again)

    return dataset.of(
        samples, lambda path: places.root / path, name=name, split=split, format=FORMAT, classes=classes,
        at=lambda number: f"{printable(file)}:{entries[number].line}",
        order=BY_NUMBER if classes is None else BY_NAME, left_out=left_out,
        assumed=(*listed.assumed, *places.assumed(), *unasked), column=column,
    )  # fmt: skip


def has_labels(file: Path) -> bool:
    """Whether the first line names a column of paths and one of labels."""
    return header_of(file) is not None


def _of_split(
    file: Path, listed: Listed, own: str | None, asked: str | None
) -> tuple[list[Entry], str | None, Counter[str], tuple[str, ...]]:
    """The entries of the split that is meant, what it is called, how many others there are, and what is
    assumed."""
    if not listed.has_splits:
        return listed.entries, own, Counter(), ()
    there = sorted({entry.split or "" for entry in listed.entries})
    wanted = own if asked is None and own in there else asked
    split = splits.chosen(file, there, wanted)
    entries = [entry for entry in listed.entries if (entry.split or "") == split]
    left_out = Counter({"lines of other splits": len(listed.entries) - len(entries)})
    return entries, split or None, left_out, splits.unasked(there, split, wanted)


# ------------------------------------------------------------------ places


class _Places:
    """Where the pictures of a list are: in `root`, or in a folder in it; and how their paths are written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed_in = root
        self._inner: list[Path] | None = None
        self._literal = False
        self._cut: tuple[str, str] | None = None
        self.special: set[str] = set()

    def exists(self, path: str) -> bool:
        """Whether the path, as it is written in the list, leads to a file in any of the places."""
        return any(self._found(place, path) is not None for place in self._places())

    def settle(self, paths: Sequence[str]) -> None:
        """Choose the folder in which the first of `paths` are, and whether they are there as written."""
        self.root = next(
            (place for place in self._places() if any(self._found(place, path) for path in paths)), self.root
        )
        self._literal = any(_is_file(self.root, _forward(path)) for path in paths)

    def path_of(self, path: str) -> str:
        """The path below `root` that leads to the picture; as it is written where none does."""
        found = self._found(self.root, path)
        if found is None:
            return path
        if walking.is_special(self.root / found):
            self.special.add(found)
        if len(_parts(found)) < len(_parts(os.path.normpath(_forward(path)))):
            self._cut = self._cut or (path, found)
        return found

    def assumed(self) -> Iterator[str]:
        """What was taken for granted, in sentences."""
        if self.root != self._listed_in:
            yield f"the pictures are in the folder {printable(self.root.name)}"
        if self._cut is not None:
            yield f"paths are read without their first folders: {self._cut[0]} is {printable(self._cut[1])}"

    def _places(self) -> Iterator[Path]:
        yield self.root
        if self._inner is None:
            folders = sorted(os.scandir(self.root), key=lambda entry: entry.name)
            self._inner = [
                self.root / one.name for one in folders if not walking.is_hidden(one.name) and one.is_dir()
            ]
        yield from self._inner

    def _found(self, place: Path, path: str) -> str | None:
        """The longest end of `path` that is a file in `place`."""
        if "\0" in path:
            return None
        for one in (path, *_ends(_forward(path), whole_only=self._literal)):
            if _is_file(place, one):
                return os.path.normpath(one)
            if not walking.is_picture(one):
                longer = next((one + suffix for suffix in _ADDED if _is_file(place, one + suffix)), None)
                if longer is not None:
                    return os.path.normpath(longer)
        return None


#: Endings that a list may leave out.
_ADDED = (*walking.SUFFIXES[:4], ".png", ".JPEG", ".JPG", ".PNG", *walking.SUFFIXES[7:])


def _forward(path: str) -> str:
    return path.replace("\\", "/")


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _ends(path: str, *, whole_only: bool) -> Iterator[str]:
    """The path and what is left of it without its first folders, the longest first."""
    yield path
    parts = _parts(path)
    if not whole_only:
        yield from ("/".join(parts[first:]) for first in range(1, len(parts)))


def _is_file(place: Path, path: str) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(os.path.join(place, path)).st_mode)
    except (OSError, ValueError):
        return False


# ------------------------------------------------------------------ checks


def _check_labels(file: Path, entries: Sequence[Entry]) -> None:
    first: dict[str, str] = {}
    for entry in entries:
        place = f"{printable(file)}:{entry.line}"
        dataset.check_negative(entry.label, place)
        first.setdefault(entry.label, place)
    dataset.check_numbers(first)


def _check_there(file: Path, places: _Places, entries: Sequence[Entry]) -> None:
    if not any(places.exists(entry.path) for entry in entries[:LOOKED_AT]):
        raise InvalidInputError(
            f"The first pictures of {printable(file)}, such as {entries[0].path}, are not in "
            f"{printable(places.root)}.",
            "put the list next to the pictures, or pass their folder and --truth LIST",
        )
    for entry in entries:
        if places.special and places.path_of(entry.path) in places.special:
            raise InvalidInputError(
                f"{printable(file)}:{entry.line}: {entry.path} is not a regular file.",
                "list files, not pipes or devices",
            )


def _check_once(file: Path, entries: Sequence[Entry], paths: Sequence[str]) -> None:
    """Refuse two lines that are of the same file, however they write its path."""
    first: dict[str, Entry] = {}
    for entry, path in zip(entries, paths, strict=True):
        key = os.path.normpath(path)
        earlier = first.setdefault(key, entry)
        if earlier is entry:
            continue
        if earlier.path == entry.path:
            raise InvalidInputError(
                f"{printable(file)}:{entry.line}: {entry.path} occurs twice, first in line {earlier.line}.",
                "list each picture once",
            )
        raise InvalidInputError(
            f"{printable(file)}:{entry.line}: {entry.path} and {earlier.path} in line {earlier.line} are "
            f"both the file {printable(key)}.",
            "put the pictures into the folders that the list names, and list each once",
        )
