"""The canary: the same work each time, on as many cores as are used, and nothing left behind."""

from __future__ import annotations

import os
import threading
import time

import pytest

from vertebra.measuring.benchmarking import canary as canary_module
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


def test_each_thread_stays_on_a_processor_of_its_own() -> None:
    processors = canary_module._processors()
    with Canary(len(processors)) as canary:
        kept = [pool.submit(os.sched_getaffinity, 0).result() for pool in canary._pools]
    assert kept == [{one} for one in processors]
    assert os.sched_getaffinity(0) == set(processors)


def test_with_fewer_threads_than_processors_none_is_kept_anywhere(monkeypatch) -> None:
    monkeypatch.setattr(canary_module, "_processors", lambda: [0, 1, 2])
    with Canary(2) as canary:
        assert canary.run() > 0
        assert canary.handover() is None


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor hands nothing over")
def test_a_handover_is_the_time_of_a_read_after_anothers_write() -> None:
    with Canary(len(os.sched_getaffinity(0)), clock=StepClock()) as canary:
        assert canary.handover() == 0.007
        canary._handed[:] = 0.0
        canary.handover()
        assert (canary._handed == 1.0).all()


def test_one_processor_hands_nothing_over(monkeypatch) -> None:
    monkeypatch.setattr(canary_module, "_processors", lambda: sorted(os.sched_getaffinity(0))[:1])
    with Canary(1) as canary:
        assert canary.handover() is None
