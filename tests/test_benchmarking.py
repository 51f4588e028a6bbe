"""Benchmarking: exact figures from a fake clock, and every way in which a child process can fail."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from vertebra import bundle, engines
from vertebra.benchmarking import Case, Limits, Result, memory, results, runner, timing, worker
from vertebra.benchmarking.grading import grade
from vertebra.benchmarking.plan import GOOD_SAMPLES
from vertebra.benchmarking.timing import WarmUp
from vertebra.engines import Settings, Subject
from vertebra.errors import InvalidInputError, MeasurementError, UnknownNameError

HERE = Path(__file__).parent
MILLISECOND = 1_000_000
QUICK = Limits(seconds=1.0, warm_up_least_s=0.01, least_s=0.01, timeout_s=60.0)


class FakeClock:
    """Nanoseconds that pass only when somebody spends them."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def spend(self, milliseconds: float) -> None:
        self.now_ns += round(milliseconds * MILLISECOND)


def takes(clock: FakeClock, milliseconds: Sequence[float]) -> Callable[[], None]:
    """A call that takes each of `milliseconds` in turn, over and over."""
    turn = cycle(milliseconds)
    return lambda: clock.spend(next(turn))


# The timed loop.


def test_a_steady_network_is_warm_after_the_least_time() -> None:
    clock = FakeClock()
    # Windows of 10 runs make 0.1 s each; 0.5 s are the least.
    assert timing.warm_up(takes(clock, [10]), Limits(), clock) == WarmUp(runs=50, seconds=0.5, settled=True)


def test_a_slow_network_gets_ten_runs() -> None:
    clock = FakeClock()
    assert timing.warm_up(takes(clock, [200]), Limits(), clock) == WarmUp(runs=10, seconds=2.0, settled=True)


def test_warm_up_goes_on_while_windows_disagree() -> None:
    clock = FakeClock()
    slow_start = [100.0] * 5 + [50.0] * 5 + [20.0] * 5 + [10.0] * 1000
    # Windows: 5 x 100 ms, 5 x 50, 5 x 20, then ten of 10 ms each. The last four show no trend when the
    # windows of 20 ms and of 50 ms have left them.
    warmed = timing.warm_up(takes(clock, slow_start), Limits(), clock)
    assert warmed.settled
    assert warmed.runs > 15 + 20
    assert warmed.seconds == pytest.approx(0.85 + (warmed.runs - 15) * 0.01)


def test_a_slide_too_slow_for_two_windows_keeps_warm_up_going_to_its_bound() -> None:
    clock = FakeClock()
    # 0.9 % slower every 0.1 s: neighbouring windows agree, four together don't.
    warmed = timing.warm_up(lambda: clock.spend(10 * 1.009 ** (clock() / 1e8)), Limits(), clock)
    assert not warmed.settled
    assert 10.0 <= warmed.seconds < 10.3


def test_warm_up_takes_at_most_a_third_of_the_time() -> None:
    clock = FakeClock()
    assert timing.warm_up(takes(clock, [700]), Limits(seconds=6), clock) == WarmUp(3, 2.1, settled=False)


def test_sampling_ends_when_the_median_is_known() -> None:
    clock = FakeClock()
    samples = timing.take_samples(takes(clock, [9, 10, 10, 10, 11]), Limits(), clock, seconds=60)
    assert samples.stopped == "sure"
    assert samples.latencies_ns == [9e6, 10e6, 10e6, 10e6, 11e6] * 12 + [9e6, 10e6, 10e6, 10e6]


