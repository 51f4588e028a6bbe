"""`vertebra compare`: two sides, figure by figure, and whether they differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra import units
from vertebra.cli.output import columns, emit, format_options, table_option
from vertebra.errors import VertebraError
from vertebra.measurements.measurement import GRADES
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from vertebra.reading.comparison import Comparison

#: Conditions that aren't repeated in the notes: they have a column of their own, or follow from the engine.
_SHOWN = ("model", "engine", "provider", "layout", "streams")


@click.command("compare")
@click.argument("sides", nargs=-1, metavar="[FIRST SECOND]")
@click.option("--system", "systems", multiple=True, help="A machine's name. Give two to compare them.")
@click.option("--engine", "engines", multiple=True, help="An engine. Give two to compare them.")
@click.option("--version", "versions", multiple=True, metavar="LIBRARY=VERSION",
              help="A version of a library. Give two to compare them.")  # fmt: skip
@click.option("--model", "models", multiple=True, help="Only this network. Repeatable.")
@click.option("--metric", "metrics", multiple=True, help="Only this metric. Repeatable.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Only this batch size.")
@click.option(
    "--tolerance", default="0%", show_default=True, help="Ignore regressions up to this size, such as 5%."
)
@click.option(
    "--trust",
    type=click.Choice(GRADES),
    default="B",
    show_default=True,
    help="Don't judge figures with a worse grade.",
)
@table_option
@format_options
def command(
    sides: tuple[str, ...], systems: tuple[str, ...], engines: tuple[str, ...], versions: tuple[str, ...],
    models: tuple[str, ...], metrics: tuple[str, ...], batch_size: int | None, tolerance: str, trust: str,
    table: str | None, style: str,
) -> None:  # fmt: skip
    """Compare SECOND with FIRST. Each is MODEL, MODEL@ENGINE, a date, a run, a machine or a table's file.

    \b
    Verdicts: no detectable difference, better, worse, different, not judged, failed, fixed.
    Exit status: 0 no regression, 1 a figure is worse or a case fails now, 2 nothing to compare.

    \b
      vertebra compare alexnet@onnxruntime alexnet@openvino
      vertebra compare --version onnxruntime=1.20 --version onnxruntime=1.21 --metric latency
      vertebra compare before.sqlite after.sqlite --tolerance 5%
    """

    named: dict[str, tuple[str, ...]] = {"system": systems, "engine": engines, "version": versions}
    first, second = _sides(sides, named)
    filters: dict[str, Any] = {"model": models or None, "batch_size": batch_size}
    filters |= {name: given for name, given in named.items() if len(given) == 1 and name != "version"}
    try:
        least = units.parse(tolerance, "fraction")
        compared = vertebra.compare(first, second, table=table, metric=metrics, trust=trust, **filters)
    except VertebraError as error:
        raise click.UsageError("\n".join(filter(None, [error.message, error.hint]))) from error
    emit([_record(one, least) for one in compared], style, lambda: _text(compared, least))
    if any(one.is_regression(least) for one in compared):
        raise SystemExit(1)


def _sides(sides: tuple[str, ...], named: dict[str, tuple[str, ...]]) -> tuple[Any, Any]:
    """The two sides, from two arguments or from options that were given twice."""
    twice = {name: given for name, given in named.items() if len(given) > 1}
    if any(len(given) > 2 for given in named.values()):
        raise click.UsageError("Two sides are compared: give each option at most twice.")
    if len(sides) == 2 and not twice and not named["version"]:
        return tuple(Path(side) if Path(side).is_file() else side for side in sides)  # type: ignore[return-value]
    if sides or not twice:
        raise click.UsageError(
            "Two sides are needed: name both, or give --system, --engine or --version twice."
        )
    return tuple(_choice(twice, place) for place in (0, 1))  # type: ignore[return-value]


def _choice(twice: dict[str, tuple[str, ...]], place: int) -> dict[str, str]:
    chosen = {name: given[place] for name, given in twice.items() if name != "version"}
    for version in twice.get("version", ())[place : place + 1]:
        library, _, number = version.partition("=")
        if not library or not number:
            raise click.UsageError(f'"{version}" is not a version: write it as onnxruntime=1.20')
        chosen[library] = number
    return chosen


def _record(one: Comparison, tolerance: float) -> dict[str, Any]:
    return {
        "model": one.second.model,
        "metric": one.metric,
        "first": one.first.value,
        "second": one.second.value,
        "ratio": one.ratio,
        "low": one.low,
        "high": one.high,
        "p_value": one.p_value,
        "paired": one.paired,
        "verdict": one.verdict,
        "regression": one.is_regression(tolerance),
        "first_grade": one.first.grade,
        "second_grade": one.second.grade,
        "differing": "; ".join(one.differing),
        "notes": "; ".join(one.notes),
    }


def _text(compared: list[Comparison], tolerance: float) -> str:
    worse = sum(one.is_regression(tolerance) for one in compared)
    unjudged = sum(one.verdict == "not judged" for one in compared)
    beyond = f" by more than {100 * tolerance:g} %" if tolerance else ""
    counts = f"{len(compared)} figures, {worse} worse{beyond}, {unjudged} not judged."
    return "\n".join([columns([_line(one) for one in compared]), "", counts])


def _line(one: Comparison) -> dict[str, Any]:
    unit = METRICS[one.metric].unit
    is_failure = one.metric == "failure"
    apart = [text for text in one.differing if text.split()[0] not in _SHOWN]
    return {
        "model": _both(one.first.model, one.second.model),
        "engine": _both(one.first.engine or "", one.second.engine or ""),
        "figure": METRICS[one.metric].label,
        "first": None if is_failure else units.show(one.first.value, unit),
        "second": None if is_failure else units.show(one.second.value, unit),
        "ratio": None if one.ratio is None else f"{one.ratio:.3f}",
        "95 % interval": None if one.low is None else f"{one.low:.3f} to {one.high:.3f}",
        "p": None if one.p_value is None else f"{one.p_value:.2g}",
        "verdict": one.verdict,
        "notes": "; ".join([*one.notes, *apart]),
    }


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first} → {second}"
