"""A row as plain data, in one canonical form: what is stored, hashed and exchanged.

A record holds the columns that have a value (None, empty tuples and empty mappings are left out)
in JSON's types. `run` is not part of it: it is where a row is kept, not what was measured.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, cast

from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements.measurement import COLUMNS, Measurement

Kind = Literal["text", "integer", "boolean", "number", "texts", "mapping"]
Record = dict[str, Any]

_KIND_OF: dict[str, Kind] = {
    "str": "text",
    "int": "integer",
    "bool": "boolean",
    "float": "number",
    "tuple[str, ...]": "texts",
    "Mapping[str, str]": "mapping",
}

#: column -> what kind of value it holds, read from the row's own annotations
KINDS: dict[str, Kind] = {
    column.name: _KIND_OF[cast(str, column.type).removesuffix(" | None")] for column in fields(Measurement)
}
REQUIRED = ("model", "metric", "value", "origin")
#: Where a row keeps the id that its system has in the table, if it was read with another one.
STORED_SYSTEM = "_stored_system"
#: SQLite and Parquet hold whole numbers of 64 bits.
_LARGEST_INTEGER = 2**63 - 1


def record_of(row: Measurement) -> Record:
    """`row` in canonical form. Raises InvalidInputError where a column holds a value of another kind."""
    record: Record = {}
    for name in COLUMNS:
        value = getattr(row, name)
        if name == "system":
            value = vars(row).get(STORED_SYSTEM, value)
        if name == "run" or value is None or (KINDS[name] in ("texts", "mapping") and not value):
            continue
        record[name] = canonical(name, value)
    return record


def row_of(values: Mapping[str, Any]) -> Measurement:
    """The row with `values` (column -> value, from any source).

    Raises UnknownNameError for a column that doesn't exist, and InvalidInputError where a needed
    one is missing or holds a value that can't be used.
    """
    check_columns(values)
    known = {name: canonical(name, value) for name, value in values.items() if value is not None}
    missing = [name for name in REQUIRED if name not in known]
    if missing:
        raise InvalidInputError(
            f"The row has no {' and no '.join(missing)}.", f"every row needs {', '.join(REQUIRED)}"
        )
    if "grade_reasons" in known:
        known["grade_reasons"] = tuple(known["grade_reasons"])
    return Measurement(**known)


def check_columns(names: Iterable[str]) -> None:
    """Raises UnknownNameError at the first of `names` that isn't a column."""
    for name in names:
        if name not in KINDS:
            raise unknown_column(str(name), COLUMNS)


def unknown_column(name: str, known: Iterable[str]) -> UnknownNameError:
    """The error that `name` is not one of the `known` columns."""
    known = list(known)
    return UnknownNameError.of("column", name, known, ", ".join(known))


def canonical(column: str, value: Any) -> Any:
    """`value` as `column` keeps it. Raises InvalidInputError where it is of another kind."""
    kind = KINDS[column]
    try:
        return _CANONICAL[kind](value)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"{column} is {value!r}, which is not {_EXPECTED[kind]}.", f"{column} takes {_EXPECTED[kind]}"
        ) from None


def text_of(record: Any) -> str:
    """The one JSON text of plain data: sorted keys, no spaces, ASCII."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode("utf-8")  # a lone surrogate can't be stored
    return str(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    number = operator.index(value)
    if abs(number) > _LARGEST_INTEGER:
        raise ValueError
    return number


def _boolean(value: Any) -> bool:
    if type(value).__name__ not in ("bool", "bool_"):  # pandas gives NumPy's
        raise TypeError
    return bool(value)


def number(value: Any) -> float:
    """`value` as a finite float; an int becomes one. Raises TypeError or ValueError."""
    if isinstance(value, bool | str | bytes):
        raise TypeError
    try:
        converted = float(value)
    except OverflowError:
        raise ValueError from None
    if not math.isfinite(converted):
        raise ValueError
    return converted + 0.0  # SQLite keeps no negative zero


def _texts(value: Any) -> list[str]:
    if isinstance(value, str | Mapping):
        raise TypeError
    return [_text(item) for item in value]


def _mapping(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError
    return {_text(name): _text(value[name]) for name in sorted(value)}


_CANONICAL: dict[Kind, Callable[[Any], Any]] = {
    "text": _text, "integer": _integer, "boolean": _boolean, "number": number, "texts": _texts,
    "mapping": _mapping,
}  # fmt: skip
_EXPECTED: dict[Kind, str] = {
    "text": "text", "integer": "a whole number of at most 64 bits", "boolean": "true or false",
    "number": "a finite number",
    "texts": "a list of texts", "mapping": "a mapping from text to text",
}  # fmt: skip
