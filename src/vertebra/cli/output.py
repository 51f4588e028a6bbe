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
from vertebra.cli.tables import columns
from vertebra.cli.terminal import json_safe, page, put, say
from vertebra.measurements import display
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from vertebra.measurements import Measurement, WideRow
    from vertebra.measurements.shipped import Layer, Stage

__all__ = ["columns", "say"]  # what verbs print with, besides what is here

Function = TypeVar("Function", bound=Callable[..., Any])

#: Where a command's context says whether its text may be paged.
_PAGED = "vertebra.paged"

table_option = click.option(
    "--table",
    "table",
    metavar="PATH",
    help="File or postgresql:// address. [default: $VERTEBRA_TABLE, else your data folder]",
)

shard_option = click.option(
    "--shard",
    metavar="K/N",
    help="Measure only share K of N; other machines measure the others.",
)
on_option = click.option("--on", metavar="ray[://HOST:PORT]", help="Measure on the nodes of a Ray cluster.")


def format_options(function: Function) -> Function:
    """Adds --json and --csv; the command gets `style`: "text", "json" or "csv"."""
    function = click.option("--csv", "style", flag_value="csv", help="Print CSV.")(function)
    function = click.option("--json", "style", flag_value="json", help="Print JSON.")(function)
    return click.option("--text", "style", flag_value="text", default="text", hidden=True)(function)


def pager_option(function: Function) -> Function:
    """Adds --no-pager; what `emit` prints for people is paged on a terminal if it is long."""
    return click.option(
        "--no-pager", is_flag=True, expose_value=False, callback=_note_pager, help="Print long text at once."
    )(function)


def _note_pager(context: click.Context, _: click.Parameter, is_off: bool) -> None:
    context.meta[_PAGED] = not is_off


def emit(rows: Sequence[Mapping[str, Any]], style: str, text: Callable[[], str] | None = None) -> None:
    """Print `rows` in `style`, a column for each key; `text` makes the text for people, if given."""
    if style == "json":
        put(json_text([dict(row) for row in rows], indent=1) + "\n")
    elif style == "csv":
        put(csv_text(rows))
    else:
        show(text() if text is not None else columns(rows))


def show(text: str) -> None:
    """Print text for people, in a pager if the command has `pager_option` and the text is long."""
    context = click.get_current_context(silent=True)
    (page if context is not None and context.meta.get(_PAGED) else say)(text)


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as JSON that any terminal and encoding can take."""
    return json_safe(json.dumps(value, ensure_ascii=False, indent=indent))


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
        "value": ("~" if row.origin == "estimated" else "") + units.show(row.value, METRICS[row.metric].unit),
        "95 % interval of the run": display.interval(row),
        "grade": row.grade,
        "origin": row.origin,
        "conditions": display.known(row),
        "run": row.run[:8] if row.run else None,
        "notes": "; ".join(filter(None, [*row.grade_reasons, row.disputed])),
    }


def part(one: Layer | Stage) -> dict[str, Any]:
    """One layer or stage, its shape as text."""
    values: dict[str, Any] = one._asdict()
    return {**values, "output_shape": "x".join(map(str, values["output_shape"]))}


def quantity(row: WideRow, metric: str) -> str | None:
    """A figure as text for people, or None if no row has it."""
    return display.quantity(row.figures.get(metric))
