"""The canary: the same work each time, on as many cores as are used, and nothing left behind."""

from __future__ import annotations

import threading
import time

from vertebra.measuring.benchmarking.canary import Canary


class StepClock:
    """Nanoseconds that pass only between two looks: 7 ms from one to the next."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += 7_000_000
        return self.now_ns


def canary_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("canary")]


def test_a_run_takes_what_the_clock_says_between_its_start_and_its_end() -> None:
    with Canary(1, clock=StepClock()) as canary:
        assert canary.run() == 0.007


def test_a_run_takes_real_time() -> None:
    with Canary(1) as canary:
        assert canary.run() > 0


def test_there_is_a_thread_for_each_core_and_none_afterwards() -> None:
    with Canary(3) as canary:
        canary.run()
        assert len(canary_threads()) == 3
    assert canary_threads() == []


def test_between_runs_its_threads_sleep() -> None:
    with Canary(2) as canary:
        canary.run()
        before = time.process_time()
        time.sleep(0.2)
        assert time.process_time() - before < 0.1


def test_work_that_fails_is_not_taken_for_a_time(monkeypatch) -> None:
    with Canary(1) as canary:

        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr(canary, "_work", fail)
        try:
            canary.run()
        except MemoryError:
            return
    raise AssertionError("the failure was swallowed")
