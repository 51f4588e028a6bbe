"""What measuring a case gave: rows that can be read alone, raw samples, or the reason why there are none."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from vertebra import __version__
from vertebra.benchmarking import statistics
from vertebra.benchmarking.grading import grade
from vertebra.benchmarking.plan import Case
from vertebra.benchmarking.timing import WarmUp
from vertebra.engines import EngineInfo
from vertebra.measurements import Measurement
from vertebra.system import library_versions

#: Conditions that the runtime tells about itself.
_TOLD = ("precision", "threads", "streams", "provider", "device", "layout")


@dataclass(frozen=True)
class Result:
    """What measuring a case gave. `samples` holds raw seconds, in order, by metric. `failure` says in words
    why there is no figure, and then `rows` is the one row that records it."""

    case: Case
    rows: list[Measurement]
    samples: dict[str, list[float]]
    failure: str | None = None


def measured(case: Case, info: EngineInfo, figures: dict[str, Any], *, system: str) -> Result:
    """The rows that the figures of the worker's event `done` give."""
    latencies = [latency / 1e9 for latency in figures["latencies_ns"]]
    row = partial(_row, case, info, system, figures["effective"])
    rows = [*_of_time(row, case, figures, latencies), *_of_one_look(row, figures), *_of_memory(row, figures)]
    return Result(case, rows, {"latency": latencies})


def failed(case: Case, info: EngineInfo, reason: str, *, system: str) -> Result:
    """The row that says that the case gave no figure, and why."""
    row = _row(case, info, system, {}, "failure", 1.0, grade_reasons=(reason,))
    return Result(case, [row], {}, reason)


def _row(
    case: Case,
    info: EngineInfo,
    system: str,
    effective: dict[str, Any],
    metric: str,
    value: float,
    **more: Any,
) -> Measurement:
    """A row with the conditions that the runtime told, or else those that were asked for."""
    told = {name: found for name, found in effective.items() if name in _TOLD and found is not None}
    conditions = {
        "input_size": case.input_size,
        "batch_size": case.batch_size,
        "precision": case.precision,
        "threads": case.threads,
        "device": case.device,
        **told,
    }
    return Measurement(
        model=case.model,
        weights=case.weights,
        metric=metric,
        value=value,
        origin="benched",
        engine=case.engine,
        scenario="single-stream",
        system=system,
        versions=_versions(info),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        **conditions,
        **more,
    )


def _versions(info: EngineInfo) -> dict[str, str]:
    """Of everything between the figure and the hardware that can be upgraded."""
    installed = library_versions(("numpy", *info.distributions))
    return {"vertebra": __version__, "python": platform.python_version(), **installed}


def _of_time(
    row: Callable[..., Measurement], case: Case, figures: dict[str, Any], latencies: list[float]
) -> list[Measurement]:
    """Latency, its percentiles where the samples allow, and throughput: all with the latency's grade."""
    interval = statistics.median_interval(latencies)
    graded = grade(
        latencies,
        WarmUp(**figures["warm_up"]),
        figures["stopped"],
        compared=figures["output_error"] is not None,
    )
    more = {"samples": len(latencies), "grade": graded.letter, "grade_reasons": graded.reasons}
    rows = [row("latency", interval.median, low=interval.low, high=interval.high, **more)]
    for percent in (90, 99):
        value = statistics.percentile(latencies, percent)
        if value is not None:
            rows.append(row(f"latency_p{percent}", value, **more))
    if interval.median > 0:
        low, high = _rate(case.batch_size, interval.high), _rate(case.batch_size, interval.low)
        rows.append(row("throughput", case.batch_size / interval.median, low=low, high=high, **more))
    return rows


def _rate(batch_size: int, latency_s: float | None) -> float | None:
    return batch_size / latency_s if latency_s else None


def _of_one_look(row: Callable[..., Measurement], figures: dict[str, Any]) -> list[Measurement]:
    """What a process does once, or holds."""
    once = {"samples": 1, "grade": "C", "grade_reasons": ("1 sample: a process does it once",)}
    rows = [
        row("load_time", figures["load_ns"] / 1e9, **once),
        row("first_inference", figures["first_ns"] / 1e9, **once),
    ]
    for metric in ("output_error", "file_bytes"):
        if figures[metric] is not None:
            rows.append(row(metric, float(figures[metric])))
    return rows


def _of_memory(row: Callable[..., Measurement], figures: dict[str, Any]) -> list[Measurement]:
    held = figures["memory"]
    reasons = () if held["was_reset"] else ("the peak of loading is in it: this system can't reset it",)
    return [
        row("memory_total", float(held["peak"]), grade_reasons=reasons),
        row("memory_net", float(max(0, held["peak"] - held["baseline"])), grade_reasons=reasons),
    ]
