"""`vertebra.compare`: two sides, figure by figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import metrics
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, latest
from vertebra.reading.choice import candidates
from vertebra.verbs import given
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.reading.comparison import Compared, Side


def compare(
    first: str | Path | Mapping[str, Any],
    second: str | Path | Mapping[str, Any],
    *,
    table: TableLike = None,
    metric: Sequence[str] = (),
    trust: str = "B",
    **filters: Any,
) -> Compared:
    """Compare the figures of the second side with those of the first; `comparison.side` describes a side.

    `filters` (column=value) apply to both sides; `metric` selects figures. If neither side names a machine,
    both are of this one. Figures with a grade worse than `trust` aren't judged. The list's `missing` and
    `new` are rows whose case only one side has; `vertebra.reading.regression.Gate` judges it as a whole.
    Raises InvalidInputError if the sides have no figure in common.
    """
    from vertebra.reading import comparison

    for name in metric:
        metrics.find(name)
    source = given.table(table, create=False)
    sides = [comparison.side(choice, source) for choice in (first, second)]
    if not any({"system", "file", "run"} & side.chosen.keys() for side in sides):
        filters = {"system": candidates.this_system(source), **filters}
    if isinstance(filters.get("system"), str):
        filters["system"] = source.system_id(filters["system"])
    left, right = (comparison.narrowed(side, filters) for side in sides)
    compared = comparison.compare(
        left, right, metric=metric, floor=_floor(source.rows(metric="aa_floor"), left), trust=trust
    )
    if not compared:
        raise InvalidInputError(
            f'"{left.name}" and "{right.name}" have no figure in common.',
            "only figures with otherwise equal conditions are compared; to see them: vertebra table",
        )
    return compared


def _floor(rows: Sequence[Measurement], side: Side) -> float:
    """The smallest difference that the side's machine could detect at its last check."""
    systems = {row.system for row in side.rows}
    return max((row.value for row in latest(rows) if row.system in systems), default=0.0)
