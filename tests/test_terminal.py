"""What reaches a terminal: harmless text in any encoding, tables in any width, colours and a pager."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from classic_rows import SYSTEM, known, timed
from vertebra.cli import cli, tables, terminal
from vertebra.cli.output import json_text
from vertebra.measurements import Measurement, Table
from vertebra.measurements.display import interval

#: Names that disturb a terminal, an encoding or a layout.
HOSTILE = (
    "a\x1b[2Jb", "a\x1b]0;t\x07b", "a\u202eb", "a\x00b", "a\nerror: b", "a\tb", "a\x9bb", "模型", "é" * 200,
)  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classics on two engines, made-up."""
    path = tmp_path_factory.mktemp("terminal") / "table.sqlite"
    rows = [*known(), *timed(), *timed("openvino", 0.9, streams=1)]
    Table(path).append(rows)
    return path


def run(table: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "VERTEBRA_TABLE": str(table), **more}
    return subprocess.run(
        [sys.executable, "-m", "vertebra", *arguments],
        capture_output=True, env=environment, timeout=120, check=False,
    )  # fmt: skip


def on_a_terminal(table: Path, *arguments: str, **more: str) -> str:
    """What a terminal of 80 columns and 24 lines gets."""
    ours, theirs = pty.openpty()
    unset = ("NO_COLOR", "FORCE_COLOR", "LESS", "PAGER")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"VERTEBRA_TABLE": str(table), "TERM": "xterm", "COLUMNS": "80", "LINES": "24", **more}
    with subprocess.Popen(
        [sys.executable, "-m", "vertebra", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        got = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                got += os.read(ours, 65536)
            except OSError:
                break
        process.wait(60)
    os.close(ours)
    return got.decode().replace("\r\n", "\n")


# ------------------------------------------------------------------ harmless text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_printed_in_one_line_without_control_characters(name: str) -> None:
    shown = terminal.line(name)
    assert shown.isprintable()
    assert ("\\" in shown) == (not name.isprintable())


def test_newlines_of_ours_stay_and_joiners_are_no_danger() -> None:
    assert terminal.plain("a\nb\x1b") == "a\nb\\x1b"
    assert terminal.plain("👩\u200d💻 نمی\u200cخواهم") == "👩\u200d💻 نمی\u200cخواهم"
    assert terminal.plain("\udcff") == "\\udcff"


def test_an_error_s_further_lines_cannot_pass_for_a_hint_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.complain("bad name\nhint: rm -rf ~", "rename it")
    assert capsys.readouterr().err == "error: bad name\n  hint: rm -rf ~\nhint: rename it\n"


def test_messages_about_what_was_typed_hold_no_escapes(table: Path) -> None:
    escape = "\x1b]0;x\x07"
    for arguments in (["show", escape], ["list", f"--{escape}"], [escape], ["pick", "--latency", escape]):
        done = run(table, *arguments)
        assert done.returncode in (1, 2)
        assert b"\x1b" not in done.stderr + done.stdout
        assert b"\\x1b" in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "cp437"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("pick", "--latency", "10ms"), 0), (("pick", "--latency", "1us"), 1), (("chart", "--help"), 0),
        (("compare", "@onnxruntime", "@openvino"), 0), (("list", "engines", "--json"), 0), (("show", "…"), 1),
    ],
)  # fmt: skip
def test_any_encoding_gets_every_text(
    table: Path, encoding: str, arguments: tuple[str, ...], status: int
) -> None:
    done = run(table, *arguments, PYTHONIOENCODING=encoding)
    assert done.returncode == status
    assert b"Traceback" not in done.stderr
    # click writes help in UTF-8 where the environment says ASCII.
    (done.stdout + done.stderr).decode("utf-8" if "--help" in arguments and encoding == "ascii" else encoding)
    if arguments == ("pick", "--latency", "10ms"):
        assert ("<=" if encoding != "cp437" else "≤") in done.stdout.decode(encoding)


