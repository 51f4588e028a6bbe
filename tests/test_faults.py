"""What goes wrong while measuring, through the real runner and the real table: nothing is lost, nothing is
doubled, and every reason is recorded."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import faulty_engine
from vertebra.engines import Subject
from vertebra.measurements import Table
from vertebra.measuring.benchmarking import Case, Limits, Result, measure_all
from vertebra.zoo import CLASSICS

BRIEF = Limits.quick(seconds=0.5, warm_up_least_s=0.02, least_s=0.05, block_s=0.02, timeout_s=60.0)


@pytest.fixture
def reference(tmp_path: Path) -> str:
    return faulty_engine.write_reference(tmp_path / "reference")


def case_with(fault: str, reference: str | None = None) -> Case:
    return faulty_engine.case_with(fault, reference, model=fault)


def measured(cases: list[Case], limits: Limits = BRIEF, **more: Any) -> list[Result]:
    results = list(measure_all(cases, limits, system="this-machine", engine=faulty_engine.INFO, **more))
    assert psutil.Process().children() == []
    return results


# One engine's fault beside others.

FAULTS = {
    "segfault": "crashed with signal 11",
    "eats memory": "out of memory",
    "nan": "they contain values that are not finite",
    "another network's": "Wrong outputs: they differ from the reference by",
    "wrong later": "while timing: Wrong outputs",
    "exit": 'ended with exit code 3 and no result; its last line: "giving up"',
}


def test_each_fault_is_recorded_with_its_reason_and_the_others_go_on(reference: str) -> None:
    names = ["none", *FAULTS, "slow"]
    results = measured([case_with(name, reference) for name in names])
    told = {result.case.model: result for result in results}
    assert sorted(told) == sorted(names)
    for name, reason in FAULTS.items():
        assert reason in str(told[name].failure)
        assert [(row.metric, row.grade_reasons) for row in told[name].rows] == [
            ("failure", (told[name].failure,))
        ]
    for name in ("none", "slow"):
        assert told[name].failure is None
        assert told[name].rows[0].metric == "latency"
        assert len(told[name].samples["latency"]) >= 6


def test_batches_larger_than_one_that_lacked_memory_by_itself_are_not_tried(tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    small, large = (replace(case_with("no memory"), batch_size=size) for size in (4, 8))
    larger = replace(
        large, batch_size=16,
        subject=Subject("m", builder="a:b", arguments={"fault": "hang in load", "pid_file": str(tried)}),
    )  # fmt: skip
    other = replace(case_with("none"), batch_size=16)
    one_by_one = {"room_bytes": 1}
    told = measured([small, large, larger, other], **one_by_one)
    assert told[0].failure == "while loading: out of memory"
    for result in told[1:3]:
        assert result.failure == ("not tried: batch size 4 failed, even alone, while loading: out of memory")
        assert [row.metric for row in result.rows] == ["failure"]
    assert not tried.exists()
    assert told[3].failure is None


def test_one_that_hangs_is_ended_and_the_others_go_on() -> None:
    limits = replace(BRIEF, timeout_s=10.0)
    first, hung, last = measured([case_with("none"), case_with("hang"), case_with("slow")], limits)
    assert str(hung.failure).startswith("before timing: hung for 10.5 s")
    assert (first.failure, last.failure) == (None, None)


def test_what_fails_for_want_of_memory_beside_others_is_measured_again_by_itself(tmp_path: Path) -> None:
    once = str(tmp_path / "was-here")
    arguments = {"fault": "no memory at first", "pid_file": once}
    greedy = replace(case_with("none"), subject=Subject("m", builder="a:b", arguments=arguments))
    first, second = measured([case_with("slow"), greedy])
    assert first.failure is None
    assert second.failure is None
    assert (
        second.rows[0]
        .grade_reasons[-1]
        .startswith("measured again alone; together with others it failed while loading: out of memory")
    )


def test_a_process_that_does_not_rest_is_told_and_graded_down() -> None:
    limits = Limits.quick(seconds=5.0, warm_up_least_s=0.02, least_s=1.0)
    restless, quiet = measured([case_with("spins"), case_with("slow")], limits)
    told = [text for text in restless.rows[0].grade_reasons if "while idle, used" in text]
    assert len(told) == 1
    assert restless.rows[0].grade in ("B", "C")
    assert restless.samples["idle.cpu"][0] > 0.05 > quiet.samples["idle.cpu"][0]
    assert not any("while idle" in text for text in quiet.rows[0].grade_reasons)


def test_a_failure_in_a_later_process_fails_the_case(reference: str) -> None:
    limits = Limits(seconds=2.0, warm_up_least_s=0.02, least_s=0.05, block_s=0.02)
    killer = threading.Thread(target=kill_the_second_child)
    killer.start()
    (result,) = measured([case_with("slow", reference)], limits)
    killer.join()
    assert str(result.failure).endswith("as the system does when memory runs out (process 2)")
    assert [row.metric for row in result.rows] == ["failure"]


def kill_the_second_child() -> None:
    first = next_child(set())
    next_child({first.pid}).kill()


def next_child(but: set[int]) -> psutil.Process:
    while True:
        for child in psutil.Process().children():
            if child.pid not in but:
                return child
        time.sleep(0.005)


# Workers killed at random.


def test_workers_killed_at_20_random_instants_lose_and_double_nothing(reference: str) -> None:
    cases = [replace(case_with("slow", reference), model=f"m{number}") for number in range(8)]
    stop = threading.Event()
    killed: list[int] = []
    killer = threading.Thread(target=kill_at_random, args=(stop, killed, random.Random(20)))
    killer.start()
    rounds = []
    while len(killed) < 20:
        rounds.append(measured(cases, Limits.quick(seconds=1.0, warm_up_least_s=0.1, least_s=0.5)))
    stop.set()
    killer.join()
    for results in rounds:
        assert sorted(result.case.model for result in results) == [f"m{number}" for number in range(8)]
        for result in results:
            if result.failure is None:
                assert {row.metric for row in result.rows} >= {"latency", "throughput", "memory_total"}
            else:
                assert "killed (SIGKILL), as the system does when memory runs out" in result.failure
                assert [row.metric for row in result.rows] == ["failure"]


def kill_at_random(stop: threading.Event, killed: list[int], generator: random.Random) -> None:
    while not stop.wait(generator.uniform(0.02, 0.6)) and len(killed) < 20:
        children = psutil.Process().children()
        if children:
            child = generator.choice(children)
            child.kill()
            killed.append(child.pid)


# The table: two at once, kill -9, a full disk.

PROGRAM = """
    import sys
    from vertebra.campaigns import campaign, cases
    from vertebra.measuring.benchmarking import Limits
    from vertebra.errors import VertebraError
    from vertebra.measurements import Table
    from vertebra.zoo import CLASSICS

    table = Table(sys.argv[1])
    wanted = cases.cases(CLASSICS[:8], ["null"], input_size=64)  # a group of six, and one of two
    limits = Limits.quick(seconds=0.4, warm_up_least_s=0.05, least_s=0.001, block_s=0.02, most_samples=1000)
    try:
        campaign.measure(cases.remaining(wanted, table.rows()), table, limits=limits, again=False)
    except VertebraError as error:
        sys.exit(f"{error.message} {error.hint}")
