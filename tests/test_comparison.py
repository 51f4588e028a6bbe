"""Two sides of a table: what is compared with what, when a difference is reported, how the command ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, Rows, Table
from vertebra.measurements.blocks import Block, pack
from vertebra.reading.comparison import Comparison

HERE: dict[str, Any] = {
    "system": "here", "device": "cpu", "precision": "float32", "batch_size": 1, "input_size": 224,
    "threads": 2, "scenario": "single-stream", "measured_at": "2026-11-01T10:00:00+00:00",
}  # fmt: skip


def row(value: float, metric: str = "latency", model: str = "alexnet", engine: str = "onnxruntime",
        **more: Any) -> Measurement:  # fmt: skip
    return Measurement(model=model, metric=metric, value=value, origin="benched", engine=engine,
                       **{**HERE, **more})  # fmt: skip


def sure(value: float, within: float = 0.005, **more: Any) -> Measurement:
    return row(value, low=value * (1 - within), high=value * (1 + within), grade="A", **more)


def blocks(latency_s: float, *, second: bool = False, day: int = 0) -> list[Block]:
    """Three processes with six blocks each, between which another case's fit."""
    return [
        Block(
            process=process, order=12 * process + 2 * place + second,
            started_s=86_400.0 * day + 12 * process + 2 * place + second,
            latencies=tuple(latency_s * (1 + 0.001 * sample) for sample in range(5)),
        )
        for process in range(3) for place in range(6)
    ]  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "table.sqlite")


def verdicts(compared: list[Comparison]) -> dict[str, str]:
    return {one.metric: one.verdict for one in compared}


def only(compared: list[Comparison]) -> Comparison:
    (one,) = compared
    return one


def both(table: Table, first: Measurement, second: Measurement) -> Comparison:
    """Two engines' rows, compared."""
    table.append([first])
    table.append([replace(second, engine="openvino")])
    return only(vertebra.compare("@onnxruntime", "@openvino", table=table))


# What a difference is.


def test_interleaved_blocks_are_compared_in_pairs(table: Table) -> None:
    table.append([sure(0.010)], samples=pack(blocks(0.010)))
    table.append([sure(0.0104, engine="openvino")], samples=pack(blocks(0.0104, second=True)))
    found = only(vertebra.compare("@onnxruntime", "@openvino", table=table))
    assert found.paired
    assert found.verdict == "worse"
    assert found.ratio == pytest.approx(1.04)
    assert found.low is not None
    assert 1.01 < found.low < 1.04


def test_throughput_is_the_other_way_round_than_its_latencies(table: Table) -> None:
    table.append([sure(100, metric="throughput")], samples=pack(blocks(0.010)))
    table.append(
        [sure(80, metric="throughput", engine="openvino")], samples=pack(blocks(0.0125, second=True))
    )
    found = only(vertebra.compare("@onnxruntime", "@openvino", table=table))
    assert found.verdict == "worse"
    assert found.ratio == pytest.approx(0.8)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.8 < found.high < 1


def test_blocks_of_two_days_say_that_they_are_not_paired(table: Table) -> None:
    table.append([sure(0.010)], samples=pack(blocks(0.010)))
    table.append([sure(0.01035, engine="openvino")], samples=pack(blocks(0.01035, day=3)))
    found = only(vertebra.compare("@onnxruntime", "@openvino", table=table))
    assert (found.paired, found.verdict) == (False, "no detectable difference")
    assert "measured at separate times" in found.notes


def test_the_machines_own_floor_is_minded(table: Table) -> None:
    table.append([Measurement(model="machine", metric="aa_floor", value=0.08, origin="benched", **{
        **HERE, "engine": "eager"})])  # fmt: skip
    table.append([sure(0.010)], samples=pack(blocks(0.010)))
    table.append([sure(0.0104, engine="openvino")], samples=pack(blocks(0.0104, second=True)))
    assert (
        only(vertebra.compare("@onnxruntime", "@openvino", table=table)).verdict == "no detectable difference"
    )


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.0102, "no detectable difference"), (0.0125, "worse"), (0.0080, "better")]
)
def test_without_blocks_intervals_decide(table: Table, value: float, verdict: str) -> None:
    found = both(table, sure(0.010), sure(value))
    assert (found.verdict, found.paired) == (verdict, False)
    assert found.line()["ratio"] == f"{value / 0.010:.3f}"


