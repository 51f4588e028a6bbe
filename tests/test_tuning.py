"""The search for the fastest form of one network."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import vertebra
from vertebra import bundles, engines
from vertebra.campaigns import exports, tuning
from vertebra.campaigns.tuning import heats, race
from vertebra.campaigns.tuning.forms import Form, parent
from vertebra.campaigns.tuning.search import NO_TIME, Finish, Trial, search
from vertebra.errors import InvalidInputError, MeasurementError, UnknownNameError
from vertebra.exporting import conversion
from vertebra.exporting.process import Exporter
from vertebra.machine import system
from vertebra.measurements import Measurement, Table
from vertebra.measurements.blocks import Block, pack
from vertebra.measuring.benchmarking import Case, Result
from vertebra.progress import Listener, Progress

# ------------------------------------------------------------------ who stays in


def blocks(*seconds: float, samples: int = 4, noise: float = 0.0, seed: int = 0) -> list[Block]:
    """Blocks with these medians."""
    draw = random.Random(seed)
    return [
        Block(
            process=0, order=order, started_s=0.0,
            latencies=tuple(one * (1 + draw.uniform(-noise, noise)) for _ in range(samples)),
        )
        for order, one in enumerate(seconds)
    ]  # fmt: skip


def stay(*rivals: list[Block], batch_sizes: Sequence[int] = ()) -> list[bool]:
    return race.stay(list(zip(rivals, batch_sizes or [1] * len(rivals), strict=True)))


def test_nobody_leaves_before_the_first_look() -> None:
    assert stay(blocks(1.0, 1.0), blocks(9.0, 9.0)) == [True, True]


def test_the_slower_half_leaves_where_its_interval_is_beyond_the_fastest_one_s() -> None:
    rivals = [blocks(*[seconds] * 3, noise=0.02) for seconds in (1.0, 1.5, 2.0, 1.01)]
    assert stay(*rivals) == [True, False, False, True]


def test_the_faster_half_stays_however_far_behind_the_fastest_it_is() -> None:
    rivals = [blocks(*[seconds] * 3) for seconds in (1.0, 1.5, 2.0, 2.5)]
    assert stay(*rivals) == [True, True, False, False]


def test_forms_that_tie_all_stay() -> None:
    assert stay(*[blocks(1.0, 1.0, 1.0)] * 4) == [True] * 4


def test_a_neighbour_s_burst_in_two_of_three_blocks_puts_nobody_out() -> None:
    assert stay(blocks(1.0, 1.0, 1.0), blocks(1.1, 1.1, 1.1), blocks(0.9, 3.0, 3.0)) == [True, True, True]
    assert stay(blocks(1.0, 1.0, 1.0), blocks(1.1, 1.1, 1.1), blocks(2.9, 3.0, 3.0)) == [True, True, False]


def test_forms_of_several_batch_sizes_are_compared_by_their_time_for_an_image() -> None:
    assert stay(blocks(1.0, 1.0, 1.0), blocks(4.0, 4.0, 4.0), batch_sizes=(1, 8)) == [False, True]


# ------------------------------------------------------------------ which form is tried when

OPENVINO, ONNX, AOT = (
    Form("openvino", threads=4),
    Form("onnxruntime", threads=4),
    Form("aotinductor", threads=4),
)
EAGER, COMPILE = Form("eager", threads=4, layout="NCHW"), Form("compile", threads=4, layout="NCHW")


def few_threads(form: Form) -> Form:
    return replace(form, threads=1)


class Track:
    """Forms that take `seconds` (or fail with a text), on a machine that is slower by `drift` each heat."""

    def __init__(
        self, seconds: Mapping[Form, float | str], *, drift: float = 1.0, noise: float = 0.0, seed: int = 0,
        heats: int = 99,
    ) -> None:  # fmt: skip
        self._seconds, self._drift, self._noise, self._heats = seconds, drift, noise, heats
        self._draw, self.heard = random.Random(seed), list[list[Form]]()

    def heat(self, forms: Sequence[Form]) -> dict[Form, Finish]:
        self.heard.append(list(forms))
        if len(self.heard) > self._heats:
            return {}
        return {form: self._finish(self._seconds[form]) for form in forms}

    def _finish(self, told: float | str) -> Finish:
        if isinstance(told, str):
            return Finish(failure=told)
        seconds = told * self._drift ** len(self.heard) * (1 + self._draw.gauss(0, self._noise))
        return Finish(seconds, 0.99 * seconds, 1.01 * seconds)

    def search(self) -> list[Trial]:
        return search(list(self._seconds), self.heat)


def verdicts(trials: Sequence[Trial]) -> dict[Form, str]:
    return {trial.form: trial.verdict for trial in trials}


def test_every_engine_s_leading_form_comes_first_and_then_what_differs_from_promising_ones() -> None:
    track = Track({few_threads(ONNX): 3.0, ONNX: 2.5, OPENVINO: 1.0, few_threads(OPENVINO): 0.9, EAGER: 1.4,
                   few_threads(EAGER): 5.0})  # fmt: skip
    best, *others = track.search()
    assert track.heard == [[ONNX, OPENVINO, EAGER], [OPENVINO, few_threads(OPENVINO), few_threads(EAGER)]]
    assert (best.form, best.verdict, best.seconds) == (few_threads(OPENVINO), "fastest", 0.9)
    assert [trial.form for trial in others[:4]] == [OPENVINO, EAGER, ONNX, few_threads(EAGER)]
    assert others[4].verdict == "untried"
    assert others[4].reason == f"not tried: {ONNX} takes 2.78x the time of the fastest"


def test_a_machine_that_slows_down_from_heat_to_heat_changes_no_ratio() -> None:
    steady = {OPENVINO: 1.0, few_threads(OPENVINO): 1.1, ONNX: 1.2, few_threads(ONNX): 1.3, COMPILE: 1.15}
    even, slowing = (Track(steady, drift=drift).search() for drift in (1.0, 2.0))
    assert [trial.form for trial in slowing] == [trial.form for trial in even]
    assert [trial.reason for trial in slowing] == [trial.reason for trial in even]


def test_where_time_may_end_what_promises_most_comes_first() -> None:
    track = Track({few_threads(ONNX): 1.0, few_threads(OPENVINO): 1.0, ONNX: 1.3, EAGER: 1.2, OPENVINO: 1.0})
    track.search()
    assert track.heard[0] == [ONNX, OPENVINO, EAGER]  # eager is slow to start
    assert track.heard[1] == [OPENVINO, few_threads(OPENVINO), few_threads(ONNX)]


def test_what_takes_a_compiler_s_time_comes_last_and_one_by_one() -> None:
    other = replace(COMPILE, layout="NHWC")
    track = Track({COMPILE: 1.0, other: 0.8, OPENVINO: 1.0, few_threads(OPENVINO): 2.0})
    assert track.search()[0].form == other
    assert track.heard[:2] == [[OPENVINO], [OPENVINO, few_threads(OPENVINO)]]
    assert [len(forms) for forms in track.heard[2:]] == [2, 2]


def test_the_compiler_s_twin_answers_for_it() -> None:
    assert parent(COMPILE, [COMPILE, AOT]) == AOT
    track = Track({OPENVINO: 1.0, COMPILE: 9.0, AOT: 2.5})
    assert verdicts(track.search()) == {OPENVINO: "fastest", AOT: "slower", COMPILE: "untried"}
    # One that can't be built says nothing about the other.
    assert verdicts(Track({AOT: "no C++", COMPILE: 1.0}).search()) == {AOT: "failed", COMPILE: "fastest"}


def test_a_form_that_fails_drops_out_with_its_reason_and_its_kin_are_not_tried() -> None:
    wrong = "before timing: Wrong outputs"
    trials = Track({ONNX: wrong, few_threads(ONNX): 0.1, OPENVINO: 1.0}).search()
    assert verdicts(trials) == {OPENVINO: "fastest", ONNX: "failed", few_threads(ONNX): "untried"}
    assert [trial.reason for trial in trials[1:]] == [wrong, f"{ONNX} failed"]


def test_what_is_level_meets_once_more_before_anything_takes_a_compiler_s_time() -> None:
    lucky = Track({OPENVINO: 1.0, ONNX: 1.005, EAGER: 3.0, COMPILE: 1.2})
    answers = iter(
        [{OPENVINO: 1.0, ONNX: 1.005, EAGER: 3.0}, {OPENVINO: 2.0, ONNX: 1.9}, {ONNX: 1.0, COMPILE: 1.2}]
    )

    def heat(forms: Sequence[Form]) -> dict[Form, Finish]:
        lucky.heard.append(list(forms))
        return {form: Finish(one, 0.99 * one, 1.01 * one) for form, one in next(answers).items()}

    trials = search([OPENVINO, ONNX, EAGER, COMPILE], heat)
    assert lucky.heard == [[OPENVINO, ONNX, EAGER], [OPENVINO, ONNX], [ONNX, COMPILE]]
    assert [(trial.form, trial.verdict) for trial in trials[:2]] == [(ONNX, "fastest"), (OPENVINO, "slower")]


def test_a_champion_that_fails_when_it_runs_again_is_none() -> None:
    wrong = Finish(failure="after timing: Wrong outputs")
    answers = iter([{OPENVINO: Finish(1.0, 0.99, 1.01), ONNX: Finish(1.4, 1.39, 1.41)}, {OPENVINO: wrong}])
    forms = [OPENVINO, few_threads(OPENVINO), ONNX]
    trials = search(forms, lambda heard: next(answers, {}))
    assert verdicts(trials) == {ONNX: "fastest", OPENVINO: "failed", few_threads(OPENVINO): "untried"}


def test_a_final_without_time_changes_nothing() -> None:
    track = Track({OPENVINO: 1.0, ONNX: 1.005}, heats=1)
    assert verdicts(track.search()) == {OPENVINO: "fastest", ONNX: "level"}
    assert track.heard == [[OPENVINO, ONNX], [OPENVINO, ONNX]]


def test_forms_that_tie_are_level_and_the_first_median_wins() -> None:
    trials = Track({OPENVINO: 1.0, ONNX: 1.005}).search()
    assert verdicts(trials) == {OPENVINO: "fastest", ONNX: "level"}
    assert trials[1].reason == "1.00x the time of the fastest, intervals overlap"


def test_forms_without_time_are_told_and_what_was_measured_stands() -> None:
    trials = Track({OPENVINO: 1.0, few_threads(OPENVINO): 0.5, COMPILE: 0.1}, heats=1).search()
    assert verdicts(trials) == {OPENVINO: "fastest", few_threads(OPENVINO): "untried", COMPILE: "untried"}
    assert {trial.reason for trial in trials[1:]} == {NO_TIME}
    assert {trial.reason for trial in Track({OPENVINO: 1.0, ONNX: 1.0}, heats=0).search()} == {NO_TIME}


@pytest.mark.parametrize("seed", range(20))
def test_under_noise_the_answer_is_near_the_exhaustive_one(seed: int) -> None:
    draw = random.Random(seed)
    leaders = [Form(name, threads=4) for name in ("onnxruntime", "openvino", "ncnn", "mnn", "aotinductor")]
    seconds = {form: draw.lognormvariate(0, 0.5) for form in leaders}
    seconds |= {few_threads(form): seconds[form] * draw.uniform(0.75, 3.0) for form in leaders}
    best = Track(seconds, noise=0.005, drift=draw.uniform(0.8, 1.2), seed=seed).search()[0].form
    assert seconds[best] <= 1.03 * min(seconds.values())


# ------------------------------------------------------------------ the forms of a network


def test_forms_are_every_engine_here_with_its_layouts_and_numbers_of_threads() -> None:
    found = [tuning.form_of(case) for case in tuning.cases("squeezenet1_1")]
    here = {name for name in engines.available() if name != "null" and "cpu" in engines.find(name).devices}
    assert {form.engine for form in found} == {name for name in here if conversion.missing(name) is None}
    assert {form.layout for form in found if form.engine == "eager"} == {"NCHW", "NHWC"}
    assert {form.precision for form in found} == {"float32"}
    assert {form.threads for form in found} >= {1, system.default_threads()}
    assert len(found) == len(set(found))


def test_a_reduced_precision_is_tried_only_where_it_is_asked_for() -> None:
    def precisions(*asked: str) -> set[str]:
        return {case.precision for case in tuning.cases("squeezenet1_1", ["eager"], precisions=asked)}

    assert precisions("float32", "bfloat16") == {"float32", "bfloat16"}
    assert precisions("all") == {"float32", "bfloat16", "float16"}


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"precisions": ["int8"]}, InvalidInputError, "needs calibration"),
        ({"precisions": ["float33"]}, UnknownNameError, "float33"),
        ({"chosen": ["eager"], "threads": [10**6]}, InvalidInputError, "1000000 threads"),
        ({"chosen": ["onnxruntime"], "precisions": ["bfloat16"]}, InvalidInputError, "can't run in bfloat16"),
        ({"chosen": ["nosuch"]}, UnknownNameError, "nosuch"),
    ],
)
def test_forms_that_cannot_be_are_refused(asked: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        tuning.cases("squeezenet1_1", **asked)


# ------------------------------------------------------------------ time


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_starts_that_could_not_run_before_the_deadline() -> None:
    clock, starts = Clock(), heats._Starts()
    cheap, costly = (case_of(Form(name)) for name in ("onnxruntime", "compile"))
    running = heats._Race(115.0, starts, clock)
    assert not running.may_start(costly, 0)  # it is expected to take 20 s
    assert running.may_start(cheap, 0)
    clock.now += 6.0  # which the cheap one took
    assert running.may_start(cheap, 1)  # until 112 s, and two turns
    clock.now += 2.0
    assert not running.may_start(cheap, 2)  # 4 s on the average, and three turns
    assert starts.expected_s(False) == 4.0


def test_when_the_time_is_up_every_form_is_let_go() -> None:
    clock = Clock()
    running = heats._Race(101.0, heats._Starts(), clock)
    rivals = [(case_of(OPENVINO), blocks(1.0)), (case_of(ONNX), blocks(5.0))]
    assert running.stay(rivals) == [True, True]
    clock.now = 101.0
    assert running.stay(rivals) == [False, False]


# ------------------------------------------------------------------ the search, its processes faked


def case_of(form: Form) -> Case:
    subject = engines.Subject("m", builder="a:b")
    return Case(
        model="squeezenet1_1", engine=form.engine, subject=subject, input_size=64, batch_size=form.batch_size,
        precision=form.precision, threads=form.threads, layout=form.layout,
    )  # fmt: skip


class Machine:
    """Takes the place of the exporter's and the workers' processes. `obstacles` are met by an engine's
    export, `hangs` are engines whose export never ends by itself, the others' lasts `export_s`. `seconds` are
    what forms take, or how they fail.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        seconds: Mapping[str, float | str],
        obstacles: Mapping[str, str] | None = None,
        hangs: Sequence[str] = (),
        export_s: float = 0.0,
    ) -> None:
        self.seconds, self.obstacles, self.hangs, self.export_s = seconds, obstacles or {}, hangs, export_s
        self.cancelled, self.measured = threading.Event(), list[Case]()
        machine = self

        class FakeExporter:
            def __init__(self, *, scratch: Path) -> None:
                assert scratch.is_dir()

            def __enter__(self) -> FakeExporter:
                return self

            def __exit__(self, *_: object) -> None:
                """Nothing is held."""

            def export(self, subject: object, folder: Path, *, engine: str, **_: object) -> None:
                if engine in machine.hangs:
                    machine.cancelled.wait(30)
                    raise MeasurementError("export: crashed")
                time.sleep(machine.export_s)
                if engine in machine.obstacles:
                    raise MeasurementError(machine.obstacles[engine])

            def cancel(self) -> None:
                machine.cancelled.set()

        monkeypatch.setattr(heats, "Exporter", FakeExporter)
        monkeypatch.setattr(heats.benchmarking, "measure_all", self.measure_all)

    def measure_all(
        self, cases: Sequence[Case], limits: object, *, progress: Listener, **_: Any
    ) -> Iterator[Result]:
        self.measured += cases
        for done, case in enumerate(cases):
            progress(Progress(case.engine, done, len(cases), "cases"))
            told = self.seconds[case.engine]
            conditions: dict[str, Any] = {
                "model": case.model, "origin": "benched", "engine": case.engine, "threads": case.threads,
                "precision": case.precision, "batch_size": case.batch_size, "layout": case.layout,
                "device": "cpu", "input_size": 64, "scenario": "single-stream", "system": "here",
            }  # fmt: skip
            if isinstance(told, str):
                yield Result(case, [Measurement(metric="failure", value=1.0, **conditions)], {}, told)
            else:
                row = Measurement(metric="latency", value=told, low=told, high=told, **conditions)
                yield Result(case, [row], pack(blocks(told, told)))


