"""Numbers as tables print them: is 1,234 one and a quarter, or more than a thousand? A column tells."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Decimal = Literal["point", "comma"]

_SPACES = " \u00a0\u2007\u2009\u202f"
#: What stands between groups of three digits, besides the other of point and comma.
_MARKS = f"'’_{_SPACES}"
_LEADING = re.compile(rf"([-+\u2212]?)\s*([0-9.,][0-9.,{_MARKS}]*)((?:[eE][-+]?[0-9]+)?)(.*)", re.DOTALL)


def _grammar(point: str, comma: str) -> re.Pattern[str]:
    """Digits without groups, or in groups of three between equal marks; `point` begins the fraction."""
    groups = rf"[1-9][0-9]{{0,2}}([{re.escape(comma)}{_MARKS}])[0-9]{{3}}(?:\1[0-9]{{3}})*"
    fraction = rf"(?:{re.escape(point)}[0-9]*)?"
    return re.compile(rf"(?:{groups}|[0-9]+){fraction}|{re.escape(point)}[0-9]+")


_GRAMMARS: dict[Decimal, re.Pattern[str]] = {"point": _grammar(".", ","), "comma": _grammar(",", ".")}


def read(text: str, decimal: Decimal) -> tuple[str, str] | None:
    """The number that `text` begins with, in plain digits with a point, and what follows; None without.

    >>> read("1.234,5 ms", "comma"), read("25,557,032", "point"), read("1,5", "point")
    (('1234.5', 'ms'), ('25557032', ''), None)
    """
    match = _LEADING.match(text.strip())
    if match is None:
        return None
    sign, digits, exponent, rest = match.groups()
    digits = digits.rstrip(_SPACES)
    if not _GRAMMARS[decimal].fullmatch(digits):
        return None
    mark = "." if decimal == "point" else ","
    whole, _, fraction = digits.partition(mark)
    plain = re.sub(r"[^0-9]", "", whole) or "0"
    return (
        f"{'-' if sign in ('-', chr(0x2212)) else ''}{plain}{'.' if fraction else ''}{fraction}{exponent}",
        rest.strip(),
    )


def possible(cells: Iterable[str]) -> set[Decimal]:
    """How the numbers of a column can be written; cells without a number say nothing. Both where none of them
    tells, none where they contradict each other."""
    kept: set[Decimal] = {"point", "comma"}
    for cell in cells:
        can = {decimal for decimal in _GRAMMARS if read(cell, decimal) is not None}
        if can:
            kept &= can
    return kept


def differs(cell: str) -> bool:
    """Whether the two ways of writing give the cell two values, as 1,234 and 1.234 have."""
    one, other = read(cell, "point"), read(cell, "comma")
    return one is not None and other is not None and one != other


def whole(text: str) -> int | None:
    """A whole number, whatever stands between its groups: a fraction isn't possible."""
    for decimal in _GRAMMARS:
        found = read(text, decimal)
        if found is not None and not found[1] and found[0].lstrip("-").isdecimal():
            return int(found[0])
    return None
