"""Where the table is kept: appending, filtering, merging, and what goes wrong on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

import vertebra
from vertebra import engines
from vertebra.campaigns import cases
from vertebra.errors import InvalidInputError, TableError, UnknownNameError, VertebraError
from vertebra.machine import system
from vertebra.machine.system import System
from vertebra.measurements import (
    Measurement,
    Table,
    default_path,
    layout,
    now,
    possible,
    sqlite,
    stored,
    wide,
)
from vertebra.measurements.record import record_of, text_of
from vertebra.measurements.run import Run
from vertebra.measuring.benchmarking import results
from vertebra.reading import comparison
from vertebra.reading.choice import candidates


def params(model: str, value: float = 1.0, **columns: object) -> Measurement:
    return Measurement(model=model, metric="params", value=value, origin="profiled", **columns)


def latency(model: str, value: float, **columns: object) -> Measurement:
    conditions = {
        "system": "box-1",
        "engine": "eager",
        "device": "cpu",
        "precision": "float32",
        "batch_size": 1,
        "input_size": 224,
    }
    return Measurement(model=model, metric="latency", value=value, origin="benched", **(conditions | columns))


def content(table: Table) -> Counter[str]:
    """Every row with its run, and every run's samples, as a multiset."""
    rows = Counter(f"{row.run} {text_of(record_of(row))}" for row in table.rows())
    return rows + Counter(f"{run.id} {run.system} {sorted(run.samples.items())}" for run in table.runs())


Place = Callable[[str], Path | str]


@pytest.fixture(params=["file", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a test's tables are, by name: each in a file, or each in a schema of a server."""
    if request.param == "file":
        return lambda name: tmp_path / name
    addresses: dict[str, str] = defaultdict(request.getfixturevalue("postgres").address)
    return lambda name: addresses[name]


@pytest.fixture
def table(place: Place) -> Table:
    return Table(place("table.sqlite"))


def change(table: Table, statement: str, **values: object) -> list[Any]:
    """Change the database itself, as somebody who edits it; returns what the statement does."""

    def work(connection: sql.Connection) -> list[Any]:
        done = connection.execute(sql.text(statement), values)
        return list(done) if done.returns_rows else []

    return table.store.write(work)


def test_times_are_recorded_in_utc() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", now())
    assert re.fullmatch(r".*:\d\d\.\d{6}\+00:00", now("microseconds"))


# ------------------------------------------------------------------ appending and reading


def test_a_row_comes_back_as_it_was_appended(table: Table) -> None:
    row = latency(
        "vgg16",
        0.25,
        low=0.24,
        high=0.26,
        samples=64,
        grade="A",
        grade_reasons=("steady", "cool"),
        threads=2,
        versions={"torch": "2.9", "vertebra": "0.1"},
        measured_at="2026-11-22T09:00:00Z",
        source="here",
    )
    run = table.append([row], samples={"vgg16": [0.25, 0.26]})
    (found,) = table.rows()
    assert found.run == run
    assert record_of(found) == record_of(row)
    assert found.grade_reasons == ("steady", "cool")
    assert table.samples(run) == {"vgg16": [0.25, 0.26]}


def test_the_same_content_appended_twice_is_there_once(table: Table) -> None:
    first = table.append([params("a"), params("b")], samples={"x": [1.0]})
    assert table.append([params("a"), params("b", run="another")], samples={"x": [1]}) == first
    assert len(table) == 2


@pytest.mark.parametrize(
    ("rows", "samples"),
    [([params("a", 2)], {}), ([params("a")], {"x": [1.0]}), ([params("a", measured_at="2026-11-22")], {})],
)
def test_other_content_is_another_run(
    table: Table, rows: list[Measurement], samples: dict[str, list[float]]
) -> None:
    first = table.append([params("a")])
    assert table.append(rows, samples=samples) != first
    assert len(table) == 2


def test_a_run_keeps_the_description_of_its_system(table: Table) -> None:
    from vertebra.machine import system

    here = system.describe()
    table.append([params("a")], system=here)
    assert table.systems()[here.id]["architecture"] == here.architecture
    assert table.runs()[0].system == here.id


def test_rows_come_oldest_run_first_and_in_the_order_of_appending(table: Table) -> None:
    table.append([params("z"), params("a")])
    time.sleep(0.001)
    table.append([params("b")])
    assert [row.model for row in table.rows()] == ["z", "a", "b"]


def test_filters_take_one_value_or_several_or_none(table: Table) -> None:
    table.append([latency("a", 1, batch_size=1), latency("a", 2, batch_size=8), latency("b", 3, threads=2)])
    assert [row.value for row in table.rows(model="a")] == [1, 2]
    assert [row.value for row in table.rows(batch_size=(1, 8))] == [1, 2, 3]
    assert [row.value for row in table.rows(batch_size={8}, model=["a", "b"])] == [2]
    assert [row.value for row in table.rows(threads=None)] == [1, 2]
    assert [row.value for row in table.rows(threads=(None, 2))] == [1, 2, 3]
    assert table.rows(model=()) == []


def test_an_unknown_column_is_told_with_close_matches(table: Table) -> None:
    with pytest.raises(UnknownNameError) as raised:
        table.rows(batchsize=1)
    assert 'did you mean "batch_size"' in str(raised.value.hint)


def test_a_filter_of_the_wrong_kind_is_refused(table: Table) -> None:
    with pytest.raises(InvalidInputError, match="batch_size is 'one'"):
        table.rows(batch_size="one")


def test_latest_is_the_newest_row_of_each_figure(table: Table) -> None:
    table.append([latency("a", 1.0, measured_at="2026-01-01"), params("a")])
    table.append([latency("a", 2.0, measured_at="2026-01-02")])
    assert sorted(row.value for row in table.latest(metric="latency")) == [2.0]
    assert len(table.latest()) == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"low": float("nan")}, "low"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"weights": "\ud800"}, "U[+]D800"),
        ({"samples": 2**63}, "samples"),
        ({"value": 0.0, "origin": "published"}, "parameters of a is 0, which"),
        ({"value": -5.0}, "parameters of a is -5"),
        ({"value": 5.3}, "5.3"),
        ({"value": 12.0, "low": 13.0}, "13 to 12, doesn't contain its value, 12"),
        ({"value": 12.0, "high": 11.0}, "doesn't contain its value, 12"),
        ({"low": 2.0, "high": float("inf")}, "high of the parameters of a is inf"),
        ({"value": "many"}, "not a number"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": -3}, "samples is -3"),
        ({"input_size": 0}, "input_size is 0"),
        ({"batch_size": -8}, "batch_size is -8"),
        ({"threads": True}, "threads is True"),
        ({"streams": 0}, "streams is 0"),
        ({"arrival_rate": 0.0}, "arrival_rate is 0"),
        ({"arrival_rate": -1.0}, "arrival_rate is -1"),
        ({"measured_at": "29/11/2026"}, "measured_at is '29/11/2026', which is not a date"),
        ({"measured_at": "yesterday"}, "not a date"),
        ({"measured_at": "2026-02-30"}, "not a date"),
        ({"model": "a\x1b[2Jb"}, "model holds the character U[+]001B"),
        ({"model": "a\u202eb"}, "U[+]202E"),
        ({"model": "a\u2028b"}, "U[+]2028"),
        ({"model": "a\nb"}, "a tab or a line break"),
        ({"model": " "}, "blank"),
        ({"model": "x" * 1001}, "1001 characters"),
        ({"dataset": "\x00"}, "dataset holds"),
        ({"grade_reasons": ("fine", "\x07")}, "grade_reasons holds"),
        ({"versions": {"torch": "2\x1b"}}, "versions holds"),
    ],
)
def test_a_row_that_can_not_be_is_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Measurement(**{"model": "a", "metric": "params", "value": 12.0, "origin": "profiled", **columns})


