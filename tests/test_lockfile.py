"""The lockfile: what is written into it, that it reads back the same, and that strange files are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import locks
import vertebra
from locks import HERE, figures
from vertebra.cli import cli
from vertebra.errors import InvalidInputError
from vertebra.machine import system
from vertebra.measurements import Table, shipped
from vertebra.reading import lockfile
from vertebra.reading.choice.candidates import Question


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return locks.made(tmp_path)


@pytest.fixture
def path(table: Table, tmp_path: Path) -> Path:
    return locks.locked(table, tmp_path)


def test_a_lock_has_the_choice_its_rows_the_next_best_and_what_would_overturn_it(path: Path) -> None:
    kept = json.loads(path.read_text())
    assert list(kept) == [
        "vertebra_lock", "about", "made", "asked", "choice", "evidence", "runners_up", "overturned_by",
    ]  # fmt: skip
    assert kept["vertebra_lock"] == 1
    assert kept["made"]["catalogue"] == shipped.digest()
    assert kept["made"]["machine"]["id"] == system.describe().id
    assert kept["asked"] == {
        "by": "top1", "limits": {"fps": "30/s", "memory": "200 MB"}, "licence": [], "family": [],
        "input_size": [], "trust": Question().trust, "among": "table", "conditions": {"batch_size": 1},
    }  # fmt: skip
    assert (kept["choice"]["model"], kept["choice"]["form"]["engine"]) == ("vgg11", "onnxruntime")
    assert [(row["metric"], row["value"]) for row in kept["evidence"]] == [
        ("top1", 0.7), ("params", 1e6), ("latency", 0.025), ("memory_total", 1e8),
    ]  # fmt: skip
    assert kept["evidence"][2]["versions"] == HERE["versions"]
    assert [one["model"] for one in kept["runners_up"]] == ["vgg13", "squeezenet1_1"]
    overturned = kept["overturned_by"]
    assert [(one["metric"], one["falls"], one["bound"]) for one in overturned["figures"]] == [
        ("fps", "below", 30), ("memory_total", "above", 200_000_000), ("top1", "below", 0.69),
    ]  # fmt: skip
    assert overturned["figures"][2]["then"] == "vgg13"
    [better] = overturned["better_if_faster"]
    assert (better["model"], list(better["would_need"])) == ("vgg16", ["fps"])
    assert 20 < better["would_need"]["fps"] <= 27
    assert overturned["contenders"] == []


def test_a_lock_is_text_of_short_lines_without_a_path_of_this_machine(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    assert text.endswith("}\n")
    assert "somebody" not in text
    assert str(tmp_path) not in text
    assert '"source": "figures.csv"' in text
    assert max(map(len, text.splitlines())) < 120


def test_the_same_table_gives_the_same_lock_but_for_its_date(path: Path, table: Table) -> None:
    before = json.loads(path.read_text())
    vertebra.pick(fps=30, memory="200MB", table=table, among="table", lock=path)
    after = json.loads(path.read_text())
    before["made"].pop("at"), after["made"].pop("at")
    assert before == after


def test_a_lock_reads_back_the_same_and_names_the_command_that_made_it(path: Path) -> None:
    lock = lockfile.read(path)
    assert json.loads(path.read_text()) == json.loads(json.dumps(lockfile.to_dict(lock)))
    assert lock.row.value("fps") == pytest.approx(40)
    assert [limit.bound for limit in lock.question.limits] == [30, 2e8]
    assert lock.question.filters["system"] == system.describe().id
    assert lock.command() == ("vertebra pick --fps 30/s --memory 200MB --among table --lock backbone.lock")


def test_contenders_that_were_not_measured_are_named_with_their_chance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(tmp_path / "table.sqlite")
    form = {"engine": "onnxruntime", "precision": "float32", "threads": 1}
    models = ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "squeezenet1_1", "vgg11", "alexnet")
    counts = shipped.counts()
    table.append(
        [
            row
            for model in models
            for row in figures(
                f"torchvision:{model}", 0.5, counts[f"torchvision:{model}"].macs / 2e11, **form
            )
            if row.metric == "latency"
        ]
    )
    path = tmp_path / "a.lock"
    vertebra.pick(latency="20ms", table=table, among="catalogue", lock=path)
    assert "The choice in a.lock depends on estimates." in caplog.text
    contenders = lockfile.read(path).contenders
    assert contenders
    for one in contenders:
        assert one["figures"]["latency"]["origin"] == "estimated"
        assert 0.05 <= one["chance"] <= 1
        assert one["figures"]["latency"]["low"] < 0.02 < one["figures"]["latency"]["high"]


def test_where_nothing_is_chosen_there_is_no_lock_and_a_warning(
    table: Table, path: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    before = path.read_bytes()
    picked = vertebra.pick(fps=9999, table=table, among="table", lock=path)
    assert picked.choice is None
    assert path.read_bytes() == before
    assert "backbone.lock isn't written. The one that is there stays as it is." in caplog.text
    vertebra.pick(fps=9999, table=table, among="table", lock=tmp_path / "new.lock")
    assert not (tmp_path / "new.lock").exists()


def test_the_command_writes_a_lock_too(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    asked = ["pick", "--fps", "30", "--among", "table", "--table", str(table.path), "--lock", str(path)]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0
    assert lockfile.read(path).model == "vgg11"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder / "none" / "a.lock", "There is no folder"),
        (lambda folder: folder, "is a folder, not a lockfile"),
        (
            lambda folder: _file(folder / "poetry.lock", '[[package]]\nname = "a"\n'),
            "isn't a lockfile of vertebra",
        ),
    ],
)
def test_a_place_where_no_lock_can_be_is_refused_first(
    make: Callable[[Path], Path], told: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    with pytest.raises(InvalidInputError, match=told):
        vertebra.pick(fps=30, table=tmp_path / "no-table.sqlite", among="table", lock=path)


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _changed(path: Path, *place: Any, to: Any) -> Path:
    """The lock with the value at `place` replaced, or removed where `to` is ...."""
    content = json.loads(path.read_text())
    part = content
    for key in place[:-1]:
        part = part[key]
    if to is ...:
        del part[place[-1]]
    else:
        part[place[-1]] = to
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "can't be read as a lockfile"),
        ("[[package]]", "can't be read as a lockfile"),
        ("[]", "isn't a lockfile of vertebra"),
        ('{"vertebra_lock": "1"}', "isn't a lockfile of vertebra"),
        ('{"vertebra_lock": 2}', "is of version 2; this vertebra reads version 1"),
        ('{"vertebra_lock": 1}', "made is null; an object was expected"),
        ('{"vertebra_lock": 1, "vertebra_lock": 1}', "twice"),
        ("[" * 100_000, "can't be read as a lockfile"),
        ('{"vertebra_lock": ' + "9" * 10_000 + "}", "can't be read as a lockfile"),
        ("\udce9".join(["", ""]), "can't be read as a lockfile"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_lock_is_refused_in_one_sentence(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInputError, match=told) as raised:
        lockfile.read(path)
    assert "a.lock" in raised.value.message
    assert "vertebra pick" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("place", "to", "told"),
    [
        (("asked", "limits"), [], r"limits is \[\]; an object"),
        (("asked", "limits", "fps"), True, r"limits\.fps is true"),
        (("asked", "limits", "fps"), "fast", 'The limit fps: Can\'t read "fast"'),
        (("asked", "limits", "fps"), float("nan"), "can't be a limit"),
        (("asked", "limits", "speed"), 3, 'There is no limit "speed"'),
        (("asked", "limts"), {}, "asked.limts is {}"),
        (("asked", "by"), "beauty", "beauty"),
        (("asked", "trust"), "Z", "trust is"),
        (("asked", "among"), "all", "among is"),
        (("asked", "input_size"), ["big"], "input_size is"),
        (("asked", "conditions", "engine"), {"a": 1}, r"conditions\.engine is"),
        (("asked", "conditions", "run"), "x", r"conditions\.run is"),
        (("choice", "model"), "a\x1b[2Jb", "model is"),
        (("choice", "form", "threads"), 1e300, r"form\.threads is"),
        (("choice",), None, "choice is null"),
        (("made", "machine", "id"), 7, "id is 7"),
        (("evidence",), [], "evidence is"),
        (("evidence", 0), 5, r"evidence\[0\] is 5"),
        (("evidence", 0, "model"), "other", "the rows of one network"),
        (("evidence", 2, "value"), float("inf"), "finite number"),
        (("evidence", 2, "value"), -1, "can't be"),
        (("evidence", 2, "speed"), 1, 'Unknown column "speed"'),
        (("overturned_by", "contenders"), [5], "contenders is 5"),
        (("runners_up", 0, "model"), None, "model is null"),
        (("overturned_by",), ..., "overturned_by is null"),
    ],
)  # fmt: skip
def test_a_lock_with_something_strange_in_it_is_refused_by_its_place(
    place: tuple[Any, ...], to: Any, told: str, path: Path
) -> None:
    _changed(path, *place, to=to)
    with pytest.raises(InvalidInputError, match=told) as raised:
        lockfile.read(path)
    assert raised.value.message.startswith(f"{path}: ")
    assert raised.value.hint


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({"batch_size": 1}, ""),
        ({"batch_size": None, "precision": ["float32", None]}, ""),
        ({"batch_size": 8, "engine": ["onnxruntime", "open vino"]},
         "--batch-size 8 --engine onnxruntime --engine 'open vino' "),
        ({"beside": 2, "dataset": "mine@3fa2"}, "--beside 2 --dataset mine@3fa2 "),
    ],
)  # fmt: skip
def test_the_command_has_every_condition_that_is_not_the_usual_one(
    conditions: dict[str, Any], told: str, path: Path
) -> None:
    lock = lockfile.read(_changed(path, "asked", "conditions", to=conditions))
    assert lock.command("a.lock") == (
        f"vertebra pick --fps 30/s --memory 200MB {told}--among table --lock a.lock"
    )


def test_the_command_has_limits_with_units(path: Path) -> None:
    limits = {"fps": 25, "latency": 0.02, "top1": 0.5, "memory": 2e8}
    lock = lockfile.read(_changed(path, "asked", "limits", to=limits))
    assert "--fps 25 --latency 0.02s --top1 50.0% --memory 200000000.0B --among" in lock.command()


def test_a_lock_without_a_grade_asks_for_the_usual_one(path: Path) -> None:
    lock = lockfile.read(_changed(path, "asked", "trust", to=None))
    assert lock.question.trust == Question().trust


def test_a_limit_that_was_changed_by_hand_is_the_one_that_is_asked(path: Path) -> None:
    lock = lockfile.read(_changed(path, "asked", "limits", "fps", to=25))
    assert [limit.bound for limit in lock.question.limits] == [25, 2e8]


def test_the_catalogue_s_digest_is_of_what_its_files_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    from vertebra.measurements.shipped import edition

    found = edition.digest()
    assert re.fullmatch("[0-9a-f]{16}", found)
    monkeypatch.setattr(edition, "_CATALOGUE", edition._CATALOGUE[:-1])
    assert edition.digest.__wrapped__() != found
