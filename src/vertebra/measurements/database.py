"""The file that holds the table: opened, laid out, brought up to date, and refused where it isn't ours.

Durable rather than fast, since rows arrive one by one and not by the thousand: rollback journal (the
write-ahead log of SQLite before 3.51.3 can lose commits), full synchronisation, one transaction a
run. A killed process leaves a whole run or none. What depends on SQLite is in `_connected`, `select` and
`_FAULTS`; the rest is portable SQL.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import TableError
from vertebra.measurements.measurement import COLUMNS
from vertebra.measurements.record import KINDS, REQUIRED

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData

PRODUCT = "vertebra measurements"
_LONGEST_VERSION = 9
BUSY_TIMEOUT_S = 30.0
_SQLITE_HEADER = b"SQLite format 3\x00"

#: Steps from version 1 on, oldest first, in SQL: step number i makes version i + 2 of a table of version
#: i + 1. A copy of the file is kept first. All run in the transaction that opened the table; a failing one
#: leaves the file as it was.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "ALTER TABLE measurements ADD COLUMN network_sha256 TEXT",
        "ALTER TABLE measurements ADD COLUMN dataset_sha256 TEXT",
        "ALTER TABLE measurements ADD COLUMN beside BIGINT",
        "ALTER TABLE measurements ADD COLUMN exclusive BOOLEAN",
        "CREATE TABLE forgotten (run TEXT NOT NULL PRIMARY KEY, forgotten_at TEXT NOT NULL, reason TEXT)",
    ),
)

#: start of SQLite's name of a fault -> what it means, what to do
_FAULTS = {
    "SQLITE_FULL": ("there is no space left", "free some space; the rows already in the table are safe"),
    "SQLITE_IOERR": (
        "the disk reported an error",
        "check whether it is full or failing; the rows already in the table are safe",
    ),
    "SQLITE_READONLY": (
        "it is not writable",
        "make the file and its folder writable, or choose another file",
    ),
    "SQLITE_CANTOPEN": (
        "it can't be opened",
        "make the file and its folder writable, or choose another file",
    ),
    "SQLITE_PERM": ("access is denied", "make the file and its folder writable, or choose another file"),
    "SQLITE_BUSY": ("another process is using it", "wait until that process has finished, then try again"),
    "SQLITE_NOTADB": (
        "it is not a table of measurements",
        "choose another file with --table or VERTEBRA_TABLE",
    ),
    "SQLITE_CORRUPT": ("it is damaged", "restore a copy, or start a new table; the file was left as it is"),
}


def schema_version() -> int:
    """The version of the layout that this vertebra writes."""
    return 1 + len(MIGRATIONS)


@contextmanager
def reading(path: Path) -> Iterator[Connection | None]:
    """A consistent view of the file in today's layout, or None where there is no table yet.

    An older file that can't be brought up to date, since it or its folder may not be written, is read from a
    copy in memory.
    """
    if not _is_begun(path):
        yield None
        return
    with _connection(path, _reading_mode(path), "BEGIN") as connection:
        version = _version(connection, path)
        if version in (0, schema_version()):
            yield connection if version else None
            return
    try:
        with writing(path):  # brings the older layout up to date
            pass
    except TableError:
        with _transaction(path, lambda: _copy_in_memory(path), "BEGIN") as connection:
            _take_steps(connection, _version(connection, path))
            yield connection
    else:
        with reading(path) as connection:
            yield connection


def select(path: Path, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows that a query in SQL returns, without SQLAlchemy: importing it takes longer than most reads.

    A file that isn't of today's layout is first looked at, or brought up to date, by `reading`.
    """
    if not _is_begun(path):
        return []
    try:
        with closing(_connected(path, _reading_mode(path))) as connection:
            connection.execute("BEGIN")
            if _is_of_today(connection):
                return connection.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise _translated(path, error) from error
    with reading(path) as there:
        return [] if there is None else list(map(tuple, there.exec_driver_sql(query, tuple(values))))


def _is_of_today(connection: sqlite3.Connection) -> bool:
    """Whether a table of measurements is there in the layout that this version writes."""
    named = connection.execute(
        "SELECT count(*) FROM pragma_table_info('meta') WHERE name IN ('name', 'value')"
    )
    if named.fetchone() != (2,):
        return False
    found = dict(connection.execute("SELECT name, value FROM meta"))
    return (found.get("product"), found.get("schema_version")) == (PRODUCT, str(schema_version()))


