"""`vertebra export`: a network with all that it needs to answer, as one folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from vertebra.cli.subject import given, weights_options


@click.command("export")
@click.argument("model")
@click.option("-o", "--output", "folder", required=True, metavar="FOLDER", help="Where the Bundle shall be.")
@click.option("--engine", metavar="NAME", help="Whose Bundle. [default: onnxruntime]")
@click.option("--precision", metavar="NAME", help="What it computes in. [default: float32]")
@click.option("--batch-size", type=click.IntRange(min=1), help="The only one. [default: any, or 1]")
@click.option("--calibrate", metavar="FOLDER", help="For int8: pictures like those that it will see.")
@click.option(
    "--guard", type=float, metavar="SHARE|DB", help="For int8: what must hold. [default: 0.99, 10 dB]"
)
@weights_options
@click.option("--embed-preprocess", is_flag=True, help="Add a graph that takes a picture's pixels.")
@click.option("--web", is_flag=True, help="Write a page that runs it in the visitor's browser.")
@click.option("--runtime", metavar="PATH", help="For --web: the npm package. [default: fetched by npm]")
def command(model: str, folder: str, **options: Any) -> None:
    """Write MODEL with its weights, preprocessing and labels as a Bundle.

    Before it is written, the engine's answers are compared with those of PyTorch's eager mode in float32.
    With --embed-preprocess the Bundle has a second graph, picture.onnx: a picture's pixels of any size in,
    probabilities out. With --web FOLDER becomes a page for any web server, with the Bundle inside. With
    either, MODEL may be a Bundle.

    --precision int8 rounds the network to eight bits, calibrated on half of the pictures in --calibrate. On
    the others the guard must hold: the share whose first class stays, or of an untrained network the signal
    to noise of its logits. Layers that stand in its way stay in float32.
    """
    from vertebra import _api, units

    written = _api.export(model, folder, tell=lambda text: click.echo(text, err=True), **given(options))
    told = written.weights or f"untrained, seed {written.seed}"
    size = "" if written.batch_size is None else f", batches of {written.batch_size} only"
    form = f"{written.format}, {written.precision}{size}"
    click.echo(f"{written.model} ({told}), {form}, {units.show(written.file_bytes, 'B')}", err=True)
    if written.quantisation is not None:
        click.echo(_quantised(written.quantisation), err=True)
    click.echo(folder if options["web"] else str(written.folder))


def _quantised(told: Mapping[str, Any]) -> str:
    """One line on what eight bits changed, and what stayed in float32."""
    pictures = f"{told['held_out']} pictures held out"
    if told["measure"] == "top1_agreement":
        held = f"the first class stays for {told['value']:.1%} of {pictures} (guard {told['guard']:.1%})"
    else:
        held = f"signal to noise {told['value']:.1f} dB on {pictures} (guard {told['guard']:g} dB)"
    kept = ", ".join(told["float32_layers"]) or "none"
    broken = f"; {told['broken']} more can't be read" if told["broken"] else ""
    return (
        f"int8, calibrated on {told['calibrated_on']} pictures{broken}: {held}; "
        f"layers in float32: {kept} (of {told['layers']})"
    )