def fastest(
    tmp_path: Path, forms: Sequence[Form], budget_s: float = 60.0, progress: Listener | None = None
) -> tuning.Found:
    return tuning.fastest(
        [case_of(form) for form in forms], Table(tmp_path / "table.sqlite"), budget_s=budget_s,
        progress=progress,
    )  # fmt: skip


def test_the_winner_leads_and_what_was_measured_is_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, {"eager": 4.0, "onnxruntime": 2.0, "mnn": "Wrong outputs"})
    found = fastest(tmp_path, [EAGER, ONNX, Form("mnn", threads=4)])
    assert [(one.form.engine, one.verdict) for one in found.trials] == [
        ("onnxruntime", "fastest"), ("eager", "slower"), ("mnn", "failed"),
    ]  # fmt: skip
    assert [found.to_eager(one) for one in found.trials] == [0.5, 1.0, None]
    told = Table(tmp_path / "table.sqlite").rows()
    assert {(row.engine, row.metric) for row in told} == {
        ("onnxruntime", "latency"), ("eager", "latency"), ("mnn", "failure"),
    }  # fmt: skip


def test_progress_counts_all_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, {"eager": 4.0, "onnxruntime": 2.0, "mnn": "Wrong outputs"})
    seen: list[Progress] = []
    fastest(tmp_path, [EAGER, ONNX, Form("mnn", threads=4)], progress=seen.append)
    assert {(event.total, event.unit) for event in seen} == {(3, "cases")}
    assert seen[0].text.startswith("exporting ")
    assert [event.done for event in seen[:4]] == [0, 0, 1, 2]


