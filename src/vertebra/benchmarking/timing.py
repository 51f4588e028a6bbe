"""The timed loop: warm up until it is steady, then sample until it is sure.

The clock and the thing that is timed are arguments, so a fake pair gives figures that can be worked out by
hand. A clock is a function that returns nanoseconds, as `time.perf_counter_ns` does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vertebra.benchmarking import statistics
from vertebra.benchmarking.plan import Limits

Clock = Callable[[], int]
Infer = Callable[[], object]
Stopped = Literal["sure", "budget spent", "samples full"]

#: Warm-up is judged by windows of at least this many runs and seconds, or of very many runs.
_WINDOW_RUNS, _WINDOW_S, _WINDOW_MOST_RUNS = 5, 0.1, 1000
#: A slide too slow to show between two neighbouring windows shows over this many.
_WINDOWS_FOR_TREND = 4
#: Samples between two looks at the interval grow with their number, so that looking costs little and does
#: not give chance many opportunities to end the sampling.
_GROWTH = 1.25


@dataclass(frozen=True)
class WarmUp:
    """What came before the samples. `settled` tells a steady state from a bound that ran out."""

    runs: int
    seconds: float
    settled: bool


@dataclass(frozen=True)
class Samples:
    """Latency samples in nanoseconds, in the order they were taken, and why no more were."""

    latencies_ns: list[int]
    stopped: Stopped


def warm_up(infer: Infer, limits: Limits, clock: Clock) -> WarmUp:
    """Call `infer` until two successive windows agree within 1 % and nothing slides, or a bound ends it.

    At least `warm_up_runs` and `warm_up_least_s` are spent, unless the bound comes first: `warm_up_most_s`,
    or a third of `seconds`.
    """
    bound_ns = _nanoseconds(min(limits.warm_up_most_s, limits.seconds / 3))
    least_ns = min(_nanoseconds(limits.warm_up_least_s), bound_ns)
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
    """Latencies of a window's runs, cut short where the warm-up's bound passes."""
    start = clock()
    latencies: list[int] = []
    long_enough = False
    while not long_enough and len(latencies) < _WINDOW_MOST_RUNS:
        before = clock()
        infer()
        after = clock()
        latencies.append(after - before)
        full = len(latencies) >= _WINDOW_RUNS and after - start >= _nanoseconds(_WINDOW_S)
        long_enough = full or after >= end_ns
    return latencies


def _steady(windows: Sequence[list[int]]) -> bool:
    if len(windows) < 2:
        return False
    recent = [latency for window in windows for latency in window]
    return statistics.agree(windows[-2], windows[-1]) and statistics.drift(recent) == 0.0


def take_samples(infer: Infer, limits: Limits, clock: Clock, *, seconds: float) -> Samples:
    """Time single calls of `infer` until the median is known closely enough, or `seconds` are spent.

    Enough is `samples` samples over `least_s`, with a 95 % interval within `half_width` of the median.
    When the seconds are spent, sampling ends at once, but never before `least_samples`.
    """
    buffer = [0] * limits.most_samples
    start = clock()
    end_ns, least_ns = start + _nanoseconds(seconds), start + _nanoseconds(limits.least_s)
    taken = 0
    stopped: Stopped | None = None
    while stopped is None:
        look = min(max(limits.samples, int(taken * _GROWTH) + 1), limits.most_samples)
        taken = _fill(buffer, taken, look, infer, clock, end_ns, limits.least_samples)
        now = clock()
        if now >= least_ns and taken >= limits.samples and _sure(buffer[:taken], limits):
            stopped = "sure"
        elif now >= end_ns and taken >= limits.least_samples:
            stopped = "budget spent"
        elif taken == limits.most_samples:
            stopped = "samples full"
    return Samples(buffer[:taken], stopped)


def _fill(
    buffer: list[int], taken: int, until: int, infer: Infer, clock: Clock, end_ns: int, least: int
) -> int:
    """Put latencies into `buffer` from `taken` to `until`, or till time is up and `least` are there."""
    for index in range(taken, until):
        before = clock()
        infer()
        after = clock()
        buffer[index] = after - before
        if after >= end_ns and index + 1 >= least:
            return index + 1
    return until


def _sure(latencies_ns: list[int], limits: Limits) -> bool:
    return statistics.median_interval(latencies_ns).half_width <= limits.half_width


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
