"""Busy threads beside what is measured: that they run, that they end, and that no answer mixes their rows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

import vertebra
from locks import figures
from test_benchmarking import PROCESS, Laboratory
from vertebra import engines
from vertebra.campaigns import campaign, cases
from vertebra.campaigns.load import Load, best_loads
from vertebra.campaigns.tuning import cases as forms_to_try
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, WideRow, wide
from vertebra.measuring.benchmarking import Limits, Result, neighbours, runner
from vertebra.measuring.benchmarking.neighbours import Neighbours
from vertebra.measuring.benchmarking.record import Record
from vertebra.measuring.benchmarking.surroundings import Reading
from vertebra.reading.choice import rule
from vertebra.reading.reports import networks

# ------------------------------------------------------------------ real ones


def used_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def until(is_true: Any, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(0.02)
    return False


def is_running(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_threads_compute_rest_where_they_are_paused_and_end() -> None:
    with Neighbours(2) as beside:
        pid = beside.pid
        assert until(lambda: used_s(pid) > 0.5)  # libraries are loaded, and both are at work
        with beside.paused():
            before = used_s(pid)
            time.sleep(0.3)
            assert used_s(pid) - before <= 0.05
        assert until(lambda: used_s(pid) > before + 0.1)
        beside.check()
    assert not is_running(pid)
    beside.end()  # once more is no error


def test_threads_that_were_killed_are_noticed() -> None:
    with Neighbours(1) as beside:
        os.kill(beside.pid, signal.SIGKILL)
        with pytest.raises(MeasurementError, match="the busy threads beside it: killed"):
            beside.check()


def test_threads_that_compute_nothing_are_noticed() -> None:
    with Neighbours(1) as beside:
        assert until(lambda: _computes(beside))
        with beside.paused():
            with contextlib.suppress(MeasurementError):
                beside.check()  # what was done until now
            with pytest.raises(MeasurementError, match="have computed nothing"):
                beside.check()


def _computes(beside: Neighbours) -> bool:
    with contextlib.suppress(MeasurementError):
        beside.check()
        return True
    return False


def test_threads_end_with_a_parent_that_is_killed() -> None:
    program = (
        "from vertebra.measuring.benchmarking.neighbours import Neighbours\n"
        "import time\nheld = Neighbours(1)\nprint(held.pid, flush=True)\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert until(lambda: not is_running(pid))


def test_no_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_COMMAND", ("/no/such/program",))
    with pytest.raises(MeasurementError, match="no process could be started"):
        Neighbours(1)


# ------------------------------------------------------------------ the order of events


class FakeNeighbours:
    """Records what is asked of it among the other events."""

    pid = 4711

    def __init__(self, threads: int, events: list[str], trouble: bool) -> None:
        self.events, self.trouble = events, trouble
        events.append(f"start {threads}")

    def __enter__(self) -> FakeNeighbours:
        return self

    def __exit__(self, *error: object) -> None:
        self.events.append("end")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.events.append("pause")
        yield
        self.events.append("go")

    def check(self) -> None:
        self.events.append("check")
        if self.trouble:
            raise MeasurementError("the busy threads beside it: killed")


def measured(
    monkeypatch: pytest.MonkeyPatch, *, beside: int = 2, trouble: bool = False
) -> tuple[list[str], Result]:
    laboratory = Laboratory(monkeypatch, {"fake": [PROCESS]})
    events: list[str] = []

    def canary() -> float:
        events.append("canary")
        return laboratory._canary()

    def look(pids: Any) -> Reading:
        events.append(f"look {FakeNeighbours.pid in pids}")
        at_s = laboratory._seconds()
        return Reading(at_s=at_s, pressure_s=at_s, load=3.0, busy_s=at_s, own_s=at_s, total_s=at_s)

    class Worker:
        def __init__(self) -> None:
            from test_benchmarking import HereWorker

            self._worker, self.pid = HereWorker(laboratory.clock), os.getpid()

        def ask(self, request: dict[str, Any], silence_s: float) -> dict[str, Any]:
            events.append(request["command"])
            return self._worker.ask(request, silence_s)

        def end(self) -> None:
            self._worker.end()

    bench = runner._Bench(
        Limits.quick(seconds=2.0), system="here", seed=0, room_bytes=1e12, start=Worker,
        clock=laboratory._seconds, canary=canary, cpu_clock=lambda: 0.0, look=look, beside=beside,
        neighbours=lambda threads: FakeNeighbours(threads, events, trouble),  # type: ignore[arg-type,return-value]
    )  # fmt: skip
    case = replace(laboratory.cases[0], beside=beside or None)
    [result] = bench.run([Record(case, engines.find("fake"))])
    return events, result


def test_they_run_from_before_the_warm_up_and_rest_while_the_canary_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events, result = measured(monkeypatch)
    assert events[:2] == ["start 2", "load"]
    assert events[2:9] == ["pause", "canary", "go", "look True", "block", "look True", "check"]
    assert events[-2:] == ["check", "end"]
    assert {row.beside for row in result.rows} == {2}
    assert any(row.metric == "latency" for row in result.rows)


def test_our_own_threads_are_no_disturbance(monkeypatch: pytest.MonkeyPatch) -> None:
    _, result = measured(monkeypatch)
    [latency] = [row for row in result.rows if row.metric == "latency"]
    assert not any("processor" in reason or "tasks" in reason for reason in latency.grade_reasons)
    assert set(result.samples["pressure"]) == {-1.0} if "pressure" in result.samples else True
    _, alone = measured(monkeypatch, beside=0)
    [latency] = [row for row in alone.rows if row.metric == "latency"]
    assert any("tasks waited for a processor" in reason for reason in latency.grade_reasons)
    assert latency.beside is None


def test_where_they_died_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    events, result = measured(monkeypatch, trouble=True)
    assert [row.metric for row in result.rows] == ["failure"]
    assert result.failure == "the busy threads beside it: killed"
    assert events[-1] == "end"


def test_one_call_has_one_number_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Laboratory(monkeypatch, {"fake": [PROCESS]}).cases[0]
    with pytest.raises(InvalidInputError, match="beside 0 and 2 busy threads"):
        runner.measure_all([case, replace(case, beside=2)], system="here")


# ------------------------------------------------------------------ a condition of the row


def test_a_case_has_what_is_asked_and_is_another_case() -> None:
    [alone] = cases.cases(["alexnet"], ["onnxruntime"])
    [busy] = cases.cases(["alexnet"], ["onnxruntime"], load=Load(beside=2))
    [none] = cases.cases(["alexnet"], ["onnxruntime"], load=Load(beside=0))
    assert (alone.beside, busy.beside, none.beside) == (None, 2, None)
    assert {case.beside for case in forms_to_try("alexnet", ["onnxruntime"], beside=3)} == {3}
    here = system.describe().id
    versions = system.library_versions(engines.find("onnxruntime").distributions)
    names = ("engine", "precision", "batch_size", "threads", "input_size", "device", "beside", "scenario")
    asked = {name: getattr(busy, name) for name in names}
    row = Measurement(model="alexnet", metric="latency", value=1.0, origin="benched", system=here,
                      versions=versions, **asked)  # fmt: skip
    assert cases.remaining([alone, busy], [row]) == [alone]


@pytest.mark.parametrize("number", [-1, 5000])
def test_an_impossible_number_is_refused(number: int) -> None:
    with pytest.raises(InvalidInputError, match=f"{number} busy threads"):
        Load(beside=number)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """vgg11 is within 30 fps, but not beside two busy threads; alexnet is everywhere."""
    table = Table(tmp_path / "table.sqlite")
    table.append([
        *figures("vgg11", 0.70, 0.020), *figures("alexnet", 0.57, 0.010),
        *figures("vgg11", 0.70, 0.060, beside=2), *figures("alexnet", 0.57, 0.015, beside=2),
    ])  # fmt: skip
    return table


def test_no_answer_mixes_rows_beside_different_numbers(table: Table) -> None:
    alone = vertebra.pick(fps=30, table=table, among="table")
    busy = vertebra.pick(fps=30, table=table, among="table", beside=2)
    assert [(row.model, row.value("latency")) for row in alone.ranked] == [("vgg11", 0.02), ("alexnet", 0.01)]
    assert [(row.model, row.value("latency")) for row in busy.ranked] == [("alexnet", 0.015)]
    assert busy.choice is not None
    assert busy.choice.conditions["beside"] == 2
    assert not vertebra.pick(fps=30, table=table, among="table", beside=1).ranked
    rows = [row for row in vertebra.table(path=table.path, wide=True) if isinstance(row, WideRow)]
    assert sorted(row.conditions.get("beside", 0) for row in rows) == [0, 0, 2, 2]
    with pytest.raises(InvalidInputError, match="beside is 0, 2"):
        rule.pick(rows)
    assert len(wide(table.rows(metric="latency"))) == 4


def test_charts_and_comparisons_keep_them_apart(table: Table) -> None:
    drawn = vertebra.chart(x="latency", table=table).data()
    assert sorted(row["latency"] for row in drawn) == [0.01, 0.02]
    busy = vertebra.chart(x="latency", table=table, beside=2).data()
    assert sorted(row["latency"] for row in busy) == [0.015, 0.06]
    found = vertebra.compare("vgg11", "model=vgg11,beside=2", table=table, metric=["latency"])
    assert [(one.first.beside, one.second.beside, one.verdict) for one in found] == [
        (None, 2, "worse"), (2, 2, "no detectable difference"),
    ]  # fmt: skip
    assert found[0].differing == ("beside None → 2",)
    other = vertebra.compare("vgg11", "alexnet", table=table, metric=["latency"])
    assert [(one.first.beside, one.second.beside) for one in other] == [(None, None), (2, 2)]


def test_a_report_s_columns_say_which_they_are(table: Table) -> None:
    shown = networks.forms(wide(table.rows()))
    assert networks.differing(shown) == ("beside",)
    assert [form.label(("beside",)) for form in shown] == ["", "busy threads beside it: 2"]


def test_the_best_load_is_found_among_those_of_one_number() -> None:
    rows = [
        Measurement(model="vgg16", metric="throughput", value=value, origin="benched", system="box",
                    device="cpu", engine="onnxruntime", precision="float32", batch_size=batch, input_size=224,
                    threads=2, streams=1, scenario="offline", beside=beside)
        for value, batch, beside in ((10.0, 1, None), (20.0, 8, None), (5.0, 1, 2), (4.0, 8, 2))
    ]  # fmt: skip
    assert [(row.batch_size, row.beside) for row in best_loads(rows)] == [(8, None), (1, 2)]


def test_bench_passes_it_on_and_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measure(wanted: Any, table: Table, **more: Any) -> list[Measurement]:
        asked.extend(case.beside for case in wanted)
        rows = [row for row in figures("alexnet", 0.5, 0.01, beside=2) if row.origin == "benched"]
        table.append(rows)
        return rows

    monkeypatch.setattr(campaign, "measure", measure)
    where = ["--engine", "onnxruntime", "--table", str(tmp_path / "table.sqlite")]
    done = CliRunner().invoke(cli, ["bench", "alexnet", "--beside", "2", *where])
    assert (done.exit_code, asked) == (0, [2]), done.output
    assert "beside" in done.stdout
    assert CliRunner().invoke(cli, ["bench", "alexnet", "--beside", "-1", *where]).exit_code == 2
    shown = CliRunner().invoke(cli, ["table", "--table", str(tmp_path / "table.sqlite")]).stdout
    assert "beside" in shown
