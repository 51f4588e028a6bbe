"""`vertebra report`: one HTML page that opens offline."""

from __future__ import annotations

import click

from vertebra.cli.output import table_option


@click.command("report")
@click.option("--output", "-o", default="vertebra-report.html", show_default=True, metavar="FILE")
@click.option("--system", help="The machine's name in the table. [default: this machine]")
@click.option(
    "--among",
    type=click.Choice(("table", "catalogue")),
    default="table",
    show_default=True,
    help="What the explorer has: what the table tells, or every network with a published accuracy, priced "
    "where it never ran.",
)
@table_option
def command(output: str, system: str | None, among: str, table: str | None) -> None:
    """Write what the table tells of this machine as one self-contained HTML page."""
    from vertebra import _api

    written = _api.report(output, system=system, table=table, among=among)
    click.echo(f"written to {written}", err=True)
