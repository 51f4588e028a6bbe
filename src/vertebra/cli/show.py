"""`vertebra show MODEL`: one network, its figures, stages, layers and history."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vertebra import units
from vertebra.cli.output import columns, conditions, emit, format_options, table_option
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from vertebra._api import Portrait
    from vertebra.measurements import Measurement


@click.command("show")
@click.argument("model")
@click.option("--layers", is_flag=True, help="Print every layer.")
@table_option
@format_options
def command(model: str, layers: bool, table: str | None, style: str) -> None:
    """Tell all about one network: its paper and idea, figures, stages and layers.

    Layers and counts are those of the network's own input size; figures come from the table.
    """
    from vertebra import _api

    portrait = _api.show(model, table=table)
    if style == "csv" or layers:
        emit(portrait.layers, style)
    elif style == "json":
        emit([asdict(portrait)], style)
    else:
        click.echo(_text(portrait))


def _text(portrait: Portrait) -> str:
    model = portrait.model
    paper = f'"{model.title}", {model.first_author} and others, {model.year}. {model.url}'
    blocks = [
        f"{model.name} ({', '.join(model.aliases)}), family {model.family}",
        _wrap(paper),
        *([_wrap(f"This form: {model.further}")] if model.further else []),
        _wrap(model.idea),
        _wrap(model.place),
        f"Input {model.input_size}x{model.input_size}, smallest {model.min_size}x{model.min_size}",
        "Figures\n" + _figures(portrait.figures),
        "Stages\n" + columns(portrait.stages),
        f"{len(portrait.layers)} layers: vertebra show {model.name} --layers",
    ]
    return "\n\n".join(blocks)


def _wrap(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _figures(rows: Sequence[Measurement]) -> str:
    """Our own figures first; what several editions print alike stands once."""
    alike: dict[tuple[Any, ...], list[Measurement]] = {}
    for row in sorted(rows, key=lambda row: row.origin == "published"):
        where = [row.conditions().get(name) for name in ("system", "precision", "batch_size", "input_size")]
        alike.setdefault((row.metric, row.value, row.origin, *where), []).append(row)
    return columns([_figure(group) for group in alike.values()])


def _figure(group: Sequence[Measurement]) -> dict[str, Any]:
    row = max(group, key=lambda row: len(row.conditions()))
    metric = METRICS[row.metric]
    # An edition that says it undisputed settles it for the others.
    disputed = all(row.disputed for row in group)
    return {
        "figure": metric.label,
        "value": units.show(row.value, metric.unit),
        "exact": f"{row.value:,.0f}" if metric.unit == "count" else None,
        "grade": row.grade,
        "origin": row.origin + (f" ({len(group)} editions)" if len(group) > 1 else ""),
        "under": conditions(row),
        "note": row.disputed if disputed else None,
    }
