"""`vertebra survey`: the first command to run."""

from __future__ import annotations

import shlex

import click

import vertebra
from vertebra.cli.output import columns, on_option, shard_option, table_option
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
@shard_option
@on_option
@click.option(
    "--write-job", type=click.Choice(["slurm", "kubernetes"]),
    help="Write the file that measures all shares on a cluster, and measure nothing.",
)  # fmt: skip
@click.option("--shards", type=click.IntRange(min=1), metavar="N",
              help="With --write-job: number of shares. [default: 4]")  # fmt: skip
@table_option
def command(
    budget: str,
    engines: tuple[str, ...],
    models: tuple[str, ...],
    output: str,
    again: bool,
    seed: int,
    shard: str | None,
    on: str | None,
    write_job: str | None,
    shards: int | None,
    table: str | None,
) -> None:
    """Measure the classic networks on this machine, and write a report with charts and a choice.

    A few light networks follow, from which pick estimates all others; not with --model.

    You can interrupt it at any time: measurements are kept, and the same command continues.
    """
    if write_job is not None:
        if shard is not None:
            raise click.UsageError("--write-job writes a job of all shares; leave out --shard.")
        path = vertebra.write_job(
            write_job, shards=shards or 4, model=models, engine=engines, budget=budget, output=output,
            again=again, seed=seed, table=table,
        )  # fmt: skip
        start = "sbatch" if write_job == "slurm" else "kubectl apply -f"
        say(f"{path} starts {shards or 4} shares; read it, then run: {start} {shlex.quote(str(path))}")
        return
    if shards is not None:
        raise click.UsageError("--shards needs --write-job.")
    try:
        with showing() as progress:
            done = vertebra.survey(
                budget=budget, engine=engines, model=models, output=output, again=again, seed=seed,
                shard=shard, on=on, table=table, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        say("The measurements are kept in the table; the same command continues.", err=True)
        raise
    if done.measured == 0 and not done.left:
        of = "" if shard is None else f" of share {shard}"
        say(f"Nothing left to measure: all {done.known} cases{of} are in the table. Report: {done.report}")
        return
    say(columns([display.glance(row) for row in done.fastest]))
    kept = f", {done.known} were already in the table" if done.known else ""
    failed = f", {done.failed} failed (vertebra table --metric failure)" if done.failed else ""
    failed += f", {done.left} left for lack of time: the same command continues" if done.left else ""
    say(f"\n{done.measured} cases measured in {done.seconds:.0f} s{kept}{failed}.")
    say(f"Report: {done.report}")
