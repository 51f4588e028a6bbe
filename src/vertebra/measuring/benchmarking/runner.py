"""Measures cases in fresh child processes, in blocks that are randomly interleaved across the cases.

Cases with processes that fit the memory together are a cohort. A round starts a fresh process for each of
them, one after the other, and then takes one block of each in random order, again and again, with a canary
before each; while one is measured the others sleep, and so does this process. Every round has new processes.

If a child fails (crash, hang, out of memory, an exception, wrong outputs), that is its case's result: a row
of the metric `failure`. The children are gone when a call returns or raises: each lives in its own session,
so Ctrl-C reaches the parent only, and each ends by itself when the parent dies.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol

from vertebra import engines
from vertebra.engines import EngineInfo
from vertebra.errors import InvalidInputError, MeasurementError, OutOfTimeError
from vertebra.machine import system
from vertebra.measurements.blocks import Block
from vertebra.measuring.benchmarking import energy, results, surroundings
from vertebra.measuring.benchmarking.budget import Budget
from vertebra.measuring.benchmarking.canary import Canary
from vertebra.measuring.benchmarking.child import Worker, WorkerProcess
from vertebra.measuring.benchmarking.neighbours import Neighbours
from vertebra.measuring.benchmarking.plan import Case, Limits
from vertebra.measuring.benchmarking.record import Record
from vertebra.measuring.benchmarking.results import Result
from vertebra.measuring.benchmarking.surroundings import Reading
from vertebra.progress import Listener, Progress, silent

#: The most samples in a block of a fast network: more add no information.
_MOST_IN_BLOCK = 2000
#: The part of the memory that a cohort may take, and what a process is assumed to take before one has run.
_ROOM, _UNSEEN_BYTES = 0.8, 1_000_000_000
#: Seconds for which the machine's idle power is measured, if there is a counter.
_IDLE_S = 1.0
#: Seconds between two events with the same text: each takes a moment from what is being measured.
_EVENT_EVERY_S = 1.0
#: Signs in a reason that more memory would have helped.
_MEMORY_SIGNS = ("out of memory", "SIGKILL")
#: If these are equal, a larger batch needs more memory.
_SAME_BUT_BATCH = (
    "model", "engine", "precision", "device", "threads", "input_size", "layout", "provider", "scenario",
    "streams",
)  # fmt: skip


def measure(
    case: Case,
    limits: Limits | None = None,
    *,
    system: str,
    engine: EngineInfo | None = None,
    seed: int = 0,
) -> Result:
    """Measure `case` by itself on the machine whose id is `system`: `measure_all` of one.

    `engine` describes an engine that isn't in the table of `vertebra.engines`.
    """
    (result,) = measure_all([case], limits, system=system, engine=engine, seed=seed)
    return result


def measure_all(
    cases: Sequence[Case],
    limits: Limits | None = None,
    *,
    system: str,
    seed: int = 0,
    room_bytes: int | None = None,
    expected_bytes: Callable[[Case], float] | None = None,
    deadline: float | None = None,
    end: float | None = None,
    engine: EngineInfo | None = None,
    progress: Listener | None = None,
    race: Race | None = None,
) -> Iterator[Result]:
    """Measure `cases` on the machine whose id is `system`; a cohort's results come together, when it is done.

    `seed` makes the order of the blocks repeatable. A cohort takes at most `room_bytes` of memory (what is
    available, if not given); `expected_bytes` gives what a case's process is likely to take. Until `deadline`
    (of `time.monotonic`) the cases share the time, and what one leaves goes to the others; each still gets
    its fewest samples after it. `progress` counts cases, those under way in part. A `race` ends cases early
    that can't win; a case that it doesn't let start gives no result. At `end`, no earlier than `deadline`, no
    process is begun any more, and what still runs is killed a few seconds later, however it hangs: a case
    without a finished process then gives no result.

    All cases have the same number of busy threads `beside` them, which run from before the first warm-up on.

    Raises UnknownNameError if no engine has the name that a case gives, before a process is started;
    everything that happens in a child is a result. KeyboardInterrupt ends the children before it is raised.
    """
    infos = [engine or engines.find(case.engine) for case in cases]
    records = [Record(case, info) for case, info in zip(cases, infos, strict=True)]
    bench = _Bench(
        limits or Limits(),
        system=system,
        seed=seed,
        room_bytes=room_bytes or _available_bytes(),
        expected_bytes=expected_bytes,
        deadline=deadline,
        end=end,
        request_engine=engine,
        progress=progress or silent,
        race=race,
        device=next((case.device for case in cases), "cpu"),
        beside=_beside(cases),
    )
    return bench.run(records)


def _beside(cases: Sequence[Case]) -> int:
    """The number of busy threads beside all `cases`."""
    found = {case.beside or 0 for case in cases}
    if len(found) > 1:
        raise InvalidInputError(
            f"Cases beside {' and '.join(map(str, sorted(found)))} busy threads can't be measured together.",
            "measure them one after the other",
        )
    return found.pop() if found else 0


def _available_bytes() -> int:
    import psutil

    limit = system.describe().memory_bytes
    available = int(psutil.virtual_memory().available)
    return available if limit is None else min(available, limit)


# ------------------------------------------------------------------ cohorts and rounds


class Race(Protocol):
    """Decides which cases of a quick cohort are worth their time: before a case's process is started, with
    `running` others, and after each turn of blocks, given those of each case that is still in it."""

    def may_start(self, case: Case, running: int) -> bool: ...

    def stay(self, rivals: Sequence[tuple[Case, Sequence[Block]]]) -> Sequence[bool]: ...


_Live = list[tuple[Record, Worker]]


class _Bench:
    """One call of `measure_all`. What it starts and reads can be replaced by fakes; clocks give seconds."""

    def __init__(
        self,
        limits: Limits,
        *,
        system: str,
        seed: int,
        room_bytes: float,
        expected_bytes: Callable[[Case], float] | None = None,
        deadline: float | None = None,
        end: float | None = None,
        request_engine: EngineInfo | None = None,
        progress: Listener = silent,
        race: Race | None = None,
        start: Callable[[], Worker] | None = None,
        clock: Callable[[], float] = time.monotonic,
        canary: Callable[[], float] | None = None,
        cpu_clock: Callable[[], float] = time.process_time,
        look: Callable[[Sequence[int]], Reading] | None = None,
        device: str = "cpu",
        beside: int = 0,
        neighbours: Callable[[int], Neighbours] = Neighbours,
    ) -> None:
        self._beside, self._make_neighbours = beside, neighbours
        self._neighbours: Neighbours | None = None
        self._limits, self._system, self._seed = limits, system, seed
        self._room_bytes, self._expected_bytes = room_bytes, expected_bytes
        self._engine, self._progress, self._clock, self._canary = request_engine, progress, clock, canary
        self._start, self._cpu_clock, self._race = start or WorkerProcess, cpu_clock, race
        self._handover: Callable[[], float | None] = lambda: None
        self._look = look or partial(surroundings.snapshot, device=device)
        self._random = random.Random(seed)
        self._order = 0
        self._energy = energy.Meter(device)
        self._budget = Budget(limits, deadline, clock, end)
        self._cohort: list[Record] = []
        self._too_large: list[Record] = []
        self._total = self._settled = 0
        self._last_event: tuple[str, float] = ("", 0.0)

    def run(self, records: list[Record]) -> Iterator[Result]:
        waiting, self._total = deque(records), len(records)
        with contextlib.ExitStack() as stack:
            if self._canary is None:
                canary = stack.enter_context(Canary(system.describe().usable_cores))
                self._canary, self._handover = canary.run, canary.handover
            idle_power = self._energy.over(_IDLE_S)
            if self._beside:
                self._neighbours = stack.enter_context(self._make_neighbours(self._beside))
            while waiting and self._budget.may_begin():
                cohort = self._measure_cohort(waiting)
                waiting.extendleft(reversed([_alone(record) for record in cohort if record.is_crowded_out]))
                for record in cohort:
                    if not record.is_crowded_out:
                        record.figures.idle_power = idle_power
                        self._settled += 1
                        if not record.is_stopped or record.finished:
                            yield self._result(record)

    def _measure_cohort(self, waiting: deque[Record]) -> list[Record]:
        """Take from `waiting` what fits the memory, and measure it round after round."""
        cohort = self._first_round(waiting)
        while wanting := [record for record in cohort if self._budget.wants_more(record, len(waiting))]:
            self._random.shuffle(wanting)
            self._round(wanting, len(waiting))
        return cohort

    def _first_round(self, waiting: deque[Record]) -> list[Record]:
        cohort = self._cohort = []
        live: _Live = []
        with contextlib.ExitStack() as stack:
            while waiting and self._has_room(waiting[0], cohort):
                if cohort and not self._budget.may_begin():
                    break
                record = waiting.popleft()
                if self._race is not None and not self._race.may_start(record.case, len(cohort)):
                    self._settled += 1
                    continue
                cohort.append(record)
                live += self._load(cohort[-1], stack, len(waiting))
            self._sample(live, len(waiting))
        return self._crowded(cohort)

    def _round(self, records: list[Record], waiting: int) -> None:
        live: _Live = []
        with contextlib.ExitStack() as stack:
            for record in records:
                if self._budget.may_begin():
                    live += self._load(record, stack, waiting)
            self._sample(live, waiting)
        self._crowded(records)

    def _crowded(self, records: list[Record]) -> list[Record]:
        """Mark those that ran out of memory together with others: alone they may work."""
        lacking = [one for one in records if any(sign in (one.failure or "") for sign in _MEMORY_SIGNS)]
        for record in lacking:
            record.is_crowded_out = len(records) > 1
        if len(records) == 1:
            self._too_large += lacking
        return records

    def _has_room(self, record: Record, cohort: list[Record]) -> bool:
        """Whether there is memory for another process, by what the others hold and this one is likely to."""
        if not cohort:
            return True
        if record.is_alone or cohort[-1].is_alone:
            return False
        held = [other.figures.resident_bytes for other in cohort if other.failure is None]
        expected = float(max(held, default=_UNSEEN_BYTES))
        if self._expected_bytes is not None:
            expected = self._expected_bytes(record.case)
        return sum(held) + expected <= _ROOM * self._room_bytes

    def _load(self, record: Record, stack: contextlib.ExitStack, waiting: int) -> _Live:
        """The case's process, warmed up; nothing if it failed or is certain to, which is recorded."""
        record.failure = self._hopeless(record.case)
        if record.failure is not None:
            return []
        began = self._clock()
        share = record.granted_s = self._budget.share_s(waiting)
        record.spent_s.append(0.0)
        self._show(f"{record.name}{self._process_shown(record)}")
        request = {
            "command": "load",
            "case": record.case.to_json(),
            "limits": self._limits.to_json(),
            "engine": None if self._engine is None else asdict(self._engine),
            "warm_up_s": share / 3,
        }
        try:
            worker = self._start()
            stack.callback(worker.end)
            ready = self._ask(worker, request, self._limits.timeout_s + share)
        except MeasurementError as error:
            self._fail(record, error)
            return []
        record.figures.add_load(ready)
        record.spent_s[-1] = ready["warm_up"]["seconds"]
        self._budget.started(self._clock() - began - record.spent_s[-1])
        return [(record, worker)]

    def _ask(self, worker: Worker, request: dict[str, Any], silence_s: float) -> dict[str, Any]:
        """The worker's answer. Raises OutOfTimeError where none came before everything is stopped."""
        left_s = self._budget.until_stopped_s()
        if left_s <= 0:
            raise OutOfTimeError("the time was up")
        try:
            return worker.ask(request, min(silence_s, left_s))
        except MeasurementError as error:
            if self._budget.until_stopped_s() <= 0:
                raise OutOfTimeError("the time was up") from error
            raise

    def _hopeless(self, case: Case) -> str | None:
        """Why the case needn't be tried: a smaller batch of it ran out of memory when measured alone."""
        for other in self._too_large:
            same = all(getattr(case, name) == getattr(other.case, name) for name in _SAME_BUT_BATCH)
            if same and case.batch_size > other.case.batch_size:
                return f"not tried: batch size {other.case.batch_size} failed, even alone, {other.failure}"
        return None

    def _process_shown(self, record: Record) -> str:
        number, asked = len(record.spent_s), self._limits.processes
        if self._limits.is_quick:
            return ""
        return f", process {number} of {asked}" if number <= asked else f", extra process {number}"

    def _show(self, text: str) -> None:
        """Give the listener an event, unless it had one with the same text a moment ago."""
        before, shown_s = self._last_event
        if text != before or self._clock() - shown_s >= _EVENT_EVERY_S:
            self._last_event = text, self._clock()
            under_way = sum(record.done(self._limits.processes) for record in self._cohort)
            self._progress(Progress(text, self._settled + under_way, self._total, "cases"))

    def _show_round(self, sampled: Sequence[Record]) -> None:
        name = sampled[0].name if len(sampled) == 1 else f"{len(sampled)} cases side by side"
        self._show(f"{name}{self._process_shown(sampled[0])}")

    def _fail(self, record: Record, error: MeasurementError) -> None:
        number = len(record.spent_s)
        if isinstance(error, OutOfTimeError):
            record.is_stopped = True
            record.figures.blocks[:] = [one for one in record.figures.blocks if one.process < number - 1]
            return
        record.failure = error.message + (f" (process {number})" if number > 1 else "")

    def _sample(self, live: _Live, waiting: int) -> None:
        """Blocks of all in random order, until each has enough samples, or no time left, or failed."""
        end = self._budget.round_end([record for record, _ in live], waiting)
        watch = _Watch(self._clock, self._cpu_clock)
        sampled = [record for record, _ in live]
        while live:
            for pair in self._random.sample(live, len(live)):
                record, worker = pair
                with watch.aside():
                    self._show_round(sampled)
                try:
                    self._block(record, worker, [one.pid for _, one in live], watch)
                    if self._budget.is_done(record, end):
                        self._finish(pair)
                        live.remove(pair)
                except MeasurementError as error:
                    self._fail(record, error)
                    worker.end()
                    live.remove(pair)
            live = self._still_in(live, sampled)
        for record in sampled:
            record.figures.harness_cpu.append(watch.share())

    def _finish(self, pair: tuple[Record, Worker]) -> None:
        record, worker = pair
        record.figures.add_check(self._ask(worker, {"command": "check"}, self._budget.silence_s(record)))
        record.finished += 1
        worker.end()

    def _still_in(self, live: _Live, sampled: Sequence[Record]) -> _Live:
        """Those of `live` that stay in the race; the processes of the others end here."""
        if self._race is None:
            return live
        rivals = [record for record in sampled if record.failure is None and not record.is_behind]
        staying = self._race.stay([(record.case, record.blocks()) for record in rivals])
        for record, stays in zip(rivals, staying, strict=True):
            record.is_behind = not stays
        for pair in live:
            if pair[0].is_behind:
                try:
                    self._finish(pair)
                except MeasurementError as error:
                    self._fail(pair[0], error)
                    pair[1].end()
        return [pair for pair in live if not pair[0].is_behind]

    def _block(self, record: Record, worker: Worker, pids: list[int], watch: _Watch) -> None:
        assert self._canary is not None
        beside = self._neighbours
        with watch.aside(), contextlib.nullcontext() if beside is None else beside.paused():
            canary_s, handover_s = self._canary(), self._handover()
        pids = pids if beside is None else [*pids, beside.pid]
        room = self._limits.most_samples // self._limits.processes - record.taken()
        request = {
            "command": "block",
            "seconds": self._limits.block_s,
            "least": min(self._limits.block_least, room),
            "most": min(_MOST_IN_BLOCK, room),
            "seed": self._seed + len(record.spent_s),
        }
        before, meter = self._look(pids), self._energy.read()
        began = self._clock()
        answer = self._ask(worker, request, self._budget.silence_s(record))
        record.spent_s[-1] += self._clock() - began
        taken = self._energy.between(meter, self._energy.read())
        around = surroundings.between(before, self._look(pids))
        if beside is not None:
            # Tasks wait because of our own threads, and a counter of energy counts theirs.
            around, taken = replace(around, pressure=None, load=None), None
            with watch.aside():
                beside.check()
        block = Block(
            process=len(record.spent_s) - 1,
            order=self._order,
            started_s=answer["started_s"],
            latencies=tuple(latency / 1e9 for latency in answer["latencies_ns"]),
            canary_s=canary_s,
            handover_s=handover_s,
            surroundings=around,
        )
        self._order += 1
        record.figures.add_block(block, answer, taken)

    def _result(self, record: Record) -> Result:
        if record.failure is not None:
            return results.failed(record.case, record.info, record.failure, system=self._system)
        record.figures.stopped, record.figures.seed = self._budget.stopped(record), self._seed
        return results.measured(
            record.case, record.info, record.figures, system=self._system, quick=self._limits.is_quick
        )


def _alone(record: Record) -> Record:
    """The case once more, in a cohort of its own, with a note why."""
    again = Record(record.case, record.info, is_alone=True)
    again.figures.notes = (f"measured again alone; together with others it failed {record.failure}",)
    return again


class _Watch:
    """This process's own use of processors while others are measured, except for what is set aside."""

    def __init__(self, clock: Callable[[], float], cpu_clock: Callable[[], float]) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock
        self._wall_s, self._cpu_s = -clock(), -cpu_clock()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        self._wall_s += self._clock()
        self._cpu_s += self._cpu_clock()
        yield
        self._wall_s -= self._clock()
        self._cpu_s -= self._cpu_clock()

    def share(self) -> float:
        """The share of one core used, over the time that wasn't set aside."""
        wall_s, cpu_s = self._wall_s + self._clock(), self._cpu_s + self._cpu_clock()
        return cpu_s / wall_s if wall_s > 0 else 0.0
