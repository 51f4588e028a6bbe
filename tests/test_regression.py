"""A comparison as a gate: its three outcomes, what is missing, and the files for a build server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

import vertebra
from vertebra.cli import cli
from vertebra.measurements import Measurement, Rows
from vertebra.reading.comparison import Compared
from vertebra.reading.regression import Gate, junit, markdown

HERE: dict[str, Any] = {
    "system": "here", "device": "cpu", "precision": "float32", "batch_size": 1, "input_size": 224,
    "threads": 2, "scenario": "single-stream", "engine": "onnxruntime", "origin": "benched",
    "measured_at": "2026-11-01T10:00:00+00:00",
}  # fmt: skip


def row(model: str, value: float = 0.010, grade: str | None = "B", **more: Any) -> Measurement:
    ends = {"low": value * 0.99, "high": value * 1.01, **more}
    return Measurement(
        **{"model": model, "metric": "latency", "value": value, "grade": grade, **HERE, **ends}
    )


def slow(row: Measurement, times: float) -> Measurement:
    assert row.low is not None
    assert row.high is not None
    return replace(row, value=row.value * times, low=row.low * times, high=row.high * times)


@pytest.fixture
def sides(tmp_path: Path) -> Any:
    """Writes two sides as files and compares them."""

    def write(first: list[Measurement], second: list[Measurement]) -> tuple[Path, Path]:
        paths = tmp_path / "before.csv", tmp_path / "after.csv"
        for path, rows in zip(paths, (first, second), strict=True):
            Rows(rows).write(path)
        return paths

    return write


def compared(first: list[Measurement], second: list[Measurement], sides: Any) -> Compared:
    return vertebra.compare(*sides(first, second))


def status(paths: tuple[Path, Path], *options: str) -> tuple[int, str]:
    found = CliRunner().invoke(cli, ["compare", *map(str, paths), *options])
    return found.exit_code, found.output


#: Twelve networks, nine of grade C.
TWELVE = [row(f"net{number}", grade="B" if number < 3 else "C") for number in range(12)]


def test_a_gate_that_judged_nearly_nothing_does_not_hold(sides: Any) -> None:
    paths = sides(TWELVE, [slow(one, 10) if one.grade == "C" else one for one in TWELVE])
    code, text = status(paths, "--tolerance", "5%")
    assert code == 3
    first, warning, outcome = text.splitlines()[:3]
    assert first.startswith("Not judged: 9 of 12 figures. Judged: 3 (0 worse by more than 5 %")
    assert warning.startswith(
        "Warning: 9 of the figures not judged are worse by more than 5 % with all of the"
    )
    assert "net3 on onnxruntime" in warning
    assert "(10.00 times)" in warning
    assert outcome == "Outcome: too little judged (25 % judged, 80 % required)."
    assert status(paths, "--require-judged", "25%")[0] == 0
    assert status(paths, "--require-judged", "26%")[0] == 3
    assert status(paths, "--trust", "C")[0] == 1


@pytest.mark.parametrize(
    ("times", "options", "code"),
    [
        ([1, 1], [], 0),
        ([1.5, 1], [], 1),
        ([1.5, 1], ["--tolerance", "60%"], 0),
        ([0.5, 1], [], 0),
        ([1, 1], ["--require-judged", "100%"], 0),
        ([1, 1], ["--require-judged", "-5%"], 2),
        ([1, 1], ["--require-judged", "most"], 2),
        ([1, 1], ["--tolerance", "-5%"], 2),
        ([1, 1], ["--junit", "no/such/folder/x.xml"], 2),
    ],
)
def test_the_exit_status(sides: Any, times: list[float], options: list[str], code: int) -> None:
    first = [row("one"), row("two")]
    paths = sides(first, [slow(one, factor) for one, factor in zip(first, times, strict=True)])
    assert status(paths, *options)[0] == code


def test_worse_goes_before_too_little_judged(sides: Any) -> None:
    after = [slow(TWELVE[0], 2), *TWELVE[1:]]
    assert status(sides(TWELVE, after))[0] == 1


def test_a_case_that_disappeared_is_named_and_fails_if_all_are_required(sides: Any) -> None:
    paths = sides([row("vgg16"), row("alexnet")], [row("vgg16"), row("resnet50")])
    code, text = status(paths)
    assert code == 0
    assert "Missing: 1 case that only the first side has: alexnet on onnxruntime, batch size 1." in text
    assert "New: 1 case that only the second side has: resnet50 on onnxruntime, batch size 1." in text
    assert status(paths, "--require-all")[0] == 1
    assert status(tuple(reversed(paths)), "--require-all", "--model", "vgg16")[0] == 0


def test_a_figure_asked_for_that_disappeared_is_a_missing_case(sides: Any) -> None:
    memory = row("alexnet", 2e8, metric="memory_total", grade=None)
    first = [row("vgg16"), row("alexnet"), memory]
    paths = sides(first, [row("vgg16"), memory])
    assert status(paths, "--require-all")[0] == 0
    assert status(paths, "--require-all", "--metric", "latency")[0] == 1


def test_a_case_that_failed_is_not_missing(sides: Any) -> None:
    failure = replace(row("alexnet"), metric="failure", value=1.0, low=None, high=None, grade=None,
                      grade_reasons=("crashed",))  # fmt: skip
    found = compared([row("vgg16"), row("alexnet")], [row("vgg16"), failure], sides)
    assert found.missing == ()
    assert Gate(found).outcome == "worse"


def test_a_time_that_is_taken_once_does_not_count_against_what_is_judged(sides: Any) -> None:
    once = [row("vgg16", 1.0, metric=name, low=None, high=None, grade=None)
            for name in ("load_time", "first_inference")]  # fmt: skip
    found = compared([row("vgg16"), *once], [row("vgg16"), *once], sides)
    assert (len(found.judgeable), len(found.judged), found.judged_share) == (1, 1, 1.0)
    assert Gate(found).outcome == "holds"
    assert "Measured once, and never judged: 2 figures." in Gate(found).summary()


def test_markdown_escapes_names_and_shows_what_changed(sides: Any) -> None:
    first = [row("a|b<c>*"), row("steady")]
    gate = Gate(compared(first, [slow(first[0], 2), first[1]], sides))
    text = markdown(gate, gate.changed)
    assert text.startswith("### vertebra compare: worse\n")
    assert "| a\\|b&lt;c&gt;\\* on onnxruntime, batch size 1 | latency | 10.0 ms | 20.0 ms | 2.000 |" in text
    assert "steady" not in text
    assert status(sides(first, first), "--markdown")[1].startswith("### vertebra compare: holds")


def test_junit_has_a_test_for_each_figure_and_missing_case(sides: Any, tmp_path: Path) -> None:
    first = [row("fast"), row("same"), row("doubted", grade="C"), row("gone")]
    second = [slow(first[0], 2), first[1], first[2]]
    paths, file = sides(first, second), tmp_path / "report.xml"
    assert status(paths, "--require-all", "--junit", str(file))[0] == 1
    suite = ElementTree.parse(file).getroot()
    assert dict(suite.attrib) == {
        "name": "vertebra compare", "tests": "5", "failures": "2", "skipped": "1", "errors": "0",
    }  # fmt: skip
    results = {test.get("name", "").split(" ")[0]: [child.tag for child in test] for test in suite}
    assert results == {"fast": ["failure"], "same": [], "doubted": ["skipped"], "gone": ["failure"],
                       "enough": []}  # fmt: skip


def test_junit_fails_if_too_little_was_judged_and_holds_any_name(sides: Any) -> None:
    doubted = [row("ok"), row("c1", grade="C"), row("c2", grade="C")]
    found = compared([*doubted, row("gone")], doubted, sides)
    odd = Compared([replace(one, second=replace(one.second, source="x")) for one in found], found.missing)
    assert junit(Gate(odd)).startswith(b"<?xml version='1.0' encoding='utf-8'?>")
    suite = ElementTree.fromstring(junit(Gate(odd)))
    assert [child.tag for child in suite[-1]] == ["failure"]
    told = suite[-1][0].get("message")
    assert told == "Outcome: too little judged (33 % judged, 80 % required)."
    assert ElementTree.fromstring(junit(Gate(odd, require_judged=0.0))).get("failures") == "0"


def test_an_error_of_ours_is_not_a_regression(sides: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(vertebra, "compare", broken)
    assert status(sides([row("a")], [row("a")]))[0] == 2
