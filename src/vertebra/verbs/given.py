"""The arguments of verbs, converted to what the rooms take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vertebra import units
from vertebra.measurements import Table

TableLike = Table | str | Path | None


def table(table: TableLike, *, create: bool = True) -> Table:
    return table if isinstance(table, Table) else Table(table, create=create)


def seconds(text: str | float) -> float:
    return units.parse(text, "s") if isinstance(text, str) else text


def renamed(value: Any, earlier: Any, default: Any) -> Any:
    """The value of an argument that had another name earlier, under which it is still taken."""
    return earlier if value == default and earlier is not None else value


def several(one: Any) -> tuple[Any, ...]:
    return (one,) if one is None or isinstance(one, int | float | str) else tuple(one)
