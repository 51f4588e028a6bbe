"""Runs in and out of a database, whole: what is appended, and what tables exchange."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vertebra.errors import TableError
from vertebra.measurements.layout import layout
from vertebra.measurements.measurement import COLUMNS, now
from vertebra.measurements.record import KINDS, Record, text_of
from vertebra.measurements.run import Run

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Table

#: The most ids that one query asks for.
_AT_ONCE = 500
#: The lock of whoever completes a run on a server, where a file has one writer at a time: "run" in ASCII.
_COMPLETING = 0x72756E


def add(connection: Connection, run: Run) -> int:
    """Add what the table lacks of `run`; returns the number of rows added. Raises TableError where the run
    there is another one."""
    run = replace(run, created_at=run.created_at or now("microseconds"))
    if _insert(connection, run):
        return len(run.records)
    known = find(connection, run.id)
    if known is not None and known.joined(run) == known:
        return 0
    if connection.dialect.name == "postgresql":
        import sqlalchemy as sql

        connection.execute(sql.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _COMPLETING})
        known = find(connection, run.id)
    assert known is not None, "a run that is there has gone"
    joined = known.joined(run)
    if joined != known:
        _delete(connection, run.id)
        _insert(connection, joined)
    return len(joined.records) - len(known.records)


def add_systems(connection: Connection, systems: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the descriptions of systems (id -> description) that the table lacks."""
    import sqlalchemy as sql

    rows = [{"id": name, "description": text_of(one)} for name, one in sorted(systems.items())]
    if rows:
        insert = "INSERT INTO systems (id, description) VALUES (:id, :description) ON CONFLICT DO NOTHING"
        connection.execute(sql.text(insert), rows)


def find(connection: Connection, run_id: str) -> Run | None:
    """The run of this id. Raises TableError where a row of it can't be read."""
    runs, broken = read(connection, [run_id])
    for error in broken.values():
        raise error
    return runs[0] if runs else None


def read(connection: Connection, ids: Sequence[str] | None = None) -> tuple[list[Run], dict[str, TableError]]:
    """The runs with all that is kept of them, oldest first: those of `ids`, or all. Those with a row that
    can't be read come apart, with what is wrong."""
    tables = layout().tables
    rows: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in _of(connection, tables["measurements"], "run", ids):
        rows[row.run].append(row)
    samples: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for row in _of(connection, tables["samples"], "run", ids):
        values = loaded(row.samples, list)
        if values is not None:
            samples[row.run][row.name] = values
    runs, broken = [], {}
    for head in sorted(_of(connection, tables["runs"], "id", ids), key=lambda one: (one.created_at, one.id)):
        try:
            records = tuple(map(_record, sorted(rows[head.id], key=lambda row: int(row.ordinal))))
        except TableError as error:
            broken[head.id] = error
        else:
            held = dict(sorted(samples[head.id].items()))
            runs.append(Run(head.id, records, held, head.system, head.created_at))
    return runs, broken


def samples_of(connection: Connection, run_id: str) -> dict[str, list[float]]:
    """The raw samples of a run by name, without those that can't be read."""
    found = ((row.name, loaded(row.samples, list)) for row in
             _of(connection, layout().tables["samples"], "run", [run_id]))  # fmt: skip
    return {name: values for name, values in sorted(found) if values is not None}


def systems(connection: Connection) -> dict[str, dict[str, Any]]:
    """The systems: id -> description, without those that can't be read."""
    found = connection.execute(layout().tables["systems"].select())
    read = ((row.id, loaded(row.description, dict)) for row in found)
    return {system: description for system, description in read if description is not None}


def loaded(text: Any, kind: type) -> Any:
    """What a cell of JSON holds, or None where that isn't of this kind: an edited cell ends no reader."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    return found if isinstance(found, kind) else None


def _of(connection: Connection, table: Table, column: str, ids: Sequence[str] | None) -> Iterator[Row[Any]]:
    """The table's rows, or those whose column is one of `ids`."""
    if ids is None:
        yield from connection.execute(table.select())
        return
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        yield from connection.execute(table.select().where(table.c[column].in_(part)))


def _insert(connection: Connection, run: Run) -> bool:
    """Insert a run unless one with its id is there; returns whether it was inserted."""
    import sqlalchemy as sql

    head = (
        "INSERT INTO runs (id, created_at, system) VALUES (:id, :created_at, :system) ON CONFLICT DO NOTHING"
    )
    named = {"id": run.id, "created_at": run.created_at, "system": run.system}
    if connection.execute(sql.text(head), named).rowcount == 0:
        return False
    tables = layout().tables
    rows = [_stored(run.id, ordinal, record) for ordinal, record in enumerate(run.records)]
    connection.execute(tables["measurements"].insert(), rows)
    kept = [{"run": run.id, "name": name, "samples": text_of(list(values))}
            for name, values in run.samples.items()]  # fmt: skip
    if kept:
        connection.execute(tables["samples"].insert(), kept)
    return True


def _delete(connection: Connection, run_id: str) -> None:
    """Remove a run before a fuller copy of it is inserted, in the same transaction."""
    tables = layout().tables
    for name in ("samples", "measurements"):
        connection.execute(tables[name].delete().where(tables[name].c.run == run_id))
    connection.execute(tables["runs"].delete().where(tables["runs"].c.id == run_id))


def _stored(run_id: str, ordinal: int, record: Record) -> dict[str, Any]:
    """A record as the database keeps it: lists and mappings as JSON text."""
    values = {name: record.get(name) for name in COLUMNS}
    for name in ("grade_reasons", "versions"):
        values[name] = text_of(record[name]) if name in record else None
    return {**values, "run": run_id, "ordinal": ordinal}


def _record(found: Row[Any]) -> Record:
    """The row as plain data. Raises TableError where a cell can't be read."""
    values = {name: getattr(found, name) for name in COLUMNS if name != "run"}
    record = {name: value for name, value in values.items() if value is not None}
    try:
        return {
            name: json.loads(value) if KINDS[name] in ("texts", "mapping") else value
            for name, value in record.items()
        }
    except (ValueError, TypeError, RecursionError):
        raise TableError(
            f"Row {found.ordinal} of run {found.run[:8]} of the table can't be read.",
            f"leave the run out: vertebra table --forget {found.run[:8]}",
        ) from None


def rows_of(runs: Iterable[Run]) -> int:
    """How many rows the runs hold."""
    return sum(len(run.records) for run in runs)
