"""The append-only set of measurements, kept in one file that several processes append to at once."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vertebra.errors import InvalidInputError, TableError, VertebraError
from vertebra.measurements import exchange, forgetting, stored, views
from vertebra.measurements.database import layout, prepare, reading, select, writing
from vertebra.measurements.forgetting import SEEN
from vertebra.measurements.measurement import COLUMNS, Measurement, now
from vertebra.measurements.record import (
    KINDS,
    STORED_SYSTEM,
    Record,
    canonical,
    row_of,
    text_of,
    unknown_column,
)
from vertebra.measurements.run import Run
from vertebra.measurements.subjects import Subject

if TYPE_CHECKING:
    import pandas
    from sqlalchemy import Connection, Row

    from vertebra.machine.system import System

#: The columns that `Table.rows` filters by.
FILTERS = tuple(name for name in COLUMNS if KINDS[name] not in ("texts", "mapping"))

#: The rows of a table as SQL text: reading doesn't wait for SQLAlchemy.
_ROWS = f"SELECT {stored.SELECTED}, {stored.AFTER} FROM measurements JOIN runs ON runs.id = measurements.run"

_READERS: dict[str, Callable[[Path], list[Measurement]]] = {
    ".csv": exchange.read_csv,
    ".json": exchange.read_json,
    ".parquet": exchange.read_parquet,
}


def default_path() -> Path:
    """VERTEBRA_TABLE, else `table.sqlite` in the user's data folder of this operating system."""
    named = os.environ.get("VERTEBRA_TABLE")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_data_path("vertebra", appauthor=False) / "table.sqlite"


