"""Parquet files whose rows hold an encoded picture and its label, as Hugging Face's datasets have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.data.datasets.dataset import Dataset, Sample, class_index, empty
from vertebra.errors import InvalidInputError, MissingRuntimeError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "Parquet"

_IMAGES = ("image", "img", "picture", "jpg")
_LABELS = ("label", "labels", "fine_label", "class", "target", "cls")
_BATCH = 32


def open_parquet(files: Sequence[Path], *, name: str, split: str | None) -> Dataset:
    """Rows of all `files` in order. The picture is a column of bytes, or a struct with `bytes` and `path`;
    the label an index, or text. Class names are read from the file's own features, if any.

    A row without picture bytes is read as an empty picture: its path is not followed.
    Raises MissingRuntimeError without pyarrow, and InvalidInputError, with file and row, for what can't be
    read, a missing column, a missing or a negative label, or an empty set.
    """
    columns = [_columns(file) for file in files]
    image, label, names = columns[0]
    differing = next((file for file, one in zip(files, columns, strict=True) if one != columns[0]), None)
    if differing is not None:
        raise InvalidInputError(f"{differing} has different columns or classes from {files[0]}.")
    first: dict[str, str] = {}
    count = 0
    for file in files:
        for row, text in enumerate(_texts(file, label)):
            first.setdefault(text, f"{file}, row {row}")
            count += 1
    if not count:
        raise empty(files[0], FORMAT)
    classes, index = class_index(list(first))
    largest = max(first, key=lambda text: index[text])
    if classes is None and names is not None:
        if index[largest] >= len(names):
            raise InvalidInputError(
                f"{first[largest]}: the label is {largest}; there are {len(names)} classes."
            )
        classes = names

    def read() -> Iterator[Sample]:
        for file in files:
            prefix = "" if len(files) == 1 else f"{file.name}:"
            for row, (data, text, path) in enumerate(_rows(file, image, label)):
                yield Sample(data, index[text], f"{prefix}{row}" + (f" {path}" if path else ""))

    size = len(classes) if classes is not None else index[largest] + 1
    return Dataset(name, split, FORMAT, classes, size, count, first[largest], read)


def _opened(file: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingRuntimeError.of("Reading Parquet", "pyarrow", "tables") from error
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidInputError(f"Can't read {file} as Parquet: {error}.", "write the file again") from error


def _columns(file: Path) -> tuple[str, str, tuple[str, ...] | None]:
    """Names of the picture's and of the label's column, and the class names in the file."""
    with _opened(file) as parquet:
        schema = parquet.schema_arrow
    image = next((name for name in _IMAGES if name in schema.names), None)
    label = next((name for name in _LABELS if name in schema.names), None)
    if image is None or label is None:
        raise InvalidInputError(
            f"{file} has the columns {', '.join(schema.names)}; a picture and its label are needed.",
            f"name them {_IMAGES[0]} and {_LABELS[0]}",
        )
    _check_kinds(file, schema, image, label)
    return image, label, _class_names(schema, label)


def _check_kinds(file: Path, schema: pa.Schema, image: str, label: str) -> None:
    import pyarrow as pa

    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InvalidInputError(f"{file}: the column {image} holds {kind}, not the bytes of pictures.")
    kind = schema.field(label).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InvalidInputError(f"{file}: the column {label} holds {kind}, not whole numbers or text.")


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _texts(file: Path, label: str) -> Iterator[str]:
    with _opened(file) as parquet:
        row = 0
        for batch in parquet.iter_batches(columns=[label]):
            for value in batch.column(0).to_pylist():
                if value is None or (isinstance(value, int) and value < 0):
                    raise InvalidInputError(
                        f"{file}, row {row}: the label is {value}; labels begin at 0.",
                        "leave out rows without a label: a test split often has none",
                    )
                yield str(value)
                row += 1


def _rows(file: Path, image: str, label: str) -> Iterator[tuple[bytes, str, str | None]]:
    """Encoded picture, label's text and path of each row."""
    with _opened(file) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH, columns=[image, label]):
            labels = batch.column(batch.schema.get_field_index(label)).to_pylist()
            pictures = batch.column(batch.schema.get_field_index(image)).to_pylist()
            for picture, text in zip(pictures, labels, strict=True):
                content = picture if isinstance(picture, dict) else {"bytes": picture}
                yield content.get("bytes") or b"", str(text), content.get("path")