@pytest.mark.parametrize(("second", "verdict"), [(0.72, "better"), (0.703, "no detectable difference")])
def test_accuracies_have_no_floor_and_are_judged_by_their_intervals(
    table: Table, second: float, verdict: str
) -> None:
    told = {"metric": "top1", "origin": "evaluated", "dataset": "imagenet-1k", "split": "val",
            "precision": "float32"}  # fmt: skip
    table.append([Measurement(model="alexnet", engine=engine, value=value, low=value - 0.004,
                              high=value + 0.004, **told)  # type: ignore[arg-type]
                  for engine, value in (("onnxruntime", 0.70), ("openvino", second))])  # fmt: skip
    assert only(vertebra.compare("@onnxruntime", "@openvino", table=table)).verdict == verdict


def test_a_wide_interval_shows_no_difference(table: Table) -> None:
    assert both(table, sure(0.010), sure(0.0125, within=0.3)).verdict == "no detectable difference"


def test_a_time_that_was_taken_once_is_not_judged(table: Table) -> None:
    found = both(table, row(1.0, metric="load_time"), row(9.0, metric="load_time"))
    assert found.verdict == "not judged"
    assert "measured once, no interval" in found.notes


def test_memory_repeats_closely_enough_to_be_judged(table: Table) -> None:
    assert (
        both(table, row(1e8, metric="memory_total"), row(1.02e8, metric="memory_total")).verdict
        == "no detectable difference"
    )


def test_more_memory_is_worse(table: Table) -> None:
    assert both(table, row(1e8, metric="memory_total"), row(2e8, metric="memory_total")).verdict == "worse"


def test_what_is_graded_c_is_not_judged_unless_that_is_asked_for(table: Table) -> None:
    doubted = replace(sure(0.020), grade="C", grade_reasons=("two modes 20 % apart",))
    found = both(table, sure(0.010), doubted)
    assert found.verdict == "not judged"
    assert not found.is_regression()
    assert found.notes[0] == "the second is graded C: two modes 20 % apart"
    assert only(vertebra.compare("@onnxruntime", "@openvino", table=table, trust="C")).verdict == "worse"


def test_a_case_that_fails_now_is_a_regression_and_one_that_failed_before_is_not(table: Table) -> None:
    failure = row(1.0, metric="failure", engine="openvino", grade_reasons=("crashed with signal 11",))
    table.append([sure(0.010)])
    table.append([failure])
    now = only(vertebra.compare("@onnxruntime", "@openvino", table=table))
    assert (now.verdict, now.is_regression(1.0)) == ("failed", True)
    assert now.notes == ("crashed with signal 11",)
    before = only(vertebra.compare("@openvino", "@onnxruntime", table=table))
    assert (before.verdict, before.is_regression()) == ("fixed", False)


@pytest.mark.parametrize(
    ("metric", "ends", "tolerance", "is_regression"),
    [
        ("latency", (1.05, 1.25), 0.03, True),
        ("latency", (1.05, 1.25), 0.05, False),
        ("latency", (1.05, 1.25), 0.10, False),
        ("latency", (1.05, 1.25), 0.30, False),
        ("throughput", (0.80, 0.95), 0.03, True),
        ("throughput", (0.80, 0.95), 0.10, False),
        ("throughput", (0.80, 0.95), 0.24, False),
        ("throughput", (0.80, 0.95), 0.30, False),
    ],
)
def test_a_regression_is_judged_by_the_end_of_the_interval_next_to_1(
    metric: str, ends: tuple[float, float], tolerance: float, is_regression: bool
) -> None:
    left = row(1.0, metric=metric)
    found = Comparison(metric, left, left, "worse", sum(ends) / 2, *ends)
    assert found.is_regression(tolerance) == is_regression


