"""The heat table: a row per network, a column per batch size, each cell coloured by its class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vertebra import metrics, units
from vertebra.measurements import WideRow
from vertebra.reading.charts import scales, style
from vertebra.reading.charts.chart import SCHEMA, Chart
from vertebra.reading.charts.lines import by_batch, record_by_batch
from vertebra.reading.charts.points import Point, condition_lines, left_out
from vertebra.reading.names import distinct

#: From the best class to the worst: from light to dark, so that it reads without colour too.
_COLOURS = ("#e8f3ec", "#fbe9c6", "#f3b98f", "#c8553d", "#6f1d1b")
_INKS = (style.INK, style.INK, style.INK, "white", "white")
#: The colours of more classes than this can't be distinguished.
MOST = len(_COLOURS) - 1


def heat_table(
    rows: Iterable[WideRow], *, metric: str, bounds: Sequence[float], words: Sequence[str],
    title: str | None = None,
) -> Chart:  # fmt: skip
    """`metric`, of which less is better, of each network at each batch size.

    A cell's class is the first of the ascending `bounds` that its value doesn't exceed; `words` name the
    classes, with one more for values above all bounds. Cells without a figure stay blank. Raises
    InvalidInputError if anything but the batch size differs.
    """
    found, missing = by_batch(rows, metric)
    assert len(words) == len(bounds) + 1
    unit = scales.unit_of(metric, (point.value(metric) for point in found))
    label = metrics.find(metric).label
    title = title or f"{label[:1].upper()}{label[1:]} by batch size"
    order = _order(found, metric)
    batches = sorted({point.figures[metric].batch_size or 1 for point in found})
    names = distinct(order)
    data = [{**_cell(point, metric, unit, bounds, words), "model": names[point.model]} for point in found]
    spec = {
        "$schema": SCHEMA,
        "background": "white",
        "padding": 18,
        "width": {"step": 74},
        "height": {"step": 24},
        "description": f"{title}: {len(order)} networks at {len(batches)} batch sizes.",
        "title": {"text": title, "subtitle": _subtitle(found, metric, unit, missing)},
        "data": {"values": data},
        "encoding": _encoding(list(names.values()), batches),
        "layer": _layers(words),
        "config": style.CONFIG,
    }
    place = {model: index for index, model in enumerate(order)}
    records = [
        {**record_by_batch(point, metric), "class": words[class_of(point.value(metric), bounds)]}
        for point in found
    ]
    return Chart(
        spec, tuple(sorted(records, key=lambda row: (place[row["model"]], row["batch_size"]))), missing
    )


def class_of(value: float, bounds: Sequence[float]) -> int:
    """The index of the first of ascending `bounds` that `value` doesn't exceed; their count if it exceeds
    all."""
    return next((index for index, bound in enumerate(bounds) if value <= bound), len(bounds))


def _order(found: Sequence[Point], metric: str) -> list[str]:
    """The networks by their value at the smallest batch size, the least first."""
    first: dict[str, Point] = {}
    for point in sorted(found, key=lambda point: point.figures[metric].batch_size or 1):
        first.setdefault(point.model, point)
    return sorted(first, key=lambda model: (first[model].value(metric), model))


def _cell(
    point: Point, metric: str, unit: scales.Unit, bounds: Sequence[float], words: Sequence[str]
) -> dict[str, Any]:
    index = class_of(point.value(metric), bounds)
    marks = ("*" if point.hollow else "") + ("~" if point.estimated else "")
    batch = point.figures[metric].batch_size or 1
    shown = units.show(point.value(metric), metrics.find(metric).unit)
    return {
        "model": point.model,
        "batch": batch,
        "class": words[index],
        "dark": _ink(index, len(words)) == "white",
        "text": f"{unit.show(point.value(metric)):.3g}{marks}",
        "description": f"{point.model} at batch size {batch}: {shown}, {words[index]}",
    }


def _palette(count: int) -> list[int]:
    """Which of the colours `count` classes use, always including both ends."""
    return [round(index * (len(_COLOURS) - 1) / max(count - 1, 1)) for index in range(count)]


def _ink(index: int, count: int) -> str:
    return _INKS[_palette(count)[index]]


def _subtitle(found: Sequence[Point], metric: str, unit: scales.Unit, missing: dict[str, str]) -> list[str]:
    [parts] = condition_lines(found, (metric,))
    parts.append(f"in {unit.name}, blank where not measured")
    parts += ["*: grade C, not reliable"] if any(point.hollow for point in found) else []
    parts += ["~: estimated"] if any(point.estimated for point in found) else []
    return style.subtitle([parts, left_out(missing)], 700)


def _encoding(order: Sequence[str], batches: Sequence[int]) -> dict[str, Any]:
    axis = {"grid": False, "labelColor": style.INK, "labelLimit": 400}
    return {
        "y": {"field": "model", "type": "nominal", "sort": None, "scale": {"domain": list(order)},
              "axis": {**axis, "title": None}},
        "x": {
            "field": "batch", "type": "ordinal", "sort": list(batches),
            "axis": {**axis, "title": "Batch size", "labelAngle": 0, "orient": "top"},
        },
    }  # fmt: skip


def _layers(words: Sequence[str]) -> list[dict[str, Any]]:
    colour = {
        "field": "class", "type": "nominal", "sort": list(words),
        "scale": {"domain": list(words), "range": [_COLOURS[index] for index in _palette(len(words))]},
        "legend": {"title": "Class", "symbolType": "square", "symbolSize": 160},
    }  # fmt: skip
    ink = {"condition": {"test": "datum.dark", "value": "white"}, "value": style.INK}
    rect = {"type": "rect", "stroke": "white", "strokeWidth": 1.5}
    text = {"type": "text", "fontSize": 12, "aria": False}
    return [
        {"mark": rect, "encoding": {"color": colour, "description": {"field": "description"}}},
        {"mark": text, "encoding": {"text": {"field": "text"}, "color": ink}},
    ]
