"""The line chart: one metric against the batch size, a line per network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vertebra import metrics, units
from vertebra.errors import InvalidInputError
from vertebra.measurements import WideRow
from vertebra.reading.charts import scales, style
from vertebra.reading.charts.chart import SCHEMA, Chart
from vertebra.reading.charts.points import Point, condition_lines, interval, left_out, points
from vertebra.reading.names import distinct

#: With more lines than this the chart is unreadable, so the networks with the most batch sizes are drawn.
MOST = 40

_WIDTH = 640
_HEIGHT = 420
_LABEL_SIZE = 12
_LABEL_HEIGHT = 14


def batch_chart(rows: Iterable[WideRow], *, metric: str, title: str | None = None) -> Chart:
    """`metric` against the batch size, on a logarithmic axis to base 2, a line per network and its name at
    the end.

    Bars are 95 % intervals; points of grade C are hollow, lines with an estimate dashed. Of more than 40
    networks the 40 with the most batch sizes are drawn; the table has all. Raises InvalidInputError if
    anything but the batch size differs, or if all figures are at one batch size.
    """
    found, missing = by_batch(rows, metric)
    kept = _kept(found)
    drawn = [point for point in found if point.model in kept]
    unit = scales.unit_of(metric, (point.value(metric) for point in drawn))
    label = metrics.find(metric).label
    title = title or f"{label[:1].upper()}{label[1:]} against batch size"
    ends = _ends(drawn, metric)
    height = max(_HEIGHT, len(ends) * _LABEL_HEIGHT)
    axis = scales.fit(
        [unit.show(point.value(metric)) for point in drawn], [0.0] * len(drawn), height,
        [unit.show(end) for point in drawn for end in interval(point, metric)],
    )  # fmt: skip
    spec = {
        "$schema": SCHEMA,
        "background": "white",
        "padding": 18,
        "width": _WIDTH,
        "height": height,
        "description": f"{title}: {len(kept)} networks.",
        "title": {
            "text": style.cut(title, _WIDTH, style.CONFIG["title"]["fontSize"]),
            "subtitle": _subtitle(drawn, metric, missing, len(kept), found),
        },
        "layer": _layers(drawn, metric, unit, axis, ends),
        "config": style.CONFIG,
    }
    records = sorted((record_by_batch(point, metric) for point in found), key=_order)
    return Chart(spec, tuple(records), missing)


def by_batch(rows: Iterable[WideRow], metric: str) -> tuple[list[Point], dict[str, str]]:
    """A point per network and stated batch size, and why the other networks have none.

    Raises InvalidInputError if anything but the batch size differs, or if all figures are at one batch size.
    """
    stated = [row for row in rows if metric not in row.figures or row.figures[metric].batch_size]
    found, missing = points(stated, (metric,), varying=("batch_size",))
    if len({point.figures[metric].batch_size for point in found}) < 2:
        only = found[0].figures[metric].batch_size
        raise InvalidInputError(
            f"All figures of {metrics.find(metric).label} are at batch size {only}.",
            "measure more batch sizes with: vertebra bench --batch-sizes 1..16",
        )
    return found, missing


def record_by_batch(point: Point, metric: str) -> dict[str, Any]:
    """A point as one row of a table, the batch size right after the network's name."""
    record = point.record()
    first = {"model": record.pop("model"), "batch_size": record.pop("batch_size")}
    return {**first, **record}