@pytest.mark.parametrize(
    ("times", "verdict"),
    [
        (1.04, "no detectable difference"),
        (1.06, "worse"),
        (0.96, "no detectable difference"),
        (0.94, "better"),
    ],
)
def test_memory_differs_above_5_percent(table: Table, times: float, verdict: str) -> None:
    first, second = (row(value, metric="memory_total") for value in (1e8, times * 1e8))
    assert both(table, first, second).verdict == verdict


@pytest.mark.parametrize(
    ("metric", "first", "second", "verdict"),
    [
        ("missed_deadlines", (0.0, 0.0, 0.01), (0.3, 0.25, 0.35), "worse"),
        ("missed_deadlines", (0.3, 0.25, 0.35), (0.0, 0.0, 0.01), "better"),
        ("missed_deadlines", (0.0, 0.0, 0.01), (0.005, 0.001, 0.02), "no detectable difference"),
        ("missed_deadlines", (0.0, 0.0, 0.01), (0.3, 0.01, 0.35), "no detectable difference"),
        ("missed_deadlines", (0.3, 0.01, 0.35), (0.0, 0.0, 0.01), "no detectable difference"),
        ("missed_deadlines", (0.0, None, None), (0.3, None, None), "not judged"),
        ("params", (0.0, None, None), (5.0, None, None), "worse"),
    ],
)
def test_from_or_to_zero_there_is_no_ratio_but_a_verdict(
    table: Table, metric: str, first: tuple[Any, ...], second: tuple[Any, ...], verdict: str
) -> None:
    more = {"protocol": "within 10 ms", "arrival_rate": 30.0}
    rows = [row(value, metric=metric, low=low, high=high, **more) for value, low, high in (first, second)]
    found = both(table, *rows)
    assert found.verdict == verdict
    assert found.is_regression(0.5) == (verdict == "worse")
    assert found.line()["ratio"] is None


# Like with like.


def test_only_what_the_sides_name_may_differ(table: Table) -> None:
    table.append([sure(0.010), sure(0.070, batch_size=8)])
    table.append([sure(0.020, engine="openvino", batch_size=8)])
    found = only(vertebra.compare("@onnxruntime", "@openvino", table=table))
    assert found.first.batch_size == found.second.batch_size == 8


def test_what_follows_from_another_engine_may_differ_and_is_named(table: Table) -> None:
    same = {"numpy": "2.1"}
    table.append([sure(0.010, provider="CPUExecutionProvider", versions={"onnxruntime": "1.20", **same})])
    table.append([sure(0.020, engine="openvino", provider="CPU", versions=same)])
    found = only(vertebra.compare("@onnxruntime", "@openvino", table=table))
    assert "engine onnxruntime → openvino" in found.differing
    assert "provider CPUExecutionProvider → CPU" in found.differing
    assert "onnxruntime 1.20 → none" in found.differing
    assert len(found.differing) == 3


def test_two_machines_may_have_other_numbers_of_threads(table: Table) -> None:
    table.append([sure(0.010)])
    table.append([sure(0.005, system="there", threads=8)])
    found = only(vertebra.compare("here", "there", table=table))
    assert found.verdict == "better"
    assert "threads 2 → 8" in found.differing


def test_of_several_rows_that_fit_that_is_taken_which_differs_least(table: Table) -> None:
    table.append([sure(0.010)])
    table.append([sure(0.005, system="there", threads=8), sure(0.007, system="there")])
    assert only(vertebra.compare("here", "there", table=table)).second.value == 0.007


def test_published_figures_and_the_machines_own_are_no_part_of_it(table: Table) -> None:
    published = Measurement(model="alexnet", metric="top1", value=0.57, origin="published",
                            dataset="imagenet-1k", split="val")  # fmt: skip
    table.append([published, sure(0.010), sure(0.020, engine="openvino")])
    assert set(verdicts(vertebra.compare("@onnxruntime", "@openvino", table=table))) == {"latency"}


