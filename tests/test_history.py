"""Histories: moments, the steps that intervals show, and the chart of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from test_pooling import NEW, OLD, run
from vertebra.cli import cli
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, Table, pooling
from vertebra.measurements.history import History, history
from vertebra.measurements.spread import Spread
from vertebra.reading import charts
from vertebra.reading.charts.history import notes

ACCURACY = Measurement(model="net", metric="top1", value=0.72, origin="published", source="paper")


def of(*rows: Measurement) -> History:
    (runs,) = pooling.forms(rows).values()
    return history(runs, Spread())


@pytest.mark.parametrize(
    ("rows", "steps", "doubted"),
    [
        ([run(8), run(8.1, day=2), run(7.9, day=3)], [], 0),
        ([run(8), run(12, day=2), run(12.1, day=3)], [2], 0),
        ([run(8), run(8.1, day=2), run(12, day=3, versions=NEW), run(8, day=5)], [3, 5], 0),
        ([run(8), run(12, "C", 2), run(8.1, day=3)], [], 1),  # alone and of grade C
        ([run(8), run(12, "C", 2), run(12.1, "C", 3)], [2], 0),  # another day agrees
        ([run(8), run(12, "C", 2), run(24, day=3)], [3], 1),
        ([run(12, "C"), run(8, day=2), run(8.1, day=3)], [], 1),  # a first moment that nothing supports
        ([run(8), run(12, "C", 3)], [], 1),
        ([run(8), run(80, day=2, low=None, high=None)], [], 0),  # without an interval nothing is claimed
    ],
)  # fmt: skip
def test_steps_are_what_intervals_contradict(rows: list[Measurement], steps: list[int], doubted: int) -> None:
    found = of(*rows)
    assert [int((step.at.day or "")[-2:]) for step in found.steps] == steps
    assert len(found.doubted) == doubted
    assert len(found.moments) == len(rows)


def test_a_day_under_two_versions_is_two_moments_and_runs_without_a_date_are_none() -> None:
    found = of(run(8), run(8.1, day=1, versions=NEW), run(8.2), run(9, day=4, measured_at=None))
    assert [(len(one.runs), one.row.versions) for one in found.moments] == [(2, OLD), (1, NEW)]


def test_a_step_has_both_levels_and_what_changed() -> None:
    (step,) = of(run(8), run(8.2, day=2), run(16.2, day=3, versions=NEW)).steps
    assert step.changed == {"onnxruntime": ("1.31", "1.32"), "numpy": (None, "2")}
    assert 0.008 < step.before[0] < 0.0082
    assert step.before[1] < 0.008 < 0.0082 < step.before[2] < step.after[1] < 0.0162 < step.after[2]
    assert step.times == pytest.approx(2, rel=0.01)
    assert 1 < step.between[0] < step.times < step.between[1]


def test_a_step_is_told_in_a_sentence_and_so_is_none() -> None:
    (slower,) = notes(of(run(8), run(16, day=3, versions=NEW)))
    assert slower.startswith("Step between 2026-11-01 and 2026-11-03: 8.00 ms (")
    assert "2 times as slow (" in slower
    assert slower.endswith("Changed: onnxruntime 1.31 → 1.32, numpy none → 2.")
    (faster,) = notes(of(run(16), run(8, day=3)))
    assert "2 times as fast (" in faster
    assert faster.endswith("No version that the rows state changed.")
    assert notes(of(run(8), run(8.1, day=2))) == [
        "No step: no interval of pooled runs contradicts those before it."
    ]
    alone = notes(of(run(8), run(16, "C", 2)))
    assert alone[1].startswith("16.0 ms of 2026-11-02 contradicts the others, but is graded C")


def test_the_chart_has_a_line_for_each_level_and_marks_steps_and_versions() -> None:
    chart = charts.history_chart(of(run(8), run(8.1, day=2), run(16, day=3, versions=NEW)))
    marks = {
        (layer["mark"]["type"], layer["mark"].get("strokeWidth")): layer["data"]["values"]
        for layer in chart.spec["layer"]
    }
    assert [row["level"] for row in marks["line", 1.6]] == [0, 0, 1]
    second, third = (row["x"] for row in marks["line", 1.6][1:])
    assert [row["x"] for row in marks["rule", 3]] == [(second + third) / 2]
    assert len(marks["rule", None]) == 2  # two versions
    assert [row["step"] for row in chart.data()] == [None, None, pytest.approx(1.99, rel=0.01)]
    assert chart.data()[2]["versions"] == "onnxruntime 1.32"
    assert "Step between 2026-11-02 and 2026-11-03" in chart.notes[0]


def test_one_moment_is_no_history() -> None:
    with pytest.raises(InvalidInputError, match="2026-11-01 under one version"):
        charts.history_chart(of(run(8)))


def table(path: Path, *more: Measurement) -> Path:
    for row in (
        ACCURACY,
        run(8),
        run(8.1, day=2),
        run(16, day=3, versions=NEW),
        run(9, model="other"),
        *more,
    ):
        Table(path).append([row.like(run=None)])
    return path


def test_the_command_prints_and_draws_it(tmp_path: Path) -> None:
    file = table(tmp_path / "t.sqlite")
    asked = ["chart", "history", "net", "--table", str(file)]
    printed = CliRunner().invoke(cli, asked)
    assert (printed.exit_code, "Step between 2026-11-02" in printed.stdout) == (0, True)
    rows = json.loads(CliRunner().invoke(cli, [*asked, "--json"]).stdout)
    assert [row["latency"] for row in rows] == [0.008, 0.0081, 0.016]
    pytest.importorskip("vl_convert")
    drawn = CliRunner().invoke(cli, [*asked, "-o", str(tmp_path / "h.svg")])
    assert (drawn.exit_code, "Step between" in drawn.stderr + drawn.stdout) == (0, True)
    assert "× 1.99" in (tmp_path / "h.svg").read_text()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"view": "history"}, "needs a network"),
        ({"view": "history", "model": "net", "x": "latency"}, "own axes"),
        ({"view": "history", "model": "net", "sources": ("timm",)}, "no history"),
        ({"view": "grid", "model": "net"}, "of all networks"),
        ({"view": "history", "model": "net"}, "engine is onnxruntime, openvino"),
        ({"view": "history", "model": "net", "batch_size": 8}, "no measured latency of net"),
        ({"view": "history", "model": "other"}, "under one version"),
    ],
)
def test_what_can_not_be_drawn_is_refused(tmp_path: Path, asked: dict[str, Any], told: str) -> None:
    file = table(tmp_path / "t.sqlite", run(9, engine="openvino"))
    with pytest.raises(InvalidInputError, match=told):
        vertebra.chart(**asked, table=file)


def test_the_report_has_what_was_measured_on_several_days(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    file = table(tmp_path / "t.sqlite")
    page = vertebra.report(tmp_path / "r.html", among="table", table=file).read_text()
    assert 'id="history"' in page
    assert "Latency over time: net" in page
    assert "Latency over time: other" not in page
    once = tmp_path / "once.sqlite"
    Table(once).append([ACCURACY, run(8)])
    assert 'id="history"' not in vertebra.report(tmp_path / "o.html", among="table", table=once).read_text()
