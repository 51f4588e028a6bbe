"""An open loop: requests leave at planned moments, whether or not earlier ones are answered.

The moments are drawn before the first request leaves. A latency counts from the planned moment to the whole
answer, so what a slow server does to the requests after a slow one is in the figures, and so is a generator
that sends late: how late is kept too, and a run in which that is a large part of the bound gives no figures.
"""

from __future__ import annotations

import asyncio
import gc
import math
import select
import selectors
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from vertebra.measurements import statistics
from vertebra.measuring.benchmarking.scenarios import CONFIDENCE, Bound, arrivals

#: Gives a request up, if it isn't answered yet.
GiveUp = Callable[[], None]
#: Called once for a request: with None for a good answer, else with the reason why there is none.
Done = Callable[[str | None], None]
#: Sends the request of a number from 0 without waiting for its answer.
Ask = Callable[[int, Done], GiveUp]

Verdict = Literal["kept", "broken", "unclear", "late"]

#: A run is refused if 1 % of its requests left later than this share of the bound after their moments.
LATE_SHARE = 0.1
#: Confidence in "more requests were late than the bound allows": one side of a 95 % interval.
BROKEN_CONFIDENCE = 0.975
#: Seconds after the last request left in which a missing answer is waited for, beyond the bound.
PATIENCE_S = 2.0
#: Seconds between the first call of the clock and the first planned moment.
_LEAD_S = 0.01
#: Seconds between two looks at what is overdue while no request leaves.
_LOOK_S = 0.05


def most_allowed(bound: Bound, queries: int) -> int:
    """How many of `queries` may miss the bound while it counts as kept with 99 % confidence; -1: none can."""
    from scipy import special

    chance = 1 - bound.percent / 100
    return _last(queries, lambda missed: special.bdtr(missed, queries, chance) <= 1 - CONFIDENCE)


def fewest_broken(bound: Bound, queries: int) -> int:
    """How many of `queries` must miss the bound to show, with 97.5 % confidence, that it isn't kept."""
    from scipy import special

    chance = 1 - bound.percent / 100
    # P(X >= missed + 1) = P(X > missed)
    return _last(queries, lambda missed: special.bdtrc(missed, queries, chance) > 1 - BROKEN_CONFIDENCE) + 2


def _last(queries: int, holds: Callable[[int], bool]) -> int:
    """The largest number below `queries` up to which `holds` is true; -1 if it isn't for 0."""
    low, high = -1, queries - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


@dataclass(frozen=True)
class Offered:
    """What one rate gave. `latencies_s` are those of the good answers, in order of the planned moments from
    which they count; `lags_s` how much later each request left. `missed` requests had no good answer within
    the bound, among them those of `failures`, by reason. The run ended early, with fewer than `planned` sent,
    if more were missed than show that the bound isn't kept."""

    rate: float
    batch_size: int
    bound: Bound
    planned: int
    latencies_s: tuple[float, ...]
    lags_s: tuple[float, ...]
    missed: int
    failures: Mapping[str, int]
    is_whole: bool
    seed: int = 0

    @property
    def sent(self) -> int:
        return len(self.lags_s)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @cached_property
    def lag_s(self) -> float:
        """The 99th percentile of how much later than planned the requests left."""
        ordered = sorted(self.lags_s)
        return ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else 0.0

    @property
    def verdict(self) -> Verdict:
        """Whether the bound is kept at this rate: shown with 99 % confidence, or shown not to be with 97.5 %;
        or neither, or unknown because the generator was late."""
        if self.lag_s > LATE_SHARE * self.bound.seconds:
            return "late"
        if self.is_whole and self.missed <= most_allowed(self.bound, self.planned):
            return "kept"
        return "broken" if self.missed >= fewest_broken(self.bound, self.planned) else "unclear"

    def percentile(self, percent: int) -> float | None:
        """Of the latencies, in which requests without a good answer count as endless; None if it is one of
        those, or the requests are too few."""
        endless = [math.inf] * (self.planned - len(self.latencies_s))
        found = statistics.percentile([*self.latencies_s, *endless], percent)
        return None if found is None or math.isinf(found) else found