def test_sides_without_a_common_figure_are_refused(table: Table) -> None:
    table.append([sure(0.010)])
    table.append([sure(0.010, engine="openvino", model="vgg16")])
    with pytest.raises(InvalidInputError, match="no figure in common"):
        vertebra.compare("@onnxruntime", "@openvino", table=table)


# How a side is named.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("onnxruntime=1.20", "onnxruntime=1.21"),
        ("2026-11-01", "2026-11-02"),
        ("2026-11-01", "2026-11"),
        ("threads=2,onnxruntime=1.20.1", "onnxruntime=1.21"),
        ({"onnxruntime": "1.20"}, {"onnxruntime": "1.21"}),
    ],
)
def test_a_side_may_be_a_version_or_a_day(table: Table, first: Any, second: Any) -> None:
    table.append([sure(0.010, versions={"onnxruntime": "1.20.1"})])
    table.append([sure(0.020, versions={"onnxruntime": "1.21.0"}, measured_at="2026-11-02T10:00:00+00:00")])
    assert only(vertebra.compare(first, second, table=table)).ratio == pytest.approx(2.0)


def test_version_1_2_is_not_1_20(table: Table) -> None:
    table.append([sure(0.010, versions={"onnxruntime": "1.20.1"})])
    for absent in ("onnxruntime=1.2", "onnxruntime=1.21", "onnxruntime=1.20.10", "openvino=1.20"):
        with pytest.raises(InvalidInputError, match="No row"):
            vertebra.compare(absent, "onnxruntime=1.20", table=table)


def test_a_side_may_be_a_run_by_the_beginning_of_its_id(table: Table) -> None:
    first = table.append([sure(0.010)])
    second = table.append([sure(0.020, measured_at="2026-11-02T10:00:00+00:00")])
    assert only(vertebra.compare(first[:10], second[:10], table=table)).ratio == pytest.approx(2.0)


def test_a_side_may_be_a_network_on_an_engine_by_any_of_its_names(table: Table) -> None:
    table.append([sure(0.010, model="squeezenet1_0"), sure(0.030, model="squeezenet1_0", engine="openvino")])
    found = only(vertebra.compare("SqueezeNet1_0@onnxruntime", "squeezenet1_0@openvino", table=table))
    assert found.ratio == pytest.approx(3.0)


def test_two_networks_are_compared_engine_by_engine(table: Table) -> None:
    table.append([sure(0.010), sure(0.020, engine="openvino")])
    table.append([sure(0.040, model="vgg16"), sure(0.060, model="vgg16", engine="openvino")])
    compared = vertebra.compare("alexnet", "vgg16", table=table)
    assert [one.ratio for one in compared] == [pytest.approx(4.0), pytest.approx(3.0)]


def _sqlite(path: Path, rows: list[Measurement]) -> None:
    Table(path).append(rows)


def _written(path: Path, rows: list[Measurement]) -> None:
    Rows(rows).write(path)


@pytest.mark.parametrize(("ending", "write"), [("sqlite", _sqlite), ("csv", _written), ("json", _written)])
def test_a_side_may_be_a_file(
    tmp_path: Path, table: Table, ending: str, write: Callable[[Path, list[Measurement]], None]
) -> None:
    before, after = tmp_path / f"before.{ending}", tmp_path / f"after.{ending}"
    write(before, [sure(0.010)])
    write(after, [sure(0.020, system="there", threads=4)])
    found = only(vertebra.compare(before, after, table=table))
    assert found.ratio == pytest.approx(2.0)
    assert "system here → there" in found.differing


@pytest.mark.parametrize("side", ["", "@", "engine=", "=x"])
def test_what_names_no_side_is_refused(table: Table, side: str) -> None:
    table.append([sure(0.010)])
    with pytest.raises(InvalidInputError):
        vertebra.compare(side, "@onnxruntime", table=table)