@pytest.mark.parametrize(
    ("metric", "value", "fits"),
    [
        ("top1", 0.0, True), ("top1", 1.0, True), ("top1", 1.01, False), ("top1", -0.05, False),
        ("calibration_error", 75.3, False), ("latency", 0.0, False), ("latency", -0.012, False),
        ("latency", 1e-9, True), ("throughput", 0.0, False), ("memory_total", 0.0, False),
        ("memory_weights", 0.0, True), ("compile_time", 0.0, True), ("compile_time", -1.0, False),
        ("output_error", 3.0, True), ("unreadable", 0.0, True), ("unreadable", 1.5, False),
        ("failure", 1.0, True), ("failure", 2.0, False), ("buffers", 0.0, True), ("macs", 0.0, False),
        ("model_stat_operations", -4.0, True), ("energy_per_image", 0.0, False), ("macs", 4.1, False),
        ("macs", 4133742592.25, True), ("top1", float("inf"), False), ("aa_floor", 1.5, True),
    ],
)  # fmt: skip
def test_a_published_value_lies_in_its_metrics_range(metric: str, value: float, fits: bool) -> None:
    with nullcontext() if fits else pytest.raises(InvalidInputError):
        Measurement(model="a", metric=metric, value=value, origin="published")


def test_a_network_without_parameters_may_be_counted() -> None:
    assert params("pools only", 0.0).value == 0


def test_names_of_files_are_made_plain_for_rows_of_our_own() -> None:
    named = possible.plain_names({"model": "onnx:a\x1b\nb.onnx", "dataset": "x" * 2000, "samples": 3})
    assert named == {"model": "onnx:a\ufffd\ufffdb.onnx", "dataset": "x" * 999 + "…", "samples": 3}
    Measurement(metric="params", value=1, origin="profiled", **named)


def test_names_may_hold_any_letters_and_spaces() -> None:
    for name in ("Zürich\xa0☃", "人脸", "a\u200db", "Bildschirmfoto\u202f1"):
        assert params(name).model == name


@pytest.mark.parametrize(
    "text",
    ["2026-11-22", "2026-11-22T09:00:00Z", "2026-11-22T09:00:00.5+05:30", "20261122", "2026-11-22 09:00"],
)
def test_iso_dates_and_times_are_dates(text: str) -> None:
    assert params("a", measured_at=text).measured_at == text


def test_a_bad_row_leaves_the_table_as_it_was(table: Table) -> None:
    row = params("a")
    object.__setattr__(row, "low", 3.0)  # past the row's own check
    with pytest.raises(InvalidInputError, match="doesn't contain"):
        table.append([params("fine"), row])
    assert len(table) == 0


