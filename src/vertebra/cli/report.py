"""`vertebra report`: one HTML page that opens offline, served live, or the published page of this machine."""

from __future__ import annotations

from typing import Any

import click

import vertebra
from vertebra.cli.output import table_option
from vertebra.errors import InvalidInputError


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
@click.option("--serve", is_flag=True, help="Show it in a browser here, and follow the table while it grows.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Of --serve; 0: any that is free. [default: 8000]"
)
@table_option
def command(
    output: str | None, system: str | None, among: str | None, page: bool, engine: str | None, serve: bool,
    port: int | None, table: str | None,
) -> None:  # fmt: skip
    """Write what the table tells of this machine as one self-contained HTML page.

    \b
      vertebra report -o report.html
      vertebra report --page -o page.md
      vertebra report --serve
    """
    from vertebra.verbs.report import edition, live_report

    _refuse("--page", page, {"--serve": serve or None, "--among": among})
    _refuse("--serve", serve, {"--output": output})
    _refuse("a report without --page", not page, {"--engine": engine})
    _refuse("a report without --serve", not serve, {"--port": port})
    chosen: dict[str, Any] = {"system": system, "table": table}
    if page:
        click.echo(f"written to {edition(output or 'vertebra-page.html', engine=engine, **chosen)}", err=True)
        return
    chosen["among"] = among or "table"
    if not serve:
        click.echo(f"written to {vertebra.report(output or 'vertebra-report.html', **chosen)}", err=True)
        return
    with live_report(port=8000 if port is None else port, **chosen) as server:
        try:
            click.echo(f"live at {server.address} until Ctrl-C", err=True)
            server.run()
        except KeyboardInterrupt:
            click.echo("ended", err=True)


def _refuse(what: str, is_asked: bool, strangers: dict[str, Any]) -> None:
    """Refuse options that `what` takes no notice of."""
    for name, value in strangers.items():
        if is_asked and value is not None:
            raise InvalidInputError(f"{name} isn't of {what}.", "leave one of the two out; see --help")
