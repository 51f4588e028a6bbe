"""Load patterns in MLPerf's words, as loops over callables: offline, server, and from the encoded picture.

Single-stream, one query after the other, is the loop of `timing`. Here are the others:

offline      all pictures are available: batches, from several streams at once; images per second count
server       queries arrive at random (Poisson) at a rate and wait in one queue; the time from arrival to
             answer counts, including the wait
end to end   one photograph at a time from its JPEG's bytes to the logits

The clock (nanoseconds), the sleep and what runs side by side are arguments, so that fakes give figures that
can be computed by hand. A stream is a callable that runs one query and returns when it is answered; its
engine must let several run at once.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count, cycle, pairwise
from pathlib import Path
from typing import Any, TypeVar

from vertebra.errors import InvalidInputError
from vertebra.measurements import statistics

T = TypeVar("T")
Clock = Callable[[], int]
Sleep = Callable[[float], None]
Infer = Callable[[], object]
#: Runs calls at the same time, each as if alone, and returns their results in order.
Together = Callable[[Sequence[Callable[[], Any]]], list[Any]]

#: The batch sizes that are measured, smallest first.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

#: The confidence that a percentile needs, as in MLPerf LoadGen.
CONFIDENCE = 0.99


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run each of `calls` in a thread of its own, started together. An exception is raised at the end."""
    if len(calls) == 1:
        return [calls[0]()]
    gate = threading.Barrier(len(calls))

    def begin(call: Callable[[], T]) -> T:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls), thread_name_prefix="stream") as pool:
        return [future.result() for future in [pool.submit(begin, call) for call in calls]]


def threads_per_stream(threads: int, streams: int) -> int:
    """How many threads each of `streams` gets. Raises InvalidInputError if one would get none."""
    if not 1 <= streams <= threads:
        raise InvalidInputError(
            f"{streams} streams were asked for on {threads} threads.", "each stream needs at least one thread"
        )
    return threads // streams


def stream_counts(threads: int) -> tuple[int, ...]:
    """The numbers of streams worth trying on `threads`: powers of two, and one stream a thread.

    >>> stream_counts(2), stream_counts(6)
    ((1, 2), (1, 2, 4, 6))
    """
    powers = [2**power for power in range(threads.bit_length()) if 2**power <= threads]
    return tuple(sorted({*powers, threads}))


# ------------------------------------------------------------------ offline


@dataclass(frozen=True)
class Offline:
    """The result of one window. `latencies_ns` are those of each stream's batches, `spans_ns` how long each
    stream ran."""

    batch_size: int
    latencies_ns: tuple[tuple[int, ...], ...]
    spans_ns: tuple[int, ...]

    @property
    def streams(self) -> int:
        return len(self.latencies_ns)

    @property
    def images(self) -> int:
        return self.batch_size * sum(map(len, self.latencies_ns))

    @property
    def throughput(self) -> float:
        """Images per second: the sum of the streams' rates, each over its own whole batches."""
        return math.fsum(
            self.batch_size * len(latencies) / (span / 1e9)
            for latencies, span in zip(self.latencies_ns, self.spans_ns, strict=True)
        )

    def conditions(self) -> dict[str, Any]:
        """The conditions of these figures, as columns of the table."""
        return {"scenario": "offline", "batch_size": self.batch_size, "streams": self.streams}

    def figures(self) -> dict[str, float]:
        """Metric -> value."""
        flat = [latency / 1e9 for latencies in self.latencies_ns for latency in latencies]
        return {"throughput": self.throughput, "latency": statistics.median(flat), **_percentiles(flat)}


def offline(
    streams: Sequence[Infer],
    *,
    batch_size: int,
    seconds: float,
    clock: Clock = time.perf_counter_ns,
    together: Together = side_by_side,
) -> Offline:
    """Let every stream run batch after batch for `seconds`, at least one each; no batch is cut short."""
    runs: list[list[int]] = together([partial(_busy, stream, seconds, clock) for stream in streams])
    latencies = tuple(tuple(late - early for early, late in pairwise(run)) for run in runs)
    return Offline(batch_size, latencies, tuple(run[-1] - run[0] for run in runs))


