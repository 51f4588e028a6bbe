"""`vertebra pick`: the best network within limits, with reasons."""

from __future__ import annotations

import gc
import shlex
import sys
from typing import Any

import click
from click.core import ParameterSource

import vertebra
from vertebra.cli import fastest
from vertebra.cli.limits import limit_options
from vertebra.cli.output import emit, format_options, table_option
from vertebra.cli.progress import showing
from vertebra.cli.terminal import STATUS
from vertebra.errors import InvalidInputError
from vertebra.measurements.measurement import GRADES

#: New objects after which Python looks for garbage.
_COLLECTED = 200_000


@click.command("pick")
@limit_options()
@click.option("--by", "objective", default="top1", show_default=True, help="Metric to optimise.")
@click.option(
    "--why", is_flag=True, help="Also list the better networks that miss a limit, the front and the origins."
)
@click.option("--top", type=click.IntRange(min=1), default=1, help="Number of networks to print.")
@click.option(
    "--licence",
    multiple=True,
    metavar="NAME",
    help="Only weights with this licence: apache-2.0, mit, …, or free (any use). Repeatable.",
)
@click.option(
    "--family", multiple=True, metavar="NAME", help="Only this family of networks: resnet, … Repeatable."
)
@click.option(
    "--input-size",
    type=click.IntRange(min=1),
    multiple=True,
    help="Only networks with this input size. Repeatable.",
)
@click.option("--dataset", metavar="NAME[@DIGEST]", help="Data set of the accuracies. [default: ImageNet]")
@click.option(
    "--origin",
    type=click.Choice(("published", "evaluated")),
    help="Only accuracies of this origin; evaluated: measured with vertebra eval.",
)
@click.option("--engine", multiple=True, help="Only forms that run on this engine. Repeatable.")
@click.option(
    "--precision",
    multiple=True,
    help="Only forms in this precision, or any. Repeatable. [default: float32]",
)
@click.option("--device", help="Only forms on this device: cpu, cuda.")
@click.option("--scenario", help="Only forms under this load: single-stream, offline, server.")
@click.option("--streams", type=click.IntRange(min=1), help="Only forms with this number of streams.")
@click.option("--beside", type=click.IntRange(min=0), metavar="N",
              help="Forms measured beside N busy threads. [default: none]")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), multiple=True,
              help="Batch size of the forms. Repeatable with --fastest. [default: 1]")  # fmt: skip
@click.option("--system", help="Name of the machine in the table. [default: this machine]")
@click.option("--systems", metavar="NAME,NAME,…",
              help="Choose the machine too: among these of the table.")  # fmt: skip
@click.option("--price", metavar="NAME=0.34USD", multiple=True,
              help="What an hour of a machine costs. Repeatable.")  # fmt: skip
@click.option("--probed", metavar="NAME", help="Data set of --probe. [default: the only one in the table]")
@click.option(
    "--trust",
    type=click.Choice(GRADES),
    help="Don't choose by figures with a worse grade. [default: their intervals decide]",
)
@click.option(
    "--among",
    type=click.Choice(("catalogue", "table")),
    help="Candidates: all networks with a published accuracy, or the table's. [default: catalogue]",
)
@click.option(
    "--budget",
    metavar="TIME",
    help="Measure for up to TIME what could change the answer. [default: 3m on a terminal, if needed]",
)
@click.option("--lock", metavar="FILE", help="Also write the choice to FILE, for vertebra check.")
@click.option("--verify", metavar="TIME", hidden=True)  # what --budget was called
@table_option
@format_options
@fastest.offered
def command(
    objective: str, top: int, licence: tuple[str, ...], family: tuple[str, ...], input_size: tuple[int, ...],
    dataset: str | None, origin: str | None, engine: tuple[str, ...], precision: tuple[str, ...],
    device: str | None, scenario: str | None, streams: int | None, beside: int | None,
    batch_size: tuple[int, ...], system: str | None, systems: str | None,
    price: tuple[str, ...], probed: str | None, trust: str | None,
    among: str | None, budget: str | None, lock: str | None, verify: str | None, why: bool,
    table: str | None, style: str, **limits: str | None,
) -> None:  # fmt: skip
    """Choose the best network that meets every limit with certainty, on this machine.

    Every network with a published accuracy is a candidate. What wasn't measured here is estimated from what
    was, and marked with ~. Prints the choice with its figures beside the limits and its licence, the
    runner-up, what measuring could still change, and the next command.

    If too little is measured here to estimate the others, it measures first: on a terminal for up to 3
    minutes, elsewhere with --budget. Ctrl-C prints the answer so far.

    \b
      vertebra pick --fps 30 --memory 200MB
      vertebra pick --latency 20ms --budget 5m

    With --systems, hardware and network are chosen together from a table of several machines (vertebra
    merge), with what one more point of accuracy costs; --why prints that for one machine too.

    \b
      vertebra pick --latency 20ms --systems box,pi \\
          --price box=0.34USD --price pi=0.02USD

    With --fastest: search for the fastest form (engine, precision, threads, layout, batch size) of one
    network, for 60 s or --budget.

    \b
      vertebra pick alexnet --fastest --precision float32,bfloat16 --export fast
    """
    if len(batch_size) > 1:
        raise InvalidInputError("Networks are compared at one batch size.", "pass only one --batch-size")
    filters: dict[str, Any] = {
        "engine": engine or None, "precision": precision or None, "device": device, "scenario": scenario,
        "streams": streams, "beside": beside or None, "batch_size": batch_size[0] if batch_size else 1,
        "probed": probed, "dataset": dataset, "origin": origin,
    }  # fmt: skip
    if system is not None:
        filters["system"] = system
    asked: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    asked |= {"objective": objective, "trust": trust, "filters": filters}
    asked |= {"licence": licence, "family": family, "input_size": input_size}
    budget = verify if budget is None else budget
    if budget is None and all(stream.isatty() for stream in (sys.stdout, sys.stderr)):
        budget = "auto"
    # The rows of an answer stay until it is printed: a search for garbage after each 700 of them finds none.
    gc.set_threshold(_COLLECTED)
    with showing() as progress:
        picked = vertebra.pick(
            table=table, among=among, budget=budget, lock=lock, systems=systems or (), price=price,
            progress=progress, **asked,
        )  # fmt: skip
    from vertebra.cli import answer

    click.get_current_context().meta[STATUS] = int(picked.choice is None)
    emit(
        answer.records(picked, top) if style != "text" else [],
        style,
        lambda: answer.text(picked, top, why=why, asked=_again()),
    )
    if picked.ended == "interrupted":
        raise KeyboardInterrupt
    if picked.choice is None:
        raise SystemExit(1)


def _again() -> str:
    """The command as it was typed, without what says how long to measure."""
    context = click.get_current_context()
    words = ["vertebra", "pick"]
    for parameter in context.command.params:
        given = context.params.get(str(parameter.name))
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name in ("budget", "verify", "style") or source is not ParameterSource.COMMANDLINE:
            continue
        option = max(parameter.opts, key=len)
        several = given if isinstance(given, tuple) else (given,)
        words += [option] if given is True else [word for one in several for word in (option, str(one))]
    return shlex.join(words)