def test_sampling_goes_on_until_the_interval_is_narrow() -> None:
    clock = FakeClock()
    generator = random.Random(0)
    noise = [generator.uniform(8, 12) for _ in range(5000)]
    samples = timing.take_samples(takes(clock, noise), Limits(), clock, seconds=60)
    assert samples.stopped == "sure"
    assert len(samples.latencies_ns) > GOOD_SAMPLES
    ordered = sorted(samples.latencies_ns)
    assert ordered[len(ordered) // 2] == pytest.approx(10e6, rel=0.03)


def test_sampling_ends_when_the_time_is_spent_and_says_so() -> None:
    clock = FakeClock()
    samples = timing.take_samples(takes(clock, [10]), Limits(), clock, seconds=0.225)
    assert samples == timing.Samples([10 * MILLISECOND] * 23, "budget spent")


def test_a_narrow_interval_of_few_samples_is_not_enough() -> None:
    clock = FakeClock()
    samples = timing.take_samples(takes(clock, [60]), Limits(), clock, seconds=0.6)
    assert samples == timing.Samples([60 * MILLISECOND] * 10, "budget spent")


def test_even_without_time_there_are_enough_samples_for_an_interval() -> None:
    clock = FakeClock()
    samples = timing.take_samples(takes(clock, [10]), Limits(), clock, seconds=0)
    assert samples == timing.Samples([10 * MILLISECOND] * 6, "budget spent")


def test_a_fast_network_is_sampled_for_half_a_second() -> None:
    clock = FakeClock()
    samples = timing.take_samples(takes(clock, [1]), Limits(), clock, seconds=60)
    assert samples.stopped == "sure"
    assert 500 <= len(samples.latencies_ns) <= 500 * 1.25 + 1


def test_samples_are_never_more_than_the_limit() -> None:
    clock = FakeClock()
    samples = timing.take_samples(takes(clock, [0.001]), Limits(most_samples=1000), clock, seconds=60)
    assert samples == timing.Samples([1000] * 1000, "samples full")


# Grades.

WARM = WarmUp(runs=20, seconds=1.0, settled=True)


def test_a_good_figure_of_one_process_is_a_b() -> None:
    graded = grade([0.01] * 64, WARM, "sure", compared=True)
    assert (graded.letter, graded.reasons) == ("B", ("one process",))


def test_every_defect_is_named() -> None:
    rising = [0.1 + 0.01 * number for number in range(23)]  # interval from the 7th to the 17th: 0.16 to 0.26
    graded = grade(rising, WarmUp(4, 2.04, settled=False), "budget spent", compared=False)
    assert graded.letter == "C"
    assert graded.reasons == (
        "warm-up did not settle in 4 runs and 2.0 s",
        "23 samples of 64: budget spent",
        "interval ±23.8 %, wanted ±2 %",  # 0.05 of 0.21
        "still drifting: second half 80.0 % slower",  # medians of 11: 0.15 and 0.27
        "outputs not compared: no reference",
        "one process",
    )


def test_limits_softer_than_the_grade_do_not_buy_a_b() -> None:
    assert grade([0.01] * 10, WARM, "sure", compared=True).reasons[0] == "10 samples of 64"


def test_too_few_samples_have_no_interval() -> None:
    assert "no interval: it takes 6 samples" in grade([0.01] * 5, WARM, "budget spent", compared=True).reasons


def test_outliers_are_told_and_cost_no_grade() -> None:
    samples = [0.010, 0.011] * 50 + [0.1]
    assert grade(samples, WARM, "sure", compared=True).reasons[-1] == "outliers kept: 0 mild, 1 severe"


# The whole of a case, with a fake clock and a fake session.


def fake_engine(monkeypatch: pytest.MonkeyPatch, clock: FakeClock, milliseconds: Sequence[float]) -> None:
    """An engine "fake" that takes 2 s to load and then each of `milliseconds` in turn."""
    spend = takes(clock, milliseconds)

    class FakeSession(engines.Session):
        def prepare(self, images: Any) -> Any:
            return images

        def infer(self, prepared: Any) -> Any:
            spend()
            return np.zeros((len(prepared), 10), dtype=np.float32)

        def outputs(self, raw: Any) -> Any:
            return raw

        def effective(self) -> dict[str, Any]:
            return {"threads": None, "provider": "FakeProvider", "layout": "NHWC", "version": "1.0"}

        def close(self) -> None:
            """Nothing is held."""

    def load(subject: Subject, settings: Settings) -> FakeSession:
        clock.spend(2000)
        return FakeSession()

    module = types.ModuleType("fake_engine")
    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_engine", module)
    info = replace(engines.find("null"), name="fake", module="fake_engine")
    monkeypatch.setitem(engines.ENGINES, "fake", info)


def fake_result(monkeypatch: pytest.MonkeyPatch, milliseconds: Sequence[float], limits: Limits) -> Result:
    """What a batch of 4 gives. The first of `milliseconds` is the first inference's."""
    clock = FakeClock()
    fake_engine(monkeypatch, clock, milliseconds)
    case = Case(
        model="m", engine="fake", subject=Subject("m", builder="a:b"), input_size=8, batch_size=4,
        num_classes=10, threads=2,
    )  # fmt: skip
    events: list[dict[str, Any]] = []
    worker.measure(case, limits, lambda event, **values: events.append({"event": event, **values}), clock)
    assert [event["event"] for event in events] == ["loaded", "warmed", "done"]
    return results.measured(case, engines.find("fake"), events[-1], system="this-machine")


def test_a_fake_clock_gives_the_figures_worked_out_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # One first inference of 80 ms, then 50 runs (0.5 s) of warm-up, then 64 samples, eight of them 20 ms.
    given = [80.0] + [10.0] * 50 + [10.0] * 56 + [20.0] * 8 + [10.0]
    result = fake_result(monkeypatch, given, Limits())
    rows = {row.metric: row for row in result.rows}
    assert result.failure is None
    assert result.samples == {"latency": [0.01] * 56 + [0.02] * 8}
    assert {metric: rows[metric].value for metric in rows if not metric.startswith("memory")} == {
        "latency": 0.01,
        "latency_p90": 0.02,  # the 58th of 64
        "throughput": 400.0,  # 4 images in 10 ms
        "load_time": 2.0,
        "first_inference": 0.08,
    }
    assert (rows["latency"].low, rows["latency"].high, rows["latency"].samples) == (0.01, 0.01, 64)
    assert (rows["throughput"].low, rows["throughput"].high) == (400.0, 400.0)


def test_bounds_of_throughput_are_those_of_latency_turned_round(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [80.0] + [10.0, 12.5] * 1000
    rows = {row.metric: row for row in fake_result(monkeypatch, given, Limits(seconds=3)).rows}
    assert (rows["latency"].value, rows["latency"].low, rows["latency"].high) == (0.01125, 0.01, 0.0125)
    assert (rows["throughput"].low, rows["throughput"].high) == (320.0, 400.0)


def test_every_row_can_be_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in fake_result(monkeypatch, [10.0], Limits()).rows:
        assert row.conditions() == {
            "input_size": 8, "batch_size": 4, "precision": "float32", "engine": "fake",
            "provider": "FakeProvider", "device": "cpu", "layout": "NHWC", "threads": 2,
            "scenario": "single-stream", "system": "this-machine",
        }  # fmt: skip
        assert row.origin == "benched"
        assert row.measured_at is not None
        assert {"vertebra", "python", "numpy"} <= set(row.versions)


def test_a_figure_without_a_reference_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    result = fake_result(monkeypatch, [10.0], Limits())
    latency = next(row for row in result.rows if row.metric == "latency")
    assert (latency.grade, latency.grade_reasons) == (
        "C",
        ("outputs not compared: no reference", "one process"),
    )
    assert "output_error" not in {row.metric for row in result.rows}


# Plans.


def test_a_case_and_its_limits_survive_json() -> None:
    case = Case(
        model="m", engine="null", subject=Subject("m", builder="a:b", arguments={"depth": 18}), input_size=64,
        batch_size=2, weights="m.in1k", reference="/some/where",
    )  # fmt: skip
    assert Case.from_json(case.to_json()) == case
    assert Limits.from_json(QUICK.to_json()) == QUICK


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="batch_size is 0"):
        Case(model="m", engine="null", subject=Subject("m", builder="a:b"), input_size=64, batch_size=0)
    with pytest.raises(InvalidInputError, match="seconds is 0"):
        Limits(seconds=0)
    with pytest.raises(InvalidInputError, match="at most 20 are taken"):
        Limits(most_samples=20)


# Memory.


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets a process's peak")
def test_the_peak_is_the_most_held_since_it_was_reset() -> None:
    megabyte = 1_000_000
    block = np.ones(200 * megabyte, dtype=np.uint8)
    del block
    if not memory.reset_peak():
        pytest.skip("this kernel does not let a process reset its peak")
    before = memory.peak_bytes()
    assert abs(before - memory.resident_bytes()) < 20 * megabyte
    block = np.ones(100 * megabyte, dtype=np.uint8)
    assert 90 * megabyte < memory.resident_bytes() - before < 120 * megabyte
    del block
    assert 90 * megabyte < memory.peak_bytes() - before < 120 * megabyte


# Child processes.


@pytest.fixture(autouse=True)
def _the_faulty_engine_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def reference(tmp_path: Path) -> str:
    """A Bundle whose network is nothing, and whose reference logits are the faulty engine's right answers."""
    import faulty_engine

    images = bundle.reference_images(batch_size=2, in_channels=3, input_size=8, seed=5)
    kept = bundle.write(
        tmp_path / "reference",
        lambda folder: (folder / "model.onnx").write_bytes(b"nothing") and None,
        model="m",
        logits=faulty_engine.answer(images, 10),
        reference_seed=5,
        input_size=8,
        in_channels=3,
        versions={},
    )
    return str(kept.folder)


def case_with(fault: str, reference: str | None = None, **arguments: Any) -> Case:
    subject = Subject("m", builder="a:b", arguments={"fault": fault, **arguments})
    return Case(
        model="m", engine="faulty", subject=subject, input_size=8, batch_size=2, num_classes=10,
        reference=reference,
    )  # fmt: skip


def measure_with(
    fault: str, reference: str | None = None, limits: Limits = QUICK, **arguments: Any
) -> Result:
    import faulty_engine

    case = case_with(fault, reference, **arguments)
    result = runner.measure(case, limits, system="this-machine", engine=faulty_engine.INFO)
    assert psutil.Process().children() == []
    return result


def test_a_case_in_a_child_gives_figures_and_is_compared(reference: str) -> None:
    result = measure_with("none", reference)
    rows = {row.metric: row for row in result.rows}
    assert result.failure is None
    assert set(rows) >= {
        "latency", "latency_p90", "throughput", "load_time", "first_inference", "memory_total", "memory_net",
        "output_error",
    }  # fmt: skip
    assert rows["output_error"].value == 0.0
    assert rows["latency"].value == pytest.approx(float(np.median(result.samples["latency"])))
    assert rows["latency"].samples == len(result.samples["latency"]) >= 64
    assert "outputs not compared: no reference" not in rows["latency"].grade_reasons
    assert rows["memory_total"].value > rows["memory_net"].value
    assert rows["throughput"].value == pytest.approx(2 / rows["latency"].value)


def test_the_null_engine_is_measured_through_the_whole_of_it() -> None:
    case = Case(model="m", engine="null", subject=Subject("m", builder="a:b"), input_size=8)
    result = runner.measure(case, QUICK, system="this-machine")
    assert result.failure is None
    assert {row.engine for row in result.rows} == {"null"}


FAILURES = {
    "segfault": 'before timing: crashed with signal 11 (Segmentation fault); its last line: "about to touch '
    'address 0"',
    "abort": "before timing: crashed with signal 6 (Aborted)",
    "exit": 'while loading: ended with exit code 3 and no result; its last line: "giving up"',
    "no memory": "while loading: out of memory",
    "no memory in words": "while loading: out of memory: DefaultCPUAllocator: can't allocate memory",
    "nan": "before timing: Wrong outputs: they hold values that are not finite",
    "half the batch": "before timing: Wrong outputs: shape (1, 10), but (2, 10) was expected",
    "wrong": "before timing: Wrong outputs: they differ from the reference by",
    "a little wrong": "before timing: Wrong outputs: they differ from the reference by",
    "one image wrong": "before timing: Wrong outputs: they differ from the reference by",
    "wrong later": "while timing: Wrong outputs: they differ from the reference by",
    "other threads": "while loading: faulty runs with threads 7, though 1 was asked for",
}


@pytest.mark.parametrize("fault", FAILURES)
def test_a_failure_is_a_row_that_tells_why(fault: str, reference: str) -> None:
    result = measure_with(fault, reference)
    assert result.failure is not None
    assert result.failure.startswith(FAILURES[fault])
    assert [(row.metric, row.value, row.grade_reasons) for row in result.rows] == [
        ("failure", 1.0, (result.failure,))
    ]
    assert result.samples == {}


def test_nan_and_a_wrong_shape_are_noticed_without_a_reference() -> None:
    assert "not finite" in str(measure_with("nan").failure)
    assert "shape (1, 10)" in str(measure_with("half the batch").failure)


@pytest.mark.parametrize(("fault", "stage"), [("hang in load", "while loading"), ("hang", "before timing")])
def test_a_hang_is_ended_and_recorded(fault: str, stage: str) -> None:
    failure = measure_with(fault, limits=replace(QUICK, seconds=1.0, timeout_s=4.0)).failure
    assert str(failure).startswith(f"{stage}: hung for 5 s")


def test_what_a_runtime_prints_disturbs_nothing(reference: str) -> None:
    for fault in ("garbage", "flood"):
        result = measure_with(fault, reference)
        assert result.failure is None
        assert result.rows[0].metric == "latency"


def test_a_reference_of_another_size_is_refused(reference: str) -> None:
    import faulty_engine

    case = replace(case_with("none", reference), input_size=16)
    result = runner.measure(case, QUICK, system="this-machine", engine=faulty_engine.INFO)
    assert "is for input_size 8, not 16" in str(result.failure)


def test_an_unknown_engine_starts_no_process() -> None:
    with pytest.raises(UnknownNameError, match="onnxruntim"):
        runner.measure(replace(case_with("none"), engine="onnxruntim"), QUICK, system="this-machine")


def test_a_child_that_cannot_start_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_COMMAND", ("/no/such/python",))
    assert "no process could be started" in str(measure_with("none").failure)
    monkeypatch.setattr(runner, "_COMMAND", (sys.executable, "-c", "raise SystemExit('not today')"))
    failure = str(measure_with("none").failure)
    assert failure == 'while loading: ended with exit code 1 and no result; its last line: "not today"'


def test_a_child_killed_at_any_moment_is_a_result() -> None:
    generator = random.Random(4)
    reasons = set()
    for _ in range(5):
        killer = threading.Thread(target=_kill_the_child_after, args=(generator.uniform(0.0, 1.5),))
        killer.start()
        result = measure_with("none", limits=replace(QUICK, seconds=20.0, least_s=20.0, most_samples=10**6))
        killer.join()
        reasons.add(str(result.failure).split(": ")[-1])
        assert [row.metric for row in result.rows] == ["failure"]
    assert reasons == {"killed (SIGKILL), as the system does when memory runs out"}


def _kill_the_child_after(seconds: float) -> None:
    while not (children := psutil.Process().children()):
        time.sleep(0.005)
    time.sleep(seconds)
    children[0].kill()


def test_descendants_of_a_child_go_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    assert measure_with("a child", pid_file=str(pid_file)).failure is None
    worker_pid, grandchild = map(int, pid_file.read_text().split())
    assert_gone(worker_pid)
    assert_gone(grandchild)


def assert_gone(pid: int) -> None:
    """Wait for the end of a process that has been told to end."""
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


@pytest.fixture
def hanging_parent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that measures a case which hangs while loading, and the id of the child that hangs."""
    pid_file = tmp_path / "pids"
    program = f"""
        import faulty_engine
        from vertebra.benchmarking import Case, Limits, measure
        from vertebra.engines import Subject

        arguments = {{"fault": "hang in load", "pid_file": {str(pid_file)!r}}}
        case = Case(
            model="m", engine="faulty", subject=Subject("m", builder="a:b", arguments=arguments), input_size=8
        )
        try:
            measure(case, Limits(), system="this-machine", engine=faulty_engine.INFO)
        except KeyboardInterrupt:
            import psutil
            print("interrupted", len(psutil.Process().children()), flush=True)
            raise
    """
    path = os.pathsep.join([str(HERE), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with parent:
        try:
            while not pid_file.exists():
                assert parent.poll() is None
                time.sleep(0.02)
            yield parent, int(pid_file.read_text())
        finally:
            parent.kill()


def test_a_child_does_not_outlive_a_killed_parent(hanging_parent: tuple[subprocess.Popen[str], int]) -> None:
    parent, child = hanging_parent
    assert psutil.pid_exists(child)
    parent.kill()
    assert_gone(child)


def test_ctrl_c_ends_the_child_and_goes_on_up(hanging_parent: tuple[subprocess.Popen[str], int]) -> None:
    parent, child = hanging_parent
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    out, _ = parent.communicate(timeout=60)
    assert out == "interrupted 0\n"
    assert parent.returncode == -signal.SIGINT
    assert not psutil.pid_exists(child)


def test_a_worker_without_a_request_ends() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "vertebra.benchmarking.worker"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout == b""


def test_junk_on_the_private_channel_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_COMMAND", (sys.executable, "-c", "print('hello')"))
    assert measure_with("none").failure == "the process sent b'hello', which is no event"


# Real engines.

SMALL_NETWORK = """
import torch
from torch import nn

def build(seed):
    torch.manual_seed(seed)
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(8, 10))
"""


@pytest.fixture(scope="module")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Subject]]:
    """A Bundle of a small network, and the builder that it was exported from."""
    for package in ("torch", "onnx", "onnxscript"):
        pytest.importorskip(package)
    from vertebra.exporting import export

    folder = tmp_path_factory.mktemp("small")
    (folder / "small_network.py").write_text(SMALL_NETWORK)
    subject = Subject("small", builder="small_network:build", arguments={"seed": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        export(subject, folder / "bundle", input_size=32)
        yield folder / "bundle", subject


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino"])
def test_a_real_engine_is_measured_and_compared(engine: str, small_network: tuple[Path, Subject]) -> None:
    reason = engines.missing(engine)
    if reason is not None:
        pytest.skip(reason)
    folder, builder = small_network
    subject = builder if engine == "eager" else Subject("small", bundle=str(folder))
    case = Case(
        model="small",
        engine=engine,
        subject=subject,
        input_size=32,
        batch_size=3,
        num_classes=10,
        reference=str(folder),
    )
    result = runner.measure(case, QUICK, system="this-machine")
    assert result.failure is None
    rows = {row.metric: row for row in result.rows}
    assert 0.0 <= rows["output_error"].value <= 1e-4
    assert rows["latency"].threads == 1
    assert set(engines.find(engine).distributions) & set(rows["latency"].versions)
    assert rows["memory_total"].value > rows["memory_net"].value
    files = [folder / name for name in ("model.onnx", "model.onnx.data") if (folder / name).exists()]
    if engine != "eager":
        assert rows["file_bytes"].value == sum(file.stat().st_size for file in files)


def test_another_network_than_the_reference_gives_no_latency(small_network: tuple[Path, Subject]) -> None:
    folder, builder = small_network
    other = replace(builder, arguments={"seed": 4})
    case = Case(
        model="small", engine="eager", subject=other, input_size=32, num_classes=10, reference=str(folder)
    )
    result = runner.measure(case, QUICK, system="this-machine")
    assert "Wrong outputs" in str(result.failure)
    assert [row.metric for row in result.rows] == ["failure"]


def test_a_reason_names_the_kind_of_an_unforeseen_error() -> None:
    assert worker._reason(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"
    assert worker._reason(SystemExit()) == "SystemExit"
    assert worker._reason(MeasurementError("Bad.", "do better")) == "Bad. do better"
