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
    on_option,
    quantity,
    record,
    shard_option,
    table_option,
)
from vertebra.cli.progress import showing
from vertebra.cli.subject import trust_option
from vertebra.errors import InvalidInputError
from vertebra.measurements import display
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vertebra.measurements import Measurement, WideRow
    from vertebra.verbs.bench import Benched

#: Conditions that get a column if the cases differ in them.
_VARIED = ("batch_size", "precision", "streams", "threads", "arrival_rate")

#: Figures that get a column if they were measured, after the usual ones.
_EXTRA = ("throughput", "end_to_end_latency", "sustained_rate", "missed_deadlines", "energy_per_image")
#: The first of these that was measured gives a line its interval, samples and grade.
_HEADLINES = ("end_to_end_latency", "sustained_rate", "latency", "throughput", "failure")
_OF_SERVER = ("failure", "served_rate", "request_latency", "missed_requests")


@click.command("bench")
@click.argument("models", nargs=-1)
@click.option(
    "--engine", "engines", multiple=True, help="Engine to measure. Repeatable. [default: all installed]"
)
@click.option("--precision", "precisions", multiple=True,
              help="Precision to measure. Repeatable. [default: float32; a Bundle's own]")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="Where to run: cpu or cuda.")
@click.option("--batch-size", "one_by_one", type=click.IntRange(min=1), multiple=True,
              help="Images in one call. Repeatable. [default: 1; offline: 1 to 64]")  # fmt: skip
@click.option("--batch-sizes", metavar="FIRST..LAST", help="All powers of two in a range, such as 1..64.")
@click.option(
    "--input-size",
    type=click.IntRange(min=1),
    help="Height and width in pixels. [default: the network's own]",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the engine. [default: physical cores]"
)
@click.option("--scenario", default="single-stream", show_default=True,
              help="Load, as MLPerf defines it: single-stream, offline or server.")  # fmt: skip
@click.option("--streams", type=click.IntRange(min=1), multiple=True,
              help="Calls at the same time. Repeatable. [default: 1; offline: up to --threads]")  # fmt: skip
@click.option("--arrival-rate", type=float, metavar="PER_SECOND",
              help="Server scenario: images per second. [default: find the highest]")  # fmt: skip
@click.option(
    "--latency-bound", metavar="TIME", help="Server scenario: the latency that 99 % of the queries must meet."
)
@click.option("--end-to-end", is_flag=True, help="Also time decoding and preprocessing, from a JPEG's bytes.")
@click.option("--beside", type=click.IntRange(min=0), metavar="N",
              help="Keep N other threads busy meanwhile, as on a shared machine.")  # fmt: skip
@click.option("--pictures", metavar="PATH",
              help="Server at a URL: send these pictures. [default: random tensors]")  # fmt: skip
@click.option("--tensor", metavar="NAME:DATATYPE:SHAPE",
              help="Server at a URL: its input. [default: as its metadata says]")  # fmt: skip
@click.option("--token-file", metavar="FILE", help="Server at a URL: a file with a bearer token.")
@click.option("--processes", type=click.IntRange(min=1),
              help="Fresh processes for each case, or runs of a rate. [default: 3; quick: 1]")  # fmt: skip
@click.option("--quick", is_flag=True, help="One process and a few seconds per case; no grade above B.")
@click.option("--seconds", metavar="TIME",
              help="Time for each case, all its processes together. [default: 30s; quick: 10s]")  # fmt: skip
