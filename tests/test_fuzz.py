"""The command under random arguments and names: it ends with a status of its own and prints no control bytes.

Whatever measures, downloads or serves is replaced by an error, so that only the parsing, the readers and the
printing run.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest
from click.testing import CliRunner

from classic_rows import known, timed
from vertebra.cli import VERBS, cli
from vertebra.errors import MeasurementError, VertebraError
from vertebra.measurements import Table

ALL_VERBS = [verb for verbs in VERBS.values() for verb in verbs]
#: What an option may get besides what fits it.
WORDS = (
    "", " ", "-", "--", "a", "0", "-1", "1e400", "nan", "inf", "9" * 400, "10ms", "75%", "0%", "30",
    "700MB", "1..64", "alexnet", "squeezenet1_1", "resnet50", "timm:x", "onnx:x.onnx", "onnxruntime",
    "openvino", "eager", "null", "cpu", "cuda", "float32", "int8", "top1", "latency", "fps", "failure",
    "machine", "table", "x=y", "model=A,top1=B:percent", "a@b", "@onnxruntime", "@openvino", "2026-01-01",
    "nowhere/x", ".", "..", "/dev/null", "x.svg", "x.html", "x.csv", "bianco2018", "all", "server",
    "offline", "http://127.0.0.1:1/ü.jpg", "hf:a/b", "\x1b[2J", "\u202e", "模型", "😀", "\udcff", "a\nb",
    "a\tb", "%s%n", "{}", '\'"`$(x)', "n" * 5000, "A", "B", "C", "1,2", "front", "accuracy", "grid",
)  # fmt: skip
#: Seconds that one command may take.
MOST_S = 30


def refuse(*_: Any, **__: Any) -> NoReturn:
    raise MeasurementError("nothing is measured here")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small table in a folder of its own, and nothing that takes long."""
    for heavy in (
        "vertebra.campaigns.campaign.measure", "vertebra.campaigns.diagnosis.examine",
        "vertebra.campaigns.tuning.fastest", "vertebra.machine.downloads.fetch",
        "vertebra.inference.resolving.resolve", "vertebra.inference.loading.load",
        "vertebra.reading.reports.server.serve",
    ):  # fmt: skip
        monkeypatch.setattr(heavy, refuse, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERTEBRA_TABLE", str(tmp_path / "table.sqlite"))
    monkeypatch.setenv("HOME", str(tmp_path))
    Table(tmp_path / "table.sqlite").append([*known(), *timed(), *timed("openvino", 0.9)])
    signal.signal(signal.SIGALRM, too_long)
    yield tmp_path
    signal.alarm(0)


def too_long(*_: object) -> NoReturn:
    raise AssertionError("no end")


def vector(chance: random.Random) -> list[str]:
    """A verb with random options and arguments of its own."""
    verb = chance.choice(ALL_VERBS)
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    arguments = [verb]
    for parameter in chance.sample(command.params, min(len(command.params), chance.randint(0, 4))):
        arguments += given(parameter, chance)
    return arguments


def given(parameter: click.Parameter, chance: random.Random) -> list[str]:
    name = chance.choice([*parameter.opts, *parameter.secondary_opts])
    if name in ("--help", "--live", "--serve"):
        return []
    if isinstance(parameter, click.Argument):
        return [value(parameter, chance) for _ in range(chance.randint(0, 3))]
    if parameter.is_flag:
        return [name]
    return [name, value(parameter, chance)]


def value(parameter: click.Parameter, chance: random.Random) -> str:
    if isinstance(parameter.type, click.Choice) and chance.random() < 0.7:
        return str(chance.choice(list(parameter.type.choices)))
    if isinstance(parameter.type, click.IntRange) and chance.random() < 0.7:
        return str(chance.choice((1, 2, 8, 224, 10**9)))
    return chance.choice(WORDS)


def answer(arguments: list[str]) -> str:
    """What the command prints; it must end with a status of its own."""
    signal.alarm(MOST_S)
    done = CliRunner().invoke(cli, arguments)
    signal.alarm(0)
    error = done.exception
    assert error is None or isinstance(error, (SystemExit, VertebraError)), (arguments, repr(error))
    assert done.exit_code in (0, 1, 2, 3), arguments
    return done.output


@pytest.mark.parametrize("seed", range(8))
def test_random_arguments_end_in_an_answer_or_one_error(small: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        answer(vector(chance))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 180))
def test_many_random_arguments_end_in_an_answer_or_one_error(small: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        answer(vector(chance))


# ------------------------------------------------------------------ names

SCRIPTS = ("abc xyz", "éüß", "模型网络", "שלום", "نموذج", "ไทย", "😀👩\u200d💻🏳️", "e\u0301\u0323" * 3)
SIGNS = (
    "\x00",
    "\x07",
    "\x1b[2J",
    "\x1b]0;t\x07",
    "\x7f",
    "\x9b",
    "\u202e",
    "\u2066",
    "\u2028",
    "\ufeff",
    "\n",
    "\r",
    "\t",
)


def names(chance: random.Random, count: int) -> list[str]:
    """Names of every length, script and kind of harm."""
    drawn = ["x" * 5000, "x " * 200, "", " "]
    while len(drawn) < count:
        parts = chance.choices(
            (*SCRIPTS, *SIGNS, "'\"<>&%$`|;", "=cmd()", "../../x", "a" * 100), k=chance.randint(1, 6)
        )
        drawn.append("".join(parts))
    return drawn[:count]


def renamed(table: Path, name: str) -> None:
    """Call one network `name`, and write it into its rows' texts, beneath what checks new rows."""
    with sqlite3.connect(table) as connection:
        connection.execute("UPDATE measurements SET model = ? WHERE model = 'alexnet'", (name,))
        connection.execute(
            "UPDATE measurements SET source = ?, disputed = ? WHERE model = ?", (name, name, name)
        )
    connection.close()


READERS = (
    ["table"], ["table", "--wide"], ["pick", "--latency", "15ms", "--why"], ["pick", "--top", "20"], ["pick"],
    ["chart"], ["chart", "--x", "latency", "--engine", "openvino"], ["chart", "grid"],
    ["compare", "@onnxruntime", "@openvino"],
)  # fmt: skip


def check_names(small: Path, seed: int, count: int) -> None:
    from vertebra.cli.terminal import breadth, plain

    before = (small / "table.sqlite").read_bytes()
    for name in names(random.Random(seed), count):
        (small / "table.sqlite").write_bytes(before)
        renamed(small / "table.sqlite", name)
        for arguments in [*READERS, ["show", name], ["show", "--json", name], ["table", "--json"]]:
            text = answer(arguments)
            assert plain(text) == text, (arguments, name)
            if "--json" not in arguments:
                assert max(map(breadth, text.splitlines()), default=0) <= 80 + max(map(len, name.split(" ")))


def test_readers_print_any_name_without_control_bytes(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    check_names(small, 0, 9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_readers_print_many_names_without_control_bytes(
    small: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    check_names(small, seed, 40)


@pytest.mark.parametrize("arguments", [["chart", "-o", "x.svg"], ["report", "-o", "x.html"]])
def test_pages_and_charts_hold_any_name(small: Path, arguments: list[str]) -> None:
    """In a process of its own: a library that draws could end it."""
    before = (small / "table.sqlite").read_bytes()
    for name in ("x" * 5000, "a\x1b[2J\x00b\u2028", "模型 😀"):
        (small / "table.sqlite").write_bytes(before)
        renamed(small / "table.sqlite", name)
        done = subprocess.run(
            [sys.executable, "-m", "vertebra", *arguments],
            capture_output=True, text=True, timeout=120, check=False, cwd=small, env={**os.environ},
        )  # fmt: skip
        assert done.returncode in (0, 1), (name[:50], done.stderr[-2000:])
        assert "Traceback" not in done.stderr