"""


def measuring(table: Path, **more: Any) -> subprocess.Popen[str]:
    """A process that measures eight classics with the null engine into `table`, but for what that tells."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(table)],
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def latencies(table: Path) -> Counter[str]:
    """How many latencies the table tells of each network; each must be whole."""
    rows = Table(table).rows(origin="benched")
    by_run = {row.run: {other.metric for other in rows if other.run == row.run} for row in rows}
    assert all(
        {"latency", "throughput", "load_time", "memory_total"} <= metrics for metrics in by_run.values()
    )
    assert all(Table(table).samples(str(run))["latency"] for run in by_run)
    return Counter(row.model for row in rows if row.metric == "latency")


def test_two_at_once_on_one_table_lose_and_double_nothing(tmp_path: Path) -> None:
    table = tmp_path / "table.sqlite"
    with measuring(table) as first, measuring(table) as second:
        said = [first.communicate(timeout=300)[1], second.communicate(timeout=300)[1]]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert latencies(table) == Counter(CLASSICS[:8])


def test_kill_9_at_any_moment_loses_no_committed_row_and_doubles_none(tmp_path: Path) -> None:
    table = tmp_path / "table.sqlite"
    generator = random.Random(9)
    before: Counter[str] = Counter()
    for _ in range(5):
        with measuring(table) as process:
            time.sleep(generator.uniform(0.5, 5.0))
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            process.communicate(timeout=60)
        for child in children:
            assert_gone(child)
        told = latencies(table)
        assert told >= before
        before = told
    with measuring(table) as process:
        assert process.wait(timeout=300) == 0
        process.communicate()
    assert latencies(table) == Counter(CLASSICS[:8])


def assert_gone(process: psutil.Process) -> None:
    _, alive = psutil.wait_procs([process], timeout=30)
    assert not alive, f"{process} is still there"


def test_a_full_disk_is_one_clear_line_and_what_was_appended_stays(tmp_path: Path) -> None:
    table = tmp_path / "table.sqlite"
    Table(table)
    most = table.stat().st_size + 80_000  # less than eight cases need

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    with measuring(table, preexec_fn=limit) as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert said.count("\n") == 1
    assert said.startswith(f"Can't use the table {table}: ")
    assert "rows already in the table are safe" in said
    kept = latencies(table)
    assert 0 < len(kept) < 8
    with measuring(table) as process:
        assert process.wait(timeout=300) == 0
        process.communicate()
    assert latencies(table) == Counter(CLASSICS[:8])
