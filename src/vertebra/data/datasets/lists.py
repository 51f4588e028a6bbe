"""Lists of pictures with their labels: `path label` lines as PaddleClas and Caffe write them, and CSV.

A list's labels are indices where all of them are whole numbers, and class names otherwise. Paths are relative
to the list's own folder, unless the folder of the pictures is given.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vertebra.data.datasets import dataset
from vertebra.data.datasets.dataset import Dataset
from vertebra.errors import InvalidInputError

FORMAT = "list"
SUFFIXES = (".csv", ".tsv", ".txt", ".lst")

#: The two columns' names in a header, in lower case. ImageId and PredictionString are Kaggle's for ImageNet.
_PATHS = ("path", "file", "filename", "file_name", "image", "image_path", "imageid", "image_id", "img")
_LABELS = ("label", "class", "target", "category", "synset", "wnid", "class_id", "predictionstring")

_MAX_BYTES = 2**30
#: How many of the first paths are looked for: if none exists, the folder is taken to be the wrong one.
_LOOKED_AT = 100


@dataclass(frozen=True)
class Entry:
    """One line of a list: the picture's path as written, its label's text, and the line's number."""

    path: str
    label: str
    line: int


def open_list(file: Path, *, name: str, split: str | None, images: Path | None = None) -> Dataset:
    """The pictures that `file` lists, in its order, in the folder `images` (the list's own, where None).

    Raises InvalidInputError, with the place, for a line without a label, a negative one, a path that occurs
    twice, an empty list, and where none of the pictures exists.
    """
    entries = read_entries(file)
    root = file.parent if images is None else images
    classes, index = dataset.class_index([entry.label for entry in entries])
    paths = [_named(entry.path, root) for entry in entries]
    _check_there(file, root, paths)
    samples = [(path, index[entry.label]) for path, entry in zip(paths, entries, strict=True)]
    return dataset.of(
        samples, lambda path: root / path, name=name, split=split, format=FORMAT, classes=classes,
        at=lambda number: f"{file}:{entries[number].line}",
    )  # fmt: skip


def read_entries(file: Path) -> list[Entry]:
    """The lines of a list, checked. Raises InvalidInputError with file and line."""
    entries = list(_entries(file, _text(file)))
    first: dict[str, int] = {}
    for entry in entries:
        _check_label(file, entry)
        if entry.path in first:
            raise InvalidInputError(
                f"{file}:{entry.line}: {entry.path} occurs twice, first in line {first[entry.path]}.",
                "list each picture once",
            )
        first[entry.path] = entry.line
    if not entries:
        raise InvalidInputError(f"{file} lists no pictures.", 'write "path label" lines, or CSV')
    return entries


def _check_label(file: Path, entry: Entry) -> None:
    if entry.label.startswith("-") and entry.label[1:].isdecimal():
        raise InvalidInputError(
            f"{file}:{entry.line}: the label is {entry.label}; labels begin at 0.",
            "number the classes from 0",
        )


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise InvalidInputError(f"{file} is too large for a list of pictures.")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"Can't read {file}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file} is not UTF-8 text.", "save it as UTF-8") from error


def _entries(file: Path, text: str) -> Iterator[Entry]:
    separator = _separator(text)
    if separator is None:
        yield from _spaced(file, text)
        return
    reader = csv.reader(text.splitlines(), delimiter=separator)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InvalidInputError(f"{file}:{reader.line_num}: not CSV: {error}.") from error
    columns = _columns(rows[0][1]) if rows else None
    for line, row in rows[1:] if columns else rows:
        yield _entry(file, line, row, columns or (0, 1))


def _separator(text: str) -> str | None:
    """The separator of the columns, from the first line that isn't empty; None for blanks."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return next((mark for mark in ("\t", ",", ";") if mark in first), None)


def _columns(header: Sequence[str]) -> tuple[int, int] | None:
    """Places of the path and of the label, where the row is a header."""
    words = [cell.strip().lower() for cell in header]
    path = next((words.index(word) for word in _PATHS if word in words), None)
    label = next((words.index(word) for word in _LABELS if word in words), None)
    return None if path is None or label is None or path == label else (path, label)


def _entry(file: Path, line: int, row: Sequence[str], columns: tuple[int, int]) -> Entry:
    cells = [cell.strip() for cell in row]
    if len(cells) <= max(columns) or not cells[columns[0]] or not cells[columns[1]]:
        raise _unreadable(file, line, ",".join(row))
    path, label = cells[columns[0]], cells[columns[1]]
    if path.startswith("ILSVRC2012_") and not Path(path).suffix:
        # Kaggle's list leaves out the ending, and adds boxes to the class: "n03995372 85 1 499 272"
        path, label = f"{path}.JPEG", label.split()[0]
    return Entry(path, label, line)


def _spaced(file: Path, text: str) -> Iterator[Entry]:
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        parts = content.strip().rsplit(None, 1)
        if len(parts) != 2:
            raise _unreadable(file, line, content)
        yield Entry(parts[0], parts[1], line)


def _unreadable(file: Path, line: int, content: str) -> InvalidInputError:
    return InvalidInputError(
        f'{file}:{line}: "{content.strip()[:80]}" has no path and label.',
        'write "path label" lines, or CSV with the columns path and label',
    )


def _named(path: str, root: Path) -> str:
    """The path as listed; only its last part where the list names another folder and `root` holds it."""
    base = path.replace("\\", "/").rpartition("/")[2]
    return base if base != path and not (root / path).exists() and (root / base).exists() else path


def _check_there(file: Path, root: Path, paths: Sequence[str]) -> None:
    if not any(os.path.exists(root / path) for path in paths[:_LOOKED_AT]):
        raise InvalidInputError(
            f"The first pictures of {file}, such as {paths[0]}, are not in {root}.",
            "put the list next to the pictures, or pass their folder and --truth LIST",
        )
