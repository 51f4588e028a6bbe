"""Measures cases in fresh child processes, in blocks that are randomly interleaved across the cases.

Cases whose processes fit the memory together are a cohort. A round starts a fresh process for each of them,
one after the other, and then takes one block of each in random order, over and over, with a canary before
each; while one is measured the others sleep, and so does this process. Every round has new processes.

Whatever happens to a child (crash, hang, out of memory, an exception, wrong outputs) is its case's result: a
row of the metric `failure`. The children are gone when a call returns or raises: each lives in a session
of its own, so Ctrl-C meets the parent only, and ends by itself when the parent dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

from vertebra import engines, system
from vertebra.benchmarking import energy, results, surroundings
from vertebra.benchmarking.canary import Canary
from vertebra.benchmarking.plan import Case, Limits
from vertebra.benchmarking.results import Figures, Result
from vertebra.benchmarking.surroundings import Reading
from vertebra.benchmarking.timing import Stopped, is_enough
from vertebra.engines import EngineInfo
from vertebra.errors import MeasurementError
from vertebra.measurements import statistics
from vertebra.measurements.blocks import Block, by_process, latencies

_COMMAND = (sys.executable, "-P", "-m", "vertebra.benchmarking.worker")
_TAIL_BYTES, _LINE_LENGTH = 4096, 200

#: Last event heard -> what the child does then.
_STAGES = {"loaded": "before timing", "ready": "while timing"}
#: Events that are told on the way to an answer.
_ON_THE_WAY = ("loaded", "alive")
#: A block of a fast network holds so many samples at most: more of them tell nothing more.
_MOST_IN_BLOCK = 2000
#: The part of the memory that a cohort may take, and what a process is expected to take before one was seen.
_ROOM, _UNSEEN_BYTES = 0.8, 1_000_000_000
#: Seconds that a process gets however late it is.
LEAST_S = 1.0
#: Seconds that a process costs beside its warm-up and its blocks, until one was seen.
_OVERHEAD_S = 5.0
#: Seconds for which the machine's power at rest is looked at, where there is a counter.
_IDLE_S = 1.0
#: A server's queries, and how far below the engine's own rate one is looked for at most.
_QUERIES, _SLOWEST = 662, 32
#: Seconds between two words about the same round: each takes a moment from what is being measured.
_TELL_EVERY_S = 1.0
#: Signs in a reason that more memory would have helped.
_MEMORY_SIGNS = ("out of memory", "SIGKILL")
#: Where these are the same, a larger batch needs more memory.
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
    engine: EngineInfo | None = None,
    watcher: Watcher | None = None,
    race: Race | None = None,
) -> Iterator[Result]:
    """Measure `cases` on the machine whose id is `system`; a cohort's results come together, when it is done.

    `seed` makes the order of the blocks repeatable. A cohort takes `room_bytes` of memory at most (of what is
    available, where it isn't given); `expected_bytes` tells what a case's process is likely to take. Until
    `deadline` (of `time.monotonic`) the cases share the time, and what one leaves goes to the others; each
    still gets its fewest samples after it. `watcher` hears what is being done, and how much is behind of the
    cases whose results haven't come yet, in cases. A `race` ends early what can't win; a case that it never
    lets start gives no result.

    Raises UnknownNameError where there is no engine by a case's name, before a process is started;
    everything that happens in a child is a result. KeyboardInterrupt ends the children before it goes on.
    """
    infos = [engine or engines.find(case.engine) for case in cases]
    records = [_Record(case, info) for case, info in zip(cases, infos, strict=True)]
    bench = _Bench(
        limits or Limits(),
        system=system,
        seed=seed,
        room_bytes=room_bytes or _available_bytes(),
        expected_bytes=expected_bytes,
        deadline=deadline,
        request_engine=engine,
        watcher=watcher or _say_nothing,
        race=race,
        device=next((case.device for case in cases), "cpu"),
    )
    return bench.run(records)


def _say_nothing(text: str, behind: float) -> None:
    """Nobody listens."""


def _available_bytes() -> int:
    import psutil

    limit = system.describe().memory_bytes
    available = int(psutil.virtual_memory().available)
    return available if limit is None else min(available, limit)


# ------------------------------------------------------------------ cohorts and rounds


#: Hears what is being done, and how much is behind of the cases whose results haven't come yet, in cases.
Watcher = Callable[[str, float], None]


class Race(Protocol):
    """Says which cases of a quick cohort are worth their time: before one's process is started, beside
    `running` others, and after each turn of blocks, given those of each case that is still in it."""

    def may_start(self, case: Case, running: int) -> bool: ...

    def stay(self, rivals: Sequence[tuple[Case, Sequence[Block]]]) -> Sequence[bool]: ...


class Worker(Protocol):
    """A process that serves one case. `ask` raises MeasurementError, with the stage, where no answer came."""

    pid: int

    def ask(self, request: dict[str, Any], silence_s: float) -> dict[str, Any]: ...

    def end(self) -> None: ...


@dataclass
class _Record:
    """What is known of a case so far."""

    case: Case
    info: EngineInfo
    figures: Figures = field(default_factory=Figures)
    failure: str | None = None
    is_alone: bool = False
    is_crowded_out: bool = False
    is_behind: bool = False
    spent_s: list[float] = field(default_factory=list)
    granted_s: float = 0.0
    finished: int = 0

    @property
    def name(self) -> str:
        return f"{self.case.model} on {self.case.engine}"

    def blocks(self) -> list[Block]:
        """Those of the process under way."""
        return [block for block in self.figures.blocks if block.process == len(self.spent_s) - 1]

    def taken(self) -> int:
        """How many samples they hold."""
        return sum(len(block.latencies) for block in self.blocks())

    def behind(self, processes: int) -> float:
        """The part of the work that is behind, of so many processes: those beyond them add nothing."""
        if self.failure is not None:
            return 0.0 if self.is_crowded_out else 1.0
        under_way = len(self.spent_s) > self.finished
        part = min(1.0, self.spent_s[-1] / self.granted_s) if under_way else 0.0
        return min(1.0, (self.finished + part) / processes)


_Live = list[tuple[_Record, Worker]]


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
        request_engine: EngineInfo | None = None,
        watcher: Watcher = _say_nothing,
        race: Race | None = None,
        start: Callable[[], Worker] | None = None,
        clock: Callable[[], float] = time.monotonic,
        canary: Callable[[], float] | None = None,
        cpu_clock: Callable[[], float] = time.process_time,
        look: Callable[[Sequence[int]], Reading] | None = None,
        device: str = "cpu",
    ) -> None:
        self._limits, self._system, self._seed = limits, system, seed
        self._room_bytes, self._expected_bytes, self._deadline = room_bytes, expected_bytes, deadline
        self._engine, self._watcher, self._clock, self._canary = request_engine, watcher, clock, canary
        self._start, self._cpu_clock, self._race = start or _Child, cpu_clock, race
        self._look = look or partial(surroundings.snapshot, device=device)
        self._random = random.Random(seed)
        self._order = 0
        self._energy = energy.Meter(device)
        self._overheads: list[float] = []
        self._cohort: list[_Record] = []
        self._too_large: list[_Record] = []
        self._told: tuple[str, float] = ("", 0.0)

    def run(self, records: list[_Record]) -> Iterator[Result]:
        waiting = deque(records)
        with contextlib.ExitStack() as stack:
            if self._canary is None:
                canary = stack.enter_context(Canary(system.describe().usable_cores))
                self._canary = canary.run
            idle_power = self._energy.over(_IDLE_S)
            while waiting:
                cohort = self._measure_cohort(waiting)
                waiting.extendleft(reversed([_alone(record) for record in cohort if record.is_crowded_out]))
                for record in cohort:
                    if not record.is_crowded_out:
                        record.figures.idle_power = idle_power
                        yield self._result(record)

    def _measure_cohort(self, waiting: deque[_Record]) -> list[_Record]:
        """Take from `waiting` what fits the memory, and measure it round after round."""
        cohort = self._first_round(waiting)
        while wanting := [record for record in cohort if self._wants_more(record, len(waiting))]:
            self._random.shuffle(wanting)
            self._round(wanting, len(waiting))
        return cohort

    def _first_round(self, waiting: deque[_Record]) -> list[_Record]:
        cohort = self._cohort = []
        live: _Live = []
        with contextlib.ExitStack() as stack:
            while waiting and self._has_room(waiting[0], cohort):
                record = waiting.popleft()
                if self._race is not None and not self._race.may_start(record.case, len(cohort)):
                    continue
                cohort.append(record)
                live += self._load(cohort[-1], stack, len(waiting))
            self._sample(live, len(waiting))
        return self._crowded(cohort)

    def _round(self, records: list[_Record], waiting: int) -> None:
        live: _Live = []
        with contextlib.ExitStack() as stack:
            for record in records:
                live += self._load(record, stack, waiting)
            self._sample(live, waiting)
        self._crowded(records)

    def _crowded(self, records: list[_Record]) -> list[_Record]:
        """Mark those that failed for want of memory beside others: alone they may do."""
        lacking = [one for one in records if any(sign in (one.failure or "") for sign in _MEMORY_SIGNS)]
        for record in lacking:
            record.is_crowded_out = len(records) > 1
        if len(records) == 1:
            self._too_large += lacking
        return records

    def _has_room(self, record: _Record, cohort: list[_Record]) -> bool:
        """Whether another process may be started, by what the others hold and this one is likely to."""
        if not cohort:
            return True
        if record.is_alone or cohort[-1].is_alone:
            return False
        held = [other.figures.resident_bytes for other in cohort if other.failure is None]
        expected = float(max(held, default=_UNSEEN_BYTES))
        if self._expected_bytes is not None:
            expected = self._expected_bytes(record.case)
        return sum(held) + expected <= _ROOM * self._room_bytes

    def _load(self, record: _Record, stack: contextlib.ExitStack, waiting: int) -> _Live:
        """The case's process, warmed up; nothing where it failed, which is then noted, or must."""
        record.failure = self._hopeless(record.case)
        if record.failure is not None:
            return []
        began = self._clock()
        share = record.granted_s = self._share_s(waiting)
        record.spent_s.append(0.0)
        self._tell(f"{record.name}{self._told_process(record)}")
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
            ready = worker.ask(request, self._limits.timeout_s + share)
        except MeasurementError as error:
            self._fail(record, error)
            return []
        record.figures.add_load(ready)
        record.spent_s[-1] = ready["warm_up"]["seconds"]
        self._overheads.append(max(0.0, self._clock() - began - record.spent_s[-1]))
        return [(record, worker)]

    def _hopeless(self, case: Case) -> str | None:
        """Why the case needn't be tried: it is like one that lacked memory by itself, in larger batches."""
        for other in self._too_large:
            same = all(getattr(case, name) == getattr(other.case, name) for name in _SAME_BUT_BATCH)
            if same and case.batch_size > other.case.batch_size:
                return f"not tried: batches of {other.case.batch_size} failed by themselves, {other.failure}"
        return None

    def _told_process(self, record: _Record) -> str:
        number, asked = len(record.spent_s), self._limits.processes
        if self._limits.is_quick:
            return ""
        return f", process {number} of {asked}" if number <= asked else f", process {number}, to make sure"

    def _tell(self, text: str) -> None:
        """Unless the same was told a moment ago."""
        before, told_s = self._told
        if text != before or self._clock() - told_s >= _TELL_EVERY_S:
            self._told = text, self._clock()
            processes = self._limits.processes
            self._watcher(text, sum(record.behind(processes) for record in self._cohort))

    def _tell_round(self, sampled: Sequence[_Record]) -> None:
        name = sampled[0].name if len(sampled) == 1 else f"{len(sampled)} side by side"
        self._tell(f"{name}{self._told_process(sampled[0])}")

    def _fail(self, record: _Record, error: MeasurementError) -> None:
        number = len(record.spent_s)
        record.failure = error.message + (f" (process {number})" if number > 1 else "")

    def _sample(self, live: _Live, waiting: int) -> None:
        """Blocks of all in random order, until each has enough, or its time is spent, or it failed."""
        end = self._round_end(live, waiting)
        watch = _Watch(self._clock, self._cpu_clock)
        sampled = [record for record, _ in live]
        while live:
            for pair in self._random.sample(live, len(live)):
                record, worker = pair
                with watch.aside():
                    self._tell_round(sampled)
                try:
                    self._block(record, worker, [one.pid for _, one in live], watch)
                    if self._is_done(record, end):
                        self._finish(pair)
                        live.remove(pair)
                except MeasurementError as error:
                    self._fail(record, error)
                    worker.end()
                    live.remove(pair)
            live = self._still_in(live, sampled)
        for record in sampled:
            record.figures.harness_cpu.append(watch.share())

    def _finish(self, pair: tuple[_Record, Worker]) -> None:
        record, worker = pair
        record.figures.add_check(worker.ask({"command": "check"}, self._silence_s(record)))
        record.finished += 1
        worker.end()

    def _still_in(self, live: _Live, sampled: Sequence[_Record]) -> _Live:
        """Those of `live` that the race doesn't leave behind, whose processes end here."""
        if self._race is None:
            return live
        rivals = [record for record in sampled if record.failure is None and not record.is_behind]
        told = self._race.stay([(record.case, record.blocks()) for record in rivals])
        for record, stays in zip(rivals, told, strict=True):
            record.is_behind = not stays
        for pair in live:
            if pair[0].is_behind:
                try:
                    self._finish(pair)
                except MeasurementError as error:
                    self._fail(pair[0], error)
                    pair[1].end()
        return [pair for pair in live if not pair[0].is_behind]

    def _block(self, record: _Record, worker: Worker, pids: list[int], watch: _Watch) -> None:
        assert self._canary is not None
        with watch.aside():
            canary_s = self._canary()
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
        answer = worker.ask(request, self._silence_s(record))
        record.spent_s[-1] += self._clock() - began
        taken = self._energy.between(meter, self._energy.read())
        around = surroundings.between(before, self._look(pids))
        block = Block(
            process=len(record.spent_s) - 1,
            order=self._order,
            started_s=answer["started_s"],
            latencies=tuple(latency / 1e9 for latency in answer["latencies_ns"]),
            canary_s=canary_s,
            surroundings=around,
        )
        self._order += 1
        record.figures.add_block(block, answer, taken)

    # ---------------------------------------------------------------- time

    def _silence_s(self, record: _Record) -> float:
        """How long a block may take: as many calls as it has at least, each as long as the very first; or as
        long as a server's queries take to arrive."""
        limits, case = self._limits, record.case
        first_s: float = record.figures.loads[-1]["first_ns"] / 1e9
        if case.scenario == "server":
            least_rate = case.arrival_rate or case.batch_size / first_s / _SLOWEST
            return limits.timeout_s + 2 * _QUERIES * case.batch_size / least_rate
        return limits.timeout_s + limits.block_s + (limits.block_least + 1) * first_s

    def _share_s(self, waiting: int) -> float:
        """Seconds of warm-up and blocks for one process: its part of the case's, or of the time left."""
        share = self._limits.seconds / self._limits.processes
        if self._deadline is None:
            return share
        to_come = 1 + waiting * self._limits.processes
        left = self._deadline - self._clock() - self._overhead_s() * to_come
        return min(share, max(LEAST_S, left / to_come))

    def _round_end(self, live: _Live, waiting: int) -> float:
        """When this round must end for the rest to have its part of the time; never without a deadline."""
        if self._deadline is None:
            return float("inf")
        done = len(live[0][0].spent_s) if live else 0
        later = max(0, self._limits.processes - done) * len(live) + waiting * self._limits.processes
        now = self._clock()
        left = self._deadline - now - self._overhead_s() * later
        return now + max(0.0, left) * len(live) / max(1, len(live) + later)

    def _overhead_s(self) -> float:
        return sum(self._overheads) / len(self._overheads) if self._overheads else _OVERHEAD_S

    # ---------------------------------------------------------------- when to stop

    def _is_done(self, record: _Record, end: float) -> bool:
        """Whether the process under way has told what it can, or had its time."""
        limits, taken = self._limits, record.taken()
        if record.case.scenario == "server":
            return True  # a block is a whole run
        if is_enough(record.blocks(), limits) or taken >= limits.most_samples // limits.processes:
            return True
        spent = record.spent_s[-1] >= limits.seconds / limits.processes or self._clock() >= end
        return spent and taken >= limits.least_samples

    def _wants_more(self, record: _Record, waiting: int) -> bool:
        """Whether another process is to be measured: one of those asked for, or one that makes sure."""
        done = len(record.spent_s)
        if record.failure is not None:
            return False
        if done < self._limits.processes:
            return True
        if self._limits.is_quick or done >= 2 * self._limits.processes or self._is_sure(record):
            return False
        if record.case.scenario == "server":
            return False  # what one is sure of there is the share of late answers
        mean_s = sum(record.spent_s) / done
        if self._deadline is not None:
            cost = mean_s + self._overhead_s()
            return self._deadline - self._clock() >= cost * (1 + waiting * self._limits.processes)
        return sum(record.spent_s) + mean_s <= self._limits.seconds

    def _is_sure(self, record: _Record) -> bool:
        """Whether the interval over processes is narrow enough, of as many samples of each as were asked."""
        taken = [latencies(blocks) for blocks in by_process(record.figures.blocks)]
        if min(map(len, taken)) < self._limits.samples:
            return False
        return statistics.interval(record.figures.blocks).half_width <= self._limits.half_width

    def _stopped(self, record: _Record) -> Stopped:
        if self._is_sure(record):
            return "sure"
        if record.is_behind:
            return "left behind"
        full = self._limits.most_samples // self._limits.processes
        return "samples full" if record.taken() >= full else "budget spent"

    def _result(self, record: _Record) -> Result:
        if record.failure is not None:
            return results.failed(record.case, record.info, record.failure, system=self._system)
        record.figures.stopped, record.figures.seed = self._stopped(record), self._seed
        return results.measured(
            record.case, record.info, record.figures, system=self._system, quick=self._limits.is_quick
        )


def _alone(record: _Record) -> _Record:
    """The case once more, in a cohort of its own, with what happened to it beside others."""
    again = _Record(record.case, record.info, is_alone=True)
    again.figures.notes = (f"measured again by itself: beside others {record.failure}",)
    return again


class _Watch:
    """This process's own use of processors while others are measured, but for what is set aside."""

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
        """Of one core, over the time that wasn't set aside."""
        wall_s, cpu_s = self._wall_s + self._clock(), self._cpu_s + self._cpu_clock()
        return cpu_s / wall_s if wall_s > 0 else 0.0


# ------------------------------------------------------------------ one child


class _Child:
    """A worker process with pipes to all three ends. Raises MeasurementError where none can be started."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                _COMMAND,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": _import_path()},
                start_new_session=True,
            )
        except OSError as error:
            raise MeasurementError(f"no process could be started: {error}") from error
        self.pid = self._process.pid
        self._channel = _Channel(self._process)
        self._stage = "while loading"

    def ask(self, request: dict[str, Any], silence_s: float) -> dict[str, Any]:
        """The answer to `request`. Raises MeasurementError with the reason where none came."""
        self._channel.send(json.dumps(request))
        while True:
            event = self._event(silence_s)
            if event["event"] == "failed":
                raise MeasurementError(f"{self._stage}: {event['reason']}")
            self._stage = _STAGES.get(event["event"], self._stage)
            if event["event"] not in _ON_THE_WAY:
                return event

    def _event(self, silence_s: float) -> dict[str, Any]:
        try:
            event = self._channel.receive(silence_s)
        except TimeoutError:
            words = self._channel.last_words()
            raise MeasurementError(f"{self._stage}: hung for {silence_s:g} s{words}") from None
        if event is None:
            self._kill()
            words = self._channel.last_words()
            raise MeasurementError(f"{self._stage}: {_death(self._process.returncode)}{words}")
        return event

    def end(self) -> None:
        """Kill it with all its descendants, reap it and close the pipes. May be called again."""
        self._kill()
        self._channel.close()

    def _kill(self) -> None:
        """Until it is reaped the child keeps its number, so the signal can't meet another's group.

        A child that is dying already keeps the exit status that it has.
        """
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of the dead only
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _import_path() -> str:
    """This process's own, so that the child finds the same modules, and a builder in the user's folder."""
    return os.pathsep.join(os.path.abspath(entry) for entry in sys.path)


class _Channel:
    """The child's three pipes: the requests, its events, and the end of what it wrote to stderr."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self._request, self._events, self._stderr = child.stdin, child.stdout, child.stderr
        self._heard, self._tail = b"", b""
        self._selector = selectors.DefaultSelector()
        for pipe in (self._events, self._stderr):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)

    def send(self, request: str) -> None:
        """One line. A child that died can't read it, and tells why through `receive`."""
        with contextlib.suppress(BrokenPipeError):
            self._request.write(request.encode() + b"\n")

    def receive(self, silence_s: float) -> dict[str, Any] | None:
        """The next event, however long that takes within `silence_s`; None where the child has gone.

        Raises TimeoutError after that, and MeasurementError where what came is no event.
        """
        deadline = time.monotonic() + silence_s
        while b"\n" not in self._heard:
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            if not all([self._take(key.fileobj) for key, _ in ready]):
                return None
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            raise MeasurementError(f"the process sent {line[:80]!r}, which is no event") from None
        return event

    def _take(self, pipe: Any) -> bool:
        """Take in what `pipe` holds. False where it is the pipe of events and that has been closed."""
        chunk = os.read(pipe.fileno(), 65536)
        if pipe is self._stderr:
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        else:
            self._heard += chunk
        if not chunk:
            self._selector.unregister(pipe)
        return bool(chunk) or pipe is self._stderr

    def last_words(self) -> str:
        """The last line on stderr, ready to be appended to a reason."""
        with contextlib.suppress(BlockingIOError):  # A descendant may hold the pipe open: don't wait for it.
            while chunk := os.read(self._stderr.fileno(), 65536):
                self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), None)
        return "" if last is None else f'; its last line: "{last[:_LINE_LENGTH]}"'

    def close(self) -> None:
        self._selector.close()
        for pipe in (self._request, self._events, self._stderr):
            with contextlib.suppress(BrokenPipeError):  # a request that nobody read
                pipe.close()


def _death(returncode: int) -> str:
    if returncode == -signal.SIGKILL:
        return "killed (SIGKILL), as the system does when memory runs out"
    if returncode < 0:
        return f"crashed with signal {-returncode} ({signal.strsignal(-returncode)})"
    return f"ended with exit code {returncode} and no result"