@contextmanager
def writing(path: Path) -> Iterator[Connection]:
    """A transaction that keeps other processes from writing, on a table of today's layout."""
    _make_folder(path)
    if _is_begun(path):  # a foreign file is refused before it is opened for writing
        with _connection(path, _reading_mode(path), "BEGIN") as connection:
            _version(connection, path)
    with _connection(path, "rwc", "BEGIN IMMEDIATE") as connection:
        _bring_up_to_date(connection, path)
        yield connection


def prepare(path: Path) -> None:
    """Make the table where there is none, and find out now whether it may be written."""
    meta = layout().tables["meta"]
    with writing(path) as connection:
        # SQLite begins even a writing transaction on a read-only file: only a write fails
        connection.execute(meta.update().where(meta.c.name == "product").values(value=PRODUCT))


# ------------------------------------------------------------------ the file


def _is_begun(path: Path) -> bool:
    """Whether there is something in the file. Raises TableError where it can't be a SQLite database."""
    try:
        if not path.is_file() and path.exists():
            kind = "folder" if path.is_dir() else "device"
            raise TableError(
                f"{path} is a {kind}, not a file.", "pass the path of a file, such as table.sqlite"
            )
        with path.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _fault(path, str(error.strerror), "check the path and its permissions") from error
    if header and header != _SQLITE_HEADER:
        raise _foreign(path)
    return bool(header)


def _reading_mode(path: Path) -> str:
    return "ro" if _has_write_ahead_log(path) else "rw"


def _has_write_ahead_log(path: Path) -> bool:
    """We never write such a file, and merely closing it could change it: it is opened read-only."""
    with path.open("rb") as file:
        return file.read(20)[18:20] != b"\x01\x01"


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"its folder can't be created ({error.strerror})"
        hint = "choose a path that you may write to, with --table or VERTEBRA_TABLE"
        raise _fault(path, text, hint) from error


def _foreign(path: Path) -> TableError:
    return TableError(
        f"{path} is not a table of measurements; the file was left as it is.",
        "choose another file with --table or VERTEBRA_TABLE",
    )


def _fault(path: Path, what: str, hint: str) -> TableError:
    return TableError(f"Can't use the table {path}: {what}.", hint)


def _connection(path: Path, mode: str, begin: str) -> AbstractContextManager[Connection]:
    return _transaction(path, lambda: _connected(path, mode), begin)


@contextmanager
def _transaction(path: Path, connect: Callable[[], sqlite3.Connection], begin: str) -> Iterator[Connection]:
    """A connection inside a transaction that ends with the block; SQLite's faults become TableErrors."""
    import sqlalchemy as sql
    from sqlalchemy.pool import NullPool

    engine = sql.create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            if begin == "BEGIN IMMEDIATE":
                connection.exec_driver_sql("PRAGMA journal_mode=TRUNCATE")
            connection.exec_driver_sql(begin)
            yield connection
            connection.commit()
    except sql.exc.DBAPIError as error:
        raise _translated(path, error.orig) from error
    except sqlite3.Error as error:
        raise _translated(path, error) from error


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    # isolation_level=None: sqlite3 must not begin transactions of its own
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=ON")  # macOS keeps what it "synced" in the drive's cache
    return connection


def _copy_in_memory(path: Path) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with closing(_connected(path, _reading_mode(path))) as connection:
        connection.backup(copy)
    return copy


