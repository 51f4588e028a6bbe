"""The tables of a table of measurements, in a file as on a server, and the steps from older ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from vertebra.errors import TableError
from vertebra.measurements.measurement import COLUMNS
from vertebra.measurements.record import KINDS, REQUIRED

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData

PRODUCT = "vertebra measurements"
_LONGEST_VERSION = 9

#: Steps from version 1 on, oldest first, in SQL that SQLite and PostgreSQL understand: step number i makes
#: version i + 2 of a table of version i + 1. A copy is kept first. All run in one transaction; a failing one
#: leaves the table as it was.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "ALTER TABLE measurements ADD COLUMN network_sha256 TEXT",
        "ALTER TABLE measurements ADD COLUMN dataset_sha256 TEXT",
        "ALTER TABLE measurements ADD COLUMN beside BIGINT",
        "ALTER TABLE measurements ADD COLUMN exclusive BOOLEAN",
        "CREATE TABLE forgotten (run TEXT NOT NULL PRIMARY KEY, forgotten_at TEXT NOT NULL, reason TEXT)",
    ),
    (
        "CREATE TABLE prices (system TEXT NOT NULL PRIMARY KEY, said_at TEXT NOT NULL, "
        "per_hour DOUBLE PRECISION, currency TEXT)",
    ),
)


class UnreachableError(TableError):
    """The server of a table doesn't answer, or not any more."""


def schema_version() -> int:
    """The version of the layout that this vertebra writes."""
    return 1 + len(MIGRATIONS)


@cache
def layout(dialect: str = "sqlite") -> MetaData:
    """The tables as this version lays them out. Changing them takes a step in MIGRATIONS.

    On a server a run has its `place`, which grows with each run that comes; in a file that is SQLite's own
    `rowid`. Texts are ordered by their characters' numbers, as SQLite orders them, whatever the server's
    language.
    """
    import sqlalchemy as sql

    text = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")
    sql_type: dict[str, Any] = {
        "integer": sql.BigInteger, "number": sql.Double, "text": text, "texts": text,
        "boolean": sql.Boolean, "mapping": text,
    }  # fmt: skip
    places = [sql.Column("place", sql.BigInteger, sql.Identity())] if dialect == "postgresql" else []
    tables = sql.MetaData()
    sql.Table(
        "meta",
        tables,
        sql.Column("name", text, primary_key=True),
        sql.Column("value", text, nullable=False),
    )
    sql.Table(
        "systems",
        tables,
        sql.Column("id", text, primary_key=True),
        sql.Column("description", text, nullable=False),
    )
    sql.Table(
        "runs",
        tables,
        sql.Column("id", text, primary_key=True),
        sql.Column("created_at", text, nullable=False),
        sql.Column("system", text),
        *places,
    )
    sql.Table(
        "measurements",
        tables,
        sql.Column("run", text, sql.ForeignKey("runs.id"), primary_key=True),
        sql.Column("ordinal", sql.Integer, primary_key=True, autoincrement=False),
        *(sql.Column(name, sql_type[KINDS[name]], nullable=name not in REQUIRED)
          for name in COLUMNS if name != "run"),
    )  # fmt: skip
    sql.Table(
        "samples",
        tables,
        sql.Column("run", text, sql.ForeignKey("runs.id"), primary_key=True),
        sql.Column("name", text, primary_key=True),
        sql.Column("samples", text, nullable=False),
    )
    sql.Table(
        "forgotten",
        tables,
        sql.Column("run", text, primary_key=True),
        sql.Column("forgotten_at", text, nullable=False),
        sql.Column("reason", text),
    )
    sql.Table(
        "prices",
        tables,
        sql.Column("system", text, primary_key=True),
        sql.Column("said_at", text, nullable=False),
        sql.Column("per_hour", sql.Double),
        sql.Column("currency", text),
    )
    return tables


def foreign(shown: str) -> TableError:
    """What is at `shown` isn't ours."""
    return TableError(
        f"{shown} is not a table of measurements; it was left as it is.",
        "choose another table with --table or VERTEBRA_TABLE",
    )


def fault(shown: str, what: str, hint: str) -> TableError:
    """The table at `shown` can't be used."""
    return TableError(f"Can't use the table {shown}: {what}.", hint)


def version_in(meta: Mapping[str, Any], shown: str) -> int:
    """The version of the layout that a table's `meta` states. Raises TableError where it is foreign or
    newer."""
    version = str(meta.get("schema_version", ""))
    if meta.get("product") != PRODUCT or not version.isdecimal():
        raise foreign(shown)
    if len(version) > _LONGEST_VERSION or int(version) > schema_version():  # Python doesn't read 5,000 digits
        cut = version if len(version) <= _LONGEST_VERSION else f"{version[:_LONGEST_VERSION]}…"
        raise TableError(
            f"{shown} was written by a newer vertebra (layout {cut}; this one reads {schema_version()}).",
            "upgrade with: pip install --upgrade vertebra",
        )
    return int(version)


def lay_out(connection: Connection) -> None:
    """Make the tables where there are none."""
    tables = layout(connection.dialect.name)
    tables.create_all(connection, checkfirst=False)
    named = {"product": PRODUCT, "schema_version": str(schema_version())}
    rows = [{"name": name, "value": value} for name, value in named.items()]
    connection.execute(tables.tables["meta"].insert(), rows)


def take_steps(connection: Connection, version: int) -> None:
    """Take tables of an older `version` through the steps that they lack."""
    for statement in (statement for step in MIGRATIONS[version - 1 :] for statement in step):
        connection.exec_driver_sql(statement)
    state_version(connection)


def state_version(connection: Connection) -> None:
    """Write down that the tables are of today's layout."""
    meta = layout().tables["meta"]
    connection.execute(
        meta.update().where(meta.c.name == "schema_version").values(value=str(schema_version()))
    )
