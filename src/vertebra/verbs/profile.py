"""`vertebra.profile`: parameters, operations and sizes, counted without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vertebra import zoo
from vertebra.measurements import now
from vertebra.verbs import given
from vertebra.verbs.given import TableLike
from vertebra.zoo import names

if TYPE_CHECKING:
    from vertebra.measuring.profiler import Profile


def profile(*models: str, input_size: int | None = None, table: TableLike = None) -> list[Profile]:
    """Count parameters, MACs, activations and sizes of `models` (by default the classics).

    Nothing is allocated or run. The totals are appended to the table; the result also has the layers.
    """
    chosen = [zoo.find(model) for model in models or names.CLASSICS]
    profiles = [counted(model, input_size) for model in chosen]
    into = given.table(table)
    from vertebra.measuring import profiler

    for one in profiles:
        into.append(profiler.rows(one, measured_at=now()))
    return profiles


def counted(model: names.Model, input_size: int | None) -> Profile:
    from vertebra.campaigns import cases
    from vertebra.measuring import profiler
    from vertebra.zoo import build

    size = cases.native_or(model, input_size)
    return profiler.profile(lambda: build(model.name), model=model.name, input_size=size)
