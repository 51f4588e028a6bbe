"""`vertebra.chart`: the table's figures, or published ones, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from vertebra import choosing
from vertebra.errors import UnknownNameError
from vertebra.measurements import WideRow, depends_on_machine, wide
from vertebra.measurements.views import FORM
from vertebra.verbs import given
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.charts import Chart, Settings


def chart(
    view: str | None = None,
    *,
    x: str = "operations",
    y: str = "top1",
    sources: Sequence[str] = (),
    settings: Settings | None = None,
    table: TableLike = None,
    **filters: Any,
) -> Chart:
    """The named `view` (a key of `charts.VIEWS`), or metric `y` against metric `x`, one ball per network, its
    area the parameters.

    Figures of this machine at batch size 1, where `filters` don't say otherwise, or of all batch sizes where
    the view is of them, or where none is at 1. With `sources`, names as `cite` takes them, of what was
    published, and not of the table. Figures of several engines don't stand in one chart, so `engine` must be
    given where several were measured and the chart is of them.
    """
    from vertebra import charts

    named = None if view is None else charts.views.find(view)
    of = partial(_of_sources, sources) if sources else partial(compared, table=table)
    if named is not None and named.batches:
        filters.setdefault("batch_size", None)
    rows = of(**filters)
    if named is not None and named.runs and "batch_size" not in filters:
        rows = rows if any(row.conditions for row in rows) else of(**filters, batch_size=None)
    if view is None:
        return charts.ball_chart(map(charts.per_image, rows), x=x, y=y)
    return charts.draw(view, rows, settings)


def _of_sources(sources: Sequence[str], **filters: Any) -> list[WideRow]:
    """Wide rows of one load, of published figures that ship."""
    from vertebra import citations

    load = {name: value for name, value in {"batch_size": 1, **filters}.items() if value is not None}
    for name in load:
        if name not in FORM:
            raise UnknownNameError.of("column", name, FORM, ", ".join(FORM))
    told = [row for name in sources for row in citations.find(name).read()]
    return wide(
        row
        for row in told
        if not depends_on_machine(row) or all(getattr(row, name) == value for name, value in load.items())
    )


def compared(
    *, table: TableLike = None, dataset: str | None = None, probed: str | None = None, **filters: Any
) -> list[WideRow]:
    """Wide rows of one load: of this machine at batch size 1, where `filters` don't say otherwise.

    Accuracies are those of `dataset` (the whole of ImageNet's validation split, where None), a probe's those
    of the images `probed`. Networks that were never run are among them, with what is known without running
    them.
    """
    source = given.table(table, create=False)
    return wide(choosing.comparable(source, dataset=dataset, probed=probed, **filters))
