"""The bar chart: one metric, the networks sorted by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vertebra import metrics, units
from vertebra.measurements import WideRow
from vertebra.reading.charts import scales, style
from vertebra.reading.charts.chart import SCHEMA, Chart
from vertebra.reading.charts.points import Point, condition_lines, interval, points
from vertebra.reading.names import distinct

_WIDTH = 520
_STEP = 26


def bar_chart(rows: Iterable[WideRow], *, metric: str = "top1", title: str | None = None) -> Chart:
    """Each network as a bar from zero, the best first, its value next to it.

    Bars of grade C are hollow, bars of estimates dashed; a line through a bar's end is the 95 % interval.

    Raises InvalidInputError if the rows have more than one form, and UnknownNameError for an unknown
    metric.
    """
    found, missing = points(rows, (metric,))
    sign = 1 if metrics.find(metric).better == "lower" else -1
    drawn = sorted(found, key=lambda point: (sign * point.value(metric), point.model))
    label = metrics.find(metric).label
    title = title or label[:1].upper() + label[1:]
    unit = scales.unit_of(metric, (point.value(metric) for point in drawn))
    spec = {
        "$schema": SCHEMA,
        "background": "white",
        "padding": 18,
        "width": _WIDTH,
        "height": {"step": _STEP},
        "description": f"{title}: {len(drawn)} networks, the best is {drawn[0].model}.",
        "title": {
            "text": style.cut(title, _WIDTH, style.CONFIG["title"]["fontSize"]),
            "subtitle": _subtitle(drawn, metric),
        },
        "data": {"values": _data(drawn, metric, unit)},
        "encoding": _encoding(drawn, metric, unit),
        "layer": _layers(drawn, metric),
        "config": style.CONFIG,
    }
    return Chart(spec, tuple(point.record() for point in drawn), missing)


def _subtitle(drawn: Sequence[Point], metric: str) -> list[str]:
    [parts] = condition_lines(drawn, (metric,))
    if any(point.hollow for point in drawn):
        parts.append("hollow bars: grade C, not reliable")
    if any(point.estimated for point in drawn):
        parts.append("dashed bars: estimated")
    if any(interval(point, metric) for point in drawn):
        parts.append("lines: 95 % intervals")
    return style.subtitle([parts], _WIDTH + 120)


def _data(drawn: Sequence[Point], metric: str, unit: scales.Unit) -> list[dict[str, Any]]:
    families = style.colours(sorted(point.family for point in drawn))
    names = distinct(point.model for point in drawn)
    shown = metrics.find(metric)
    return [
        {
            "model": names[point.model],
            "description": f"{point.model}: {shown.label} {units.show(point.value(metric), shown.unit)}",
            "family": point.family if point.family in families else style.OTHERS,
            "x": unit.show(point.value(metric)),
            "end": unit.show(max(point.value(metric), *interval(point, metric), 0.0)),
            "text": f"{unit.show(point.value(metric)):#.3g}".rstrip("."),
            "hollow": point.hollow,
            "estimated": point.estimated,
            **dict(zip(("low", "high"), map(unit.show, interval(point, metric)), strict=False)),
        }
        for point in drawn
    ]


def _encoding(drawn: Sequence[Point], metric: str, unit: scales.Unit) -> dict[str, Any]:
    names = {"title": None, "grid": False, "labelColor": style.INK, "labelLimit": 400}
    values = {"title": scales.title_of(metric, unit), "tickCount": 6, "format": "~r"}
    order = list(distinct(point.model for point in drawn).values())
    return {
        "y": {"field": "model", "type": "nominal", "sort": None, "scale": {"domain": order}, "axis": names},
        "x": {"field": "x", "type": "quantitative", "axis": values},
    }


def _layers(drawn: Sequence[Point], metric: str) -> list[dict[str, Any]]:
    families = style.colours(sorted(point.family for point in drawn))
    colour = {"field": "family", "type": "nominal", "legend": None,
              "scale": {"domain": list(families), "range": list(families.values())}}  # fmt: skip
    opacity = {"condition": {"test": "datum.hollow", "value": 0.1}, "value": 0.7}
    bar = {"type": "bar", "height": {"band": 0.7}, "strokeWidth": 1.4}
    text = {"type": "text", "align": "left", "dx": 6, "color": style.INK, "fontSize": 12, "aria": False}
    return [
        {
            "mark": bar,
            "encoding": {
                "fill": colour,
                "stroke": colour,
                "fillOpacity": opacity,
                "description": {"field": "description"},
                **style.dashed(any(point.estimated for point in drawn)),
            },
        },
        *([_rule()] if any(point.figures[metric].low is not None for point in drawn) else []),
        {
            "mark": text,
            "encoding": {"text": {"field": "text"}, "x": {"field": "end", "type": "quantitative"}},
        },
    ]


def _rule() -> dict[str, Any]:
    mark = {"type": "rule", "color": style.INK, "strokeWidth": 1.4, "aria": False}
    ends = {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}}
    return {"transform": [{"filter": "isValid(datum.low)"}], "mark": mark, "encoding": ends}
