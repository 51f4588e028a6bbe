"""`vertebra report`: one HTML page that opens offline, served live, or the published page of this machine."""

from __future__ import annotations

from typing import Any

import click

import vertebra
from vertebra.cli.output import table_option


@click.command("report")
@click.option(
    "--output", "-o", metavar="FILE", help="[default: vertebra-report.html; vertebra-page.html with --page]"
)
@click.option("--system", help="The machine's name in the table. [default: this machine]")
@click.option(
    "--among",
    type=click.Choice(("table", "catalogue")),
    help="What the explorer has: what the table tells, or every network with a published accuracy, priced "
    "where it never ran. [default: table]",
)
@click.option(
    "--page", is_flag=True, help="PaddleClas's published page for this machine; FILE.md: as Markdown."
)
@click.option("--engine", help="Whose latencies the page shows. [default: whichever tells most]")
@click.option("--live", is_flag=True, help="Show it in a browser here, and follow the table while it grows.")
@click.option("--serve", is_flag=True, hidden=True)  # what --live was called
@click.option("--port", type=click.IntRange(0, 65535), help="Of --live; 0: any that is free. [default: 8000]")
@table_option
def command(
    output: str | None, system: str | None, among: str | None, page: bool, engine: str | None, live: bool,
    serve: bool, port: int | None, table: str | None,
) -> None:  # fmt: skip
    """Write what the table tells of this machine as one self-contained HTML page.

    \b
      vertebra report -o report.html
      vertebra report --page -o page.md
      vertebra report --live
    """
    asked: dict[str, Any] = {
        "page": page, "system": system, "among": among, "engine": engine, "port": port, "table": table,
    }  # fmt: skip
    if not live and not serve:
        click.echo(f"written to {vertebra.report(output, **asked)}", err=True)
        return
    with vertebra.report(output, live=True, **asked) as server:
        try:
            click.echo(f"live at {server.address} until Ctrl-C", err=True)
            server.run()
        except KeyboardInterrupt:
            click.echo("ended", err=True)