def test_json_reads_the_same_in_any_encoding_and_has_no_control_character(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = {"name": "".join(HOSTILE), "odd": "\udcff \x7f 😀"}
    for encoding in ("utf-8", "ascii", "latin-1"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        text = json_text(value, indent=1)
        text.encode(encoding)
        assert text.replace("\n", "").isprintable()
        assert json.loads(text) == value


def test_csv_is_exact_in_a_pipe_and_names_that_are_no_text_keep_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name in HOSTILE if name.isprintable()]
    Table(tmp_path / "t.sqlite").append(
        [Measurement(model=f"n{place}", metric="top1", value=0.5, origin="published", source=name)
         for place, name in enumerate(names)]
    )  # fmt: skip
    done = run(tmp_path / "t.sqlite", "table", "--csv")
    sources = [row["source"] for row in csv.DictReader(io.StringIO(done.stdout.decode(), newline=""))]
    assert sources == names
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.put("a\udcff,\ud800\n")
    assert stream.buffer.getvalue() == b"a\xff,\\ud800\n"


@pytest.mark.parametrize(
    "arguments", ["pick", "--help", "table --all", "table --json", "list --csv", "chart --help"]
)
def test_a_reader_that_is_gone_is_no_error(table: Path, arguments: str) -> None:
    command = f"{sys.executable} -m vertebra {arguments} | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False,
        env={**os.environ, "VERTEBRA_TABLE": str(table)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [("pick --latency 1us", 1), ("compare @onnxruntime @openvino --require-judged 100%", 3),
     ("compare alexnet@openvino vgg16@openvino --require-judged 0% --json", 1)],
)  # fmt: skip
def test_a_judgement_holds_where_its_reader_is_gone(table: Path, arguments: str, status: int) -> None:
    assert run(table, *arguments.split()).returncode == status
    command = f"{sys.executable} -m vertebra {arguments} | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False,
        env={**os.environ, "VERTEBRA_TABLE": str(table)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, "")


# ------------------------------------------------------------------ widths


@pytest.mark.parametrize("verb", sorted(cli.list_commands(click.Context(cli))))
def test_no_help_is_wider_than_80_columns(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    context = click.Context(command, info_name=f"vertebra {verb}", terminal_width=80)
    assert [line for line in command.get_help(context).splitlines() if len(line) > 80] == []


#: Commands whose text is tables and sentences.
VERBS = (
    "list", "list engines", "list metrics", "list charts", "list sources", "table", "table --wide", "chart",
    "chart grid", "chart latency-batch", "chart --x latency --engine onnxruntime", "pick",
    "pick --latency 50ms --why", "pick --latency 50ms --top 4", "pick --latency 1ms", "pick --engine onnx",
    "show vgg16", "show vgg16 --layers", "profile", "profile alexnet", "compare @onnxruntime @openvino",
    "table --model alexnet --metric latency --engine openvino",
)  # fmt: skip
#: Words that a layout adds.
ADDED = {"With", "In", "general", "as", "above", "measured", "published", "counted", ""}


@pytest.mark.parametrize("verb", VERBS)
def test_no_line_is_wider_than_the_terminal_and_no_word_is_broken(table: Path, verb: str) -> None:
    whole = run(table, *verb.split())
    words = {word.strip(",.:;-") for word in (whole.stdout + whole.stderr).decode().split()} | ADDED
    for width in (80, 120):
        done = run(table, *verb.split(), COLUMNS=str(width))
        assert done.returncode == whole.returncode
        text = (done.stdout + done.stderr).decode()
        assert [line for line in text.splitlines() if terminal.breadth(line) > width] == []
        assert {word.strip(",.:;-") for word in text.split()} - words == set()


def test_one_row_is_upright_and_conditions_that_all_rows_share_are_above() -> None:
    assert tables.columns([{"name": "a", "top-1": "70 %", "note": None}]) == "name   a\ntop-1  70 %"
    rows = [{"name": name, "conditions": {"engine": name, "batch_size": 1}} for name in ("a", "b")]
    assert tables.columns(rows).splitlines() == [
        "With: batch_size 1.", "", "name  conditions", "----  ----------", "a     engine a", "b     engine b",
    ]  # fmt: skip
    rows.append({"name": "c", "conditions": {"engine": "a", "batch_size": 1}})
    grouped = terminal._PAINT.sub("", tables.columns(rows, grouped=True))
    assert grouped.splitlines()[2:] == ["name", "----", "", "engine a", "a", "c", "", "engine b", "b"]


def test_rows_that_are_alike_but_for_their_sources_name_these(tmp_path: Path) -> None:
    figure: dict[str, Any] = {"metric": "params", "value": 61e6, "origin": "published"}
    rows = [Measurement(model="alexnet", **figure, source=source) for source in ("edition 1", "edition 2")]
    Table(tmp_path / "t.sqlite").append([*rows, Measurement(model="vgg16", **figure, source="edition 3")])
    shown = run(tmp_path / "t.sqlite", "table").stdout.decode().splitlines()
    found = [line.split()[0] + line.partition("edition")[2] for line in shown[2:]]
    assert found == ["alexnet 1", "alexnet 2", "vgg16"]


def test_an_error_of_compare_is_printed_like_every_other(tmp_path: Path) -> None:
    done = run(tmp_path / "t.sqlite", "compare", f"{tmp_path}/nothing.csv", "alexnet")
    assert (done.returncode, done.stderr.decode().splitlines()[0]) == (
        2, f"error: There is no file {tmp_path}/nothing.csv.",
    )  # fmt: skip
    assert done.stderr.decode().splitlines()[1].startswith("hint: name a table")


def test_what_has_no_room_goes_below_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = "word " * 30 + "end"
    rows = [{"name": "a", "value": 1, "note": text}, {"name": "b", "value": 22, "note": f"{text}."}]
    lines = tables.columns([*rows, {**rows[1], "name": "c"}]).splitlines()
    first = "    note: word word word word word word"
    assert lines[:4] == ["name  value", "----  -----", "a         1", first]
    assert lines[-2:] == ["c        22", "    note: as above"]
    assert max(map(len, lines)) <= 40


def test_wide_characters_count_twice_and_a_name_wider_than_the_terminal_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = tables.columns([{"name": "模型", "x": "ab"}, {"name": "n" * 5000, "x": "c"}]).splitlines()
    assert [terminal.breadth(line) for line in lines[2:]] == [34, 33]
    assert "…" in lines[3]


def test_a_number_stays_with_its_unit_and_a_command_in_one_line() -> None:
    assert terminal.folded("a bb 81.4 %", 8) == ["a bb", "81.4 %"]
    assert terminal.folded("install it with: pip install x", 20) == ["install it with:", "pip install x"]


def test_intervals_name_their_unit_once() -> None:
    row = Measurement(model="m", metric="latency", value=0.02, low=0.019, high=0.031, origin="published")
    assert interval(row) == "19.0 to 31.0 ms"


# ------------------------------------------------------------------ colours and pager


@pytest.mark.parametrize(
    ("more", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals(table: Path, more: dict[str, str], coloured: bool) -> None:
    assert ("\x1b[1m" in on_a_terminal(table, "pick", "--latency", "50ms", **more)) == coloured


def test_a_pipe_gets_colours_only_if_they_are_forced(table: Path) -> None:
    assert b"\x1b" not in run(table, "pick").stdout
    assert b"\x1b[1m" in run(table, "pick", FORCE_COLOR="1").stdout
    assert b"\x1b" not in run(table, "pick", "--json", FORCE_COLOR="1").stdout


def test_long_text_is_paged_on_a_terminal_and_short_text_is_not(table: Path, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text('#!/bin/sh\necho "PAGED $LESS"; cat\n')
    pager.chmod(0o755)
    assert "PAGED FRX" in on_a_terminal(table, "table", PAGER=str(pager))
    assert "PAGED" not in on_a_terminal(table, "table", "--no-pager", PAGER=str(pager))
    assert "PAGED" not in on_a_terminal(table, "list", "engines", "onnx", PAGER=str(pager))
    assert "PAGED" not in on_a_terminal(table, "pick", PAGER=str(pager))
    assert "squeezenet1_1" in on_a_terminal(table, "table", PAGER="")


# ------------------------------------------------------------------ pick


def estimates() -> list[Measurement]:
    form = {"system": SYSTEM, "engine": "onnxruntime", "device": "cpu", "precision": "float32",
            "batch_size": 1, "input_size": 224, "threads": 2}  # fmt: skip
    return [
        Measurement(model="new", metric="top1", value=0.9, origin="published", dataset="imagenet-1k"),
        Measurement(model="new", metric="latency", value=0.02, low=0.015, high=0.03, origin="estimated",
                    grade_reasons=("estimated from 11 measured networks",), **form),
    ]  # fmt: skip


def test_estimates_are_marked_and_have_their_interval_and_the_last_line_exports_them() -> None:
    from vertebra.cli import answer
    from vertebra.measurements import wide
    from vertebra.reading.choice.rule import Limit, pick

    picked = pick(wide([*known(), *timed(), *estimates()]), [Limit("latency", 0.05)])
    text = terminal._PAINT.sub("", answer.text(picked))
    assert re.search(r"latency +~20.0 ms \(15.0 to 30.0 ms\) +≤ 50 ms +✓ 40 % of it +estimated", text)
    assert text.endswith("\nnext: vertebra export new --engine onnxruntime -o new")
    assert "~ latency: estimated from 11 measured networks" in text
    record = answer.records(picked, 1)[0]
    assert (record["latency_low"], record["latency_high"]) == (0.015, 0.03)
    assert record["latency_origin"] == "estimated"


def test_a_limit_is_printed_as_typed_and_counts_are_whole(table: Path) -> None:
    assert "≥ 30/s" in run(table, "pick", "--fps", "30").stdout.decode()
    assert "≤ 16.67 ms" in run(table, "pick", "--latency", "16.67ms").stdout.decode()
    records = json.loads(run(table, "pick", "--latency", "50ms", "--json").stdout)
    assert {type(record["params"]) for record in records} == {int}
    assert {type(record["latency"]) for record in records} <= {float, type(None)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pick", "--engine", "onnx"), 'Unknown engine "onnx".\nhint: did you mean "onnxruntime"?'),
        (("table", "--engine", "onnx"), 'Unknown engine "onnx".\nhint: did you mean "onnxruntime"?'),
        (("chart", "--engine", "onnx"), 'Unknown engine "onnx".\nhint: did you mean "onnxruntime"?'),
        (("pick", "--precision", "float23"), 'Unknown precision "float23".\nhint: did you mean "float32"'),
        (("pick", "--scenario", "ofline"), 'Unknown scenario "ofline".\nhint: did you mean "offline"?'),
        (("table", "--system", "box-2-cores"), f'"box-2-cores".\nhint: did you mean "{SYSTEM}"'),
        (("pick", "--engine", "ncnn", "--fps", "30"), "The table has no measurement with engine ncnn"),
    ],
)  # fmt: skip
def test_a_condition_that_nothing_has_is_named(table: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run(table, *arguments)
    assert done.returncode == 1
    assert message in done.stderr.decode()
