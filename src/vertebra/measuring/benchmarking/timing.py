"""The timed loop: warm up until latencies are steady, then take blocks of samples until there are enough.

The clock and the thing that is timed are arguments, so a fake pair gives figures that can be computed by
hand. A clock is a function that returns nanoseconds, as `time.perf_counter_ns` does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vertebra.measurements import spread, statistics
from vertebra.measurements.blocks import Block, latencies
from vertebra.measuring.benchmarking import steadiness
from vertebra.measuring.benchmarking.plan import Limits

Clock = Callable[[], int]
Infer = Callable[[], object]
Stopped = Literal["sure", "enough for a survey", "budget spent", "sample limit reached", "too slow to win"]

#: Warm-up is judged by windows of at least this many runs and seconds, or of this many runs.
_WINDOW_RUNS, _WINDOW_S, _WINDOW_MOST_RUNS = 5, 0.1, 1000
#: A drift too slow to show between two neighbouring windows shows over this many.
_WINDOWS_FOR_TREND = 4


@dataclass(frozen=True)
class WarmUp:
    """The warm-up before the samples. `settled`: latencies became steady before the time was up."""

    runs: int
    seconds: float
    settled: bool


def warm_up(infer: Infer, limits: Limits, clock: Clock, *, most_s: float | None = None) -> WarmUp:
    """Call `infer` until two successive windows agree within 1 % and nothing drifts, or the time is up.

    At least `warm_up_runs` and `warm_up_least_s` are spent, unless the upper bound is reached first:
    `warm_up_most_s`, or `most_s` if that is less.
    """
    bound_ns = nanoseconds(min(limits.warm_up_most_s, limits.warm_up_most_s if most_s is None else most_s))
    least_ns = min(nanoseconds(limits.warm_up_least_s), bound_ns)
    start = clock()
    windows: deque[list[int]] = deque(maxlen=_WINDOWS_FOR_TREND)
    runs, spent, settled = 0, 0, False
    while spent < bound_ns and not settled:
        windows.append(_window(infer, clock, start + bound_ns))
        runs += len(windows[-1])
        spent = clock() - start
        enough = runs >= limits.warm_up_runs and spent >= least_ns
        settled = enough and _steady(windows)
    return WarmUp(runs, spent / 1e9, settled)


def _window(infer: Infer, clock: Clock, end_ns: int) -> list[int]:
    """Latencies of a window's runs, cut short when the warm-up's time is up."""
    start = clock()
    taken: list[int] = []
    long_enough = False
    while not long_enough and len(taken) < _WINDOW_MOST_RUNS:
        before = clock()
        infer()
        after = clock()
        taken.append(after - before)
        full = len(taken) >= _WINDOW_RUNS and after - start >= nanoseconds(_WINDOW_S)
        long_enough = full or after >= end_ns
    return taken


def _steady(windows: Sequence[list[int]]) -> bool:
    if len(windows) < 2:
        return False
    recent = [latency for window in windows for latency in window]
    return steadiness.agree(windows[-2], windows[-1]) and steadiness.drift(recent) == 0.0


def take_block(
    infer: Infer,
    clock: Clock,
    *,
    run_in_s: float,
    seconds: float,
    least: int,
    most: int,
    afterwards: Callable[[], object] = bool,
) -> tuple[int, list[int]]:
    """Nanoseconds of single calls of `infer`, over `seconds`: never fewer than `least`, nor more than `most`.

    Untimed calls run first, at least one and for `run_in_s`: other processes ran before, and filled the
    caches with their data. Returns the number of untimed calls, then the timed ones. `afterwards` is called
    after each timed call, and isn't timed.
    """
    run_in = _run_in(infer, clock, run_in_s)
    buffer = [0] * most
    end_ns = clock() + nanoseconds(seconds)
    for taken in range(most):
        before = clock()
        infer()
        after = clock()
        buffer[taken] = after - before
        afterwards()
        if after >= end_ns and taken + 1 >= least:
            return run_in, buffer[: taken + 1]
    return run_in, buffer


def _run_in(infer: Infer, clock: Clock, seconds: float) -> int:
    ready_ns = clock() + nanoseconds(seconds)
    runs = 0
    while runs == 0 or clock() < ready_ns:
        infer()
        runs += 1
    return runs


def is_enough(blocks: Sequence[Block], limits: Limits) -> bool:
    """Whether a process has enough samples: `samples` of them over `least_s` in all, with a 95 % interval
    within `half_width` of the median; or, where the limits say so, an independent survey's `within` it."""
    taken = latencies(blocks)
    if limits.within is not None:
        return len(taken) >= limits.least_samples and spread.half_width(blocks) <= limits.within
    if len(taken) < limits.samples or sum(taken) < limits.least_s:
        return False
    return statistics.interval(blocks).half_width <= limits.half_width


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
