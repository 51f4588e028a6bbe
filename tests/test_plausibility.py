"""Gates: what can't be true is told with its numbers, and what can isn't stopped."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from vertebra.errors import MeasurementError
from vertebra.machine import system
from vertebra.machine.system import Gpu, System
from vertebra.measurements import Measurement
from vertebra.measurements.statistics import Interval
from vertebra.measuring.benchmarking import plausibility
from vertebra.measuring.benchmarking.plausibility import Ceiling

#: A network of 4e9 operations in 20 ms on a machine of 1e12 operations a second and 8 GB.
LIMITS = Ceiling(memory_bytes=8 * 10**9, operations_rate=1e12)
FIGURES = {
    "latency": 0.02,
    "latency_p90": 0.022,
    "latency_p99": 0.03,
    "throughput": 50.0,
    "memory_total": 3e8,
}


def refuse(figures: dict[str, float], limits: Ceiling = LIMITS, **more: Any) -> None:
    plausibility.refuse(figures, limits, **{"batch_size": 1, "operations": 4e9, **more})


def test_ordinary_figures_pass():
    refuse(FIGURES)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"memory_total": 360_508e6}, ["361 GB", "8.00 GB"]),  # a figure that a harness has published
        ({"latency": 0.003, "latency_p90": 0.004, "throughput": 333.3}, ["3.00 ms", "4.00 G", "4.00 ms"]),
        ({"throughput": 64 * 50.0}, ["3200/s", "64 images in progress, not 1"]),
        ({"latency_p99": 0.021}, ["latency_p99 of 21.0 ms below latency_p90 of 22.0 ms"]),
        ({"memory_total": -1.0}, ["memory_total is -1"]),
        ({"latency": math.nan}, ["latency is nan"]),
    ],
)
def test_what_cannot_be_is_refused_with_its_numbers(changed, told):
    with pytest.raises(MeasurementError, match="implausible") as caught:
        refuse({**FIGURES, **changed})
    assert all(text in caught.value.message for text in told)


def test_every_contradiction_is_told_at_once():
    with pytest.raises(MeasurementError) as caught:
        refuse({**FIGURES, "memory_total": 9e9, "throughput": 100.0})
    assert caught.value.message.count(";") == 1


@pytest.mark.parametrize("limits", [Ceiling(), Ceiling(memory_bytes=8 * 10**9)])
def test_what_is_not_known_of_a_machine_stops_nothing(limits):
    refuse({**FIGURES, "latency": 1e-9, "throughput": 1e9}, limits)


def test_an_engine_that_does_nothing_may_take_no_time():
    refuse({"latency": 1e-7, "throughput": 1e7}, operations=None)


def test_a_batch_is_held_against_its_whole_work():
    refuse({"latency": 0.3, "throughput": 64 / 0.3}, batch_size=64)
    with pytest.raises(MeasurementError, match="256 G operations"):
        refuse({"latency": 0.2, "throughput": 64 / 0.2}, batch_size=64)


def test_several_streams_have_several_batches_under_way():
    # Four streams: throughput is of all, latency of one; medians and means may differ.
    refuse({"latency": 0.02, "throughput": 170.0}, streams=4)
    with pytest.raises(MeasurementError, match="not 4"):
        refuse({"latency": 0.02, "throughput": 50.0}, streams=4)


# The machine's ceiling.


@pytest.fixture
def machine() -> System:
    return dataclasses.replace(
        system.describe(), logical_cores=8, features=("avx2", "fma"), memory_bytes=16 * 10**9,
        gpus=(Gpu("Card", 24 * 10**9, "1.0"),),
    )  # fmt: skip


def test_without_a_measured_rate_a_processors_is_that_of_all_its_units(machine: System):
    told = plausibility.ceiling(machine)
    assert told == Ceiling(16 * 10**9, 8 * 6e9 * 32 * 4)


def test_wider_units_and_narrower_numbers_raise_the_ceiling(machine: System):
    wide = dataclasses.replace(machine, features=("avx2", "avx512f"))
    assert plausibility.ceiling(wide).operations_rate == 2 * plausibility.ceiling(machine).operations_rate
    assert plausibility.ceiling(machine, precision="int8").operations_rate == 64 * 8 * 6e9 * 32 * 4


def test_a_measured_rate_gives_a_closer_ceiling(machine: System):
    assert plausibility.ceiling(machine, measured_rate=1e11) == Ceiling(16 * 10**9, 8e11)


def test_a_cards_ceiling_is_its_own_memory_and_no_invented_rate(machine: System):
    assert plausibility.ceiling(machine, device="cuda") == Ceiling(24 * 10**9, None)
    bare = dataclasses.replace(machine, gpus=())
    assert plausibility.ceiling(bare, device="cuda") == Ceiling(None, None)


# The time of a batch by its size.


def interval(median: float, half: float = 0.0) -> Interval:
    return Interval(median, median - half, median + half)


def test_a_larger_batch_that_is_done_sooner_is_told_with_both_times():
    (told,) = plausibility.batch_times({4: interval(0.04), 1: interval(0.01), 8: interval(0.03)})
    assert "batch of 8 took 30.0 ms" in told
    assert "4, which took 40.0 ms" in told


@pytest.mark.parametrize(
    "times",
    [
        {},
        {1: interval(0.01)},
        {1: interval(0.01), 2: interval(0.01), 4: interval(0.02)},
        {1: interval(0.010, 0.001), 2: interval(0.0085, 0.0006)},  # the intervals overlap
        {1: interval(0.0100), 2: interval(0.0099)},  # one per cent is noise
        {1: Interval(0.010, None, None), 2: Interval(0.0099, None, None)},
    ],
)
def test_times_that_grow_or_nearly_contradict_nothing(times):
    assert plausibility.batch_times(times) == []


def row(metric: str = "latency", value: float = 0.01, batch_size: int = 1, **more: Any) -> Measurement:
    conditions = {"model": "net", "engine": "e", "device": "cpu", "precision": "float32", "input_size": 224}
    return Measurement(
        **{**conditions, "metric": metric, "value": value, "origin": "benched", "system": "box",
           "batch_size": batch_size, "grade": "B", "grade_reasons": ("one process",), **more}
    )  # fmt: skip


def test_a_case_that_contradicts_another_batch_is_graded_c_with_the_reason():
    case = [row(value=0.03, batch_size=8), row("throughput", 8 / 0.03, 8), row("memory_total", 1e8, 8)]
    told = plausibility.against_other_batches(case, [row(value=0.04, batch_size=4)])
    assert [one.grade for one in told] == ["C", "C", "B"]
    assert "batch of 8 took 30.0 ms" in told[0].grade_reasons[0]
    assert told[0].grade_reasons[1:] == ("one process",)
    assert [one.value for one in told] == [one.value for one in case]


@pytest.mark.parametrize(
    "other",
    [
        {"value": 0.02, "batch_size": 4},
        {"value": 0.04, "batch_size": 4, "engine": "other"},
        {"value": 0.04, "batch_size": 4, "model": "other"},
        {"value": 0.04, "batch_size": 4, "threads": 2},
        {"value": 0.04, "batch_size": 4, "metric": "first_inference"},
        {"value": 0.04, "batch_size": 8},
    ],
)
def test_only_the_same_case_at_another_batch_size_contradicts(other):
    case = [row(value=0.03, batch_size=8)]
    assert plausibility.against_other_batches(case, [row(**other)]) == case


def test_a_case_without_a_latency_is_left_as_it_is():
    case = [row("failure", 1.0, grade=None, grade_reasons=("crashed",))]
    assert plausibility.against_other_batches(case, [row(value=9.0, batch_size=8)]) == case