def test_every_form_has_a_reference_to_be_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, {"eager": 4.0, "compile": 3.0, "onnxruntime": 2.0})
    fastest(tmp_path, [EAGER, replace(EAGER, precision="bfloat16"), COMPILE, ONNX])
    assert {case.engine for case in machine.measured} == {"eager", "compile", "onnxruntime"}
    assert all(case.reference or case.subject.bundle for case in machine.measured)


def test_without_any_reference_only_eager_s_float32_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, {"eager": 4.0, "compile": 3.0}, {"onnxruntime": "export: no"})
    found = fastest(tmp_path, [EAGER, replace(EAGER, precision="bfloat16"), COMPILE])
    assert {tuning.form_of(case) for case in machine.measured} == {EAGER}
    assert [one.reason for one in found.trials[1:]] == ["nothing to compare its outputs with"] * 2


def test_a_network_that_an_engine_cannot_take_fails_there_and_an_export_that_lasts_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(
        monkeypatch, {"onnxruntime": 2.0}, {"ncnn": "export: ncnn can't take Foo"}, hangs=["aotinductor"]
    )
    monkeypatch.setattr(heats, "_exporters", lambda case, exports: 2)
    monkeypatch.setattr(heats, "_LAST_EXPORTS", 20.0)  # a compiler isn't waited for all the same
    found = fastest(tmp_path, [AOT, ONNX, Form("ncnn", threads=4)], budget_s=5.0)
    assert machine.cancelled.is_set()
    told = {one.form.engine: (one.verdict, one.reason) for one in found.trials}
    assert told["onnxruntime"] == ("fastest", "")
    assert told["ncnn"] == ("failed", "export: ncnn can't take Foo")
    assert told["aotinductor"] == ("untried", "no time left: its export wasn't finished")


