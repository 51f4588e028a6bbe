"""`vertebra doctor`: this machine, what disturbs it and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra import units
from vertebra.cli.output import columns, emit, format_options, record, table_option
from vertebra.cli.progress import showing
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from vertebra.campaigns.diagnosis import Diagnosis
    from vertebra.measurements import Measurement
    from vertebra.measurements.blocks import Surroundings
    from vertebra.measurements.calibration import Calibration


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Take a few seconds for each part; less precise.")
@click.option("--calibration", is_flag=True, help="Only show how well the intervals in the table hold.")
@table_option
@format_options
def command(quick: bool, calibration: bool, table: str | None, style: str) -> None:
    """Check this machine: its hardware, what disturbs it now, what is missing and how to install it.

    Measures the peak arithmetic rate, the memory bandwidth, and the smallest difference between two latencies
    that can be detected today, by comparing a case with itself. The figures are added to the table as those
    of the model `machine`. With --calibration nothing is measured.
    """
    if calibration:
        found = vertebra.doctor(calibration=True, table=table)
        records = _coverages(found) if style == "csv" else [asdict(found)]
        emit(records, style, lambda: _calibrated(found))
        return

    with showing() as progress:
        diagnosis = vertebra.doctor(quick=quick, table=table, progress=progress)
    if style == "csv":
        emit([record(row, style) for row in diagnosis.rows], style)
    else:
        emit([diagnosis.to_dict()], style, lambda: _text(diagnosis))


def _text(diagnosis: Diagnosis) -> str:
    state = diagnosis.state
    blocks = {
        "This machine": _pairs(_described(state.machine, state.default_threads)),
        "Now": _pairs(_now(state.around, state.governor, state.counters)),
        "Engines": columns([_engine(engine) for engine in state.engines]),
        "Measured": columns([_figure(row) for row in diagnosis.rows]),
        "What to know": "\n".join([*_difference(diagnosis), *diagnosis.notes, *state.advice]),
    }
    return "\n\n".join(f"{heading}\n{text}" for heading, text in blocks.items() if text)


def _pairs(pairs: Iterable[tuple[str, str | None]]) -> str:
    known = [(name, value) for name, value in pairs if value]
    width = max(len(name) for name, _ in known)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in known)


def _described(machine: Mapping[str, Any], threads: int) -> list[tuple[str, str | None]]:
    memory, quota = machine["memory_bytes"], machine["core_quota"]
    cores = f"{machine['physical_cores']} physical, {machine['logical_cores']} logical"
    return [
        ("name", machine["id"]),
        ("processor", machine["cpu"] or machine["architecture"]),
        ("cores", f"{cores}, {machine['usable_cores']} usable; {threads} threads by default"),
        ("quota", None if quota is None else f"{quota:g} cores"),
        ("instructions", ", ".join(machine["features"])),
        ("memory", None if memory is None else units.show(memory, "B")),
        ("graphics", ", ".join(gpu["name"] for gpu in machine["gpus"])),
        ("system", f"{machine['os']}, {machine['kernel']}, {machine['python']}"),
        ("virtual", machine["virtual"]),
    ]


def _now(around: Surroundings, governor: str | None, counters: Iterable[str]) -> list[tuple[str, str | None]]:
    def share(value: float | None) -> str:
        return "not known here" if value is None else units.show(value, "fraction")

    clock = None if around.clock_hz is None else f"{around.clock_hz / 1e9:.2f} GHz"
    return [
        ("others' use", share(around.others_cpu)),
        ("waiting", share(around.pressure)),
        ("stolen", share(around.steal)),
        ("load", "not known here" if around.load is None else f"{around.load:.2f} tasks a core"),
        ("clock", ", ".join(filter(None, [clock, governor])) or "not known here"),
        (
            "throttled",
            "not known here" if around.throttled_s is None else f"{around.throttled_s:.2f} s",
        ),
        ("energy", ", ".join(counters) or "no counter"),
    ]


def _engine(engine: Any) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "version": engine.version,
        "devices": ", ".join(engine.devices),
        "precisions": ", ".join(engine.precisions),
        "missing": engine.missing,
    }


def _figure(row: Measurement) -> dict[str, Any]:
    metric = METRICS[row.metric]
    return {
        "figure": metric.label,
        "value": units.show(row.value, metric.unit),
        "by": row.engine,
        "device": row.device,
        "threads": row.threads,
        "note": "; ".join(row.grade_reasons),
    }


def _calibrated(found: Calibration) -> str:
    forms = "1 form was" if found.forms == 1 else f"{found.forms} forms were"
    parts = {"samples": found.split.samples, "processes": found.split.processes, "times": found.split.times}
    told = [f"{name} {'not known' if one is None else units.show(one, 'fraction')}"
            for name, one in parts.items()]  # fmt: skip
    return "\n\n".join([
        f"{forms} measured more than once under the same versions. Of two runs, how often does the\n"
        "interval of one hold the value of the other? `pick` uses the interval of another survey.",
        columns(_coverages(found)),
        f"Quiet runs differ (standard deviations) by: {', '.join(told)}.",
    ])  # fmt: skip


def _coverages(found: Calibration) -> list[dict[str, Any]]:
    several = {
        f"quiet, {count} process{'es' * (count > 1)} each": one for count, one in found.quiet.items()
    }  # fmt: skip
    if found.disturbed.pairs:
        several["disturbed, and a quiet one"] = found.disturbed
    return [
        {
            "runs": runs, "pairs": one.pairs,
            "another survey's holds": units.show(one.survey / one.pairs, "fraction"),
            "half-width": _width(one.half_width),
            "own holds": units.show(one.own / one.pairs, "fraction"),
            "own half-width": _width(one.own_half_width),
        }
        for runs, one in several.items()
    ]  # fmt: skip


def _width(width: float | None) -> str | None:
    return None if width is None else f"±{units.show(width, 'fraction')}"


def _difference(diagnosis: Diagnosis) -> list[str]:
    floor = diagnosis.value("aa_floor")
    if floor is None:
        return []
    least = units.show(floor, "fraction")
    return [f"Differences of less than {least} between two latencies can't be detected on this machine now."]
