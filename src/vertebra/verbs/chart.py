"""`vertebra.chart`: figures of the table, or published ones, as a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from vertebra import units
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import WideRow, depends_on_machine, wide
from vertebra.measurements.views import FORM
from vertebra.reading.choice import candidates
from vertebra.verbs import conditions, given
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.reading.charts import Chart, Settings


#: option -> the views that have it
OPTIONS = {
    "bound": ("accuracy-fps",), "memory_classes": ("memory-table", "grid"),
    "fps_classes": ("latency-table", "grid"), "best": ("grid",), "trust": ("grid",),
}  # fmt: skip


def chart(
    view: str | None = None,
    model: str | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    sources: Sequence[str] = (),
    bound: Literal["front", "line"] | None = None,
    memory_classes: str | Sequence[str | float] | None = None,
    fps_classes: str | Sequence[str | float] | None = None,
    best: int | None = None,
    trust: str | None = None,
    table: TableLike = None,
    **filters: Any,
) -> Chart:
    """The named `view` (a key of `charts.VIEWS`), or metric `y` (top1) against metric `x` (operations), one
    ball per network, its area the parameters.

    By default it shows figures of this machine at batch size 1, or at all batch sizes if the view is about
    them or none was measured at 1; `filters` change that. With `sources`, names as `cite` takes them, it
    shows published figures instead of the table. A chart can't mix engines: pass `engine` if several were
    measured.

    The view "history" is of one network, `model`: its latency on each day and under each version of the
    engine and its driver, with the steps between them.

    Some views have options (`OPTIONS`): the upper `bound`, classes of memory ("700MB,1GB") and of images per
    second, the number of networks in a cell of the grid, and the worst grade that the grid accepts. Raises
    InvalidInputError for an option that the chart doesn't have.
    """
    from vertebra.reading import charts

    if view != charts.HISTORY.name and model is not None:
        raise InvalidInputError(
            f"The chart {view or 'of two metrics'} is of all networks, so {model} can't be chosen.",
            f"of one network: vertebra chart {charts.HISTORY.name} {model}",
        )
    axes: dict[str, Any] = {name: metric for name, metric in (("x", x), ("y", y)) if metric is not None}
    if view is not None and axes:
        raise InvalidInputError(
            f"The chart {view} has its own axes, so --{next(iter(axes))} can't be set.",
            "leave one of them out",
        )
    settings = _settings(
        view, bound=bound, memory_classes=quantities(memory_classes, "B"),
        fps_classes=quantities(fps_classes, "1/s"), best=best, trust=trust,
    )  # fmt: skip
    named = None if view is None else charts.views.find(view)
    if not sources:
        conditions.check(given.table(table, create=False), filters)
    if named is charts.HISTORY:
        return _history(model, sources, table, filters)
    of = partial(_of_sources, sources) if sources else partial(compared, table=table)
    if named is not None and named.batches:
        filters.setdefault("batch_size", None)
    rows = of(**filters)
    if named is not None and named.runs and "batch_size" not in filters:
        rows = rows if any(row.conditions for row in rows) else of(**filters, batch_size=None)
    if view is None:
        return charts.ball_chart(map(charts.per_image, rows), **axes)
    return charts.draw(view, rows, settings)


def _history(model: str | None, sources: Sequence[str], table: TableLike, filters: dict[str, Any]) -> Chart:
    """The history of one network in the form that `filters` choose."""
    from vertebra.reading.charts import history_chart
    from vertebra.reading.charts.points import Point, refuse_other_conditions
    from vertebra.reading.histories import histories

    if sources:
        raise InvalidInputError("Published figures have no history.", "leave --source out")
    if model is None:
        raise InvalidInputError(
            "The chart history needs a network.", "name one: vertebra chart history resnet50"
        )
    source = given.table(table, create=False)
    chosen = given.network(model, source)
    found = histories(source, chosen, **filters)
    if not found:
        raise InvalidInputError(
            f"The table has no measured latency of {model} under these conditions.",
            f"see what there is: vertebra table --model {model}",
        )
    firsts = [one.moments[0].row for one in found]
    refuse_other_conditions([Point(one.model, {"latency": one}) for one in firsts])
    if len(found) > 1:
        raise InvalidInputError(
            f"The table has {len(found)} different networks or weights called {model}.",
            "choose one by the beginning of its digest, as vertebra show names it",
        )
    return history_chart(found[0])


def fastest(
    *, sources: Sequence[str] = (), table: TableLike = None, **filters: Any
) -> tuple[dict[str, Any], list[str]]:
    """The conditions that all views can be drawn under: those of the engine that runs the most networks,
    and of these the one that takes the least time; and the engines that it was chosen from, itself first.

    Nothing if `filters` or the figures leave only one. Raises what `chart` raises.
    """
    options = {"batch_size": None, **filters}
    rows = _of_sources(sources, **options) if sources else compared(table=table, **options)
    times: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        latency = row.figures.get("latency")
        if latency is not None and latency.value > 0 and row.conditions.get("engine"):
            key = tuple(row.conditions.get(name) for name in _CHOSEN)
            found = times.setdefault(key, {})
            found[row.model] = min(latency.value / (latency.batch_size or 1), found.get(row.model, math.inf))
    if len(times) < 2:
        return {}, []
    shared = set.intersection(*(set(found) for found in times.values()))
    ranked = sorted(
        times, key=lambda key: (-len(times[key]), sum(math.log(times[key][one]) for one in shared))
    )
    chosen = {name: value for name, value in zip(_CHOSEN, ranked[0], strict=True) if value is not None}
    engines = dict.fromkeys(str(key[_CHOSEN.index("engine")]) for key in ranked)
    return {**chosen, **filters}, list(engines)


#: The conditions that `fastest` chooses.
_CHOSEN = tuple(name for name in FORM if name not in ("system", "batch_size", "input_size"))


def _settings(view: str | None, **options: Any) -> Settings:
    """The options of the view. Raises InvalidInputError for an option that it doesn't have."""
    from vertebra.reading.charts import Settings

    given_ones = {name: value for name, value in options.items() if value is not None}
    for name in given_ones:
        if view not in OPTIONS[name]:
            raise InvalidInputError(
                f"This chart has no --{name.replace('_', '-')}.",
                f"charts that have it: {', '.join(OPTIONS[name])}",
            )
    if "trust" in given_ones:
        given_ones["least_grade"] = given_ones.pop("trust")
    return Settings(**given_ones)


