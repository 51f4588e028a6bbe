"""The result of measuring a case: self-contained rows and raw samples, or why there are none."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from vertebra._version import __version__
from vertebra.engines import EngineInfo
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.machine import system, tenancy
from vertebra.machine.system import library_versions
from vertebra.measurements import Measurement, now, statistics
from vertebra.measurements import blocks as packing
from vertebra.measurements.blocks import Block
from vertebra.measurements.possible import plain, plain_names
from vertebra.measuring.benchmarking import energy, plausibility
from vertebra.measuring.benchmarking.energy import Energy
from vertebra.measuring.benchmarking.grading import Grade, grade, grade_looks
from vertebra.measuring.benchmarking.memory import Parts
from vertebra.measuring.benchmarking.plan import Case
from vertebra.measuring.benchmarking.scenarios import Bound
from vertebra.measuring.benchmarking.timing import Stopped, WarmUp

#: Conditions that the runtime reports about itself.
_REPORTED = ("precision", "threads", "streams", "provider", "device", "layout")
#: Shares of a core above which a process that should be asleep may have disturbed the measurement, and above
#: which it must have; and the fewest seconds of observation.
_RESTLESS, _BUSY, _WATCHED_S = 0.05, 0.25, 0.5
#: Processor time for reading a command: not used by the runtime, and not small compared with a canary.
_WAKING_S = 0.001

_Row = Callable[..., Measurement]


@dataclass(frozen=True)
class Result:
    """The result of measuring a case. `samples` holds raw seconds, in order, by metric, and their blocks as
    `blocks.unpack` reads them. `failure` is the reason if there is no figure; then `rows` is the one row that
    records it."""

    case: Case
    rows: list[Measurement]
    samples: dict[str, list[float]]
    failure: str | None = None


@dataclass
class Figures:
    """The answers of a case's processes so far: to `load`, `block` and `check`, as the worker sent them.

    `further` holds by metric and process what the scenario gives in addition to latencies. `idle` holds, by
    process, processor seconds and seconds while it had nothing to do; `harness_cpu` the measuring process's
    own share of a core, by round.
    """

    blocks: list[Block] = field(default_factory=list)
    loads: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    idle: list[list[float]] = field(default_factory=list)
    further: dict[str, list[list[float]]] = field(default_factory=dict)
    harness_cpu: list[float] = field(default_factory=list)
    energies: list[Energy] = field(default_factory=list)
    idle_power: Energy | None = None
    runs: int = 0
    notes: tuple[str, ...] = ()
    seed: int = 0
    stopped: Stopped = "budget spent"

    def add_load(self, answer: dict[str, Any]) -> None:
        self.loads.append(answer)
        self.idle.append([0.0, 0.0])

    def add_block(self, block: Block, answer: dict[str, Any], taken: Energy | None) -> None:
        self.blocks.append(block)
        self.runs += answer["runs"]
        for metric, values in _further(answer).items():
            processes = self.further.setdefault(metric, [])
            while len(processes) < len(self.loads):
                processes.append([])
            processes[-1] += values
        if taken is not None:
            self.energies.append(taken)
        self._add_idle(answer)

    def add_check(self, answer: dict[str, Any]) -> None:
        self.checks.append(answer)
        self._add_idle(answer)

    def _add_idle(self, answer: dict[str, Any]) -> None:
        wall_ns, cpu_ns = answer["idle_ns"]
        self.idle[-1][0] += max(0.0, cpu_ns / 1e9 - _WAKING_S)
        self.idle[-1][1] += wall_ns / 1e9

    @property
    def resident_bytes(self) -> int:
        """The memory of the first process when it was ready."""
        held: int = self.loads[0]["resident_bytes"] if self.loads else 0
        return held


def _further(answer: dict[str, Any]) -> dict[str, list[float]]:
    """Metric -> values of a block, in addition to latencies."""
    values_of = {
        "device_latency": answer.get("device_s", []),
        "end_to_end_latency": [taken / 1e9 for taken in answer.get("end_to_end_ns", ())],
        "preprocess_latency": [taken / 1e9 for taken in answer.get("preprocess_ns", ())],
    }
    for metric in ("throughput", "sustained_rate"):
        values_of[metric] = [answer[metric]] if metric in answer else []
    if "missed" in answer:
        values_of["missed_deadlines"] = [answer["missed"] / len(answer["latencies_ns"])]
    return {metric: values for metric, values in values_of.items() if values}


def measured(case: Case, info: EngineInfo, figures: Figures, *, system: str, quick: bool) -> Result:
    """The rows of the figures; the row of a failure if they can't be true."""
    row = partial(_row, case, info, system, figures.checks[-1]["effective"])
    try:
        rows = [
            *_of_time(row, case, figures, quick),
            *_of_cold(row, figures),
            *_of_output(row, figures),
            *_of_memory(row, case, figures),
            *_of_energy(row, case, figures, quick),
        ]
        _check_plausible(case, rows)
    except (MeasurementError, InvalidInputError) as error:  # a clock that stood still gives 0 s
        return failed(case, info, error.message, hint=error.hint, system=system)
    return Result(case, rows, _samples(figures))