def test_a_run_without_rows_is_refused(table: Table) -> None:
    with pytest.raises(InvalidInputError, match="No rows"):
        table.append([])


# ------------------------------------------------------------------ merging


def test_merging_is_idempotent_and_its_order_makes_no_difference(place: Place) -> None:
    def filled(name: str, numbers: range) -> Table:
        table = Table(place(name))
        for number in numbers:
            table.append([params("a", number), params("b", number)], samples={"x": [number, 2.5]})
        return table

    left, right = filled("left", range(4)), filled("right", range(2, 7))
    one, two = Table(place("one")), Table(place("two"))
    assert (one.merge(left), one.merge(right)) == (8, 6)
    assert (two.merge(right), two.merge(left)) == (10, 4)
    assert content(one) == content(two)
    assert one.rows() == two.rows()
    assert (one.merge(left), one.merge(two), one.merge(one)) == (0, 0, 0)
    assert len(one) == 14


def test_a_part_of_a_run_from_a_file_is_completed_by_the_whole(
    tmp_path: Path, place: Place, table: Table
) -> None:
    table.append([params("a"), params("b"), params("c")], samples={"x": [1.0]})
    table.write_csv(tmp_path / "part.csv", table.rows(model="b"))
    other = Table(place("other.sqlite"))
    assert other.read_csv(tmp_path / "part.csv") == 1
    assert table.merge(other) == 0
    assert other.merge(table) == 2
    assert content(other) == content(table)
    assert [row.model for row in other.rows()] == ["a", "b", "c"]


def test_an_edited_row_cannot_slip_into_a_run(tmp_path: Path, place: Place, table: Table) -> None:
    table.append([params("a", 5.0)])
    path = tmp_path / "edited.csv"
    table.write_csv(path)
    path.write_text(path.read_text().replace("5.0", "6.0"))
    with pytest.raises(TableError, match="doesn't contain it"):
        table.read_csv(path)
    other = Table(place("other.sqlite"))
    other.read_csv(path)  # nothing here tells that it was edited
    for into, came in ((table, other), (other, table)):
        with pytest.raises(TableError, match="doesn't contain it"):
            into.merge(came)
    assert [row.value for row in table.rows()] == [5.0]


def test_a_run_is_whole_only_with_all_that_its_id_was_made_of() -> None:
    run = Run.of([params("a"), params("b")], {"x": [1.0]})
    assert run.is_whole()
    assert not Run(run.id, run.records[:1], run.samples).is_whole()
    assert not Run(run.id, run.records).is_whole()


def test_any_file_of_rows_is_taken_in_by_its_ending(tmp_path: Path, place: Place, table: Table) -> None:
    table.append([params("a"), params("b")])
    table.write_csv(tmp_path / "rows.csv")
    table.write_json(tmp_path / "rows.json")
    Table(tmp_path / "a table.sqlite").merge(table)
    for name in ("rows.csv", "rows.json", "a table.sqlite"):
        other = Table(place(f"of {name}"))
        assert (other.take_in(tmp_path / name), other.take_in(tmp_path / name)) == (2, 0)
    with pytest.raises(TableError, match="no such file"):
        table.take_in(tmp_path / "absent.sqlite")
    with pytest.raises(InvalidInputError, match=r"rows\.txt"):
        table.take_in(tmp_path / "rows.txt")


# ------------------------------------------------------------------ places and files that aren't ours


def test_the_place_is_the_path_else_the_variable_else_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTEBRA_TABLE", str(tmp_path / "named.sqlite"))
    assert default_path() == tmp_path / "named.sqlite"
    assert Table(tmp_path / "given.sqlite", create=False).path == tmp_path / "given.sqlite"
    monkeypatch.delenv("VERTEBRA_TABLE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        assert default_path() == tmp_path / "vertebra" / "table.sqlite"
    assert default_path().parts[-2:] == ("vertebra", "table.sqlite")


def test_reading_a_table_that_does_not_exist_leaves_no_litter(tmp_path: Path, place: Place) -> None:
    table = Table(place("folder/table.sqlite"), create=False)
    assert (table.rows(), table.latest(), table.systems(), table.samples("x"), len(table)) == (
        [],
        [],
        {},
        {},
        0,
    )
    assert list(tmp_path.iterdir()) == []
    table.append([params("a")])
    assert len(table) == 1


def test_an_empty_file_is_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "table.sqlite"
    path.touch()
    assert Table(path, create=False).rows() == []
    Table(path).append([params("a")])
    assert len(Table(path)) == 1


def _foreign_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE meta (name TEXT, value TEXT)")
        database.execute("INSERT INTO meta VALUES ('product', 'somebody else''s')")
        database.commit()


def _foreign_write_ahead_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE songs (title TEXT)")
        database.commit()


def _newer(path: Path) -> None:
    Table(path).append([params("a")])
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
        database.commit()


def _damaged(path: Path) -> None:
    Table(path).append([params("a")])
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_foreign_database, "is not a table of measurements"),
        (_foreign_write_ahead_database, "is not a table of measurements"),
        (
            lambda path: path.write_text("a letter to a friend, longer than a header"),
            "is not a table of measurements",
        ),
        (lambda path: path.write_bytes(b"SQLite format 3\x00"), "Can't use|not a table"),
        (_newer, "written by a newer vertebra"),
        (_damaged, "damaged|not a table"),
    ],
    ids=["database", "write-ahead database", "text", "header alone", "newer", "damaged"],
)
def test_a_file_that_is_not_ours_to_write_is_refused_and_left_untouched(
    tmp_path: Path, make: object, message: str
) -> None:
    path = tmp_path / "table.sqlite"
    make(path)  # type: ignore[operator]
    before = path.read_bytes()
    for attempt in (
        lambda: Table(path),
        lambda: Table(path, create=False).rows(),
        lambda: Table(path, create=False).append([params("b")]),
    ):
        with pytest.raises(TableError, match=message) as raised:
            attempt()
        assert raised.value.hint
    assert path.read_bytes() == before