def quantities(values: str | Sequence[str | float] | None, unit: str) -> tuple[float, ...] | None:
    """Text such as "700MB,1GB", or several quantities, in base units."""
    if values is None:
        return None
    several = values.split(",") if isinstance(values, str) else values
    return tuple(units.parse(one.strip(), unit) if isinstance(one, str) else one for one in several)


def _of_sources(sources: Sequence[str], **filters: Any) -> list[WideRow]:
    """Wide rows for one load, from the published figures that ship with the package."""
    from vertebra.measuring import citations

    load = {name: value for name, value in {"batch_size": 1, **filters}.items() if value is not None}
    for name in load:
        if name not in FORM:
            raise UnknownNameError.of("column", name, FORM, ", ".join(FORM))
    published = [row for name in sources for row in citations.find(name).read()]
    return wide(
        row
        for row in published
        if not depends_on_machine(row) or all(getattr(row, name) == value for name, value in load.items())
    )


def compared(
    *, table: TableLike = None, dataset: str | None = None, probed: str | None = None, **filters: Any
) -> list[WideRow]:
    """Wide rows for one load: by default this machine and batch size 1; `filters` change that.

    Accuracies are those on `dataset` (by default the whole validation split of ImageNet); those of probes, on
    the images `probed`. Networks that were never run are included, with what is known of them.
    """
    source = given.table(table, create=False)
    return wide(candidates.comparable(source, dataset=dataset, probed=probed, **filters))
