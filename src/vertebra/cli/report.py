"""`vertebra report`: one HTML page that opens offline."""

from __future__ import annotations

import click

from vertebra.cli.output import table_option


@click.command("report")
@click.option("--output", "-o", default="vertebra-report.html", show_default=True, metavar="FILE")
@click.option("--system", help="The machine's name in the table. [default: this machine]")
@table_option
def command(output: str, system: str | None, table: str | None) -> None:
    """Write what the table tells of this machine as one self-contained HTML page."""
    from vertebra import _api

    written = _api.report(output, system=system, table=table)
    click.echo(f"written to {written}", err=True)
