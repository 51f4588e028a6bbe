"""Rows from your own table: a CSV file, and the meaning of its columns.

A map pairs our column or metric with a column of the file, and gives the unit of plain numbers:
`model=Model,top1=Acc@1:percent,latency=Time (ms):ms,batch_size=BS`.
"""

from __future__ import annotations

import csv
import decimal
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertebra import units
from vertebra.errors import InvalidInputError, TableError, UnknownNameError, VertebraError
from vertebra.measurements import COLUMNS, CONDITIONS, Measurement
from vertebra.measurements.record import KINDS
from vertebra.measuring.citations import numerals
from vertebra.measuring.citations.numerals import Decimal
from vertebra.metrics import DERIVED, METRICS

_DELIMITERS = (",", ";", "\t")
#: The first line of some of Excel's files.
_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
#: Cells without a figure.
_NOTHING = ("", "-", "–", "—", "n/a", "na", "nan", "none", "null", "?")
#: Columns that are set automatically, or that a single column can't give.
_NOT_MAPPED = (
    "metric",
    "value",
    "origin",
    "run",
    "low",
    "high",
    "samples",
    "grade",
    "grade_reasons",
    "versions",
    "network_sha256",
    "dataset_sha256",
    "beside",
    "exclusive",
)
_MAPPED = tuple(name for name in COLUMNS if name not in _NOT_MAPPED)
_EVERY = f"{', '.join(_MAPPED)}; metrics: vertebra list metrics"
_EXAMPLE = 'write it like "model=Model,top1=Acc@1:percent,latency=Time:ms"'


@dataclass(frozen=True)
class _Figure:
    """A column of the file with the values of one metric."""

    metric: str
    column: str
    scale: float | None


@dataclass(frozen=True)
class _Map:
    figures: tuple[_Figure, ...]
    columns: Mapping[str, str]  # ours -> theirs


def read_table(
    path: str | Path,
    mapping: str,
    *,
    source: str | None = None,
    decimal: str | None = None,
    **fixed: str | None,
) -> list[Measurement]:
    """The rows of the CSV file at `path`, published by `source` (default: the file's name).

    `fixed` are our columns with one value for the whole file: system="raspberry-pi-5", batch_size="1".
    A cell with its own unit ("12.3 ms") is read with it; a plain number needs one in the map, except for
    counts and fractions. A cell without a figure makes no row. Whether a comma begins a fraction or stands
    between thousands is read off the column, or is as `decimal` says: "comma" or "point".

    Raises TableError if the file is not CSV, InvalidInputError for a map that doesn't fit it or a cell that
    can't be read (with its line), and UnknownNameError for a column of ours that doesn't exist.
    """
    path = Path(path).expanduser()
    if decimal not in (None, "comma", "point"):
        raise InvalidInputError(f'Can\'t read decimals by "{decimal}".', "decimal is comma or point")
    file = _read(path)
    header, lines = file.header, list(file.lines)
    understood = _parse(mapping, header, path)
    ways = _ways(understood, file, lines, decimal)
    known = {name: value for name, value in fixed.items() if value is not None}
    _check_fixed(known, understood)
    shared = {name: _column(name, value, "the option") for name, value in known.items()}
    shared["source"] = source or path.name
    found = [
        row for number, cells in lines
        for row in _rows(cells, understood, ways, shared, f"{path}, line {number}")
    ]  # fmt: skip
    if not found:
        raise InvalidInputError(f"{path} has no figures.", "it needs at least one line below its header")
    return found


# ------------------------------------------------------------------ the file


_Line = tuple[int, dict[str, str]]


@dataclass(frozen=True)
class _File:
    """`lines` are the lines below the header with their numbers, cell by column."""

    path: Path
    delimiter: str
    header: list[str]
    lines: Iterator[_Line]


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TableError(f"Can't read {path}: {error.strerror}.", "name a file that exists") from error
    except UnicodeDecodeError:
        raise TableError(f"Can't read {path}: it is not UTF-8 text.", "save it as CSV in UTF-8") from None
    first, _, below = text.partition("\n")
    stated = _SEPARATOR.fullmatch(first.strip())  # as Excel writes it
    text = below if stated else text
    delimiter = stated[1] if stated else max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise TableError(f"Can't read {path}: it is not CSV ({error}).", "is it the right file?") from None
    if not any(header):
        raise TableError(f"{path} has no header.", "its first line must name the columns")
    return _File(path, delimiter, header, _lines(reader, header, path, 1 if stated else 0))


