"""`vertebra pick`: the best network within limits, with reasons."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra import units
from vertebra.cli import fastest
from vertebra.cli.output import GLANCE, columns, emit, format_options, glance, quantity, table_option
from vertebra.cli.progress import showing
from vertebra.errors import InvalidInputError
from vertebra.measurements.measurement import GRADES
from vertebra.metrics import METRICS
from vertebra.reading.choice.rule import Demand, described

if TYPE_CHECKING:
    from vertebra.measurements import Measurement, WideRow
    from vertebra.reading.choice.rule import Limit, Pick, Relaxation

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


#: The text lists at most this number of excluded networks, and of networks on the front.
_MOST_SHOWN = 12


def _limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, (example, text) in reversed(_LIMITS.items()):
        function = click.option(f"--{name}", metavar=example, help=text)(function)
    return function


@click.command("pick")
@_limit_options
@click.option("--by", "objective", default="top1", show_default=True, help="Metric to optimise.")
@click.option("--top", type=click.IntRange(min=1), default=1, help="Number of networks to print.")
@click.option(
    "--licence",
    multiple=True,
    metavar="NAME",
    help="Only weights with this licence: apache-2.0, mit, … Repeatable.",
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
    help="Only forms in this precision. Repeatable. [--fastest: float32 by default, or all]",
)
@click.option("--device", help="Only forms on this device: cpu, cuda.")
@click.option("--scenario", help="Only forms under this load: single-stream, offline, server.")
@click.option("--streams", type=click.IntRange(min=1), help="Only forms with this number of streams.")
@click.option("--batch-size", type=click.IntRange(min=1), multiple=True,
              help="Batch size of the forms. Repeatable with --fastest. [default: 1]")  # fmt: skip
@click.option("--system", help="Name of the machine in the table. [default: this machine]")
@click.option("--probed", metavar="NAME", help="Data set of --probe. [default: the only one in the table]")
@click.option(
    "--trust",
    type=click.Choice(GRADES),
    default="B",
    show_default=True,
    help="Don't choose by figures with a worse grade.",
)
@click.option(
    "--among",
    type=click.Choice(("table", "catalogue")),
    help="Candidates: the table's networks, or all published. [default: table; --budget: catalogue]",
)
@click.option(
    "--budget",
    metavar="TIME",
    help="Spend up to TIME measuring the candidates that could change the answer.",
)
@click.option("--verify", metavar="TIME", hidden=True)  # what --budget was called
@table_option
@format_options
@fastest.offered
def command(
    objective: str, top: int, licence: tuple[str, ...], family: tuple[str, ...], input_size: tuple[int, ...],
    dataset: str | None, origin: str | None, engine: tuple[str, ...], precision: tuple[str, ...],
    device: str | None, scenario: str | None, streams: int | None, batch_size: tuple[int, ...],
    system: str | None, probed: str | None, trust: str, among: str | None, budget: str | None,
    verify: str | None, table: str | None, style: str, **limits: str | None,
) -> None:  # fmt: skip
    """Choose the best network that meets every limit with certainty, by this machine's measurements.

    Prints the choice, the runner-up, the Pareto front, why better networks were excluded, and what relaxing
    each limit would gain. With --among catalogue, networks that were never measured are candidates too, with
    estimated figures.

    \b
      vertebra pick --latency 50ms --memory 700MB --top 5
      vertebra pick --latency 20ms --budget 5m

    With --fastest: search for the fastest form (engine, precision, threads, layout, batch size) of one
    network, for 60 s or --budget.

    \b
      vertebra pick alexnet --fastest --precision float32,bfloat16 --export fast
    """
    if len(batch_size) > 1:
        raise InvalidInputError("Networks are compared at one batch size.", "pass only one --batch-size")
    filters: dict[str, Any] = {
        "engine": engine or None, "precision": precision or None, "device": device, "scenario": scenario,
        "streams": streams, "batch_size": batch_size[0] if batch_size else 1, "probed": probed,
        "dataset": dataset, "origin": origin,
    }  # fmt: skip
    if system is not None:
        filters["system"] = system
    asked: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    asked |= {"objective": objective, "trust": trust, "filters": filters}
    asked |= {"licence": licence, "family": family, "input_size": input_size}
    budget = verify if budget is None else budget
    with nullcontext() if budget is None else showing() as progress:
        picked = vertebra.pick(table=table, among=among, budget=budget, progress=progress, **asked)
    emit(records(picked, top), style, lambda: text(picked, top) + _ending(picked))
    if picked.ended == "interrupted":
        raise KeyboardInterrupt
    if picked.choice is None:
        raise SystemExit(1)


def _ending(picked: Pick) -> str:
    """What was measured for the answer, and whether the answer is final."""
    if picked.ended is None:
        return ""
    measured = f"Measured for this answer: {', '.join(picked.measured) or 'nothing'}."
    last = {
        "settled": "Each remaining estimate has a chance of less than 5 % to change the answer.",
        "interrupted": "Interrupted: this is the answer so far, and the measurements are in the table.",
        "budget": "The time was up before every estimate that could change the answer was measured.",
    }
    return f"\n{measured} {last[picked.ended]}"


def records(picked: Pick, top: int) -> list[dict[str, Any]]:
    """One record in base units for each network: those that meet the limits (the first ones and the front),
    the excluded ones, then those that relaxing one limit would give."""
    front = {row.model for row in picked.front}
    first = {row.model for row in picked.ranked[: max(top, 2)]}
    met = [
        {**_record(row, picked, "met"), "front": row.model in front}
        for row in picked.ranked if row.model in first | front
    ]  # fmt: skip
    out = [
        _record(item.row, picked, "borderline" if item.borderline else "excluded", "; ".join(item.reasons))
        for item in picked.excluded
    ]
    relaxed = [
        {**_record(one.row, picked, "if relaxed", _relaxed(one)), "limit": _name(one.limit),
         "relaxed_to": one.to, "gain": one.gain}
        for one in picked.relaxations
    ]  # fmt: skip
    return met + out + relaxed


def _name(limit: Limit | Demand) -> str:
    return limit.name if isinstance(limit, Demand) else limit.metric


def _record(row: WideRow, picked: Pick, verdict: str, reasons: str = "") -> dict[str, Any]:
    shown = dict.fromkeys((*GLANCE, *_asked(picked)))
    origins = {f"{name}_origin": row.figures[name].origin if name in row.figures else None for name in shown}
    return {
        "model": row.model,
        "verdict": verdict,
        "engine": row.conditions.get("engine"),
        "precision": row.conditions.get("precision"),
        **{metric: row.value(metric) for metric in shown},
        **origins,
        "front": False,
        "limit": None,
        "relaxed_to": None,
        "gain": None,
        "reasons": reasons,
    }


def _asked(picked: Pick) -> tuple[str, ...]:
    return (picked.objective, *(limit.metric for limit in picked.limits))


def text(picked: Pick, top: int) -> str:
    """The answer for people."""
    limits = ", ".join(map(str, (*picked.limits, *picked.demands))) or "no limits"
    lines = [f"Best {METRICS[picked.objective].label} under {limits}:", ""]
    if picked.choice is None:
        lines.append("No network meets these limits with certainty. Nearest misses:")
        lines += [f"  {described(item.row)}: {item.why}" for item in picked.excluded[: max(top, 3)]]
        return "\n".join([*lines, "", *_relaxations(picked), *picked.notes])
    lines.append(columns([_glance(row, picked) for row in picked.ranked[:top]]))
    if picked.runner_up is not None and top == 1:
        lines += ["", f"Runner-up: {described(picked.runner_up, picked.objective, 'latency')}"]
    if len(picked.front) > 2 and top == 1:
        lines += ["", *_front(picked)]
    if picked.excluded:
        lines += ["", "Better, but excluded:", *_excluded(picked)]
    if picked.relaxations:
        lines += ["", *_relaxations(picked)]
    return "\n".join([*lines, "", _origin(picked.choice, picked), *picked.notes])


def _front(picked: Pick) -> list[str]:
    """The networks that no other beats in both the objective and the metric that is traded for it."""
    against = METRICS[picked.against].label
    lines = [f"  {described(row, picked.objective, picked.against)}" for row in picked.front[:_MOST_SHOWN]]
    more = len(picked.front) - len(lines)
    lines += [f"  and {more} more (list them with --json)"] if more > 0 else []
    return [f"Pareto front of {METRICS[picked.objective].label} against {against}:", *lines]


def _excluded(picked: Pick) -> list[str]:
    """The better networks and why they were excluded, in their order; if there are many, the nearest to the
    limits. Those that a demand excludes are only counted."""
    wanted = [item for item in picked.excluded if not item.unwanted]
    near = sorted(wanted, key=lambda item: max((limit.miss(item.row) for limit in picked.limits), default=1))
    shown = {id(item) for item in near[:_MOST_SHOWN]}
    lines = [f"  {described(item.row)}: {item.why}" for item in wanted if id(item) in shown]
    more = len(wanted) - len(lines)
    lines += [f"  and {more} more that miss by more (list them with --json)"] if more else []
    for demand in picked.demands:
        count = sum(demand in item.unwanted for item in picked.excluded)
        lines += [f"  {count} with another or an unknown {demand.name}"] if count else []
    return lines


def _relaxations(picked: Pick) -> list[str]:
    """What relaxing each limit would gain; if no single one is enough, the limits that the nearest miss
    needs."""
    if picked.relaxations:
        lines = [
            f"  {_relaxed(one)}: {described(one.row, picked.objective)}{_gained(one, picked)}"
            for one in picked.relaxations
        ]
        return ["What relaxing one limit would gain:", *lines]
    nearest = picked.excluded[0].row
    unmet = [limit for limit in picked.limits if limit.verdict(nearest) != "met"]
    needed = [(limit, limit.needed(nearest)) for limit in unmet]
    bounds = [str(replace(limit, bound=to)) for limit, to in needed if to is not None]
    if picked.excluded[0].unwanted or len(bounds) < max(len(unmet), 1):
        return ["Relaxing one limit is not enough."]
    return [f"Relaxing one limit is not enough; {nearest.model} needs {' and '.join(bounds)}."]


def _relaxed(one: Relaxation) -> str:
    """The relaxed limit and the present one: "latency ≤ 61.3 ms instead of 50.0 ms"."""
    if isinstance(one.limit, Demand):
        return f"also {one.limit.name} {one.to}"
    unit = METRICS[one.limit.metric].unit
    return f"{replace(one.limit, bound=float(one.to))} instead of {units.show(one.limit.bound, unit)}"


def _gained(one: Relaxation, picked: Pick) -> str:
    if one.gain is None:
        return ""
    unit = METRICS[picked.objective].unit
    more = "more" if one.gain > 0 else "less"
    shown = units.show(abs(one.gain), unit)
    return f", {shown.replace('%', 'points')} {more}"


def _glance(row: WideRow, picked: Pick) -> dict[str, Any]:
    """One network in one line, with the metrics of the limits and of the objective."""
    asked = dict.fromkeys(_asked(picked))
    more = {METRICS[metric].label: quantity(row, metric) for metric in asked if metric not in GLANCE}
    return {**glance(row), **more}


def _origin(row: WideRow, picked: Pick) -> str:
    """The origin of each of the choice's figures, and its conditions."""
    names = dict.fromkeys(("top1", "probe_top1", "latency", "memory_total", "params", *_asked(picked)))
    origins = [
        f"{METRICS[name].label} {_origin_of(row.figures[name])}" for name in names if name in row.figures
    ]
    conditions = ", ".join(f"{name} {value}" for name, value in row.conditions.items())
    return f"Origin: {', '.join(origins)}." + (f"\nMeasured with: {conditions}." if conditions else "")


def _origin_of(figure: Measurement) -> str:
    """The origin of a figure, in words."""
    weights = f" for the weights {figure.weights}" if figure.weights else ""
    if figure.origin == "benched":
        return "measured in this form"
    if figure.origin == "estimated":
        return "; ".join(("estimated", *figure.grade_reasons[:1])).replace(
            "estimated; estimated", "estimated"
        )
    images = f" on {figure.dataset}" if figure.origin == "evaluated" else ""
    return f"{figure.origin}{images}{weights}"
