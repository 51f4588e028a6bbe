"""Benchmarking: exact figures from a fake clock through the whole of it, and its real child processes."""

from __future__ import annotations

import gc
import mmap
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import faulty_engine
from faulty_engine import case_with
from vertebra import engines
from vertebra.data.preprocess import protocols
from vertebra.engines import Settings, Subject
from vertebra.errors import InvalidInputError, MeasurementError, UnknownNameError
from vertebra.measurements import blocks
from vertebra.measurements.blocks import Block, Surroundings
from vertebra.measuring.benchmarking import (
    Case,
    Limits,
    Result,
    budget,
    child,
    memory,
    runner,
    timing,
    worker,
)
from vertebra.measuring.benchmarking.record import Record
from vertebra.measuring.benchmarking.surroundings import Reading
from vertebra.measuring.benchmarking.timing import WarmUp
from vertebra.progress import Listener, Progress, silent

HERE = Path(__file__).parent
MILLISECOND = 1_000_000
QUICK = Limits.quick(seconds=1.0, warm_up_least_s=0.01, least_s=0.01, block_s=0.02, timeout_s=60.0)


class FakeClock:
    """Nanoseconds that pass only when somebody spends them."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def spend(self, milliseconds: float) -> None:
        self.now_ns += round(milliseconds * MILLISECOND)


def takes(clock: FakeClock, milliseconds: Sequence[float]) -> Callable[[], None]:
    """A call that takes each of `milliseconds` in turn, over and over."""
    turn = cycle(milliseconds)
    return lambda: clock.spend(next(turn))


# The timed loop.


def test_a_steady_network_is_warm_after_the_least_time() -> None:
    clock = FakeClock()
    # Windows of 10 runs make 0.1 s each; 0.5 s are the least.
    assert timing.warm_up(takes(clock, [10]), Limits(), clock) == WarmUp(runs=50, seconds=0.5, settled=True)


def test_a_slow_network_gets_ten_runs() -> None:
    clock = FakeClock()
    assert timing.warm_up(takes(clock, [200]), Limits(), clock) == WarmUp(runs=10, seconds=2.0, settled=True)


def test_warm_up_goes_on_while_windows_disagree() -> None:
    clock = FakeClock()
    slow_start = [100.0] * 5 + [50.0] * 5 + [20.0] * 5 + [10.0] * 1000
    # Windows: 5 x 100 ms, 5 x 50, 5 x 20, then ten of 10 ms each. The last four show no trend when the
    # windows of 20 ms and of 50 ms have left them.
    warmed = timing.warm_up(takes(clock, slow_start), Limits(), clock)
    assert warmed.settled
    assert warmed.runs > 15 + 20
    assert warmed.seconds == pytest.approx(0.85 + (warmed.runs - 15) * 0.01)


def test_a_slide_too_slow_for_two_windows_keeps_warm_up_going_to_its_bound() -> None:
    clock = FakeClock()
    # 0.9 % slower every 0.1 s: neighbouring windows agree, four together don't.
    warmed = timing.warm_up(lambda: clock.spend(10 * 1.009 ** (clock() / 1e8)), Limits(), clock)
    assert not warmed.settled
    assert 10.0 <= warmed.seconds < 10.3


def test_warm_up_ends_where_its_time_does() -> None:
    clock = FakeClock()
    warmed = timing.warm_up(takes(clock, [700]), Limits(), clock, most_s=2.0)
    assert warmed == WarmUp(3, 2.1, settled=False)


def block_of(milliseconds: Sequence[float], **asked: Any) -> tuple[int, list[int]]:
    """What one block gives of a network that takes each of `milliseconds` in turn."""
    clock = FakeClock()
    asked = {"run_in_s": 0.02, "seconds": 0.25, "least": 3, "most": 2000, **asked}
    return timing.take_block(takes(clock, milliseconds), clock, **asked)


def test_a_block_lasts_its_time_after_calls_that_are_not_timed() -> None:
    assert block_of([11, 9, *[10] * 100]) == (2, [10 * MILLISECOND] * 25)  # 20 ms are run in


def test_a_block_of_a_slow_network_has_its_fewest_samples_after_one_call() -> None:
    assert block_of([900, 500, 600, 700, 800]) == (
        1,
        [500 * MILLISECOND, 600 * MILLISECOND, 700 * MILLISECOND],
    )


def test_a_block_of_a_fast_network_has_its_most_samples() -> None:
    run_in, taken = block_of([0.01], most=50)
    assert (run_in, taken) == (2000, [10_000] * 50)


def test_what_is_done_after_each_timed_call_is_not_in_its_time() -> None:
    clock, asked = FakeClock(), []

    def ask() -> None:
        asked.append(clock())
        clock.spend(50)

    _, taken = timing.take_block(
        takes(clock, [10]), clock, run_in_s=0.0, seconds=0.1, least=1, most=9, afterwards=ask
    )
    assert taken == [10 * MILLISECOND] * 3  # 10 + 50 + 10 + 50 + 10 ms, and then the 100 ms are over
    assert len(asked) == len(taken)


def blocks_of(*latencies_s: Sequence[float]) -> list[Block]:
    return [Block(process=0, order=order, started_s=0.0, latencies=tuple(one))
            for order, one in enumerate(latencies_s)]  # fmt: skip


def test_a_process_has_told_enough_with_64_samples_over_the_least_time_in_a_narrow_interval() -> None:
    limits = Limits(least_s=2.0)
    assert timing.is_enough(blocks_of(*[[0.02] * 13] * 8), limits)  # 104 samples over 2.08 s
    assert not timing.is_enough(blocks_of(*[[0.02] * 13] * 7), limits)  # over 1.82 s
    assert not timing.is_enough(blocks_of(*[[0.1] * 7] * 9), limits)  # 63 samples
    apart = [[0.02] * 13, [0.03] * 13] * 4
    assert not timing.is_enough(blocks_of(*apart), limits)


@pytest.mark.parametrize(
    ("blocks", "others", "is_enough"),
    [(4, 0.0, False), (5, 0.0, True), (5, 0.4, False), (20, 0.4, False)],
)  # fmt: skip
def test_a_brief_process_has_told_enough_when_an_independent_survey_could_be_no_nearer(
    blocks: int, others: float, is_enough: bool
) -> None:
    limits = Limits.quick().brief()
    around = Surroundings(wall_s=0.25, others_cpu=others)
    taken = [replace(one, surroundings=around) for one in blocks_of(*[[0.1, 0.101]] * blocks)]
    assert timing.is_enough(taken, limits) == is_enough
    uneven = blocks_of(*[[0.1, 0.4]] * 5)
    assert not timing.is_enough(uneven, limits)


# The whole of a case, with a fake clock and a fake session.


class FakeSession(engines.Session):
    """Takes each of `milliseconds` in turn; of those the first is the first inference's."""

    def __init__(self, clock: FakeClock, milliseconds: Sequence[float]) -> None:
        self._spend = takes(clock, milliseconds)

    def prepare(self, images: Any) -> Any:
        return images

    def infer(self, prepared: Any) -> Any:
        self._spend()
        return np.zeros((len(prepared), 10), dtype=np.float32)

    def outputs(self, raw: Any) -> Any:
        return raw

    def effective(self) -> dict[str, Any]:
        return {"threads": None, "provider": "FakeProvider", "layout": "NHWC", "version": "1.0"}

    def close(self) -> None:
        """Nothing is held."""


