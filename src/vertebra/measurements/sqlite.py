"""A table in a file: opened, laid out, brought up to date, and refused where it isn't ours.

Durable rather than fast, since rows arrive one by one and not by the thousand: rollback journal (the
write-ahead log of SQLite before 3.51.3 can lose commits), full synchronisation, one transaction a
run. A killed process leaves a whole run or none.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vertebra.errors import TableError
from vertebra.measurements.layout import (
    PRODUCT,
    fault,
    foreign,
    lay_out,
    layout,
    schema_version,
    state_version,
    take_steps,
    version_in,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

BUSY_TIMEOUT_S = 30.0
_SQLITE_HEADER = b"SQLite format 3\x00"

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


@dataclass(frozen=True)
class File:
    """A table in the file at `path`. As `untouched`, it is only read: an older layout is brought up to date
    in a copy in memory."""

    path: Path
    untouched: bool = False

    #: What orders the runs as they came.
    place = "runs.rowid"

    @property
    def shown(self) -> str:
        return str(self.path)

    @property
    def lock(self) -> Path:
        return self.path

    def is_there(self) -> bool:
        return self.path.exists()

    def prepare(self) -> None:
        """Make the table where there is none, and find out now whether it may be written."""
        meta = layout().tables["meta"]
        with writing(self.path) as connection:
            # SQLite begins even a writing transaction on a read-only file: only a write fails
            connection.execute(meta.update().where(meta.c.name == "product").values(value=PRODUCT))

    def check(self) -> None:
        """Raise TableError unless a whole table of measurements is there."""
        if not self.path.is_file():
            _is_begun(self.path)
            raise fault(self.shown, "there is no such file", "check the path")
        held = self.read(lambda connection: connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        if held is None:
            raise fault(self.shown, "the file holds no table, as a copy that broke off", "copy it again")
        if held != "ok":
            raise fault(self.shown, f"it is damaged ({held})", "copy it again, or restore a backup")

    def read(self, work: Callable[[Connection], T]) -> T | None:
        """What `work` finds in a consistent view of the table in today's layout; None where there is none."""
        with reading(self.path, untouched=self.untouched) as connection:
            return None if connection is None else work(connection)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction that keeps other processes from writing."""
        with writing(self.path) as connection:
            return work(connection)

    def select(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query in SQL, with question marks for `values`, returns; none without a table.

        Without SQLAlchemy, whose import takes longer than most reads. A file that isn't of today's layout is
        first looked at, or brought up to date, by `reading`.
        """
        if not _is_begun(self.path):
            return []
        try:
            with closing(_connected(self.path, _reading_mode(self.path))) as connection:
                connection.execute("BEGIN")
                if _is_of_today(connection):
                    return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _translated(self.path, error) from error
        found = self.read(lambda there: list(map(tuple, there.exec_driver_sql(query, tuple(values)))))
        return found or []

    def stamp(self) -> Hashable:
        """What differs once the table has changed; None where there is none."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_size, status.st_mtime_ns

    def close(self) -> None:
        """Nothing is held open between calls."""


@contextmanager
def reading(path: Path, *, untouched: bool = False) -> Iterator[Connection | None]:
    """A consistent view of the file in today's layout, or None where there is no table yet.

    An older file that is to stay `untouched`, or can't be brought up to date, since it or its folder may not
    be written, is read from a copy in memory.
    """
    if not _is_begun(path):
        yield None
        return
    with _connection(path, _reading_mode(path), "BEGIN") as connection:
        version = _version(connection, path)
        if version in (0, schema_version()):
            yield connection if version else None
            return
    if not untouched and _is_brought_up_to_date(path):
        with reading(path) as connection:
            yield connection
        return
    with _transaction(path, lambda: _copy_in_memory(path), "BEGIN") as connection:
        take_steps(connection, _version(connection, path))
        yield connection


def _is_brought_up_to_date(path: Path) -> bool:
    """Try to take the file through the steps that it lacks."""
    try:
        with writing(path):
            return True
    except TableError:
        return False


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
        raise fault(str(path), str(error.strerror), "check the path and its permissions") from error
    if header and header != _SQLITE_HEADER:
        raise foreign(str(path))
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
        raise fault(str(path), text, hint) from error


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
        raise fault(
            str(path), f"a copy of it can't be kept as {kept.name} ({error.strerror})", "free some space"
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
            return fault(str(path), f"{what} ({error})", hint)
    return fault(str(path), str(error), "the file was left as it is")


# ------------------------------------------------------------------ the layout


def _version(connection: Connection, path: Path) -> int:
    """The version of the file's layout, 0 where it is empty. Raises TableError where foreign or newer."""
    import sqlalchemy as sql

    found = set(sql.inspect(connection).get_table_names())
    if not found:
        return 0
    meta = layout().tables["meta"]
    columns = (
        {column["name"] for column in sql.inspect(connection).get_columns("meta")}
        if "meta" in found
        else set()
    )
    if columns != {"name", "value"}:
        raise foreign(str(path))
    return version_in({row.name: row.value for row in connection.execute(meta.select())}, str(path))


def _bring_up_to_date(connection: Connection, path: Path) -> None:
    """Lay out an empty file, or take an older layout through the steps that it lacks."""
    version = _version(connection, path)
    if version == schema_version():
        return
    if version == 0:
        lay_out(connection)
        return
    state_version(connection)  # a file that may not be written fails here, before a copy of it is kept
    kept = _keep_copy(path, version)
    try:
        take_steps(connection, version)
    except BaseException:
        kept.unlink()
        raise