class Table:
    """The append-only set of measurements in one file.

    Several processes may append to it at once. With `create`, opening makes the file and its
    folder, so that a path that can't be written fails before anything is measured. Without, a
    missing file is an empty table and nothing is written before the first append.

    Raises TableError where the file isn't a table of measurements, is newer than this vertebra, or
    can't be read or written; the file is then left as it was.
    """

    def __init__(self, path: Path | str | None = None, *, create: bool = True) -> None:
        self.path = default_path() if path is None else Path(path).expanduser()
        if create:
            prepare(self.path)

    def append(
        self,
        rows: Iterable[Measurement],
        *,
        samples: Mapping[str, Sequence[float]] | None = None,
        system: System | None = None,
    ) -> str:
        """Append `rows` as one run in one transaction, and return the run's id.

        `samples` are raw samples by name, in base units. The id is the hash of rows, samples and
        system, so that the same content appended again adds nothing; the rows' own `run` is ignored.
        """
        run = Run.of(rows, samples, None if system is None else system.id)
        with writing(self.path) as connection:
            if system is not None:
                _insert_missing(connection, "systems", [_system_row(system.id, system.to_dict())])
            _add(connection, run)
        return run.id

    def rows(self, *, forgotten: bool = False, **filters: Any) -> list[Measurement]:
        """The rows, oldest run first, whose columns equal the filters: `model="vgg16"`, `batch_size=(1, 8)`.

        None is the value of an empty column. Rows of forgotten runs are left out; with `forgotten`, all
        others are. A row that can't be understood is left out, with a warning. Raises UnknownNameError for
        an unknown column.
        """
        _check_filters(filters)
        return self._select(_all_of(self._with_every_id(filters)), forgotten=forgotten)

    def comparable(self, metrics: Collection[str] | None = None, **load: Any) -> list[Measurement]:
        """The rows of metrics that don't depend on a machine, and of the others those with columns equal to
        `load`; only those of `metrics`, where given.

        Oldest run first, as `rows` gives them. Raises UnknownNameError for an unknown column.
        """
        _check_filters(load)
        load = dict(self._with_every_id(load))
        needing = _equal("metric", views.NEEDING_A_MACHINE)
        where = _Where(f"(NOT {needing.text} OR {_all_of(load).text})", needing.values + _all_of(load).values)
        if metrics is not None:
            named = _equal("metric", metrics)
            where = _Where(f"{named.text} AND {where.text}", named.values + where.values)
        return self._select(where)

    def benched_systems(self) -> set[str]:
        """The ids of the systems that something was measured on, each machine by one."""
        query = f"SELECT DISTINCT system FROM measurements WHERE origin = ? AND {SEEN}"
        present = self._present_ids()
        return {present.get(system, system) for (system,) in select(self.path, query, ("benched",))}

    def subjects(self, model: str) -> list[Subject]:
        """The networks called `model` that the table has rows of."""
        if not model.isprintable():  # as a name that isn't UTF-8 is; no row has such a one
            return []
        query = "SELECT DISTINCT model, network_sha256 FROM measurements WHERE model = ?"
        return [(name, digest) for name, digest in select(self.path, query, (model,))]

    def system(self, system_id: str) -> dict[str, Any] | None:
        """The description of a system by its id, one of today's or one that an earlier version gave it."""
        present = self._present_ids()
        wanted = self.system_id(system_id)
        known = self.systems().items()
        return next((found for name, found in known if wanted in (name, present.get(name))), None)

    def system_id(self, system_id: str) -> str:
        """The id that a system has today, by that one or an earlier one."""
        return self._present_ids().get(system_id, system_id)

    def _present_ids(self) -> dict[str, str]:
        """The ids that earlier versions gave to systems, each with the id that the system has today.

        Stored rows keep theirs, so that a run stays what it was; rows that are read have today's.
        """
        found = select(self.path, "SELECT id, description FROM systems")
        today = {old: _id_today(description) for old, description in found}
        return {old: new for old, new in today.items() if new is not None and new != old}

    def _with_every_id(self, filters: Mapping[str, Any]) -> Mapping[str, Any]:
        """The filters, a system's with all ids that it ever had."""
        asked = filters.get("system")
        if asked is None:
            return filters
        several = (asked,) if isinstance(asked, str) else tuple(asked)
        present = self._present_ids()
        today = {present.get(one, one) for one in several}
        return {
            **filters,
            "system": (*several, *today, *(old for old, new in present.items() if new in today)),
        }

    def _select(self, where: _Where, *, forgotten: bool = False) -> list[Measurement]:
        """The rows for which the condition holds, oldest run first."""
        seen = f"NOT ({SEEN})" if forgotten else SEEN
        found = select(self.path, f"{_ROWS} WHERE {where.text} AND {seen}", where.values)
        return self.with_present_ids(stored.rows(found))

    def with_present_ids(self, rows: list[Measurement]) -> list[Measurement]:
        """The rows, just read, with today's ids of the systems that the table knows; what is exported of them
        keeps those that are stored."""
        present = self._present_ids() if rows else {}
        for row in rows if present else ():
            if row.system in present:  # written in place, since there are thousands of new rows
                vars(row).update({STORED_SYSTEM: row.system, "system": present[row.system]})
        return rows

    def latest(self, **filters: Any) -> list[Measurement]:
        """The newest row of each figure (`views.latest`) that the filters leave and that can be
        (`views.possible`)."""
        return views.latest(views.possible(self.rows(**filters)))

    def forget(self, *runs: str, reason: str | None = None) -> dict[str, int]:
        """Mark the runs whose ids begin so as forgotten: no view shows their rows any more, and nothing is
        deleted. Returns each run's id and number of rows.

        Raises UnknownNameError for the beginning of no run, and InvalidInputError for that of several.
        """
        return forgetting.forget(self.path, runs, reason)

    def restore(self, *runs: str) -> dict[str, int]:
        """Take the marks of `forget` back; arguments and result are as there."""
        return forgetting.restore(self.path, runs)

    def forgotten(self) -> dict[str, str]:
        """The forgotten runs: id -> when that was (ISO 8601, UTC)."""
        return forgetting.forgotten(self.path)

    def samples(self, run: str) -> dict[str, list[float]]:
        """The raw samples of the run, by name; empty where it has none."""
        with reading(self.path) as connection:
            return {} if connection is None else _samples_of(connection, run)

    def systems(self) -> dict[str, dict[str, Any]]:
        """The systems that runs were measured on: id -> description as first seen."""
        with reading(self.path) as connection:
            if connection is None:
                return {}
            systems = layout().tables["systems"]
            found = ((row.id, _loaded(row.description, dict)) for row in connection.execute(systems.select()))
            return {system: description for system, description in found if description is not None}

    def runs(self) -> list[Run]:
        """The runs with all that is kept of them, oldest first, the forgotten ones too.

        Raises TableError for one with a row that can't be read.
        """
        return self._readable(set())

    def _readable(self, dispensable: Collection[str]) -> list[Run]:
        """The runs, without those of the `dispensable` ones that can't be read."""
        import sqlalchemy as sql

        with reading(self.path) as connection:
            if connection is None:
                return []
            runs = layout().tables["runs"]
            ids = connection.scalars(sql.select(runs.c.id).order_by(runs.c.created_at, runs.c.id)).all()
            kept = []
            for run_id in ids:
                with contextlib.suppress(TableError) if run_id in dispensable else contextlib.nullcontext():
                    kept.append(_find(connection, run_id))
            return [run for run in kept if run is not None]

    def merge(self, other: Table) -> int:
        """Add what `other` holds and this table lacks; returns the number of rows added.

        One transaction. Merging again adds nothing, and the order of merging makes no difference. What is
        forgotten in one of them is forgotten in both.

        Raises InvalidInputError for a row that can't be, by its run and place, unless its run is forgotten in
        `other`: then the run stays behind.
        """
        marks, known = forgetting.marks(other.path), self._ids()
        came = [run for run in other._readable(set(marks)) if run.id in known or _is_sound(run, other, marks)]
        systems = other.systems()
        with writing(self.path) as connection:
            _insert_missing(connection, "systems", [_system_row(*item) for item in systems.items()])
            added = sum(_add(connection, run) for run in came)
            there = {run.id for run in came} | known
            forgetting.mark(connection, {run: mark for run, mark in marks.items() if run in there})
            return added

    def _ids(self) -> set[str]:
        return {run for (run,) in select(self.path, "SELECT id FROM runs")}

    def write_csv(self, path: Path | str, rows: Iterable[Measurement] | None = None) -> None:
        """Write `rows`, or all of the table's, as CSV."""
        exchange.write_csv(self._chosen(rows), path)

    def write_json(self, path: Path | str, rows: Iterable[Measurement] | None = None) -> None:
        """Write `rows`, or all of the table's, as JSON."""
        exchange.write_json(self._chosen(rows), path)

    def write_parquet(self, path: Path | str, rows: Iterable[Measurement] | None = None) -> None:
        """Write `rows`, or all of the table's, as Parquet. Raises MissingRuntimeError without pyarrow."""
        exchange.write_parquet(self._chosen(rows), path)

    def to_dataframe(self, rows: Iterable[Measurement] | None = None) -> pandas.DataFrame:
        """`rows`, or all of the table's, as a pandas DataFrame. Raises MissingRuntimeError without pandas."""
        return exchange.to_dataframe(self._chosen(rows))

    def read_csv(self, path: Path | str) -> int:
        """Append the rows of a CSV file, all or none; returns the number of rows added."""
        return self._take(exchange.read_csv(path))

    def read_json(self, path: Path | str) -> int:
        """Append the rows of a JSON file, all or none; returns the number of rows added."""
        return self._take(exchange.read_json(path))

    def read_parquet(self, path: Path | str) -> int:
        """Append the rows of a Parquet file, all or none; returns the number of rows added."""
        return self._take(exchange.read_parquet(path))

    def read_dataframe(self, frame: pandas.DataFrame) -> int:
        """Append the rows of a DataFrame, all or none; returns the number of rows added."""
        return self._take(exchange.from_dataframe(frame))

    def take_in(self, path: Path | str) -> int:
        """Append what a file holds, all or none; returns the number of rows added.

        The ending decides what it is: .csv, .json, .parquet, or another table (.sqlite).
        """
        path = Path(path).expanduser()
        ending = path.suffix.lower()
        if ending == ".sqlite":
            if not path.is_file():
                raise TableError(f"Can't read {path}: no such file.", "pass the path of an existing file")
            return self.merge(Table(path, create=False))
        if ending not in _READERS:
            known = ", ".join((*_READERS, ".sqlite"))
            raise InvalidInputError(
                f'Can\'t detect the format of "{path.name}".', f"supported endings: {known}"
            )
        return self._take(_READERS[ending](path))

    def __len__(self) -> int:
        """The number of rows, without those of forgotten runs."""
        import sqlalchemy as sql

        with reading(self.path) as connection:
            if connection is None:
                return 0
            count = sql.select(sql.func.count()).select_from(layout().tables["measurements"])
            return connection.scalar(count.where(sql.text(SEEN))) or 0

    def close(self) -> None:
        """Nothing is held open between calls; here for `contextlib.closing`."""

    def _chosen(self, rows: Iterable[Measurement] | None) -> list[Measurement]:
        return self.rows() if rows is None else list(rows)

    def _take(self, rows: list[Measurement]) -> int:
        """Add rows from a file: under the run that each names, or together as a new one."""
        named = sorted((row for row in rows if row.run is not None), key=lambda row: row.run or "")
        runs = [replace(Run.of(group), id=str(run)) for run, group in groupby(named, key=lambda row: row.run)]
        nameless = [row for row in rows if row.run is None]
        if nameless:
            runs.append(Run.of(nameless))
        with writing(self.path) as connection:
            return sum(_add(connection, run) for run in runs)