def _lines(reader: Any, header: Sequence[str], path: Path, above: int) -> Iterator[_Line]:
    """The lines of a file that has `above` lines above its header."""
    try:
        for cells in reader:
            if len(cells) > len(header):
                raise TableError(
                    f"{path}, line {reader.line_num + above}: {len(cells)} cells under {len(header)} column "
                    "names.",
                    "is a comma inside a cell that isn't quoted?",
                )
            if any(cell.strip() for cell in cells):
                padded = [*cells, *[""] * (len(header) - len(cells))]
                yield reader.line_num + above, dict(zip(header, map(str.strip, padded), strict=True))
    except csv.Error as error:
        raise TableError(f"{path}, line {reader.line_num + above}: {error}.", "is a quote missing?") from None


# ------------------------------------------------------------------ the map


def _parse(mapping: str, header: Sequence[str], path: Path) -> _Map:
    """The map, checked against the header. Column names of the file may contain commas and colons."""
    figures: list[_Figure] = []
    columns: dict[str, str] = {}
    for item in _items(mapping, header):
        ours, equals, theirs = (part.strip() for part in item.partition("="))
        if not equals or not theirs:
            raise InvalidInputError(f'Can\'t read "{item}" in the map.', _EXAMPLE)
        if ours in columns or any(ours == figure.metric for figure in figures):
            raise InvalidInputError(f'"{ours}" is mapped twice.', "map each of our columns once")
        if ours in METRICS:
            figures.append(_figure(ours, theirs, header, path))
        elif ours in _MAPPED:
            columns[ours] = _found(theirs, header, path)
        else:
            raise UnknownNameError.of("column or metric", ours, [*_MAPPED, *METRICS], _EVERY)
    if "model" not in columns:
        raise InvalidInputError("The map has no column for the network.", _EXAMPLE)
    if not figures:
        raise InvalidInputError("The map has no metric.", f"{_EXAMPLE}; metrics: vertebra list metrics")
    return _Map(tuple(figures), columns)


def _items(mapping: str, header: Sequence[str]) -> list[str]:
    """The parts between commas; a part without "=" belongs to the name before it: `latency=Time, ms`."""
    items: list[str] = []
    for part in mapping.split(","):
        if items and "=" not in part and any("," in name for name in header):
            items[-1] += f",{part}"
        elif part.strip():
            items.append(part)
    return items


def _figure(metric: str, theirs: str, header: Sequence[str], path: Path) -> _Figure:
    if metric in DERIVED:
        raise InvalidInputError(
            f"{METRICS[metric].label} is computed from other metrics, never stored.", "map those metrics"
        )
    column, colon, unit = theirs.rpartition(":")
    if theirs in header or not colon:
        return _Figure(metric, _found(theirs, header, path), None)
    return _Figure(metric, _found(column.strip(), header, path), _scale(unit.strip(), metric))


def _found(theirs: str, header: Sequence[str], path: Path) -> str:
    if header.count(theirs) > 1:
        raise InvalidInputError(
            f'{path} has {header.count(theirs)} columns called "{theirs}".', "give each its own name"
        )
    if theirs in header:
        return theirs
    alike = [name for name in header if name.lower() == theirs.lower()]
    if len(alike) == 1:
        return alike[0]
    raise InvalidInputError(
        f'{path} has no column "{theirs}".', f"its columns: {', '.join(filter(None, header))}"
    )


def _scale(unit: str, metric: str) -> float:
    kind = METRICS[metric].unit
    suffixes = units.SUFFIXES[kind] | ({"percent": 0.01, "fraction": 1.0} if kind == "fraction" else {})
    if units.suffix(unit) not in suffixes:
        known = ", ".join(name for name in suffixes if name)
        raise InvalidInputError(f'"{unit}" is not a unit of {METRICS[metric].label}.', f"units: {known}")
    return suffixes[units.suffix(unit)]


def _check_fixed(fixed: Mapping[str, str], understood: _Map) -> None:
    for name in fixed:
        if name not in _MAPPED:
            raise UnknownNameError.of("column", name, _MAPPED, _EVERY)
        if name in understood.columns:
            raise InvalidInputError(
                f'"{name}" is both mapped and set for the whole file.', "use only one of the two"
            )


# ------------------------------------------------------------------ the cells

_Ways = Mapping[str, Decimal]  # their column -> how its numbers are written


