"""A lock that is checked: each outcome on made-up tables, with a made-up measurement."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import locks
import vertebra
from locks import figures
from vertebra.cli import cli
from vertebra.errors import InvalidInputError
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, shipped, wide
from vertebra.measuring.benchmarking import Case
from vertebra.reading import lockfile
from vertebra.reading.choice import standing
from vertebra.reading.choice.standing import Checked, Now
from vertebra.verbs import check as verb

NEWER = {"onnxruntime": "1.33.0", "vertebra": "1.0"}
LATER = "2026-12-01T10:00:00+00:00"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return locks.made(tmp_path)


@pytest.fixture
def path(table: Table, tmp_path: Path) -> Path:
    return locks.locked(table, tmp_path)


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "_installed", lambda lock: {"onnxruntime": "1.33.0"})


def measuring(
    table: Table, seconds: dict[str, float], **more: Any
) -> tuple[list[str], Callable[[Sequence[Case], float], list[Measurement]]]:
    """The names of what is measured, and what measures it: a latency for each name."""
    asked: list[str] = []

    def bench(cases: Sequence[Case], deadline: float) -> list[Measurement]:
        rows = []
        for case in cases:
            asked.append(case.model)
            told = {"versions": NEWER, "measured_at": LATER, **more}
            if case.model in seconds:
                rows += [row for row in figures(case.model, 0.5, seconds[case.model], **told)
                         if row.origin == "benched"]  # fmt: skip
        if rows:
            table.append(rows)
        return rows

    return asked, bench


def checked(path: Path, table: Table, seconds: dict[str, float], **more: Any) -> Checked:
    return verb.settled(lockfile.read(path), table, 60.0, measuring(table, seconds, **more)[1])


def test_a_choice_that_meets_the_limits_and_is_the_best_holds(path: Path, table: Table) -> None:
    asked, bench = measuring(table, {"vgg11": 0.025, "vgg16": 0.040})
    found = verb.settled(lockfile.read(path), table, 60.0, bench)
    assert asked == ["vgg11", "vgg16"]  # and the better one that missed a limit by little
    assert (found.outcome, found.status) == ("holds", 0)
    assert found.says == "Still the best: vgg11 on onnxruntime; it meets 30 fps, peak memory ≤ 200 MB."
    assert found.changes == ("onnxruntime 1.31 → 1.33",)
    assert found.measured == ("vgg11 on onnxruntime", "vgg16 on onnxruntime")


def test_a_limit_that_is_surely_missed_breaks_the_lock_and_names_the_versions(
    path: Path,
    table: Table,
) -> None:
    found = checked(path, table, {"vgg11": 0.050, "vgg16": 0.060})
    assert (found.outcome, found.status) == ("broken", 1)
    assert found.says == "vgg11 on onnxruntime no longer meets 30 fps: onnxruntime 1.31 → 1.33."
    [fps] = [one for one in found.figures if one.metric == "fps"]
    assert (fps.verdict, fps.then and fps.then.value, fps.now and fps.now.value) == (
        "broken", pytest.approx(1 / 0.025), pytest.approx(20),
    )  # fmt: skip


def judged(path: Path, rows: list[Measurement], fresh: list[Measurement] | None = None) -> Checked:
    """The judgement of rows as they are, with nothing learnt from earlier ones."""
    now = Now(wide(rows), system.describe().id, {"onnxruntime": "1.31.0"}, fresh or [])
    return standing.judge(lockfile.read(path), now)


def test_without_a_change_of_versions_that_is_said(path: Path) -> None:
    found = judged(path, figures("vgg11", 0.70, 0.050))
    assert found.says == "vgg11 on onnxruntime no longer meets 30 fps: no version has changed."


def test_a_limit_within_the_interval_can_not_be_judged(path: Path) -> None:
    found = judged(path, figures("vgg11", 0.70, 1 / 30))
    assert (found.outcome, found.status) == ("not judged", 3)
    assert found.says == "Couldn't be judged: vgg11 on onnxruntime."
    assert found.reasons == ("Frames per second 30.0/s (29.4/s to 30.6/s), limit 30.0/s.",)


def test_a_better_network_that_now_meets_the_limits_is_named(path: Path, table: Table) -> None:
    found = checked(path, table, {"vgg11": 0.025, "vgg16": 0.025})
    assert (found.outcome, found.status) == ("outdone", 1)
    assert found.says == "vgg16 on onnxruntime is now 2 points better under your limits."
    assert found.better is not None
    assert found.better.model == "vgg16"


def test_a_network_of_a_newer_catalogue_is_said_to_be_new(
    path: Path,
    table: Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table.append(figures("vgg19", 0.721, 0.02, measured_at=LATER))
    monkeypatch.setattr("vertebra.measurements.shipped.digest", lambda: "another")
    found = checked(path, table, {"vgg11": 0.025})
    assert found.says == (
        "The catalogue that ships now has vgg19 on onnxruntime, 2.1 points better under your limits."
    )
    assert found.notes[0].startswith("The catalogue has changed since the lock was made with vertebra")


def test_a_better_estimate_is_measured_and_alone_breaks_nothing(path: Path, table: Table) -> None:
    def with_estimate() -> Table:
        other = Table(table.path.with_name("other.sqlite"))
        other.merge(table)
        other.append([
            replace(row, origin="estimated", grade=None) if row.metric == "latency" else row
            for row in figures("vgg19", 0.75, 0.02) if row.metric != "params"
        ])  # fmt: skip
        return other

    asked, bench = measuring(with_estimate(), {"vgg11": 0.025, "vgg16": 0.04, "vgg19": 0.021})
    found = verb.settled(lockfile.read(path), with_estimate(), 60.0, bench)
    assert asked == ["vgg11", "vgg16", "vgg19"]
    assert (found.outcome, found.says) == (
        "outdone", "vgg19 on onnxruntime is now 5 points better under your limits.",
    )  # fmt: skip


def test_an_estimate_that_is_not_measured_leaves_it_open(path: Path, table: Table) -> None:
    table.append([
        replace(row, origin="estimated", grade=None) if row.metric == "latency" else row
        for row in figures("vgg19", 0.75, 0.02)
    ])  # fmt: skip
    asked, bench = measuring(table, {"vgg11": 0.025})
    short = verb.settled(lockfile.read(path), table, 5.0, bench)
    assert "vgg19" not in asked
    assert (short.outcome, short.status) == ("not judged", 3)
    assert "vgg19 on onnxruntime is now 5 points better" in short.reasons[0]
    assert "by estimates" in short.reasons[0]
    failing = verb.settled(lockfile.read(path), table, 60.0, bench)  # it can't be measured: no candidate
    assert (failing.outcome, "vgg19" in asked) == ("holds", True)


def test_a_contender_that_was_never_measured_is_said_with_an_answer_that_holds(tmp_path: Path) -> None:
    table, models = (
        Table(tmp_path / "t.sqlite"),
        ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "vgg11"),
    )
    names = [f"torchvision:{model}" for model in models]
    counts = shipped.counts()
    for name in names:
        seconds = counts[name].macs / 2e11
        table.append([row for row in figures(name, 0.5, seconds, versions=NEWER) if row.origin == "benched"])
    path = tmp_path / "a.lock"
    vertebra.pick(fps=50, table=table, among="catalogue", lock=path)
    lock = lockfile.read(path)
    table.append([
        row for row in figures(lock.model, 0.5, 0.015, versions=NEWER, measured_at=LATER,
                               input_size=lock.form["input_size"]) if row.origin == "benched"
    ])  # fmt: skip
    found = vertebra.check(path, measure=False, table=table)
    assert found.says.startswith(f"Still the best that was measured: {lock.model} on onnxruntime")
    [note] = [one for one in found.notes if "not measured here and could be better" in one]
    assert note.endswith("--among catalogue --lock backbone.lock --budget 3m")


def test_a_tie_within_the_intervals_is_no_better_network(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "by.lock"
    vertebra.pick(by="latency", top1="65%", table=table, among="table", lock=path)
    asked, bench = measuring(table, {"vgg13": 0.0203, "vgg11": 0.0200})
    found = verb.settled(lockfile.read(path), table, 60.0, bench)
    assert asked == ["vgg13", "vgg11"]  # the runner-up too, where latency is what is compared
    assert found.outcome == "holds"
    both = [*figures("vgg13", 0.69, 0.0203), *figures("vgg11", 0.70, 0.0200)]
    assert judged(path, both).outcome == "holds"
    assert judged(path, [*figures("vgg13", 0.69, 0.025), *figures("vgg11", 0.70, 0.020)]).says == (
        "vgg11 on onnxruntime is now 20 % better in latency under your limits."
    )


def test_what_could_not_be_measured_is_not_judged(path: Path, table: Table) -> None:
    none = checked(path, table, {})
    assert none.status == 3
    assert none.reasons == ("There was no time to measure vgg11 on onnxruntime; allow more with --budget.",)

    def failing(cases: Sequence[Case], deadline: float) -> list[Measurement]:
        [row] = [row for row in figures(cases[0].model, 0.5, 1.0) if row.metric == "latency"]
        return [replace(row, metric="failure", value=1.0, low=None, high=None, grade=None,
                        grade_reasons=("crashed with signal 11",))]  # fmt: skip

    failed = verb.settled(lockfile.read(path), table, 60.0, failing)
    assert failed.reasons == ("Measuring vgg11 on onnxruntime failed: crashed with signal 11.",)


def test_an_engine_that_is_not_there_is_said_with_what_installs_it(
    path: Path,
    table: Table,
) -> None:
    content = json.loads(path.read_text().replace('"onnxruntime"', '"tensorrt"'))
    path.write_text(json.dumps(content))
    asked, bench = measuring(table, {})
    found = verb.settled(lockfile.read(path), table, 60.0, bench)
    assert (asked, found.status) == ([], 3)
    assert "tensorrt" in found.reasons[0].lower()


def test_without_measuring_the_table_is_judged_if_it_knows_what_is_installed(
    path: Path,
    table: Table,
) -> None:
    old = vertebra.check(path, measure=False, table=table)
    assert old.status == 3
    assert old.reasons == ("The newest measurement is of onnxruntime 1.31.0, and 1.33.0 is installed.",)
    slower = Table(table.path.with_name("slower.sqlite"))
    slower.merge(table)
    table.append(figures("vgg11", 0.70, 0.025, versions=NEWER, measured_at=LATER))
    assert vertebra.check(path, measure=False, table=table).outcome == "holds"
    slower.append(figures("vgg11", 0.70, 0.2, versions=NEWER, measured_at=LATER))
    assert vertebra.check(path, measure=False, table=slower).outcome == "broken"


def test_an_empty_table_has_nothing_to_judge_by(path: Path, tmp_path: Path) -> None:
    found = vertebra.check(path, measure=False, table=Table(tmp_path / "empty.sqlite"))
    assert found.reasons == ("The table has no measurement of vgg11 on onnxruntime in its form.",)
    fresh = Table(tmp_path / "fresh.sqlite")
    found = checked(path, fresh, {"vgg11": 0.025})  # the accuracy is the lock's
    assert found.outcome == "holds"


def test_a_measurement_against_all_others_is_not_judged(path: Path) -> None:
    """As where the row that is just measured is set aside, because the others contradict it."""
    for now, fresh, shown in ((0.02, 0.1, ("10.0/s", "50.0/s")), (0.1, 0.02, ("50.0/s", "10.0/s"))):
        found = judged(path, figures("vgg11", 0.70, now), figures("vgg11", 0.70, fresh))
        assert found.status == 3
        assert found.reasons[0].startswith(f"Frames per second was {shown[0]}")
        assert f"just now, but is {shown[1]}" in found.reasons[0]


def test_a_lock_of_another_machine_says_which_and_what_is_checked_here(
    path: Path,
    table: Table,
) -> None:
    content = json.loads(path.read_text())
    content["made"]["machine"] |= {"id": "a-board-4-cores-12345678", "cpu": "A board", "physical_cores": 4,
                                   "memory_bytes": 8e9, "gpus": [], "os": "Debian 12"}  # fmt: skip
    content["asked"]["limits"]["params"] = "2 M"
    path.write_text(json.dumps(content))
    asked, bench = measuring(table, {"vgg11": 0.025})
    found = verb.settled(lockfile.read(path), table, 60.0, bench)
    assert (asked, found.status) == ([], 3)
    assert found.says == (
        "Couldn't be judged: the lock was made on another machine, a-board-4-cores-12345678 (A board, "
        "4 cores, 8.00 GB, Debian 12)."
    )
    assert found.reasons[0] == "Checked here: parameters ≤ 2 M is met: parameters 1.00 M, limit 2.00 M."
    assert found.reasons[1] == "Checked here: top-1 accuracy is unchanged, 70.0 %."
    assert found.reasons[2].startswith("To choose for this machine: vertebra pick --fps 30/s")


def test_a_choice_by_what_needs_no_machine_is_judged_anywhere(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "params.lock"
    vertebra.pick(params="2M", table=table, among="table", lock=path)
    content = json.loads(path.read_text())
    content["made"]["machine"]["id"] = "another"
    path.write_text(json.dumps(content))
    assert vertebra.check(path, table=table, measure=False).outcome == "holds"


@pytest.mark.parametrize(
    ("name", "told"), [("none.lock", "There is no lockfile"), ("table.sqlite", "can't be read as a lockfile")]
)
def test_no_lockfile_is_one_error_with_status_2(name: str, told: str, table: Table, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=told):
        vertebra.check(tmp_path / name)
    done = CliRunner().invoke(cli, ["check", str(tmp_path / name)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    assert "vertebra pick" in done.stderr


def test_the_command_looks_for_a_lock_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["check"])
    assert done.exit_code == 2
    assert "There is no lockfile backbone.lock." in done.stderr
    assert "vertebra pick --fps 30 --memory 200MB --lock backbone.lock" in done.stderr


@pytest.mark.parametrize("options", [["--budget", "soon"], ["--nonsense"]])
def test_misuse_is_2(options: list[str], path: Path) -> None:
    assert CliRunner().invoke(cli, ["check", str(path), *options]).exit_code == 2


@pytest.mark.parametrize(
    ("latency", "status", "outcome"), [(0.024, 0, "holds"), (0.2, 1, "broken"), (1 / 30, 3, "not judged")]
)
def test_the_command_prints_the_answer_and_ends_with_its_status(
    latency: float,
    status: int,
    outcome: str,
    path: Path,
    table: Table,
    tmp_path: Path,
) -> None:
    table.append(figures("vgg11", 0.70, latency, versions=NEWER, measured_at=LATER))
    summary = tmp_path / "summary.md"
    asked = ["check", str(path), "--no-measure", "--table", str(table.path), "--markdown", str(summary)]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == status, done.output
    assert done.stdout.startswith(("Still the best", "vgg11 on onnxruntime no longer", "Couldn't be judged"))
    assert "onnxruntime 1.31 → 1.33" in done.stdout
    text = summary.read_text()
    assert text.startswith(f"### vertebra check: {outcome}\n")
    assert re.search(r"\| frames per second \| 40\.0/s \(.*\) \| [\d.]+/s \(.*\) \| ≥ 30/s \|", text)
    record = json.loads(CliRunner().invoke(cli, [*asked, "--json"]).stdout)
    assert (record["outcome"], record["status"], record["model"]) == (outcome, status, "vgg11")
    assert record["figures"][1]["metric"] == "fps"
    assert record["figures"][1]["limit"] == 30


def test_markdown_goes_into_a_device_too_and_holds_no_markup_of_names(path: Path, table: Table) -> None:
    found = vertebra.check(path, measure=False, table=table)
    strange = replace(found, says="a|b <c>", notes=("*d*",))
    assert "**a\\|b &lt;c&gt;**" in strange.markdown()
    assert "- \\*d\\*" in strange.markdown()
    asked = ["check", str(path), "--no-measure", "--table", str(table.path), "--markdown", os.devnull]
    assert CliRunner().invoke(cli, asked).exit_code == 3


def test_a_result_has_a_short_repr(path: Path, table: Table) -> None:
    found = vertebra.check(path, measure=False, table=table)
    assert repr(found) == "<Checked: Couldn't be judged: vgg11 on onnxruntime.>"
    assert "<table>" in found._repr_html_()
