"""What a row can hold: the values of its metric, of its columns, dates that parse, text that can be printed.

`check` is asked wherever rows come in. What already stands in older tables is asked by `trouble` before
something is computed from it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from vertebra import metrics, units
from vertebra.errors import InvalidInputError

#: A `Measurement`, whose class asks `check` and so can't be imported here.
Row = Any

#: Columns of whole numbers, each at least 1.
_FROM_ONE = ("samples", "input_size", "batch_size", "threads", "streams")
#: Text of several lines, as libraries' messages are; all other text is a name of one line.
_PROSE = ("source", "convention", "disputed")
_NAMES = (
    "model", "weights", "network_sha256", "dataset", "dataset_sha256", "split", "protocol", "precision",
    "engine", "provider", "device", "layout", "scenario", "system", "run",
)  # fmt: skip
#: The longest name (paths are names of ONNX files) and the longest prose, in characters.
LONGEST_NAME, LONGEST_PROSE = 1000, 20_000

#: Control characters, line separators, overrides of the direction of writing, surrogates and what isn't a
#: character: in a terminal they are commands, and no SVG or XML can hold them.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufdd0-\ufdef\ufffe\uffff"
    "\ud800-\udfff]"
)
_LINE_BREAKS = re.compile("[\t\n\r]")


def check(row: Row) -> None:
    """Raise InvalidInputError where the row holds what can't be."""
    for why, hint in (*_in_numbers(row), *_in_texts(row)):
        raise InvalidInputError(why, hint)


def trouble(row: Row) -> str | None:
    """Why nothing can be computed from the row's numbers, or None."""
    return next((why for why, _ in _in_numbers(row)), None)


# ------------------------------------------------------------------ numbers


_counts = attrgetter(*_FROM_ONE)


def _in_numbers(row: Row) -> Iterator[tuple[str, str | None]]:
    metric = metrics.find(row.metric)
    try:
        if not math.isfinite(row.value):
            yield f"The {metric.label} of {row.model} is {row.value}, not a finite number.", None
        elif not metric.range.holds(row.value, published=row.origin == "published"):
            yield _outside(row, metric)
        if row.low is not None or row.high is not None:
            yield from _in_interval(row, metric)
        for name, count in zip(_FROM_ONE, _counts(row), strict=True):
            if count is not None and not _is_count(count):
                yield f"{name} is {count!r}.", f"{name} is a whole number of 1 or more, or blank if not known"
        if row.beside is not None and not _is_count(row.beside, 0):
            yield f"beside is {row.beside!r}.", "beside is a whole number of threads, 0 or more"
        if row.arrival_rate is not None and not 0 < row.arrival_rate < math.inf:
            yield f"arrival_rate is {row.arrival_rate:g}.", "arrival_rate is above 0, in requests per second"
    except (TypeError, ValueError, OverflowError):
        yield f"A number of {metric.label} of {row.model} is not a number.", "write plain numbers"


def _is_count(value: Any, least: int = 1) -> bool:
    try:
        return not isinstance(value, bool) and least <= operator.index(value) < 2**63
    except TypeError:
        return False


def _in_interval(row: Row, metric: metrics.Metric) -> Iterator[tuple[str, str | None]]:
    for name, end in (("low", row.low), ("high", row.high)):
        if end is not None and not (math.isfinite(end) and metric.range.spans(end)):
            yield (
                f"{name} of the {metric.label} of {row.model} is {end:g}, which it can't be.",
                _ranged(metric),
            )
    low, high = (row.value if end is None else end for end in (row.low, row.high))
    if not low <= row.value <= high:
        text = f"The interval of the {metric.label} of {row.model}, {low:g} to {high:g}, "
        yield f"{text}doesn't contain its value, {row.value:g}.", "a row needs low ≤ value ≤ high"


