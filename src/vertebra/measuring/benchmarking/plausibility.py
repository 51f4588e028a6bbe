"""Checks before a figure is stored: a value that can't be true on this machine is not a measurement.

A check names the value and the most or least that is possible. `refuse` is for figures that contradict the
machine or each other, which makes the case a failure; `batch_times` is for defects of a series.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vertebra import units
from vertebra.errors import MeasurementError
from vertebra.machine.system import System
from vertebra.measurements import CONDITIONS, Measurement
from vertebra.measurements.statistics import Interval

#: Convolutions by Winograd's method take up to four times fewer multiplications than are counted.
_FEWER = 4.0
#: No processor has a higher clock.
_MOST_HZ = 6e9
#: Instruction set -> float32 operations of a core in a cycle, generously: two units, multiply and add.
_PER_CYCLE = {"avx512f": 64, "sve": 64, "avx2": 32, "avx": 32, "neon": 32}
_PER_CYCLE_ELSE = 32
#: How much faster arithmetic units may be than in float32.
_NARROWER = {"float64": 0.5, "float32": 1.0, "tf32": 16.0, "float16": 32.0, "bfloat16": 32.0, "int8": 64.0}
#: The metrics that are the latency in another form: if it is doubtful, so are they.
_OF_LATENCY = ("latency", "latency_p90", "latency_p99", "throughput")
#: How far throughput times latency may be from the number of images in progress: with one stream both come
#: from the same samples; with several, medians and means differ.
_SAME, _ABOUT = 0.01, 0.5


@dataclass(frozen=True)
class Ceiling:
    """What the machine can't exceed; None if unknown."""

    memory_bytes: int | None = None
    operations_rate: float | None = None


def ceiling(
    machine: System, *, device: str = "cpu", precision: str = "float32", measured_rate: float | None = None
) -> Ceiling:
    """The most that `machine` can hold in memory, and compute in a second.

    `measured_rate` is the best of its peak_operations_rate in float32, if `doctor` has measured one. Without
    it, a processor's rate is that of all its units at a clock that no processor has; a card's is unknown.
    """
    faster = _NARROWER.get(precision, max(_NARROWER.values())) * _FEWER
    if device != "cpu":
        cards = [gpu.memory_bytes for gpu in machine.gpus if gpu.memory_bytes is not None]
        rate = None if measured_rate is None else measured_rate * faster
        return Ceiling(max(cards, default=None), rate)
    if measured_rate is not None:
        # Twice: the best rate measured needn't be the best possible.
        return Ceiling(machine.memory_bytes, 2 * measured_rate * faster)
    cores = machine.logical_cores or machine.usable_cores
    widths = [_PER_CYCLE[name] for name in machine.features if name in _PER_CYCLE]
    return Ceiling(machine.memory_bytes, cores * _MOST_HZ * max(widths, default=_PER_CYCLE_ELSE) * faster)


def refuse(
    figures: Mapping[str, float],
    limits: Ceiling,
    *,
    batch_size: int,
    streams: int = 1,
    operations: float | None = None,
) -> None:
    """Raises MeasurementError, with the numbers, if `figures` (metric -> value) can't be true.

    `operations` are those of one image, None if they are unknown or, as in the null engine, not done.
    """
    # What isn't a number can't be compared with anything.
    problems = _of_signs(figures) or [
        *_of_memory(figures, limits),
        *_of_latency(figures, limits, batch_size, operations),
        *_of_rate(figures, batch_size, streams),
        *_of_percentiles(figures),
    ]
    if problems:
        raise MeasurementError(f"implausible: {'; '.join(problems)}")


def batch_times(times: Mapping[int, Interval], *, within: float = 0.02) -> list[str]:
    """Contradictions between the times of batches of different sizes: a larger batch never takes less time.

    Intervals that overlap, or nearly, are not a contradiction.
    """
    ordered = sorted(times.items())
    found = []
    for (small, early), (large, late) in pairwise(ordered):
        least = early.median if early.low is None else early.low
        most = late.median if late.high is None else late.high
        if most < (1 - within) * least:
            found.append(
                f"implausible: a batch of {large} took {units.show(late.median, 's')}, "
                f"less than a batch of {small}, which took {units.show(early.median, 's')}"
            )
    return found


def against_other_batches(rows: Sequence[Measurement], others: Iterable[Measurement]) -> list[Measurement]:
    """`rows` of one case, graded C with the reason if their latency contradicts that of another batch size
    among `others`, measured under otherwise equal conditions."""
    latency = next((row for row in rows if row.metric == "latency"), None)
    if latency is None:
        return list(rows)
    reasons = [
        text for other in others if _is_other_batch(other, latency) for text in _of_pair(latency, other)
    ]
    if not reasons:
        return list(rows)
    return [
        replace(row, grade="C", grade_reasons=(*reasons, *row.grade_reasons))
        if row.grade is not None and row.metric in _OF_LATENCY
        else row
        for row in rows
    ]


def _is_other_batch(other: Measurement, latency: Measurement) -> bool:
    subject = ("model", "network_sha256", "weights", "metric", "origin")
    alike = (name for name in (*CONDITIONS, *subject) if name != "batch_size")
    return (
        other.batch_size is not None
        and other.batch_size != latency.batch_size
        and all(getattr(other, name) == getattr(latency, name) for name in alike)
    )


def _of_pair(latency: Measurement, other: Measurement) -> list[str]:
    pair = (latency, other)
    return batch_times({row.batch_size or 0: Interval(row.value, row.low, row.high) for row in pair})


def _of_signs(figures: Mapping[str, float]) -> list[str]:
    return [
        f"{metric} is {value:g}"
        for metric, value in figures.items()
        if not (math.isfinite(value) and value >= 0)
    ]


def _of_memory(figures: Mapping[str, float], limits: Ceiling) -> list[str]:
    total = figures.get("memory_total")
    if total is None or limits.memory_bytes is None or total <= limits.memory_bytes:
        return []
    return [
        f"memory of {units.show(total, 'B')} on a machine that has {units.show(limits.memory_bytes, 'B')}"
    ]


def _of_latency(
    figures: Mapping[str, float], limits: Ceiling, batch_size: int, operations: float | None
) -> list[str]:
    latency = figures.get("latency")
    if latency is None or operations is None or limits.operations_rate is None:
        return []
    least = batch_size * operations / limits.operations_rate
    if latency >= least:
        return []
    return [
        f"latency of {units.show(latency, 's')} for {units.show(batch_size * operations, 'count')} "
        f"operations, which take this machine at least {units.show(least, 's')}"
    ]


def _of_rate(figures: Mapping[str, float], batch_size: int, streams: int) -> list[str]:
    latency, throughput = figures.get("latency"), figures.get("throughput")
    if not latency or not throughput:
        return []
    under_way, most = throughput * latency, batch_size * streams
    within = _SAME if streams == 1 else _ABOUT
    if abs(under_way - most) <= within * most:
        return []
    return [
        f"throughput of {units.show(throughput, '1/s')} times latency of {units.show(latency, 's')} is "
        f"{under_way:.3g} images in progress, not {most}"
    ]


def _of_percentiles(figures: Mapping[str, float]) -> list[str]:
    names = [name for name in ("latency", "latency_p90", "latency_p99") if name in figures]
    return [
        f"{high} of {units.show(figures[high], 's')} below {low} of {units.show(figures[low], 's')}"
        for low, high in pairwise(names)
        if figures[high] < figures[low]
    ]
