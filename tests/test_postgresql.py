"""A table on a PostgreSQL server: what can go wrong on the way there, and a server that goes and returns.

What a table does wherever it is kept is tested in test_measurements.py, on both."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

import postgres as postgres_server
import vertebra
from vertebra.campaigns import campaign, cases
from vertebra.errors import MissingRuntimeError, TableError, VertebraError, masked
from vertebra.measurements import Measurement, Table, default_path, kept_runs, postgresql
from vertebra.measurements.layout import UnreachableError
from vertebra.measuring.benchmarking import Limits
from vertebra.verbs import given

Server = postgres_server.Server


def params(model: str, value: float = 1.0) -> Measurement:
    return Measurement(model=model, metric="params", value=value, origin="profiled")


@pytest.fixture
def running(postgres: Server) -> Iterator[Server]:
    """The server, which runs again after a test that stopped it."""
    yield postgres
    try:
        postgres.run("SELECT 1")
    except Exception:
        postgres.start()


# ------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me@host/one", "postgresql://me@host/one"),
        (
            "postgres://me:secret@host:6432/one?sslmode=require",
            "postgresql://me@host:6432/one?sslmode=require",
        ),
        ("postgresql+psycopg://me:se%40cret@host/one", "postgresql://me@host/one"),
        ("postgresql://host/one?password=secret&sslpassword=more", "postgresql://host/one"),
        ("postgresql://me@host/one?schema=lab", "postgresql://me@host/one?schema=lab"),
        ("postgresql:///", "postgresql:///"),
        (
            "postgresql://m%40e@[::1]:6432/a%20b?host=/run/x",
            "postgresql://m%40e@[::1]:6432/a%20b?host=/run/x",
        ),
        ("POSTGRESQL://me@host/one", "postgresql://me@host/one"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    table = Table(address, create=False)
    assert table.shown == shown == Table(shown, create=False).shown
    assert "secret" not in repr(table) + repr(table.store) + str(table.lock)
    with pytest.raises(TableError, match="is not a file"):
        _ = table.path


BAD_ADDRESSES = {
    "mysql://me:secret@host/one": "can't be at an address that begins with mysql://",
    "sqlite:///secret.sqlite": "begins with sqlite://",
    "postgresql://me:sec@ret@host/one": "can't be read",
    "postgresql://me:secret@host:port/one": "can't be read",
    "postgresql://me:secret@ho st/one": "can't be read",
    "postgresql://me:secret@host/one?sslmod=require": 'no server knows: "sslmod"',
    "postgresql://me:secret@host/one?row_factory=x": 'no server knows: "row_factory"',
    'postgresql://me:secret@host/one?schema=a"b': "schema in the table's address",
}


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_a_bad_address_is_one_clear_error_that_does_not_repeat_it(address: str) -> None:
    with pytest.raises(TableError, match=BAD_ADDRESSES[address]) as raised:
        Table(address)
    assert raised.value.hint
    shown = "".join(traceback.TracebackException.from_exception(raised.value).format_exception_only())
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert "sec" not in shown


def test_an_address_that_was_made_a_path_is_refused() -> None:
    with pytest.raises(TableError, match="is not a path") as raised:
        Table(Path("postgresql://me:secret@host/one"))
    assert "secret" not in raised.value.message


def test_the_driver_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingRuntimeError, match="needs psycopg") as raised:
        Table("postgresql://host/one", create=False)
    assert "vertebra[postgres]" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://me:s@cr/et@host/one.", "at postgresql://me:***@host/one."),
        ("https://me:port@host", "https://me:port@host"),
        ("x?password=secret&y", "x?password=***&y"),
        ("nothing: here@all", "nothing: here@all"),
    ],
)
def test_no_error_and_no_warning_has_a_password(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert (VertebraError(text, text).message, VertebraError(text, text).hint) == (shown, shown)


def test_the_variable_takes_an_address(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    address = postgres.address()
    monkeypatch.setenv("VERTEBRA_TABLE", address)
    assert default_path() == address
    assert vertebra.table() == []
    Table().append([params("a")])
    assert [row.model for row in vertebra.table()] == ["a"]


def test_a_table_that_was_named_and_is_not_there_is_said_by_readers(postgres: Server) -> None:
    address = postgres.address()
    with pytest.raises(TableError, match="There is no table postgresql://owner@/tests"):
        given.table(address, create=False)
    assert given.table(address).rows() == []
    assert given.table(address, create=False).rows() == []


# ------------------------------------------------------------------ what is refused


def shown_by_the_command(address: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vertebra", "table", "--table", address],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def refused(address: str, message: str, work: Callable[[Table], object] = len) -> TableError:
    """The error that opening the table, or the work, gives; it has one line, a hint and no password."""
    with pytest.raises(TableError, match=message) as raised:
        work(Table(address, create=work is len))
    error = raised.value
    assert error.hint
    assert "\n" not in error.message + error.hint
    assert postgres_server.PASSWORD not in "".join(traceback.format_exception(error))
    return error


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    begun = time.monotonic()
    address = f"postgresql://me:{postgres_server.PASSWORD}@127.0.0.1:9/one"
    error = refused(address, r"can't be reached \(Connection refused\)")
    assert isinstance(error, UnreachableError)
    assert time.monotonic() - begun < postgresql.PATIENCE_S / 2
    shown = shown_by_the_command(address)
    assert "error: Can't use the table postgresql://me@127.0.0.1:9/one" in shown
    assert postgres_server.PASSWORD not in shown


def test_an_unknown_host_a_wrong_password_and_a_wrong_database_are_told_apart(postgres: Server) -> None:
    refused(f"postgresql://me:{postgres_server.PASSWORD}@no.such.host.invalid/one", "there is no such host")
    refused(postgres.network(password="wrong"), "refused to log in .*password authentication failed")
    refused(postgres.network(user="stranger"), "refused to log in")
    error = refused(postgres.network(database="elsewhere"), 'no such database .*"elsewhere" does not exist')
    assert "createdb" in str(error.hint)
    assert len(Table(postgres.network())) == 0


def test_a_database_in_another_encoding_is_refused(postgres: Server) -> None:
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    refused(postgres.address(database="latin"), "encoded in LATIN1")


@pytest.fixture
def reader(postgres: Server) -> Iterator[str]:
    """A role that owns nothing."""
    role = f"reader{time.monotonic_ns()}"
    postgres.run(f"CREATE ROLE {role} LOGIN")
    yield role
    postgres.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def grant(postgres: Server, schema: str, role: str) -> None:
    """Let the role read."""
    postgres.run(
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
    )


def test_a_role_does_what_it_was_granted_and_no_more(postgres: Server, reader: str) -> None:
    owned = postgres.address()
    schema = postgres_server.schema_of(owned)
    address = postgres.address(schema, user=reader)
    refused(address, "this role may not do that .*permission denied for database tests")
    run = Table(owned).append([params("a")])
    error = refused(address, "this role may not do that .*permission denied", lambda table: table.rows())
    assert f'GRANT USAGE ON SCHEMA "{schema}" TO "{reader}"' in str(error.hint)
    postgres.run(
        f"GRANT USAGE ON SCHEMA {schema} TO {reader}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}",
    )
    assert [row.run for row in Table(address, create=False).rows()] == [run]
    refused(address, "may not be written by this role")
    refused(address, "may not do that", lambda table: table.append([params("b")]))
    refused(address, "may not do that", lambda table: table.forget(run))
    postgres.run(f"GRANT INSERT ON ALL TABLES IN SCHEMA {schema} TO {reader}")
    table = Table(address)
    table.append([params("b")])  # it takes no more to append and to forget
    table.forget(run)
    assert [row.model for row in table.rows()] == ["b"]


def test_what_is_foreign_newer_or_not_whole_is_refused_and_left_as_it_is(postgres: Server) -> None:
    for statement, message in (
        ("CREATE TABLE {}.songs (title TEXT)", "is not a table of measurements"),
        ("CREATE TABLE {}.meta (name TEXT, value TEXT)", "is not a table of measurements"),
        ("CREATE TABLE {}.meta (title TEXT)", "is not a table of measurements"),
    ):
        address = postgres.address()
        schema = postgres_server.schema_of(address)
        postgres.run(f"CREATE SCHEMA {schema}", statement.format(schema))
        refused(address, message)
        refused(address, message, lambda table: table.rows())
        assert postgres.run(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'") == [(1,)]
    address = postgres.address()
    schema = postgres_server.schema_of(address)
    Table(address).append([params("a")])
    postgres.run(f"UPDATE {schema}.meta SET value = '99' WHERE name = 'schema_version'")
    refused(address, r"written by a newer vertebra \(layout 99")
    refused(address, "newer vertebra", lambda table: table.append([params("b")]))
    postgres.run(
        f"UPDATE {schema}.meta SET value = '3' WHERE name = 'schema_version'", f"DROP TABLE {schema}.samples"
    )
    refused(address, "not all there", lambda table: table.append([params("b")], samples={"x": [1.0]}))
    assert [row.model for row in Table(address, create=False).rows()] == ["a"]


def test_a_copy_is_kept_in_the_schema_before_an_older_layout_is_changed(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = postgres.address()
    schema = postgres_server.schema_of(address)
    Table(address).append([params("a")])
    steps = (
        ("ALTER TABLE measurements DROP COLUMN protocol",),
        ("ALTER TABLE measurements ADD COLUMN protocol TEXT",),
    )
    migrations = postgresql.layouts.MIGRATIONS
    monkeypatch.setattr(postgresql.layouts, "MIGRATIONS", (*migrations, *steps))
    Table(address).append([params("b")])
    assert [row.model for row in Table(address).rows()] == ["a", "b"]
    assert postgres.run(f"SELECT count(*) FROM {schema}.v3_backup_measurements") == [(1,)]
    assert postgres.run(f"SELECT value FROM {schema}.v3_backup_meta WHERE name = 'schema_version'") == [
        ("3",)
    ]
    assert Table(address, create=False).store.stamp() is not None


def test_a_role_that_may_only_read_reads_an_older_layout_from_a_copy_in_memory(
    postgres: Server, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = postgres.address()
    schema = postgres_server.schema_of(owned)
    table = Table(owned)
    for model in ("b", "a"):
        table.append([replace(params(model), metric="params", versions={"x": "1"})], samples={"x": [1.0]})
    postgres.run(
        f"GRANT USAGE ON SCHEMA {schema} TO {reader}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}",
    )
    before = table.rows()
    steps = (("ALTER TABLE runs ADD COLUMN note TEXT",),)
    monkeypatch.setattr(postgresql.layouts, "MIGRATIONS", (*postgresql.layouts.MIGRATIONS, *steps))
    read = Table(postgres.address(schema, user=reader), create=False)
    assert read.rows() == before
    assert [run.is_whole() for run in read.runs()] == [True, True]
    assert postgres.run(f"SELECT value FROM {schema}.meta WHERE name = 'schema_version'") == [("3",)]


def test_a_text_with_a_zero_character_is_found_nowhere_and_not_kept(postgres: Server) -> None:
    table = Table(postgres.address())
    run = table.append([params("a")])
    assert table.rows(model="a\0b") == []
    assert [row.model for row in table.rows(model=("a\0b", "a"))] == ["a"]
    table.forget(run, reason="a\0b")
    assert list(table.forgotten()) == [run]


# ------------------------------------------------------------------ connections


def test_a_connection_is_kept_for_a_while_and_then_closed(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.run("CREATE DATABASE quiet")
    monkeypatch.setattr(postgresql, "IDLE_S", 0.2)
    table = Table(postgres.address(database="quiet"))
    table.append([params("a")])
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'quiet'"
    assert postgres.run(count) == [(1,)]
    until = time.monotonic() + 60
    while postgres.run(count) != [(0,)]:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert len(table) == 1
    table.close()
    assert len(table) == 1


def test_a_forked_process_has_a_connection_of_its_own(postgres: Server) -> None:
    address = postgres.address()
    code = (
        "import os, sys; from vertebra.measurements import Measurement, Table; table = Table(sys.argv[1])\n"
        "row = lambda model: Measurement(model=model, metric='params', value=1, origin='profiled')\n"
        "table.append([row('before')]); child = os.fork(); table.append([row(f'of {child == 0}')])\n"
        "assert len(table) >= 2\n"
        "if child: assert os.waitpid(child, 0)[1] == 0; print(sorted(one.model for one in table.rows()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("['before', 'of False', 'of True']", "")


def test_writers_complete_one_run_from_parts_at_once(postgres: Server, tmp_path: Path) -> None:
    source = Table(tmp_path / "whole.sqlite")
    run = source.append([params(f"m{number}") for number in range(8)], samples={"x": [1.0]})
    (whole,) = source.runs()
    address = postgres.address()
    Table(address)
    failed: list[BaseException] = []

    def write(part: int) -> None:
        try:
            piece = replace(whole, records=whole.records[part : part + 1], samples={})
            Table(address).store.write(lambda connection: kept_runs.add(connection, piece))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(Table(address)) == 8
    assert Table(address).merge(source) == 0
    assert [(one.id, one.is_whole()) for one in Table(address).runs()] == [(run, True)]


# ------------------------------------------------------------------ a server that goes away


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "_PAUSE_S", 0.05)
    monkeypatch.setattr(postgresql, "_LONGEST_PAUSE_S", 0.1)


def test_a_survey_goes_on_after_the_server_was_started_again(
    running: Server, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(running.address())
    wanted = cases.cases(["alexnet", "squeezenet1_1"], ["null"], batch_sizes=(1, 2, 4))
    limits = Limits.quick(seconds=0.1, warm_up_least_s=0.01, least_s=0.01)
    said: list[str] = []
    appended: list[int] = []
    append = table.append

    def append_to_a_stopped_server(rows: Any, **options: Any) -> None:
        if len(appended) == 1:
            running.stop("immediate")
        appended.append(len(rows))
        append(rows, **options)

    def say(text: str) -> None:
        said.append(text)
        if "waiting" in text:
            running.start()

    monkeypatch.setattr(postgresql, "warn", say)
    monkeypatch.setattr(table, "append", append_to_a_stopped_server)
    rows = campaign.measure(wanted, table, limits=limits)
    assert sorted((row.model, row.batch_size) for row in rows if row.metric == "latency") == sorted(
        (case.model, case.batch_size) for case in wanted
    )
    runs = table.runs()
    assert len(runs) == len(wanted) == 6
    assert all(run.is_whole() for run in runs)
    assert len(table) == len(rows)
    waited, again = said
    assert f"The table {table.shown} doesn't answer (" in waited
    assert "waiting for it, for up to 120 s" in waited
    assert "answers again, after" in again


def test_a_server_that_stays_away_is_given_up_and_the_rows_are_kept_here(
    running: Server, impatient: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgresql, "PATIENCE_S", 0.3)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    table = Table(running.address())
    table.append([params("a")])
    running.stop("fast")
    for model in ("b", "c"):
        with pytest.raises(UnreachableError, match=r"didn't answer for .* is kept in") as raised:
            table.append([params(model)], samples={"x": [1.0]})
    (kept,) = (tmp_path / "vertebra").glob("not-sent-*.sqlite")
    assert f"vertebra merge {kept} --table postgresql://owner@" in str(raised.value.hint)
    with pytest.raises(UnreachableError, match="didn't answer"):
        table.rows()
    running.start()
    assert [row.model for row in table.rows()] == ["a"]
    assert vertebra.merge(kept, table=table).rows == 2
    assert [run.samples for run in table.runs()] == [{}, {"x": [1.0]}, {"x": [1.0]}]


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_connection_that_ends_while_the_server_commits_loses_and_doubles_nothing(
    postgres: Server, impatient: None, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    table = Table(postgres.address())
    commit, cut = sql.Connection.commit, [0]

    def commit_and_lose(connection: sql.Connection) -> None:
        if cut[0] == 0:
            cut[0] += 1
            if is_taken:
                commit(connection)
            driver = connection.connection.dbapi_connection
            assert driver is not None
            driver.close()
            connection.exec_driver_sql("SELECT 1")  # fails as the network does
        commit(connection)

    monkeypatch.setattr(sql.Connection, "commit", commit_and_lose)
    other = Table(postgres.address())
    other.store.prepare()
    cut[0] = 0
    source = Table(postgres.address())
    run = source.append([params("a"), params("b")])
    cut[0] = 0
    assert table.merge(source) == 2  # what it did, whichever of the tries did it
    assert cut[0] == 1
    assert [one.id for one in table.runs()] == [run]
    assert len(table) == 2


def test_a_table_on_a_server_is_locked_on_this_machine_only(
    postgres: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path))
    address = postgres.address()
    assert Table(address).lock == Table(address, create=False).lock
    assert Table(address).lock != Table(postgres.address()).lock
    assert tmp_path in Table(address).lock.parents


def test_the_command_reads_compares_and_reports_from_a_server(postgres: Server, tmp_path: Path) -> None:
    address = postgres.address()
    table = Table(address)
    row = Measurement(
        model="vgg16", metric="latency", value=0.2, origin="benched", system="box", device="cpu",
        engine="onnxruntime", precision="float32", batch_size=1, input_size=224, threads=2,
        scenario="single-stream", exclusive=True,
    )  # fmt: skip
    accuracy = Measurement(model="vgg16", metric="top1", value=0.72, origin="published", source="paper")
    run = table.append([row, accuracy])
    assert vertebra.table(path=address, exclusive=True)[0].exclusive is True
    assert [one.value("latency") for one in vertebra.table(path=address, wide=True)] == [0.2]
    assert vertebra.pick(table=address, latency="300ms", system="box", among="table").choice is not None
    Table(tmp_path / "other.sqlite").append([replace(row, value=0.1)])
    (one,) = vertebra.compare(address, tmp_path / "other.sqlite", table=address)
    assert (one.metric, one.first.value, one.second.value) == ("latency", 0.2, 0.1)
    assert vertebra.cite(address, table=tmp_path / "other.sqlite") == 2
    assert [one.run for one in vertebra.table(path=address, forget=run[:8])] == [run, run]
