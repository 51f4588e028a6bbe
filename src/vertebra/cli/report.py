"""`vertebra report`: one HTML page that opens offline or is served live, or PaddleClas's page filled here."""

from __future__ import annotations

from typing import Any

import click

import vertebra
from vertebra.cli.limits import limit_options
from vertebra.cli.output import table_option
from vertebra.cli.terminal import say


@click.command("report")
@limit_options()
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="File, or folder with --first-answer. [default: vertebra-report.html, -page.html, -first-answer]",
)
@click.option("--system", help="Name of the machine in the table. [default: this machine]")
@click.option(
    "--among",
    type=click.Choice(("table", "catalogue")),
    help="Networks to show: the table's, or all published. [default: all, if they can be estimated]",
)
@click.option(
    "--page",
    is_flag=True,
    help="Write PaddleClas's published tables, filled for this machine (.html or .md).",
)
@click.option(
    "--engine", help="With --page: engine of the latencies. [default: the one with the most figures]"
)
@click.option("--live", is_flag=True, help="Serve the page here, and update it when the table grows.")
@click.option("--serve", is_flag=True, hidden=True)  # what --live was called
@click.option(
    "--port", type=click.IntRange(0, 65535), help="With --live: port; 0 takes any free one. [default: 8000]"
)
@click.option(
    "--first-answer", is_flag=True, help="Write a web page that answers for the device of whoever opens it."
)
@click.option(
    "--runtime",
    metavar="PATH",
    help="With --first-answer: the npm package onnxruntime-web. [default: fetched by npm]",
)
@table_option
def command(
    output: str | None, system: str | None, among: str | None, page: bool, engine: str | None, live: bool,
    serve: bool, port: int | None, first_answer: bool, runtime: str | None, table: str | None,
    **limits: str | None,
) -> None:  # fmt: skip
    """Write the results of this machine as one self-contained HTML page.

    \b
      vertebra report -o report.html
      vertebra report --fps 30 --memory 700MB
      vertebra report --page -o page.md
      vertebra report --live
      vertebra report --first-answer -o first-answer
    """
    asked: dict[str, Any] = {
        "page": page, "system": system, "among": among, "engine": engine, "port": port, "table": table,
        "first_answer": first_answer, "runtime": runtime,
        **{name: one for name, one in limits.items() if one is not None},
    }  # fmt: skip
    if not live and not serve:
        say(f"written to {vertebra.report(output, **asked)}", err=True)
        return
    with vertebra.report(output, live=True, **asked) as server:
        try:
            say(f"live at {server.address}; press Ctrl-C to stop", err=True)
            server.run()
        except KeyboardInterrupt:
            say("stopped", err=True)
