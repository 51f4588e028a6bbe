"""`vertebra survey`: the newcomer's one command."""

from __future__ import annotations

import click

import vertebra
from vertebra.cli.output import columns, glance, table_option
from vertebra.cli.progress import showing


@click.command("survey")
@click.option(
    "--budget", default="6m", show_default=True, help="Time for measuring; less time, fewer samples."
)
@click.option("--engine", "engines", multiple=True, help="May be repeated. [default: every one found here]")
@click.option("--model", "models", multiple=True, help="May be repeated. [default: the eleven classics]")
@click.option("--output", "-o", default="vertebra-survey", show_default=True, metavar="FOLDER")
@click.option("--again", is_flag=True, help="Measure what the table already tells once more.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of the blocks.")
@table_option
def command(
    budget: str,
    engines: tuple[str, ...],
    models: tuple[str, ...],
    output: str,
    again: bool,
    seed: int,
    table: str | None,
) -> None:
    """Measure the classic networks on this machine, and write a report with charts and a pick.

    Interrupt it whenever you like: what was measured is kept, and the same command goes on from there.
    """

    try:
        with showing() as progress:
            done = vertebra.survey(
                budget=budget, engines=engines, models=models, output=output, again=again, seed=seed,
                table=table, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        click.echo("What was measured is in the table; the same command goes on from there.", err=True)
        raise
    if done.measured == 0:
        click.echo(f"Nothing left to measure: the table tells all {done.known} cases. Report: {done.report}")
        return
    click.echo(columns([glance(row) for row in done.fastest]))
    kept = f", {done.known} were in the table" if done.known else ""
    failed = f", {done.failed} failed (vertebra table --metric failure)" if done.failed else ""
    click.echo(f"\n{done.measured} cases measured in {done.seconds:.0f} s{kept}{failed}.")
    click.echo(f"Report: {done.report}")
