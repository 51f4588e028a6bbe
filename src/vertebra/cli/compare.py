"""`vertebra compare`: two sides, figure by figure, and whether they differ."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra import units
from vertebra.cli.gated import Gated
from vertebra.cli.output import columns, emit, format_options, table_option
from vertebra.cli.terminal import STATUS, put
from vertebra.errors import InvalidInputError
from vertebra.measurements.measurement import GRADES
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vertebra.measurements import Measurement
    from vertebra.reading.comparison import Comparison
    from vertebra.reading.regression import Gate

#: Conditions that aren't repeated in the notes: they have a column of their own, or follow from the engine.
_SHOWN = ("model", "engine", "provider", "layout", "streams")


@click.command("compare", cls=Gated)
@click.argument("sides", nargs=-1, metavar="[FIRST SECOND]")
@click.option("--system", "systems", multiple=True, help="A machine's name. Give two to compare them.")
@click.option("--engine", "engines", multiple=True, help="An engine. Give two to compare them.")
@click.option("--version", "versions", multiple=True, metavar="LIBRARY=VERSION",
              help="A version of a library. Give two to compare them.")  # fmt: skip
@click.option(
    "--model", "models", metavar="NAME[#DIGEST]", multiple=True, help="Only this network. Repeatable."
)
@click.option("--metric", "metrics", multiple=True, help="Only this metric. Repeatable.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Only this batch size.")
@click.option("--tolerance", default="0%", show_default=True,
              help="Ignore regressions up to this size, such as 5%.")  # fmt: skip
@click.option("--trust", type=click.Choice(GRADES), default="B", show_default=True,
              help="Don't judge figures with a worse grade.")  # fmt: skip
@click.option("--require-judged", default="80%", show_default=True, metavar="SHARE",
              help="Exit with 3 if a smaller share of the figures could be judged.")  # fmt: skip
@click.option("--require-all", is_flag=True, help="Exit with 1 if a case of FIRST is missing from SECOND.")
@click.option("--all", "every", is_flag=True, help="Print every figure, not only those that changed.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write JUnit's XML to this file.")  # fmt: skip
@table_option
@click.option("--markdown", "style", flag_value="markdown", help="Print Markdown.")
@format_options
def command(
    sides: tuple[str, ...], systems: tuple[str, ...], engines: tuple[str, ...], versions: tuple[str, ...],
    models: tuple[str, ...], metrics: tuple[str, ...], batch_size: int | None, tolerance: str, trust: str,
    require_judged: str, require_all: bool, every: bool, junit: Path | None, table: str | None, style: str,
) -> None:  # fmt: skip
    """Compare SECOND with FIRST. Each is MODEL, MODEL@ENGINE, a date, a run, a machine or a table's file.

    \b
    Verdicts: no detectable difference, better, worse, different, not judged,
    failed, fixed.
    Exit status: 0 nothing is worse, 1 something is certainly worse,
    2 wrong use or an error, 3 too few figures could be judged.

    \b
      vertebra compare alexnet@onnxruntime alexnet@openvino
      vertebra compare --version onnxruntime=1.20 --version onnxruntime=1.21
      vertebra compare before.csv after.csv --require-all --junit compare.xml
    """
    from vertebra.machine import files
    from vertebra.reading import regression

    named: dict[str, tuple[str, ...]] = {"system": systems, "engine": engines, "version": versions}
    first, second = _sides(sides, named)
    filters: dict[str, Any] = {"model": models or None, "batch_size": batch_size}
    filters |= {name: given for name, given in named.items() if len(given) == 1 and name != "version"}
    least, share = _share("--tolerance", tolerance), _share("--require-judged", require_judged)
    compared = vertebra.compare(first, second, table=table, metric=metrics, trust=trust, **filters)
    gate = regression.Gate(compared, least, require_all, share)
    if junit is not None:
        files.write_whole(junit, regression.junit(gate))
    shown = list(compared) if every else gate.changed
    click.get_current_context().meta[STATUS] = gate.status
    if style == "markdown":
        put(regression.markdown(gate, shown))
    else:
        emit(_records(gate), style, lambda: _text(gate, shown))
    raise SystemExit(gate.status)


def _share(option: str, text: str) -> float:
    share = units.parse(text, "fraction")
    if share < 0:
        raise InvalidInputError(f"{option} {text} is below 0.", "pass a percentage such as 5%")
    return share


def _sides(sides: tuple[str, ...], named: dict[str, tuple[str, ...]]) -> tuple[Any, Any]:
    """The two sides, from two arguments or from options that were given twice."""
    twice = {name: given for name, given in named.items() if len(given) > 1}
    if any(len(given) > 2 for given in named.values()):
        raise click.UsageError("Two sides are compared: give each option at most twice.")
    if len(sides) == 2 and not twice and not named["version"]:
        return tuple(Path(side) if os.path.isfile(side) else side for side in sides)  # type: ignore[return-value]
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


def _records(gate: Gate) -> list[dict[str, Any]]:
    missing = [_lonely(row, "first") for row in gate.compared.missing]
    new = [_lonely(row, "second") for row in gate.compared.new]
    return [*(_record(one, gate.tolerance) for one in gate.compared), *missing, *new]


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


def _lonely(row: Measurement, side: str) -> dict[str, Any]:
    """A row whose case only one side has, under the keys of `_record`."""
    verdict = "missing" if side == "first" else "new"
    keys = ("ratio", "low", "high", "p_value", "first", "second", "first_grade", "second_grade")
    empty = dict.fromkeys(keys)
    own = {"model": row.model, "metric": row.metric, side: row.value, f"{side}_grade": row.grade}
    more = {"paired": False, "verdict": verdict, "regression": False, "differing": "", "notes": ""}
    record = {**empty, **own, **more}
    return {key: record[key] for key in _KEYS}


#: The keys of a record, in order.
_KEYS = (
    "model", "metric", "first", "second", "ratio", "low", "high", "p_value", "paired", "verdict",
    "regression", "first_grade", "second_grade", "differing", "notes",
)  # fmt: skip


def _text(gate: Gate, shown: Sequence[Comparison]) -> str:
    hidden = len(gate.compared) - len(shown)
    more = [f"Not shown: {hidden} more without a change; to see them: --all"] if hidden else []
    table = [columns([_line(one) for one in shown]), ""] if shown else []
    return "\n".join([*gate.summary(), "", *table, *more]).rstrip()


def _line(one: Comparison) -> dict[str, Any]:
    from vertebra.reading.regression import values

    first, second = values(one)
    return {
        "model": _both(_name(one.first, one.second), _name(one.second, one.first)),
        "engine": _both(one.first.engine or "", one.second.engine or ""),
        "figure": METRICS[one.metric].label,
        "first": first,
        "second": second,
        "ratio": None if one.ratio is None else f"{one.ratio:.3f}",
        "95 % interval": None if one.low is None else f"{one.low:.3f} to {one.high:.3f}",
        "verdict": one.verdict,
        "notes": "; ".join([*one.notes, *_apart(one)]),
    }


def _apart(one: Comparison) -> list[str]:
    """What differs and has no column of its own; a library that only one of two engines needs is no news."""
    texts = [text for text in one.differing if text.split()[0] not in _SHOWN]
    if one.first.engine == one.second.engine:
        return texts
    return [text for text in texts if " none → " not in text and not text.endswith(" → none")]


def _name(row: Measurement, other: Measurement) -> str:
    """What the network is called, beside another that may share its name."""
    from vertebra.measurements import subjects

    return subjects.names([row, other])[subjects.subject(row)]


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first} → {second}"
