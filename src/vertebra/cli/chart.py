"""`vertebra chart`: accuracy against what it costs, and the other figures of the two papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra import units
from vertebra.cli.output import columns, csv_text, emit, format_options, table_option
from vertebra.cli.terminal import say
from vertebra.errors import InvalidInputError
from vertebra.machine.files import write_whole
from vertebra.measurements.measurement import GRADES
from vertebra.measurements.views import FORM
from vertebra.metrics import METRICS
from vertebra.reading.names import encoded

if TYPE_CHECKING:
    from vertebra.reading.charts import Chart

_TYPES: dict[str, Any] = {
    "batch_size": click.IntRange(min=1), "input_size": click.IntRange(min=1),
    "threads": click.IntRange(min=1), "streams": click.IntRange(min=1), "arrival_rate": float,
    "beside": click.IntRange(min=0),
}  # fmt: skip
_HELP = {
    "system": "Only this machine's rows. [default: this machine; with --source: all]",
    "threads": "Only figures at this number of threads.",
    "streams": "Only figures at this number of streams.",
    "beside": "Only figures beside this number of busy threads. [default: none]",
    "batch_size": "Only this batch size. [default: 1 if measured; all in charts of batch sizes]",
}


def _form_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each condition in which the rows of one chart must agree."""
    for name in reversed(FORM):
        text = _HELP.get(name, f"Only this {name.replace('_', ' ')}.")
        function = click.option(f"--{name.replace('_', '-')}", type=_TYPES.get(name), help=text)(function)
    return function


@click.command("chart")
@click.argument("view", required=False)
@click.argument("model", required=False, metavar="[NETWORK]")
@click.option("--x", metavar="METRIC", help="Metric of the horizontal axis. [default: operations]")
@click.option("--y", metavar="METRIC", help="Metric of the vertical axis. [default: top1]")
@click.option(
    "--source", "sources", metavar="NAME", multiple=True,
    help="Draw published figures instead of the table; see vertebra list sources. Repeatable.",
)  # fmt: skip
@_form_options
@click.option(
    "--bound",
    type=click.Choice(("front", "line")),
    help="accuracy-fps: draw the Pareto front or a straight upper bound. [default: front]",
)
@click.option(
    "--memory-classes", metavar="700MB,1GB,…", help="Limits of the memory classes, in tables and grid."
)
@click.option("--fps-classes", metavar="15,30,…", help="Limits of the speed classes, in tables and grid.")
@click.option("--best", type=click.IntRange(min=1), help="Most networks in a cell of the grid. [default: 5]")
@click.option("--trust", type=click.Choice(GRADES), help="Worst grade that the grid accepts. [default: any]")
@click.option(
    "--all", "all_views", is_flag=True, help="Draw every view as .svg, .png and .csv into folder FILE."
)
@click.option("--output", "-o", metavar="FILE", help="Draw into a .svg, .png, .pdf or .json file.")
@table_option
@format_options
def command(
    view: str | None, model: str | None, x: str | None, y: str | None, sources: tuple[str, ...],
    bound: str | None, memory_classes: str | None, fps_classes: str | None,
    best: int | None, trust: str | None, all_views: bool,
    output: str | None, table: str | None, style: str, **form: Any,
) -> None:  # fmt: skip
    """Draw the chart called VIEW into --output, or print it as a table.

    `vertebra list charts` lists the views. Without VIEW, the chart shows metric --y against metric --x with
    one ball per network; a ball's area is the number of parameters. The view `history` is of one NETWORK.

    \b
      vertebra chart -o accuracy.svg
      vertebra chart --x latency --engine onnxruntime -o latency.png
      vertebra chart operations-latency --engine onnxruntime
      vertebra chart grid
      vertebra chart history resnet50_acnet --engine onnxruntime -o history.svg
      vertebra chart accuracy-operations --source bianco2018 -o bianco.svg
      vertebra chart --all -o figures/
    """
    from vertebra.verbs.chart import quantities

    options: dict[str, Any] = {
        "bound": bound, "memory_classes": quantities(memory_classes, "B"),
        "fps_classes": quantities(fps_classes, "1/s"), "best": best, "trust": trust,
    }  # fmt: skip
    filters = {name: value for name, value in form.items() if value is not None}
    if all_views:
        _draw_all(view or model or x or y, output, options, sources=sources, table=table, **filters)
        return
    if view is None:
        filters.setdefault("batch_size", 1)
    drawn = vertebra.chart(view, model, x=x, y=y, sources=sources, table=table, **options, **filters)
    if output is None:
        emit(even(drawn.data()), style, lambda: text(drawn, view))
        return
    drawn.save(output)
    for note in drawn.notes:
        say(note)
    say(f"drawn into {output}", err=True)


def _draw_all(stranger: str | None, output: str | None, options: dict[str, Any], **how: Any) -> None:
    """Draw every view that has figures into a folder, and say why the others are missing."""
    from vertebra.reading.charts import VIEWS
    from vertebra.reading.charts.chart import require
    from vertebra.verbs.chart import OPTIONS, fastest

    if stranger or output is None:
        what = "leave out VIEW, --x and --y" if stranger else "name the folder with -o"
        raise InvalidInputError(
            f"--all draws every view into a folder: {what}.",
            "example: vertebra chart --all -o figures",
        )
    require()
    chosen, engines = fastest(**how)
    if engines:
        others = f" of {', '.join(sorted(engines))}" if len(engines) > 1 else ""
        say(f"drawn for {engines[0]}, the fastest engine{others}; another: --engine NAME", err=True)
    how.update(chosen)
    drawn = 0
    for name in VIEWS:
        try:
            own = {option: value for option, value in options.items() if name in OPTIONS[option]}
            chart = vertebra.chart(name, **own, **how)
        except InvalidInputError as error:
            say(f"{name}: {error.message} {error.hint or ''}".rstrip(), err=True)
            continue
        _save(chart, Path(output), name)
        drawn += 1
    say(f"{drawn} of {len(VIEWS)} views drawn into {output}", err=True)


