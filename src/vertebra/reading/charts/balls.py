"""The ball chart of Canziani et al. (2016): two metrics against each other, ball area the third."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, assert_never

from vertebra import metrics, units
from vertebra.measurements import WideRow
from vertebra.reading.charts import fits, labels, scales, style
from vertebra.reading.charts.chart import SCHEMA, Chart
from vertebra.reading.charts.points import Point, condition_lines, front, interval, left_out, points
from vertebra.reading.names import distinct

WIDTH = 760
HEIGHT = 460
_LEGEND_WIDTH = 110

#: Diameter of the largest ball in pixels; Vega's symbol size is the square of a circle's diameter.
_DIAMETER = 60
_LABEL_SIZE = 12
_LABEL_HEIGHT = 13

#: A plot's area is at least this many times its labels'.
_ROOM = 4

#: Of more networks than this, only those on the front, or furthest from a fitted line, are named.
_MOST_NAMED = 60
_FURTHEST = 12
#: How often a plot grows for its labels before some of them are left away.
_GROWTHS = 8

#: The line through the balls: the Pareto front, its straight upper bound, or a fitted line.
Line = Literal["front", "bound", "power", "linear", "none"]
_LINES = {
    "front": "Pareto front", "bound": "upper bound", "power": "fitted power law", "linear": "fitted line",
}  # fmt: skip
#: How many straight pieces a curve is drawn with.
_PIECES = 60


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
    line: Line
    curve: fits.Fit | fits.Bound | None
    balls: tuple[labels.Ball, ...]
    named: tuple[int, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Pixels from the top left corner, of values in shown units."""
        return self.x_axis.position(x), self.y_axis.length - self.y_axis.position(y)

    def values(self, x_pixel: float, y_pixel: float) -> dict[str, float]:
        """Shown units, of pixels from the top left corner."""
        y = self.y_axis.value(self.y_axis.length - y_pixel)
        return {"x": _short(self.x_axis.value(x_pixel)), "y": _short(y)}

    def ball(self, point: Point, radius: float) -> labels.Ball:
        """A point's ball and the size of its label, in pixels."""
        shown = self.shown(point)
        across, down = self.pixel(shown["x"], shown["y"])
        width = style.text_width(self.names[point.model], _LABEL_SIZE)
        return labels.Ball(across, down, radius, width, _LABEL_HEIGHT)

    def shown(self, point: Point) -> dict[str, float]:
        """A point's three values in shown units."""
        units = {"x": (self.x, self.x_unit), "y": (self.y, self.y_unit), "size": (self.size, self.size_unit)}
        return {name: unit.show(point.value(metric)) for name, (metric, unit) in units.items()}


def ball_chart(
    rows: Iterable[WideRow],
    *,
    x: str = "operations",
    y: str = "top1",
    size: str = "params",
    title: str | None = None,
    line: Line = "front",
    log: bool | None = None,
) -> Chart:
    """Each network as a ball at metric `x` and metric `y`, its area proportional to metric `size`.

    Vertical and horizontal bars are 95 % intervals, balls with a figure of grade C are hollow, and the
    dashed steps are the Pareto front, or another `line`, described in the chart's `notes`. Balls of estimates
    are dashed. Both axes are logarithmic with `log`, by their range if it is None. A network that lacks one
    of the figures is in the chart's `missing`. Raises InvalidInputError if the rows have more than one form
    (engine, precision, batch size, system, …), naming what differs, and UnknownNameError for an unknown
    metric.
    """
    found, missing = points(rows, (x, y, size), logs=(x, y) if log else ())
    drawn = sorted(found, key=lambda point: (-point.value(size), point.model))
    curve = _curve(drawn, x, y, line)
    plot, boxes = _laid_out(_blank(drawn, x, y, size, line, curve, log))
    best = front(plot.drawn, x, y) if line in ("front", "bound") else []
    notes = _notes(plot)
    families = style.colours(sorted(point.family for point in found))
    title = title or f"{_label(y)} against {_label(x, capital=False)}"
    spec = {
        "$schema": SCHEMA,
        "background": "white",
        "padding": 18,
        "width": plot.x_axis.length,
        "height": plot.y_axis.length,
        "description": _description(plot, best, title),
        "title": {
            "text": style.cut(title, WIDTH, style.CONFIG["title"]["fontSize"]),
            "subtitle": _subtitle(plot, missing, notes),
        },
        "layer": [
            *_line_layer(plot),
            _ball_layer(plot, families),
            *_interval_layers(plot),
            _centre_layer(plot),
            *_label_layers(plot, boxes),
        ],
        "config": style.CONFIG,
    }
    records = [{**point.record(), **_by_line(plot, point, best)} for point in plot.drawn]
    return Chart(spec, tuple(sorted(records, key=lambda row: (row[x], row["model"]))), missing, notes)


