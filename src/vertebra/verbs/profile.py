"""`vertebra.profile`: parameters, operations and sizes, counted without running anything."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vertebra import zoo
from vertebra.errors import MissingRuntimeError, TableError, warn
from vertebra.measurements import now
from vertebra.verbs import given
from vertebra.verbs.given import TableLike
from vertebra.zoo import names

if TYPE_CHECKING:
    from vertebra.measurements import Measurement
    from vertebra.measuring.graphs import GraphProfile
    from vertebra.measuring.profiler import Profile


def profile(
    *models: str, input_size: int | None = None, table: TableLike = None
) -> list[Profile | GraphProfile]:
    """Count parameters, MACs, activations and sizes of `models` (by default the classics).

    Nothing is allocated or run; a file's graph is counted as it is. The totals are appended to the table; the
    result also has the layers. Where your own table can't be written and no other was named, that is a
    warning: the counts are as true.
    """
    chosen = [zoo.find(model) for model in models or names.CLASSICS]
    profiles = [counted(model, input_size) for model in chosen]
    try:
        _append(profiles, table)
    except TableError as error:
        if table is not None:
            raise
        warn(
            f"{error.message} The counts are not kept.", "name another table: --table PATH, or VERTEBRA_TABLE"
        )
    return profiles


def _append(profiles: Sequence[Profile | GraphProfile], table: TableLike) -> None:
    into = given.table(table)
    for one in profiles:
        into.append(_rows(one))


def _rows(counted: Profile | GraphProfile) -> list[Measurement]:
    from vertebra.measuring import graphs

    if isinstance(counted, graphs.GraphProfile):
        return graphs.rows(counted, measured_at=now())
    from vertebra.measuring import profiler

    return profiler.rows(counted, measured_at=now())


def counted(model: names.Model, input_size: int | None) -> Profile | GraphProfile:
    from vertebra.campaigns import cases

    size = cases.native_or(model, input_size)
    if model.is_file:
        from vertebra.measuring import graphs
        from vertebra.zoo import adapters

        return graphs.profile(adapters.network_file(model.name).path, model=model.name, input_size=size)
    if importlib.util.find_spec("torch") is None:
        raise MissingRuntimeError.of("Counting a network", "torch", "torch")
    from vertebra.measuring import profiler
    from vertebra.zoo import build

    return profiler.profile(lambda: build(model.name), model=model.name, input_size=size)