@click.option("--budget", metavar="TIME", help="Time for all cases together.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the random order of the blocks."
)
@shard_option
@on_option
@trust_option
@table_option
@format_options
def command(
    models: tuple[str, ...], engines: tuple[str, ...], precisions: tuple[str, ...],
    one_by_one: tuple[int, ...], batch_sizes: str | None, streams: tuple[int, ...], style: str,
    **options: Any,
) -> None:  # fmt: skip
    """Measure MODELS: names of networks, or folders of Bundles. Without MODELS: the eleven classics.

    Each case runs in several fresh processes, in short blocks that are randomly interleaved across cases.

    With --scenario server, MODELS may be URLs of servers of the Open Inference Protocol, such as
    http://localhost:8000/v2/models/NAME or grpc://localhost:8001/v2/models/NAME.
    """

    if one_by_one and batch_sizes:
        raise InvalidInputError("--batch-size and --batch-sizes can't be combined.", "use one of them")
    batches = _between(batch_sizes) if batch_sizes else one_by_one or None
    with showing() as progress:
        rows = vertebra.bench(
            *models, engine=engines, precision=precisions or None, batch_size=batches,
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
    """A line for each network and engine, if several offline loads were measured."""
    if len({(row.batch_size, row.streams) for row in rows if row.scenario == "offline"}) < 2:
        return []
    return [
        f"{row.model} on {row.engine}: best throughput {units.show(row.value, '1/s')}, with batch size "
        f"{row.batch_size} and {row.streams} streams."
        for row in rows.best_loads()
    ]


def _between(text: str) -> tuple[int, ...]:
    """The powers of two from one number to the other."""
    first, dots, last = text.partition("..")
    if not dots or not first.isdecimal() or not last.isdecimal() or not 1 <= int(first) <= int(last):
        raise InvalidInputError(
            f'"{text}" is not a range of batch sizes.', "write it as FIRST..LAST, such as 1..64"
        )
    powers = tuple(2**power for power in range(int(last).bit_length()) if int(first) <= 2**power <= int(last))
    if not powers:
        raise InvalidInputError(
            f"There is no power of two from {first} to {last}.", "use a range such as 1..64"
        )
    return powers


def _lines(rows: Benched) -> list[dict[str, Any]]:
    """A line for each case: its conditions, its figures, and how far they can be trusted or why it failed."""
    from vertebra.measurements import wide

    if rows and rows[0].source is not None:
        return _of_servers(rows)
    forms = wide(rows)
    shares = dict(zip(map(id, rows), rows.shares, strict=True))
    varied = [name for name in _VARIED if len({form.conditions.get(name) for form in forms}) > 1]
    varied += ["beside"] if any("beside" in form.conditions for form in forms) else []
    return [_line(form, varied, shares.get(id(form.figures.get("latency")))) for form in forms]


def _of_servers(rows: Sequence[Measurement]) -> list[dict[str, Any]]:
    """A line for each server and way of asking it."""
    groups: dict[tuple[object, ...], dict[str, Measurement]] = {}
    for row in rows:
        groups.setdefault((row.source, row.protocol, row.batch_size), {})[row.metric] = row
    lines = []
    for figures in groups.values():
        headline = next(figures[name] for name in _OF_SERVER if name in figures)
        at = next((row.arrival_rate for row in figures.values() if row.arrival_rate is not None), None)
        lines.append({
            "server": headline.source,
            "batch size": None if headline.batch_size == 1 else headline.batch_size,
            "highest rate": display.quantity(figures.get("served_rate")),
            "of the rate": display.interval(figures["served_rate"]) if "served_rate" in figures else None,
            "at": None if at is None else units.show(at, "1/s"),
            "latency": display.quantity(figures.get("request_latency")),
            "p99": display.quantity(figures.get("request_latency_p99")),
            "missed": display.quantity(figures.get("missed_requests")),
            "requests": headline.samples,
            "grade": headline.grade,
            "protocol": headline.protocol,
            "notes": "; ".join(headline.grade_reasons),
        })  # fmt: skip
    return lines


def _line(form: WideRow, varied: list[str], share: float | None) -> dict[str, Any]:
    headline = next(form.figures[name] for name in _HEADLINES if name in form.figures)
    shown = {
        name: value
        for name, value in display.glance(form).items()
        if name not in ("grade", "model", "engine")
    }
    return {
        "model": form.model,
        "engine": form.conditions.get("engine"),
        **{name.replace("_", " "): form.conditions.get(name) for name in varied},
        **shown,
        **{METRICS[name].label: quantity(form, name) for name in _EXTRA},
        "of roofline": None if share is None else f"{share:.0%}",
        "95 % interval of the run": display.interval(headline) if headline.metric != "failure" else None,
        "samples": headline.samples,
        "grade": headline.grade,
        "notes": "; ".join(headline.grade_reasons),
    }
