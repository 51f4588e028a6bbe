"""`vertebra export`: a network with all that it needs to answer, as one folder."""

from __future__ import annotations

from typing import Any

import click

from vertebra.cli.subject import given, weights_options


@click.command("export")
@click.argument("model")
@click.option("-o", "--output", "folder", required=True, metavar="FOLDER", help="Where the Bundle shall be.")
@click.option("--engine", metavar="NAME", help="Whose Bundle. [default: onnxruntime]")
@click.option("--precision", metavar="NAME", help="What it computes in. [default: float32]")
@click.option("--batch-size", type=click.IntRange(min=1), help="The only one. [default: any, or 1]")
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
    """
    from vertebra import _api, units

    written = _api.export(model, folder, tell=lambda text: click.echo(text, err=True), **given(options))
    told = written.weights or f"untrained, seed {written.seed}"
    size = "" if written.batch_size is None else f", batches of {written.batch_size} only"
    form = f"{written.format}, {written.precision}{size}"
    click.echo(f"{written.model} ({told}), {form}, {units.show(written.file_bytes, 'B')}", err=True)
    click.echo(folder if options["web"] else str(written.folder))
