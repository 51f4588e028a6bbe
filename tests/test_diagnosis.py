"""The examination of a machine: exact from fakes, told as text and JSON, and kept out of comparisons."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import vertebra
from vertebra import engines
from vertebra.campaigns import diagnosis
from vertebra.campaigns.diagnosis import Diagnosis, arithmetic, examination, state
from vertebra.campaigns.diagnosis.arithmetic import Rates
from vertebra.cli import cli
from vertebra.errors import MeasurementError
from vertebra.machine import system
from vertebra.measurements import Measurement, blocks, shipped, statistics, wide
from vertebra.measurements.blocks import Block, Surroundings
from vertebra.measurements.statistics import Difference
from vertebra.measuring import benchmarking
from vertebra.measuring.benchmarking import Case, Limits, Result
from vertebra.metrics import MACHINE, METRICS
from vertebra.progress import Listener, Progress
from vertebra.reading import roofline
from vertebra.zoo import names

QUIET = Surroundings(wall_s=1.0, others_cpu=0.0, steal=0.0, pressure=0.0, clock_hz=3e9)


def latency_row(case: Case, value: float) -> Measurement:
    return Measurement(
        model=case.model, metric="latency", value=value, origin="benched", system=system.describe().id,
        engine=case.engine, device=case.device, precision="float32", batch_size=case.batch_size,
        input_size=case.input_size, threads=case.threads, scenario="single-stream", streams=1, grade="B",
        versions={case.engine: "1"},
    )  # fmt: skip


class Bench:
    """Stands for `benchmarking.measure_all`: every case takes what `latencies` says, in blocks."""

    def __init__(self, *latencies: float, failures: dict[str, str] | None = None) -> None:
        self.latencies, self.failures = latencies, failures or {}
        self.asked: list[tuple[list[Case], Limits]] = []

    def __call__(self, cases: Any, limits: Limits, *, progress: Listener, **_: Any) -> list[Result]:
        for done in (0.0, 0.1):
            progress(Progress(f"{len(cases)} cases side by side", done, len(cases), "cases"))
        self.asked.append((list(cases), limits))
        return [self._result(case, place, len(cases)) for place, case in enumerate(cases)]

    def _result(self, case: Case, place: int, every: int) -> Result:
        if case.engine in self.failures:
            return Result(case, [], {}, self.failures[case.engine])
        latency = self.latencies[place % len(self.latencies)]
        taken = [
            Block(process=process, order=(process * 8 + number) * every + place,
                  started_s=float((process * 8 + number) * every + place), latencies=(latency,) * 5)
            for process in range(3) for number in range(8)
        ]  # fmt: skip
        samples = blocks.pack(taken)
        samples["latency"][0] = 2 * latency  # an outlier is not the best
        return Result(case, [latency_row(case, latency)], samples)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A machine on which nothing is really measured: four cores, two engines, steady latencies."""
    bench = Bench(0.1)
    monkeypatch.setattr(benchmarking, "measure_all", lambda *args, **more: bench(*args, **more))
    monkeypatch.setattr(arithmetic, "measure", lambda threads, seconds: Rates(1e11, 7, 2e10, 5))
    monkeypatch.setattr(examination.Exporter, "export", lambda *_, **__: None)
    monkeypatch.setattr(engines, "available", lambda: ("null", "eager", "onnxruntime"))
    monkeypatch.setattr(examination, "_has_torch", lambda: True)
    looked = replace(state.look(0.0, sleep=lambda _: None), around=QUIET, default_threads=4)
    monkeypatch.setattr(state, "look", lambda seconds: looked)
    return bench


def figures(told: Diagnosis) -> dict[tuple[str, str | None], float]:
    return {(row.metric, row.engine): row.value for row in told.rows}