def _order(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["model"], row["batch_size"]


def _kept(found: Sequence[Point]) -> list[str]:
    models = [point.model for point in found]
    ranked = sorted(dict.fromkeys(models), key=lambda model: -models.count(model))
    return ranked[:MOST]


def _batch(point: Point, metric: str) -> int:
    return int(point.figures[metric].batch_size or 1)


def _ends(drawn: Sequence[Point], metric: str) -> list[Point]:
    """The last point of each line."""
    last: dict[str, Point] = {}
    for point in sorted(drawn, key=lambda point: _batch(point, metric)):
        last[point.model] = point
    return list(last.values())


def _subtitle(
    drawn: Sequence[Point], metric: str, missing: dict[str, str], kept: int, found: Sequence[Point]
) -> list[str]:
    [parts] = condition_lines(drawn, (metric,))
    parts += ["bars: 95 % intervals"] if any(interval(point, metric) for point in drawn) else []
    parts += ["hollow: grade C, not reliable"] if any(point.hollow for point in drawn) else []
    parts += ["dashed: estimated"] if any(point.estimated for point in drawn) else []
    every = len({point.model for point in found})
    parts += [f"{kept} of {every} networks"] if kept < every else []
    return style.subtitle([parts, left_out(missing)], _WIDTH + 120)


def _layers(
    drawn: Sequence[Point], metric: str, unit: scales.Unit, axis: scales.Axis, ends: Sequence[Point]
) -> list[dict[str, Any]]:
    families = style.colours(sorted(point.family for point in drawn))
    estimated = {point.model for point in drawn if point.estimated}
    data = [{**_datum(point, metric, unit, families), "dashed": point.model in estimated} for point in drawn]
    at = {"x": _across(drawn, metric), "y": _up(metric, unit, axis)}
    colour = {"field": "family", "type": "nominal", "legend": None,
              "scale": {"domain": list(families), "range": list(families.values())}}  # fmt: skip
    dash = {"condition": {"test": "datum.dashed", "value": [5, 4]}, "value": [1, 0]}
    hollow = {"condition": {"test": "datum.hollow", "value": "white"}, **colour}
    rule = {"type": "rule", "color": style.INK, "strokeWidth": 1.2, "aria": False}
    return [
        {
            "data": {"values": data},
            "mark": {"type": "line", "strokeWidth": 1.6, "aria": False},
            "encoding": {**at, "color": colour, "detail": {"field": "model"}, "strokeDash": dash},
        },
        {
            "data": {"values": [row for row in data if "low" in row]},
            "mark": rule,
            "encoding": {**at, "y": {**at["y"], "field": "low"}, "y2": {"field": "high"}},
        },
        {
            "data": {"values": data},
            "mark": {"type": "point", "shape": "circle", "size": 42, "strokeWidth": 1.6, "filled": False},
            "encoding": {**at, "stroke": colour, "fill": hollow, "description": {"field": "description"}},
        },
        _names(ends, metric, unit, axis, at),
    ]  # fmt: skip


def _datum(point: Point, metric: str, unit: scales.Unit, families: Mapping[str, str]) -> dict[str, Any]:
    shown = units.show(point.value(metric), metrics.find(metric).unit)
    ends = [unit.show(end) for end in interval(point, metric)]
    return {
        "model": point.model,
        "family": point.family if point.family in families else style.OTHERS,
        "x": _batch(point, metric),
        "y": unit.show(point.value(metric)),
        **(dict(zip(("low", "high"), ends, strict=True)) if ends else {}),
        "hollow": point.hollow,
        "estimated": point.estimated,
        "description": f"{point.model}: {shown} at batch size {_batch(point, metric)}",
    }


def _across(drawn: Sequence[Point], metric: str) -> dict[str, Any]:
    batches = sorted({_batch(point, metric) for point in drawn})
    return {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2, "domain": [batches[0], batches[-1]], "nice": False},
        "axis": {"title": "Batch size (log scale)", "values": batches, "format": "d", "grid": False},
    }


def _up(metric: str, unit: scales.Unit, axis: scales.Axis) -> dict[str, Any]:
    scale = {"type": "log" if axis.log else "linear", "domain": [axis.low, axis.high], "nice": False,
             "zero": False}  # fmt: skip
    ticks = {"title": scales.title_of(metric, unit, axis.log), "values": axis.ticks(), "format": "~r"}
    return {"field": "y", "type": "quantitative", "scale": scale, "axis": ticks}


def _names(
    ends: Sequence[Point], metric: str, unit: scales.Unit, axis: scales.Axis, at: dict[str, Any]
) -> dict[str, Any]:
    """Each line's name to the right of the plot, clear of the other names."""
    ranked = sorted(ends, key=lambda point: point.value(metric))
    wished = [axis.position(unit.show(point.value(metric))) for point in ranked]
    places = _spaced(wished, axis.length)
    names = distinct(point.model for point in ranked)
    values = [
        {"model": names[point.model], "place": axis.length - place}
        for point, place in zip(ranked, places, strict=True)
    ]
    text = {"type": "text", "align": "left", "baseline": "middle", "fontSize": _LABEL_SIZE,
            "color": style.INK, "aria": False}  # fmt: skip
    where = {"x": {"value": _WIDTH + 10}, "y": {"field": "place", "type": "quantitative", "scale": None}}
    return {"data": {"values": values}, "mark": text, "encoding": {**where, "text": {"field": "model"}}}


def _spaced(wished: Sequence[float], length: float) -> list[float]:
    """Places near the wished ones, which ascend, at least a label's height from each other and in the
    plot."""
    places: list[float] = []
    for place in wished:
        places.append(max(place, places[-1] + _LABEL_HEIGHT) if places else max(place, 0.0))
    over = math.inf
    for index in range(len(places) - 1, -1, -1):
        over = min(places[index], length if over == math.inf else over - _LABEL_HEIGHT)
        places[index] = over
    return places