def failed(case: Case, info: EngineInfo, reason: str, *, system: str, hint: str | None = None) -> Result:
    """The row that records that the case gave no figure, why, and with a `hint` what to do about it. Its
    versions include the libraries that convert for the engine: with other versions the case may work."""
    reasons = tuple(map(plain, (reason,) if hint is None else (reason.removesuffix("."), hint)))
    row = _row(case, info, system, {}, "failure", 1.0, grade_reasons=reasons)
    versions = {**row.versions, **library_versions(info.converters)}
    return Result(case, [replace(row, versions=versions)], {}, reason)


def _check_plausible(case: Case, rows: Sequence[Measurement]) -> None:
    values = {row.metric: row.value for row in rows}
    if case.scenario != "single-stream" and case.streams == 1:
        values.pop("throughput", None)  # a mean over each block, which the median latency needn't fit
    plausibility.refuse(
        values,
        plausibility.ceiling(system.describe(), device=case.device, precision=case.precision),
        batch_size=case.batch_size,
        streams=case.streams,
        operations=None if case.engine == "null" else case.operations,
    )


def _samples(figures: Figures) -> dict[str, list[float]]:
    """The blocks, and the processor time that the harness itself used."""
    quiet = {
        "idle.cpu": [_share(cpu, wall) for cpu, wall in figures.idle],
        "harness.cpu": figures.harness_cpu,
        "seed": [float(figures.seed)],
    }
    further = {metric: [one for process in processes for one in process]
               for metric, processes in figures.further.items()}  # fmt: skip
    return {**packing.pack(figures.blocks), **further, **quiet}


def _row(
    case: Case,
    info: EngineInfo,
    system: str,
    effective: dict[str, Any],
    metric: str,
    value: float,
    **more: Any,
) -> Measurement:
    """A row with the conditions that the runtime reported, or else those that were asked for."""
    reported = {name: found for name, found in effective.items() if name in _REPORTED and found is not None}
    names = {"model": case.model, "weights": case.weights, **conditions(case), **reported, **_load(case)}
    return Measurement(
        network_sha256=case.network_sha256,
        metric=metric,
        value=value,
        origin="benched",
        system=system,
        exclusive=tenancy.here().exclusive,
        versions=_versions(info) | ({} if case.graph is None else {"graph": case.graph}),
        measured_at=now(),
        **plain_names(names),
        **more,
    )


def conditions(case: Case) -> dict[str, Any]:
    """The conditions under which a case asks to be measured, as its rows hold them; a layout or provider of
    None lets the engine choose."""
    return {
        "engine": case.engine,
        "scenario": case.scenario,
        "input_size": case.input_size,
        "batch_size": case.batch_size,
        "precision": case.precision,
        "threads": case.threads,
        "device": case.device,
        "layout": case.layout,
        "provider": case.provider,
        "beside": case.beside,
        **_load(case),
    }


def _load(case: Case) -> dict[str, Any]:
    """The conditions of a load of several streams: `threads` counts those of all streams together."""
    if case.scenario == "single-stream":
        return {}
    conditions: dict[str, Any] = {"streams": case.streams, "threads": case.threads}
    if case.latency_bound_s is not None:
        conditions["protocol"] = Bound(case.latency_bound_s).protocol
        conditions["arrival_rate"] = case.arrival_rate
    return conditions


def _versions(info: EngineInfo) -> dict[str, str]:
    """The versions of all software between the figure and the hardware."""
    installed = library_versions(("numpy", *info.distributions))
    return {"vertebra": __version__, "python": platform.python_version(), **installed}


# ------------------------------------------------------------------ time


def _of_time(row: _Row, case: Case, figures: Figures, quick: bool) -> list[Measurement]:
    """Latency, its percentiles if there are enough samples, and throughput: all with the latency's grade."""
    latencies = packing.latencies(figures.blocks)
    interval = statistics.interval(figures.blocks)
    graded = _grade(figures, quick)
    more = {"samples": len(latencies), "grade": graded.letter, "grade_reasons": graded.reasons}
    rows = [_row_of_processes(row, metric, values, graded) for metric, values in figures.further.items()]
    if "sustained_rate" in figures.further:  # each process took its latencies at another rate
        return rows
    rows.insert(0, row("latency", interval.median, low=interval.low, high=interval.high, **more))
    for percent in (90, 99):
        value = statistics.percentile(latencies, percent)
        if value is not None:
            rows.append(row(f"latency_p{percent}", value, **more))
    if case.scenario == "single-stream" and interval.median > 0:
        low, high = _rate(case.batch_size, interval.high), _rate(case.batch_size, interval.low)
        rows.append(row("throughput", case.batch_size / interval.median, low=low, high=high, **more))
    return rows


