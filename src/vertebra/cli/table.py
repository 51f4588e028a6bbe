"""`vertebra table`: the measurements themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

import vertebra
from vertebra.cli.output import columns, emit, format_options, pager_option, record, table_option
from vertebra.cli.terminal import room, say
from vertebra.measurements import Measurement, WideRow, display, subjects
from vertebra.measurements.views import FORM
from vertebra.metrics import METRICS
from vertebra.verbs import given


@click.command("table")
@click.option("--model", metavar="NAME[#DIGEST]", help="Only this network.")
@click.option("--metric", help="Only this metric.")
@click.option("--engine", help="Only this engine.")
@click.option("--origin", help="Only this origin: published, profiled, benched, evaluated, estimated.")
@click.option("--system", help="Only this machine.")
@click.option("--precision", help="Only this precision.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Only this batch size.")
@click.option("--all", "every", is_flag=True, help="Print every row, not only the latest of each figure.")
@click.option(
    "--wide", is_flag=True, help="Print a line for each network and form, a column for each figure."
)
@click.option("--write", "file", metavar="FILE", help="Write the rows to a .csv, .json or .parquet file.")
@click.option(
    "--forget", metavar="RUN", multiple=True,
    help="Hide all rows of the run whose id begins so; may be repeated.",
)  # fmt: skip
@click.option("--restore", metavar="RUN", multiple=True, help="Show a forgotten run's rows again.")
@click.option("--forgotten", is_flag=True, help="Print the rows of forgotten runs instead.")
@click.option(
    "--price", metavar="NAME=0.34USD", multiple=True,
    help="Keep what an hour of a machine costs, for pick; none takes it back. Repeatable.",
)  # fmt: skip
@table_option
@format_options
@pager_option
def command(
    every: bool, wide: bool, file: str | None, table: str | None, style: str, forget: tuple[str, ...],
    restore: tuple[str, ...], forgotten: bool, price: tuple[str, ...], **filters: Any,
) -> None:  # fmt: skip
    """Print the rows of the table: published, counted, measured and estimated figures.

    The text has readable units and all conditions in one column; --json and --csv print every column in base
    units.
    """
    if wide and file is not None:
        raise click.UsageError("--write can't be combined with --wide.")
    chosen = {name: value for name, value in filters.items() if value is not None}
    if price:
        if chosen or every or wide or forgotten or forget or restore or file is not None:
            raise click.UsageError("--price is of a machine; leave the other options out.")
        emit(_priced(table, price), style)
        return
    if forget or restore:
        if chosen or every or wide or forgotten or file is not None:
            raise click.UsageError("--forget and --restore take whole runs; leave the other options out.")
        emit(_marked(table, forget, restore), style)
        return
    if wide:
        forms = vertebra.table(path=table, every=every, wide=True, forgotten=forgotten, **chosen)
        emit([_form(row, style) for row in forms], style)
        return
    rows = vertebra.table(path=table, every=every, forgotten=forgotten, **chosen)
    if file is not None:
        rows.write(file)
        say(f"{len(rows)} rows written to {file}", err=True)
        return
    called = subjects.names(rows)
    records = [record(row, style, called[subjects.subject(row)]) for row in rows]
    if style == "text":
        records = _told_apart(rows, records)
    emit(records, style, lambda: columns(records, grouped=room() is not None))


def _told_apart(rows: Sequence[Measurement], records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records, with their sources where they are alike otherwise: several editions of one page."""
    alike = Counter(map(str, records))
    return [
        {**one, "source": row.source if alike[str(one)] > 1 else None}
        for row, one in zip(rows, records, strict=True)
    ]


def _marked(table: str | None, forget: tuple[str, ...], restore: tuple[str, ...]) -> list[dict[str, Any]]:
    """Forget and restore runs, and say so, a line for each."""
    source = given.table(table, create=False)
    gone, back = source.forget(*forget), source.restore(*restore)
    done = [("forgotten", "--restore", gone), ("restored", "--forget", back)]
    return [
        {"run": run, "rows": count, "now": state, "to undo": f"vertebra table {undo} {run[:12]}"}
        for state, undo, runs in done
        for run, count in runs.items()
    ]


def _priced(table: str | None, price: tuple[str, ...]) -> list[dict[str, Any]]:
    """Keep prices, and say what the table has of all machines then, a line for each."""
    source = given.table(table, create=False)
    source.keep_prices(price)
    return [
        {"system": system, "price per hour": one.per_hour, "currency": one.currency}
        for system, one in sorted(source.prices().items())
    ]


def _form(row: WideRow, style: str) -> dict[str, Any]:
    """A network in one form: its conditions and its figures; for people, the main ones in readable units."""
    where = {name: row.conditions.get(name) for name in FORM}
    if style == "text":
        return {
            **display.glance(row),
            **{name: where[name] for name in ("precision", "batch_size", "system")},
        }
    return {"model": row.model, **where, **{name: row.value(name) for name in METRICS}}