def _curve(drawn: Sequence[Point], x: str, y: str, line: Line) -> fits.Fit | fits.Bound | None:
    match line:
        case "front" | "none":
            return None
        case "power" | "linear":
            return fits.fit(line, *_columns(drawn, x, y))
        case "bound":
            return fits.upper_bound(*_columns(front(drawn, x, y), x, y))
    assert_never(line)


def _columns(drawn: Sequence[Point], x: str, y: str) -> tuple[list[float], list[float]]:
    return [point.value(x) for point in drawn], [point.value(y) for point in drawn]


def _by_line(plot: _Plot, point: Point, best: Sequence[Point]) -> dict[str, Any]:
    """What the line gives for a point."""
    if isinstance(plot.curve, fits.Fit):
        return {f"{plot.y}_fitted": plot.curve.value(point.value(plot.x))}
    return {"on_front": point in best} if plot.line in ("front", "bound") else {}


def _notes(plot: _Plot) -> tuple[str, ...]:
    """The line in a sentence."""
    match plot.curve:
        case fits.Fit(kind="power") as fit:
            law = f"{_label(plot.y)} grows with {_label(plot.x, False)} to the power {fit.slope:.2f}"
        case fits.Fit() as fit:
            unit, label = metrics.find(plot.y).unit, _label(plot.x, False)
            more = f"{fit.slope:.3g} times the {label}"
            if unit != metrics.find(plot.x).unit:
                step = units.show(fit.slope * plot.x_unit.factor, unit)
                more = f"{step} for each {plot.x_unit.name} of {label}"
            law = f"{_label(plot.y)} is {units.show(fit.intercept, unit)} and {more}"
        case fits.Bound() as bound:
            start, fall = units.show(bound.intercept, "fraction"), 100 * abs(bound.slope)
            return (f"Upper bound: no network is above {start} minus {fall:.3g} % for each 1/s.",) if (
                plot.y in _SHARES and metrics.find(plot.x).unit == "1/s"
            ) else ()  # fmt: skip
        case None:
            drawn = plot.line not in ("front", "none")
            return (f"Too few different networks for a {_LINES[plot.line]}.",) if drawn else ()
    return (f"{law}: {fit.quality()}, {fit.count} networks.",)


_SHARES = ("top1", "top5", "probe_top1", "reference_top1", "reference_top5")


