"""`vertebra chart`: accuracy against what it costs."""

from __future__ import annotations

from typing import Any

import click

from vertebra.cli.output import emit, format_options, table_option


@click.command("chart")
@click.option("--x", default="operations", show_default=True, help="Metric of the horizontal axis.")
@click.option("--y", default="top1", show_default=True, help="Metric of the vertical axis.")
@click.option("--engine", help="Only what ran on this engine. [default: each network's fastest]")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--system", help="The machine's name in the table. [default: this machine]")
@click.option("--output", "-o", metavar="FILE", help="Draw into a .svg or .png file.")
@table_option
@format_options
def command(
    x: str, y: str, engine: str | None, batch_size: int, system: str | None, output: str | None,
    table: str | None, style: str,
) -> None:  # fmt: skip
    """Draw one ball per network, its area the parameters; without --output, print the chart as a table.

    \b
      vertebra chart -o accuracy.svg
      vertebra chart --x latency --engine onnxruntime -o latency.png
    """
    from vertebra import _api

    filters: dict[str, Any] = {"engine": engine, "batch_size": batch_size}
    if system is not None:
        filters["system"] = system
    drawn = _api.chart(x=x, y=y, table=table, **filters)
    if output is None:
        emit(drawn.data(), style)
        return
    drawn.save(output)
    click.echo(f"drawn into {output}", err=True)
