"""`vertebra export`: a network with all that it needs to answer, as one folder."""

from __future__ import annotations

from typing import Any

import click

from vertebra.cli.subject import given, weights_options


@click.command("export")
@click.argument("model")
@click.option("-o", "--output", "folder", required=True, metavar="FOLDER", help="Where the Bundle shall be.")
@weights_options
def command(model: str, folder: str, **options: Any) -> None:
    """Write MODEL with its weights, preprocessing and labels as a Bundle (ONNX, float32)."""
    from vertebra import _api, units

    written = _api.export(model, folder, **given(options))
    told = written.weights or f"untrained, seed {written.seed}"
    click.echo(f"{written.model} ({told}), {units.show(written.file_bytes, 'B')}", err=True)
    click.echo(str(written.folder))