# ------------------------------------------------------------------ rows in and out


def _add(connection: Connection, run: Run) -> int:
    """Add what the table lacks of `run`; returns the number of rows added."""
    known = _find(connection, run.id)
    run = replace(run, created_at=run.created_at or now("microseconds"))
    if known is None:
        _insert(connection, run)
        return len(run.records)
    joined = known.joined(run)
    if joined != known:
        _delete(connection, run.id)
        _insert(connection, joined)
    return len(joined.records) - len(known.records)


def _find(connection: Connection, run_id: str) -> Run | None:
    runs, measurements = (layout().tables[name] for name in ("runs", "measurements"))
    head = connection.execute(runs.select().where(runs.c.id == run_id)).one_or_none()
    if head is None:
        return None
    query = measurements.select().where(measurements.c.run == run_id).order_by(measurements.c.ordinal)
    records = tuple(_record(found) for found in connection.execute(query))
    return Run(run_id, records, _samples_of(connection, run_id), head.system, head.created_at)


def _samples_of(connection: Connection, run_id: str) -> dict[str, list[float]]:
    samples = layout().tables["samples"]
    found = connection.execute(samples.select().where(samples.c.run == run_id).order_by(samples.c.name))
    kept = ((row.name, _loaded(row.samples, list)) for row in found)
    return {name: values for name, values in kept if values is not None}