def _label(metric: str, capital: bool = True) -> str:
    label = metrics.find(metric).label
    return label[:1].upper() + label[1:] if capital else label


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _laid_out(blank: _Plot) -> tuple[_Plot, list[labels.Box]]:
    """The plot and its labels' places. It grows if the labels don't fit, and after some growths it has fewer
    labels, those of the first half of the points that had one, until they fit."""
    names = [blank.names[blank.drawn[index].model] for index in blank.named]
    text_area = sum(style.text_width(name, _LABEL_SIZE) * _LABEL_HEIGHT for name in names)
    height = max(HEIGHT, round(_ROOM * text_area / WIDTH))
    for _ in range(_GROWTHS):
        plot, boxes = _placed(blank, height)
        if boxes is not None:
            return plot, boxes
        height += HEIGHT // 4
    while blank.named:
        blank = replace(blank, named=blank.named[: len(blank.named) // 2])
        plot, boxes = _placed(blank, HEIGHT)
        if boxes is not None:
            return plot, boxes
    return _stretched(blank, HEIGHT), []


def _placed(blank: _Plot, height: int) -> tuple[_Plot, list[labels.Box] | None]:
    plot = _stretched(blank, height)
    lines = [*_line_pieces(plot), *_interval_lines(plot)]
    return plot, labels.place([plot.balls[index] for index in plot.named], WIDTH, height, lines)


def _blank(
    drawn: Sequence[Point], x: str, y: str, size: str, line: Line,
    curve: fits.Fit | fits.Bound | None, log: bool | None,
) -> _Plot:  # fmt: skip
    """The plot before its height is known."""
    x_unit, y_unit, size_unit = (_unit(drawn, metric) for metric in (x, y, size))
    x_axis = _fitted(drawn, _radii(drawn, size), x, x_unit, WIDTH, log)
    y_axis = _fitted(drawn, _radii(drawn, size), y, y_unit, HEIGHT, log)
    named = _named(drawn, x, y, line, curve)
    names = distinct(point.model for point in drawn)
    return _Plot(
        tuple(drawn), x, y, size, x_unit, y_unit, size_unit, x_axis, y_axis, line, curve, (), named, names
    )


def _stretched(blank: _Plot, height: int) -> _Plot:
    log = blank.y_axis.log
    radii = _radii(blank.drawn, blank.size)
    plot = replace(blank, y_axis=_fitted(blank.drawn, radii, blank.y, blank.y_unit, height, log))
    return replace(plot, balls=tuple(map(plot.ball, plot.drawn, radii)))


def _radii(drawn: Sequence[Point], size: str) -> list[float]:
    largest = max(point.value(size) for point in drawn)
    shares = [max(0.0, point.value(size) / largest) if largest > 0 else 0.0 for point in drawn]
    return [_DIAMETER / 2 * math.sqrt(share) for share in shares]


def _named(
    drawn: Sequence[Point], x: str, y: str, line: Line, curve: fits.Fit | fits.Bound | None
) -> tuple[int, ...]:
    """Which points are named: all; if they are too many, the front, or those furthest from a fit."""
    if len(drawn) <= _MOST_NAMED:
        return tuple(range(len(drawn)))
    if isinstance(curve, fits.Fit):
        kept = sorted(drawn, key=lambda point: -_departure(point.value(y), curve.value(point.value(x))))
    else:
        kept = front(drawn, x, y)
    chosen = {point.model for point in kept[: _FURTHEST if isinstance(curve, fits.Fit) else _MOST_NAMED]}
    return tuple(index for index, point in enumerate(drawn) if point.model in chosen)


def _departure(value: float, fitted: float) -> float:
    return abs(value - fitted) / (max(abs(value), abs(fitted)) or 1.0)


def _unit(drawn: Sequence[Point], metric: str) -> scales.Unit:
    return scales.unit_of(metric, (point.value(metric) for point in drawn))


def _fitted(
    drawn: Sequence[Point], radii: Sequence[float], metric: str, unit: scales.Unit, length: int,
    log: bool | None,
) -> scales.Axis:  # fmt: skip
    values = [unit.show(point.value(metric)) for point in drawn]
    ends = [unit.show(end) for point in drawn for end in interval(point, metric)]
    return scales.fit(values, radii, length, ends, log=log)


#: Of a note, what has no room under a title.
_AT_LENGTH = " predicting each network from the others"


def _subtitle(plot: _Plot, missing: dict[str, str], notes: Sequence[str]) -> list[str]:
    conditions = condition_lines(plot.drawn, (plot.x, plot.y))
    told = [note.replace(_AT_LENGTH, "").split(": ") for note in notes]
    return style.subtitle([_key(plot), *conditions, *told, left_out(missing)], WIDTH + _LEGEND_WIDTH)


def _key(plot: _Plot) -> list[str]:
    """The meaning of the marks that no legend explains."""
    hollow = any(point.hollow for point in plot.drawn)
    named = "furthest from the line" if isinstance(plot.curve, fits.Fit) else "on the front"
    return [
        *(["Bars: 95 % intervals"] if _intervals(plot) else []),
        *(["Hollow balls: grade C, not reliable"] if hollow else []),
        *(["Dashed balls: estimated, not measured"] if any(point.estimated for point in plot.drawn) else []),
        *([f"Named: the networks {named}"] if len(plot.named) < len(plot.drawn) else []),
    ]


def _description(plot: _Plot, best: Sequence[Point], title: str) -> str:
    count = len(plot.drawn)
    text = f"{title}: {count} network{'s' if count != 1 else ''}, ball area shows {_label(plot.size, False)}."
    return text + (
        f" On the Pareto front: {', '.join(point.model for point in best[:_FURTHEST])}." if best else ""
    )


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
    colour = _colour_channel(families)
    encoding: dict[str, Any] = {
        **_at(plot),
        "size": _size_channel(plot),
        "color": colour,
        "fill": colour,
        "stroke": {**colour, "legend": None},
        "fillOpacity": {"condition": {"test": "datum.hollow", "value": 0.08}, "value": 0.5},
        "strokeWidth": {"condition": {"test": "datum.hollow", "value": 2.8}, "value": 1.4},
        **style.dashed(any(point.estimated for point in plot.drawn)),
        "description": {"field": "description"},
        "tooltip": {"field": "description"},
    }
    return {
        "data": {"values": [_ball_datum(plot, point, families) for point in plot.drawn]},
        "mark": {"type": "point", "shape": "circle", "filled": False},
        "encoding": encoding,
    }


def _ball_datum(plot: _Plot, point: Point, families: dict[str, str]) -> dict[str, Any]:
    figures = [
        f"{_label(metric, False)} {units.show(point.value(metric), metrics.find(metric).unit)}"
        for metric in (plot.x, plot.y, plot.size)
    ]
    return {
        "model": plot.names[point.model],
        "family": point.family if point.family in families else style.OTHERS,
        **plot.shown(point),
        "hollow": point.hollow,
        "estimated": point.estimated,
        "description": f"{point.model}: {', '.join(figures)}",
    }


def _size_channel(plot: _Plot) -> dict[str, Any]:
    largest = max(plot.size_unit.show(point.value(plot.size)) for point in plot.drawn)
    legend = {
        "title": scales.title_of(plot.size, plot.size_unit),
        "values": _round_sizes(largest),
        "symbolFillColor": style.LEGEND,
        "symbolStrokeColor": style.FAINT,
        "format": "~r",
    }
    scale = {"type": "linear", "domain": [0, largest if largest > 0 else 1], "range": [0, _DIAMETER**2]}
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


def _front_corners(plot: _Plot) -> list[tuple[float, float]]:
    """The stairs in shown units, from the edge where `y` is worst to the edge where `x` is worst."""
    best = front(plot.drawn, plot.x, plot.y)
    if not best:
        return []
    steps = [(shown["x"], shown["y"]) for shown in map(plot.shown, best)]
    worst_x = plot.x_axis.high if metrics.find(plot.x).better == "lower" else plot.x_axis.low
    worst_y = plot.y_axis.low if metrics.find(plot.y).better == "higher" else plot.y_axis.high
    corners = [(steps[0][0], worst_y), steps[0]]
    for (_, y), (next_x, next_y) in pairwise(steps):
        corners += [(next_x, y), (next_x, next_y)]
    return [*corners, (worst_x, steps[-1][1])]


def _line_corners(plot: _Plot) -> list[tuple[float, float]]:
    """The line in shown units, from left to right, inside the plot."""
    curve = plot.curve
    if plot.line == "front" or curve is None:
        return _front_corners(plot) if plot.line == "front" else []
    across = [plot.x_axis.value(plot.x_axis.length * step / _PIECES) for step in range(_PIECES + 1)]
    corners = [(x, curve.value(x * plot.x_unit.factor) / plot.y_unit.factor) for x in across]
    return [(x, y) for x, y in corners if plot.y_axis.low <= y <= plot.y_axis.high]


def _line_pieces(plot: _Plot) -> list[labels.Segment]:
    corners = [plot.pixel(*corner) for corner in _line_corners(plot)]
    return [labels.Segment(*one, *next_one) for one, next_one in pairwise(corners)]


def _line_layer(plot: _Plot) -> list[dict[str, Any]]:
    corners = [
        {"x": _short(x), "y": _short(y), "order": order, "line": _LINES[plot.line]}
        for order, (x, y) in enumerate(_line_corners(plot))
    ]
    if not corners:
        return []
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
    return [
        labels.Segment(*plot.pixel(row["x"], row["y"]), *plot.pixel(row["x2"], row["y2"]))
        for row in _intervals(plot)
    ]


def _intervals(plot: _Plot) -> list[dict[str, float]]:
    """The 95 % intervals in shown units, as lines."""
    rows = []
    for point in plot.drawn:
        x, y, _ = plot.shown(point).values()
        x_ends = [plot.x_unit.show(end) for end in interval(point, plot.x) if end > 0 or not plot.x_axis.log]
        y_ends = [plot.y_unit.show(end) for end in interval(point, plot.y) if end > 0 or not plot.y_axis.log]
        rows += [{"x": x_ends[0], "x2": x_ends[1], "y": y, "y2": y}] if len(x_ends) == 2 else []
        rows += [{"x": x, "x2": x, "y": y_ends[0], "y2": y_ends[1]}] if len(y_ends) == 2 else []
    return rows


def _interval_layers(plot: _Plot) -> list[dict[str, Any]]:
    rows = _intervals(plot)
    mark = {"type": "rule", "color": style.INK, "strokeWidth": 1.4, "aria": False}
    return [_rules(plot, rows, mark)] if rows else []


def _centre_layer(plot: _Plot) -> dict[str, Any]:
    values = [plot.shown(point) for point in plot.drawn]
    mark = {"type": "point", "filled": True, "color": style.INK, "size": 9, "opacity": 1, "aria": False}
    return {"data": {"values": values}, "mark": mark, "encoding": _at(plot)}


def _label_layers(plot: _Plot, boxes: Sequence[labels.Box]) -> list[dict[str, Any]]:
    texts = [
        {**plot.values(box.left, (box.top + box.bottom) / 2), "model": plot.names[plot.drawn[index].model]}
        for index, box in zip(plot.named, boxes, strict=True)
    ]
    data = {"values": texts}
    encoding = {**_at(plot), "text": {"field": "model"}}
    text = {"type": "text", "align": "left", "baseline": "middle", "fontSize": _LABEL_SIZE, "aria": False}
    halo = {"stroke": "white", "strokeWidth": 3, "strokeJoin": "round", "strokeOpacity": 0.85}
    return [
        *_leader_layer(plot, boxes),
        {"data": data, "mark": {**text, **halo}, "encoding": encoding},
        {"data": data, "mark": {**text, "color": style.INK}, "encoding": encoding},
    ]


def _leader_layer(plot: _Plot, boxes: Sequence[labels.Box]) -> list[dict[str, Any]]:
    ties = [labels.leader(plot.balls[index], box) for index, box in zip(plot.named, boxes, strict=True)]
    rows = []
    for tie in filter(None, ties):
        end = plot.values(tie.x2, tie.y2)
        rows.append({**plot.values(tie.x1, tie.y1), "x2": end["x"], "y2": end["y"]})
    mark = {"type": "rule", "color": style.FAINT, "strokeWidth": 0.8, "aria": False}
    return [_rules(plot, rows, mark)] if rows else []


def _rules(plot: _Plot, rows: list[dict[str, float]], mark: dict[str, Any]) -> dict[str, Any]:
    """Straight lines from x, y to x2, y2."""
    ends = {"x2": {"field": "x2"}, "y2": {"field": "y2"}}
    return {"data": {"values": rows}, "mark": mark, "encoding": {**_at(plot), **ends}}