async def offer(
    ask: Ask, *, rate: float, bound: Bound, queries: int, batch_size: int = 1, seed: int = 0
) -> Offered:
    """Send `queries` requests of `batch_size` images each, `rate` images a second, at random moments that
    depend on `seed` alone. The clock is that of the running loop."""
    moments = arrivals(rate / batch_size, queries, seed=seed)
    run = _Run(ask, moments, bound)
    with _undisturbed():
        await run.run()
    return Offered(
        rate=rate, batch_size=batch_size, bound=bound, planned=queries, seed=seed,
        latencies_s=tuple(latency for latency in run.latencies if latency is not None),
        lags_s=tuple(run.lags), missed=run.missed, failures=dict(run.failures),
        is_whole=len(run.lags) == queries and not run.is_ended,
    )  # fmt: skip


class _Run:
    """The requests under way, and what came of the others."""

    def __init__(self, ask: Ask, moments: list[float], bound: Bound) -> None:
        self._ask, self._moments, self._bound_s = ask, moments, bound.seconds
        self._most = fewest_broken(bound, len(moments))
        self._loop = asyncio.get_running_loop()
        self._open: OrderedDict[int, tuple[float, GiveUp]] = OrderedDict()
        self._overdue: dict[int, tuple[float, GiveUp]] = {}
        self.latencies: list[float | None] = [None] * len(moments)
        self.lags: list[float] = []
        self.missed, self.failures = 0, Counter[str]()
        self.is_ended = False

    async def run(self) -> None:
        start = self._loop.time() + _LEAD_S
        try:
            for number, moment in enumerate(self._moments):
                await self._until(start + moment)
                if self.is_ended:
                    return
                self._send(number, start + moment)
            patient = self._loop.time() + self._bound_s + PATIENCE_S
            while (self._open or self._overdue) and not self.is_ended and self._loop.time() < patient:
                await asyncio.sleep(_LOOK_S)
                self._look()
            unanswered = len(self._open) + len(self._overdue)
            if unanswered and not self.is_ended:
                self.failures["no answer"] += unanswered
        finally:
            for _, give_up in [*self._open.values(), *self._overdue.values()]:
                give_up()

    async def _until(self, due: float) -> None:
        """Wait at least once, even if it is late, so that answers are read between two requests."""
        while True:
            left = due - self._loop.time()
            await asyncio.sleep(min(max(0.0, left), _LOOK_S))
            self._look()
            if left <= _LOOK_S or self.is_ended:
                return

    def _send(self, number: int, due: float) -> None:
        self.lags.append(max(0.0, self._loop.time() - due))
        done: list[str | None] = []

        def answered(why: str | None) -> None:
            if number in self._open or number in self._overdue:
                self._answered(number, due, why)
            else:
                done.append(why)  # before the request was even noted: it couldn't be sent

        give_up = self._ask(number, answered)
        self._open[number] = (due, give_up)
        if done:
            self._answered(number, due, done[0])

    def _answered(self, number: int, due: float, why: str | None) -> None:
        latency = self._loop.time() - due
        was_open = self._open.pop(number, None) is not None
        self._overdue.pop(number, None)
        if was_open and (why is not None or latency > self._bound_s):
            self._miss()
        if why is None:
            self.latencies[number] = latency
        else:
            self.failures[why] += 1

    def _look(self) -> None:
        """Count what has become overdue: the oldest are first."""
        now = self._loop.time()
        while self._open:
            number, (due, give_up) = next(iter(self._open.items()))
            if now - due <= self._bound_s:
                return
            del self._open[number]
            self._overdue[number] = (due, give_up)
            self._miss()

    def _miss(self) -> None:
        self.missed += 1
        self.is_ended = self.is_ended or self.missed >= self._most


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without the garbage collector, which may take milliseconds."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers keep fractions of a millisecond, where the system can do that."""
    if not hasattr(selectors, "EpollSelector"):
        return asyncio.new_event_loop()

    class Precise(selectors.EpollSelector):
        """epoll waits for whole milliseconds; select, which can wait for its descriptor, doesn't."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)

    return asyncio.SelectorEventLoop(Precise())
