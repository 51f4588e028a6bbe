"""Rows in and out of files: CSV, JSON, Parquet and pandas, without loss.

Every column goes with the row, `run` too, so that reading a file back into the table that it came
from adds nothing. Raw samples and descriptions of systems stay in the table; `Table.merge` moves
those. A file is written under another name and then renamed, so that it is never seen half written.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from vertebra.errors import (
    InvalidInputError,
    MissingRuntimeError,
    TableError,
    UnknownNameError,
    VertebraError,
)
from vertebra.measurements import display
from vertebra.measurements.measurement import COLUMNS, Measurement
from vertebra.measurements.record import KINDS, REQUIRED, Kind, check_columns, record_of, row_of, text_of
from vertebra.measurements.subjects import names, subject

if TYPE_CHECKING:
    import pandas

FORMAT = "vertebra.measurements"
FORMAT_VERSION = 2
#: Version 1 lacks columns that version 2 has; what it holds means the same.
_READABLE = (1, FORMAT_VERSION)


def _values(row: Measurement) -> dict[str, Any]:
    """The row's values in canonical form, with its run."""
    return record_of(row) | ({} if row.run is None else {"run": row.run})


def _rows(
    numbered: Iterable[tuple[int, Mapping[str, Any]]], what: str, where: str | Path
) -> list[Measurement]:
    """The rows with these values, each with the number of its line or row, which errors name."""
    rows = []
    for number, values in numbered:
        try:
            rows.append(row_of(values))
        except VertebraError as error:
            raise type(error)(f"{where}, {what} {number}: {error.message}", error.hint) from None
    return rows


# ------------------------------------------------------------------ files


@contextlib.contextmanager
def _replaced(path: Path | str) -> Iterator[Path]:
    """A new file next to `path`, moved there when the block ends well and removed when not."""
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}"  # a plain name even where `path` has none
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # where there is no such folder, nothing is to be removed
            temporary.unlink()


def _unwritable(path: Path, error: OSError) -> TableError:
    return TableError(
        f"Can't write {path}: {error.strerror or error}.", "choose a path that you may write to"
    )