def test_an_export_that_has_begun_may_end_and_none_begins_after_half_of_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, {"onnxruntime": 2.0}, export_s=1.0)
    monkeypatch.setattr(heats, "_EXPORTS", 0.1)
    monkeypatch.setattr(heats, "_exporters", lambda case, exports: 1)
    found = fastest(tmp_path, [ONNX, Form("ncnn", threads=4)], budget_s=5.0)
    assert [(one.form.engine, one.verdict) for one in found.trials] == [
        ("onnxruntime", "fastest"), ("ncnn", "untried"),
    ]  # fmt: skip


def test_a_budget_too_short_for_anything_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, {})
    with pytest.raises(InvalidInputError, match="too short for a search"):
        fastest(tmp_path, [ONNX], budget_s=4.0)
    assert machine.measured == []


def test_where_no_form_gives_a_figure_each_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, {"onnxruntime": "crashed"})
    with pytest.raises(MeasurementError, match="onnxruntime, float32, 4 threads: crashed"):
        fastest(tmp_path, [ONNX])


def test_a_failure_after_the_deadline_is_no_failure_of_the_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, {"eager": 4.0, "onnxruntime": "while loading: hung"})
    clock = Clock()
    monkeypatch.setattr(heats.time, "monotonic", clock)

    def late(*arguments: Any, **options: Any) -> Iterator[Result]:
        for result in machine.measure_all(*arguments, **options):
            clock.now += 70.0 if result.failure else 0.0
            yield result

    monkeypatch.setattr(heats.benchmarking, "measure_all", late)
    found = fastest(tmp_path, [EAGER, ONNX])
    assert [(one.verdict, one.reason) for one in found.trials[1:]] == [("untried", NO_TIME)]
    assert Table(tmp_path / "table.sqlite").rows(metric="failure") == []


