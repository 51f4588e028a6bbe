"""`vertebra bench`: latency, throughput and memory on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra import units
from vertebra.cli.output import (  # fmt: skip
    columns,
    emit,
    format_options,
    glance,
    quantity,
    record,
    span,
    table_option,
)
from vertebra.cli.progress import showing
from vertebra.errors import InvalidInputError
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from vertebra.measurements import WideRow
    from vertebra.verbs.bench import Benched

#: Conditions that get a column where the cases differ in them.
_TELLING = ("batch_size", "precision", "streams", "threads", "arrival_rate")

#: What is told where it was measured, beside the usual.
_BESIDE = ("throughput", "end_to_end_latency", "sustained_rate", "missed_deadlines", "energy_per_image")
#: What a line is about: the first of them that was measured, whose interval, samples and grade are told.
_HEADLINES = ("end_to_end_latency", "sustained_rate", "latency", "throughput", "failure")


@click.command("bench")
@click.argument("models", nargs=-1)
@click.option("--engine", "engines", multiple=True, help="May be repeated. [default: every one found here]")
@click.option(
    "--precision", "precisions", multiple=True, help="May be repeated. [default: float32; a Bundle's own]"
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch-size", "one_by_one", type=click.IntRange(min=1), multiple=True,
              help="May be repeated. [default: 1; offline: 1 to 64]")  # fmt: skip
@click.option("--batch-sizes", metavar="FIRST..LAST", help="Powers of two between the two, such as 1..64.")
@click.option(
    "--input-size", type=click.IntRange(min=1), help="Height and width in pixels. [default: native]"
)
@click.option("--threads", type=click.IntRange(min=1), help="[default: physical cores]")
@click.option("--scenario", default="single-stream", show_default=True,
              help="single-stream, offline or server, in MLPerf's words.")  # fmt: skip
@click.option("--streams", type=click.IntRange(min=1), multiple=True,
              help="Calls at once; may be repeated. [default: 1; offline: up to the threads]")  # fmt: skip
@click.option("--arrival-rate", type=float, metavar="PER_SECOND",
              help="A server's queries. [default: the greatest that holds is searched]")  # fmt: skip
@click.option("--latency-bound", metavar="TIME", help="What a server promises for 99 % of the queries.")
@click.option("--end-to-end", is_flag=True, help="Time the way from a JPEG's bytes too.")
@click.option("--processes", type=click.IntRange(min=1), help="Fresh processes of each case. [default: 3]")
@click.option("--quick", is_flag=True, help="One process, a few seconds: never graded above B.")
@click.option("--seconds", metavar="TIME",
              help="For each case, all its processes together. [default: 30s; quick: 10s]")  # fmt: skip
@click.option("--budget", metavar="TIME", help="For all cases together.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of the blocks.")
@table_option
@format_options
def command(
    models: tuple[str, ...], engines: tuple[str, ...], precisions: tuple[str, ...],
    one_by_one: tuple[int, ...], batch_sizes: str | None, streams: tuple[int, ...], style: str,
    **options: Any,
) -> None:  # fmt: skip
    """Measure MODELS (the eleven classics, where none is named): names, or Bundles' folders.

    Every case runs in several fresh processes, in short blocks that are randomly interleaved across cases.
    """

    if one_by_one and batch_sizes:
        raise InvalidInputError("--batch-size and --batch-sizes exclude each other.", "use one of them")
    batches = _between(batch_sizes) if batch_sizes else one_by_one or None
    with showing() as progress:
        rows = vertebra.bench(
            *models, engines=engines, precision=precisions or None, batch_size=batches,
            streams=streams or None, progress=progress, **options,
        )  # fmt: skip
    emit(
        [record(row, style) for row in rows],
        style,
        lambda: "\n".join([columns(_lines(rows)), *_best(rows)]),
    )
    if any(row.metric == "failure" for row in rows):
        raise SystemExit(1)


def _best(rows: Benched) -> list[str]:
    """A line for each network and engine of which several offline loads were measured."""
    if len({(row.batch_size, row.streams) for row in rows if row.scenario == "offline"}) < 2:
        return []
    return [
        f"{row.model} on {row.engine}: {units.show(row.value, '1/s')} in batches of {row.batch_size} by "
        f"{row.streams} streams at once serve best."
        for row in rows.best_loads()
    ]


def _between(text: str) -> tuple[int, ...]:
    """The powers of two from one number to the other."""
    first, dots, last = text.partition("..")
    if not dots or not first.isdecimal() or not last.isdecimal() or not 1 <= int(first) <= int(last):
        raise InvalidInputError(
            f'"{text}" is no range of batch sizes.', "write the first and the last, such as 1..64"
        )
    powers = tuple(2**power for power in range(int(last).bit_length()) if int(first) <= 2**power <= int(last))
    if not powers:
        raise InvalidInputError(f"There is no power of two from {first} to {last}.", "such as 1..64")
    return powers


def _lines(rows: Benched) -> list[dict[str, Any]]:
    """One line a case: what was asked for, and how far it can be trusted or why there is nothing."""
    from vertebra.measurements import wide

    forms = wide(rows)
    shares = dict(zip(map(id, rows), rows.shares, strict=True))
    telling = [name for name in _TELLING if len({form.conditions.get(name) for form in forms}) > 1]
    return [_line(form, telling, shares.get(id(form.figures.get("latency")))) for form in forms]


def _line(form: WideRow, telling: list[str], share: float | None) -> dict[str, Any]:
    told = next(form.figures[name] for name in _HEADLINES if name in form.figures)
    shown = {name: value for name, value in glance(form).items() if name not in ("grade", "model", "engine")}
    return {
        "model": form.model,
        "engine": form.conditions.get("engine"),
        **{name.replace("_", " "): form.conditions.get(name) for name in telling},
        **shown,
        **{METRICS[name].label: quantity(form, name) for name in _BESIDE},
        "of roofline": None if share is None else f"{share:.0%}",
        "95 % interval": span(told) if told.metric != "failure" else None,
        "samples": told.samples,
        "grade": told.grade,
        "notes": "; ".join(told.grade_reasons),
    }
