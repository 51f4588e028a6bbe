"""`vertebra merge`: tables of many machines into one, each kind of store as a source and as the target."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sql
from click.testing import CliRunner

import vertebra
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, TableError
from vertebra.machine import system
from vertebra.measurements import Measurement, Table

Place = Callable[[str], Path | str]
VERSION_1 = Path(__file__).with_name("table_version_1.sql")


def params(model: str, value: float = 1.0) -> Measurement:
    return Measurement(model=model, metric="params", value=value, origin="profiled")


@pytest.fixture(params=["file", "server"])
def source_of(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "file":
        return lambda name: tmp_path / f"{name}.sqlite"
    addresses: dict[str, str] = defaultdict(request.getfixturevalue("postgres").address)
    return lambda name: addresses[name]


@pytest.fixture(params=["file", "server"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "file":
        return tmp_path / "target.sqlite"
    address: str = request.getfixturevalue("postgres").address()
    return address


def filled(place: Path | str, *models: str) -> Table:
    table = Table(place)
    for model in models:
        table.append([params(model), params(model, 2.0)], samples={"x": [1.0]}, system=system.describe())
    return table


def edited(table: Table, statement: str) -> None:
    table.store.write(lambda connection: connection.execute(sql.text(statement)))


def brought(done: vertebra.verbs.merge.Merged) -> list[tuple[int, int, int, int, int]]:
    return [(one.runs, one.rows, one.there_runs, one.there_rows, one.forgotten) for one in done.sources]


def test_each_source_says_what_it_brought_and_what_was_there(source_of: Place, target: Path | str) -> None:
    one, two = filled(source_of("one"), "a", "b"), filled(source_of("two"), "b", "c", "d")
    gone = two.rows(model="d")[0].run
    two.forget(str(gone))
    done = vertebra.merge(source_of("one"), source_of("two"), table=target)
    assert [one.source for one in done.sources] == [one.shown, two.shown]
    assert brought(done) == [(2, 4, 0, 0, 0), (2, 4, 1, 2, 1)]
    assert (done.rows, done.refused, done.shown) == (8, 0, Table(target).shown)
    assert brought(vertebra.merge(two, one, table=target)) == [(0, 0, 3, 6, 0), (0, 0, 2, 4, 0)]
    table = Table(target)
    assert [row.model for row in table.rows()] == ["a", "a", "b", "b", "c", "c"]
    assert list(table.forgotten()) == [gone]
    assert all(run.is_whole() and run.samples == {"x": [1.0]} for run in table.runs())
    assert list(table.systems()) == [system.describe().id]
    assert brought(vertebra.merge(target, table=target)) == [(0, 0, 4, 8, 0)]


def test_what_can_not_be_is_refused_by_run_and_the_others_come(source_of: Place, target: Path | str) -> None:
    source = filled(source_of("one"), "good", "impossible", "unreadable", "edited")
    filled(target, "edited")
    runs = {row.model: str(row.run) for row in source.rows()}
    edited(source, "UPDATE measurements SET value = -1 WHERE model = 'impossible'")
    edited(source, "UPDATE measurements SET versions = '{' WHERE model = 'unreadable'")
    edited(source, "UPDATE measurements SET value = 7 WHERE model = 'edited' AND ordinal = 1")
    done = vertebra.merge(source, table=target)
    assert brought(done) == [(1, 2, 0, 0, 0)]
    why = {one.run: one.why for one in done.sources[0].refused}
    assert set(why) == {runs["impossible"], runs["unreadable"], runs["edited"]}
    assert "row 0: The parameters of impossible" in why[runs["impossible"]]
    assert "can't be read" in why[runs["unreadable"]]
    assert "doesn't contain it" in why[runs["edited"]]
    assert {row.model for row in Table(target).rows()} == {"good", "edited"}
    for model in ("impossible", "unreadable"):
        source.forget(runs[model])
    (again,) = vertebra.merge(source, table=target).sources
    assert (again.left_out, [one.run for one in again.refused], again.rows) == (2, [runs["edited"]], 0)


def test_tables_of_earlier_versions_are_read_and_left_as_they_are(tmp_path: Path, target: Path | str) -> None:
    old = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(old)) as raw:
        raw.executescript(VERSION_1.read_text(encoding="utf-8"))
    before = old.read_bytes()
    assert brought(vertebra.merge(old, table=target)) == [(2, 18, 0, 0, 0)]
    assert old.read_bytes() == before
    assert [path.name for path in tmp_path.glob("old*")] == ["old.sqlite"]
    assert all(run.is_whole() for run in Table(target).runs())
    assert brought(vertebra.merge(old, table=target)) == [(0, 0, 2, 18, 0)]


def _half(path: Path) -> None:
    filled(path, *(f"model{number}" for number in range(40)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _songs(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE songs (title TEXT)")
        raw.commit()


def _newer(path: Path) -> None:
    edited(filled(path, "a"), "UPDATE meta SET value = '99' WHERE name = 'schema_version'")


BAD = {
    "half-written": (_half, "bad.sqlite: it is damaged"),
    "empty": (Path.touch, "the file holds no table"),
    "foreign": (_songs, "is not a table of measurements"),
    "a letter": (lambda path: path.write_text("Dear friend, how are you?"), "is not a table of measurements"),
    "newer": (_newer, "written by a newer vertebra"),
    "absent": (lambda path: None, "there is no such file"),
    "a folder": (Path.mkdir, "is a folder, not a file"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_source_that_is_no_table_is_one_clear_error_before_anything_is_written(
    tmp_path: Path, what: str
) -> None:
    make, message = BAD[what]
    make(tmp_path / "bad.sqlite")
    good = filled(tmp_path / "good.sqlite", "a")
    with pytest.raises(TableError, match=message) as raised:
        vertebra.merge(good, tmp_path / "bad.sqlite", table=tmp_path / "target.sqlite")
    assert raised.value.hint
    assert not (tmp_path / "target.sqlite").exists()


def test_a_table_whose_writer_was_killed_is_merged_as_it_was_before(tmp_path: Path) -> None:
    table = filled(tmp_path / "one.sqlite", "a")
    with contextlib.closing(sqlite3.connect(table.path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode=TRUNCATE")
        raw.execute("PRAGMA cache_size=1")  # pages are written before the end
        raw.execute("BEGIN")
        for number in range(200):
            raw.execute("INSERT INTO systems VALUES (?, ?)", (f"s{number}", "x" * 2000))
        shutil.copy(table.path, tmp_path / "killed.sqlite")
        shutil.copy(f"{table.path}-journal", tmp_path / "killed.sqlite-journal")
        raw.execute("ROLLBACK")
    done = vertebra.merge(tmp_path / "killed.sqlite", table=tmp_path / "target.sqlite")
    assert brought(done) == [(1, 2, 0, 0, 0)]
    assert list(Table(tmp_path / "target.sqlite").systems()) == [system.describe().id]


def test_what_is_no_table_by_its_name_is_sent_to_cite(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as raised:
        vertebra.merge(tmp_path / "rows.csv", table=tmp_path / "target.sqlite")
    assert raised.value.hint == f"take it in with: vertebra cite {tmp_path / 'rows.csv'}"
    with pytest.raises(InvalidInputError, match="No table to merge"):
        vertebra.merge(table=tmp_path / "target.sqlite")


def test_a_database_without_a_table_is_no_source(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue("postgres").address()
    with pytest.raises(TableError, match="holds no table of measurements"):
        vertebra.merge(address, table=tmp_path / "target.sqlite")


def test_the_command_prints_what_each_brought_and_ends_with_1_where_something_was_refused(
    tmp_path: Path,
) -> None:
    one = filled(tmp_path / "one.sqlite", "a", "b")
    where = ["--table", str(tmp_path / "target.sqlite")]
    done = CliRunner().invoke(cli, ["merge", str(one.path), *where])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (
        0, f"4 rows added to {tmp_path / 'target.sqlite'}.",
    )  # fmt: skip
    run = str(one.rows(model="b")[0].run)
    edited(one, "UPDATE measurements SET value = -1 WHERE model = 'b'")
    other = [*where[:1], str(tmp_path / "other.sqlite")]
    shown = CliRunner().invoke(cli, ["merge", str(one.path), *other, "--json"])
    (record,) = json.loads(shown.stdout)
    assert (record["rows"], record["refused"][0]["run"], shown.exit_code) == (2, run, 1)
    again = CliRunner().invoke(cli, ["merge", str(one.path), *other])
    assert again.exit_code == 1
    assert run[:12] in again.stdout
    assert "0 rows added to" in again.stdout.splitlines()[-1]
    assert again.stdout.splitlines()[-1].endswith("; 1 run refused.")
    csv = CliRunner().invoke(cli, ["merge", str(one.path), *other, "--csv"]).stdout.splitlines()
    assert csv[0].startswith("source,runs,rows,there_runs,there_rows,forgotten,left_out,refused")
