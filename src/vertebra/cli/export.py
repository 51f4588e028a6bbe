"""`vertebra export`: a network with all that it needs to run, as one folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

import vertebra
from vertebra.cli.progress import showing
from vertebra.cli.subject import given, weights_options
from vertebra.cli.terminal import say


@click.command("export")
@click.argument("model")
@click.option("-o", "--output", "folder", required=True, metavar="FOLDER", help="Folder of the Bundle.")
@click.option("--engine", metavar="NAME", help="Engine that the Bundle is for. [default: onnxruntime]")
@click.option("--precision", metavar="NAME", help="Precision of the computation. [default: float32]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Fix the batch size. [default: any, or 1]")
@click.option(
    "--calibrate", metavar="FOLDER", help="int8: folder of pictures like those in use, to calibrate with."
)
@click.option(
    "--guard",
    type=float,
    metavar="SHARE|DB",
    help="int8: least agreement with float32. [default: 0.99, or 10 dB if untrained]",
)
@click.option("--quantiser", type=click.Choice(["onnxruntime", "nncf"]),
              help="int8: library. [default: onnxruntime; nncf for openvino if installed]")  # fmt: skip
@click.option(
    "--labelled", metavar="DATA", help="int8: labelled pictures on which the lost accuracy is measured."
)
@click.option("--format", metavar="NAME", help="Layout of --labelled. [default: detected]")
@click.option("--split", metavar="NAME", help="Split of --labelled. [default: val, else test]")
@click.option(
    "--most-lost", metavar="SHARE", help="Most top-1 accuracy that may be lost on --labelled, such as 0.5%."
)
@weights_options
@click.option(
    "--embed-preprocess", is_flag=True, help="Add a graph that takes pixels and preprocesses them itself."
)
@click.option("--web", is_flag=True, help="Write a web page that runs the network in the browser.")
@click.option(
    "--repository", metavar="KIND",
    help="Write a Bundle for another server: triton, openvino, kserve or docker.",
)  # fmt: skip
@click.option(
    "--runtime", metavar="PATH", help="With --web: the npm package onnxruntime-web. [default: fetched by npm]"
)
def command(model: str, folder: str, **options: Any) -> None:
    """Write MODEL with its weights, preprocessing and labels as a Bundle.

    Before it is written, the engine's outputs are compared with those of PyTorch's eager mode in float32.
    With --embed-preprocess the Bundle has a second graph, picture.onnx, from the pixels of a picture of any
    size to probabilities. With --web, FOLDER becomes a page for any web server, with the Bundle inside. MODEL
    may be a Bundle too; one in ONNX and float32 is converted for another --engine, or to --precision int8.
    With --repository, FOLDER becomes what Triton, OpenVINO Model Server, KServe or docker runs.

    --precision int8 quantises the network to eight bits, calibrated on half of the pictures in --calibrate.
    The guard is checked on the other half: the share of pictures whose first class stays the same, or for an
    untrained network the signal-to-noise ratio of its logits. Layers that break the guard stay in float32.
    --precision int8-weights quantises only the parameters and needs no pictures: for OpenVINO, and networks
    that spend their time in fully connected layers.
    """
    from vertebra import units

    with showing() as progress:
        written = vertebra.export(model, folder, progress=progress, **given(options))
    facts = written.weights or f"untrained, seed {written.seed}"
    size = "" if written.batch_size is None else f", batches of {written.batch_size} only"
    form = f"{written.format}, {written.precision}{size}"
    say(f"{written.model} ({facts}), {form}, {units.show(written.file_bytes, 'B')}", err=True)
    if written.quantisation is not None:
        say(_quantised(written.precision, written.quantisation), err=True)
    say(folder if options["web"] or options["repository"] else str(written.folder))


def _quantised(precision: str, facts: Mapping[str, Any]) -> str:
    """A line on the quantisation and the layers that stayed in float32, and one on the accuracy lost."""
    made = f"{precision} by {facts['by']}"
    if facts["calibrated_on"]:
        made += f", calibrated on {facts['calibrated_on']} pictures"
    if facts["broken"]:
        made += f" ({facts['broken']} more can't be read)"
    kept = ", ".join(facts["float32_layers"]) or "none"
    line = f"{made}: {_held(facts)}layers in float32: {kept} (of {facts['layers']})"
    return f"{line}\n{_lost(facts['accuracy'])}" if "accuracy" in facts else line


def _held(facts: Mapping[str, Any]) -> str:
    pictures = f"{facts['held_out']} pictures held out"
    if facts["measure"] is None:
        return ""
    if facts["measure"] == "top1_agreement":
        held = (
            f"the first class is the same for {facts['value']:.1%} of {pictures} (guard {facts['guard']:.1%})"
        )
    else:
        held = f"signal-to-noise ratio {facts['value']:.1f} dB on {pictures} (guard {facts['guard']:g} dB)"
    return f"{held}; "


def _lost(facts: Mapping[str, Any]) -> str:
    return (
        f"top-1 on {facts['images']:,} labelled pictures of {facts['dataset']}: {facts['float32']:.2%} in "
        f"float32, {facts['quantised']:.2%} quantised: {facts['lost']:.2%} lost "
        f"(95 % interval {facts['low']:.2%} to {facts['high']:.2%})"
    )
