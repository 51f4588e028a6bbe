"""How verbs print: a table for people, JSON or CSV for programs, all on standard output."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vertebra import units
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from vertebra.measurements import Measurement, WideRow
    from vertebra.measurements.shipped import Layer, Stage

Function = TypeVar("Function", bound=Callable[..., Any])

table_option = click.option(
    "--table",
    "table",
    metavar="PATH",
    help="The table's file. [default: $VERTEBRA_TABLE, else your data folder]",
)


def format_options(function: Function) -> Function:
    """Adds --json and --csv; the command gets `style`: "text", "json" or "csv"."""
    function = click.option("--csv", "style", flag_value="csv", help="Print CSV.")(function)
    function = click.option("--json", "style", flag_value="json", help="Print JSON.")(function)
    return click.option("--text", "style", flag_value="text", default="text", hidden=True)(function)


def emit(rows: Sequence[Mapping[str, Any]], style: str, text: Callable[[], str] | None = None) -> None:
    """Print `rows` in `style`, a column for each key; `text` makes the text for people, if given."""
    if style == "json":
        click.echo(json.dumps([dict(row) for row in rows], indent=1, ensure_ascii=False))
    elif style == "csv":
        click.echo(csv_text(rows), nl=False)
    else:
        click.echo(text() if text is not None else columns(rows))


def columns(rows: Sequence[Mapping[str, Any]]) -> str:
    """`rows` as aligned columns, numbers to the right, at full width. Empty columns are left out."""
    if not rows:
        return "(nothing)"
    heads = [head for head in rows[0] if any(row[head] not in (None, "") for row in rows)]
    cells = [["" if row[head] is None else str(row[head]) for head in heads] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    right = [all(_is_number(row[head]) for row in rows) for head in heads]
    lines = [_line(heads, widths, right), _line(["-" * width for width in widths], widths, right)]
    return "\n".join([*lines, *(_line(row, widths, right) for row in cells)])


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and value[:1].isdigit())


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """`rows` as CSV; the first one's keys are the columns."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def record(row: Measurement, style: str, name: str | None = None) -> dict[str, Any]:
    """One row of the table: for "text" the main columns in readable units, with the network's `name` among
    those that share it, else every column in base units."""
    if style == "text":
        return {**_readable(row), "model": name or row.model}
    every = asdict(row)
    if style == "csv":
        every["grade_reasons"] = "; ".join(row.grade_reasons)
        every["versions"] = "; ".join(f"{name} {version}" for name, version in row.versions.items())
    return every


def _readable(row: Measurement) -> dict[str, Any]:
    return {
        "model": row.model,
        "metric": row.metric,
        "value": units.show(row.value, METRICS[row.metric].unit),
        "95 % interval": span(row),
        "grade": row.grade,
        "origin": row.origin,
        "conditions": conditions(row),
        "run": row.run[:8] if row.run else None,
        "notes": "; ".join(filter(None, [*row.grade_reasons, row.disputed])),
    }


def span(row: Measurement) -> str | None:
    """The 95 % interval as text, or None where the row has none."""
    if row.low is None or row.high is None:
        return None
    unit = METRICS[row.metric].unit
    return f"{units.show(row.low, unit)} to {units.show(row.high, unit)}"


def conditions(row: Measurement) -> str:
    """The conditions of a row, as text."""
    from vertebra.measurements import display

    return display.conditions(row)


def part(one: Layer | Stage) -> dict[str, Any]:
    """One layer or stage, its shape as text."""
    values: dict[str, Any] = one._asdict()
    return {**values, "output_shape": "x".join(map(str, values["output_shape"]))}


#: The figures in a line for people.
GLANCE = ("top1", "latency", "memory_total", "params", "operations", "weight_bytes")


def glance(row: WideRow) -> dict[str, Any]:
    """One network in one line, for people."""
    line: dict[str, Any] = {"model": row.model, "engine": row.conditions.get("engine")}
    line.update({METRICS[metric].label: quantity(row, metric) for metric in GLANCE})
    latency = row.figures.get("latency")
    return {**line, "grade": None if latency is None else latency.grade}


def quantity(row: WideRow, metric: str) -> str | None:
    """A figure as text for people, or None if no row has it."""
    value = row.value(metric)
    return None if value is None else units.show(value, METRICS[metric].unit)
