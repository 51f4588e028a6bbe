"""Planning, the budget, and a survey that is interrupted, goes on, and records what fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import vertebra
from vertebra import surveying, system
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, MissingRuntimeError, UnknownNameError
from vertebra.measurements import Table

LIGHT = ["squeezenet1_1", "alexnet"]


def test_a_case_for_each_network_on_each_engine():
    planned = surveying.cases(["AlexNet", "vgg11"], ["null", "eager"])
    assert [(case.model, case.engine) for case in planned] == [
        ("alexnet", "null"), ("alexnet", "eager"), ("vgg11", "null"), ("vgg11", "eager"),
    ]  # fmt: skip
    assert {case.threads for case in planned} == {system.default_threads()}


def test_without_engines_named_every_one_found_here_but_null_is_planned():
    assert [case.engine for case in surveying.cases(["alexnet"])] == ["eager", "onnxruntime", "openvino"]


def test_names_and_sizes_are_checked_before_anything_runs(monkeypatch):
    with pytest.raises(UnknownNameError, match="vgg99"):
        surveying.cases(["vgg99"])
    with pytest.raises(InvalidInputError, match="32x32"):
        surveying.cases(["alexnet"], ["null"], input_size=32)
    with pytest.raises(InvalidInputError, match="threads"):
        surveying.cases(["alexnet"], ["null"], threads=10_000)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingRuntimeError) as missing:
        surveying.cases(["alexnet"], ["openvino"])
    assert 'pip install "vertebra[openvino]"' in missing.value.hint


def test_what_the_table_tells_is_not_left_to_do(tmp_path):
    wanted = surveying.cases(LIGHT, ["null"], input_size=64)
    table = Table(tmp_path / "table.sqlite")
    assert surveying.remaining(wanted, table.rows()) == wanted
    surveying.measure(wanted[:1], table, seconds=0.2)
    assert surveying.remaining(wanted, table.rows()) == wanted[1:]
    other_batch = surveying.cases(LIGHT[:1], ["null"], input_size=64, batch_size=2)
    assert surveying.remaining(other_batch, table.rows()) == other_batch


def test_another_version_of_the_runtime_is_measured_again(tmp_path, monkeypatch):
    wanted = surveying.cases(LIGHT[:1], ["null"], input_size=64)
    table = Table(tmp_path / "table.sqlite")
    surveying.measure(wanted, table, seconds=0.2)
    monkeypatch.setattr("vertebra.engines.version", lambda name: "99.0")
    assert surveying.remaining(wanted, table.rows()) == wanted


def test_light_networks_come_first_and_the_work_is_scaled_to_size_and_batch():
    (native,) = surveying.cases(["vgg16"], ["null"])
    (double,) = surveying.cases(["vgg16"], ["null"], input_size=448, batch_size=2)
    assert surveying.multiply_accumulates(native) == 15_470_264_320
    assert surveying.multiply_accumulates(double) == 8 * 15_470_264_320


def test_the_budget_is_shared_and_what_light_cases_leave_goes_to_heavy_ones(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("vertebra.surveying.time.monotonic", lambda: now[0])
    light, heavy = surveying.cases(["squeezenet1_1", "vgg19"], ["null"])
    pace = surveying._Pace([light, heavy], None, 30.0)
    need = 1.0 + 90 * 349_537_280 / 1.2e10
    assert pace.share() == pytest.approx(need)  # less than its equal part of (30 - 2 * 5) / 2 = 10 seconds
    now[0] = need + 2.0  # the overhead was 2 s and not the 5 s that were expected
    pace.advance(need)
    assert pace.share() == pytest.approx(min(20.0, 30.0 - need - 2.0 - 2.0))
    now[0] = 29.5
    assert pace.share() == 1.0  # the least, however late it is
    assert pace.left_s() == pytest.approx(3.0)


def test_real_engines_are_measured_and_compared_through_one_export(tmp_path):
    wanted = surveying.cases(["squeezenet1_1"], input_size=64)
    seen: list[surveying.Progress] = []
    table = Table(tmp_path / "table.sqlite")
    rows = surveying.measure(wanted, table, seconds=0.5, watcher=seen.append)
    assert [row.grade_reasons for row in rows if row.metric == "failure"] == []
    errors = {row.engine: row.value for row in rows if row.metric == "output_error"}
    assert set(errors) == {"eager", "onnxruntime", "openvino"}
    assert max(errors.values()) < 3e-4
    assert [step.text for step in seen] == [
        "exporting squeezenet1_1", "squeezenet1_1 on eager", "squeezenet1_1 on onnxruntime",
        "squeezenet1_1 on openvino",
    ]  # fmt: skip
    assert {row.system for row in table.rows()} == {system.describe().id}
    assert all(table.samples(row.run)["latency"] for row in table.rows(metric="latency"))


def broken() -> None:
    os._exit(3)


def test_a_network_that_cannot_be_exported_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch):
    def spoiled(*arguments, **options):
        planned = cases(*arguments, **options)
        spoil = {"builder": f"{__name__}:broken", "arguments": {}}
        return [
            case if case.model != "alexnet" else surveying.replace(case, subject=Subject("alexnet", **spoil))
            for case in planned
        ]

    cases = surveying.cases
    monkeypatch.setattr(surveying, "cases", spoiled)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(__file__), *sys.path]))
    table = Table(tmp_path / "table.sqlite")
    wanted = surveying.cases(["alexnet", "squeezenet1_1"], ["onnxruntime"], input_size=64)
    rows = surveying.measure(wanted, table, seconds=0.2)
    (failure,) = [row for row in rows if row.metric == "failure"]
    assert failure.model == "alexnet"
    assert failure.grade_reasons[0].startswith("export: crashed")
    assert [row.model for row in rows if row.metric == "latency"] == ["squeezenet1_1"]
    assert surveying.remaining(wanted, table.rows()) == []


def survey(tmp_path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vertebra", "survey", *arguments],
        cwd=tmp_path, env={**os.environ, "VERTEBRA_TABLE": str(tmp_path / "table.sqlite")}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_ctrl_c_keeps_what_was_measured_and_the_next_run_goes_on(tmp_path):
    models = [word for model in ("squeezenet1_1", "alexnet", "vgg11") for word in ("--model", model)]
    first = survey(tmp_path, "--engine", "null", "--budget", "1m", *models)
    assert first.stderr is not None
    told = next(line for line in first.stderr if line.startswith("[1/3]"))  # one case is done
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert "alexnet" in told
    assert first.returncode == 130
    assert "goes on from there" in said
    assert "Traceback" not in said
    assert len(Table(tmp_path / "table.sqlite").rows(metric="latency", origin="benched")) == 1

    printed, said = survey(tmp_path, "--engine", "null", "--budget", "10s", *models).communicate(timeout=300)
    assert "[0/2]" in said
    assert "2 cases measured" in printed
    assert "1 were in the table" in printed
    rows = Table(tmp_path / "table.sqlite").rows(metric="latency", origin="benched")
    assert sorted(row.model for row in rows) == ["alexnet", "squeezenet1_1", "vgg11"]

    printed, _ = survey(tmp_path, "--engine", "null", *models).communicate(timeout=60)
    assert printed.startswith("Nothing left to measure")


def test_a_survey_cites_profiles_measures_and_reports(tmp_path):
    done = vertebra.survey(
        models=["SqueezeNet1_1"], engines=["onnxruntime"], budget="5s", output=tmp_path / "out",
        table=tmp_path / "table.sqlite",
    )  # fmt: skip
    assert (done.measured, done.known, done.failed) == (1, 0, 0)
    rows = Table(tmp_path / "table.sqlite").rows(model="squeezenet1_1")
    assert {row.origin for row in rows} == {"published", "profiled", "benched"}
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == [
        "latency-onnxruntime.png",
        "latency-onnxruntime.svg",
        "operations.png",
        "operations.svg",
        "report.html",
    ]
    assert "squeezenet1_1" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="Can't make the folder"):
        vertebra.survey(
            models=["squeezenet1_1"], engines=["null"], output=tmp_path / "file" / "out",
            table=tmp_path / "table.sqlite",
        )  # fmt: skip
    assert Table(tmp_path / "table.sqlite").rows(origin="benched") == []


def test_too_little_room_for_an_export_is_refused_before_anything_is_measured(monkeypatch):
    wanted = surveying.cases(["vgg19"], ["onnxruntime"])
    monkeypatch.setattr(surveying.shutil, "disk_usage", lambda _: Usage(10**8))
    with pytest.raises(InvalidInputError, match="has room for 100 MB; an export needs 690 MB"):
        surveying.check_room(wanted)
    surveying.check_room(surveying.cases(["vgg19"], ["null"]))  # which exports nothing


class Usage:
    def __init__(self, free: int) -> None:
        self.free = free