def _row_of_processes(row: _Row, metric: str, processes: list[list[float]], graded: Grade) -> Measurement:
    """The median over processes of their medians, with the latency's grade."""
    found = statistics.process_interval(processes)
    return row(metric, found.median, low=found.low, high=found.high, samples=sum(map(len, processes)),
               grade=graded.letter, grade_reasons=graded.reasons)  # fmt: skip


def _rate(batch_size: int, latency_s: float | None) -> float | None:
    return batch_size / latency_s if latency_s else None


def _grade(figures: Figures, quick: bool) -> Grade:
    """The grade of the samples; a harness that disturbed them is an additional defect."""
    graded = grade(
        figures.blocks,
        [WarmUp(**load["warm_up"]) for load in figures.loads],
        figures.stopped,
        compared=all(check["output_error"] is not None for check in figures.checks),
        quick=quick,
    )
    letter: str = graded.letter
    reasons: list[str] = []
    for share, text in _of_harness(figures):
        letter = max(letter, "C" if share > _BUSY else "B")  # the later letter is the worse grade
        reasons.append(f"{text} used {100 * share:.0f} % of a core")
    return replace(graded, letter=letter, reasons=(*reasons, *graded.reasons, *figures.notes))


def _of_harness(figures: Figures) -> list[tuple[float, str]]:
    """Shares of a core used by processes that should have been asleep."""
    watched = [_share(cpu, wall) for cpu, wall in figures.idle if wall >= _WATCHED_S]
    found = [
        (max(watched, default=0.0), "its own process, while idle,"),
        (max(figures.harness_cpu, default=0.0), "the measuring process"),
    ]
    return [(share, text) for share, text in found if share > _RESTLESS]


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


# ------------------------------------------------------------------ once per process


def _of_cold(row: _Row, figures: Figures) -> list[Measurement]:
    """Loading, compiling and the first inference: the median over processes, each of which does it once."""
    times = {
        "load_time": [load["load_ns"] / 1e9 for load in figures.loads],
        "compile_time": [load["compile_s"] for load in figures.loads if load["compile_s"] is not None],
        "first_inference": [load["first_ns"] / 1e9 for load in figures.loads],
    }
    return [_cold_row(row, metric, seconds) for metric, seconds in times.items() if seconds]


def _cold_row(row: _Row, metric: str, seconds: Sequence[float]) -> Measurement:
    return row(metric, statistics.median(seconds), samples=len(seconds), **_graded(grade_looks(seconds)))


def _graded(graded: Grade) -> dict[str, Any]:
    return {"grade": graded.letter, "grade_reasons": graded.reasons}


def _of_output(row: _Row, figures: Figures) -> list[Measurement]:
    errors = [check["output_error"] for check in figures.checks if check["output_error"] is not None]
    exact = _graded(Grade("A", ()))  # the same in each process
    rows = [row("output_error", float(max(errors)), **exact)] if errors else []
    file_bytes = figures.loads[-1]["file_bytes"]
    return rows if file_bytes is None else [*rows, row("file_bytes", float(file_bytes), **exact)]


def _of_memory(row: _Row, case: Case, figures: Figures) -> list[Measurement]:
    """The median over processes, part by part."""
    parts = [Parts.from_dict(check["memory"]) for check in figures.checks]
    held = [one.figures(case.device) for one in parts]
    rows = []
    for metric in held[-1]:
        values = [one[metric] for one in held if metric in one]
        graded = grade_looks(values, parts[-1].reasons())
        rows.append(row(metric, statistics.median(values), samples=len(values), **_graded(graded)))
    return rows


def _of_energy(row: _Row, case: Case, figures: Figures, quick: bool) -> list[Measurement]:
    """Over all blocks together, with the latency's grade; nothing if a counter is missing."""
    if not figures.energies:
        return []
    joules, seconds = (
        sum(one.joules for one in figures.energies),
        sum(one.seconds for one in figures.energies),
    )
    found = energy.figures(Energy(joules, seconds), figures.idle_power, images=figures.runs * case.batch_size)
    graded = _graded(_grade(figures, quick))
    return [row(metric, value, **graded) for metric, value in found.items()]