def _loaded(text: Any, kind: type) -> Any:
    """What a cell of JSON holds, or None where that isn't of this kind: an edited cell ends no reader."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    return found if isinstance(found, kind) else None


def _insert(connection: Connection, run: Run) -> None:
    tables = layout().tables
    connection.execute(
        tables["runs"].insert(), [{"id": run.id, "created_at": run.created_at, "system": run.system}]
    )
    rows = [_stored(run.id, ordinal, record) for ordinal, record in enumerate(run.records)]
    connection.execute(tables["measurements"].insert(), rows)
    if run.samples:
        kept = [{"run": run.id, "name": name, "samples": text_of(list(values))}
                for name, values in run.samples.items()]  # fmt: skip
        connection.execute(tables["samples"].insert(), kept)


def _delete(connection: Connection, run_id: str) -> None:
    """Remove a run before a fuller copy of it is inserted, in the same transaction."""
    tables = layout().tables
    for name in ("samples", "measurements"):
        connection.execute(tables[name].delete().where(tables[name].c.run == run_id))
    connection.execute(tables["runs"].delete().where(tables["runs"].c.id == run_id))


def _insert_missing(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert the rows whose id the table lacks."""
    import sqlalchemy as sql

    target = layout().tables[table]
    known = set(connection.scalars(sql.select(target.c.id)))
    new = [row for row in rows if row["id"] not in known]
    if new:
        connection.execute(target.insert(), new)


def _system_row(system_id: str, description: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": system_id, "description": text_of(description)}


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


def _is_sound(run: Run, table: Table, marks: Collection[str]) -> bool:
    """Whether all rows of a run of `table` can be. Raises InvalidInputError if not, unless it is marked."""
    for place, record in enumerate(run.records):
        try:
            row_of(record)
        except VertebraError as error:
            if run.id in marks:
                return False
            raise InvalidInputError(
                f"{table.path}, run {run.id[:8]}, row {place}: {error.message}",
                f"leave the run out: vertebra table --forget {run.id[:8]} --table {table.path}",
            ) from None
    return True


@lru_cache(maxsize=256)
def _id_today(description: str) -> str | None:
    """The id that a described system has today; None where the description is of another kind."""
    from vertebra.machine.system import System

    try:
        return System.from_dict(json.loads(description)).id
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


# ------------------------------------------------------------------ filters


def _check_filters(filters: Iterable[str]) -> None:
    for name in filters:
        if name not in FILTERS:
            raise unknown_column(name, FILTERS)


class _Where(NamedTuple):
    """A condition in SQL, and the values of its question marks."""

    text: str
    values: tuple[Any, ...]


def _all_of(filters: Mapping[str, Any]) -> _Where:
    parts = [_equal(name, wanted) for name, wanted in filters.items()]
    text = " AND ".join(part.text for part in parts)
    return _Where(f"({text or 'TRUE'})", tuple(value for part in parts for value in part.values))


def _equal(name: str, wanted: Any) -> _Where:
    """Equal to `wanted`, or to one of them where it is a collection; None matches an empty column."""
    several = isinstance(wanted, Collection) and not isinstance(wanted, str | bytes | Mapping)
    values = [_wanted(name, value) for value in (wanted if several else (wanted,))]
    given = tuple(value for value in values if value is not None)
    empty = f" OR measurements.{name} IS NULL" if None in values else ""
    return _Where(f"(measurements.{name} IN ({', '.join('?' * len(given))}){empty})", given)


def _wanted(name: str, value: Any) -> Any:
    try:
        return None if value is None else canonical(name, value)
    except InvalidInputError as error:
        raise InvalidInputError(f"Can't filter: {error.message}", error.hint) from None