def test_the_peak_is_what_the_shortest_latency_reached(machine: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(statistics, "compare", lambda *_: Difference(1.0, 0.98, 1.01, 0.5, False))
    told = diagnosis.examine()
    # Eight images at a time, each of 8 layers x 256 pixels x 512 x 512 channels x 2.
    rate = 8 * 8 * 256 * 512 * 512 * 2 / 0.1
    assert figures(told) == {
        ("peak_operations_rate", "numpy"): 1e11,
        ("memory_bandwidth", None): 2e10,
        ("peak_operations_rate", "eager"): pytest.approx(rate),
        ("peak_operations_rate", "onnxruntime"): pytest.approx(rate),
        ("aa_floor", "onnxruntime"): pytest.approx(0.02),
    }
    assert told.notes == []
    assert told.value("peak_operations_rate") == 1e11


def test_every_row_is_the_machines_and_can_be_read_alone(machine: Bench):
    for row in diagnosis.examine().rows:
        assert row.model == MACHINE
        assert row.origin == "benched"
        assert set(METRICS[row.metric].conditions) <= set(row.conditions())
        assert row.versions
        assert row.batch_size is None or row.metric == "aa_floor"


def test_a_case_is_measured_against_itself_in_fresh_processes(machine: Bench):
    diagnosis.examine()
    (peaks, quick), (same, limits) = machine.asked
    assert [case.engine for case in peaks] == ["eager", "onnxruntime"]
    assert same[0] == same[1]
    assert quick.processes == 1
    assert limits.processes == 3


def test_the_quick_examination_takes_one_process_for_each(machine: Bench):
    diagnosis.examine(quick=True)
    assert [limits.processes for _, limits in machine.asked] == [1, 1]


@pytest.mark.parametrize(
    ("low", "high", "floor"), [(0.98, 1.01, 0.02), (0.995, 1.03, 0.03), (1.01, 1.04, 0.04)]
)
def test_the_floor_reaches_as_far_as_the_interval_of_the_ratio(machine, monkeypatch, low, high, floor):
    monkeypatch.setattr(statistics, "compare", lambda *_: Difference((low + high) / 2, low, high, 0.5, False))
    told = diagnosis.examine()
    assert told.value("aa_floor") == pytest.approx(floor)
    (row,) = [row for row in told.rows if row.metric == "aa_floor"]
    assert row.grade_reasons == (f"ratio {(low + high) / 2:.4f}, from {low:.4f} to {high:.4f}",)
    assert len(told.samples["aa.first"]) == len(told.samples["aa.second"]) == 120


def test_a_bias_between_equal_cases_raises_the_floor(machine: Bench):
    steady = diagnosis.examine().value("aa_floor")
    machine.latencies = (0.100, 0.103)  # the same case, 3 % apart: what the machine does today
    biased = diagnosis.examine().value("aa_floor")
    assert steady is not None
    assert biased is not None
    assert steady < 0.03 < biased


def test_an_engine_that_fails_is_told_and_the_rest_goes_on(machine: Bench):
    machine.failures = {"eager": "crashed with signal 11"}
    told = diagnosis.examine()
    assert told.notes == ["eager on cpu: crashed with signal 11"]
    assert told.value("aa_floor") is not None


def test_a_case_that_fails_against_itself_leaves_the_floor_unknown(machine: Bench):
    machine.failures = {"onnxruntime": "hung for 120 s"}
    told = diagnosis.examine()
    assert told.value("aa_floor") is None
    assert "onnxruntime compared with itself: hung for 120 s" in told.notes


def test_without_torch_the_rest_is_told(machine: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(examination, "_has_torch", lambda: False)
    told = diagnosis.examine()
    assert set(figures(told)) == {("peak_operations_rate", "numpy"), ("memory_bandwidth", None)}
    assert "needs torch" in told.notes[0]
    assert machine.asked == []


def test_an_export_that_fails_is_told(machine: Bench, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise MeasurementError("export: crashed")

    monkeypatch.setattr(examination.Exporter, "export", fail)
    assert diagnosis.examine().notes == ["export: crashed"]


def test_numpy_that_fails_is_told(machine: Bench, monkeypatch: pytest.MonkeyPatch):
    def fail(threads: int, seconds: float) -> Rates:
        raise MeasurementError("NumPy's rates: hung")

    monkeypatch.setattr(arithmetic, "measure", fail)
    told = diagnosis.examine()
    assert told.notes == ["NumPy's rates: hung"]
    assert told.value("memory_bandwidth") is None


def test_a_card_is_measured_where_the_machine_has_one(machine: Bench, monkeypatch: pytest.MonkeyPatch):
    with_card = replace(system.describe(), gpus=(system.Gpu("Card", 2**34, "1"),))
    monkeypatch.setattr(system, "describe", lambda: with_card)
    for name, devices in (("eager", ("cpu", "cuda")), ("onnxruntime", ("cpu",))):
        monkeypatch.setitem(engines.ENGINES, name, replace(engines.find(name), devices=devices))
    diagnosis.examine()
    (peaks, _), _ = machine.asked
    assert [(case.engine, case.device, case.batch_size) for case in peaks] == [
        ("eager", "cpu", 8), ("eager", "cuda", 256), ("onnxruntime", "cpu", 8),
    ]  # fmt: skip


def test_the_network_does_the_operations_that_are_counted():
    pytest.importorskip("torch")
    from vertebra.campaigns.diagnosis import network
    from vertebra.measuring import profiler

    told = (network.CHANNELS, network.SIDE, network.OPERATIONS)
    assert told == (examination._CHANNELS, examination._SIDE, examination._OPERATIONS)
    # A profile is of images with three channels; the first layer alone makes the difference.
    layers = profiler.profile(
        lambda: network.dense()[2:-2], model="dense", input_size=network.SIDE, in_channels=network.CHANNELS
    )
    assert 2 * layers.macs * network.LAYERS == network.OPERATIONS * (network.LAYERS - 1)


# NumPy's rates.


def test_the_fastest_of_the_runs_that_fit_the_time_counts():
    moments = iter([10.0, 10.5, 10.7, 11.1, 12.0, 12.3])
    calls: list[int] = []
    best, runs = arithmetic.fastest(lambda: calls.append(1), 1.5, lambda: next(moments))
    assert (best, runs) == (pytest.approx(0.2), 4)
    assert len(calls) == runs + 1  # the first doesn't count


def test_at_least_three_runs_are_taken_whatever_the_time():
    moments = iter([0.0, 9.0, 16.0, 24.0])
    assert arithmetic.fastest(lambda: None, 1.0, lambda: next(moments)) == (pytest.approx(7.0), 3)


def test_rates_are_operations_and_bytes_over_the_best_time():
    ticks = iter(range(1000))
    told = arithmetic.rates(2, 2.5, 2**20, lambda: float(next(ticks)), side=64)
    # Each call takes one second of this clock.
    assert told == Rates(2 * 64**3, 3, 2 * 2**20, 3)


def test_a_copy_reaches_every_part():
    source, target = np.arange(1000.0), np.zeros(1000)
    with ThreadPoolExecutor(3) as pool:
        arithmetic._copy(source, target, 3, pool)
    assert np.array_equal(target, source)


def test_a_process_of_its_own_tells_the_rates():
    told = arithmetic.measure(1, 0.01)
    assert told.operations_rate > 1e6
    assert told.bandwidth > 1e6
    assert min(told.operations_runs, told.bandwidth_runs) >= 3


def test_a_process_that_fails_tells_its_last_line():
    with pytest.raises(MeasurementError, match="max_workers must be greater than 0"):
        arithmetic.measure(0, 0.01)


# The state.


def test_looking_around_takes_the_time_that_is_given_and_no_more():
    slept: list[float] = []
    told = state.look(0.25, sleep=slept.append)
    assert slept == [0.25]
    assert told.machine["id"] == system.describe().id
    assert "null" not in {engine.name for engine in told.engines}
    assert all((engine.missing is None) == (engine.name in engines.available()) for engine in told.engines)


def test_a_machine_without_any_counter_is_described_all_the_same(tmp_path: Path):
    told = state.look(0.0, sleep=lambda _: None, root=tmp_path)
    assert told.governor is None
    assert told.counters == ()
    assert told.around.others_cpu is told.around.clock_hz is told.around.pressure is None
    assert any("reports no clock" in text for text in told.advice)
    assert any("no energy counter" in text for text in told.advice)


def test_the_governor_is_read_and_advised_on(tmp_path: Path):
    file = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    file.parent.mkdir(parents=True)
    file.write_text("powersave\n")
    told = state.look(0.0, sleep=lambda _: None, root=tmp_path)
    assert told.governor == "powersave"
    assert any('"powersave"' in text and "cpupower" in text for text in told.advice)
    file.write_text("performance\n")
    told = state.look(0.0, sleep=lambda _: None, root=tmp_path)
    assert not any("governor" in text for text in told.advice)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"others_cpu": 0.37}, "Other processes use 37.0 %"),
        ({"pressure": 0.4}, "wait for a processor 40.0 %"),
        ({"steal": 0.05}, "hypervisor gives 5.00 %"),
        ({"throttled_s": 0.2}, "quota"),
    ],
)
def test_what_disturbs_is_said(changed, said):
    assert any(said in text for text in state._of_others(replace(QUIET, **changed)))


