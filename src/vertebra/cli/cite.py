"""`vertebra cite`: published figures into the table."""

from __future__ import annotations

import click

from vertebra.cli.output import table_option


@click.command("cite")
@click.argument("files", nargs=-1, type=click.Path())
@table_option
def command(files: tuple[str, ...], table: str | None) -> None:
    """Take in published figures: those that come with vertebra, or the rows of FILES.

    FILES are what `vertebra table --write` makes (CSV, JSON, Parquet), or other tables (.sqlite),
    from another machine for example. Taking in the same rows twice adds nothing.
    """
    from vertebra import _api

    added = _api.cite(*files, table=table)
    click.echo(f"{added} rows added.", err=True)
