"""Where a table is kept: in a file of SQLite's, or on a PostgreSQL server that many machines share."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vertebra.errors import TableError
from vertebra.measurements.sqlite import File

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


#: The beginning of an address. A Windows drive has one letter.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://?")
_SERVERS = ("postgresql", "postgres", "postgresql+psycopg")


class Store(Protocol):
    """What a table asks of the database that keeps it.

    `work` gets a connection inside a transaction, which ends with it; on a server it may be done again, so
    doing it twice must change nothing more than doing it once. Faults of the database become TableErrors.
    """

    @property
    def shown(self) -> str:
        """Where the table is, for people, without a password."""

    @property
    def place(self) -> str:
        """The column, in SQL, that orders the runs as they came."""

    @property
    def lock(self) -> Path:
        """What is locked on this machine while something is measured into the table (`files.sole_use`)."""

    @property
    def untouched(self) -> bool:
        """Whether it is only read, also where its layout is older."""

    def is_there(self) -> bool:
        """Whether anything is there."""

    def prepare(self) -> None:
        """Make the table where there is none, and find out now whether it may be written."""

    def check(self) -> None:
        """Raise TableError unless a whole table of measurements is there."""

    def read(self, work: Callable[[Connection], T]) -> T | None:
        """What `work` finds in a consistent view of the table in today's layout; None where there is none."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction, on a table of today's layout."""

    def select(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query in SQL, with question marks for `values`, returns; none without a table."""

    def stamp(self) -> Hashable:
        """What differs once the table has changed; None where there is none."""

    def close(self) -> None:
        """Close what is held open between calls."""


def is_address(place: Path | str) -> bool:
    """Whether `place` is meant as an address of a server, and not as a file."""
    found = _SCHEME.match(str(place))
    return found is not None and (found[0].endswith("//") or found[1].lower() in _SERVERS)


def at(place: Path | str, *, untouched: bool = False) -> Store:
    """The store at a path or at a server's address; as `untouched`, it is only read.

    Raises TableError for an address of another kind, without repeating it: it may hold a password.
    """
    if not is_address(place):
        return File(Path(place).expanduser(), untouched)
    scheme = str(place).partition(":")[0]
    if isinstance(place, Path) or "://" not in place:
        raise TableError(
            "The address of a table is not a path.", f"write it as text: {scheme}://HOST/DATABASE"
        )
    if scheme.lower() not in _SERVERS:
        raise TableError(
            f"A table can't be at an address that begins with {scheme}://.",
            "pass the path of a file, or postgresql://USER@HOST/DATABASE",
        )
    from vertebra.measurements.postgresql import Server

    return Server.at(place, untouched=untouched)
