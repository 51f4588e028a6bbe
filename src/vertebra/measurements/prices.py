"""What an hour of a machine costs: said by people, kept in the table beside what was measured there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError
from vertebra.measurements.measurement import now

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from vertebra.measurements.database import Store

#: How prices are given: {"box": "0.34USD"}, or "box=0.34USD", or several of these.
Given = Mapping[str, str] | str | Iterable[str]

_PRICE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z]{3})(?:/h)?")
_ALL = "SELECT system, said_at, per_hour, currency FROM prices"
#: What takes a price back.
NONE = "none"


@dataclass(frozen=True)
class Price:
    """What an hour costs; `currency` has three capital letters."""

    per_hour: float
    currency: str

    def __str__(self) -> str:
        return f"{self.per_hour:.12g}{self.currency}"


@dataclass(frozen=True)
class Said:
    """What was said last of a machine, and when (ISO 8601, UTC); a price that was taken back is None."""

    at: str
    price: Price | None


def parsed(given: Given) -> dict[str, str]:
    """The texts of prices, by machine. Raises InvalidInputError for one that has no machine, and a machine
    that has two."""
    if isinstance(given, Mapping):
        return {str(name): str(text) for name, text in given.items()}
    found: dict[str, str] = {}
    for one in [given] if isinstance(given, str) else given:
        name, equals, text = one.rpartition("=")
        if not equals or not name.strip():
            raise InvalidInputError(f'"{one}" is not a price.', "write it as --price NAME=0.34USD")
        if name.strip() in found:
            raise InvalidInputError(f"{name.strip()} has two prices.", "give one")
        found[name.strip()] = text
    return found


def read(name: str, text: str) -> Price:
    """The price that `text` states of the machine `name`: "0.34USD". Raises InvalidInputError."""
    found = _PRICE.fullmatch(text.strip())
    if found is None:
        raise InvalidInputError(
            f'The price of {name} is "{text}".', "write an hour's price and its currency: 0.34USD"
        )
    return Price(float(found[1]), found[2].upper())


def kept(store: Store, today: Callable[[str], str]) -> dict[str, Price]:
    """The prices that the table keeps: system -> price. `today` gives the id that a system has today: of what
    was said under several ids of one, the last counts."""
    last: dict[str, Said] = {}
    said = _read(store.select(_ALL))  # without SQLAlchemy, for which reading doesn't wait
    for system, one in said.items():
        name = today(system)
        if name not in last or last[name].at < one.at:
            last[name] = one
    return {system: one.price for system, one in last.items() if one.price is not None}


def keep(store: Store, prices: Mapping[str, Price | None]) -> None:
    """Keep these prices from now on; None takes one back."""
    at = now("microseconds")
    said = {system: Said(at, one) for system, one in prices.items()}
    store.write(lambda connection: say(connection, said))


def said_in(connection: Connection) -> dict[str, Said]:
    """What was said last of each machine, without what can't be read."""
    import sqlalchemy as sql

    return _read([tuple(row) for row in connection.execute(sql.text(_ALL))])


def _read(rows: Iterable[Sequence[Any]]) -> dict[str, Said]:
    said = {str(system): _said(at, per_hour, currency) for system, at, per_hour, currency in rows}
    return {system: one for system, one in said.items() if one is not None}


def _said(at: Any, per_hour: Any, currency: Any) -> Said | None:
    """A row of the table; None for an edited one that is no price."""
    if not isinstance(at, str):
        return None
    if per_hour is None:
        return Said(at, None)
    try:
        return Said(at, read("", f"{per_hour:.12f}".rstrip("0").rstrip(".") + str(currency)))
    except (InvalidInputError, ValueError):
        return None


def say(connection: Connection, said: Mapping[str, Said]) -> int:
    """Write down what is newer than what the table has; returns of how many machines."""
    import sqlalchemy as sql

    newer = """
        INSERT INTO prices (system, said_at, per_hour, currency)
        VALUES (:system, :said_at, :per_hour, :currency)
        ON CONFLICT (system) DO UPDATE SET
            said_at = excluded.said_at, per_hour = excluded.per_hour, currency = excluded.currency
        WHERE prices.said_at < excluded.said_at
    """
    rows = [
        {"system": system, "said_at": one.at, "per_hour": one.price and one.price.per_hour,
         "currency": one.price and one.price.currency}
        for system, one in sorted(said.items())
    ]  # fmt: skip
    return sum(connection.execute(sql.text(newer), row).rowcount for row in rows)
