"""A table on a PostgreSQL server, which many machines fill and read at once.

One transaction a run, as in a file. Writers don't wait for each other: a run's id is the hash of its content,
so the second writer of a run finds it. A server that was there and is gone is waited for, for a bounded time;
what was under way is done again, and doing it twice changes nothing.

What a server says of a connection that failed has no code, only text, so that is looked at here.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlencode

from vertebra.errors import MissingRuntimeError, TableError, warn
from vertebra.measurements import layout as layouts
from vertebra.measurements.layout import UnreachableError, fault, foreign, schema_version

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

T = TypeVar("T")

#: The schema of a table whose address names none.
SCHEMA = "vertebra"
#: How long a server that is gone is waited for; the first and the longest pause between two tries.
PATIENCE_S = 120.0
_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0
#: How long a connection is kept that nobody uses: thousands of idle ones would take all that a server has.
IDLE_S = 5.0
#: How long one writer waits for another.
_LOCK_S = 30
_CONNECTING: dict[str, Any] = {
    "connect_timeout": 10,
    "application_name": "vertebra",
    "client_encoding": "utf8",
    "keepalives_idle": 30,
    "tcp_user_timeout": 30_000,  # a host that went down sends nothing, for a quarter of an hour
    "prepare_threshold": None,  # a pooler between us and the server gives each transaction another session
}
_PRIVILEGES = {"runs": "INSERT", "measurements": "INSERT", "samples": "INSERT", "systems": "INSERT"}


@dataclass(frozen=True, repr=False)
class Server:
    """A table in a schema of a database on a server. As `untouched`, it is only read: an older layout is
    brought up to date in a copy in memory."""

    url: URL
    schema: str = SCHEMA
    untouched: bool = False

    #: What orders the runs as they came.
    place = "runs.place"

    @classmethod
    def at(cls, address: str, *, untouched: bool = False) -> Server:
        """The table at an address. Raises TableError where it can't be read, without repeating it."""
        url = _parsed(address)
        schema = url.query.get("schema", SCHEMA)
        if not isinstance(schema, str) or not re.fullmatch(r"[^\x00-\x1f\"]{1,63}", schema):
            raise TableError(
                "The schema in the table's address can't be used.", "name one, such as ?schema=vertebra"
            )
        return cls(url.difference_update_query(["schema"]), schema, untouched)

    def __repr__(self) -> str:
        return f"Server({self.shown})"

    @property
    def shown(self) -> str:
        """The address without any password."""
        url = self.url
        host = f"[{url.host}]" if url.host and ":" in url.host else url.host or ""
        place = f"{host}{f':{url.port}' if url.port else ''}/{quote(url.database or '')}"
        user = f"{quote(url.username)}@" if url.username else ""
        options = [(name, one) for name, one in url.query.items() if "password" not in name]
        options += [] if self.schema == SCHEMA else [("schema", self.schema)]
        query = f"?{urlencode(options, doseq=True, safe='/', quote_via=quote)}" if options else ""
        return f"postgresql://{user}{place}{query}"

    @property
    def lock(self) -> Path:
        """Only what measures on this machine disturbs others here, so the lock is a file of this machine."""
        from vertebra.machine import files

        return files.cache_folder() / "tables" / hashlib.sha256(self.shown.encode()).hexdigest()[:16]

    def is_there(self) -> bool:
        return self.read(lambda _: True) is not None

    def prepare(self) -> None:
        """Make the table where there is none, and find out now whether it may be written."""
        self.write(self._check_privileges)

    def check(self) -> None:
        """Raise TableError unless a table of measurements is there."""
        if not self.is_there():
            raise self._fault("the database holds no table of measurements", "check the address")

    def read(self, work: Callable[[Connection], T]) -> T | None:
        """What `work` finds in a consistent view of the table in today's layout; None where there is none."""
        return self._patiently(lambda: self._read(work))

    def _read(self, work: Callable[[Connection], T]) -> T | None:
        with self._connection(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
            self._enter(connection)
            version = self._version(connection)
            if version in (0, schema_version()):
                return work(connection) if version else None
        if not self.untouched and self._is_brought_up_to_date():
            return self._read(work)
        with self._connection(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
            self._enter(connection)
            return _in_a_copy(connection, self._version(connection), work)

    def _is_brought_up_to_date(self) -> bool:
        """Try to take the table through the steps that it lacks."""
        try:
            self._lay_out()
        except TableError:
            return False
        except _errors() as error:
            if _is_passing(error):
                raise
            return False
        return True

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction, on a table of today's layout."""
        unsure: list[tuple[int, T]] = []  # what the server may have taken, as its connection ended meanwhile

        def attempt() -> T:
            with self._connection() as connection:
                number = self._enter(connection, shared=True)
                version = self._version(connection)
                if version == schema_version():
                    result = work(connection)
                    taken = (one for earlier, one in unsure if self._was_taken(connection, earlier))
                    result = next(taken, result)
                    unsure.append((number, result))
                    connection.commit()
                    return result
            self._lay_out()
            return attempt()

        return self._patiently(attempt)

    def select(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query in SQL, with question marks for `values`, returns; none without a table."""
        import sqlalchemy as sql

        parts = query.split("?")
        text = parts[0] + "".join(f":v{place}{part}" for place, part in enumerate(parts[1:]))
        # No text on a server holds a zero character, so none equals one that does.
        named = {f"v{place}": None if isinstance(value, str) and "\0" in value else value
                 for place, value in enumerate(values)}  # fmt: skip
        return self.read(lambda there: list(map(tuple, there.execute(sql.text(text), named)))) or []

    def stamp(self) -> Hashable:
        """What differs once the table has changed; None where there is none."""
        found = self.select(
            "SELECT (SELECT count(*) FROM runs), (SELECT max(place) FROM runs), "
            "(SELECT count(*) FROM forgotten), (SELECT max(forgotten_at) FROM forgotten)"
        )
        return found[0] if found else None

    def close(self) -> None:
        """Close what is held open between calls."""
        _pool(self.url).close()

    # -------------------------------------------------------------- transactions

    @contextmanager
    def _connection(self, **options: Any) -> Iterator[Connection]:
        """A connection, in a transaction that is taken back unless it is committed in the block."""
        pool = _pool(self.url)
        with pool.engine().connect() as connection:
            pool.has_answered = True
            try:
                yield connection.execution_options(**options) if options else connection
            finally:
                pool.rest()

    def _enter(self, connection: Connection, *, shared: bool | None = None) -> int:
        """Begin with our tables in sight, and for writing (`shared`, or alone to change the layout) with the
        lock that keeps the layout. Returns the transaction's number, 0 for reading."""
        import sqlalchemy as sql

        asked = "SELECT set_config('search_path', :path, true)"
        if shared is None:
            connection.execute(sql.text(asked), {"path": _quoted(self.schema)})
            return 0
        lock = f"pg_advisory_xact_lock{'_shared' if shared else ''}(:key)"
        asked += f", set_config('lock_timeout', '{_LOCK_S}s', true), {lock}, txid_current()"
        key = int.from_bytes(hashlib.sha256(self.schema.encode()).digest()[:8], "big", signed=True)
        found = connection.execute(sql.text(asked), {"path": _quoted(self.schema), "key": key}).one()
        return int(found[3])

    def _was_taken(self, connection: Connection, number: int) -> bool:
        """Whether the transaction of this number, whose end nobody heard of, was committed."""
        import sqlalchemy as sql

        query = sql.text("SELECT txid_status(:number) = 'committed'")
        return bool(connection.scalar(query, {"number": number}))

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns. Where the server is gone for a moment, it is tried again until it answers,
        which is said; where it was never there, it isn't waited for."""
        pool = _pool(self.url)
        begun: float | None = None
        tries, pause, is_said = 0, _PAUSE_S, False
        while True:
            try:
                result = attempt()
            except _errors() as error:
                begun = time.monotonic() if begun is None else begun
                waited, tries = time.monotonic() - begun, tries + 1
                if not _is_passing(error) or not (pool.has_answered or _is_busy(error)):
                    raise self._translated(error) from error
                if waited >= PATIENCE_S:
                    raise self._gone(error, waited) from error
                if tries > 1:  # a connection that was kept too long is made again without a word
                    if not is_said and not _is_conflict(error):
                        warn(
                            f"The table {self.shown} doesn't answer ({_reason(error)}): waiting for it, "
                            f"for up to {PATIENCE_S:.0f} s"
                        )
                        is_said = True
                    time.sleep(min(pause, max(0.0, PATIENCE_S - waited)))
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                if is_said and begun is not None:
                    warn(f"The table {self.shown} answers again, after {time.monotonic() - begun:.0f} s.")
                return result

    # -------------------------------------------------------------- the layout

    def _version(self, connection: Connection) -> int:
        """The version of the tables' layout, 0 where there are none. Raises TableError where foreign or
        newer."""
        is_known = self.schema in _pool(self.url).schemas
        if not is_known and not self._has_tables(connection):
            return 0
        # named with its schema: one that a role may not use is not seen at all on the path
        rows = connection.exec_driver_sql(f"SELECT name, value FROM {_quoted(self.schema)}.meta")
        version = layouts.version_in({row.name: row.value for row in rows}, self.shown)
        _pool(self.url).schemas.add(self.schema)
        return version

    def _has_tables(self, connection: Connection) -> bool:
        """Whether there are tables in the schema. Raises TableError where they aren't ours."""
        import sqlalchemy as sql

        found = connection.scalars(
            sql.text(
                "SELECT a.attname FROM pg_catalog.pg_attribute a "
                "JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
                "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND a.attnum > 0 "
                "AND (c.relname = 'meta' OR a.attnum = 1) ORDER BY c.relname = 'meta' DESC, a.attnum"
            ),
            {"schema": self.schema},
        ).all()
        if found and list(found[:2]) != ["name", "value"]:
            raise foreign(self.shown)
        return bool(found)

    def _lay_out(self) -> None:
        """Make the tables where there are none, or take those of an older layout through the steps that they
        lack, after a copy of them was kept in the same schema."""
        import sqlalchemy as sql

        with self._connection() as connection:
            self._enter(connection, shared=False)
            version = self._version(connection)
            if version == 0:
                encoding = connection.scalar(sql.text("SHOW server_encoding"))
                if encoding != "UTF8":
                    raise self._fault(
                        f"the database is encoded in {encoding}, which lacks characters that names may have",
                        "make one with: createdb --encoding UTF8 --template template0 NAME",
                    )
                known = sql.text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :schema")
                if connection.scalar(known, {"schema": self.schema}) is None:
                    connection.exec_driver_sql(f"CREATE SCHEMA {_quoted(self.schema)}")
                layouts.lay_out(connection)
            elif version < schema_version():
                self._keep_copy(connection, version)
                layouts.take_steps(connection, version)
            connection.commit()

    def _keep_copy(self, connection: Connection, version: int) -> None:
        """Copy the tables to `v2_backup_meta`, …, or with the first free number after that."""
        import sqlalchemy as sql

        query = sql.text("SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = :schema")
        there = set(connection.scalars(query, {"schema": self.schema}))
        ours = there & set(layouts.layout("postgresql").tables)
        endings = ("", *(f"_{number}" for number in range(2, len(there) + 3)))
        ending = next(
            one for one in endings if not {f"v{version}_backup{one}_{name}" for name in ours} & there
        )
        for name in sorted(ours):
            connection.exec_driver_sql(f"CREATE TABLE v{version}_backup{ending}_{name} AS TABLE {name}")

    def _check_privileges(self, connection: Connection) -> None:
        """Raise TableError unless rows may be added."""
        import sqlalchemy as sql

        if connection.scalar(sql.text("SHOW transaction_read_only")) == "on":
            raise self._fault("the server is a read-only copy", "name the server that may be written")
        asked = " AND ".join(f"has_table_privilege('{name}', '{what}')" for name, what in _PRIVILEGES.items())
        if not connection.scalar(sql.text(f"SELECT {asked}")):
            raise self._forbidden("it may not be written by this role")

    # -------------------------------------------------------------- errors

    def _fault(self, what: str, hint: str) -> TableError:
        return fault(self.shown, what, hint)

    def _forbidden(self, what: str) -> TableError:
        schema, role = _quoted(self.schema), _quoted(self.url.username or os.environ.get("PGUSER", "ROLE"))
        return self._fault(
            what,
            f"ask its owner for: GRANT USAGE ON SCHEMA {schema} TO {role}; "
            f"GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        )

    def _gone(self, error: BaseException, waited: float) -> TableError:
        return UnreachableError(
            f"The table {self.shown} didn't answer for {waited:.0f} s ({_reason(error)}).",
            "what it took before is safe; once it answers, the same command continues",
        )

    def _translated(self, error: BaseException) -> TableError:
        code, reason = _code(error), _reason(error)
        if code == "42501":
            return self._forbidden(f"this role may not do that ({reason})")
        for start, what, hint in _CODES:
            if code.startswith(start):
                return self._fault(f"{what} ({reason})", hint)
        if code:
            return self._fault(reason, "nothing was written")
        for pattern, what, hint in _TEXTS:
            if pattern.search(str(_original(error))):
                return self._fault(f"{what} ({reason})", hint)
        text = f"the server can't be reached ({reason})"
        return UnreachableError(
            self._fault(text, "").message, "check the host and the port, and that it runs"
        )


#: Beginning of a code of SQL -> what it means, what to do.
_CODES = (
    ("25006", "it may only be read", "name the server that may be written"),
    (
        "53100",
        "there is no space left on the server",
        "free some space; the rows already in the table are safe",
    ),
    ("53300", "the server has no free connection", "raise its max_connections, or put a pooler before it"),
    ("55P03", "another process is using it", "wait until that process has finished, then try again"),
    ("42P01", "its tables are not all there", "restore a backup, or name another schema: ?schema=NAME"),
    ("42703", "its tables have other columns", "restore a backup, or name another schema: ?schema=NAME"),
    ("22021", "a text has a character that a server can't keep", "leave the character out"),
    ("3D000", "there is no such database", "make it with createdb, or check the address"),
    ("28", "the server refused to log in", "check the user, and the password in ~/.pgpass or PGPASSWORD"),
)
_LOGIN = "check the user, and the password in ~/.pgpass or PGPASSWORD"
#: What a failed connection's text says -> what it means, what to do.
_TEXTS = (
    (re.compile(r'database ".*" does not exist'), "there is no such database",
     "make it with createdb, or check the address"),
    (re.compile("permission denied for database"), "this role may not use the database",
     "ask its owner for: GRANT CONNECT ON DATABASE"),
    (re.compile("password|authentication|role .* does not exist|not permitted to log in|pg_hba.conf"),
     "the server refused to log in", _LOGIN),
    (re.compile("too many clients|remaining connection slots|too many connections"),
     "the server has no free connection", "raise its max_connections, or put a pooler before it"),
    (re.compile("resolve|translate host name|Name or service not known"), "there is no such host",
     "check the address"),
    (re.compile("certificate|SSL|GSSAPI"), "no safe connection was agreed on",
     "check sslmode and the certificates in the address"),
    (re.compile("NUL|0x00"), "a text has a character that a server can't keep", "leave the character out"),
)  # fmt: skip
#: Codes of what passes by itself: the server stops, starts or is full; two writers waited for each other.
_PASSING = ("08", "57P01", "57P02", "57P03", "53300", "40001", "40P01")
_CONFLICTS = ("40001", "40P01")
#: What a server says that is there and has no time now.
_BUSY = re.compile(
    "starting up|shutting down|recovery|not yet accepting|too many clients|remaining connection slots|"
    "too many connections"
)


def _errors() -> tuple[type[Exception], ...]:
    """What SQLAlchemy and the driver raise."""
    import psycopg
    import sqlalchemy as sql

    return sql.exc.DBAPIError, psycopg.Error


def _original(error: BaseException) -> BaseException:
    """The driver's own error."""
    return getattr(error, "orig", None) or error


def _code(error: BaseException) -> str:
    """The code of SQL of what a server said; empty for what the connection itself met."""
    return str(getattr(_original(error), "sqlstate", None) or "")


def _reason(error: BaseException) -> str:
    """What the server or the system said, in one line."""
    text = str(_original(error)).strip()
    found = re.findall(r"(?:FATAL|PANIC): +([^\n]+)", text) or re.findall(r".*failed: ([^\n]+)", text)
    line: str = found[-1] if found else text.partition("\n")[0]
    return line.strip().rstrip(".")[:300] or type(error).__name__


def _is_busy(error: BaseException) -> bool:
    """Whether the server is there and will soon have time."""
    return _code(error) in ("57P03", "53300", *_CONFLICTS) or bool(_BUSY.search(str(_original(error))))


def _is_conflict(error: BaseException) -> bool:
    return _code(error) in _CONFLICTS


def _is_passing(error: BaseException) -> bool:
    """Whether the same may work in a moment."""
    import psycopg

    original, code = _original(error), _code(error)
    if code:
        return code.startswith(_PASSING)
    if not isinstance(original, psycopg.OperationalError):
        return False
    text = str(original)
    return bool(_BUSY.search(text)) or not any(pattern.search(text) for pattern, _, _ in _TEXTS)


def _quoted(name: str) -> str:
    """An identifier of SQL, which holds no quotation mark."""
    return '"' + name.replace('"', "") + '"'


def _in_a_copy(connection: Connection, version: int, work: Callable[[Connection], T]) -> T:
    """Do `work` on a copy in memory of tables of an older version, taken through the steps that they lack."""
    import sqlite3

    import sqlalchemy as sql
    from sqlalchemy.pool import StaticPool

    query = sql.text("SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()")
    there = set(connection.scalars(query)) & set(layouts.layout("postgresql").tables)
    memory = sql.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(":memory:", isolation_level=None), poolclass=StaticPool
    )
    try:
        with memory.connect() as copy:
            for name in sorted(there):
                rows = connection.exec_driver_sql(f"SELECT * FROM {name}")
                columns = list(rows.keys())
                copy.exec_driver_sql(f"CREATE TABLE {name} ({', '.join(columns)})")
                marks = ", ".join("?" * len(columns))
                if values := [tuple(row) for row in rows]:
                    copy.exec_driver_sql(f"INSERT INTO {name} VALUES ({marks})", values)
            layouts.take_steps(copy, version)
            return work(copy)
    finally:
        memory.dispose()


# ------------------------------------------------------------------ addresses and connections


def _parsed(address: str) -> URL:
    """The address in its parts. Raises TableError, without repeating it: it may hold a password."""
    import sqlalchemy as sql

    try:
        import psycopg
    except ImportError:
        raise MissingRuntimeError.of("A table on a PostgreSQL server", "psycopg", "postgres") from None
    hint = "write it as postgresql://USER@HOST:PORT/DATABASE"
    try:
        url = sql.make_url(address)
    except (sql.exc.ArgumentError, ValueError):
        raise TableError("The address of the table can't be read.", hint) from None
    if not address.isprintable() or " " in address or "@" in f"{url.host or ''}{url.database or ''}":
        raise TableError(
            "The address of the table can't be read.",
            f"{hint}; in a name or a password write %40 for @, %2F for / and %3A for :",
        )
    known = {one.keyword.decode() for one in psycopg.pq.Conninfo.get_defaults()} | {"schema"}
    strange = next((name for name in url.query if name not in known), None)
    if strange is not None:
        raise TableError(
            f'The address of the table has an option that no server knows: "{strange[:50]}".',
            "the options are those of PostgreSQL's own clients, such as sslmode, and schema",
        )
    if url.database and sql.make_url("postgresql://h/%20").database == "%20":  # as SQLAlchemy 2.0 leaves it
        url = url.set(database=unquote(url.database))
    return url.set(drivername="postgresql+psycopg")


class _Pool:
    """The connections of this process to one database, closed when nobody has used them for a while."""

    def __init__(self, url: URL) -> None:
        self.has_answered = False
        self.schemas: set[str] = set()  # in which tables of ours were seen
        self._url = url
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._process = 0
        self._used = 0.0
        self._timer: threading.Timer | None = None
        atexit.register(self.close)

    def engine(self) -> Engine:
        import sqlalchemy as sql

        with self._lock:
            if self._engine is not None and self._process != os.getpid():
                self._engine.dispose(close=False)  # a forked process must not use its parent's connections
                self._timer = None
            if self._engine is None:
                chosen = {name: one for name, one in _CONNECTING.items() if name not in self._url.query}
                self._engine = sql.create_engine(
                    self._url, connect_args=chosen, pool_size=1, max_overflow=-1, use_native_hstore=False
                )
            self._process = os.getpid()
            return self._engine

    def rest(self) -> None:
        """Close the connections once nobody has used them for a while."""
        with self._lock:
            self._used = time.monotonic()
            if self._timer is None:
                self._start(IDLE_S)

    def _start(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        with self._lock:
            left = self._used + IDLE_S - time.monotonic()
            if left > 0:
                self._start(left)
                return
            self._timer = None
        self.close()

    def close(self) -> None:
        if self._engine is not None and self._process == os.getpid():
            self._engine.dispose()


@cache
def _pool(url: URL) -> _Pool:
    return _Pool(url)
