"""What an independent survey of the same machine would find."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from vertebra.measurements import Measurement, Table, spread, statistics
from vertebra.measurements.blocks import Block, Surroundings, pack
from vertebra.measurements.spread import Seen
from vertebra.measuring.benchmarking import grading


def block(order: int, others: float, steal: float = 0.0, process: int = 0) -> Block:
    return Block(process=process, order=order, started_s=float(order), latencies=(0.01, 0.011),
                 surroundings=Surroundings(wall_s=0.25, others_cpu=others, steal=steal))  # fmt: skip


BLOCKS = [block(0, 0.0), block(1, 0.4, 0.1, 1), block(2, 0.6, 0.0, 1)]


def row(*reasons: str, low: float | None = 0.009, high: float | None = 0.011) -> Measurement:
    return Measurement(
        model="net", metric="latency", value=0.01, low=low, high=high, origin="benched", grade="C",
        grade_reasons=reasons, engine="onnxruntime", device="cpu", precision="float32", batch_size=1,
        threads=1, input_size=224, scenario="single-stream", system="here",
    )  # fmt: skip


@pytest.mark.parametrize("freedom", [8, 24, 100])
def test_the_point_of_students_distribution_is_right(freedom: float):
    assert spread.student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)


def test_what_the_blocks_say_is_the_same_from_samples_and_from_a_table(tmp_path):
    table = Table(tmp_path / "t.sqlite")
    run = table.append([row()], samples=pack(BLOCKS))
    assert spread.seen_of(BLOCKS) == Seen(2, 3, 0.5)
    assert spread.seen(table.store, [run]) == {run: Seen(2, 3, 0.5)}
    assert spread.seen(table.store, []) == {}


def test_the_middle_handover_of_a_run_is_the_same_from_samples_and_from_a_table(tmp_path):
    table = Table(tmp_path / "t.sqlite")
    blocks = [
        replace(one, handover_s=seconds) for one, seconds in zip(BLOCKS, (2e-5, None, 4e-5), strict=True)
    ]
    run = table.append([row()], samples=pack(blocks))
    assert spread.seen_of(blocks).handover == pytest.approx(3e-5)
    assert spread.seen(table.store, [run])[run].handover == pytest.approx(3e-5)


def test_a_run_on_processors_that_share_no_cache_may_be_that_much_slower():
    rows = [replace(row(), run=name, system=system) for name, system in (
        ("near", "here"), ("far", "here"), ("old", "here"), ("there", "elsewhere"))]  # fmt: skip
    seen = {
        "near": Seen(handover=2e-5),
        "far": Seen(handover=3e-5),
        "old": Seen(),
        "there": Seen(handover=9e-5),
    }
    found = spread.compared(rows, seen)
    assert {name: round(one.apart, 9) for name, one in found.items()} == {
        "near": 0.0, "far": 0.5, "old": 0.0, "there": 0.0,
    }  # fmt: skip
    assert spread.slowed(found["far"]) == math.log(spread.prior().far) > 0
    assert spread.slowed(found["near"]) == spread.slowed(found["there"]) == 0
    low, _ = spread.survey_interval(rows[1], found["far"])
    assert low < 0.01 / spread.prior().far


@pytest.mark.parametrize(
    ("reasons", "processes", "others"),
    [((), 1, 0.0), (("3 processes 2.0 % apart (σ 1.0 % between them, 2.0 % within)",), 3, 0.0),
     (("others took 87 % of the processors",), 1, 0.87),
     (("one process", "others took 50 % of the processors in 9 of 10 blocks"), 1, 0.5),
     (("others took 50 % of the processors in 2 of 16 blocks; the quiet ones are 10.0 % faster",), 1, 0.0)],
)  # fmt: skip
def test_without_samples_the_grade_tells(reasons: tuple[str, ...], processes: int, others: float):
    found = spread.seen_in(row(*reasons))
    assert (found.processes, found.others) == (processes, others)


def test_the_words_of_a_grade_today_are_understood():
    blocks = [block(order, 0.5) for order in range(10)]
    reasons = tuple(sign.text for sign in grading._of_disturbances(blocks))
    assert spread.seen_in(row(*reasons)).others == 0.5


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01 * math.exp(-0.196), 0.01 * math.exp(0.196), 0.1), (0.01, 0.01, 0.0), (None, None, 0.3)],
)  # fmt: skip
def test_a_rows_own_deviation(low: float | None, high: float | None, expected: float):
    assert spread.own_deviation(row(low=low, high=high)) == pytest.approx(expected, rel=1e-3, abs=1e-12)


def test_more_processes_more_blocks_and_quiet_surroundings_narrow_the_interval():
    def width(seen: Seen) -> float:
        low, high = spread.survey_interval(row(), seen)
        return high / low

    assert width(Seen(3, 24)) < width(Seen(1, 24)) < width(Seen(1, 3)) < width(Seen(1, 3, 0.5))
    assert width(Seen(1, 24, 0.1)) == width(Seen(1, 24, 0.0))  # the system's own housekeeping


@pytest.mark.parametrize("blocks", [2, 5, 30])
def test_the_half_width_of_blocks_is_that_of_their_row(blocks: int):
    every = [replace(block(order, 0.0), latencies=(0.0098, 0.01, 0.0102)) for order in range(blocks)]
    found = statistics.interval(every)
    low, high = spread.survey_interval(
        replace(row(), value=found.median, low=found.low, high=found.high), spread.seen_of(every)
    )
    assert spread.half_width(every) == pytest.approx(math.log(high / low) / 2)
    assert spread.half_width([replace(one, latencies=(0.01,)) for one in every[:2]]) == math.inf
