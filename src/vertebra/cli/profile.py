"""`vertebra profile`: parameters, multiply-accumulates and sizes, counted without running anything."""

from __future__ import annotations

import click

import vertebra
from vertebra import units
from vertebra.cli.output import emit, format_options, pager_option, part, table_option


@click.command("profile")
@click.argument("models", nargs=-1)
@click.option(
    "--input-size",
    type=click.IntRange(min=1),
    help="Height and width in pixels. [default: the network's own]",
)
@click.option("--layers", is_flag=True, help="Print every layer.")
@table_option
@format_options
@pager_option
def command(
    models: tuple[str, ...], input_size: int | None, layers: bool, table: str | None, style: str
) -> None:
    """Count parameters, multiply-accumulates (MACs), activations and sizes of MODELS without running them.

    Without MODELS: the eleven classics. Operations (FLOPs) are twice the MACs.
    """

    profiles = vertebra.profile(*models, input_size=input_size, table=table)
    if layers:
        emit([{"model": one.model, **part(layer)} for one in profiles for layer in one.layers], style)
        return
    emit(
        [
            {
                "model": one.model,
                "input size": one.input_size,
                "params": one.params,
                "buffers": one.buffers,
                "macs": one.macs,
                "operations": 2 * one.macs,
                "activations": one.activations,
                "weights": units.show(one.weight_bytes, "B") if style == "text" else one.weight_bytes,
            }
            for one in profiles
        ],
        style,
    )