def _busy(infer: Infer, seconds: float, clock: Clock) -> list[int]:
    """The moment before the first call and after each."""
    moments = [clock()]
    end_ns = moments[0] + round(seconds * 1e9)
    while len(moments) == 1 or moments[-1] < end_ns:
        infer()
        moments.append(clock())
    return moments


# ------------------------------------------------------------------ server


@dataclass(frozen=True)
class Bound:
    """The bound: `percent` of the queries are answered within `seconds` of their arrival."""

    seconds: float
    percent: int = 99

    def __post_init__(self) -> None:
        if self.seconds <= 0 or not 0 < self.percent < 100:
            raise InvalidInputError(
                f"A bound of {self.seconds} s for {self.percent} % of the queries is not possible.",
                "the time must be greater than 0 and the percentage between 0 and 100",
            )

    @property
    def protocol(self) -> str:
        """The bound as rows state it.

        >>> Bound(0.015).protocol
        'p99 within 15 ms'
        """
        return f"p{self.percent} within {1e3 * self.seconds:g} ms"

    def accepts(self, queries: int, missed: int) -> bool:
        """Whether `missed` of `queries` are few enough to show the share with 99 % confidence.

        The test of MLPerf LoadGen's early stopping: if the share of late answers were as large as the bound
        allows, or larger, the chance of seeing this few would be below 1 %.
        """
        return _binomial_tail(queries, missed, 1 - self.percent / 100) <= 1 - CONFIDENCE

    def queries(self, missed: int = 1) -> int:
        """The fewest queries with which `missed` late ones are accepted.

        >>> Bound(1.0, 99).queries(), Bound(1.0, 90).queries(), Bound(1.0, 99).queries(0)
        (662, 64, 459)
        """
        low, high = missed + 1, 1024
        while not self.accepts(high, missed):
            low, high = high + 1, 2 * high
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.accepts(middle, missed) else (middle + 1, high)
        return low

    def allowance(self, queries: int) -> int:
        """How many of `queries` may be late; -1 if they are too few to show anything."""
        missed = -1
        while missed + 1 < queries and self.accepts(queries, missed + 1):
            missed += 1
        return missed


def _binomial_tail(number: int, most: int, chance: float) -> float:
    """P(Binomial(number, chance) <= most), term by term in logarithms."""
    if most >= number:
        return 1.0
    yes, no = math.log(chance), math.log1p(-chance)
    return math.fsum(
        math.exp(
            math.lgamma(number + 1)
            - math.lgamma(hits + 1)
            - math.lgamma(number - hits + 1)
            + hits * yes
            + (number - hits) * no
        )
        for hits in range(most + 1)
    )


@dataclass(frozen=True)
class Served:
    """The result of one arrival rate. `latencies_ns` are in order of arrival, from arrival to answer; fewer
    than `planned` if the bound could no longer be kept and the run was ended."""

    rate: float
    batch_size: int
    streams: int
    bound: Bound
    planned: int
    latencies_ns: tuple[int, ...]

    @property
    def missed(self) -> int:
        """Queries answered later than the bound."""
        return sum(latency > self.bound.seconds * 1e9 for latency in self.latencies_ns)

    @property
    def holds(self) -> bool:
        """Whether the bound was shown to be kept at this rate."""
        whole = len(self.latencies_ns) == self.planned
        return whole and self.bound.accepts(self.planned, self.missed)

    def conditions(self) -> dict[str, Any]:
        """The conditions of these figures, as columns of the table."""
        return {
            "scenario": "server",
            "batch_size": self.batch_size,
            "streams": self.streams,
            "arrival_rate": self.rate,
            "protocol": self.bound.protocol,
        }

    def figures(self) -> dict[str, float]:
        """Metric -> value; empty for a run that was ended early."""
        if len(self.latencies_ns) < self.planned:
            return {}
        flat = [latency / 1e9 for latency in self.latencies_ns]
        missed = self.missed / len(flat)
        return {"latency": statistics.median(flat), **_percentiles(flat), "missed_deadlines": missed}