def test_an_export_that_is_cancelled_ends_and_so_does_every_further_one(tmp_path: Path) -> None:
    exporter, reasons = Exporter(scratch=tmp_path), list[str]()

    def export() -> None:
        subject = engines.Subject("m", builder="subprocess:run", arguments={"args": ["sleep", "600"]})
        with exporter, pytest.raises(MeasurementError) as error:
            exporter.export(subject, tmp_path / "bundle", input_size=8)
        reasons.append(error.value.message)

    thread = threading.Thread(target=export)
    thread.start()
    while exporter._child is None:
        time.sleep(0.01)
    child = exporter._child
    exporter.cancel()
    thread.join(60)
    assert not psutil.pid_exists(child.pid)
    export()
    assert [reason.startswith("export: crashed") for reason in reasons] == [True, True]


# ------------------------------------------------------------------ the command


@pytest.fixture
def pick(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "VERTEBRA_TABLE": str(tmp_path / "table.sqlite")}
        return subprocess.run(
            [sys.executable, "-m", "vertebra", "pick", *arguments],
            capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600, check=False,
        )  # fmt: skip

    return run


def test_the_command_tells_the_fastest_form_and_exports_it(
    pick: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = pick(
        "squeezenet1_1", "--fastest", "--engine", "onnxruntime", "--threads", "1", "--budget", "5m",
        "--export", "fast", "--untrained", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["engine"], told["threads"], told["verdict"]) == ("onnxruntime", 1, "fastest")
    rows = Table(tmp_path / "table.sqlite").rows(metric="latency", origin="benched")
    assert [row.value for row in rows] == [told["latency"]]
    assert Table(tmp_path / "table.sqlite").rows(metric="output_error")[0].value < 3e-4
    kept = bundles.read(tmp_path / "fast")
    assert (kept.model, kept.format) == ("squeezenet1_1", "onnx")
    assert [row.value for row in kept.rows() if row.metric == "latency"] == [told["latency"]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["alexnet"], "MODEL needs --fastest"),
        (["--seed", "9"], "--seed needs --fastest"),
        (["alexnet", "--fastest", "--verify", "9s"], "--verify can't be combined with --fastest"),
        (["--fastest"], "--fastest needs a network"),
        (["alexnet", "--fastest", "--latency", "9ms"], "--latency can't be combined with --fastest"),
        (["alexnet", "--fastest", "--by", "top1"], "--by can't be combined with --fastest"),
        (["alexnet", "--fastest", "--untrained"], "--untrained needs --export"),
        (["alexnet", "--fastest", "--engine", "eager", "--export", "x", "--untrained"], "can open Bundles"),
        (["alexnet", "--fastest", "--untrained", "--export", "."], "is the current folder"),
        (["alexnet", "--fastest", "--budget", "soon"], '"soon"'),
        (["alexnex", "--fastest"], 'Unknown model "alexnex"'),
    ],
)
def test_contradictions_are_one_clear_error(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from vertebra import cli

    monkeypatch.setenv("VERTEBRA_TABLE", str(tmp_path / "table.sqlite"))
    monkeypatch.setattr(sys, "argv", ["vertebra", "pick", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert told in capsys.readouterr().err


def test_a_bundle_s_form_is_not_searched(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="which has only one form"):
        vertebra.fastest(str(tmp_path), table=tmp_path / "table.sqlite")


def test_weights_of_a_bundle_that_nobody_asks_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Weights are only for an exported Bundle"):
        vertebra.fastest("alexnet", untrained=True, table=tmp_path / "table.sqlite")


def test_the_forms_that_share_a_bundle_export_it_once() -> None:
    made = {
        tuning.needed_bundle(Form(name, threads=count))
        for name in ("onnxruntime", "openvino")
        for count in (1, 4)
    }
    assert made == {exports.bundle_for("onnxruntime", "float32", 1)}
    assert tuning.needed_bundle(Form("ncnn", batch_size=4)) == exports.NeededBundle("ncnn", "float32", 4)
