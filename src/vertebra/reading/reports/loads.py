"""The loads of the explorer: machine, device, batch size and scenario, those of the page's machine first.

Rows of one load are compared. What a row leaves unstated is the usual: one stream, one query after the other.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vertebra.measurements import Measurement, WideRow
from vertebra.reading.choice.rule import LOAD

#: What a row that doesn't state it was run with.
_USUAL = {"scenario": "single-stream", "streams": 1}
_WORDS = {"batch_size": "batch", "streams": "streams", "arrival_rate": "arrival rate"}
#: How a load's figures came about, in words that its name begins with.
_KINDS = {"benched": "Measured on", "estimated": "Estimated for", "published": "Published for"}

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Load:
    """A load as the explorer names it. `options` are what `vertebra pick` needs to answer for it, besides the
    batch size."""

    label: str
    batch_size: int | None
    sweep: str
    options: str


def key(row: WideRow) -> Key:
    """What must be equal in rows that are compared."""
    return tuple(row.conditions.get(name, _USUAL.get(name)) for name in LOAD)


def main_system(rows: Sequence[Measurement], described: Mapping[str, Any] | None = None) -> str | None:
    """The machine that the page is about, as the rows name it: the one described, else this one, else the one
    with the most measured rows. A machine's description may still have its earlier id."""
    benched = Counter(row.system for row in rows if row.origin == "benched" and row.system)
    named = str(described["id"]) if described and described.get("id") else None
    if named in benched or not benched:
        return named
    if len(benched) > 1:
        from vertebra.machine import system

        here = system.describe().id
        return here if here in benched else benched.most_common(1)[0][0]
    return next(iter(benched))


def loads(ran: Sequence[WideRow], system: str | None) -> dict[Key, Load]:
    """The loads of `ran`: first those of `system`, then those that were measured elsewhere, then published
    ones; of each kind first batch size 1, one query after the other, and the most rows."""
    groups: dict[Key, list[WideRow]] = {}
    for row in ran:
        groups.setdefault(key(row), []).append(row)
    counted = {one: len(group) for one, group in groups.items()}
    kinds = {one: _kind(group) for one, group in groups.items()}
    measured: Counter[Any] = Counter()
    for one, count in counted.items():
        measured[one[0]] += count if kinds[one] == "benched" else 0

    def place(one: Key) -> tuple[Any, ...]:
        named = dict(zip(LOAD, one, strict=True))
        return (
            one[0] != system, list(_KINDS).index(kinds[one]), -measured[one[0]],
            named["batch_size"] != 1, named["scenario"] != _USUAL["scenario"], named["streams"] != 1,
            -counted[one],
        )  # fmt: skip

    return {one: _load(one, kinds[one], counted, system) for one in sorted(counted, key=place)}


def _kind(rows: Sequence[WideRow]) -> str:
    """Measured, if any figure of a run is; else estimated or published."""
    found = {figure.origin for row in rows for figure in row.figures.values() if figure.system is not None}
    return next((kind for kind in ("benched", "published", "estimated") if kind in found), "benched")


def _load(one: Key, kind: str, known: Mapping[Key, int], system: str | None) -> Load:
    conditions = {name: value for name, value in zip(LOAD, one, strict=True) if value is not None}
    machine = conditions.pop("system", "a machine without a name")
    shown = [_in_words(name, value) for name, value in conditions.items() if value != _USUAL.get(name)]
    label = f"{_KINDS[kind]} {brand(str(machine)) if kind == 'published' else machine}"
    swept = {name: value for name, value in conditions.items() if name != "batch_size"}
    return Load(
        ": ".join([label, ", ".join(shown)]) if shown else label, conditions.get("batch_size"),
        ", ".join([str(machine), *(_in_words(name, value) for name, value in swept.items())]),
        _options(one, known, system),
    )  # fmt: skip


def _in_words(name: str, value: Any) -> str:
    return f"{_WORDS[name]} {value}" if name in _WORDS else str(value)


def brand(system: str) -> str:
    """A published device as people write it.

    >>> brand("nvidia-t4"), brand("nvidia-rtx-3090"), brand("a-box")
    ('NVIDIA T4', 'NVIDIA RTX 3090', 'a-box')
    """
    maker, _, device = system.partition("-")
    return f"NVIDIA {device.replace('-', ' ').upper()}" if maker == "nvidia" and device else system


def _options(one: Key, known: Mapping[Key, int], system: str | None) -> str:
    """What tells this load from the others: the machine, if it isn't `system`, and what differs on it."""
    mine = dict(zip(LOAD, one, strict=True))
    there = [dict(zip(LOAD, other, strict=True)) for other in known if other[0] == one[0]]
    options = [] if one[0] in (system, None) else ["--system", shlex.quote(str(one[0]))]

    def several(name: str, among: Callable[[Mapping[str, Any]], bool]) -> bool:
        return len({other[name] for other in there if among(other)}) > 1

    if several("device", lambda other: True) and mine["device"] is not None:
        options += ["--device", shlex.quote(str(mine["device"]))]
    if several("scenario", lambda other: True) and mine["scenario"] is not None:
        options += ["--scenario", str(mine["scenario"])]
    same = {name: mine[name] for name in ("device", "scenario", "batch_size")}
    if several("streams", lambda other: all(other[name] == value for name, value in same.items())):
        options += ["--streams", str(mine["streams"])]
    return " ".join(options)