def arrivals(rate: float, queries: int, *, seed: int = 0) -> list[float]:
    """Seconds after the start at which `queries` arrive: Poisson, `rate` a second, the same for one seed."""
    gaps = random.Random(seed)
    return list(accumulate(gaps.expovariate(rate) for _ in range(queries)))


def serve(
    streams: Sequence[Infer],
    rate: float,
    bound: Bound,
    *,
    batch_size: int = 1,
    queries: int | None = None,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    sleep: Sleep = time.sleep,
    together: Together = side_by_side,
) -> Served:
    """Let queries of `batch_size` images arrive, `rate` images a second, and be answered first come, first
    served, by whichever stream is free.

    Arrivals are planned beforehand and don't wait for answers, so that a growing queue shows in the
    latencies. `queries` is at least what the bound's percentile needs (`bound.queries()`, the default). The
    run ends early once more are late than the bound allows.
    """
    queries = bound.queries() if queries is None else queries
    allowance = bound.allowance(queries)
    if rate <= 0 or allowance < 0:
        raise InvalidInputError(
            f"{queries} queries at {rate:g} images/s can't give 99 % confidence in p{bound.percent}.",
            f"use at least {bound.queries(0)} queries and a rate above 0",
        )
    queue = _Queue(arrivals(rate / batch_size, queries, seed=seed), bound, allowance, clock, sleep)
    together([partial(queue.work, stream) for stream in streams])
    return Served(rate, batch_size, len(streams), bound, queries, queue.answered())


