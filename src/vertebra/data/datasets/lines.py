"""The lines of a list: text to rows of cells, and which columns are the path, the label and the split."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vertebra.data.datasets import splits
from vertebra.data.datasets.dataset import whole_number
from vertebra.data.names import printable
from vertebra.data.walking import is_picture, is_special
from vertebra.errors import InvalidInputError

#: Names of columns, in lower case with _ between words, the surest first. ImageId and PredictionString are
#: Kaggle's for ImageNet.
PATHS = (
    "path", "file_path", "filepath", "filepaths", "file_paths", "image_path", "img_path", "image_paths",
    "file_name", "filename", "filenames", "file_names", "file", "files", "image_file", "image_filename",
    "image_name", "img_name", "imagename", "image", "images", "img", "picture", "photo", "image_id",
    "imageid", "img_id", "photo_id", "fname", "uri", "name", "id", "id_code",
)  # fmt: skip
LABELS = (
    "label", "labels", "class", "classes", "target", "targets", "category", "class_name", "classname",
    "label_name", "category_name", "synset", "wnid", "class_id", "classid", "class_index", "label_id",
    "category_id", "class_label", "cls", "predictionstring", "y", "breed", "species", "diagnosis",
)  # fmt: skip
_SPLITS = ("split", "subset", "partition", "dataset_split", "data_split", "data_set", "set", "phase", "usage")
#: Columns of yes or no: the split of a row that says yes, and of one that says no.
_FLAGS = {
    "is_valid": ("val", "train"), "is_val": ("val", "train"), "is_validation": ("val", "train"),
    "is_test": ("test", "train"), "is_train": ("train", "test"), "is_training": ("train", "test"),
}  # fmt: skip
_YES = {"true", "1", "1.0", "yes", "t", "y"}

_MAX_BYTES = 2**30
#: How many of the first pictures are looked for.
LOOKED_AT = 100


@dataclass(frozen=True)
class Entry:
    """One line of a list: the picture's path as written, its label's text, the line's number and its split,
    where a column says it; and the text of the column that was asked for."""

    path: str
    label: str
    line: int
    split: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Columns:
    """The places of the path and of the label, what gives the split of a row, and the place of the column
    that was asked for."""

    path: int
    label: int
    split: Callable[[Sequence[str]], str | None] | None = None
    text: int | None = None


@dataclass(frozen=True)
class Listed:
    """A list's entries. `assumed` are sentences about how it was read; `has_splits` whether a column says the
    split of each row."""

    entries: list[Entry]
    assumed: tuple[str, ...]
    has_splits: bool


#: A row of cells, with the number of its line.
Row = tuple[int, list[str]]


def read(file: Path, exists: Callable[[str], bool], column: str | None = None) -> Listed:
    """The entries of a list in text, CSV or JSON lines. `exists` says whether a path that is written in it
    leads to a picture, by which a header of unknown names is told from a picture. `column` is one whose texts
    are read too.

    Raises InvalidInputError with file and line.
    """
    text = _text(file)
    is_json = file.suffix.lower() == ".jsonl"
    rows = _from_json_lines(file, text) if is_json else _rows(file, text, exists)
    if not rows:
        return Listed([], (), False)
    known = _known(rows[0][1])
    assumed: tuple[str, ...] = ()
    if known is None and len(rows) > 1 and _looks_like_header(rows, exists):
        known = _guessed(file, rows, exists)
    header = None if known is None else rows[0][1]
    if known is not None:
        head = rows[0][1]
        assumed = (
            f'line {rows[0][0]} of {printable(file.name)} is its header: the picture is in the column '
            f'"{head[known.path]}", the label in "{head[known.label]}"',
        )  # fmt: skip
        rows = rows[1:]
    columns = known or _unnamed(rows, exists)
    if column is not None:
        columns = replace(columns, text=_place_of(file, header, column))
    entries = [_entry(file, line, row, columns) for line, row in rows]
    return Listed(entries, assumed, columns.split is not None)


def _place_of(file: Path, header: Sequence[str] | None, column: str) -> int:
    """The place of the column that is asked for."""
    if header is None:
        raise InvalidInputError(
            f'{printable(file)} has no header, so no column is called "{column}".',
            "begin the list with a line that names its columns: path,label,…",
        )
    if column in header:
        return header.index(column)
    if _words([column])[0] in _words(header):
        return _words(header).index(_words([column])[0])
    raise InvalidInputError(
        f'{printable(file)} has no column "{column}".', f"its columns: {', '.join(map(printable, header))}"
    )


def header_of(file: Path) -> Columns | None:
    """The columns that the first line names, or None."""
    rows = _from_json_lines(file, _text(file)) if file.suffix == ".jsonl" else _rows(file, _text(file), bool)
    return _known(rows[0][1]) if rows else None


def _text(file: Path) -> str:
    try:
        if is_special(file):
            raise InvalidInputError(f"{printable(file)} is not a regular file.", "pass a list")
        if file.stat().st_size > _MAX_BYTES:
            raise InvalidInputError(f"{printable(file)} is too large for a list of pictures.")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"Can't read {printable(file)}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{printable(file)} is not UTF-8 text.", "save it as UTF-8") from error


# ------------------------------------------------------------------ rows


def _rows(file: Path, text: str, exists: Callable[[str], bool]) -> list[Row]:
    """The rows that aren't empty, and aren't comments: lines that begin with # and name no picture."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#") and not exists(re.split(r"[\t,;]| (?=\S+$)", line.strip())[0]):
            lines[number] = ""
    first = next((line for line in lines if line.strip()), "")
    separator = next((mark for mark in ("\t", ",", ";") if mark in first), None)
    if separator is None:
        return list(_spaced(file, lines))
    reader = csv.reader(lines, delimiter=separator)
    try:
        found = [
            (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise InvalidInputError(f"{printable(file)}:{reader.line_num}: not CSV: {error}.") from error
    return found


def _spaced(file: Path, lines: Iterable[str]) -> Iterator[Row]:
    for line, content in enumerate(lines, 1):
        if not content.strip():
            continue
        parts = content.strip().rsplit(None, 1)
        if len(parts) != 2:
            raise _unreadable(file, line, content)
        yield line, [_unquoted(parts[0]), _unquoted(parts[1])]


def _unquoted(text: str) -> str:
    """The text without one pair of quotes around it."""
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" else text


def _from_json_lines(file: Path, text: str) -> list[Row]:
    """JSON lines, an object each, as a header and its rows."""
    objects: list[tuple[int, dict[str, Any]]] = []
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"{printable(file)}:{line}: not JSON: {error}.") from error
        if not isinstance(value, dict):
            raise InvalidInputError(f"{printable(file)}:{line}: an object was expected.")
        objects.append((line, value))
    head = list(dict.fromkeys(key for _, value in objects for key in value))
    rows = [(line, [_cell(value.get(key)) for key in head]) for line, value in objects]
    return [(0, head), *rows] if rows else []


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()


# ------------------------------------------------------------------ columns


def _words(header: Sequence[str]) -> list[str]:
    return [re.sub(r"[\s-]+", "_", cell.strip().lower()) for cell in header]


def _known(header: Sequence[str]) -> Columns | None:
    """The columns, where the row is a header of known names."""
    words = _words(header)
    label = next((words.index(word) for word in LABELS if word in words), None)
    path = next((words.index(word) for word in PATHS if word in words), None)
    if path is None or label is None or path == label:
        return None
    return Columns(path, label, _split_column(words))


def _split_column(words: Sequence[str]) -> Callable[[Sequence[str]], str | None] | None:
    place = next((words.index(word) for word in _SPLITS if word in words), None)
    if place is not None:
        return lambda row: splits.asked(row[place]) if place < len(row) and row[place] else None
    flag = next((word for word in _FLAGS if word in words), None)
    if flag is None:
        return None
    at, (yes, no) = words.index(flag), _FLAGS[flag]
    return lambda row: yes if at < len(row) and row[at].lower() in _YES else no


def _looks_like_header(rows: Sequence[Row], exists: Callable[[str], bool]) -> bool:
    """Whether the first row names columns: nothing in it is a picture, while others have one, or it alone has
    a word where the others have numbers."""
    first, others = rows[0][1], [row for _, row in rows[1:LOOKED_AT]]
    if any(exists(cell) for cell in first if cell) or not any(exists(cell) for row in others for cell in row):
        return False
    words = any(cell.lower() in (*PATHS, *LABELS) for cell in _words(first))
    numbers = any(
        not _is_number(cell) and all(place < len(row) and _is_number(row[place]) for row in others)
        for place, cell in enumerate(first)
    )
    alien = not any(set(first) & set(row) for row in others) and not any("." in cell for cell in first)
    return words or numbers or alien


def _is_number(cell: str) -> bool:
    return whole_number(cell) is not None


def _guessed(file: Path, rows: Sequence[Row], exists: Callable[[str], bool]) -> Columns:
    """The columns under a header of unknown names: the path is where pictures are."""
    header = rows[0][1]
    path = _path_column(rows[1:], exists)
    words = _words(header)
    label = next((words.index(word) for word in LABELS if word in words and words.index(word) != path), None)
    others = [place for place in range(len(header)) if place != path]
    if path is None or (label is None and len(others) != 1):
        raise InvalidInputError(
            f'{printable(file)}:{rows[0][0]}: this looks like a header, "{",".join(header)[:80]}", but which '
            "columns are the picture and its label isn't clear.",
            "call the columns path and label",
        )
    return Columns(path, others[0] if label is None else label, _split_column(words))


def _path_column(rows: Sequence[Row], exists: Callable[[str], bool]) -> int | None:
    """The first column with the name of a picture that exists, or else one without its ending: a column of
    numbers is rather that of labels."""
    found = [
        place
        for place in range(max((len(row) for _, row in rows[:LOOKED_AT]), default=0))
        if any(place < len(row) and row[place] and exists(row[place]) for _, row in rows[:LOOKED_AT])
    ]
    whole = [place for place in found if any(is_picture(row[place]) for _, row in rows if place < len(row))]
    return next(iter([*whole, *found]), None)


def _unnamed(rows: Sequence[Row], exists: Callable[[str], bool]) -> Columns:
    """The columns of a list without a header: the path, then the label, also after a column of numbers; or
    the label first; or, as MXNet writes them, a number, the label and the path."""
    width = len(rows[0][1]) if rows else 0
    path = _path_column(rows, exists)
    if path == 1 and width in (2, 3):
        return Columns(1, 0 if width == 2 else 2)
    return Columns(2, 1) if path == 2 and width == 3 else Columns(0, 1)


def _entry(file: Path, line: int, row: Sequence[str], columns: Columns) -> Entry:
    split = None if columns.split is None else columns.split(row)
    if len(row) <= max(columns.path, columns.label) or not row[columns.path] or not row[columns.label]:
        raise _unreadable(file, line, ",".join(row))
    path, label = row[columns.path], row[columns.label]
    if path.startswith("ILSVRC2012_") and not Path(path).suffix:
        # Kaggle's list leaves out the ending, and adds boxes to the class: "n03995372 85 1 499 272"
        path, label = f"{path}.JPEG", label.split()[0]
    text = "" if columns.text is None or columns.text >= len(row) else row[columns.text]
    return Entry(path, label, line, split, text)


def _unreadable(file: Path, line: int, content: str) -> InvalidInputError:
    return InvalidInputError(
        f'{printable(file)}:{line}: "{content.strip()[:80]}" has no path and label.',
        'write "path label" lines, or CSV with the columns path and label',
    )