class HereWorker:
    """A worker in this process, on the fake clock."""

    pid = os.getpid()

    def __init__(self, clock: FakeClock) -> None:
        self._answers: list[dict[str, Any]] = []
        self._server = worker.Server(self._hear, clock, lambda: 0, lambda: None)

    def _hear(self, event: str, **values: Any) -> None:
        self._answers.append({"event": event, **values})

    def ask(self, request: dict[str, Any], silence_s: float) -> dict[str, Any]:
        self._server.obey(request)
        return self._answers[-1]

    def end(self) -> None:
        gc.enable()  # a worker switches it off for good


class Laboratory:
    """The whole pipeline but for the processes: fake engines on one fake clock.

    `milliseconds` maps an engine to what its calls take in each process, `load_s` is what loading takes, and
    `harness_share` what the measuring process uses of a core.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        milliseconds: dict[str, Sequence[Sequence[float]]],
        load_s: float = 2.0,
        harness_share: float = 0.0,
    ) -> None:
        self.clock, self.canaries, self.harness_share = FakeClock(), 0, harness_share
        self.cases = []
        for name, processes in milliseconds.items():
            module = types.ModuleType(f"fake_{name}")
            turn = cycle(processes)

            def load(subject: Subject, settings: Settings, turn: Any = turn) -> FakeSession:
                self.clock.spend(1000 * load_s)
                return FakeSession(self.clock, next(turn))

            module.load = load  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, f"fake_{name}", module)
            info = replace(engines.find("null"), name=name, module=f"fake_{name}")
            monkeypatch.setitem(engines.ENGINES, name, info)
            self.cases.append(
                Case(model="m", engine=name, subject=Subject("m", builder="a:b"), input_size=8, batch_size=4,
                     num_classes=10, threads=2)
            )  # fmt: skip

    def _seconds(self) -> float:
        return self.clock() / 1e9

    def _canary(self) -> float:
        self.canaries += 1
        self.clock.spend(5)
        return 0.005

    def measure(
        self, limits: Limits, *, seed: int = 0, deadline: float | None = None, room_bytes: float = 1e12,
        progress: Listener = silent, race: runner.Race | None = None, end: float | None = None,
        start: Callable[[], Any] | None = None,
    ) -> list[Result]:  # fmt: skip
        bench = runner._Bench(
            limits, system="this-machine", seed=seed, room_bytes=room_bytes, deadline=deadline, race=race,
            start=start or (lambda: HereWorker(self.clock)), end=end, clock=self._seconds,
            canary=self._canary,
            cpu_clock=lambda: self.harness_share * self._seconds(),
            look=lambda pids: Reading(at_s=self._seconds()), progress=progress,
        )  # fmt: skip
        records = [Record(case, engines.find(case.engine)) for case in self.cases]
        return list(bench.run(records))


#: Calls of one process: the first inference of 80 ms, 2 more for the memory, 50 of warm-up (0.5 s), and then
#: block after block: 2 calls (20 ms) that aren't timed, and 20 samples of 10 ms and 3 of 20 ms (0.26 s).
COLD = [80.0] + [10.0] * 52
BLOCK = [10.0] * 22 + [20.0] * 3
PROCESS = COLD + BLOCK * 100


def test_a_fake_clock_gives_the_figures_worked_out_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = Laboratory(monkeypatch, {"fake": [PROCESS]}).measure(Limits())
    rows = {row.metric: row for row in result.rows}
    assert result.failure is None
    # 8 blocks of a process are 2.08 s, 7 are 1.82 s, and 2 s are the least.
    assert result.samples["latency"] == pytest.approx(([0.01] * 20 + [0.02] * 3) * 8 * 3)
    assert result.samples["latency.process"] == [0.0] * 8 + [1.0] * 8 + [2.0] * 8
    assert result.samples["canary.together"] == [0.005] * 24
    assert {metric: rows[metric].value for metric in rows if not metric.startswith("memory")} == {
        "latency": 0.01,
        "latency_p90": 0.02,  # the 497th of 552, of which 480 are short
        "throughput": 400.0,  # 4 images in 10 ms
        "load_time": 2.0,
        "first_inference": 0.08,
    }  # no 99th percentile: it takes 662 samples
    assert (rows["latency"].low, rows["latency"].high, rows["latency"].samples) == (0.01, 0.01, 552)
    assert (rows["throughput"].low, rows["throughput"].high) == (400.0, 400.0)
    assert (rows["load_time"].samples, rows["load_time"].grade) == (3, "A")
    assert all(row.grade for row in result.rows)


class HangingWorker(HereWorker):
    """Does its work until it is asked for `fault`: then it says nothing for as long as anybody waits."""

    def __init__(self, clock: FakeClock, fault: str, told: list[str]) -> None:
        super().__init__(clock)
        self._clock, self._fault, self._told, self._is_over = clock, fault, told, False

    def ask(self, request: dict[str, Any], silence_s: float) -> dict[str, Any]:
        if request["command"] == self._fault:
            self._told.append(f"{self._fault} hangs")
            self._clock.spend(1000 * silence_s)
            raise MeasurementError(f"hung for {silence_s:g} s")
        self._told.append(request["command"])
        return super().ask(request, silence_s)

    def end(self) -> None:
        if not self._is_over:
            self._told.append("ended")
        self._is_over = True
        super().end()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("load", ["load hangs", "ended"]),
        ("block", ["load", "block hangs", "ended"]),
        ("check", ["load", *["block"] * 2, "check hangs", "ended"]),
    ],
)
def test_a_case_that_hangs_is_ended_with_the_time_for_all_and_has_no_row(
    monkeypatch: pytest.MonkeyPatch, fault: str, told: list[str]
) -> None:
    laboratory = Laboratory(monkeypatch, {"one": [PROCESS], "two": [PROCESS]})
    seen: list[str] = []
    start = partial(HangingWorker, laboratory.clock, fault, seen)
    limits = Limits.quick(seconds=0.6)
    assert laboratory.measure(limits, deadline=30.0, end=30.0, room_bytes=1, start=start) == []
    assert seen == told  # the second case, which had to wait for the first, isn't begun
    assert laboratory.clock() / 1e9 == pytest.approx(30.0 + budget.OVERRUN_S)


def test_what_can_not_be_finished_in_time_is_not_begun_and_what_was_measured_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    laboratory = Laboratory(monkeypatch, {name: [PROCESS] for name in ("one", "two", "three")})
    found = laboratory.measure(Limits.quick(seconds=2.0), deadline=9.0, end=9.0, room_bytes=1)
    assert [result.rows[0].engine for result in found] == ["one", "two"]
    assert laboratory.clock() / 1e9 < 9.0 + budget.OVERRUN_S


def test_a_case_with_a_finished_process_keeps_it_where_the_next_one_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    laboratory = Laboratory(monkeypatch, {"one": [PROCESS]})
    faults = iter(["none", "block"])
    (result,) = laboratory.measure(
        Limits(seconds=6.0), deadline=60.0, end=60.0,
        start=lambda: HangingWorker(laboratory.clock, next(faults), []),
    )  # fmt: skip
    assert result.failure is None
    assert set(result.samples["latency.process"]) == {0.0}


def test_progress_in_a_group_grows_round_by_round_and_block_by_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Progress] = []
    laboratory = Laboratory(monkeypatch, {"one": [PROCESS], "two": [PROCESS]})
    laboratory.measure(Limits(seconds=3.0), progress=seen.append)
    assert {(event.total, event.unit) for event in seen} == {(2, "cases")}
    texts = list(dict.fromkeys(event.text for event in seen))
    assert texts[:3] == [
        "m on one, process 1 of 3", "m on two, process 1 of 3", "2 cases side by side, process 1 of 3",
    ]  # fmt: skip
    assert texts[-1] == "2 cases side by side, process 3 of 3"
    shares = [event.done for event in seen]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    # Of 1 s each, 34 calls of 10 ms were the warm-up, which may take a third.
    assert seen[2].text == "2 cases side by side, process 1 of 3"
    assert seen[2].done == pytest.approx(2 * 0.34 / 3)
    third = [event.done for event in seen if "process 3 of 3" in event.text]
    assert third[0] == pytest.approx(2 * 2 / 3)  # two rounds of both are finished
    assert 2 * 2 / 3 < third[-1] <= 2.0


def test_a_case_that_failed_is_done_and_one_to_be_measured_again_is_not() -> None:
    record = Record(case_with("none"), engines.find("null"), granted_s=10.0)
    assert record.done(3) == 0.0
    record.spent_s, record.finished = [9.0, 5.0], 1
    assert record.done(3) == pytest.approx(1.5 / 3)
    record.failure = "out of memory"
    assert record.done(3) == 1.0
    record.is_crowded_out = True
    assert record.done(3) == 0.0


class OnlyOne:
    """A race that `first` wins after two turns, and in which `absent` never starts."""

    def __init__(self) -> None:
        self.seen: list[dict[str, int]] = []

    def may_start(self, case: Case, running: int) -> bool:
        return case.engine != "absent"

    def stay(self, rivals: Sequence[tuple[Case, Sequence[Block]]]) -> list[bool]:
        self.seen.append({case.engine: len(blocks) for case, blocks in rivals})
        return [len(blocks) < 2 or case.engine == "first" for case, blocks in rivals]


def test_what_a_race_leaves_behind_keeps_its_figure_and_gets_no_more_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    race = OnlyOne()
    laboratory = Laboratory(monkeypatch, {"first": [PROCESS], "second": [PROCESS]})
    first, second = laboratory.measure(Limits.quick(), race=race)
    assert [len(result.samples["latency.count"]) for result in (first, second)] == [3, 2]
    assert race.seen == [{"first": 1, "second": 1}, {"first": 2, "second": 2}, {"first": 3}]
    latency = next(row for row in second.rows if row.metric == "latency")
    assert latency.value == 0.01
    assert "46 samples of 64: too slow to win" in latency.grade_reasons


def test_a_case_that_a_race_never_lets_start_gives_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory = Laboratory(monkeypatch, {"absent": [PROCESS], "first": [PROCESS]})
    (result,) = laboratory.measure(Limits.quick(), race=OnlyOne())
    assert result.case.engine == "first"


def test_cold_figures_are_the_median_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = [[first, *PROCESS[1:]] for first in (70.0, 500.0, 90.0)]
    (result,) = Laboratory(monkeypatch, {"fake": processes}).measure(Limits())
    first = next(row for row in result.rows if row.metric == "first_inference")
    assert (first.value, first.grade) == (0.09, "C")
    assert first.grade_reasons == ("3 processes 477.8 % apart",)


def test_the_median_of_processes_counts_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # The median of all samples would be 10 ms, of which the fast process gives the most.
    processes = [COLD + [10.0] * 10**4, COLD + [12.5] * 10**4, COLD + [15.0] * 10**4]
    limits = Limits(seconds=9.0)
    (result,) = Laboratory(monkeypatch, {"fake": processes}).measure(limits)
    rows = {row.metric: row for row in result.rows}
    assert rows["latency"].value == 0.0125
    assert (rows["latency"].low, rows["latency"].high) == (0.01, 0.015)
    assert (rows["throughput"].low, rows["throughput"].high) == (pytest.approx(4 / 0.015), 400.0)
    assert rows["latency"].grade == "C"


def test_further_processes_are_measured_while_they_disagree_and_there_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes = [COLD + [10.0] * 10**4, COLD + [11.0] * 10**4]
    told = {}
    for seconds in (9.0, 18.0, 60.0):
        (result,) = Laboratory(monkeypatch, {"fake": processes}).measure(Limits(seconds=seconds))
        told[seconds] = 1 + int(max(result.samples["latency.process"]))
    assert told == {9.0: 3, 18.0: 6, 60.0: 6}  # about 2.7 s each, and never more than twice as many


def test_the_quick_mode_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = Laboratory(monkeypatch, {"fake": [PROCESS]}).measure(Limits.quick())
    assert set(result.samples["latency.process"]) == {0.0}
    assert len(result.samples["latency"]) == 69  # three blocks: 0.78 s and 64 samples are asked for
    latency = result.rows[0]
    assert latency.grade == "B"


def test_sampling_ends_when_the_time_is_spent_and_the_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    uneven = COLD + [8.0, 12.0, 9.0, 11.0, 25.0, 5.0, 5.0] * 10**4
    (result,) = Laboratory(monkeypatch, {"fake": [uneven]}).measure(Limits.quick(seconds=1.5))
    assert 0.9 < sum(result.samples["latency"]) < 1.3
    slow = [200.0] * 10**4
    (result,) = Laboratory(monkeypatch, {"fake": [slow]}).measure(Limits.quick(seconds=4.0))
    assert "of 64: budget spent" in "; ".join(result.rows[0].grade_reasons)
    assert 6 <= len(result.samples["latency"]) < 64


def test_a_brief_measurement_ends_after_five_even_blocks_and_the_row_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (result,) = Laboratory(monkeypatch, {"fake": [[200.0]]}).measure(Limits.quick(seconds=60.0).brief())
    assert len(result.samples["latency"]) == 10  # five blocks of two
    assert "10 samples of 64: enough for a survey" in result.rows[0].grade_reasons
    assert result.rows[0].grade == "B"


def test_even_without_time_there_are_enough_samples_for_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits.quick(seconds=0.5)
    (result,) = Laboratory(monkeypatch, {"fake": [[900.0]]}).measure(limits)
    assert result.samples["latency"] == [0.9] * 6


def test_samples_are_never_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits.quick(most_samples=1000)
    (result,) = Laboratory(monkeypatch, {"fake": [[0.01]]}).measure(limits)
    assert len(result.samples["latency"]) == 1000


def test_blocks_of_cases_are_interleaved_in_a_random_order_that_the_seed_repeats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def order(seed: int) -> list[str]:
        laboratory = Laboratory(monkeypatch, {name: [PROCESS] for name in "abc"})
        results = laboratory.measure(Limits(), seed=seed)
        assert laboratory.canaries == 3 * 8 * 3  # one before each block
        places = {
            place: result.case.engine for result in results for place in result.samples["latency.block"]
        }
        return [places[place] for place in sorted(places)]

    first = order(0)
    assert len(first) == 3 * 8 * 3
    for start in range(0, len(first), 3):  # one block of each, before any gets its next
        assert sorted(first[start : start + 3]) == ["a", "b", "c"]
    assert first == order(0)
    assert first != order(1)
    assert len({tuple(first[start : start + 3]) for start in range(0, len(first), 3)}) > 1


def test_the_time_that_a_fast_case_leaves_goes_to_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory = Laboratory(monkeypatch, {"fast": [PROCESS], "slow": [[300.0]]}, load_s=1.0)
    fast, slow = laboratory.measure(Limits.quick(), deadline=30.0)
    assert laboratory.clock() / 1e9 == pytest.approx(30.0, abs=1.5)
    assert sum(fast.samples["latency"]) < 1.0
    assert sum(slow.samples["latency"]) > 15.0


def test_cases_that_do_not_fit_the_memory_together_are_cohorts_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def first_round(room_bytes: float) -> set[float]:
        laboratory = Laboratory(monkeypatch, {name: [PROCESS] for name in "ab"})
        last = laboratory.measure(Limits(), room_bytes=room_bytes)[-1]
        return set(last.samples["latency.block"])

    assert min(first_round(1e12)) < 2  # side by side
    assert min(first_round(1e6)) == 24  # after the other's three processes of eight blocks


def test_the_blocks_can_be_told_from_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = Laboratory(monkeypatch, {"fake": [PROCESS]}).measure(Limits())
    stored = blocks.unpack(result.samples)
    assert [len(block.latencies) for block in stored] == [23] * 24
    assert [block.process for block in stored] == [0] * 8 + [1] * 8 + [2] * 8
    assert all(block.surroundings is not None for block in stored)


def test_every_row_can_be_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = Laboratory(monkeypatch, {"fake": [[10.0]]}).measure(Limits.quick())
    for row in result.rows:
        assert row.conditions() == {
            "input_size": 8, "batch_size": 4, "precision": "float32", "engine": "fake",
            "provider": "FakeProvider", "device": "cpu", "layout": "NHWC", "threads": 2,
            "scenario": "single-stream", "system": "this-machine",
        }  # fmt: skip
        assert row.origin == "benched"
        assert row.measured_at is not None
        assert {"vertebra", "python", "numpy"} <= set(row.versions)


def test_a_figure_without_a_reference_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = Laboratory(monkeypatch, {"fake": [[10.0]]}).measure(Limits())
    assert result.rows[0].grade == "B"
    assert "outputs not compared: no reference" in result.rows[0].grade_reasons
    assert "output_error" not in {row.metric for row in result.rows}


@pytest.mark.parametrize(("share", "grade"), [(0.04, "B"), (0.1, "B"), (0.3, "C")])
def test_a_harness_that_is_busy_itself_is_told(
    monkeypatch: pytest.MonkeyPatch, share: float, grade: str
) -> None:
    laboratory = Laboratory(monkeypatch, {"fake": [PROCESS]}, harness_share=share)
    (result,) = laboratory.measure(Limits())
    assert result.samples["harness.cpu"] == pytest.approx([share] * 3)
    assert result.rows[0].grade == grade  # without a reference it is a B at best
    told = f"the measuring process used {100 * share:.0f} % of a core"
    assert (told in result.rows[0].grade_reasons) == (share > 0.05)


def test_the_device_s_own_time_is_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSession, "device_latency_s", lambda self: 0.004)
    (result,) = Laboratory(monkeypatch, {"fake": [PROCESS]}).measure(Limits())
    rows = {row.metric: row for row in result.rows}
    assert (rows["device_latency"].value, rows["device_latency"].samples) == (0.004, 552)
    assert rows["latency"].value == 0.01


def test_an_offline_load_tells_what_its_streams_served(monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory = Laboratory(monkeypatch, {"fake": [[10.0]]})
    laboratory.cases = [replace(laboratory.cases[0], scenario="offline")]
    (result,) = laboratory.measure(Limits())
    rows = {row.metric: row for row in result.rows}
    assert rows["throughput"].value == pytest.approx(400.0)  # batches of 4 in 10 ms
    assert rows["throughput"].samples == 3 * 8  # blocks
    assert (rows["latency"].scenario, rows["latency"].streams, rows["latency"].threads) == ("offline", 1, 2)


def test_a_latency_shorter_than_the_machine_can_do_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory = Laboratory(monkeypatch, {"fake": [[10.0]]})
    laboratory.cases = [replace(laboratory.cases[0], operations=1e18)]
    (result,) = laboratory.measure(Limits.quick())
    assert str(result.failure).startswith("implausible: latency of 10.0 ms")
    assert [row.metric for row in result.rows] == ["failure"]


# Plans.


def test_a_case_and_its_limits_survive_json() -> None:
    case = Case(
        model="m", engine="null", subject=Subject("m", builder="a:b", arguments={"depth": 18}), input_size=64,
        batch_size=2, weights="m.in1k", reference="/some/where",
    )  # fmt: skip
    assert Case.from_json(case.to_json()) == case
    assert Limits.from_json(QUICK.to_json()) == QUICK


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="batch_size is 0"):
        Case(model="m", engine="null", subject=Subject("m", builder="a:b"), input_size=64, batch_size=0)
    with pytest.raises(InvalidInputError, match="seconds is 0"):
        Limits(seconds=0)
    with pytest.raises(InvalidInputError, match="at most 20 are taken"):
        Limits(most_samples=20)


# Memory.


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets a process's peak")
def test_the_peak_is_the_most_held_since_it_was_reset() -> None:
    megabyte = 1_000_000
    hold(200 * megabyte).close()
    if not memory.reset_peak():
        pytest.skip("this kernel does not let a process reset its peak")
    before = memory.peak_bytes()
    assert abs(before - memory.resident_bytes()) < 20 * megabyte
    block = hold(100 * megabyte)
    assert 90 * megabyte < memory.resident_bytes() - before < 120 * megabyte
    block.close()
    assert 90 * megabyte < memory.peak_bytes() - before < 120 * megabyte


def hold(size_bytes: int) -> mmap.mmap:
    """Memory straight from the kernel, touched: an allocator might hand out what it kept."""
    block = mmap.mmap(-1, size_bytes)
    for page in range(0, size_bytes, mmap.PAGESIZE):
        block[page] = 1
    return block


# Child processes.


@pytest.fixture
def reference(tmp_path: Path) -> str:
    return faulty_engine.write_reference(tmp_path / "reference")


def measure_with(
    fault: str, reference: str | None = None, limits: Limits = QUICK, **arguments: Any
) -> Result:
    case = case_with(fault, reference, **arguments)
    result = runner.measure(case, limits, system="this-machine", engine=faulty_engine.INFO)
    assert psutil.Process().children() == []
    return result


def test_a_case_in_a_child_gives_figures_and_is_compared(reference: str) -> None:
    result = measure_with("none", reference)
    rows = {row.metric: row for row in result.rows}
    assert result.failure is None
    assert set(rows) >= {
        "latency", "latency_p90", "throughput", "load_time", "first_inference", "memory_total", "memory_net",
        "output_error",
    }  # fmt: skip
    assert rows["output_error"].value == 0.0
    assert rows["latency"].value == pytest.approx(float(np.median(result.samples["latency"])))
    assert rows["latency"].samples == len(result.samples["latency"]) >= 64
    assert "outputs not compared: no reference" not in rows["latency"].grade_reasons
    assert rows["memory_total"].value > rows["memory_net"].value
    assert rows["throughput"].value == pytest.approx(2 / rows["latency"].value)


def test_a_server_tells_late_answers_and_the_greatest_rate(reference: str) -> None:
    server = replace(case_with("none", reference), scenario="server", latency_bound_s=5.0)
    cases = [replace(server, arrival_rate=4000.0), server]
    at_rate, searched = runner.measure_all(cases, QUICK, system="here", engine=faulty_engine.INFO)
    assert (at_rate.failure, searched.failure) == (None, None)
    rows = {row.metric: row for row in at_rate.rows}
    assert rows["missed_deadlines"].value <= 1 / 662
    assert rows["latency_p99"].samples == 662
    assert (rows["latency"].arrival_rate, rows["latency"].protocol) == (4000.0, "p99 within 5000 ms")
    assert {row.metric for row in searched.rows} >= {"sustained_rate", "load_time"}
    assert "latency" not in {row.metric for row in searched.rows}


def test_a_server_that_cannot_keep_up_is_a_failure_with_its_reason() -> None:
    case = replace(case_with("slow"), scenario="server", latency_bound_s=0.001, arrival_rate=2000.0)
    (result,) = runner.measure_all([case], QUICK, system="here", engine=faulty_engine.INFO)
    assert "while timing: 2000 images/s can't keep p99 within 1 ms" in str(result.failure)


def test_from_the_encoded_picture_the_whole_way_is_timed_beside_the_inference() -> None:
    record = asdict(protocols.torchvision(10, 8))
    case = replace(case_with("none"), batch_size=1, preprocess=record)
    (result,) = runner.measure_all([case], QUICK, system="here", engine=faulty_engine.INFO)
    assert result.failure is None
    rows = {row.metric: row.value for row in result.rows}
    assert rows["end_to_end_latency"] > rows["preprocess_latency"] > 0
    assert rows["end_to_end_latency"] > rows["latency"]
    assert len(result.samples["end_to_end_latency"]) == len(result.samples["preprocess_latency"])


def test_the_null_engine_is_measured_through_the_whole_of_it() -> None:
    case = Case(model="m", engine="null", subject=Subject("m", builder="a:b"), input_size=8)
    result = runner.measure(case, QUICK, system="this-machine")
    assert result.failure is None
    assert {row.engine for row in result.rows} == {"null"}


FAILURES = {
    "segfault": 'before timing: crashed with signal 11 (Segmentation fault); its last line: "about to touch '
    'address 0"',
    "abort": "before timing: crashed with signal 6 (Aborted)",
    "exit": 'while loading: ended with exit code 3 and no result; its last line: "giving up"',
    "no memory": "while loading: out of memory",
    "no memory in words": "while loading: out of memory: DefaultCPUAllocator: can't allocate memory",
    "nan": "before timing: Wrong outputs: they contain values that are not finite",
    "half the batch": "before timing: Wrong outputs: shape (1, 10), but (2, 10) was expected",
    "wrong": "before timing: Wrong outputs: they differ from the reference by",
    "a little wrong": "before timing: Wrong outputs: they differ from the reference by",
    "one image wrong": "before timing: Wrong outputs: they differ from the reference by",
    "wrong later": "while timing: Wrong outputs: they differ from the reference by",
    "other threads": "while loading: faulty runs with threads 7, though 1 was asked for",
}


@pytest.mark.parametrize("fault", FAILURES)
def test_a_failure_is_a_row_that_tells_why(fault: str, reference: str) -> None:
    result = measure_with(fault, reference)
    assert result.failure is not None
    assert result.failure.startswith(FAILURES[fault])
    assert [(row.metric, row.value, row.grade_reasons) for row in result.rows] == [
        ("failure", 1.0, (result.failure,))
    ]
    assert result.samples == {}


def test_nan_and_a_wrong_shape_are_noticed_without_a_reference() -> None:
    assert "not finite" in str(measure_with("nan").failure)
    assert "shape (1, 10)" in str(measure_with("half the batch").failure)


@pytest.mark.parametrize(("fault", "stage"), [("hang in load", "while loading"), ("hang", "before timing")])
def test_a_hang_is_ended_and_recorded(fault: str, stage: str) -> None:
    failure = measure_with(fault, limits=replace(QUICK, seconds=1.0, timeout_s=4.0)).failure
    assert str(failure).startswith(f"{stage}: hung for 5 s")


def test_what_a_runtime_prints_disturbs_nothing(reference: str) -> None:
    for fault in ("garbage", "flood"):
        result = measure_with(fault, reference)
        assert result.failure is None
        assert result.rows[0].metric == "latency"


def test_a_reference_of_another_size_is_refused(reference: str) -> None:
    case = replace(case_with("none", reference), input_size=16)
    result = runner.measure(case, QUICK, system="this-machine", engine=faulty_engine.INFO)
    assert "is for input_size 8, not 16" in str(result.failure)


def test_an_unknown_engine_starts_no_process() -> None:
    with pytest.raises(UnknownNameError, match="onnxruntim"):
        runner.measure(replace(case_with("none"), engine="onnxruntim"), QUICK, system="this-machine")


def test_a_child_that_cannot_start_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_COMMAND", ("/no/such/python",))
    assert "no process could be started" in str(measure_with("none").failure)
    monkeypatch.setattr(child, "_COMMAND", (sys.executable, "-c", "raise SystemExit('not today')"))
    failure = str(measure_with("none").failure)
    assert failure == 'while loading: ended with exit code 1 and no result; its last line: "not today"'


def test_a_child_killed_at_any_moment_is_a_result() -> None:
    generator = random.Random(4)
    reasons = set()
    for _ in range(5):
        killer = threading.Thread(target=_kill_the_child_after, args=(generator.uniform(0.0, 1.5),))
        killer.start()
        result = measure_with("none", limits=replace(QUICK, seconds=20.0, least_s=20.0, most_samples=10**6))
        killer.join()
        reasons.add(str(result.failure).split(": ")[-1])
        assert [row.metric for row in result.rows] == ["failure"]
    assert reasons == {"killed (SIGKILL), as the system does when memory runs out"}


def _kill_the_child_after(seconds: float) -> None:
    while not (children := psutil.Process().children()):
        time.sleep(0.005)
    time.sleep(seconds)
    children[0].kill()


def test_descendants_of_a_child_go_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    assert measure_with("a child", pid_file=str(pid_file)).failure is None
    worker_pid, grandchild = map(int, pid_file.read_text().split())
    assert_gone(worker_pid)
    assert_gone(grandchild)


def test_what_hangs_is_killed_with_all_that_it_started_when_the_time_is_up(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    end = time.monotonic() + 2
    found = runner.measure_all(
        [case_with("a child and a hang", pid_file=str(pid_file))], QUICK, system="this-machine",
        engine=faulty_engine.INFO, deadline=end, end=end,
    )  # fmt: skip
    assert list(found) == []
    for pid in map(int, pid_file.read_text().split()):
        assert_gone(pid)


def assert_gone(pid: int) -> None:
    """Wait for the end of a process that has been told to end."""
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


@pytest.fixture
def hanging_parent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that measures a case which hangs while loading, and the id of the child that hangs."""
    pid_file = tmp_path / "pids"
    program = f"""
        import faulty_engine
        from vertebra.measuring.benchmarking import Case, Limits, measure
        from vertebra.engines import Subject

        arguments = {{"fault": "hang in load", "pid_file": {str(pid_file)!r}}}
        case = Case(
            model="m", engine="faulty", subject=Subject("m", builder="a:b", arguments=arguments), input_size=8
        )
        try:
            measure(case, Limits(), system="this-machine", engine=faulty_engine.INFO)
        except KeyboardInterrupt:
            import psutil
            print("interrupted", len(psutil.Process().children()), flush=True)
            raise
    """
    path = os.pathsep.join([str(HERE), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with parent:
        try:
            while not pid_file.exists():
                assert parent.poll() is None
                time.sleep(0.02)
            yield parent, int(pid_file.read_text())
        finally:
            parent.kill()


def test_a_child_does_not_outlive_a_killed_parent(hanging_parent: tuple[subprocess.Popen[str], int]) -> None:
    parent, child = hanging_parent
    assert psutil.pid_exists(child)
    parent.kill()
    assert_gone(child)


def test_ctrl_c_ends_the_child_and_goes_on_up(hanging_parent: tuple[subprocess.Popen[str], int]) -> None:
    parent, child = hanging_parent
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    out, _ = parent.communicate(timeout=60)
    assert out == "interrupted 0\n"
    assert parent.returncode == -signal.SIGINT
    assert not psutil.pid_exists(child)


def test_a_worker_without_a_request_ends() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "vertebra.measuring.benchmarking.worker"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout == b""


def test_junk_on_the_private_channel_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_COMMAND", (sys.executable, "-c", "print('hello')"))
    assert measure_with("none").failure == "the process sent b'hello', which is not a JSON object"


# Real engines.

SMALL_NETWORK = """
import torch
from torch import nn

def build(seed):
    torch.manual_seed(seed)
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(8, 10))
"""


@pytest.fixture(scope="module")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Subject]]:
    """A Bundle of a small network, and the builder that it was exported from."""
    for package in ("torch", "onnx", "onnxscript"):
        pytest.importorskip(package)
    from vertebra.exporting import export

    folder = tmp_path_factory.mktemp("small")
    (folder / "small_network.py").write_text(SMALL_NETWORK)
    subject = Subject("small", builder="small_network:build", arguments={"seed": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        export(subject, folder / "bundle", input_size=32)
        yield folder / "bundle", subject


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino"])
def test_a_real_engine_is_measured_and_compared(engine: str, small_network: tuple[Path, Subject]) -> None:
    reason = engines.missing(engine)
    if reason is not None:
        pytest.skip(reason)
    folder, builder = small_network
    subject = builder if engine == "eager" else Subject("small", bundle=str(folder))
    case = Case(
        model="small",
        engine=engine,
        subject=subject,
        input_size=32,
        batch_size=3,
        num_classes=10,
        reference=str(folder),
    )
    result = runner.measure(case, QUICK, system="this-machine")
    assert result.failure is None
    rows = {row.metric: row for row in result.rows}
    assert 0.0 <= rows["output_error"].value <= 1e-4
    assert rows["latency"].threads == 1
    assert set(engines.find(engine).distributions) & set(rows["latency"].versions)
    assert rows["memory_total"].value > rows["memory_net"].value
    files = [folder / name for name in ("model.onnx", "model.onnx.data") if (folder / name).exists()]
    if engine != "eager":
        assert rows["file_bytes"].value == sum(file.stat().st_size for file in files)


def test_another_network_than_the_reference_gives_no_latency(small_network: tuple[Path, Subject]) -> None:
    folder, builder = small_network
    other = replace(builder, arguments={"seed": 4})
    case = Case(
        model="small", engine="eager", subject=other, input_size=32, num_classes=10, reference=str(folder)
    )
    result = runner.measure(case, QUICK, system="this-machine")
    assert "Wrong outputs" in str(result.failure)
    assert [row.metric for row in result.rows] == ["failure"]


def test_a_reason_names_the_kind_of_an_unforeseen_error() -> None:
    assert worker._reason(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"
    assert worker._reason(SystemExit()) == "SystemExit"
    assert worker._reason(MeasurementError("Bad.", "do better")) == "Bad. do better"
