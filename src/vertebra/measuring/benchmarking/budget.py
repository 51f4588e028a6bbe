"""How the time is shared: how long a process, a round and an answer may take, and when a case is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from vertebra.measurements import statistics
from vertebra.measurements.blocks import by_process, latencies
from vertebra.measuring.benchmarking.plan import Limits
from vertebra.measuring.benchmarking.record import Record
from vertebra.measuring.benchmarking.timing import Stopped, is_enough

#: Seconds that a process gets even after the deadline.
LEAST_S = 1.0
#: Seconds after the end of all at which what still runs is stopped, so that nothing that hangs holds it up.
OVERRUN_S = 5.0
#: Seconds that a process is assumed to cost in addition to its warm-up and blocks, until one has run.
_OVERHEAD_S = 5.0
#: A server's queries, and the lowest rate that is tried, as a part of the engine's own.
_QUERIES, _SLOWEST = 662, 32


class Budget:
    """The time that `limits` give each case, or that is left for all until `deadline` (of `clock`). At `end`,
    which is no earlier, no process is begun any more, and what runs is soon stopped."""

    def __init__(
        self,
        limits: Limits,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        end: float | None = None,
    ) -> None:
        self._limits, self._deadline, self._clock, self._end = limits, deadline, clock, end
        self._overheads: list[float] = []

    def started(self, overhead_s: float) -> None:
        """A process took `overhead_s` in addition to its warm-up; the same is expected of the next ones."""
        self._overheads.append(max(0.0, overhead_s))

    def may_begin(self) -> bool:
        """Whether another process is likely to be done by the end. The first is, if there is any time."""
        if self._end is None:
            return True
        needed = self._overhead_s() + LEAST_S if self._overheads else 0.0
        return self._clock() + needed < self._end

    def until_stopped_s(self) -> float:
        """Seconds until what still runs is stopped; 0 or less: now."""
        return math.inf if self._end is None else self._end + OVERRUN_S - self._clock()

    def silence_s(self, record: Record) -> float:
        """How long a block may take: its least number of calls, each as long as the very first; or as long as
        a server's queries take to arrive."""
        limits, case = self._limits, record.case
        first_s: float = record.figures.loads[-1]["first_ns"] / 1e9
        if case.scenario == "server":
            least_rate = case.arrival_rate or case.batch_size / first_s / _SLOWEST
            return limits.timeout_s + 2 * _QUERIES * case.batch_size / least_rate
        return limits.timeout_s + limits.block_s + (limits.block_least + 1) * first_s

    def share_s(self, waiting: int) -> float:
        """Seconds of warm-up and blocks for one process: its part of the case's, or of the time left."""
        share = self._limits.seconds / self._limits.processes
        if self._deadline is None:
            return share
        to_come = 1 + waiting * self._limits.processes
        left = self._deadline - self._clock() - self._overhead_s() * to_come
        return min(share, max(LEAST_S, left / to_come))

    def round_end(self, live: Sequence[Record], waiting: int) -> float:
        """When the round of `live` must end for the rest to have its part; never without a deadline."""
        if self._deadline is None:
            return float("inf")
        done = len(live[0].spent_s) if live else 0
        later = max(0, self._limits.processes - done) * len(live) + waiting * self._limits.processes
        now = self._clock()
        left = self._deadline - now - self._overhead_s() * later
        return now + max(0.0, left) * len(live) / max(1, len(live) + later)

    def _overhead_s(self) -> float:
        return sum(self._overheads) / len(self._overheads) if self._overheads else _OVERHEAD_S

    def is_done(self, record: Record, end: float) -> bool:
        """Whether the running process has enough samples, or has used its time."""
        limits, taken = self._limits, record.taken()
        if record.case.scenario == "server":
            return True  # a block is a whole run
        if is_enough(record.blocks(), limits) or taken >= limits.most_samples // limits.processes:
            return True
        spent = record.spent_s[-1] >= limits.seconds / limits.processes or self._clock() >= end
        return spent and taken >= limits.least_samples

    def wants_more(self, record: Record, waiting: int) -> bool:
        """Whether to measure another process: one of those asked for, or an extra one to be sure."""
        done = len(record.spent_s)
        if record.failure is not None or record.is_stopped or not self.may_begin():
            return False
        if done < self._limits.processes:
            return True
        if self._limits.is_quick or done >= 2 * self._limits.processes or self._is_sure(record):
            return False
        if record.case.scenario == "server":
            return False  # there only the share of late answers must be certain
        mean_s = sum(record.spent_s) / done
        if self._deadline is not None:
            cost = mean_s + self._overhead_s()
            return self._deadline - self._clock() >= cost * (1 + waiting * self._limits.processes)
        return sum(record.spent_s) + mean_s <= self._limits.seconds

    def _is_sure(self, record: Record) -> bool:
        """Whether the interval over processes is narrow enough, and each has the samples asked for."""
        taken = [latencies(blocks) for blocks in by_process(record.figures.blocks)]
        if min(map(len, taken)) < self._limits.samples:
            return False
        return statistics.interval(record.figures.blocks).half_width <= self._limits.half_width

    def stopped(self, record: Record) -> Stopped:
        if self._is_sure(record):
            return "sure"
        if record.is_behind:
            return "too slow to win"
        if self._limits.within is not None and is_enough(record.figures.blocks, self._limits):
            return "enough for a survey"
        full = self._limits.most_samples // self._limits.processes
        return "sample limit reached" if record.taken() >= full else "budget spent"
