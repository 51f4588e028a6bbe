"""Parquet files whose rows hold an encoded picture and its label, as Hugging Face's datasets have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.data.datasets import splits
from vertebra.data.datasets.dataset import (
    BY_FILE,
    BY_NAME,
    BY_NUMBER,
    Dataset,
    Sample,
    check_numbers,
    class_index,
    empty,
    whole_number,
)
from vertebra.data.names import printable
from vertebra.errors import InvalidInputError, MissingRuntimeError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "Parquet"

_IMAGES = (
    "image", "img", "picture", "jpg", "jpeg", "png", "webp", "photo", "image_bytes", "img_bytes",
    "image_data", "bytes",
)  # fmt: skip
_LABELS = (
    "label", "labels", "fine_label", "class", "target", "cls", "class_label", "class_id", "label_id",
    "category", "class_name", "label_name",
)  # fmt: skip
_SPLITS = ("split", "subset", "partition")
_BATCH = 32


@dataclass(frozen=True)
class _Columns:
    """Names of the columns of the picture, the label and, where there is one, the split of a row; and the
    class names in the file."""

    image: str
    label: str
    split: str | None
    names: tuple[str, ...] | None


def open_parquet(files: Sequence[Path], *, name: str, split: str | None, asked: str | None = None) -> Dataset:
    """Rows of all `files` in order. The picture is a column of bytes, or a struct with `bytes` and `path`;
    the label an index, or text. Class names are read from the file's own features, if any.

    `split` is that of the files' names; where a column gives each row's, the rows of `asked` are read.
    A row without picture bytes is read as an empty picture: its path is not followed.
    Raises MissingRuntimeError without pyarrow, and InvalidInputError, with file and row, for what can't be
    read, a missing column, a missing or a negative label, or an empty set.
    """
    columns = _columns(files[0])
    differing = next((file for file in files[1:] if _columns(file) != columns), None)
    if differing is not None:
        raise InvalidInputError(
            f"{printable(differing)} has different columns or classes from {printable(files[0])}."
        )
    meant, unasked = _split_of(files, columns, split, asked)
    first: dict[str, str] = {}
    count = others = 0
    for file in files:
        for row, text, part in _texts(file, columns):
            if columns.split is not None and part != meant:
                others += 1
                continue
            first.setdefault(text, f"{printable(file)}, row {row}")
            count += 1
    if not count:
        raise empty(files[0], FORMAT)
    check_numbers(first)
    classes, index = class_index(list(first))
    largest = max(first, key=lambda text: index[text])
    order = BY_NUMBER if classes is None else BY_NAME
    if classes is None and columns.names is not None:
        if index[largest] >= len(columns.names):
            raise InvalidInputError(
                f"{first[largest]}: the label is {largest}; there are {len(columns.names)} classes."
            )
        classes, order = columns.names, BY_FILE

    def read() -> Iterator[Sample]:
        for file in files:
            prefix = "" if len(files) == 1 else f"{file.name}:"
            for row, (data, text, path, part) in enumerate(_rows(file, columns)):
                if columns.split is None or part == meant:
                    name = printable(f"{prefix}{row}" + (f" {path}" if path else ""))
                    yield Sample(data, index[text], name)

    def column(wanted: str) -> Iterator[tuple[str, str]]:
        texts = (
            text for file in files for text, part in _column(file, columns, wanted)
            if columns.split is None or part == meant
        )  # fmt: skip
        return ((sample.name, text) for sample, text in zip(read(), texts, strict=True))

    size = len(classes) if classes is not None else index[largest] + 1
    return Dataset(
        name, meant if columns.split is None or meant else None, FORMAT, classes, size, count, first[largest],
        read, order=order, left_out={"rows of other splits": others} if others else {},
        assumed=unasked, column=column,
    )  # fmt: skip


def _split_of(
    files: Sequence[Path], columns: _Columns, own: str | None, asked: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """The split that is meant: `own` where no column gives one, else the one that is asked for or chosen; and
    what is assumed."""
    if columns.split is None:
        return own, ()
    there = sorted({part for file in files for _, _, part in _texts(file, columns)})
    wanted = own if asked is None and own in there else asked
    split = splits.chosen(files[0], there, wanted)
    return split, splits.unasked(there, split, wanted)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The file; what is wrong with it is an InvalidInputError, also while it is read."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingRuntimeError.of("Reading Parquet", "pyarrow", "tables") from error
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            yield parquet
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidInputError(
            f"Can't read {printable(file)} as Parquet: {error}.", "write the file again"
        ) from error


def _columns(file: Path) -> _Columns:
    """The columns of the file, checked."""
    with _opened(file) as parquet:
        schema = parquet.schema_arrow
    image = next((name for name in _IMAGES if name in schema.names), None)
    label = next((name for name in _LABELS if name in schema.names), None)
    if image is None or label is None:
        raise InvalidInputError(
            f"{printable(file)} has the columns {', '.join(schema.names)}; a picture and its label are "
            "needed.",
            f"name them {_IMAGES[0]} and {_LABELS[0]}",
        )
    _check_kinds(file, schema, image, label)
    split = next((name for name in _SPLITS if name in schema.names), None)
    return _Columns(image, label, split, _class_names(schema, label))


def _check_kinds(file: Path, schema: pa.Schema, image: str, label: str) -> None:
    import pyarrow as pa

    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InvalidInputError(
            f"{printable(file)}: the column {image} holds {kind}, not the bytes of pictures."
        )
    kind = schema.field(label).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    allowed = (
        pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_large_string,
    )  # fmt: skip
    if not any(is_kind(kind) for is_kind in allowed):
        raise InvalidInputError(
            f"{printable(file)}: the column {label} holds {kind}, not whole numbers or text."
        )


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _texts(file: Path, columns: _Columns) -> Iterator[tuple[int, str, str]]:
    """Number, label's text and split of each row."""
    wanted = [columns.label, *([columns.split] if columns.split else [])]
    with _opened(file) as parquet:
        row = 0
        for batch in parquet.iter_batches(columns=wanted):
            labels = batch.column(batch.schema.get_field_index(columns.label)).to_pylist()
            for value, part in zip(labels, _parts(batch, columns), strict=True):
                yield row, _label(value, f"{printable(file)}, row {row}"), part
                row += 1