def test_a_quiet_machine_gets_no_advice_about_others():
    assert list(state._of_others(QUIET)) == []
    assert list(state._of_others(Surroundings(wall_s=1.0))) == []


def test_what_is_not_installed_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    absent = {"torch", "timm"}
    monkeypatch.setattr(state.importlib.util, "find_spec", lambda name: None if name in absent else object())
    told = list(state._of_libraries())
    assert len(told) == 2
    assert 'pip install "vertebra[torch]"' in told[0]
    assert 'pip install "vertebra[catalogue]"' in told[1]


# The verb.


def test_the_verb_appends_what_it_measured(machine: Bench, tmp_path: Path):
    table = tmp_path / "table.sqlite"
    told = vertebra.doctor(table=table)
    rows = vertebra.table(path=table, model=MACHINE)
    assert {(row.metric, row.engine, row.value) for row in rows} == {
        (row.metric, row.engine, row.value) for row in told.rows
    }
    assert set(vertebra.Table(table).systems()) == {system.describe().id}


def test_the_verb_gives_each_new_text(machine: Bench, tmp_path: Path):
    seen: list[Progress] = []
    vertebra.doctor(table=tmp_path / "table.sqlite", progress=seen.append)
    texts = [
        "checking the machine", "measuring arithmetic and memory with NumPy",
        "exporting a network of matrix products", "measuring arithmetic with the engines",
        "2 cases side by side", "comparing onnxruntime with itself", "2 cases side by side",
    ]  # fmt: skip
    assert seen == [Progress(text) for text in texts]


