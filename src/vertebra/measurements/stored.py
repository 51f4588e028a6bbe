"""Rows as the database keeps them, turned back into measurements, oldest first.

A cell may have been edited, or written by a later version: a row that can't be understood is left out, and
named once, so that it takes nothing else with it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from vertebra import metrics
from vertebra.errors import warn
from vertebra.measurements.measurement import COLUMNS, GRADES, ORIGINS, Measurement
from vertebra.measurements.possible import SLACK_S, instant, plain
from vertebra.measurements.record import KINDS, REQUIRED

#: The columns of a query in SQL; in each row that it finds, when its run came, where it is in its run, and
#: what orders runs as they came (`Store.place`) follow them.
SELECTED = ", ".join(f"measurements.{name}" for name in COLUMNS)
AFTER = "runs.created_at, measurements.ordinal"
_CREATED, _ORDINAL, _PLACE = (len(COLUMNS) + number for number in range(3))
_RUN = COLUMNS.index("run")
_columns = itemgetter(slice(0, len(COLUMNS)))

_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,), "texts": (str,), "mapping": (str,), "integer": (int,), "boolean": (int, bool),
    "number": (float, int),
}  # fmt: skip
#: At most this many rows are named in a warning.
_FEW = 3


def rows(found: Iterable[Sequence[Any]]) -> list[Measurement]:
    """The rows that a query for `SELECTED`, `AFTER` and the run's place found, the first appended first."""
    every = list(found)
    ages = _ages({one[_PLACE]: one[_CREATED] for one in every})
    every.sort(key=lambda one: (*ages[one[_PLACE]][:2], one[_RUN], one[_ORDINAL]))
    kept, strange = [], []
    for one in every:
        try:
            kept.append(_row(_columns(one), ages[one[_PLACE]]))
        except ValueError as error:
            strange.append(Strange(str(one[_RUN]), f"row {one[_ORDINAL]}, {error}"))
    name(strange, "not understood")
    return kept


def _row(values: Sequence[Any], age: _Age) -> Measurement:
    """The row of these columns. Raises ValueError, saying why, where it can't be understood."""
    _check_types(tuple(map(type, values)))
    named = dict(zip(COLUMNS, values, strict=True))
    if named["metric"] not in metrics.METRICS:
        raise ValueError(f"unknown metric {named['metric']}")
    if named["origin"] not in ORIGINS or named["grade"] not in (None, *GRADES):
        raise ValueError(f"origin {named['origin']}, grade {named['grade']}")
    if not all(named[name] is None or math.isfinite(named[name]) for name in ("value", "low", "high")):
        raise ValueError("a number that isn't finite")
    named["grade_reasons"] = _reasons(named["grade_reasons"] or "[]")
    named["versions"] = _versions(named["versions"] or "{}")
    if named["exclusive"] is not None:  # SQLite's own booleans are numbers
        named["exclusive"] = bool(named["exclusive"])
    return Measurement.restored(named, _moment(named["measured_at"], age))


@lru_cache(maxsize=1024)
def _check_types(types: tuple[type, ...]) -> None:
    for name, kind in zip(COLUMNS, types, strict=True):
        if kind is type(None) and name not in REQUIRED:
            continue
        if kind not in _TYPES[KINDS[name]]:
            raise ValueError(
                f"{name} is {'empty' if kind is type(None) else _SQL.get(kind, 'of another kind')}"
            )


_SQL = {str: "text", bytes: "a blob", int: "a whole number", float: "a number"}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{text[:20]} isn't JSON") from None


@lru_cache(maxsize=4096)
def _reasons(text: str) -> tuple[str, ...]:
    """Lists and mappings as the database keeps them; few differ from row to row."""
    found = _json(text)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError("grade_reasons isn't a list of texts")
    return tuple(found)


@lru_cache(maxsize=4096)
def _versions(text: str) -> dict[str, str]:
    found = _json(text)
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise ValueError("versions isn't a mapping of texts")
    return found


# ------------------------------------------------------------------ when


class _Age(NamedTuple):
    """When a run came into the table (seconds since 1970) and until when it can have been measured. Where its
    date can't be, it came after the runs that were there before it, which `place` orders."""

    appended: float
    place: int
    until: float


def _ages(runs: dict[int, Any]) -> dict[int, _Age]:
    """Place in the table -> age. A clock that stood in 2036 must not make its runs the newest until then."""
    latest, ages = -math.inf, {}
    now = time.time() + SLACK_S
    for place in sorted(runs):
        moment = instant(runs[place])
        if moment is None or moment > now:
            ages[place] = _Age(latest, place, now)
        else:
            latest = max(latest, moment)
            ages[place] = _Age(moment, 0, min(now, moment + SLACK_S))
    return ages


def _moment(measured_at: str | None, age: _Age) -> float:
    """When a row was measured; that of its coming into the table where its date can't be."""
    if measured_at is None:
        return -math.inf  # what says no date never hides what says one
    moment = instant(measured_at)
    return age.appended if moment is None or moment > age.until else moment


# ------------------------------------------------------------------ what is left out


class Strange(NamedTuple):
    """A row that is left out: the run that it is of, and what it is."""

    run: str | None
    what: str


_named: set[Strange] = set()


def name(strange: Sequence[Strange], why: str) -> None:
    """Warn that these rows are left out, if they weren't named yet in this process, and say what to do."""
    new = [one for one in strange if one not in _named]
    if not new:
        return
    _named.update(new)
    listed = "; ".join(f"run {(one.run or '?')[:8]}: {plain(one.what, 100)}" for one in new[:_FEW])
    more = f"; and {len(new) - _FEW} more" if len(new) > _FEW else ""
    count = "1 row of the table is" if len(new) == 1 else f"{len(new)} rows of the table are"
    options = " ".join(f"--forget {one[:8]}" for one in dict.fromkeys(one.run for one in new) if one)
    warn(f"{count} left out ({why}): {listed}{more}", f"to leave them out for good: vertebra table {options}")
