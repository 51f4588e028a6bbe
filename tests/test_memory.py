"""Memory's parts: exact from given moments, and seen in this very process where the kernel tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.machine import system
from vertebra.measuring.benchmarking import memory
from vertebra.measuring.benchmarking.memory import Meter, Parts
from vertebra.metrics import METRICS

MB = 2**20


def test_the_parts_are_the_differences_between_moments():
    told = memory.parts(100 * MB, 180 * MB, 181 * MB, kept=200 * MB, peak=240 * MB)
    assert told == Parts(baseline=100 * MB, weights=80 * MB, activations=60 * MB, workspace=19 * MB)
    assert (told.total, told.net) == (240 * MB, 140 * MB)


def test_an_engine_that_gives_back_after_loading_has_no_negative_part():
    # Loading held 300 MB for a moment; running peaks at 250.
    told = memory.parts(100 * MB, 300 * MB, 220 * MB, kept=210 * MB, peak=250 * MB)
    assert told == Parts(baseline=100 * MB, weights=150 * MB, activations=0, workspace=0)


@given(*[st.integers(0, 2**40)] * 5)
def test_the_parts_always_add_up_to_the_peak(runtime, loaded, ready, kept, peak):
    told = memory.parts(runtime, loaded, ready, kept=kept, peak=peak)
    assert min(told.baseline, told.weights, told.activations, told.workspace) >= 0
    assert told.total == told.baseline + told.weights + told.activations == max(peak, kept, runtime)
    assert told.workspace <= told.activations


def test_parts_cross_to_another_process_as_plain_data():
    told = memory.parts(1, 2, 3, kept=4, peak=9, was_reset=False, device=(5, 7), allocator={"allocated": 3})
    assert Parts.from_dict(told.to_dict()) == told


def test_figures_of_a_processor_are_metrics():
    told = memory.parts(100, 180, 181, kept=200, peak=240).figures()
    assert told == {
        "memory_baseline": 100.0, "memory_weights": 80.0, "memory_activations": 60.0,
        "memory_workspace": 19.0, "memory_total": 240.0, "memory_net": 140.0,
    }  # fmt: skip
    assert set(told) <= set(METRICS)


def test_figures_of_a_card_are_the_cards_and_the_allocators():
    held = {"allocated": 30, "reserved": 50, "something of its own": 1}
    told = memory.parts(100, 180, 181, kept=200, peak=240, device=(400, 900), allocator=held)
    assert told.figures("cuda") == {
        "memory_total": 900.0, "memory_net": 500.0, "memory_allocated": 30.0, "memory_reserved": 50.0,
    }  # fmt: skip
    assert set(told.figures("cuda")) <= set(METRICS)


def test_a_card_whose_driver_tells_nothing_has_no_total():
    told = memory.parts(100, 180, 181, kept=200, peak=240, allocator={"allocated": 30})
    assert told.figures("cuda") == {"memory_allocated": 30.0}


def test_a_peak_that_could_not_be_reset_says_so():
    assert memory.parts(1, 2, 3, kept=4, peak=9).reasons() == ()
    assert "can't reset" in memory.parts(1, 2, 3, kept=4, peak=9, was_reset=False).reasons()[0]


# The kernel's own figures.


def measure_in_a_fresh_process(body: str) -> dict[str, int]:
    program = (
        "import mmap, json\nfrom vertebra.measuring.benchmarking.memory import Meter\nmeter = Meter()\n"
        + body
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told: dict[str, int] = json.loads(done.stdout)
    return told


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_what_is_held_kept_and_given_back_is_found_in_its_part():
    told = measure_in_a_fresh_process(
        "def hold(mb):\n"
        "    block = mmap.mmap(-1, mb << 20)\n"
        "    for at in range(0, mb << 20, 4096):\n"
        "        block[at] = 1\n"
        "    return block\n"
        "meter.runtime()\n"
        "passing = hold(150)\n"  # what loading needs for a moment and gives back
        "passing.close()\n"
        "weights = hold(64)\n"
        "meter.loaded()\n"
        "meter.ready()\n"
        "work = hold(32)\n"
        "for _ in range(3):\n"
        "    activations = hold(48)\n"
        "    activations.close()\n"
        "print(json.dumps(meter.ran().to_dict()))\n"
    )
    near = pytest.approx
    if not told["was_reset"]:
        pytest.skip("this kernel doesn't let a process reset its peak")
    assert told["weights"] == near(64 * MB, abs=4 * MB)
    assert told["activations"] == near((32 + 48) * MB, abs=4 * MB)
    assert told["workspace"] == near(32 * MB, abs=4 * MB)


def test_without_linux_a_process_tells_its_peak_so_far(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    assert memory.resident_bytes() == memory.peak_bytes() > MB
    assert memory.reset_peak() is False


# NVIDIA's cards, by a driver of our own making.


class NoDriver(Exception):
    pass


def driver(processes: list[list[tuple[int, int | None]]], error: Exception | None = None) -> Any:
    def init() -> None:
        if error is not None:
            raise error

    def running(card: int) -> list[Any]:
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in processes[card]]

    return types.SimpleNamespace(
        NVMLError=NoDriver, nvmlInit=init, nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(processes), nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetComputeRunningProcesses=running,
    )  # fmt: skip


def test_a_cards_memory_is_this_processs_on_all_cards(monkeypatch):
    me = os.getpid()
    monkeypatch.setitem(sys.modules, "pynvml", driver([[(me, 5 * MB), (me + 1, 9 * MB)], [(me, 2 * MB)]]))
    assert memory.device_bytes() == 7 * MB


@pytest.mark.parametrize("processes", [[], [[]], [[(1, 9 * MB)]], [[(os.getpid(), None)]]])
def test_a_driver_that_does_not_know_this_process_tells_nothing(monkeypatch, processes):
    monkeypatch.setitem(sys.modules, "pynvml", driver(processes))
    monkeypatch.setattr(system, "query_nvidia", lambda *_: [])
    assert memory.device_bytes() is None


def test_without_the_library_the_program_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", driver([], NoDriver()))
    lines = [[str(os.getpid()), "300"], ["1", "9000"], [str(os.getpid()), "[N/A]"]]
    monkeypatch.setattr(system, "query_nvidia", lambda *_: lines)
    assert memory.device_bytes() == 300 * MB


def test_a_processor_is_not_asked_for_a_card(monkeypatch):
    monkeypatch.setattr(memory, "device_bytes", lambda: pytest.fail("asked"))
    meter = Meter("cpu")
    meter.runtime()
    meter.loaded()
    meter.ready()
    assert meter.ran().device_total is None


def test_a_cards_baseline_is_taken_before_loading(monkeypatch):
    told = iter([400, 900])
    monkeypatch.setattr(memory, "device_bytes", lambda: next(told))
    meter = Meter("cuda")
    meter.runtime()
    meter.loaded()
    meter.ready()
    figures = meter.ran({"reserved": 450}).figures("cuda")
    assert figures == {"memory_total": 900.0, "memory_net": 500.0, "memory_reserved": 450.0}