def _column(file: Path, columns: _Columns, wanted: str) -> Iterator[tuple[str, str]]:
    """The text of each row in the column that is asked for, and its split."""
    with _opened(file) as parquet:
        there = parquet.schema_arrow.names
        if wanted not in there:
            raise InvalidInputError(
                f'{printable(file)} has no column "{wanted}".', f"its columns: {', '.join(there)}"
            )
        for batch in parquet.iter_batches(columns=[wanted, *([columns.split] if columns.split else [])]):
            values = batch.column(batch.schema.get_field_index(wanted)).to_pylist()
            yield from (
                ("" if value is None else str(value), part)
                for value, part in zip(values, _parts(batch, columns), strict=True)
            )


def _label(value: Any, place: str) -> str:
    """The text of a label. Raises InvalidInputError where there is none, or a number that isn't a class's."""
    if value is None or (isinstance(value, int | float) and not value >= 0):
        raise InvalidInputError(
            f"{place}: the label is {value}; labels begin at 0.",
            "leave out rows without a label: a test split often has none",
        )
    if isinstance(value, float) and whole_number(str(value)) is None:
        raise InvalidInputError(f"{place}: the label is {value}, not whole numbers or text.")
    return str(value)


def _parts(batch: Any, columns: _Columns) -> list[str]:
    if columns.split is None:
        return [""] * batch.num_rows
    values = batch.column(batch.schema.get_field_index(columns.split)).to_pylist()
    return [splits.asked(str(value)) if value else "" for value in values]


def _rows(file: Path, columns: _Columns) -> Iterator[tuple[bytes, str, str | None, str]]:
    """Encoded picture, label's text, path and split of each row."""
    wanted = [columns.image, columns.label, *([columns.split] if columns.split else [])]
    with _opened(file) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH, columns=wanted):
            labels = batch.column(batch.schema.get_field_index(columns.label)).to_pylist()
            pictures = batch.column(batch.schema.get_field_index(columns.image)).to_pylist()
            for picture, text, part in zip(pictures, labels, _parts(batch, columns), strict=True):
                content = picture if isinstance(picture, dict) else {"bytes": picture}
                yield content.get("bytes") or b"", str(text), content.get("path"), part
