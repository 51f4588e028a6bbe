"""`vertebra survey`: the first command to run."""

from __future__ import annotations

import click

import vertebra
from vertebra.cli.output import columns, table_option
from vertebra.cli.progress import showing
from vertebra.cli.terminal import say
from vertebra.measurements import display


@click.command("survey")
@click.option(
    "--budget", default="6m", show_default=True, help="Time for measuring; less time gives fewer samples."
)
@click.option(
    "--engine", "engines", multiple=True, help="Engine to measure. Repeatable. [default: all installed]"
)
@click.option(
    "--model", "models", multiple=True, help="Network to measure. Repeatable. [default: the eleven classics]"
)
@click.option("--output", "-o", default="vertebra-survey", show_default=True, metavar="FOLDER",
              help="Folder of the report and the charts.")  # fmt: skip
@click.option("--again", is_flag=True, help="Measure again what is already in the table.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the random order of the blocks."
)
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
    """Measure the classic networks on this machine, and write a report with charts and a choice.

    A few light networks follow, from which pick estimates all others; not with --model.

    You can interrupt it at any time: measurements are kept, and the same command continues.
    """

    try:
        with showing() as progress:
            done = vertebra.survey(
                budget=budget, engine=engines, model=models, output=output, again=again, seed=seed,
                table=table, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        say("The measurements are kept in the table; the same command continues.", err=True)
        raise
    if done.measured == 0 and not done.left:
        say(f"Nothing left to measure: all {done.known} cases are in the table. Report: {done.report}")
        return
    say(columns([display.glance(row) for row in done.fastest]))
    kept = f", {done.known} were already in the table" if done.known else ""
    failed = f", {done.failed} failed (vertebra table --metric failure)" if done.failed else ""
    failed += f", {done.left} left for lack of time: the same command continues" if done.left else ""
    say(f"\n{done.measured} cases measured in {done.seconds:.0f} s{kept}{failed}.")
    say(f"Report: {done.report}")
