"""Runs that were a mistake: marked as forgotten, not deleted, so that the mark can be taken back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements.layout import layout
from vertebra.measurements.measurement import now

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from vertebra.measurements.database import Store

#: The condition in SQL of a row that isn't forgotten.
SEEN = "measurements.run NOT IN (SELECT run FROM forgotten)"
#: At most this many runs are listed in a message.
_FEW = 5
_SHOWN = 12


def forgotten(store: Store) -> dict[str, str]:
    """The forgotten runs: id -> when that was (ISO 8601, UTC)."""
    return dict(store.select("SELECT run, forgotten_at FROM forgotten ORDER BY forgotten_at, run"))


def forget(store: Store, runs: Iterable[str], reason: str | None = None) -> dict[str, int]:
    """Mark the runs whose ids begin so; returns each one's id and number of rows. A mark that is there stays.

    Raises UnknownNameError for the beginning of no run, InvalidInputError for that of several.
    """
    sizes = _sizes(store)
    chosen = [_found(one, sizes, "run in the table", "vertebra table") for one in runs]
    if not chosen:
        return {}
    marks = {run: (now("microseconds"), reason) for run in chosen}
    store.write(lambda connection: mark(connection, marks))
    return {run: sizes[run] for run in chosen}


def restore(store: Store, runs: Iterable[str]) -> dict[str, int]:
    """Take the marks back from the forgotten runs whose ids begin so; returns and raises as `forget` does."""
    sizes = _sizes(store)
    marked = {run: sizes.get(run, 0) for run in forgotten(store)}
    chosen = [_found(one, marked, "forgotten run", "vertebra table --forgotten") for one in runs]
    if not chosen:
        return {}
    target = layout().tables["forgotten"]
    store.write(lambda connection: connection.execute(target.delete().where(target.c.run.in_(chosen))))
    return {run: marked[run] for run in chosen}


def mark(connection: Connection, marks: Mapping[str, tuple[str, str | None]]) -> None:
    """Add the marks (run -> when, why) that aren't there."""
    import sqlalchemy as sql

    rows = [
        {"run": run, "forgotten_at": when, "reason": why and why.replace("\0", "\N{REPLACEMENT CHARACTER}")}
        for run, (when, why) in sorted(marks.items())
    ]
    if rows:
        insert = "INSERT INTO forgotten (run, forgotten_at, reason) VALUES (:run, :forgotten_at, :reason)"
        connection.execute(sql.text(f"{insert} ON CONFLICT DO NOTHING"), rows)


def marks(store: Store) -> dict[str, tuple[str, str | None]]:
    """All marks: run -> when, why."""
    return store.read(marks_in) or {}


def marks_in(connection: Connection) -> dict[str, tuple[str, str | None]]:
    """All marks: run -> when, why."""
    found = connection.execute(layout().tables["forgotten"].select())
    return {row.run: (row.forgotten_at, row.reason) for row in found}


def _sizes(store: Store) -> dict[str, int]:
    """The runs, with their numbers of rows."""
    return dict(store.select("SELECT run, count(*) FROM measurements GROUP BY run"))


def _found(beginning: str, known: Mapping[str, int], kind: str, see: str) -> str:
    """The one id among `known` that begins so."""
    matches = [run for run in known if run.startswith(beginning)] if beginning else []
    if not matches:
        raise UnknownNameError(
            f'There is no {kind} whose id begins with "{beginning[:100]}".', f"the column run of: {see}"
        )
    if len(matches) > 1 and beginning not in matches:
        listed = ", ".join(run[: max(_SHOWN, len(beginning) + 4)] for run in sorted(matches)[:_FEW])
        more = f" and {len(matches) - _FEW} more" if len(matches) > _FEW else ""
        raise InvalidInputError(
            f'"{beginning}" begins the ids of {len(matches)} runs: {listed}{more}.', "write more of the id"
        )
    return beginning if beginning in matches else matches[0]