def test_the_machine_stands_in_no_comparison_of_networks(machine: Bench, tmp_path: Path):
    table = tmp_path / "table.sqlite"
    vertebra.doctor(table=table)
    assert wide(vertebra.Table(table).rows()) == []
    vertebra.cite(table=table)
    assert MACHINE not in {row.model for row in wide(vertebra.Table(table).rows())}


def test_no_network_bears_the_machines_name():
    for model in names.models():
        assert MACHINE not in (model.name, *model.aliases)


def test_text_tells_every_part(machine: Bench, tmp_path: Path):
    run = CliRunner().invoke(cli, ["doctor", "--table", str(tmp_path / "table.sqlite")])
    assert run.exit_code == 0, run.output
    for part in ("This machine", "Now", "Engines", "Measured", "What to know", "GB/s", "Gop/s"):
        assert part in run.stdout
    assert "can't be detected on this machine now" in run.stdout
    assert system.describe().id in run.stdout
    assert "arithmetic" in run.stderr


def test_json_tells_all_in_base_units(machine: Bench, tmp_path: Path):
    run = CliRunner().invoke(cli, ["doctor", "--json", "--table", str(tmp_path / "table.sqlite")])
    (told,) = json.loads(run.stdout)
    assert told["machine"]["id"] == system.describe().id
    assert {row["metric"] for row in told["rows"]} == {"peak_operations_rate", "memory_bandwidth", "aa_floor"}
    assert {engine["name"] for engine in told["engines"]} >= {"eager", "onnxruntime", "openvino"}


def test_csv_tells_the_rows(machine: Bench, tmp_path: Path):
    run = CliRunner().invoke(cli, ["doctor", "--csv", "--table", str(tmp_path / "table.sqlite")])
    lines = run.stdout.splitlines()
    assert lines[0].startswith("model,metric,value")
    assert len(lines) == 1 + 5


def test_show_tells_a_latencys_share_of_the_roofline(machine: Bench, tmp_path: Path):
    path = tmp_path / "table.sqlite"
    vertebra.doctor(table=path)
    case = Case(
        model="alexnet", engine="onnxruntime", subject=examination._subject(), input_size=224, threads=4
    )
    vertebra.Table(path).append([latency_row(case, 0.1)])
    portrait = vertebra.show("alexnet", table=path)
    (share,) = [share for share in portrait.shares if share is not None]
    totals = shipped.totals("alexnet")
    arithmetic_s = 2 * totals["macs"] / 1e11
    traffic_s = 4 * (totals["params"] + 2 * totals["activations"]) / 2e10
    assert share == pytest.approx(max(arithmetic_s, traffic_s) / 0.1)
    run = CliRunner().invoke(cli, ["show", "alexnet", "--table", str(path)])
    assert f"{share:.0%}" in run.stdout
    assert "of roofline" in run.stdout
    assert not math.isclose(arithmetic_s, traffic_s)


def test_shares_stand_beside_rows_in_their_order_and_only_where_the_network_was_counted(machine, tmp_path):
    path = tmp_path / "table.sqlite"
    subject = examination._subject()
    cases = [
        Case(model=model, engine="onnxruntime", subject=subject, input_size=size, threads=4)
        for model, size in (("vgg16", 224), ("vgg16", 64), ("timm:resnet18", 224))
    ]
    measured = [latency_row(case, 0.5) for case in cases]
    table = vertebra.Table(path)
    assert roofline.shares_of(measured, table.latest(model=MACHINE)) == [None] * 3  # no doctor was there
    vertebra.doctor(table=path)
    shares = roofline.shares_of(measured, table.latest(model=MACHINE))
    assert shares[0] == pytest.approx(2 * shipped.totals("vgg16")["macs"] / 1e11 / 0.5)
    assert shares[1:] == [None, None]


def test_an_engine_s_devices_are_those_that_the_machine_has():
    info = engines.find("onnxruntime")
    assert state._engine(info, has_card=False).devices == ("cpu",)
    assert state._engine(info, has_card=True).devices == info.devices == ("cpu", "cuda")