def _outside(row: Row, metric: metrics.Metric) -> tuple[str, str]:
    shown = _shown(row.value, metric.unit)
    why = f"The {metric.label} of {row.model} is {shown}, which it can't be."
    if metric.unit == "fraction" and row.value > 1:
        return why, f"{_ranged(metric)}; if {row.value:g} is in percent, say so: :percent in a map, or divide"
    if row.value == 0:
        return why, f"{_ranged(metric)}; leave the cell empty if it isn't known"
    if metric.range.is_whole and row.value != round(row.value):
        return why, "it is a whole number; is its unit missing, such as :M or :G in a map?"
    return why, _ranged(metric)


def _shown(value: float, unit: str) -> str:
    exact = {"count": f"{value:g}", "fraction": f"{100 * value:g} %"}
    return exact.get(unit) or units.show(value, unit)


def _ranged(metric: metrics.Metric) -> str:
    unit = "as a fraction of 1" if metric.unit == "fraction" else f"in {metric.unit}"
    return f"{metric.name} can be: {metric.range} ({unit})"


# ------------------------------------------------------------------ text


_every_text = attrgetter(*_NAMES, *_PROSE)


def _in_texts(row: Row) -> Iterator[tuple[str, str | None]]:
    if not _is_plain(row):
        for name in _NAMES:
            yield from _of_name(name, getattr(row, name))
        for name in _PROSE:
            yield from _of_prose(name, getattr(row, name))
    for reason in row.grade_reasons:
        yield from _of_prose("grade_reasons", reason)
    for item in row.versions.items():
        for text in item:
            yield from _of_name("versions", text)
    if row.measured_at is not None and instant(row.measured_at) is None:
        yield (
            f"measured_at is {_quoted(row.measured_at)}, which is not a date.",
            "write it as 2026-11-29 or 2026-11-29T09:00:00Z (ISO 8601)",
        )


def _is_plain(row: Row) -> bool:
    """Whether all is well with the texts, found by one look: there are thousands of rows."""
    try:
        every = "".join(filter(None, _every_text(row)))
    except TypeError:
        return False
    return every.isprintable() and len(every) <= LONGEST_NAME and not row.model.isspace() and row.model != ""


def _of_name(column: str, text: Any) -> Iterator[tuple[str, str | None]]:
    yield from _of_prose(column, text, LONGEST_NAME)
    if isinstance(text, str) and _LINE_BREAKS.search(text):
        yield f"{column} holds a tab or a line break: {_quoted(text)}.", "write it in one line"
    if isinstance(text, str) and not text.strip() and column == "model":
        yield "The network's name is blank.", "name the network"


def _of_prose(column: str, text: Any, longest: int = LONGEST_PROSE) -> Iterator[tuple[str, str | None]]:
    if not isinstance(text, str):
        return  # `record.canonical` refuses it by its kind
    if len(text) > longest:
        yield (
            f"{column} has {len(text)} characters: {_quoted(text)}.",
            f"at most {longest} characters are kept",
        )
    found = None if text.isprintable() else _UNPRINTABLE.search(text)
    if found is not None:
        code = f"U+{ord(found.group()):04X}"
        yield (
            f"{column} holds the character {code}, which can't be printed: {_quoted(text)}.",
            "write it without control characters",
        )


def _quoted(text: Any) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def plain(text: str, longest: int = LONGEST_PROSE) -> str:
    """`text` from a library or a file's name as a row can hold it: what can't be printed as �, cut to
    `longest` characters."""
    kept = text if text.isprintable() else _UNPRINTABLE.sub("\ufffd", text)
    return kept if len(kept) <= longest else f"{kept[: longest - 1]}…"


def plain_names(columns: Mapping[str, Any]) -> dict[str, Any]:
    """`columns` of a row of our own, with names as a row can hold them: a folder or a file may be called by
    anything, and what was measured of it isn't lost for its name."""
    return {
        name: _LINE_BREAKS.sub("\ufffd", plain(value, LONGEST_NAME))
        if isinstance(value, str) and name in _NAMES
        else value
        for name, value in columns.items()
    }


# ------------------------------------------------------------------ dates

#: A date may be ahead of the clock by this: a time of another zone without its offset.
SLACK_S = 86400.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=65536)
def instant(text: Any) -> float | None:
    """The seconds since 1970 of an ISO 8601 date or time, or None where it is none.

    A time without an offset is in UTC, a date is its first moment.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH).total_seconds()
