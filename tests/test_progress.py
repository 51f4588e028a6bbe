"""Progress: one event, one parameter of that name everywhere, and how the command shows it."""

from __future__ import annotations

import ast
import inspect
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vertebra
from vertebra.cli import progress
from vertebra.progress import Progress, beating, silent

SOURCE = Path(vertebra.__file__).parent
#: Public functions that take long.
LONG = {
    "bench", "check", "disagreement", "doctor", "evaluate", "export", "fastest", "fit", "merge", "pick",
    "predict", "probe", "survey", "train",
}  # fmt: skip


def parameters() -> Iterator[tuple[str, str, str]]:
    """Every function's parameters in the package: where, name, annotation."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                given = node.args
                for one in (*given.posonlyargs, *given.args, *given.kwonlyargs):
                    annotation = "" if one.annotation is None else ast.unparse(one.annotation)
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", one.arg, annotation


# ------------------------------------------------------------------ the event and the parameter


def test_an_event_needs_only_a_text():
    event = Progress("exporting alexnet")
    assert (event.done, event.total, event.unit, event.left_s) == (0, None, "", None)
    assert vertebra.Progress is Progress
    silent(event)


def test_every_parameter_for_progress_has_one_name_and_one_type():
    found = list(parameters())
    assert len(found) > 1000
    old = [place for place, name, _ in found if name in ("watcher", "tell", "on_progress", "callback")]
    assert old == []
    named = {annotation for _, name, annotation in found if name == "progress"}
    assert named == {"Listener", "Listener | None"}
    assert {name for _, name, annotation in found if "Listener" in annotation} == {"progress"}


def test_the_public_functions_that_take_long_have_the_parameter():
    public = {name: getattr(vertebra, name) for name in vertebra.__all__}
    functions = {name: inspect.signature(one) for name, one in public.items() if inspect.isfunction(one)}
    taking = {name for name, signature in functions.items() if "progress" in signature.parameters}
    assert taking == LONG
    for name in LONG:
        parameter = functions[name].parameters["progress"]
        assert (parameter.kind, parameter.default) == (inspect.Parameter.KEYWORD_ONLY, None)


def test_bench_gives_events(tmp_path):
    pytest.importorskip("torch")
    seen: list[Progress] = []
    rows = vertebra.bench(
        "squeezenet1_1", "alexnet", engines=["null"], quick=True, seconds=0.3, table=tmp_path / "t.sqlite",
        progress=seen.append,
    )  # fmt: skip
    assert {row.metric for row in rows} >= {"latency"}
    assert {(event.total, event.unit) for event in seen} == {(2, "cases")}
    assert [event.done for event in seen] == sorted(event.done for event in seen)
    assert all(event.left_s is not None for event in seen)


def test_evaluate_and_predict_give_events(tmp_path):
    pytest.importorskip("torch")
    from PIL import Image

    for name in ("goldfish", "tench"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "set" / name / "one.png")
    seen: list[Progress] = []
    options = {"model": "squeezenet1_1", "untrained": True, "progress": seen.append}
    vertebra.predict(tmp_path / "set" / "tench" / "one.png", **options)
    notice = Progress("squeezenet1_1 is untrained: its answers mean nothing")
    assert seen == [notice]
    seen.clear()
    vertebra.evaluate(dataset=tmp_path / "set", labels="imagenet-1k", table=tmp_path / "t.sqlite", **options)
    counts = [Progress("evaluating on set", done, 2, "images") for done in (0, 2)]
    assert seen == [notice, *counts]


# ------------------------------------------------------------------ lines


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(capsys: pytest.CaptureFixture[str], *steps: tuple[float, Progress]) -> list[str]:
    """What is printed where there is no terminal: each event comes so many seconds after the one before."""
    clock = Clock()
    show = progress._Lines(clock)
    for seconds, event in steps:
        clock.now += seconds
        show(event)
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_without_a_terminal_cases_are_counted_in_tenths_and_no_line_comes_twice_in_a_moment(capsys):
    with progress.showing() as show:
        for done in (0.0, 0.29, 0.3):
            show(Progress("a on b, process 1 of 3", done, 3, "cases", 61.0))
        show(Progress("a on b, process 2 of 3", 1 / 3, 3, "cases"))
        show(Progress("a on b, process 3 of 3", 2.99, 3, "cases"))
    assert capsys.readouterr().err.splitlines() == [
        "[0/3] a on b, process 1 of 3 about 1:01 left",
        "[0.3/3] a on b, process 2 of 3",
        "[2.9/3] a on b, process 3 of 3",
    ]


def test_the_same_text_has_a_line_every_ten_seconds(capsys):
    steps = [(2.5, Progress("a on b", number / 10, 33, "cases")) for number in range(9)]
    assert lines(capsys, *steps) == ["[0/33] a on b", "[0.4/33] a on b", "[0.8/33] a on b"]


def test_images_have_a_rate_since_their_text_began_and_a_last_line(capsys):
    def at(done: float) -> Progress:
        return Progress("evaluating on val", done, 1000, "images")

    steps = [
        (0, Progress("exporting m")), (60, at(0)), (1, at(45)), (9, at(452)), (1, at(500)), (10, at(1000)),
        (0, at(1000)),
    ]  # fmt: skip
    assert lines(capsys, *steps) == [
        "exporting m",
        "evaluating on val: 0/1,000 images",
        "evaluating on val: 452/1,000 images, 45.2 images/s, about 0:12 left",
        "evaluating on val: 1,000/1,000 images, 47.6 images/s",
    ]


def test_a_rate_starts_again_with_the_count(capsys):
    def at(done: float) -> Progress:
        return Progress("features of m", done, 400, "images")

    steps = [(0, at(0)), (2, at(400)), (8, at(0)), (10, at(300))]
    assert lines(capsys, *steps)[-1] == "features of m: 300/400 images, 30 images/s, about 0:03 left"
    assert "features of m: 400/400 images, 200 images/s" in lines(capsys, *steps)


def test_bytes_have_a_scale_by_their_total_and_the_time_left(capsys):
    def at(done: float, total: float | None = 5_000_000) -> Progress:
        return Progress("downloading w.pth", done, total, "B")

    # What an earlier transfer left is no part of the rate.
    resumed = [(0, at(1_000_000)), (0.1, at(1_010_000)), (9.9, at(1_200_000))]
    assert lines(capsys, *resumed) == [
        "downloading w.pth: 1.0 of 5.0 MB",
        "downloading w.pth: 1.2 of 5.0 MB, about 3:10 left",
    ]
    assert lines(capsys, (0, at(0, 12_345))) == ["downloading w.pth: 0.0 of 12.3 kB"]
    assert lines(capsys, (0, at(1.2e9, 5e9))) == ["downloading w.pth: 1.2 of 5.0 GB"]
    assert lines(capsys, (0, at(7, None)), (1, at(8, None))) == ["downloading w.pth"]


# ------------------------------------------------------------------ the bar


def as_terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a terminal, whose text can be read. No fixture: pytest would put its own back."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return stream


def test_on_a_terminal_a_bar_shows_the_count_and_is_erased(monkeypatch):
    terminal = as_terminal(monkeypatch)
    with progress.showing() as show:
        show(Progress("a [b] on c", 0.3, 3, "cases", 61.0))
        drawn = terminal.getvalue()
    for text in ("a [b] on c", "0.3/3", "about 1:01 left"):
        assert text in drawn
    assert terminal.getvalue()[len(drawn) :].endswith("\x1b[2K")  # the line is erased


def test_what_has_no_count_stays_on_the_terminal_once(monkeypatch):
    terminal = as_terminal(monkeypatch)
    with progress.showing() as show:
        show(Progress("m is untrained"))
        show(Progress("m is untrained"))
    assert terminal.getvalue() == "m is untrained\n"


def test_the_bar_is_drawn_ten_times_a_second_at_most():
    clock, drawn = Clock(), list[float]()
    show = progress._Terminal(clock)
    show._draw = lambda event, rate: drawn.append(event.done)
    for done in range(1, 101):
        show(Progress("downloading w.pth", done, 100, "B"))
        clock.now += 0.01
    assert drawn[0] == 1
    assert drawn[-1] == 100
    assert 10 <= len(drawn) <= 12
    show(Progress("exporting m", 0, 1, "cases"))  # a new text at once
    assert drawn[-1] == 0


def test_a_total_that_is_not_known_takes_the_place_of_one_that_was(monkeypatch):
    as_terminal(monkeypatch)
    with progress.showing() as show:
        show(Progress("downloading a", 1e6, 5e6, "B"))
        show(Progress("downloading b", 2e6, None, "B"))
        assert show._bar.tasks[0].total is None
        assert [task.description for task in show._bar.tasks] == ["downloading b"]


def test_a_step_without_events_gives_its_own_again_until_it_ends(monkeypatch):
    monkeypatch.setattr("vertebra.progress.BEAT_S", 0.01)
    events: list[Progress] = []
    with beating(events.append, Progress("exporting m")):
        deadline = time.monotonic() + 20
        while len(events) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    count = len(events)
    time.sleep(0.05)
    assert count >= 3
    assert len(events) == count
    assert set(events) == {Progress("exporting m")}


def test_a_step_that_counts_nothing_shows_for_how_long_it_has_gone_on(capsys, monkeypatch):
    event = Progress("exporting m", 0, 1, "cases", 11.0)
    assert lines(capsys, *[(1, event)] * 12) == [
        "[0/1] exporting m about 0:11 left", "[0/1] exporting m for 0:10, about 0:11 left",
    ]  # fmt: skip
    terminal = as_terminal(monkeypatch)
    clock = Clock()
    show = progress._Terminal(clock)
    for _ in range(6):
        show(Progress("exporting m"))
        clock.now += 1
    show.clear()
    assert "for 0:05" in terminal.getvalue()