def _save(drawn: Chart, folder: Path, name: str) -> None:
    """Write the chart in two formats, and its table in base units."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"Can't create {folder}: {error.strerror}.", "choose another folder"
        ) from error
    for suffix in (".svg", ".png"):
        drawn.save(folder / f"{name}{suffix}")
    write_whole(folder / f"{name}.csv", encoded(csv_text(even(drawn.data()))))


def even(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`rows` with the same columns each, None where a row has no value."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    return [{head: row.get(head) for head in heads} for row in rows]


def text(drawn: Chart, view: str | None) -> str:
    """The chart for people: its table in readable units, the conditions that all rows share, and its
    notes."""
    rows = even(drawn.data())
    shared = {} if len(rows) < 2 else _shared(rows)
    body = _TABLES.get(view or "", _listed)(rows, tuple(shared))
    under = [f"With: {', '.join(f'{name} {value}' for name, value in shared.items())}."] if shared else []
    return "\n".join([body, *([""] if under or drawn.notes else []), *under, *drawn.notes])


def _shared(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The conditions that are the same in all rows."""
    names = (*FORM, "dataset", "split", "protocol")
    values = {name: {row.get(name) for row in rows} for name in names}
    return {
        name: next(iter(found)) for name, found in values.items() if len(found) == 1 and None not in found
    }


def _listed(rows: Sequence[Mapping[str, Any]], shared: Sequence[str]) -> str:
    return columns(even([_for_people(row, shared) for row in rows]))


def _for_people(row: Mapping[str, Any], shared: Sequence[str]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in row.items():
        metric, aside = _metric_of(name)
        if metric is None:
            cells.update({} if name in shared else {name: value})
        elif aside in ("", "fitted", "limit"):
            cells[" ".join(filter(None, [METRICS[metric].label, aside]))] = _quantity(value, metric)
        elif aside == "low":
            ends = [_quantity(row[f"{metric}_{end}"], metric) for end in ("low", "high")]
            cells[f"{METRICS[metric].label}, 95 %"] = " to ".join(filter(None, ends))
        elif aside != "high":
            cells[f"{METRICS[metric].label} {aside}"] = value
    return cells


def _metric_of(column: str) -> tuple[str | None, str]:
    """The metric of a column, and which part of the figure the column has."""
    if column in METRICS:
        return column, ""
    metric, _, aside = column.rpartition("_")
    return (metric, aside) if metric in METRICS else (None, "")


def _quantity(value: float | None, metric: str) -> str | None:
    return None if value is None else units.show(value, METRICS[metric].unit)


def _by_batch(metric: str, rows: Sequence[Mapping[str, Any]], shared: Sequence[str]) -> str:
    """A line for each network, a column for each batch size; an asterisk marks grade C, a tilde an
    estimate."""
    batches = sorted({row["batch_size"] for row in rows})
    lines: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault(row["model"], {"model": row["model"], **dict.fromkeys(map(str, batches))})
        marks = ("*" if row.get(f"{metric}_grade") == "C" else "") + (
            "~" if row[f"{metric}_origin"] == "estimated" else ""
        )
        line[str(row["batch_size"])] = f"{_quantity(row[metric], metric)}{marks}"
    return columns(list(lines.values()))


def _grid(rows: Sequence[Mapping[str, Any]], shared: Sequence[str]) -> str:
    """Each cell: its limits, then its networks."""
    cells: dict[tuple[str | None, str | None], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = _quantity(row["memory_total_limit"], "memory_total"), _quantity(row["fps_limit"], "fps")
        cells.setdefault(key, []).append(row)
    parts = []
    for (memory, fps), entries in cells.items():
        lines = [f"At most {memory}, at least {fps}:", *(_entry(row) for row in entries)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _entry(row: Mapping[str, Any]) -> str:
    if row["verdict"] == "none":
        return "  no network"
    place = f"{row['place']}." if row["place"] is not None else " -"
    figures = [f"{METRICS[name].label} {_marked(row, name)}" for name in METRICS if row.get(name) is not None]
    on = f" on {row['engine']}" if row.get("engine") else ""
    near = "" if row["verdict"] == "met" else f": {row['verdict']}: {row['reasons']}"
    return f"  {place} {row['model']}{on} ({', '.join(figures)}){near}"


def _marked(row: Mapping[str, Any], metric: str) -> str:
    mark = " estimated" if row.get(f"{metric}_origin") == "estimated" else ""
    return f"{_quantity(row[metric], metric)}{mark}"


def _latencies(rows: Sequence[Mapping[str, Any]], shared: Sequence[str]) -> str:
    return _by_batch("latency_per_image", rows, shared)


def _memories(rows: Sequence[Mapping[str, Any]], shared: Sequence[str]) -> str:
    return _by_batch("memory_total", rows, shared)


_TABLES: dict[str, Callable[[Sequence[Mapping[str, Any]], Sequence[str]], str]] = {
    "grid": _grid, "latency-table": _latencies, "latency-batch": _latencies, "memory-table": _memories,
    "memory-batch": _memories,
}  # fmt: skip
