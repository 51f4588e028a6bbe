"""Quantities in and out of text. The table stores base units: seconds, bytes, counts, fractions.

>>> parse("10ms", "s"), parse("700MB", "B"), parse("75%", "fraction"), parse("1.5G", "count")
(0.01, 700000000.0, 0.75, 1500000000.0)
>>> show(0.25, "J"), show(65.0, "W"), show(1.234e11, "op/s"), show(2.5e10, "B/s")
('250 mJ', '65.0 W', '123 Gop/s', '25.0 GB/s')
>>> show(0.0123, "s"), show(4.9e6, "B"), show(0.567, "fraction"), show(714188480, "count")
('12.3 ms', '4.90 MB', '56.7 %', '714 M')
"""

from __future__ import annotations

import math
import re

from vertebra.errors import InvalidInputError

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "m": 60.0, "h": 3600.0}
_BYTES = {
    "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
    "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40,
}  # fmt: skip
_COUNT = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_FRACTION = {"%": 1e-2}
_RATE = {
    "": 1.0, "/s": 1.0, "1/s": 1.0, "fps": 1.0, "hz": 1.0, "/min": 1 / 60,
    **dict.fromkeys(
        (f"{things}{per}" for things in ("img", "imgs", "image", "images", "frame", "frames", "ips", "inf")
         for per in ("/s", "/sec", "/second")), 1.0,
    ),
    "ips": 1.0,
}  # fmt: skip
_JOULES = {"j": 1.0, "mj": 1e-3, "kj": 1e3, "wh": 3600.0}
_WATTS = {"w": 1.0, "mw": 1e-3, "kw": 1e3}
_OPERATIONS_RATE = {"op/s": 1.0, "kop/s": 1e3, "mop/s": 1e6, "gop/s": 1e9, "top/s": 1e12}
_BANDWIDTH = {f"{suffix}/s": factor for suffix, factor in _BYTES.items()}

#: Units that are read but not listed in messages.
_MORE = {suffix for suffix in _RATE if suffix not in ("/s", "fps", "img/s", "images/s")}

#: unit of the table -> suffix (lower case) -> how many base units it is
SUFFIXES: dict[str, dict[str, float]] = {
    "s": _SECONDS,
    "B": _BYTES,
    "count": _COUNT,
    "fraction": _FRACTION,
    "1/s": _RATE,
    "J": _JOULES,
    "W": _WATTS,
    "op/s": _OPERATIONS_RATE,
    "B/s": _BANDWIDTH,
}
_EXAMPLES = {
    "s": "10ms", "B": "700MB", "count": "1.5G", "fraction": "75%", "1/s": "30", "J": "50mJ", "W": "15W",
    "op/s": "100Gop/s", "B/s": "20GB/s",
}  # fmt: skip
#: Units whose text is scaled: steps from the largest down, as (base units, name).
_STEPS: dict[str, list[tuple[float, str]]] = {
    "s": [(1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")],
    "B": [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")],
    "count": [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")],
    "J": [(1e3, "kJ"), (1, "J"), (1e-3, "mJ"), (1e-6, "µJ")],
    "W": [(1, "W"), (1e-3, "mW")],
    "op/s": [(1e12, "Top/s"), (1e9, "Gop/s"), (1e6, "Mop/s"), (1, "op/s")],
    "B/s": [(1e9, "GB/s"), (1e6, "MB/s"), (1, "B/s")],
}
_NUMBER = re.compile(r"\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*((?:1/)?[^\s0-9]*)\s*$")


def parse(text: str, unit: str) -> float:
    """The value of `text` in the base unit `unit`, a key of `SUFFIXES`.

    Raises InvalidInputError where the text isn't a number in this unit. A bare number is taken
    only for counts, rates and fractions up to 1 (so `75` for an accuracy is refused).
    """
    suffixes = SUFFIXES[unit]
    match = _NUMBER.match(text)
    given = suffix(match.group(2)) if match else ""
    bare_fraction = unit == "fraction" and given == ""
    if match is None or (given not in suffixes and not bare_fraction):
        raise _unreadable(text, unit)
    value = float(match.group(1)) * suffixes.get(given, 1.0)
    if not math.isfinite(value) or (unit == "fraction" and value > 1.0):
        raise _unreadable(text, unit)
    return _exactly(match.group(1), suffixes.get(given, 1.0)) if value else value


def suffix(text: str) -> str:
    """A unit as `SUFFIXES` spells it: in small letters, and with the micro sign for the Greek mu."""
    return text.lower().replace("\u03bc", "\u00b5")


def _exactly(digits: str, scale: float) -> float:
    """The product in decimal: 56.7 % is 0.567, not the float next to it, which fails a limit of 56.7 %."""
    from decimal import Decimal

    return float(Decimal(digits) * Decimal(repr(scale)))


def _unreadable(text: str, unit: str) -> InvalidInputError:
    known = ", ".join(one for one in SUFFIXES[unit] if one and one not in _MORE) or "none"
    return InvalidInputError(
        f'Can\'t read "{text}" as a quantity in {unit}{_understood(text, unit)}.',
        f"{_meant(text, unit)}write it like {_EXAMPLES[unit]}; known units: {known}",
    )


def _meant(text: str, unit: str) -> str:
    match = _NUMBER.match(text)
    is_short = match is not None and unit == "B" and f"{suffix(match.group(2))}b" in _BYTES
    return f"did you mean {text.strip()}B? " if is_short and match is not None and match.group(2) else ""


def _understood(text: str, unit: str) -> str:
    """The part of the text that could be read."""
    match = _NUMBER.match(text)
    if match is None:
        return ""
    number, given = match.groups()
    if unit == "fraction" and given in ("", "%"):
        return f": {number}{given} is more than 100 %"
    if suffix(given) in SUFFIXES[unit]:
        return ": it is too large"
    return f": the number is {number}, but " + (
        f'"{given}" is not a known unit' if given else "its unit is missing"
    )


def show(value: float, unit: str) -> str:
    """`value` in base units as text for people, three significant digits."""
    if unit == "fraction":
        return f"{_digits(100 * value)} %"
    if unit == "count" and abs(value) < 100 and value == int(value):
        return f"{value:.0f}"  # 5 unreadable pictures, not 5.00
    if unit in _STEPS:
        return _scaled(value, _STEPS[unit])
    suffix = "/s" if unit == "1/s" else f" {unit}"
    return f"{_digits(value)}{suffix}"


def show_bound(value: float, unit: str) -> str:
    """`value` as it was typed: up to six digits and no zeros after them.

    >>> show_bound(30.0, "1/s"), show_bound(0.01667, "s"), show_bound(0.725, "fraction")
    ('30/s', '16.67 ms', '72.5 %')
    """
    if unit == "fraction":
        return f"{100 * value:.6g} %"
    if unit == "1/s":
        return f"{value:.6g}/s"
    steps = _STEPS.get(unit, [(1, unit)])
    factor, name = next((step for step in steps if value >= step[0]), steps[-1])
    return f"{value / factor:.6g} {name}".rstrip()


def _scaled(value: float, steps: list[tuple[float, str]]) -> str:
    for factor, name in steps:
        if abs(value) >= factor:
            return f"{_digits(value / factor)} {name}".rstrip()
    factor, name = steps[-1]
    return f"{_digits(value / factor)} {name}".rstrip()


def _digits(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"