def _read_text(path: Path | str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TableError(
            f"Can't read {path}: {error.strerror or error}.", "pass the path of an existing file"
        ) from error
    except UnicodeDecodeError:
        _refuse(path, "it is not text in UTF-8")


def _refuse(path: Path | str, why: str) -> NoReturn:
    raise TableError(
        f"Can't read rows from {path}: {why}.", "nothing was appended; check that it is the right file"
    )


# ------------------------------------------------------------------ CSV


def write_csv(rows: Iterable[Measurement], path: Path | str) -> None:
    """One line a row under a line of column names. An empty cell is None; lists are written as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = _values(row)
        writer.writerow(_CELL[KINDS[name]](values[name]) if name in values else "" for name in COLUMNS)
    with _replaced(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def read_csv(path: Path | str) -> list[Measurement]:
    """The rows of a CSV file whose first line names columns of the table, in any order.

    Raises TableError, UnknownNameError or InvalidInputError, with the line's number.
    """
    try:
        return _rows(_csv_lines(_read_text(path), path), "line", path)
    except csv.Error as error:
        _refuse(path, f"it is not CSV ({error})")


def _csv_lines(text: str, path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader, [])
    _check_header(header, path)
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            _refuse(path, f"line {reader.line_num} has {len(cells)} cells under {len(header)} column names")
        line = reader.line_num
        given = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
        yield line, {name: _parsed(name, cell, line, path) for name, cell in given.items()}


def _check_header(header: Sequence[str], path: Path | str) -> None:
    """Check that all are columns of the table, each is there once, and the required ones are among them."""
    if not set(REQUIRED) <= set(header):
        _refuse(path, f"it lacks the columns {', '.join(name for name in REQUIRED if name not in header)}")
    if len(set(header)) != len(header):
        _refuse(path, "it names a column twice")
    try:
        check_columns(header)
    except UnknownNameError as error:
        raise UnknownNameError(f"{path}: {error.message}", error.hint) from None


def _text_cell(text: str) -> str:
    """Text as it is; as JSON where it could be taken for something else, or would break the line."""
    plain = text and not text.startswith('"') and text.isprintable()
    return text if plain else json.dumps(text)


_CELL: dict[Kind, Callable[[Any], str]] = {
    "text": _text_cell, "integer": str, "boolean": json.dumps, "number": repr, "texts": text_of,
    "mapping": text_of,
}  # fmt: skip
_BOOLEANS = {"true": True, "false": False}
_PARSE: dict[Kind, Callable[[str], Any]] = {
    "text": lambda cell: json.loads(cell) if cell.startswith('"') else cell,
    "integer": int, "boolean": lambda cell: _BOOLEANS[cell.lower()], "number": float, "texts": json.loads,
    "mapping": json.loads,
}  # fmt: skip


def _parsed(name: str, cell: str, line: int, path: Path | str) -> Any:
    kind = KINDS[name]
    try:
        return _PARSE[kind](cell)
    except (ValueError, KeyError, RecursionError):
        raise InvalidInputError(
            f"{path}, line {line}: can't read {name} from {cell!r}.",
            "write numbers plainly, in base units, and lists as JSON",
        ) from None


# ------------------------------------------------------------------ JSON


def write_json(rows: Iterable[Measurement], path: Path | str) -> None:
    """An object that names its format and holds the rows, a line each, without what is None."""
    head = f'{{"format": "{FORMAT}", "version": {FORMAT_VERSION}, "rows": ['
    lines = ",\n".join(json.dumps(_values(row), ensure_ascii=True) for row in rows)
    with _replaced(path) as temporary:
        temporary.write_text(f"{head}\n{lines}\n]}}\n", encoding="utf-8", newline="")


def read_json(path: Path | str) -> list[Measurement]:
    """The rows of a file that `write_json` wrote.

    Raises TableError, UnknownNameError or InvalidInputError; errors name a bad row by its number, from 1.
    """
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError):
        _refuse(path, "it is not JSON")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        _refuse(path, f'it lacks "format": "{FORMAT}"')
    if content.get("version") not in _READABLE:
        known = " and ".join(map(str, _READABLE))
        _refuse(path, f"its format has version {content.get('version')}, and only {known} can be read")
    rows = content.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        _refuse(path, 'its "rows" are not a list of objects')
    return _rows(enumerate(rows, 1), "row", path)


# ------------------------------------------------------------------ Parquet and pandas


def write_parquet(rows: Iterable[Measurement], path: Path | str) -> None:
    """One column a column, lists and mappings as such. Raises MissingRuntimeError without pyarrow."""
    pyarrow = _pyarrow()
    from pyarrow import parquet

    kinds = {
        "text": pyarrow.string(), "integer": pyarrow.int64(), "boolean": pyarrow.bool_(),
        "number": pyarrow.float64(),
        "texts": pyarrow.list_(pyarrow.string()), "mapping": pyarrow.map_(pyarrow.string(), pyarrow.string()),
    }  # fmt: skip
    schema = pyarrow.schema(
        [(name, kinds[KINDS[name]]) for name in COLUMNS],
        metadata={"format": FORMAT, "version": str(FORMAT_VERSION)},
    )
    values = [_values(row) for row in rows]
    for value in values:
        value["versions"] = list(value.get("versions", {}).items())
    with _replaced(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(values, schema=schema), temporary)


def read_parquet(path: Path | str) -> list[Measurement]:
    """The rows of a Parquet file whose columns are the table's.

    Raises TableError, UnknownNameError or InvalidInputError; errors name a bad row by its number, from
    1. Raises MissingRuntimeError without pyarrow.
    """
    pyarrow = _pyarrow()
    from pyarrow import parquet

    try:
        with Path(path).open("rb") as file:
            table = parquet.read_table(file)
    except OSError as error:
        _refuse(path, error.strerror or "it is not Parquet")
    except pyarrow.ArrowException:
        _refuse(path, "it is not Parquet")
    _check_header(table.column_names, path)
    return _rows(enumerate(map(_unpacked, table.to_pylist()), 1), "row", path)


def _unpacked(values: dict[str, Any]) -> dict[str, Any]:
    """Arrow returns a mapping as a list of pairs."""
    pairs = values.get("versions")
    return {**values, "versions": dict(pairs)} if pairs else {**values, "versions": None}


def to_dataframe(rows: Iterable[Measurement]) -> pandas.DataFrame:
    """One column a column, in pandas' own nullable types. Raises MissingRuntimeError without pandas."""
    pandas = _pandas()
    types = {"text": "string", "integer": "Int64", "boolean": "boolean", "number": "Float64", "texts": object,
             "mapping": object}  # fmt: skip
    values = [_values(row) for row in rows]
    series = {
        name: pandas.Series([value.get(name) for value in values], dtype=types[KINDS[name]])
        for name in COLUMNS
    }
    return pandas.DataFrame(series)


def from_dataframe(frame: pandas.DataFrame) -> list[Measurement]:
    """The rows of a DataFrame whose columns are the table's.

    Raises UnknownNameError or InvalidInputError; errors name a bad row by its number, from 1. Raises
    MissingRuntimeError without pandas.
    """
    pandas = _pandas()
    _check_header([str(name) for name in frame.columns], "the DataFrame")
    columns = [[_known(pandas, cell) for cell in frame[name]] for name in frame.columns]
    rows = (dict(zip(frame.columns, cells, strict=True)) for cells in zip(*columns, strict=True))
    return _rows(enumerate(rows, 1), "row", "the DataFrame")


def _known(pandas: ModuleType, cell: Any) -> Any:
    """None for what pandas calls missing."""
    return None if pandas.api.types.is_scalar(cell) and pandas.isna(cell) else cell


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingRuntimeError.of("Parquet", "pyarrow", "tables") from None
    return pyarrow


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingRuntimeError.of("A DataFrame", "pandas", "tables") from None
    return pandas


class Rows(display.Shown, list[Measurement]):
    """Rows of the table."""

    def summary(self) -> str:
        """How many, of how many networks and metrics."""
        models, metrics = len(set(map(subject, self))), len({row.metric for row in self})
        parts = (display.count(models, "network"), display.count(metrics, "metric"))
        return f"{display.count(len(self), 'row')} of {' and '.join(parts)}"

    def tables(self) -> Iterable[list[display.Line]]:
        """The rows."""
        called = names(self)
        yield [{**display.readable(row), "model": called[subject(row)]} for row in self]

    def write(self, path: str | Path) -> None:
        """Write the rows to a .csv, .json or .parquet file that `cite` takes in again, on any machine."""
        file = Path(path)
        writers = {".csv": write_csv, ".json": write_json, ".parquet": write_parquet}
        if file.suffix not in writers:
            raise InvalidInputError(
                f'Can\'t detect the format of "{file}".', f"formats: {', '.join(writers)}"
            )
        writers[file.suffix](self, file)