def test_a_folder_and_a_path_through_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "table.sqlite"):
        for create in (True, False):
            with pytest.raises(TableError):
                Table(path, create=create).rows()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Permissions don't bind the superuser."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no permissions of this kind here")
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    yield
    if superuser:
        os.seteuid(0)


def test_a_table_that_may_only_be_read_is_read_and_not_written(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "table.sqlite"
    Table(path).append([params("a")])
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    before = path.read_bytes()
    request.getfixturevalue("as_nobody")
    if not os.access(path, os.R_OK, effective_ids=True):
        pytest.skip("this folder can't be shown to another user")
    assert len(Table(path, create=False)) == 1
    with pytest.raises(TableError, match="is not writable"):
        Table(path)
    with pytest.raises(TableError):
        Table(tmp_path / "new" / "table.sqlite")
    assert path.read_bytes() == before


FULL_DISK = """
import resource, sys
from vertebra.errors import TableError
from vertebra.measurements import Measurement, Table
path, room = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
row = Measurement(model="big", metric="params", value=1, origin="profiled", source="x" * 500)
try:
    Table(path).append([row] * 2000)
except TableError as error:
    print(error.message, "|", error.hint)
    sys.exit(7)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="files can't be limited in size")
@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_is_one_clear_error_and_nothing_is_half_written(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "table.sqlite"
    if existing:
        Table(path).append([params("kept")])
    before = path.read_bytes() if existing else b""
    room = len(before) + 100_000 if existing else 20_000
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(room)],
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert "table.sqlite" in done.stdout
    assert "| " in done.stdout
    assert path.read_bytes() == before
    assert [row.model for row in Table(path, create=False).rows()] == (["kept"] if existing else [])


# ------------------------------------------------------------------ layouts


def test_an_older_table_is_taken_through_the_steps_that_it_lacks(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place("table.sqlite")
    Table(path).append([params("a")])
    steps = [
        ("ALTER TABLE runs ADD COLUMN note TEXT",),
        ("UPDATE runs SET note = 'taken over'",),
    ]
    monkeypatch.setattr(layout, "MIGRATIONS", (*layout.MIGRATIONS, *steps))
    assert [row.model for row in Table(path, create=False, untouched=True).rows()] == ["a"]
    assert [row.model for row in Table(path, create=False).rows()] == ["a"]
    assert change(Table(path), "SELECT note FROM runs") == [("taken over",)]
    assert change(Table(path), "SELECT value FROM meta WHERE name = 'schema_version'") == [("5",)]
    Table(path).append([params("b")])  # a second opening takes no step again
    assert len(Table(path)) == 2
    monkeypatch.undo()
    with pytest.raises(TableError, match="newer"):
        Table(path)


def test_a_step_that_fails_leaves_the_older_table_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place("table.sqlite")
    table = Table(path)
    table.append([params("a")], samples={"x": [1.0]})
    before = path.read_bytes() if isinstance(path, Path) else content(table)
    steps = [
        ("DROP TABLE samples",),
        ("ALTER TABLE absent ADD COLUMN note TEXT",),
    ]
    with monkeypatch.context() as newer:
        newer.setattr(layout, "MIGRATIONS", (*layout.MIGRATIONS, *steps))
        with pytest.raises(TableError):
            Table(path)
    assert (path.read_bytes() if isinstance(path, Path) else content(table)) == before


VERSION_1 = Path(__file__).with_name("table_version_1.sql")


def _version_1(path: Path) -> Path:
    """A table as an earlier vertebra wrote it."""
    with contextlib.closing(sqlite3.connect(path)) as raw:
        raw.executescript(VERSION_1.read_text(encoding="utf-8"))
    return path


def _answers(path: Path) -> tuple[object, ...]:
    table = Table(path, create=False)
    rows = table.rows()
    empty = {(row.network_sha256, row.dataset_sha256, row.beside, row.exclusive) for row in rows}
    whole = [run.is_whole() for run in table.runs()]
    latency = table.rows(metric="latency")[0]
    samples = {name: len(values) for name, values in table.samples(str(latency.run)).items()}
    return len(rows), empty, whole, latency.value, latency.system, samples["latency"], list(table.systems())


_IN_VERSION_1 = (
    18, {(None, None, None, None)}, [True, True], 0.015043772, "amd-epyc-2-cores-0ec31edf", 65,
    ["amd-epyc-2-cores-408406fa"],
)  # fmt: skip


def test_a_table_of_version_1_is_brought_up_to_date_and_a_copy_of_it_kept(tmp_path: Path) -> None:
    path = _version_1(tmp_path / "table.sqlite")
    path.chmod(0o600)
    assert _answers(path) == _IN_VERSION_1
    kept = tmp_path / "table.sqlite.v1.backup"
    with contextlib.closing(sqlite3.connect(kept)) as old:
        assert VERSION_1.read_text(encoding="utf-8").endswith("\n".join(old.iterdump()) + "\n")
    assert kept.stat().st_mode & 0o777 == 0o600
    Table(path).append([params("a", network_sha256="ab", dataset_sha256="cd", beside=2, exclusive=True)])
    assert Table(path).rows(exclusive=True, beside=2, dataset_sha256="cd")[0].exclusive is True
    assert [run.is_whole() for run in Table(path).runs()] == [True, True, True]


def test_an_earlier_copy_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "table.sqlite.v1.backup").write_text("mine")
    Table(_version_1(tmp_path / "table.sqlite"))
    assert (tmp_path / "table.sqlite.v1.backup").read_text() == "mine"
    assert (tmp_path / "table.sqlite.v1.backup-2").is_file()


def test_a_table_of_version_1_that_may_not_be_written_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _version_1(tmp_path / "table.sqlite")
    before = path.read_bytes()
    connected = sqlite._connected
    monkeypatch.setattr(
        sqlite, "_connected", lambda path, mode: connected(path, "ro")
    )  # the superuser may write all files
    assert _answers(path) == _IN_VERSION_1
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*backup*"))
    with pytest.raises(TableError, match="not writable"):
        Table(path).append([params("a")])


def test_a_table_of_version_1_merges_with_what_was_brought_up_to_date(tmp_path: Path) -> None:
    old, new = _version_1(tmp_path / "old.sqlite"), _version_1(tmp_path / "new.sqlite")
    Table(new).append([params("a", exclusive=False)])
    assert Table(new).take_in(old) == 0
    assert len(Table(new)) == 19
    assert Table(old).take_in(new) == 1
    assert content(Table(old)) == content(Table(new))


_OPEN = "import sys; from vertebra.measurements import Table; print(len(Table(sys.argv[1])))"


def test_processes_that_open_a_table_of_version_1_at_once_all_read_it_whole(tmp_path: Path) -> None:
    path = _version_1(tmp_path / "table.sqlite")
    command = [sys.executable, "-c", _OPEN, str(path)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) for _ in range(4)
    ]
    assert [process.communicate()[0].strip() for process in started] == ["18"] * 4
    assert [file.name for file in tmp_path.glob("*backup*")] == ["table.sqlite.v1.backup"]


def test_the_layout_of_version_3_stands_still() -> None:
    """Whoever changes a column adds a step to MIGRATIONS, and the new layout here."""
    tables = {
        name: [column.name for column in table.columns] for name, table in layout.layout().tables.items()
    }
    assert (layout.schema_version(), tables) == (
        3,
        {
            "meta": ["name", "value"],
            "systems": ["id", "description"],
            "runs": ["id", "created_at", "system"],
            "measurements": [
                "run",
                "ordinal",
                "model",
                "metric",
                "value",
                "origin",
                "weights",
                "network_sha256",
                "low",
                "high",
                "samples",
                "grade",
                "grade_reasons",
                "dataset",
                "dataset_sha256",
                "split",
                "protocol",
                "input_size",
                "batch_size",
                "precision",
                "engine",
                "provider",
                "device",
                "layout",
                "threads",
                "streams",
                "scenario",
                "arrival_rate",
                "beside",
                "exclusive",
                "system",
                "source",
                "convention",
                "disputed",
                "versions",
                "measured_at",
            ],
            "samples": ["run", "name", "samples"],
            "forgotten": ["run", "forgotten_at", "reason"],
            "prices": ["system", "said_at", "per_hour", "currency"],
        },
    )


def test_a_run_id_never_changes_for_the_same_content() -> None:
    """Tables of two releases merge only if both call the same run the same."""
    row = Measurement(
        model="a", metric="params", value=1, origin="profiled", grade_reasons=("x",), versions={"t": "2"}
    )
    content = (
        '{"rows":[{"grade_reasons":["x"],"metric":"params","model":"a","origin":"profiled","value":1.0,'
        '"versions":{"t":"2"}}],"samples":{"s":[0.5]},"system":null}'
    )
    import hashlib

    assert Run.of([row], {"s": [0.5]}).id == hashlib.sha256(content.encode()).hexdigest()


# ------------------------------------------------------------------ several processes, and killed ones


WRITER = """
import sys
from vertebra.measurements import Measurement, Table
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = Table(path)
for number in range(count):
    models = [f"{name}-{n}" for n in range(ROWS)]
    rows = [Measurement(model=model, metric="params", value=number, origin="profiled") for model in models]
    print(table.append(rows, samples={"x": [float(n) for n in range(300)]}), flush=True)
"""


def _environment() -> dict[str, str]:
    import vertebra

    source = str(Path(vertebra.measurements.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": source}


def _writer(
    path: Path | str, name: str, count: int, rows: int = 3, into: Path | None = None
) -> subprocess.Popen[str]:
    """A process that appends runs and prints their ids, `into` a file or a pipe."""
    code = WRITER.replace("ROWS", str(rows))
    with contextlib.nullcontext(subprocess.PIPE) if into is None else into.open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(path), name, str(count)],
            stdout=out,
            text=True,
            env=_environment(),
        )


def _integrity(path: Path | str) -> str:
    if isinstance(path, str):  # a server looks after its own files
        return "ok"
    with contextlib.closing(sqlite3.connect(path)) as raw:
        return str(raw.execute("PRAGMA integrity_check").fetchone()[0])


def test_four_processes_that_append_at_once_lose_nothing(place: Place) -> None:
    path = place("table.sqlite")  # none of them finds a table yet: its making is contended too
    writers = [_writer(path, f"writer{number}", 25) for number in range(4)]
    told = [writer.communicate(timeout=120)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0, 0]
    runs = {run.id: run for run in Table(path).runs()}
    assert set(runs) == {run for ids in told for run in ids}
    assert len(runs) == 100
    assert all(run.is_whole() for run in runs.values())
    assert len(Table(path)) == 300
    assert _integrity(path) == "ok"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_writers_that_are_killed_at_any_instant_lose_no_committed_row_and_double_none(
    tmp_path: Path, place: Place
) -> None:
    path = place("table.sqlite")
    chance = random.Random(20261122)
    files = [tmp_path / f"of {number}" for number in range(8)]
    writers = [
        _writer(path, f"writer{number % 4}", 100_000, rows=20, into=file) for number, file in enumerate(files)
    ]
    until = time.monotonic() + 120
    while not all(file.stat().st_size for file in files):  # all append at once
        assert time.monotonic() < until
        time.sleep(0.05)
    for writer in writers:
        time.sleep(chance.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        assert writer.wait(60) == -signal.SIGKILL
        assert _integrity(path) == "ok"
    told = [line for file in files for line in file.read_text().splitlines() if len(line) == 64]
    runs = {run.id: run for run in Table(path).runs()}
    committed = set(told)
    assert committed <= set(runs)
    assert len(committed) >= 8
    assert len(told) > len(committed)  # two writers of each name append the same runs
    # killed between its commit and telling of it, a writer may have left one run more, a whole one
    assert len(runs) <= len(committed) + 8
    assert all(run.is_whole() and len(run.records) == 20 for run in runs.values())
    assert len(Table(path)) == 20 * len(runs)


def test_importing_the_table_imports_no_other_package() -> None:
    code = (
        "import sys; standard = set(sys.stdlib_module_names); import vertebra.measurements; "
        "loaded = {name.partition('.')[0] for name, module in sys.modules.items() if module is not None}; "
        "print(sorted(loaded - standard - {'vertebra'}))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env=_environment(), check=True
    )
    assert done.stdout.strip() in ("[]", "['__main__']")


def test_every_column_is_explained_in_the_documentation() -> None:
    from vertebra.measurements import COLUMNS

    text = (Path(__file__).parents[1] / "docs" / "table.md").read_text(encoding="utf-8")
    assert [name for name in COLUMNS if f"| `{name}` |" not in text] == []


# ------------------------------------------------------------------ systems whose ids changed


def _with_old_id(path: Path | str, described: System, old: str, row: Measurement) -> str:
    """A table in which the system has the id that an earlier version gave it; returns the run's id."""
    table = Table(path)
    run = Run.of([dataclasses.replace(row, system=old)], {"latency": [1.0]}, old)
    text = text_of({**described.to_dict(), "id": old})
    change(table, "INSERT INTO systems VALUES (:id, :text)", id=old, text=text)
    change(table, "INSERT INTO runs VALUES (:id, '2026-01-01', :system)", id=run.id, system=old)
    record = run.records[0] | {"run": run.id, "ordinal": 0}
    record = {name: text_of(value) if name == "versions" else value for name, value in record.items()}
    marks = ", ".join(f":{name}" for name in record)
    change(table, f"INSERT INTO measurements ({', '.join(record)}) VALUES ({marks})", **record)
    change(table, "INSERT INTO samples VALUES (:id, 'latency', '[1.0]')", id=run.id)
    return run.id


def test_an_old_id_that_a_system_would_not_have_today_is_the_same_system(place: Place) -> None:
    here, path = system.describe(), place("table.sqlite")
    run = _with_old_id(path, here, "old-id-11111111", latency("vgg16", 0.5, input_size=224))
    table = Table(path)
    table.append([latency("alexnet", 0.1, system=here.id)], system=here)
    assert [row.system for row in table.rows()] == [here.id] * 2
    for name in (here.id, "old-id-11111111"):
        assert len(table.rows(system=name)) == len(table.comparable(system=name)) == 2
    assert table.rows(system=(here.id, "other")) == table.rows()
    assert table.benched_systems() == {here.id}
    assert candidates.this_system(table) == here.id
    assert table.system("old-id-11111111") == table.system(here.id)
    assert len(vertebra.table(path=table, system="old-id-11111111", wide=True)) == 2
    sides = [comparison.side(name, table) for name in ("old-id-11111111", here.id, f"system={here.id}")]
    assert [len(side.rows) for side in sides] == [2, 2, 2]
    assert table.system(here.id) is not None
    assert {row.conditions["system"] for row in wide(table.rows())} == {here.id}
    assert all(run.is_whole() for run in table.runs())
    assert table.samples(run) == {"latency": [1.0]}


def test_what_is_exported_of_such_a_system_keeps_the_stored_id(tmp_path: Path, place: Place) -> None:
    path = place("table.sqlite")
    _with_old_id(path, system.describe(), "old-id-11111111", latency("vgg16", 0.5))
    table = Table(path)
    for write, read, name in (
        (table.write_csv, table.read_csv, "rows.csv"), (table.write_json, table.read_json, "rows.json"),
    ):  # fmt: skip
        write(tmp_path / name)
        assert "old-id-11111111" in (tmp_path / name).read_text()
        assert read(tmp_path / name) == 0
    copy = Table(place("copy.sqlite"))
    assert (copy.merge(table), content(copy)) == (1, content(table))
    assert table.merge(copy) == 0


def test_a_survey_goes_on_where_the_system_had_another_id(place: Place) -> None:
    [case] = cases.cases(["alexnet"], ["eager"])
    told = results.conditions(case) | {"versions": {"torch": engines.version("eager")}, "layout": "NCHW"}
    row = Measurement(model="alexnet", metric="latency", value=0.1, origin="benched", system="x", **told)
    path = place("table.sqlite")
    assert cases.remaining([case], Table(path).rows()) == [case]
    _with_old_id(path, system.describe(), "old-id-11111111", row)
    assert cases.remaining([case], Table(path).rows()) == []


def test_a_description_of_another_kind_leaves_the_id_as_it_is(place: Place) -> None:
    path = place("table.sqlite")
    Table(path).append([latency("a", 1.0, system="pi-5")])
    change(Table(path), "INSERT INTO systems VALUES ('pi-5', '[1, 2]'), ('pi-4', 'no JSON')")
    assert Table(path).rows()[0].system == "pi-5"


# ------------------------------------------------------------------ forgetting


def test_a_forgotten_run_shows_nowhere_until_it_is_restored(table: Table) -> None:
    kept = table.append([params("a")])
    wrong = table.append([latency("b", 9.0), params("b", 0.0)], samples={"latency": [9.0]})
    assert table.forget(wrong[:6]) == {wrong: 2}
    assert [row.run for row in table.rows()] == [row.run for row in table.latest()] == [kept]
    assert (table.comparable(), len(table), table.benched_systems()) == (table.rows(), 1, set())
    assert [row.model for row in table.rows(forgotten=True)] == ["b", "b"]
    assert list(table.forgotten()) == [wrong]
    assert table.forget(wrong) == {wrong: 2}  # again changes nothing
    assert table.restore(wrong[:6]) == {wrong: 2}
    assert (len(table), table.forgotten(), table.rows(forgotten=True)) == (3, {}, [])


def test_what_begins_no_run_or_several_is_refused(table: Table) -> None:
    runs = [table.append([params(f"m{number}")]) for number in range(17)]  # two begin alike: 16 first digits
    first = next(run[0] for run in runs if sum(other[0] == run[0] for other in runs) > 1)
    for beginning, message in ((first, "begins the ids of"), ("", "no run"), ("xyz", 'begins with "xyz"')):
        with pytest.raises(VertebraError, match=message):
            table.forget(beginning)
    with pytest.raises(UnknownNameError, match="no forgotten run"):
        table.restore(runs[0])
    assert table.forgotten() == {}


def test_what_is_forgotten_in_one_table_is_forgotten_where_they_are_merged(place: Place) -> None:
    one, two = Table(place("one.sqlite")), Table(place("two.sqlite"))
    run = one.append([params("a")])
    two.append([params("a")])
    two.append([params("b")])
    one.forget(run)
    both = [Table(place(f"{name}.sqlite")) for name in ("there", "back")]
    for target, order in zip(both, ((one, two), (two, one)), strict=True):
        for source in (*order, *order):
            target.merge(source)
        assert [row.model for row in target.rows()] == ["b"]
        assert list(target.forgotten()) == [run]


# ------------------------------------------------------------------ what stands in older tables


@pytest.fixture(autouse=True)
def nothing_named_yet() -> None:
    stored._named.clear()


def edited(table: Table, column: str, value: object, *, where: str = "model = 'bad'") -> Table:
    change(table, f"UPDATE measurements SET {column} = :value WHERE {where}", value=value)
    return table


def keeps(table: Table, column: str, value: object) -> bool:
    """Whether the database keeps a value of this kind in the column; a server refuses or converts others."""
    kind = {"value": float, "low": float, "high": float, "batch_size": int}.get(column, str)
    return isinstance(table.store, sqlite.File) or type(value) is kind


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("value", "text"), ("value", b"1"), ("value", float("inf")), ("model", b"blob"), ("metric", "late"),
        ("origin", "x"), ("grade", "Z"), ("versions", "{"), ("versions", "[" * 100_000), ("versions", "[1]"),
        ("grade_reasons", "3"), ("grade_reasons", "[1]"), ("batch_size", 1.5), ("batch_size", "one"),
        ("low", float("-inf")),
    ],
)  # fmt: skip
def test_a_row_that_can_not_be_understood_is_named_once_and_left_out(
    table: Table, caplog: pytest.LogCaptureFixture, column: str, value: object
) -> None:
    table.append([latency("good", 0.5)])
    run = table.append([latency("bad", 0.5)])
    if not keeps(table, column, value):
        with contextlib.suppress(TableError):
            edited(table, column, value)
        assert len(table.rows()) == 2
        return
    edited(table, column, value)
    assert [row.model for row in table.rows()] == ["good"]
    assert [row.model for row in table.latest()] == ["good"]
    (told,) = caplog.messages
    assert f"--forget {run[:8]}" in told
    assert "1 row of the table is left out (not understood): run " in told
    table.forget(run)
    assert len(table) == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [("value", 0.0), ("value", -0.012), ("low", 0.6), ("high", 0.4), ("batch_size", 0), ("threads", -1)],
)
def test_what_can_not_be_is_kept_in_sight_and_nothing_is_computed_from_it(
    table: Table, caplog: pytest.LogCaptureFixture, column: str, value: object
) -> None:
    table.append([latency("good", 0.5)])
    run = table.append([latency("bad", 0.5)])
    edited(table, column, value)
    assert [row.model for row in table.rows()] == ["good", "bad"]
    assert [(row.model, row.value("fps")) for row in wide(table.rows())] == [("good", 2.0)]
    assert "1 row of the table is left out (impossible numbers): run " in caplog.text
    assert f"--forget {run[:8]}" in caplog.text


