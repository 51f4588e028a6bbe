"""Repeated runs of one form: what is pooled, what is set aside, and which version counts."""

from __future__ import annotations

from typing import Any

import pytest

from vertebra.measurements import Measurement, spread
from vertebra.measurements.pooling import pool, stands
from vertebra.measurements.spread import Seen

OLD, NEW = {"onnxruntime": "1.31"}, {"onnxruntime": "1.32", "numpy": "2"}


def run(ms: float, grade: str = "B", day: int = 1, **more: Any) -> Measurement:
    columns: dict[str, Any] = {
        "low": 0.99 * ms / 1e3, "high": 1.01 * ms / 1e3, "versions": OLD, "run": f"{ms}-{day}-{grade}",
        "measured_at": f"2026-11-{day:02}T12:00:00+00:00", "model": "net", "engine": "onnxruntime", **more,
    }  # fmt: skip
    return Measurement(
        metric="latency", value=ms / 1e3, origin="benched", grade=grade, input_size=224, batch_size=1,
        precision="float32", device="cpu", threads=2, scenario="single-stream", system="here", **columns,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "middle_ms", "asides"),
    [
        ([run(8)], 8, 0),
        ([run(8), run(80, "C", 2)], 8, 1),  # one slower row of grade C changes nothing
        ([run(8, "C"), run(80, "C", 2)], 8, 1),
        ([run(8, "A"), run(80, "C", 2), run(81, "C", 2), run(82, "C", 2)], 8, 1),  # all of one day
        ([run(8), run(80, "C", 2), run(80, "C", 3), run(80, "C", 4)], 80, 1),  # three different days do
        ([run(8), run(80, "C", 2, versions=NEW)], 8, 1),
        ([run(8), run(80, "B", 2, versions=NEW)], 80, 0),  # and one of grade B under a newer engine
        ([run(8), run(8.1, "C", 2, versions=NEW)], 8.1, 0),  # the newest version counts where they agree
        ([run(80, "C"), run(8, "B", 2)], 8, 1),
        ([run(8, "B"), run(9.6, "C", 2), run(9.6, "C", 3)], None, 0),  # not far apart
    ],
)  # fmt: skip
def test_which_runs_count(runs: list[Measurement], middle_ms: float | None, asides: int):
    found = pool(runs)
    (row,) = found.rows
    if middle_ms is None:
        assert 0.008 < row.value < 0.0096
    else:
        assert row.value == pytest.approx(middle_ms / 1e3)
    assert len(found.aside) == asides


def test_what_is_set_aside_is_named_with_its_size():
    (aside,) = pool([run(8), run(104, "C", 2)]).aside
    assert aside.why == (
        "net on onnxruntime: 104 ms of 2026-11-02, grade C is 13 times as slow as the other run (8.00 ms); "
        "left out until an independent run agrees"
    )


def test_two_good_runs_that_contradict_each_other_leave_an_interval_over_both():
    found = pool([run(8), run(80, "B", 2)])
    (row,) = found.rows
    assert row.low < 0.008 < 0.08 < row.high
    assert not found.aside
    assert row.grade_reasons[-1] == "2 groups of runs contradict each other; the interval spans them"


def test_runs_that_agree_are_pooled_and_their_interval_narrows():
    one, two = pool([run(8)]).rows[0], pool([run(8), run(8.2, "C", 2)]).rows[0]
    assert 0.008 < two.value < 0.0082
    assert two.high / two.low < one.high / one.low
    assert (two.grade, two.grade_reasons) == ("B", ("pooled from 2 runs of 2 days",))


def test_a_run_that_others_disturbed_counts_only_where_no_quiet_one_does():
    noisy = run(8.4, day=2)
    seen = {noisy.run: Seen(1, 8, 0.5)}
    assert pool([run(8), noisy], seen).rows[0].value == 0.008
    alone = pool([noisy], seen).rows[0]
    assert alone.low < 0.0084 / 3  # a quiet machine may be that much faster


def test_a_run_on_processors_far_apart_counts_only_where_no_near_one_does():
    near, far = run(8), run(8.4, day=2)
    seen = {near.run: Seen(1, 8, handover=2e-5), far.run: Seen(1, 8, handover=3e-5)}
    assert pool([near, far], seen).rows[0].value == 0.008
    assert pool([far], seen).rows[0].low > 0.0084 / 1.5  # nothing to compare it with


def test_forms_and_other_rows_stay_apart_and_in_order():
    memory = Measurement(
        model="net", metric="memory_total", value=1e8, origin="benched", system="here", device="cpu",
        engine="onnxruntime", precision="float32", batch_size=1, threads=2, input_size=224,
        scenario="single-stream",
    )  # fmt: skip
    rows = pool([run(8), memory, run(9, engine="openvino"), run(8, day=2)]).rows
    assert [(row.metric, row.engine) for row in rows] == [
        ("latency", "onnxruntime"), ("memory_total", "onnxruntime"), ("latency", "openvino"),
    ]  # fmt: skip
    assert rows[1] is memory


def test_too_few_samples_make_no_interval():
    assert pool([run(8, "C", low=None, high=None)]).rows[0].low is None


@pytest.mark.parametrize(
    ("row", "expected"),
    [(run(8, "A"), True), (run(8), True), (run(8, "C"), False),
     (pool([run(8, "C"), run(8.1, "C", 2)]).rows[0], True),
     (pool([run(8, "C"), run(8.1, "C")]).rows[0], False)],
)  # fmt: skip
def test_a_row_of_grade_c_stands_by_itself_once_another_day_agrees(row: Measurement, expected: bool):
    assert stands(row) is expected


def test_a_tables_own_repeats_widen_or_narrow_the_interval():
    def width(factor: float) -> float:
        others = [run(10 * factor**place, day=1 + place, model=f"other{number}")
                  for number in range(12) for place in (0, 1, 2)]  # fmt: skip
        row = pool([run(8), *others]).rows[0]
        return row.high / row.low

    assert width(1.001) < pool([run(8)]).rows[0].high / pool([run(8)]).rows[0].low < width(1.12)


def test_an_interval_reaches_what_the_prior_says():
    known = spread.prior()
    low, high = spread.survey_interval(run(8, low=0.008, high=0.008), Seen(3, 30))
    variance = 2 * (known.times**2 + known.processes**2 / 3 + known.blocks**2 / 30)
    reach = spread.student(known.freedom) * variance**0.5
    assert (low, high) == (
        pytest.approx(0.008 * 2.718281828**-reach),
        pytest.approx(0.008 * 2.718281828**reach),
    )
