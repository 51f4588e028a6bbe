"""`vertebra.compare`: two sides of the table, figure by figure."""

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
    from vertebra.reading.comparison import Comparison, Side


def compare(
    first: str | Path | Mapping[str, Any],
    second: str | Path | Mapping[str, Any],
    *,
    table: TableLike = None,
    metric: Sequence[str] = (),
    trust: str = "B",
    **filters: Any,
) -> list[Comparison]:
    """Two sides of the table figure by figure, the second against the first; see `comparison.side` for how a
    side is named.

    `filters` (column=value) hold for both sides, `metric` bounds the figures; where neither side names a
    machine, both are of this one. Figures graded worse than `trust` aren't judged. Raises InvalidInputError
    where the sides have no figure in common.
    """
    from vertebra.reading import comparison

    for name in metric:
        metrics.find(name)
    source = given.table(table, create=False)
    sides = [comparison.side(choice, source) for choice in (first, second)]
    if not any({"system", "file", "run"} & side.chosen.keys() for side in sides):
        filters = {"system": candidates.this_system(source), **filters}
    left, right = (comparison.narrowed(side, filters) for side in sides)
    told = comparison.compare(left, right, floor=_floor(source.rows(metric="aa_floor"), left), trust=trust)
    told = [one for one in told if not metric or one.metric in metric or one.verdict in ("failed", "fixed")]
    if not told:
        raise InvalidInputError(
            f'"{left.name}" and "{right.name}" have no figure in common.',
            "they are compared where nothing differs but what the sides name; see them with: vertebra table",
        )
    return told


def _floor(rows: Sequence[Measurement], side: Side) -> float:
    """The smallest difference that the side's machine could show when it was last asked."""
    systems = {row.system for row in side.rows}
    return max((row.value for row in latest(rows) if row.system in systems), default=0.0)