def test_merging_refuses_what_can_not_be_by_its_run_and_row(place: Place, table: Table) -> None:
    other = Table(place("other.sqlite"))
    run = other.append([latency("bad", 0.5), params("b")])
    edited(other, "value", -0.5)
    with pytest.raises(
        InvalidInputError, match=f"{re.escape(other.shown)}, run {run[:8]}, row 0: The latency of bad is -500"
    ):
        table.merge(other)
    assert len(table) == 0
    other.forget(run)
    assert (table.merge(other), len(table)) == (0, 0)
    edited(other, "versions", "{")
    assert table.merge(other) == 0
    other.restore(run)
    with pytest.raises(TableError, match=f"Row 0 of run {run[:8]}"):
        table.merge(other)


def test_broken_samples_and_systems_end_no_reader(table: Table) -> None:
    run = table.append([params("a")], samples={"x": [1.0], "y": [2.0]})
    change(table, "UPDATE samples SET samples = '[' WHERE name = 'x'")
    change(table, "INSERT INTO systems VALUES ('s', '{')")
    assert (table.samples(run), table.systems()) == ({"y": [2.0]}, {})


@pytest.mark.parametrize("version", ["9" * 5000, "3000000000", "9"])
def test_a_version_of_any_length_is_a_newer_one(table: Table, version: str) -> None:
    table.append([params("a")])
    change(table, "UPDATE meta SET value = :version WHERE name = 'schema_version'", version=version)
    with pytest.raises(TableError, match="newer vertebra"):
        table.rows()