def _ways(understood: _Map, file: _File, lines: Sequence[_Line], stated: str | None) -> _Ways:
    """How the numbers of each column are written. Where its own cells don't tell, the other columns do, or a
    comma between the columns: nobody writes 1.234 for a thousand there.

    Raises InvalidInputError where nothing tells, or the cells contradict each other.
    """
    names = [figure.column for figure in understood.figures]
    names += [theirs for ours, theirs in understood.columns.items() if KINDS[ours] == "number"]
    columns = {name: [(number, cells[name]) for number, cells in lines] for name in names}
    if stated is not None:
        return {name: "comma" if stated == "comma" else "point" for name in columns}
    can = {name: numerals.possible(cell for _, cell in cells) for name, cells in columns.items()}
    told: set[Decimal] = set().union(*(one for one in can.values() if len(one) == 1))
    ways: dict[str, Decimal] = {}
    for name, cells in columns.items():
        doubtful = [(number, cell) for number, cell in cells if numerals.differs(cell)]
        if not can[name]:
            odd = _contradicting(cells)
            raise InvalidInputError(f'{file.path}: "{name}" has decimal points and commas: {odd}.', _DECIMAL)
        by_delimiter = file.delimiter == "," and all("," not in cell for _, cell in doubtful)
        if len(can[name]) == 1 or not doubtful:
            ways[name] = min(can[name], default="point") if len(can[name]) == 1 else "point"
        elif len(told) == 1:
            ways[name] = next(iter(told))
        elif by_delimiter:
            ways[name] = "point"
        else:
            number, cell = doubtful[0]
            raise InvalidInputError(
                f'{file.path}, line {number}: "{cell}" in "{name}" is a fraction or more than a thousand; no '
                "cell of the column shows which.",
                _DECIMAL,
            )
    return ways


def _contradicting(cells: Sequence[tuple[int, str]]) -> str:
    """The first cell of each way of writing."""
    first: dict[str, str] = {}
    for number, cell in cells:
        for way in numerals.possible((cell,)):
            if len(numerals.possible((cell,))) == 1:
                first.setdefault(way, f'"{cell}" in line {number}')
    return ", ".join(first.values())


_DECIMAL = 'say which, for all columns: --decimal comma (decimal="comma"), or point'


def _rows(
    cells: Mapping[str, str], understood: _Map, ways: _Ways, shared: Mapping[str, Any], where: str
) -> Iterator[Measurement]:
    fields = {
        ours: _column(ours, cells[theirs], where, ways.get(theirs, "point"))
        for ours, theirs in understood.columns.items()
        if cells[theirs].lower() not in _NOTHING
    }
    if "model" not in fields:
        raise InvalidInputError(
            f"{where}: the network's name is missing.", "fill the cell, or delete the line"
        )
    for figure in understood.figures:
        if cells[figure.column].lower() not in _NOTHING:
            value = _value(cells[figure.column], figure, where, ways[figure.column])
            try:
                yield Measurement(
                    metric=figure.metric,
                    value=value,
                    origin="published",
                    **_relevant(figure.metric, {**shared, **fields}),
                )
            except VertebraError as error:
                raise type(error)(f"{where}: {error.message}", error.hint) from None


def _relevant(metric: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a metric depends on: an accuracy or a count has no machine, even if the line names
    one."""
    wanted = METRICS[metric].conditions
    if "system" in wanted:
        return dict(fields)
    kept = ("dataset", "split", "protocol", "input_size", "precision") if "dataset" in wanted else wanted
    return {name: value for name, value in fields.items() if name not in CONDITIONS or name in kept}


def _column(name: str, text: str, where: str, way: Decimal = "point") -> Any:
    kind = KINDS[name]
    if kind == "integer":
        text = str(text if (found := numerals.whole(text)) is None else found)
    elif kind == "number":
        text = "".join(numerals.read(text, way) or (text,))
    try:
        return text if kind == "text" else int(text) if kind == "integer" else float(text)
    except ValueError:
        what = "a whole number" if kind == "integer" else "a number"
        raise InvalidInputError(f'{where}: {name} is "{text}".', f"{name} must be {what}") from None


def _value(text: str, figure: _Figure, where: str, way: Decimal) -> float:
    """A cell in base units: by its own unit, else by the map's, else as it is if the metric allows that."""
    unit = METRICS[figure.metric].unit
    plain, own = numerals.read(text, way) or ("", text)
    if plain and not own and figure.scale is not None:
        # decimal, so that 4.1 G becomes exactly 4100000000
        return float(decimal.Decimal(plain) * decimal.Decimal(repr(figure.scale)))
    try:
        if plain.startswith("-"):
            return -units.parse(plain[1:] + own, unit)  # what can't be is said by the row
        return units.parse(plain + own, unit)
    except InvalidInputError as error:
        raise InvalidInputError(
            f'{where}: can\'t read {figure.metric} from "{text}".',
            error.hint
            if own or not plain
            else f"give its unit in the map: {figure.metric}={figure.column}:{_usual(unit)}",
        ) from None


def _usual(unit: str) -> str:
    return {"s": "ms", "B": "MB", "fraction": "percent", "count": "M"}.get(unit, unit)