def test_the_error_for_an_unknown_network_says_what_a_side_may_be(table: Table) -> None:
    table.append([sure(0.010)])
    with pytest.raises(UnknownNameError) as error:
        vertebra.compare("alexnett", "@onnxruntime", table=table)
    assert error.value.hint is not None
    assert "alexnet" in error.value.hint
    assert "MODEL@ENGINE" in error.value.hint


# The command.


def command(table: Table, *arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(cli, ["compare", *arguments, "--table", str(table.path)])
    return found.exit_code, found.output


@pytest.fixture
def slower(table: Table) -> Table:
    table.append([sure(0.010)])
    table.append([sure(0.0115, engine="openvino")])
    return table


def test_a_regression_ends_with_1_and_one_within_the_tolerance_with_0(slower: Table) -> None:
    assert command(slower, "@onnxruntime", "@openvino")[0] == 1
    assert command(slower, "@onnxruntime", "@openvino", "--tolerance", "20%")[0] == 0
    assert command(slower, "@openvino", "@onnxruntime")[0] == 0


def test_the_text_says_what_has_no_detectable_difference(table: Table) -> None:
    table.append([sure(0.010)])
    table.append([sure(0.0101, engine="openvino")])
    code, text = command(table, "@onnxruntime", "@openvino", "--all")
    assert code == 0
    assert "no detectable difference" in text
    first, outcome = text.splitlines()[:2]
    assert first == "Not judged: 0 of 1 figure. Judged: 1 (0 worse, 1 without a detectable difference)."
    assert outcome == "Outcome: holds (100 % judged, 80 % required)."


def test_without_all_only_what_changed_is_printed(table: Table) -> None:
    table.append([sure(0.010), sure(0.020, batch_size=8)])
    table.append([sure(0.0101, engine="openvino"), sure(0.030, batch_size=8, engine="openvino")])
    _, text = command(table, "@onnxruntime", "@openvino")
    assert "30.0 ms" in text
    assert "10.1 ms" not in text
    assert "Not shown: 1 more without a change; to see them: --all" in text


def test_json_and_csv_hold_base_units(slower: Table) -> None:
    code, text = command(slower, "@onnxruntime", "@openvino", "--json")
    (record,) = json.loads(text)
    assert code == 1
    assert (record["first"], record["second"], record["verdict"], record["regression"]) == (
        0.01,
        0.0115,
        "worse",
        True,
    )
    assert "model,metric,first,second,ratio" in command(slower, "@onnxruntime", "@openvino", "--csv")[1]


@pytest.mark.parametrize(
    "options",
    [
        ("--engine", "onnxruntime", "--engine", "openvino"),
        ("@onnxruntime", "@openvino", "--model", "alexnet", "--system", "here"),
        ("@onnxruntime", "@openvino", "--metric", "latency", "--batch-size", "1"),
    ],
)
def test_options_name_sides_where_given_twice_and_bound_both_where_given_once(
    slower: Table, options: tuple[str, ...]
) -> None:
    assert command(slower, *options)[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("@onnxruntime",),
        ("@onnxruntime", "@openvino", "@eager"),
        ("@onnxruntime", "@nothing"),
        ("missing.sqlite", "@onnxruntime"),
        ("--version", "onnxruntime=1", "--version", "onnxruntime"),
        ("--system", "a", "--system", "b", "--system", "c"),
        ("@onnxruntime", "@openvino", "--tolerance", "much"),
        ("@onnxruntime", "@openvino", "--metric", "speed"),
        ("@onnxruntime", "@openvino", "--batch-size", "8"),
    ],
)
def test_misuse_ends_with_2_and_says_what_is_wrong(slower: Table, arguments: tuple[str, ...]) -> None:
    code, text = command(slower, *arguments)
    assert code == 2
    assert "rror: " in text
    assert "Traceback" not in text
