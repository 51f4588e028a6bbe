"""Planning, the budget, and a survey that is interrupted, goes on, and records what fails."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import ClassVar

import psutil
import pytest

import vertebra
from vertebra import cli, engines
from vertebra.campaigns import campaign, cases, exports, load, paired
from vertebra.engines import Subject
from vertebra.errors import (
    InvalidInputError,
    MeasurementError,
    MissingRuntimeError,
    OutOfTimeError,
    UnknownNameError,
)
from vertebra.exporting import process
from vertebra.exporting.orders import FORMATS
from vertebra.exporting.process import Exporter
from vertebra.machine import files, system
from vertebra.machine.processes import HungError
from vertebra.measurements import Measurement, Table, shipped
from vertebra.measuring.benchmarking import Limits
from vertebra.progress import Progress
from vertebra.zoo import CLASSICS

LIGHT = ["squeezenet1_1", "alexnet"]
BRIEF = Limits.quick(seconds=0.3, warm_up_least_s=0.1, least_s=0.1)


def test_a_case_for_each_network_on_each_engine():
    planned = cases.cases(["AlexNet", "vgg11"], ["null", "eager"])
    assert [(case.model, case.engine) for case in planned] == [
        ("alexnet", "null"), ("alexnet", "eager"), ("vgg11", "null"), ("vgg11", "eager"),
    ]  # fmt: skip
    assert {case.threads for case in planned} == {system.default_threads()}


def test_without_engines_named_every_usual_one_found_here_but_null_is_planned():
    usual = [name for name in engines.available() if engines.find(name).usual and name != "null"]
    assert [case.engine for case in cases.cases(["alexnet"])] == usual
    assert {"eager", "onnxruntime", "openvino"} <= set(usual)


def test_a_case_for_each_batch_size_and_precision():
    planned = cases.cases(["alexnet"], ["null"], batch_sizes=(1, 8, 1))
    assert [case.batch_size for case in planned] == [1, 8]
    assert {case.operations for case in planned} == {2.0 * 714_188_480}  # of one image, whatever the batch


REFUSED = {
    "a precision that the engine hasn't": ({"precisions": ("int3",)}, 'no precision "int3"'),
    "a device that the engine hasn't": ({"device": "abacus"}, 'no device "abacus"'),
    "more streams than threads": (
        {"threads": 1, "load": load.Load("offline", streams=(4,))}, "4 streams were asked for"
    ),
    "a batch of JPEG files": ({"batch_sizes": (4,), "load": load.Load(end_to_end=True)}, "one picture"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_an_engine_cannot_do_is_refused_before_anything_runs(what):
    asked, said = REFUSED[what]
    with pytest.raises(InvalidInputError, match=said):
        cases.cases(["alexnet"], ["null"], **asked)


CONTRADICTIONS = {
    "a rate without a server": {"arrival_rate": 30.0},
    "a bound without a server": {"scenario": "offline", "latency_bound_s": 0.1},
    "a server without a bound": {"scenario": "server"},
    "streams of a single stream": {"streams": (2,)},
    "a server from JPEG bytes": {"scenario": "server", "latency_bound_s": 0.1, "end_to_end": True},
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_load_that_contradicts_itself_is_refused(what):
    with pytest.raises(InvalidInputError):
        load.Load(**CONTRADICTIONS[what])


def test_an_unknown_scenario_is_refused():
    with pytest.raises(UnknownNameError, match="of-line"):
        load.Load("of-line")


def test_limits_that_contradict_each_other_or_measure_nothing_are_refused():
    with pytest.raises(InvalidInputError, match="quick mode has one process, not 3"):
        campaign.limits(2, processes=3, quick=True)
    with pytest.raises(InvalidInputError, match="Both a time for each case"):
        campaign.limits(2, seconds=10.0, budget_s=60.0)
    with pytest.raises(InvalidInputError) as refusal:
        campaign.limits(11, budget_s=20.0)
    assert (refusal.value.message, refusal.value.hint) == (
        "20.0 s is too short for 11 cases in 3 processes each.",
        "give at least 33s; good figures need more",
    )
    campaign.limits(11, budget_s=33.0)
    with pytest.raises(InvalidInputError, match=r"100 ms is too short for a case in 3 processes each."):
        campaign.limits(1, seconds=0.1)


class HungChild:
    """An exporting process that never answers."""

    told: ClassVar[list[str]] = []

    def __init__(self, *_: object, **__: object) -> None:
        self.told.append("started")

    def ask(self, _: object, silence_s: float) -> dict[str, object]:
        self.told.append("asked")
        time.sleep(silence_s)
        raise HungError("hung")

    def last_words(self) -> str:
        return ""

    def end(self) -> None:
        self.told.append("ended")


def test_an_export_that_hangs_ends_with_the_budget_without_a_row_or_a_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "Child", HungChild)
    monkeypatch.setattr(HungChild, "told", [])
    table = Table(tmp_path / "table.sqlite")
    wanted = cases.cases(["alexnet", "vgg11", "vgg19"], ["onnxruntime"])
    deadline = time.monotonic() + 0.3
    assert campaign.measure(wanted, table, limits=BRIEF, deadline=deadline) == []
    assert HungChild.told == ["started", "asked", "ended"]  # the others aren't begun
    assert table.rows() == []
    with files.sole_use(table.path, wait=lambda: pytest.fail("it is still held")):
        pass


def test_an_exporter_begins_nothing_that_it_can_not_finish():
    class Child:
        def ask(self, job, silence_s):
            asked.append((job, silence_s))
            now[0] += 40.0
            return {"error": None}

        def end(self):
            asked.append("ended")

    now, asked = [0.0], []
    with Exporter(60.0, end=100.0, clock=lambda: now[0]) as exporter:
        exporter._child = Child()
        exporter.do({"first": 1})
        exporter.do({"second": 2})
        with pytest.raises(OutOfTimeError, match="before the export"):
            exporter.do({"third": 3})
    assert asked == [({"first": 1}, 60.0), ({"second": 2}, 60.0), "ended"]


def test_a_survey_measures_the_classics_then_what_the_whole_field_is_estimated_from(tmp_path, monkeypatch):
    order = []

    def measure(wanted, table, **more):
        order.extend(case.model for case in wanted)
        rows = [
            Measurement(model=case.model, metric="latency", value=0.01, origin="benched", engine=case.engine,
                        device="cpu", precision="float32", batch_size=1, input_size=case.input_size,
                        threads=case.threads, streams=1, scenario="single-stream",
                        system=system.describe().id, versions=system.library_versions(["onnxruntime"]))
            for case in wanted
        ]  # fmt: skip
        table.append(rows)
        return rows

    monkeypatch.setattr(campaign, "measure", measure)
    monkeypatch.setattr("vertebra.verbs.survey._draw", lambda folder, table: None)
    asked = {"engine": ["onnxruntime"], "output": tmp_path / "out", "table": tmp_path / "table.sqlite"}
    done = vertebra.survey(**asked)
    assert order[:11] == [case.model for case in cases.cases(CLASSICS, ["onnxruntime"])]
    assert len(order) >= 20
    assert all(":" in model and ":test_" not in model for model in order[11:])
    assert (done.measured, done.left) == (len(order), 0)
    assert vertebra.pick(latency="99h", engine="onnxruntime", table=asked["table"]).outlook.unpriced == 0
    order.clear()
    vertebra.survey(**asked, model="alexnet", again=True)
    assert order == ["alexnet"]


def test_the_quick_mode_has_one_process_and_the_other_three():
    assert (campaign.limits(1, quick=True).processes, campaign.limits(1).processes) == (1, 3)
    assert campaign.limits(1, processes=1).is_quick
    assert campaign.limits(1, seconds=12.0).seconds == 12.0


def test_a_batch_that_the_file_cannot_take_is_refused_before_anything_runs(tmp_path):
    file = tmp_path / "fixed.onnx"
    file.write_bytes(fixed_network(batch_size=2))
    with pytest.raises(InvalidInputError, match="takes batches of 2; 4 was asked for") as refusal:
        cases.cases([f"onnx:{file}"], ["onnxruntime"], batch_sizes=(2, 4))
    assert "--batch-size 2" in str(refusal.value.hint)
    (planned,) = cases.cases([f"onnx:{file}"], ["onnxruntime"], batch_sizes=(2,))
    assert planned.batch_size == 2


def fixed_network(batch_size: int) -> bytes:
    """An ONNX file that averages each channel, for one batch size only."""
    onnx = pytest.importorskip("onnx")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])],
        "means",
        [helper.make_tensor_value_info("x", real, [batch_size, 3, 8, 8])],
        [helper.make_tensor_value_info("y", real, [batch_size, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    written: bytes = model.SerializeToString()
    return written


def test_names_and_sizes_are_checked_before_anything_runs(monkeypatch):
    with pytest.raises(UnknownNameError, match="vgg99"):
        cases.cases(["vgg99"])
    with pytest.raises(InvalidInputError, match="32x32"):
        cases.cases(["alexnet"], ["null"], input_size=32)
    with pytest.raises(InvalidInputError, match="threads"):
        cases.cases(["alexnet"], ["null"], threads=10_000)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingRuntimeError) as missing:
        cases.cases(["alexnet"], ["openvino"])
    assert 'pip install "vertebra[openvino]"' in missing.value.hint


def test_what_the_table_tells_is_not_left_to_do(tmp_path):
    wanted = cases.cases(LIGHT, ["null"], input_size=64)
    table = Table(tmp_path / "table.sqlite")
    assert cases.remaining(wanted, table.rows()) == wanted
    campaign.measure(wanted[:1], table, limits=BRIEF)
    assert cases.remaining(wanted, table.rows()) == wanted[1:]
    other_batch = cases.cases(LIGHT[:1], ["null"], input_size=64, batch_sizes=(2,))
    assert cases.remaining(other_batch, table.rows()) == other_batch


def test_another_version_of_the_runtime_is_measured_again(tmp_path, monkeypatch):
    wanted = cases.cases(LIGHT[:1], ["null"], input_size=64)
    table = Table(tmp_path / "table.sqlite")
    campaign.measure(wanted, table, limits=BRIEF)
    monkeypatch.setattr("vertebra.engines.version", lambda name: "99.0")
    assert cases.remaining(wanted, table.rows()) == wanted


def test_light_networks_come_first_and_the_work_is_scaled_to_size_and_batch():
    (native,) = cases.cases(["vgg16"], ["null"])
    (double,) = cases.cases(["vgg16"], ["null"], input_size=448, batch_sizes=(2,))
    assert cases.multiply_accumulates(native) == 15_470_264_320
    assert cases.multiply_accumulates(double) == 8 * 15_470_264_320


def test_the_budget_is_shared_and_what_light_cases_leave_goes_to_heavy_ones(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("vertebra.campaigns.campaign.time.monotonic", lambda: now[0])
    pace = campaign._Pace(10, Limits.quick(), 100.0)
    assert pace.deadline_of(4) == 40.0
    now[0], pace.done = 10.0, 4  # they took 10 s of their 40
    assert pace.deadline_of(3) == 10.0 + 90.0 / 2
    assert pace.left_s() == 90.0
    now[0], pace.done = 99.0, 9
    assert pace.left_s() == 6.0  # one case's process and its least time, however late it is


def test_groups_keep_the_cases_of_a_network_together():
    wanted = cases.cases(["squeezenet1_1", "alexnet", "vgg11"], ["null", "eager"])
    groups = list(campaign._groups(wanted, 5))
    assert [[case.model for case in group] for group in groups] == [
        ["squeezenet1_1"] * 2 + ["alexnet"] * 2, ["vgg11"] * 2,
    ]  # fmt: skip
    assert [len(group) for group in campaign._groups(wanted, 1)] == [1] * 6


def test_groups_are_smaller_where_the_scratch_folder_has_little_room(monkeypatch):
    monkeypatch.setattr(exports.shutil, "disk_usage", lambda _: Usage(10**9))
    wanted = cases.cases(["vgg11", "vgg13", "vgg16"], ["onnxruntime"])  # 0.64 GB each, and a fifth on top
    assert [len(group) for group in campaign._groups(wanted, 6)] == [1, 1, 1]
    monkeypatch.setattr(exports.shutil, "disk_usage", lambda _: Usage(10**11))
    assert [len(group) for group in campaign._groups(wanted, 6)] == [3]


def test_real_engines_are_measured_and_compared_through_one_export(tmp_path):
    wanted = cases.cases(["squeezenet1_1"], input_size=64)
    seen: list[Progress] = []
    table = Table(tmp_path / "table.sqlite")
    rows = campaign.measure(wanted, table, limits=BRIEF, progress=seen.append)
    assert [row.grade_reasons for row in rows if row.metric == "failure"] == []
    errors = {row.engine: row.value for row in rows if row.metric == "output_error"}
    assert set(errors) == {"eager", "onnxruntime", "openvino"}
    assert max(errors.values()) < 3e-4
    assert list(dict.fromkeys(step.text for step in seen)) == [
        "filling squeezenet1_1", "squeezenet1_1 on eager", "squeezenet1_1 on onnxruntime",
        "squeezenet1_1 on openvino", "3 cases side by side",
    ]  # fmt: skip
    assert {row.system for row in table.rows()} == {system.describe().id}
    assert all(table.samples(row.run)["latency"] for row in table.rows(metric="latency"))


def broken() -> None:
    os._exit(3)


def test_a_network_that_cannot_be_exported_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch):
    def spoiled(*arguments, **options):
        planned = plain(*arguments, **options)
        spoil = {"builder": f"{__name__}:broken", "arguments": {}}
        return [
            case if case.model != "alexnet" else replace(case, subject=Subject("alexnet", **spoil))
            for case in planned
        ]

    plain = cases.cases
    monkeypatch.setattr(cases, "cases", spoiled)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(__file__), *sys.path]))
    table = Table(tmp_path / "table.sqlite")
    wanted = cases.cases(["alexnet", "squeezenet1_1"], ["onnxruntime"], input_size=64)
    rows = campaign.measure(wanted, table, limits=BRIEF)
    (failure,) = [row for row in rows if row.metric == "failure"]
    assert failure.model == "alexnet"
    assert failure.grade_reasons[0].startswith("export: crashed")
    assert [row.model for row in rows if row.metric == "latency"] == ["squeezenet1_1"]
    assert cases.remaining(wanted, table.rows()) == []


HINT = 'install it with: pip install "vertebra[torch]"'


@pytest.fixture
def without_converter(monkeypatch):
    """Every export fails for want of a library."""
    obstacle = MeasurementError("export: Exporting needs onnx, which is not installed.", HINT)
    monkeypatch.setattr(exports, "obstacle_of", lambda *_: obstacle)


@pytest.mark.usefixtures("without_converter")
def test_a_failed_case_is_known_under_its_own_load_only(tmp_path):
    def at(**asked):
        return cases.cases(["squeezenet1_1"], ["onnxruntime"], load=load.Load(**asked))

    table = Table(tmp_path / "table.sqlite")
    served = at(scenario="server", arrival_rate=5.0, latency_bound_s=0.05)
    (failure,) = campaign.measure(served, table, limits=BRIEF)
    assert (failure.scenario, failure.streams, failure.arrival_rate) == ("server", 1, 5.0)
    assert failure.protocol == "p99 within 50 ms"
    assert cases.remaining(served, table.rows()) == []
    others = [
        *at(),
        *at(scenario="offline", streams=(1, 2)),
        *at(scenario="server", latency_bound_s=0.05),
        *at(scenario="server", arrival_rate=9.0, latency_bound_s=0.05),
        *at(scenario="server", arrival_rate=5.0, latency_bound_s=0.1),
    ]
    assert cases.remaining(others, table.rows()) == others


@pytest.mark.usefixtures("without_converter")
def test_a_failed_case_keeps_its_layout_and_weights(tmp_path):
    (plain,) = cases.cases(["squeezenet1_1"], ["onnxruntime"])
    special = replace(plain, layout="NHWC", weights="of_ours")
    table = Table(tmp_path / "table.sqlite")
    (failure,) = campaign.measure([special], table, limits=BRIEF)
    assert (failure.layout, failure.weights) == ("NHWC", "of_ours")
    assert cases.remaining([plain, special], table.rows()) == [plain]


@pytest.mark.usefixtures("without_converter")
def test_a_failed_case_says_what_would_mend_it(tmp_path, monkeypatch, capsys):
    path = tmp_path / "table.sqlite"
    rows = campaign.measure(cases.cases(["squeezenet1_1"], ["onnxruntime"]), Table(path), limits=BRIEF)
    assert rows[0].grade_reasons == ("export: Exporting needs onnx, which is not installed", HINT)
    argv = ["vertebra", "bench", "squeezenet1_1", "--engine", "onnxruntime", "--table", str(path)]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit):
        cli.main()
    assert HINT in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("without_converter")
def test_a_failed_case_is_tried_again_with_another_converter(tmp_path):
    table = Table(tmp_path / "table.sqlite")
    wanted = cases.cases(["squeezenet1_1"], ["onnxruntime"])
    (failure,) = campaign.measure(wanted, table, limits=BRIEF)
    assert {"torch", "onnx", "onnxscript", "onnxruntime"} <= set(failure.versions)
    assert cases.remaining(wanted, [failure]) == []
    older = replace(failure, versions={**failure.versions, "onnxscript": "0.1"})
    assert cases.remaining(wanted, [older]) == wanted
    lacking = {name: found for name, found in failure.versions.items() if name != "onnx"}
    assert cases.remaining(wanted, [replace(failure, versions=lacking)]) == wanted
    latency = replace(older, metric="latency", layout="NCHW", weights="of_ours", grade_reasons=())
    assert cases.remaining(wanted, [latency]) == []


def test_the_table_of_engines_names_all_that_converts_for_each():
    made = importlib.metadata.packages_distributions()
    for info in engines.known():
        form = FORMATS[info.formats[0]] if info.formats else None
        for package in form.packages if form else ():
            names = {name.lower() for name in made.get(package, [package.replace("_", "-")])}
            assert names & {name.lower() for name in (*info.converters, *info.distributions)}, info.name


def survey(tmp_path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vertebra", "survey", *arguments],
        cwd=tmp_path, env={**os.environ, "VERTEBRA_TABLE": str(tmp_path / "table.sqlite"), **more}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_ctrl_c_keeps_what_was_measured_and_the_next_run_goes_on(tmp_path):
    first = survey(tmp_path, "--engine", "null", "--budget", "1m")
    assert first.stderr is not None
    next(line for line in first.stderr if line.startswith("[6/11]"))  # a group is done
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "the same command continues" in said
    assert "Traceback" not in said
    assert len(Table(tmp_path / "table.sqlite").rows(metric="latency", origin="benched")) == 6

    printed, said = survey(tmp_path, "--engine", "null", "--budget", "90s").communicate(timeout=300)
    assert "[0/5]" in said
    assert "5 cases measured" in printed
    assert "6 were already in the table" in printed
    rows = Table(tmp_path / "table.sqlite").rows(metric="latency", origin="benched")
    assert sorted(row.model for row in rows) == sorted(CLASSICS)

    printed, _ = survey(tmp_path, "--engine", "null").communicate(timeout=60)
    assert printed.startswith("Nothing left to measure")


def test_one_that_is_told_to_end_leaves_no_scratch_folder_and_no_process(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = survey(tmp_path, "--engine", "null", "--budget", "1m", TMPDIR=str(scratch))
    assert process.stderr is not None
    next(line for line in process.stderr if "side by side" in line)
    assert list(scratch.glob("vertebra-*"))
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in said
    assert list(scratch.glob("vertebra-*")) == []
    assert psutil.wait_procs(children, timeout=30)[1] == []


WRONG = {
    "two ways to say the batch": ("--batch-size", "2", "--batch-sizes", "1..4"),
    "no range of batches": ("--batch-sizes", "4..1"),
    "a promise of no time": ("--scenario", "server", "--latency-bound", "0ms"),
    "queries that never come": ("--scenario", "server", "--latency-bound", "9ms", "--arrival-rate", "-1"),
    "a rate that is no number": ("--scenario", "server", "--latency-bound", "9ms", "--arrival-rate", "nan"),
    "eight bits without pictures": ("--precision", "int8"),
    "quick and three processes": ("--quick", "--processes", "3"),
    "seconds and a budget": ("--seconds", "5s", "--budget", "1m"),
    "a budget that measures nothing": ("--budget", "2s"),
    "more threads than cores": ("--threads", "100000"),
    "a rate without a server": ("--arrival-rate", "30"),
    "an unknown scenario": ("--scenario", "rush-hour"),
    "a precision that the engine hasn't": ("--precision", "int3"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_measured_is_one_clear_line_before_anything_runs(what, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VERTEBRA_TABLE", str(tmp_path / "table.sqlite"))
    monkeypatch.setattr("sys.argv", ["vertebra", "bench", "alexnet", "--engine", "null", *WRONG[what]])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert ended.value.code == 1
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert len([line for line in told.err.splitlines() if not line.startswith("hint: ")]) == 1
    assert not (tmp_path / "table.sqlite").exists()


def test_the_best_offline_load_is_the_smallest_of_those_that_serve_as_well():
    def row(batch_size: int, streams: int, rate: float) -> Measurement:
        return Measurement(
            model="m", metric="throughput", value=rate, origin="benched", engine="null", device="cpu",
            precision="float32", batch_size=batch_size, input_size=8, streams=streams, scenario="offline",
            system="here",
        )  # fmt: skip

    rates = [row(1, 1, 50.0), row(8, 1, 99.0), row(4, 2, 98.5), row(16, 2, 100.0), row(64, 2, 90.0)]
    (best,) = load.best_loads(rates)
    assert (best.batch_size, best.streams) == (8, 1)
    assert load.best_loads([replace(rates[0], scenario="single-stream")]) == []


def test_a_survey_cites_profiles_measures_and_reports(tmp_path):
    seen: list[Progress] = []
    done = vertebra.survey(
        models=["SqueezeNet1_1"], engines=["onnxruntime"], budget="60s", output=tmp_path / "out",
        table=tmp_path / "table.sqlite", progress=seen.append,
    )  # fmt: skip
    assert list(dict.fromkeys(event.text for event in seen)) == [
        "filling squeezenet1_1", "squeezenet1_1 on onnxruntime",
    ]  # fmt: skip
    assert {(event.total, event.unit) for event in seen} == {(1, "cases")}
    assert (done.measured, done.known, done.failed) == (1, 0, 0)
    rows = Table(tmp_path / "table.sqlite").rows(model="squeezenet1_1")
    assert {row.origin for row in rows} == {"published", "profiled", "benched"}
    (macs,) = [row.value for row in rows if (row.metric, row.origin) == ("macs", "profiled")]
    assert macs == shipped.counts()["squeezenet1_1"].macs
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
    with pytest.raises(InvalidInputError, match="Can't create the folder"):
        vertebra.survey(
            models=["squeezenet1_1"], engines=["null"], output=tmp_path / "file" / "out",
            table=tmp_path / "table.sqlite",
        )  # fmt: skip
    assert Table(tmp_path / "table.sqlite").rows(origin="benched") == []


def test_too_little_room_for_an_export_is_refused_before_anything_is_measured(monkeypatch):
    wanted = cases.cases(["vgg19"], ["onnxruntime"])
    monkeypatch.setattr(exports.shutil, "disk_usage", lambda _: Usage(10**8))
    with pytest.raises(InvalidInputError, match="has room for 100 MB; an export needs 690 MB"):
        exports.check_room(wanted)
    exports.check_room(cases.cases(["vgg19"], ["null"]))  # which exports nothing


class Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_without_a_card_a_benchmark_on_one_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system, "cuda_cards", lambda: 0)
    with pytest.raises(InvalidInputError, match="No CUDA card"):
        cases.cases(["squeezenet1_1"], ["eager"], device="cuda")
    monkeypatch.setattr(system, "cuda_cards", lambda: 1)
    assert cases.cases(["squeezenet1_1"], ["eager"], device="cuda")[0].device == "cuda"


def test_two_cases_are_compared_in_interleaved_blocks(tmp_path):
    table = Table(tmp_path / "t.sqlite")
    first, second = cases.cases(LIGHT, ["null"])
    found = paired.measure(first, second, table, limits=BRIEF)
    assert found.difference is not None
    assert found.difference.paired
    assert 0.2 < found.difference.low <= found.difference.ratio <= found.difference.high
    assert {row.model for row in table.rows(metric="latency")} == set(LIGHT)


def test_a_pair_of_which_one_fails_has_no_ratio(tmp_path, monkeypatch):
    first, second = cases.cases(LIGHT, ["null"])
    monkeypatch.setattr(campaign, "measure", lambda *_, **__: [
        Measurement(model=second.model, metric="failure", value=1, origin="published", grade_reasons=("no",))
    ])  # fmt: skip
    found = paired.measure(first, second, Table(tmp_path / "t.sqlite"))
    assert found.difference is None
    assert [row.metric for row in found.rows] == ["failure"]