# ------------------------------------------------------------------ the newest


def created(table: Table, run: str, when: str) -> None:
    change(table, "UPDATE runs SET created_at = :when WHERE id = :run", when=when, run=run)


@pytest.mark.parametrize(
    ("dates", "newest"),
    [
        (("2026-01-20T10:00:00Z", "2026-01-20T11:30:00+02:00"), 1.0),
        (("2026-01-20T10:00:00Z", "2026-01-20T09:00:00-08:00"), 2.0),
        (("2026-01-20T09:00:00-08:00", "2026-01-20T10:00:00Z"), 1.0),
        (("2026-01-20T00:00:01", "2026-01-20"), 1.0),
        (("2026-01-20", "2026-01-20T00:00:00Z"), 2.0),
        (("2026-01-20", None), 1.0),
    ],
)
def test_the_newest_is_found_by_instants(table: Table, dates: tuple[str | None, ...], newest: float) -> None:
    for value, date in enumerate(dates, 1):
        table.append([latency("a", float(value), measured_at=date)])
    assert [row.value for row in table.latest()] == [newest]


def test_a_clock_that_stood_in_2136_does_not_rule_what_is_measured_later(table: Table) -> None:
    created(table, table.append([latency("a", 1.0, measured_at="2025-03-01")]), "2025-03-01T00:00:01+00:00")
    wrong = table.append([latency("a", 2.0, measured_at="2136-01-01T00:00:00Z")])
    created(table, wrong, "2136-01-01T00:00:01+00:00")
    assert [row.value for row in table.latest()] == [2.0]  # it came last
    created(table, table.append([latency("a", 3.0, measured_at="2025-06-01")]), "2025-06-01T00:00:01+00:00")
    assert [row.value for row in table.rows()] == [1.0, 2.0, 3.0]
    assert [row.value for row in table.latest()] == [3.0]


def test_a_date_after_the_row_came_into_the_table_counts_as_when_it_came(table: Table) -> None:
    run = table.append([latency("a", 1.0, measured_at="2025-12-01T00:00:00Z")])
    created(table, run, "2024-01-01T00:00:00+00:00")
    table.append([latency("a", 2.0, measured_at="2025-01-01T00:00:00Z")])
    assert [row.value for row in table.latest()] == [2.0]


@pytest.mark.parametrize("text", ["29.11.2099", "yesterday", ""])
def test_what_is_no_date_in_an_older_table_counts_as_when_it_came(table: Table, text: str) -> None:
    created(table, table.append([latency("bad", 1.0, measured_at="2024-01-01")]), "2024-01-01T00:00:00+00:00")
    edited(table, "measured_at", text)
    table.append([latency("bad", 2.0, measured_at="2025-01-01")])
    assert [row.value for row in table.latest()] == [2.0]
