"""`vertebra bench`: latency and memory on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vertebra import units
from vertebra.cli.output import columns, emit, format_options, glance, record, span, table_option
from vertebra.cli.progress import watching

if TYPE_CHECKING:
    from vertebra.measurements import Measurement


@click.command("bench")
@click.argument("models", nargs=-1)
@click.option("--engine", "engines", multiple=True, help="May be repeated. [default: every one found here]")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--input-size", type=click.IntRange(min=1), help="Height and width in pixels. [default: native]"
)
@click.option("--threads", type=click.IntRange(min=1), help="[default: physical cores]")
@click.option("--seconds", default="10s", show_default=True, help="Time for the samples of one case.")
@table_option
@format_options
def command(
    models: tuple[str, ...], engines: tuple[str, ...], batch_size: int, input_size: int | None,
    threads: int | None, seconds: str, table: str | None, style: str,
) -> None:  # fmt: skip
    """Measure MODELS (the eleven classics, where none is named), each case in a fresh process."""
    from vertebra import _api

    with watching() as watcher:
        rows = _api.bench(
            *models, engines=engines, batch_size=batch_size, input_size=input_size, threads=threads,
            seconds=units.parse(seconds, "s"), table=table, watcher=watcher,
        )  # fmt: skip
    emit([record(row, style) for row in rows], style, lambda: columns(_lines(rows)))
    if any(row.metric == "failure" for row in rows):
        raise SystemExit(1)


def _lines(rows: list[Measurement]) -> list[dict[str, Any]]:
    """One line a case: what was asked for, and how far it can be trusted or why there is nothing."""
    from vertebra.measurements import wide

    lines = []
    for form in wide(rows):
        latency, failure = form.figures.get("latency"), form.figures.get("failure")
        told = latency or failure
        assert told is not None
        shown = {name: value for name, value in glance(form).items() if name != "grade"}
        lines.append(
            {**shown, "95 % interval": span(told), "samples": told.samples, "grade": told.grade,
             "notes": "; ".join(told.grade_reasons)}
        )  # fmt: skip
    return lines
