"""`vertebra pick`: a network under limits, with reasons."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from vertebra.cli.output import GLANCE, columns, emit, format_options, glance, quantity, table_option
from vertebra.cli.progress import watching
from vertebra.errors import InvalidInputError
from vertebra.measurements.measurement import GRADES
from vertebra.metrics import METRICS
from vertebra.recommendation import told

if TYPE_CHECKING:
    from vertebra.measurements import WideRow
    from vertebra.recommendation import Pick
    from vertebra.verification import Verified

#: limit -> (example, what it bounds), in the order of the help.
_LIMITS = {
    "latency": ("10ms", "Latency of one batch, at most."),
    "fps": ("30", "Images per second at batch size 1, at least."),
    "memory": ("700MB", "Peak memory of the process, at most."),
    "size": ("20MB", "Size of the weights, at most."),
    "params": ("10M", "Parameters, at most."),
    "macs": ("1G", "Multiply-accumulates of one image, at most."),
    "operations": ("2G", "Operations (FLOPs, twice the MACs) of one image, at most."),
    "top1": ("70%", "Top-1 accuracy, at least."),
    "top5": ("90%", "Top-5 accuracy, at least."),
    "probe": ("85%", "Top-1 accuracy of a probe on your images, at least."),
}


#: So many networks that fell out are told in text.
_MOST_EXCLUDED = 12


def _limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, (example, text) in reversed(_LIMITS.items()):
        function = click.option(f"--{name}", metavar=example, help=text)(function)
    return function


@click.command("pick")
@_limit_options
@click.option("--by", "objective", default="top1", show_default=True, help="The metric to be best at.")
@click.option("--top", type=click.IntRange(min=1), default=1, help="How many networks to print.")
@click.option("--engine", help="Only forms that run on this engine.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--system", help="The machine's name in the table. [default: this machine]")
@click.option("--probed", metavar="NAME", help="The images that --probe is about. [default: the only ones]")
@click.option(
    "--trust",
    type=click.Choice(GRADES),
    default="B",
    show_default=True,
    help="The worst grade of a figure that may speak for a network.",
)
@click.option(
    "--among",
    type=click.Choice(("table", "catalogue")),
    default="table",
    show_default=True,
    help="What the table tells, or every network with a published accuracy, priced where it never ran.",
)
@click.option(
    "--verify", metavar="TIME", help="Measure for so long what a pick among the catalogue hangs on."
)
@table_option
@format_options
def command(
    objective: str, top: int, engine: str | None, batch_size: int, system: str | None, probed: str | None,
    trust: str, among: str, verify: str | None, table: str | None, style: str, **limits: str | None,
) -> None:  # fmt: skip
    """Choose the best network that surely meets every limit, on this machine's measurements.

    \b
    Prints the choice, the runner-up, and what kept the better ones out. For example:
      vertebra pick --latency 50ms --memory 700MB --top 5
      vertebra pick --latency 20ms --among catalogue --verify 5m
    """
    from vertebra import _api

    filters: dict[str, Any] = {"engine": engine, "batch_size": batch_size, "probed": probed}
    if system is not None:
        filters["system"] = system
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if verify is not None:
        _refuse_contradictions(among, batch_size, system, probed)
        with watching() as watcher:
            found = _api.verified(
                verify, objective=objective, table=table, engine=engine, trust=trust, watcher=watcher, **given
            )
        picked, note = found.pick, _ending(found)
    else:
        picked = _api.pick(
            objective=objective, table=table, filters=filters, trust=trust, among=among, **given
        )
        note = ""
    emit(records(picked, top), style, lambda: text(picked, top) + note)
    if picked.choice is None:
        raise SystemExit(1)


def _refuse_contradictions(among: str, batch_size: int, system: str | None, probed: str | None) -> None:
    """Networks are measured here, one image at a time, and priced for that."""
    if among != "catalogue":
        raise InvalidInputError(
            "--verify measures networks of the catalogue, and the candidates are those of the table.",
            "add --among catalogue",
        )
    for option, given in (("--batch-size", batch_size != 1), ("--system", system), ("--probed", probed)):
        if given:
            raise InvalidInputError(
                f"--verify measures on this machine at batch size 1, so {option} can't be."
            )


def _ending(found: Verified) -> str:
    """What was measured for the answer, and whether it is the last word."""
    many = f"Measured for it: {', '.join(found.measured) or 'nothing'}."
    last = {
        "settled": "No estimate that is left could change the answer.",
        "budget": "The time was up before every estimate that could change the answer was measured.",
    }
    return f"\n{many} {last[found.ended]}"


def records(picked: Pick, top: int) -> list[dict[str, Any]]:
    """The networks that meet the limits, then those that fell out, one record each, in base units."""
    met = [_record(row, "met", ()) for row in picked.ranked[: max(top, 2)]]
    out = [
        _record(item.row, "borderline" if item.borderline else "excluded", item.reasons)
        for item in picked.excluded
    ]
    return met + out


def _record(row: WideRow, verdict: str, reasons: tuple[str, ...]) -> dict[str, Any]:
    return {
        "model": row.model,
        "verdict": verdict,
        "engine": row.conditions.get("engine"),
        **{metric: row.value(metric) for metric in GLANCE},
        "reasons": "; ".join(reasons),
    }


def text(picked: Pick, top: int) -> str:
    """The answer for people."""
    limits = ", ".join(map(str, picked.limits)) or "no limits"
    lines = [f"Best {METRICS[picked.objective].label} under {limits}:", ""]
    if picked.choice is None:
        lines.append("No network surely meets these limits. Nearest misses:")
        lines += [f"  {told(item.row)}: {item.why}" for item in picked.excluded[: max(top, 3)]]
        return "\n".join(lines)
    lines.append(columns([_glance(row, picked) for row in picked.ranked[:top]]))
    if picked.runner_up is not None and top == 1:
        lines += ["", f"Runner-up: {told(picked.runner_up, picked.objective, 'latency')}"]
    if picked.excluded:
        lines += ["", "Better, but excluded:", *_excluded(picked)]
    return "\n".join([*lines, "", _origin(picked.choice)])


def _excluded(picked: Pick) -> list[str]:
    """The better ones and what kept them out, in their order; of very many, those that are nearest."""
    near = sorted(
        picked.excluded, key=lambda item: max((limit.miss(item.row) for limit in picked.limits), default=1)
    )
    shown = {id(item) for item in near[:_MOST_EXCLUDED]}
    lines = [f"  {told(item.row)}: {item.why}" for item in picked.excluded if id(item) in shown]
    more = len(picked.excluded) - len(lines)
    return [*lines, f"  and {more} more that are farther out (--json tells them)"] if more else lines


def _glance(row: WideRow, picked: Pick) -> dict[str, Any]:
    """One network in one line, with what was asked for where a glance doesn't tell it."""
    asked = dict.fromkeys([picked.objective, *(limit.metric for limit in picked.limits)])
    more = {METRICS[metric].label: quantity(row, metric) for metric in asked if metric not in GLANCE}
    return {**glance(row), **more}


def _origin(row: WideRow) -> str:
    """Where the choice's figures come from, for no figure should be read without it."""
    origins = []
    for metric in ("top1", "probe_top1", "latency", "memory_total", "params"):
        figure = row.figures.get(metric)
        if figure is not None:
            weights = f" for the weights {figure.weights}" if figure.weights else ""
            origins.append(f"{METRICS[metric].label} {figure.origin}{weights}")
    conditions = ", ".join(f"{name} {value}" for name, value in row.conditions.items())
    return f"Origin: {', '.join(origins)}." + (f"\nMeasured with: {conditions}." if conditions else "")
