"""Names of conditions that a reader is asked for: one that nothing has is an error, not an empty answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Table
from vertebra.measurements.views import FORM, NEEDING_A_MACHINE
from vertebra.reading.choice import candidates
from vertebra.verbs import given

#: Condition -> the command that lists its names.
_SEE = {
    "engine": "vertebra list engines",
    "precision": "vertebra list engines",
    "device": "vertebra doctor",
    "scenario": "vertebra bench --help",
    "system": "vertebra table --metric latency",
}


def check(source: Table, filters: Mapping[str, Any]) -> None:
    """Raise UnknownNameError for a name in `filters` that neither vertebra nor the table has."""
    for condition, see in _SEE.items():
        named = [name for name in given.several(filters.get(condition)) if name is not None]
        known = _known(condition) if named else ()
        for name in named:
            if name in known or source.rows(**{condition: name}):
                continue
            see = f"{see}; the table has: {', '.join(_systems(source))}" if condition == "system" else see
            there = {str(getattr(row, condition)) for row in source.rows() if getattr(row, condition)}
            raise UnknownNameError.of(condition, str(name), sorted({*known, *there}), see)


def _systems(source: Table) -> list[str]:
    return sorted({row.system for row in source.rows() if row.system}) or ["none"]


def systems(source: Table, named: Iterable[str]) -> tuple[str, ...]:
    """The machines of these names, by the ids that they have today, each once.

    Raises UnknownNameError, with those that the table has, for one of which it has no row.
    """
    known = _systems(source)
    found = dict.fromkeys(source.system_id(one.strip()) for one in named)
    for one in found:
        if one not in known:
            raise UnknownNameError.of("system of the table", one, known, ", ".join(known))
    return tuple(found)


def check_measured(source: Table, filters: Mapping[str, Any]) -> None:
    """Raise InvalidInputError if conditions are asked for under which nothing was measured."""
    asked = {name: value for name, value in filters.items() if name in _SEE and value is not None}
    asked.pop("system", None)
    form = {name: value for name, value in filters.items() if name in FORM}
    if asked and not candidates.comparable(source, metric=tuple(NEEDING_A_MACHINE), **form):
        named = [f"{name} {' or '.join(map(str, given.several(value)))}" for name, value in asked.items()]
        raise InvalidInputError(
            f"The table has no measurement with {', '.join(named)}, batch size {form.get('batch_size', 1)}.",
            "measure it with vertebra bench, or see what there is: vertebra table --wide",
        )


def _known(condition: str) -> Iterable[str]:
    """The names that vertebra itself has."""
    from vertebra import engines
    from vertebra.machine import system

    infos = engines.known()
    names: dict[str, Callable[[], list[str]]] = {
        "engine": lambda: [info.name for info in infos],
        "precision": lambda: [one for info in infos for one in info.precisions],
        "device": lambda: [one for info in infos for one in info.devices],
        "scenario": _scenarios,
        "system": lambda: [system.describe().id],
    }
    return names[condition]()


def _scenarios() -> list[str]:
    from vertebra.measuring.benchmarking import SCENARIOS

    return list(SCENARIOS)
