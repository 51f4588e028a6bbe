"""The append-only set of measurements, in a file or on a server, where several processes append at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vertebra.errors import InvalidInputError, TableError, UnknownNameError
from vertebra.measurements import database, exchange, forgetting, kept_runs, merging, stored, views
from vertebra.measurements import prices as pricing
from vertebra.measurements.forgetting import SEEN
from vertebra.measurements.layout import UnreachableError
from vertebra.measurements.measurement import COLUMNS, Measurement
from vertebra.measurements.merging import Brought
from vertebra.measurements.prices import Given, Price
from vertebra.measurements.record import KINDS, STORED_SYSTEM, canonical, unknown_column
from vertebra.measurements.run import Run
from vertebra.measurements.sqlite import File
from vertebra.measurements.subjects import Subject

if TYPE_CHECKING:
    import pandas
    from sqlalchemy import Connection

    from vertebra.machine.system import System
    from vertebra.measurements.database import Store

#: The columns that `Table.rows` filters by.
FILTERS = tuple(name for name in COLUMNS if KINDS[name] not in ("texts", "mapping"))

#: The rows of a table as SQL text: reading doesn't wait for SQLAlchemy.
_ROWS = (
    f"SELECT {stored.SELECTED}, {stored.AFTER}, %s FROM measurements JOIN runs ON runs.id = measurements.run"
)

_READERS: dict[str, Callable[[Path], list[Measurement]]] = {
    ".csv": exchange.read_csv,
    ".json": exchange.read_json,
    ".parquet": exchange.read_parquet,
}


def default_path() -> Path | str:
    """VERTEBRA_TABLE, else `table.sqlite` in the user's data folder of this operating system. The variable
    may hold a server's address, which stays text."""
    named = os.environ.get("VERTEBRA_TABLE")
    if named:
        return named if database.is_address(named) else Path(named).expanduser()
    return _data_folder() / "table.sqlite"


def _data_folder() -> Path:
    import platformdirs

    return platformdirs.user_data_path("vertebra", appauthor=False)