def _keep_copy(path: Path, version: int) -> Path:
    """Copy the file, whose write lock the caller holds, to `NAME.v1.backup` or the next free name."""
    kept = _free_name(path.with_name(f"{path.name}.v{version}.backup"))
    draft = path.with_name(f".{kept.name}.{os.getpid()}")
    try:
        with (  # opening the file by other means than SQLite's would end the caller's lock when it is closed
            closing(_connected(path, "ro")) as connection,
            closing(sqlite3.connect(draft)) as copy,
        ):
            connection.backup(copy)
        shutil.copymode(path, draft)
        draft.replace(kept)
    except OSError as error:
        raise _fault(
            path, f"a copy of it can't be kept as {kept.name} ({error.strerror})", "free some space"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return kept


def _free_name(path: Path) -> Path:
    """`path`, or where that is taken, `path` with the first free number from 2 on."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(found for found in itertools.chain((path,), numbered) if not found.exists())


def _translated(path: Path, error: BaseException | None) -> TableError:
    name = str(getattr(error, "sqlite_errorname", ""))
    for start, (what, hint) in _FAULTS.items():
        if name.startswith(start):
            return _fault(path, f"{what} ({error})", hint)
    return _fault(path, str(error), "the file was left as it is")


# ------------------------------------------------------------------ the layout


@cache
def layout() -> MetaData:
    """The tables as this version lays them out. Changing them takes a step in MIGRATIONS."""
    import sqlalchemy as sql

    sql_type = {"integer": sql.BigInteger, "number": sql.Double, "text": sql.Text, "texts": sql.Text,
                "boolean": sql.Boolean, "mapping": sql.Text}  # fmt: skip
    tables = sql.MetaData()
    sql.Table(
        "meta",
        tables,
        sql.Column("name", sql.Text, primary_key=True),
        sql.Column("value", sql.Text, nullable=False),
    )
    sql.Table(
        "systems",
        tables,
        sql.Column("id", sql.Text, primary_key=True),
        sql.Column("description", sql.Text, nullable=False),
    )
    sql.Table(
        "runs",
        tables,
        sql.Column("id", sql.Text, primary_key=True),
        sql.Column("created_at", sql.Text, nullable=False),
        sql.Column("system", sql.Text),
    )
    sql.Table(
        "measurements",
        tables,
        sql.Column("run", sql.Text, sql.ForeignKey("runs.id"), primary_key=True),
        sql.Column("ordinal", sql.Integer, primary_key=True, autoincrement=False),
        *(sql.Column(name, sql_type[KINDS[name]], nullable=name not in REQUIRED)
          for name in COLUMNS if name != "run"),
    )  # fmt: skip
    sql.Table(
        "samples",
        tables,
        sql.Column("run", sql.Text, sql.ForeignKey("runs.id"), primary_key=True),
        sql.Column("name", sql.Text, primary_key=True),
        sql.Column("samples", sql.Text, nullable=False),
    )
    sql.Table(
        "forgotten",
        tables,
        sql.Column("run", sql.Text, primary_key=True),
        sql.Column("forgotten_at", sql.Text, nullable=False),
        sql.Column("reason", sql.Text),
    )
    return tables


def _version(connection: Connection, path: Path) -> int:
    """The version of the file's layout, 0 where it is empty. Raises TableError where foreign or newer."""
    import sqlalchemy as sql

    found = set(sql.inspect(connection).get_table_names())
    if not found:
        return 0
    meta = layout().tables["meta"]
    if "meta" not in found or {column["name"] for column in sql.inspect(connection).get_columns("meta")} != {
        "name",
        "value",
    }:
        raise _foreign(path)
    values = {row.name: row.value for row in connection.execute(meta.select())}
    version = str(values.get("schema_version", ""))
    if values.get("product") != PRODUCT or not version.isdecimal():
        raise _foreign(path)
    if (
        len(version) > _LONGEST_VERSION or int(version) > schema_version()
    ):  # Python refuses to read 5,000 digits
        shown = version if len(version) <= _LONGEST_VERSION else f"{version[:_LONGEST_VERSION]}…"
        raise TableError(
            f"{path} was written by a newer vertebra (layout {shown}; this one reads {schema_version()}).",
            "upgrade with: pip install --upgrade vertebra",
        )
    return int(version)


def _bring_up_to_date(connection: Connection, path: Path) -> None:
    """Lay out an empty file, or take an older layout through the steps that it lacks."""
    version = _version(connection, path)
    if version == schema_version():
        return
    meta = layout().tables["meta"]
    if version == 0:
        layout().create_all(connection)
        connection.execute(meta.insert(), [{"name": "product", "value": PRODUCT}])
        connection.execute(meta.insert(), [{"name": "schema_version", "value": str(schema_version())}])
        return
    _state_version(connection)  # a file that may not be written fails here, before a copy of it is kept
    kept = _keep_copy(path, version)
    try:
        _take_steps(connection, version)
    except BaseException:
        kept.unlink()
        raise


def _take_steps(connection: Connection, version: int) -> None:
    for statement in (statement for step in MIGRATIONS[version - 1 :] for statement in step):
        connection.exec_driver_sql(statement)
    _state_version(connection)


def _state_version(connection: Connection) -> None:
    meta = layout().tables["meta"]
    connection.execute(
        meta.update().where(meta.c.name == "schema_version").values(value=str(schema_version()))
    )
