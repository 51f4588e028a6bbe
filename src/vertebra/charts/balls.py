"""The ball chart of Canziani et al. (2016): two metrics against each other, ball area the third."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vertebra import metrics
from vertebra.charts import labels, scales, style
from vertebra.charts.chart import SCHEMA, Chart
from vertebra.charts.points import Point, condition_lines, front, points
from vertebra.measurements import WideRow

WIDTH = 760
HEIGHT = 460
_LEGEND_WIDTH = 150

#: Diameter of the largest ball in pixels; Vega's symbol size is the square of a circle's diameter.
_DIAMETER = 60
_LABEL_SIZE = 12
_LABEL_HEIGHT = 13
_STEADY, _UNSTEADY = "A, B or none", "C: unsteady"


@dataclass(frozen=True)
class _Plot:
    """Where things are: the axes, and each point's ball in pixels."""

    drawn: tuple[Point, ...]
    x: str
    y: str
    size: str
    x_unit: scales.Unit
    y_unit: scales.Unit
    size_unit: scales.Unit
    x_axis: scales.Axis
    y_axis: scales.Axis
    balls: tuple[labels.Ball, ...]

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Pixels from the top left corner, of values in shown units."""
        return self.x_axis.position(x), self.y_axis.length - self.y_axis.position(y)

    def values(self, x_pixel: float, y_pixel: float) -> dict[str, float]:
        """Shown units, of pixels from the top left corner."""
        return {"x": _short(self.x_axis.value(x_pixel)), "y": _short(self.y_axis.value(self.y_axis.length - y_pixel))}


def ball_chart(
    rows: Iterable[WideRow],
    *,
    x: str = "operations",
    y: str = "top1",
    size: str = "params",
    title: str | None = None,
) -> Chart:
    """Each network as a ball at metric `x` and metric `y`, its area proportional to metric `size`.

    Vertical and horizontal bars are 95 % intervals, balls of a grade C figure are hollow, and the
    dashed stairs are the Pareto front. A network that lacks one of the figures is in the chart's
    `missing`. Raises InvalidInputError where the rows hold more than one form (engine, precision,
    batch size, system, …), naming what differs, and UnknownNameError for an unknown metric.
    """
    found, missing = points(rows, (x, y, size))
    plot, boxes = _laid_out(sorted(found, key=lambda point: (-point.value(size), point.model)), x, y, size)
    best = front(plot.drawn, x, y)
    families = style.colours(point.family for point in found)
    title = title or f"{_label(y)} against {_label(x, capital=False)}"
    layers = [*_front_layer(plot, best), _ball_layer(plot, families), *_interval_layers(plot), _centre_layer(plot)]
    spec = {
        "$schema": SCHEMA,
        "background": "white",
        "padding": 18,
        "width": plot.x_axis.length,
        "height": plot.y_axis.length,
        "description": _description(plot, best, title),
        "title": {"text": title, "subtitle": _subtitle(plot, missing)},
        "layer": [*layers, *_label_layers(plot, boxes)],
        "config": style.CONFIG,
    }
    told = [{**point.told(), "on_front": point in best} for point in plot.drawn]
    return Chart(spec, tuple(sorted(told, key=lambda row: (row[x], row["model"]))), missing)


def _label(metric: str, capital: bool = True) -> str:
    label = metrics.find(metric).label
    return label[:1].upper() + label[1:] if capital else label


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _laid_out(drawn: Sequence[Point], x: str, y: str, size: str) -> tuple[_Plot, list[labels.Box]]:
    """The plot and its labels' places; the plot grows where the labels don't fit."""
    height = HEIGHT
    while True:
        plot = _plot(drawn, x, y, size, height)
        boxes = labels.place(plot.balls, WIDTH, height, [*_front_lines(plot), *_interval_lines(plot)])
        if boxes is not None:
            return plot, boxes
        height += HEIGHT // 4


def _plot(drawn: Sequence[Point], x: str, y: str, size: str, height: int) -> _Plot:
    largest = max(point.value(size) for point in drawn)
    radii = [_DIAMETER / 2 * math.sqrt(point.value(size) / largest) if largest else 0.0 for point in drawn]
    units = {name: scales.unit_of(name, (point.value(name) for point in drawn)) for name in (x, y, size)}
    axes = []
    for name, length in ((x, WIDTH), (y, height)):
        values = [units[name].show(point.value(name)) for point in drawn]
        ends = [units[name].show(end) for point in drawn for end in _interval(point, name)]
        axes.append(scales.fit(values, radii, length, ends))
    plot = _Plot(tuple(drawn), x, y, size, units[x], units[y], units[size], axes[0], axes[1], ())
    balls = [_ball(plot, point, radius) for point, radius in zip(drawn, radii, strict=True)]
    return _Plot(tuple(drawn), x, y, size, units[x], units[y], units[size], axes[0], axes[1], tuple(balls))


def _ball(plot: _Plot, point: Point, radius: float) -> labels.Ball:
    across, down = plot.pixel(plot.x_unit.show(point.value(plot.x)), plot.y_unit.show(point.value(plot.y)))
    return labels.Ball(across, down, radius, style.text_width(point.model, _LABEL_SIZE), _LABEL_HEIGHT)


def _interval(point: Point, metric: str) -> tuple[float, ...]:
    figure = point.figures[metric]
    return () if figure.low is None or figure.high is None else (figure.low, figure.high)


def _subtitle(plot: _Plot, missing: dict[str, str]) -> list[str]:
    parts = condition_lines(plot.drawn, (plot.x, plot.y))
    width = WIDTH + _LEGEND_WIDTH
    size = style.CONFIG["title"]["subtitleFontSize"]
    lines = [line for told in parts for line in style.wrap(told, width, size)]
    if missing:
        lines += style.wrap(_left_out(missing), width, size)
    return lines


def _left_out(missing: dict[str, str]) -> list[str]:
    parts = [f"{model} ({reason})" for model, reason in missing.items()]
    return [f"not drawn: {parts[0]}", *parts[1:]]


def _description(plot: _Plot, best: Sequence[Point], title: str) -> str:
    count = len(plot.drawn)
    told = f"{title}: {count} network{'s' if count != 1 else ''}, ball area shows {_label(plot.size, False)}."
    return told + (f" On the Pareto front: {', '.join(point.model for point in best)}." if best else "")


def _axis(plot: _Plot, metric: str) -> dict[str, Any]:
    axis, unit = (plot.x_axis, plot.x_unit) if metric == plot.x else (plot.y_axis, plot.y_unit)
    return {
        "type": "quantitative",
        "scale": {
            "type": "log" if axis.log else "linear",
            "domain": [_short(axis.low), _short(axis.high)],
            "nice": False,
            "zero": False,
        },
        "axis": {"title": scales.title_of(metric, unit, axis.log), "values": axis.ticks(), "format": "~r"},
    }


def _at(plot: _Plot, x: str = "x", y: str = "y") -> dict[str, Any]:
    return {"x": {"field": x, **_axis(plot, plot.x)}, "y": {"field": y, **_axis(plot, plot.y)}}


def _ball_layer(plot: _Plot, families: dict[str, str]) -> dict[str, Any]:
    encoding: dict[str, Any] = {
        **_at(plot),
        "size": _size_channel(plot),
        "color": _colour_channel(families),
        "fillOpacity": _grade_channel(plot),
        "description": {"field": "told"},
        "tooltip": {"field": "told"},
    }
    return {
        "data": {"values": [_ball_datum(plot, point, families) for point in plot.drawn]},
        "mark": {"type": "point", "shape": "circle", "filled": False, "strokeWidth": 1.6, "strokeOpacity": 0.95},
        "encoding": {**encoding, "fill": encoding["color"], "stroke": {**encoding["color"], "legend": None}},
    }


def _ball_datum(plot: _Plot, point: Point, families: dict[str, str]) -> dict[str, Any]:
    x, y, size = (
        unit.show(point.value(name))
        for name, unit in ((plot.x, plot.x_unit), (plot.y, plot.y_unit), (plot.size, plot.size_unit))
    )
    told = [
        f"{_label(name, False)} {value:.3g} {unit.name}".rstrip()
        for name, value, unit in ((plot.x, x, plot.x_unit), (plot.y, y, plot.y_unit), (plot.size, size, plot.size_unit))
    ]
    return {
        "model": point.model,
        "family": point.family if point.family in families else style.OTHERS,
        "x": x,
        "y": y,
        "size": size,
        "grade": _UNSTEADY if point.hollow else _STEADY,
        "told": f"{point.model}: {', '.join(told)}",
    }


def _size_channel(plot: _Plot) -> dict[str, Any]:
    largest = max(plot.size_unit.show(point.value(plot.size)) for point in plot.drawn)
    legend = {
        "title": scales.title_of(plot.size, plot.size_unit),
        "values": _round_sizes(largest),
        "symbolFillColor": "#d8dde3",
        "symbolStrokeColor": style.FAINT,
        "format": "~r",
    }
    scale = {"type": "linear", "domain": [0, largest or 1], "range": [0, _DIAMETER**2]}
    return {"field": "size", "type": "quantitative", "scale": scale, "legend": legend}


def _round_sizes(largest: float) -> list[float]:
    """Three round values up to `largest`, each about a quarter of the next."""
    if largest <= 0:
        return []
    decade = math.floor(math.log10(largest))
    rounds = [float(f"{digit}e{power}") for power in range(decade - 2, decade + 1) for digit in (1, 2, 5)]
    return [value for value in rounds if value <= largest][-5::2]


def _colour_channel(families: dict[str, str]) -> dict[str, Any]:
    return {
        "field": "family",
        "type": "nominal",
        "scale": {"domain": list(families), "range": list(families.values())},
        "legend": {"title": "Family", "symbolType": "circle", "symbolSize": 110},
    }


def _grade_channel(plot: _Plot) -> dict[str, Any]:
    mixed = any(point.hollow for point in plot.drawn)
    legend = {"title": "Grade", "symbolType": "circle", "symbolSize": 110, "symbolStrokeColor": style.FAINT,
              "symbolFillColor": style.FAINT}  # fmt: skip
    return {
        "field": "grade",
        "type": "nominal",
        "scale": {"domain": [_STEADY, _UNSTEADY], "range": [0.45, 0]},
        "legend": legend if mixed else None,
    }


def _front_corners(plot: _Plot) -> list[tuple[float, float]]:
    """The stairs in shown units, from the edge where `y` is worst to the edge where `x` is worst."""
    best = front(plot.drawn, plot.x, plot.y)
    if not best:
        return []
    steps = [(plot.x_unit.show(point.value(plot.x)), plot.y_unit.show(point.value(plot.y))) for point in best]
    worst_x = plot.x_axis.high if metrics.find(plot.x).better == "lower" else plot.x_axis.low
    worst_y = plot.y_axis.low if metrics.find(plot.y).better == "higher" else plot.y_axis.high
    corners = [(steps[0][0], worst_y), steps[0]]
    for (_, y), (next_x, next_y) in zip(steps, steps[1:], strict=False):
        corners += [(next_x, y), (next_x, next_y)]
    return [*corners, (worst_x, steps[-1][1])]


def _front_lines(plot: _Plot) -> list[labels.Segment]:
    corners = [plot.pixel(*corner) for corner in _front_corners(plot)]
    return [labels.Segment(*one, *next_one) for one, next_one in zip(corners, corners[1:], strict=False)]


def _front_layer(plot: _Plot, best: Sequence[Point]) -> list[dict[str, Any]]:
    if not best:
        return []
    corners = [
        {"x": _short(x), "y": _short(y), "order": order, "line": "Pareto front"}
        for order, (x, y) in enumerate(_front_corners(plot))
    ]
    dash = {"field": "line", "type": "nominal", "scale": {"range": [[5, 4]]},
            "legend": {"title": None, "symbolType": "stroke", "symbolSize": 300, "symbolStrokeWidth": 1.5,
                       "symbolStrokeColor": style.FAINT}}  # fmt: skip
    return [
        {
            "data": {"values": corners},
            "mark": {"type": "line", "color": style.FAINT, "strokeWidth": 1.3, "aria": False},
            "encoding": {**_at(plot), "order": {"field": "order"}, "strokeDash": dash},
        }
    ]


def _interval_lines(plot: _Plot) -> list[labels.Segment]:
    lines = []
    for row in _intervals(plot):
        lines.append(labels.Segment(*plot.pixel(row["x"], row["y"]), *plot.pixel(row["x2"], row["y2"])))
    return lines


def _intervals(plot: _Plot) -> list[dict[str, float]]:
    """The 95 % intervals in shown units, as lines."""
    rows = []
    for point in plot.drawn:
        x, y = plot.x_unit.show(point.value(plot.x)), plot.y_unit.show(point.value(plot.y))
        for low, high in filter(None, [tuple(map(plot.x_unit.show, _interval(point, plot.x)))]):
            rows.append({"x": low, "x2": high, "y": y, "y2": y})
        for low, high in filter(None, [tuple(map(plot.y_unit.show, _interval(point, plot.y)))]):
            rows.append({"x": x, "x2": x, "y": low, "y2": high})
    return rows


def _interval_layers(plot: _Plot) -> list[dict[str, Any]]:
    rows = _intervals(plot)
    if not rows:
        return []
    mark = {"type": "rule", "color": style.INK, "strokeWidth": 1.4, "aria": False}
    encoding = {**_at(plot), "x2": {"field": "x2"}, "y2": {"field": "y2"}}
    return [{"data": {"values": rows}, "mark": mark, "encoding": encoding}]


def _centre_layer(plot: _Plot) -> dict[str, Any]:
    values = [
        {"x": plot.x_unit.show(point.value(plot.x)), "y": plot.y_unit.show(point.value(plot.y))}
        for point in plot.drawn
    ]
    mark = {"type": "point", "filled": True, "color": style.INK, "size": 9, "opacity": 1, "aria": False}
    return {"data": {"values": values}, "mark": mark, "encoding": _at(plot)}


def _label_layers(plot: _Plot, boxes: Sequence[labels.Box]) -> list[dict[str, Any]]:
    texts = [
        {**plot.values(box.left, (box.top + box.bottom) / 2), "model": point.model}
        for point, box in zip(plot.drawn, boxes, strict=True)
    ]
    ties = [labels.leader(ball, box) for ball, box in zip(plot.balls, boxes, strict=True)]
    text = {"type": "text", "align": "left", "baseline": "middle", "fontSize": _LABEL_SIZE, "aria": False}
    halo = {**text, "stroke": "white", "strokeWidth": 3, "strokeJoin": "round", "strokeOpacity": 0.85}
    encoding = {**_at(plot), "text": {"field": "model"}}
    lines = [{"x": start["x"], "y": start["y"], "x2": end["x"], "y2": end["y"]}
             for tie in ties if tie is not None
             for start, end in [(plot.values(tie.x1, tie.y1), plot.values(tie.x2, tie.y2))]]  # fmt: skip
    rule = {"type": "rule", "color": style.FAINT, "strokeWidth": 0.8, "aria": False}
    leaders = {"data": {"values": lines}, "mark": rule,
               "encoding": {**_at(plot), "x2": {"field": "x2"}, "y2": {"field": "y2"}}}  # fmt: skip
    return [
        *([leaders] if lines else []),
        {"data": {"values": texts}, "mark": halo, "encoding": encoding},
        {"data": {"values": texts}, "mark": {**text, "color": style.INK}, "encoding": encoding},
    ]