class Table:
    """The append-only set of measurements in one file, or in a database of a PostgreSQL server, whose address
    is `postgresql://USER@HOST/DATABASE`.

    Several processes may append to it at once, and to one on a server several machines. With `create`,
    opening makes the file and its folder, or the tables on the server, so that a place that can't be written
    fails before anything is measured. Without, a missing one is an empty table and nothing is written before
    the first append; if `untouched`, an older table isn't brought up to date either.

    Raises TableError where the file or the database isn't a table of measurements, is newer than this
    vertebra, or can't be read or written; it is then left as it was. No message has a password.
    """

    def __init__(
        self, path: Path | str | None = None, *, create: bool = True, untouched: bool = False
    ) -> None:
        self.store: Store = database.at(default_path() if path is None else path, untouched=untouched)
        if create:
            self.store.prepare()

    @property
    def path(self) -> Path:
        """The table's file. Raises TableError where it is on a server."""
        if not isinstance(self.store, File):
            raise TableError(f"The table {self.shown} is not a file.", "use it by its address")
        return self.store.path

    @property
    def shown(self) -> str:
        """The table's path, or its address without a password."""
        return self.store.shown

    @property
    def lock(self) -> Path:
        """What is locked on this machine while something is measured into the table (`files.sole_use`)."""
        return self.store.lock

    def stamp(self) -> Hashable:
        """What differs once the table has changed; None where there is none."""
        return self.store.stamp()

    def __repr__(self) -> str:
        return f"<Table {self.shown}>"

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
        described = {} if system is None else {system.id: system.to_dict()}

        def write(connection: Connection) -> int:
            kept_runs.add_systems(connection, described)
            return kept_runs.add(connection, run)

        try:
            self.store.write(write)
        except UnreachableError as error:
            raise self._kept_here(error, write) from error
        return run.id

    def _kept_here(self, error: UnreachableError, write: Callable[[Connection], int]) -> UnreachableError:
        """Keep what a server didn't take in a file of this machine, and say so."""
        name = hashlib.sha256(self.shown.encode()).hexdigest()[:12]
        path = _data_folder() / f"not-sent-{name}.sqlite"
        database.at(path).write(write)
        return UnreachableError(
            f"{error.message} What was to be added is kept in {path}.",
            f"once it answers: vertebra merge {path} --table {self.shown}",
        )

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
        return self._systems_of("origin = ?", "benched")

    def _systems_of(self, condition: str, *values: str) -> set[str]:
        """Today's ids of the systems of the rows for which a condition in SQL holds."""
        query = f"SELECT DISTINCT system FROM measurements WHERE {condition} AND {SEEN}"
        present = self._present_ids()
        return {present.get(system, system) for (system,) in self.store.select(query, values)}

    def subjects(self, model: str) -> list[Subject]:
        """The networks called `model` that the table has rows of."""
        if not model.isprintable():  # as a name that isn't UTF-8 is; no row has such a one
            return []
        query = "SELECT DISTINCT model, network_sha256 FROM measurements WHERE model = ?"
        return [(name, digest) for name, digest in self.store.select(query, (model,))]

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
        found = self.store.select("SELECT id, description FROM systems")
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
        found = self.store.select(f"{_ROWS % self.store.place} WHERE {where.text} AND {seen}", where.values)
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
        return forgetting.forget(self.store, runs, reason)

    def restore(self, *runs: str) -> dict[str, int]:
        """Take the marks of `forget` back; arguments and result are as there."""
        return forgetting.restore(self.store, runs)

    def forgotten(self) -> dict[str, str]:
        """The forgotten runs: id -> when that was (ISO 8601, UTC)."""
        return forgetting.forgotten(self.store)

    def prices(self) -> dict[str, Price]:
        """What an hour of a system costs, for those of which it was said: today's id -> price."""
        present = self._present_ids()
        return pricing.kept(self.store, lambda system: present.get(system, system))

    def keep_prices(self, given: Given) -> dict[str, Price | None]:
        """Keep what an hour of systems costs, such as {"box": "0.34USD"}; "none" takes a price back. Returns
        them by today's id.

        Raises InvalidInputError for what isn't a price, and UnknownNameError for a system that the table
        doesn't have.
        """
        said = pricing.parsed(given)
        known = sorted(self._systems_of("system IS NOT NULL")) if said else []
        found: dict[str, Price | None] = {}
        for name, text in said.items():
            system = self.system_id(name)
            if system not in known:
                see = ", ".join(known) or "it has none"
                raise UnknownNameError.of("system of the table", name, known, see)
            found[system] = None if text.strip().lower() == pricing.NONE else pricing.read(name, text)
        if found:
            pricing.keep(self.store, found)
        return found

    def samples(self, run: str) -> dict[str, list[float]]:
        """The raw samples of the run, by name; empty where it has none."""
        return self.store.read(lambda connection: kept_runs.samples_of(connection, run)) or {}

    def systems(self) -> dict[str, dict[str, Any]]:
        """The systems that runs were measured on: id -> description as first seen."""
        return self.store.read(kept_runs.systems) or {}

    def runs(self) -> list[Run]:
        """The runs with all that is kept of them, oldest first, the forgotten ones too.

        Raises TableError for one with a row that can't be read.
        """
        runs, broken = self.store.read(kept_runs.read) or ([], {})
        for error in broken.values():
            raise error
        return runs

    def merge(self, other: Table) -> int:
        """Add what `other` holds and this table lacks; returns the number of rows added.

        One transaction. Merging again adds nothing, and the order of merging makes no difference. What is
        forgotten in one of them is forgotten in both.

        Raises InvalidInputError for a row that can't be, by its run and place, unless its run is forgotten in
        `other`: then the run stays behind. `bring` leaves such runs out instead.
        """
        return merging.bring(self.store, other.store, strict=True).rows

    def bring(self, other: Table) -> Brought:
        """As `merge`, but what can't be taken is left out, and said in what is returned."""
        return merging.bring(self.store, other.store)

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

        The ending decides what it is: .csv, .json, .parquet, or another table (.sqlite). A server's address
        is another table too.
        """
        if database.is_address(path):
            return self.merge(Table(path, create=False))
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

        query = sql.text(f"SELECT count(*) FROM measurements WHERE {SEEN}")
        return self.store.read(lambda connection: connection.scalar(query)) or 0

    def close(self) -> None:
        """Close what is held open between calls: a server's connections. They are made again when needed."""
        self.store.close()

    def _chosen(self, rows: Iterable[Measurement] | None) -> list[Measurement]:
        return self.rows() if rows is None else list(rows)

    def _take(self, rows: list[Measurement]) -> int:
        """Add rows from a file: under the run that each names, or together as a new one."""
        named = sorted((row for row in rows if row.run is not None), key=lambda row: row.run or "")
        runs = [replace(Run.of(group), id=str(run)) for run, group in groupby(named, key=lambda row: row.run)]
        nameless = [row for row in rows if row.run is None]
        if nameless:
            runs.append(Run.of(nameless))
        return self.store.write(lambda connection: sum(kept_runs.add(connection, run) for run in runs))


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
    equal = f"measurements.{name} IN ({', '.join('?' * len(given))})" if given else "FALSE"
    return _Where(f"({equal}{empty})", given)


def _wanted(name: str, value: Any) -> Any:
    try:
        return None if value is None else canonical(name, value)
    except InvalidInputError as error:
        raise InvalidInputError(f"Can't filter: {error.message}", error.hint) from None