class _Queue:
    """Queries in order of arrival, taken by the streams one at a time."""

    def __init__(
        self, arrivals_s: Sequence[float], bound: Bound, allowance: int, clock: Clock, sleep: Sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._bound_ns, self._allowance = bound.seconds * 1e9, allowance
        start = clock()
        self._arrivals = [start + round(arrival * 1e9) for arrival in arrivals_s]
        self._latencies: list[int | None] = [None] * len(arrivals_s)
        self._next, self._missed, self._lock = count(), 0, threading.Lock()

    def work(self, infer: Infer) -> None:
        """Answer queries until none is left or too many were late."""
        while (index := self._take()) is not None:
            arrival = self._arrivals[index]
            early = arrival - self._clock()
            if early > 0:
                self._sleep(early / 1e9)
            infer()
            self._note(index, self._clock() - arrival)

    def answered(self) -> tuple[int, ...]:
        return tuple(latency for latency in self._latencies if latency is not None)

    def _take(self) -> int | None:
        with self._lock:
            index = next(self._next)
            return index if index < len(self._arrivals) and self._missed <= self._allowance else None

    def _note(self, index: int, latency: int) -> None:
        with self._lock:
            self._latencies[index] = latency
            self._missed += latency > self._bound_ns


@dataclass(frozen=True)
class RateSearch:
    """Every rate that was tried, in order, and the greatest that was shown to keep the bound, or None."""

    best: Served | None
    trials: tuple[Served, ...]

    def conditions(self) -> dict[str, Any]:
        """The conditions of `figures`, as columns of the table: those of the best, without its rate."""
        found = {} if self.best is None else self.best.conditions()
        return {name: value for name, value in found.items() if name != "arrival_rate"}

    def figures(self) -> dict[str, float]:
        """Metric -> value; empty if no rate kept the bound."""
        return {} if self.best is None else {"sustained_rate": self.best.rate}


def greatest_rate(
    trial: Callable[[float], Served], *, ceiling: float, within: float = 0.05, halvings: int = 6
) -> RateSearch:
    """Search for the greatest rate that keeps the bound of its `trial`, to `within` of it.

    `ceiling` is a rate that can't be kept: the throughput, since a queue that is fed faster than it is
    served grows without end. Rates below `ceiling / 2**halvings` aren't tried.
    """
    trials: list[Served] = []
    best: Served | None = None
    low, high = 0.0, ceiling
    while high > low * (1 + within) and high > ceiling / 2**halvings:
        middle = (low + high) / 2
        trials.append(trial(middle))
        if trials[-1].holds:
            low, best = middle, trials[-1]
        else:
            high = middle
    return RateSearch(best, tuple(trials))


# ------------------------------------------------------------------ end to end


@dataclass(frozen=True)
class EndToEnd:
    """Whole latencies, and the part of each that was preprocessing, in nanoseconds."""

    latencies_ns: tuple[int, ...]
    preprocess_ns: tuple[int, ...]

    def conditions(self) -> dict[str, Any]:
        """The conditions of these figures, as columns of the table."""
        return {"scenario": "single-stream", "batch_size": 1, "streams": 1}

    def figures(self) -> dict[str, float]:
        """Metric -> value."""
        return {
            "end_to_end_latency": statistics.median(self.latencies_ns) / 1e9,
            "preprocess_latency": statistics.median(self.preprocess_ns) / 1e9,
        }


def end_to_end(
    pictures: Sequence[bytes],
    prepare: Callable[[bytes], T],
    infer: Callable[[T], object],
    *,
    seconds: float,
    samples: int = 1,
    clock: Clock = time.perf_counter_ns,
) -> EndToEnd:
    """Answer `pictures` in turn, again and again, for `seconds` and at least `samples` of them.

    `prepare` decodes and preprocesses, `infer` copies the input to the engine and runs it.
    """
    whole: list[int] = []
    parts: list[int] = []
    end_ns = clock() + round(seconds * 1e9)
    for picture in cycle(pictures):
        start = clock()
        prepared = prepare(picture)
        ready = clock()
        infer(prepared)
        done = clock()
        whole.append(done - start)
        parts.append(ready - start)
        if done >= end_ns and len(whole) >= samples:
            break
    return EndToEnd(tuple(whole), tuple(parts))


_PHOTOGRAPH = (375, 500)
_QUALITY = 90
_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif")


def photographs(folder: str | Path | None = None, *, number: int = 8) -> list[bytes]:
    """JPEG files as bytes: the first `number` in `folder` by name, or `number` synthetic ones.

    The synthetic ones have the size of ImageNet's typical photographs, 500x375, and like photographs a
    spectrum that falls with the frequency, so that decoding them is about as much work. They are the same in
    every process. Raises InvalidInputError if the folder holds no JPEG.
    """
    if folder is None:
        return [_photograph(seed) for seed in range(number)]
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if not files:
        raise InvalidInputError(
            f"The folder {root} has no JPEG pictures." if root.is_dir() else f"There is no folder {root}.",
            f"pass a folder with files that end in {', '.join(_ENDINGS)}",
        )
    return [path.read_bytes() for path in files[:number]]


def _photograph(seed: int) -> bytes:
    """Random phases over amplitudes that fall as 1/f; light and colour separate, as in natural pictures."""
    import numpy as np
    import simplejpeg

    generator = np.random.default_rng(seed)
    rows, columns = (np.fft.fftfreq(size)[:, None] if axis == 0 else np.fft.rfftfreq(size)[None, :]
                     for axis, size in enumerate(_PHOTOGRAPH))  # fmt: skip
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf  # no mean: it is set below
    phases = generator.uniform(0, 2 * np.pi, (3, *frequency.shape))
    planes = np.fft.irfft2(np.exp(1j * phases) / frequency, s=_PHOTOGRAPH)
    planes /= planes.std(axis=(1, 2), keepdims=True)
    light, colours = planes[0], 0.25 * planes[1:]
    pixels = 118 + 55 * np.stack([light + colours[0], light, light + colours[1]], axis=-1)
    shown = np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8))
    encoded: bytes = simplejpeg.encode_jpeg(shown, quality=_QUALITY, colorspace="RGB", colorsubsampling="420")
    return encoded


def _percentiles(latencies: Sequence[float]) -> dict[str, float]:
    """The percentiles for which there are enough samples."""
    found = {f"latency_p{percent}": statistics.percentile(latencies, percent) for percent in (90, 99)}
    return {metric: value for metric, value in found.items() if value is not None}
