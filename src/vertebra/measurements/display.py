"""How values look at a Python prompt and in a notebook: one line, and tables in HTML.

What a verb returns holds thousands of numbers; printed whole it hides the answer. Everything that is shown is
text from the table or a file, so it is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, overload

from vertebra import units
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from vertebra.measurements.measurement import Measurement

#: The figures of a network in one line.
GLANCE = ("top1", "latency", "memory_total", "params", "operations", "weight_bytes")
#: At most this many lines of a table are shown, and characters of a cell.
_MOST_LINES, _MOST_CHARACTERS = 25, 200

#: As `string` has them, which takes a moment to import.
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

Line = Mapping[str, Any]


class Figures(Protocol):
    """A wide row, as far as it is shown."""

    @property
    def model(self) -> str: ...
    @property
    def conditions(self) -> Mapping[str, Any]: ...
    @property
    def figures(self) -> Mapping[str, Measurement]: ...


class Shown:
    """A value with a short `repr`, and with tables in a notebook."""

    def summary(self) -> str:
        """One line of text."""
        raise NotImplementedError

    def tables(self) -> Iterable[Sequence[Line]]:
        """Tables below the summary: lines with equal keys."""
        return ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {plain(self.summary())}>"

    def _repr_html_(self) -> str:
        import html

        parts = [f"<p>{html.escape(plain(self.summary()))}</p>", *map(table, self.tables())]
        return f"<div>{''.join(parts)}</div>"


def table(lines: Sequence[Line]) -> str:
    """An HTML table of the first lines; columns without a value are left out."""
    if not lines:
        return ""
    heads = [head for head in lines[0] if any(line[head] not in (None, "") for line in lines)]
    rows = [_cells(heads, "th"), *(_cells([line[head] for head in heads], "td")
            for line in islice(lines, _MOST_LINES))]  # fmt: skip
    more = len(lines) - _MOST_LINES
    return f"<table>{''.join(rows)}</table>" + (f"<p>… and {more} more</p>" if more > 0 else "")


def _cells(values: Iterable[Any], kind: str) -> str:
    import html

    shown = ("" if value is None else html.escape(_cut(plain(str(value)))) for value in values)
    return f"<tr>{''.join(f'<{kind}>{cell}</{kind}>' for cell in shown)}</tr>"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def plain(text: str) -> str:
    """`text` in one line, with white space as spaces and a sign in place of what can't be printed.

    >>> plain("a\\x1b[2J\\u2028b")
    'a\N{REPLACEMENT CHARACTER}[2J b'
    """
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(sign: str) -> str:
    if sign.isprintable() or sign == "\N{NO-BREAK SPACE}":
        return sign
    return " " if sign.isspace() else "\N{REPLACEMENT CHARACTER}"


def count(number: int, noun: str) -> str:
    """The number with the noun, in the singular for 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def glance(row: Figures) -> Line:
    """One network in one line."""
    figures = {METRICS[name].label: quantity(row.figures.get(name)) for name in GLANCE}
    latency = row.figures.get("latency")
    grade = None if latency is None else latency.grade
    return {"model": row.model, "engine": row.conditions.get("engine"), **figures, "grade": grade}


@overload
def quantity(row: Measurement) -> str: ...
@overload
def quantity(row: None) -> None: ...
@overload
def quantity(row: Measurement | None) -> str | None: ...
def quantity(row: Measurement | None) -> str | None:
    """The value in a readable unit, with its mark; estimated ones show their interval."""
    if row is None:
        return None
    shown = mark(row) + units.show(row.value, METRICS[row.metric].unit)
    ends = interval(row) if row.origin == "estimated" else None
    return shown if ends is None else f"{shown} ({ends})"


def mark(row: Measurement) -> str:
    """What stands before a value: "~" for an estimate, "≥" for an accuracy that is at least that."""
    return {"estimated": "~", "derived": "≥"}.get(row.origin, "")


def interval(row: Measurement) -> str | None:
    """The interval as text, "19.0 to 31.0 ms", or None where the row has none."""
    if row.low is None or row.high is None:
        return None
    unit = METRICS[row.metric].unit
    (low, first), (high, second) = (_parts(units.show(end, unit)) for end in (row.low, row.high))
    return f"{low if first == second else low + first} to {high}{second}"


def _parts(quantity: str) -> tuple[str, str]:
    """A number and the unit after it."""
    number = quantity.rstrip("%/ " + _LETTERS + "µ")
    return number, quantity[len(number) :]


def readable(row: Measurement) -> Line:
    """One row of the table in one line."""
    return {
        "model": row.model,
        "metric": row.metric,
        "value": units.show(row.value, METRICS[row.metric].unit),
        "95 % interval of the run": interval(row),
        "grade": row.grade,
        "origin": row.origin,
        "conditions": conditions(row),
    }


def conditions(row: Measurement) -> str:
    """The conditions of a row as text."""
    return ", ".join(f"{name} {value}" for name, value in known(row).items())


def known(row: Measurement) -> dict[str, str | int | float]:
    """The conditions of a row; a data set with the beginning of its digest."""
    found = row.conditions()
    if row.exclusive is not None:
        found["exclusive"] = "yes" if row.exclusive else "no"
    digest = found.pop("dataset_sha256", None)
    if digest is not None and "@" not in str(row.dataset):
        found["dataset"] = f"{row.dataset}@{str(digest)[:8]}"
    return found
