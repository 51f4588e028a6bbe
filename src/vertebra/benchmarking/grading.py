"""How far a latency can be trusted, with the reasons in words.

A   agreement of several processes; nothing gives it yet
B   one process, warmed up, enough samples, a narrow interval, no drift, outputs compared
C   anything less
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vertebra.benchmarking import statistics
from vertebra.benchmarking.plan import GOOD_HALF_WIDTH, GOOD_SAMPLES
from vertebra.benchmarking.timing import Stopped, WarmUp


@dataclass(frozen=True)
class Grade:
    """A letter, and why: first what is wrong, then what is worth knowing."""

    letter: str
    reasons: tuple[str, ...]


def grade(latencies: Sequence[float], warm_up: WarmUp, stopped: Stopped, *, compared: bool) -> Grade:
    """The grade of samples in the order in which they were taken. The caller's limits don't soften it."""
    defects = [
        *_of_warm_up(warm_up),
        *_of_number(latencies, stopped),
        *_of_interval(latencies),
        *_of_drift(latencies),
    ]
    if not compared:
        defects.append("outputs not compared: no reference")
    return Grade("C" if defects else "B", (*defects, "one process", *_of_outliers(latencies)))


def _of_warm_up(warm_up: WarmUp) -> list[str]:
    if warm_up.settled:
        return []
    return [f"warm-up did not settle in {warm_up.runs} runs and {warm_up.seconds:.1f} s"]


def _of_number(latencies: Sequence[float], stopped: Stopped) -> list[str]:
    if len(latencies) >= GOOD_SAMPLES:
        return []
    why = f": {stopped}" if stopped != "sure" else ""
    return [f"{len(latencies)} samples of {GOOD_SAMPLES}{why}"]


def _of_interval(latencies: Sequence[float]) -> list[str]:
    interval = statistics.median_interval(latencies)
    if interval.low is None:
        return [f"no interval: it takes {statistics.FEWEST_FOR_INTERVAL} samples"]
    if interval.half_width <= GOOD_HALF_WIDTH:
        return []
    return [f"interval ±{100 * interval.half_width:.1f} %, wanted ±{100 * GOOD_HALF_WIDTH:.0f} %"]


def _of_drift(latencies: Sequence[float]) -> list[str]:
    drift = statistics.drift(latencies)
    if drift == 0.0:
        return []
    return [f"still drifting: second half {100 * abs(drift):.1f} % {'slower' if drift > 0 else 'faster'}"]


def _of_outliers(latencies: Sequence[float]) -> list[str]:
    found = statistics.outliers(latencies)
    if found.mild + found.severe == 0:
        return []
    return [f"outliers kept: {found.mild} mild, {found.severe} severe"]
