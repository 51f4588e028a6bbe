"""`vertebra export`: a network with all that it needs to answer, as one folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

import vertebra
from vertebra.cli.progress import showing
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
@click.option("--quantiser", type=click.Choice(["onnxruntime", "nncf"]),
              help="For int8. [default: nncf for openvino if it is installed]")  # fmt: skip
@click.option("--labelled", metavar="DATA", help="For int8: where the accuracy lost is measured.")
@click.option("--format", metavar="NAME", help="The layout of --labelled. [default: as it looks]")
@click.option("--split", metavar="NAME", help="The split of --labelled. [default: val, else test]")
@click.option("--most-lost", metavar="SHARE", help="How much top-1 may be lost on --labelled, such as 0.5%.")
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
    to noise of its logits. Layers that stand in its way stay in float32. --precision int8-weights rounds the
    parameters alone, without pictures: for OpenVINO, and networks whose time goes into full layers.
    """
    from vertebra import units

    with showing() as progress:
        written = vertebra.export(model, folder, progress=progress, **given(options))
    told = written.weights or f"untrained, seed {written.seed}"
    size = "" if written.batch_size is None else f", batches of {written.batch_size} only"
    form = f"{written.format}, {written.precision}{size}"
    click.echo(f"{written.model} ({told}), {form}, {units.show(written.file_bytes, 'B')}", err=True)
    if written.quantisation is not None:
        click.echo(_quantised(written.precision, written.quantisation), err=True)
    click.echo(folder if options["web"] else str(written.folder))


def _quantised(precision: str, told: Mapping[str, Any]) -> str:
    """A line on what eight bits changed and what stayed in float32, and one on the accuracy lost."""
    made = f"{precision} by {told['by']}"
    if told["calibrated_on"]:
        made += f", calibrated on {told['calibrated_on']} pictures"
    if told["broken"]:
        made += f"; {told['broken']} more can't be read"
    kept = ", ".join(told["float32_layers"]) or "none"
    line = f"{made}: {_held(told)}layers in float32: {kept} (of {told['layers']})"
    return f"{line}\n{_lost(told['accuracy'])}" if "accuracy" in told else line


def _held(told: Mapping[str, Any]) -> str:
    pictures = f"{told['held_out']} pictures held out"
    if told["measure"] is None:
        return ""
    if told["measure"] == "top1_agreement":
        held = f"the first class stays for {told['value']:.1%} of {pictures} (guard {told['guard']:.1%})"
    else:
        held = f"signal to noise {told['value']:.1f} dB on {pictures} (guard {told['guard']:g} dB)"
    return f"{held}; "


def _lost(told: Mapping[str, Any]) -> str:
    return (
        f"top-1 on {told['images']:,} labelled pictures of {told['dataset']}: {told['float32']:.2%} in "
        f"float32, {told['quantised']:.2%} quantised; lost {told['lost']:.2%} "
        f"(95 % interval {told['low']:.2%} to {told['high']:.2%})"
    )
