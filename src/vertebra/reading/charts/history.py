"""The history of one network: its latency over dates and versions, with the steps that intervals show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vertebra import units
from vertebra.errors import InvalidInputError
from vertebra.measurements import views
from vertebra.measurements.history import History, Moment, Step
from vertebra.measurements.pooling import version
from vertebra.reading.charts import scales, style
from vertebra.reading.charts.chart import SCHEMA, Chart
from vertebra.reading.charts.points import Point, condition_lines, interval
from vertebra.reading.names import short

METRIC = "latency"
_WIDTH, _HEIGHT = 640, 380
_LABEL_SIZE = 11
#: Pixels between two upright labels; of nearer ones the first is written.
_APART = 14
_STEP = style.COLOURS[1]


def history_chart(found: History, *, title: str | None = None) -> Chart:
    """The moments of `found` with their 95 % intervals, a line for each level; dotted lines are other
    versions, thick ones steps.

    Raises InvalidInputError if there are fewer than two moments.
    """
    if len(found.moments) < 2:
        days = f"of {found.moments[0].day} under one version" if found.moments else "without a date"
        raise InvalidInputError(
            f"All runs are {days}, so there is no history.",
            "measure again, on another day or with another version: vertebra bench",
        )
    points = [Point(one.row.model, {METRIC: one.row}) for one in found.moments]
    title = title or f"Latency of {short(points[0].model)} over time"
    unit = scales.unit_of(METRIC, (point.value(METRIC) for point in points))
    axis = scales.fit(
        [unit.show(point.value(METRIC)) for point in points], [4.0] * len(points), _HEIGHT,
        [unit.show(end) for point in points for end in interval(point, METRIC)],
    )  # fmt: skip
    records = tuple(_records(found))
    spec = {
        "$schema": SCHEMA,
        "background": "white",
        "padding": 18,
        "width": _WIDTH,
        "height": _HEIGHT,
        "description": f"{title}: {_counted(len(points), 'moment')}, {_counted(len(found.steps), 'step')}.",
        "title": {
            "text": style.cut(title, _WIDTH, style.CONFIG["title"]["fontSize"]),
            "subtitle": _subtitle(found, points),
        },
        "layer": _layers(found, records, unit, axis),
        "config": style.CONFIG,
    }
    return Chart(spec, records, notes=tuple(notes(found)))


def notes(found: History) -> list[str]:
    """Each step in a sentence, or that there is none; then what is left out of the levels."""
    told = [_told(step) for step in found.steps]
    if not told:
        told = ["No step: no interval of pooled runs contradicts those before it."]
    told += [
        f"{units.show(one.row.value, 's')} of {one.day} contradicts the others, but is graded "
        f"{one.row.grade or 'not at all'} and stands alone: no step until an independent run agrees."
        for one in found.doubted
    ]
    return told + [why for one in found.moments for why in one.aside]


def _told(step: Step) -> str:
    way, (least, most) = "as slow", step.between
    times = step.times
    if times < 1:
        way, times, least, most = "as fast", 1 / times, 1 / most, 1 / least
    changed = ", ".join(f"{name} {one or 'none'} → {other or 'none'}" for name, (one, other) in _named(step))
    return (
        f"Step between {step.last.day} and {step.at.day}: {_span(step.before)} before, {_span(step.after)} "
        f"after, {times:.3g} times {way} ({least:.3g} to {most:.3g}). "
        + (f"Changed: {changed}." if changed else "No version that the rows state changed.")
    )


def _named(step: Step) -> list[tuple[str, tuple[str | None, str | None]]]:
    """The versions that changed, those of the engine and its driver first."""
    own = {name for name, _ in version(step.at.row) + version(step.last.row)}
    return sorted(step.changed.items(), key=lambda item: (item[0] not in own, item[0]))


def _span(value: Sequence[float]) -> str:
    shown, low, high = (units.show(one, "s") for one in value)
    return f"{shown} ({low} to {high})"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _records(found: History) -> list[dict[str, Any]]:
    """A row for each moment, with the step that it begins."""
    steps = {id(step.at): step for step in found.steps}
    doubted = set(map(id, found.doubted))
    rows = []
    for one in found.moments:
        step = steps.get(id(one))
        point = Point(one.row.model, {METRIC: one.row}).record()
        first = {
            "model": point.pop("model"), "measured_at": one.row.measured_at,
            "versions": _versions(one), "runs": len(one.runs),
        }  # fmt: skip
        point.pop("family")
        rows.append({
            **first, **point,
            "step": None if step is None else step.times,
            "step_low": None if step is None else step.between[0],
            "step_high": None if step is None else step.between[1],
            "changed": None if step is None else ", ".join(
                f"{name} {old or 'none'} → {new or 'none'}" for name, (old, new) in _named(step)
            ),
            "doubted": id(one) in doubted,
        })  # fmt: skip
    return rows


def _versions(one: Moment) -> str:
    return ", ".join(f"{name} {number}" for name, number in version(one.row))


def _subtitle(found: History, points: Sequence[Point]) -> list[str]:
    [parts] = condition_lines(points, (METRIC,))
    parts += ["bars: 95 % intervals, of pooled runs", "dotted: another version", "thick: a step"]
    parts += ["hollow: grade C, not reliable"] if any(point.hollow for point in points) else []
    return style.subtitle([parts], _WIDTH + 60)


# ------------------------------------------------------------------ layers


def _layers(
    found: History, records: Sequence[Mapping[str, Any]], unit: scales.Unit, axis: scales.Axis
) -> list[dict[str, Any]]:
    starts = [id(step.at) for step in found.steps]
    doubted = set(map(id, found.doubted))
    level, data = 0, []
    for one, row in zip(found.moments, records, strict=True):
        level += id(one) in starts
        data.append({**_datum(one, row, unit), "level": -1 if id(one) in doubted else level})
    at = {"x": _across(found), "y": _up(unit, axis)}
    inked = {"aria": False, "color": style.INK, "strokeWidth": 1.2}
    hollow = {"condition": {"test": "datum.hollow", "value": "white"}, "value": style.COLOURS[0]}
    return [
        {
            "data": {"values": _version_marks(found)},
            "mark": {"type": "rule", "aria": False, "color": style.FAINT, "strokeDash": [2, 3]},
            "encoding": {"x": at["x"]},
        },
        *_version_labels(found, unit, axis, at["x"]),
        {
            "data": {"values": _step_marks(found)},
            "mark": {"type": "rule", "aria": False, "color": _STEP, "strokeWidth": 3},
            "encoding": {"x": at["x"]},
        },
        _upright(_step_marks(found), at["x"], _STEP, "right", {"value": 6}),
        {
            "data": {"values": [row for row in data if row["level"] >= 0]},
            "mark": {"type": "line", "aria": False, "color": style.COLOURS[0], "strokeWidth": 1.6},
            "encoding": {**at, "detail": {"field": "level"}},
        },
        {
            "data": {"values": [row for row in data if "low" in row]},
            "mark": {"type": "rule", **inked},
            "encoding": {**at, "y": {**at["y"], "field": "low"}, "y2": {"field": "high"}},
        },
        {
            "data": {"values": data},
            "mark": {"type": "point", "shape": "circle", "size": 48, "strokeWidth": 1.6, "filled": False,
                     "stroke": style.COLOURS[0]},
            "encoding": {**at, "fill": hollow, "description": {"field": "description"}},
        },
    ]  # fmt: skip


def _datum(one: Moment, row: Mapping[str, Any], unit: scales.Unit) -> dict[str, Any]:
    ends = [unit.show(end) for end in interval(Point(one.row.model, {METRIC: one.row}), METRIC)]
    shown = units.show(one.row.value, "s")
    return {
        "x": _millisecond(one),
        "y": unit.show(one.row.value),
        **(dict(zip(("low", "high"), ends, strict=True)) if ends else {}),
        "hollow": one.row.grade == "C",
        "description": f"{one.day}, {row['versions'] or 'version not stated'}: {shown}",
    }


def _millisecond(one: Moment) -> float:
    return views.moment_of(one.row) * 1000


def _version_marks(found: History) -> list[dict[str, Any]]:
    """Where a moment's version isn't that of the one before it."""
    marks = []
    for before, one in zip((None, *found.moments), found.moments, strict=False):
        if before is None or version(before.row) != version(one.row):
            marks.append({"x": _millisecond(one), "text": _versions(one) or "version not stated"})
    return marks


def _version_labels(
    found: History, unit: scales.Unit, axis: scales.Axis, x: dict[str, Any]
) -> list[dict[str, Any]]:
    """The versions' names at the end of their lines that is further from the point."""
    values = {_millisecond(one): unit.show(one.row.value) for one in found.moments}
    marks = _version_marks(found)
    up = [mark for mark in marks if axis.position(values[mark["x"]]) < _HEIGHT / 2]
    down = [mark for mark in marks if mark not in up]
    return [
        _upright(up, x, style.FAINT, "right", {"value": 6}),
        _upright(down, x, style.FAINT, "left", {"value": _HEIGHT - 6}),
    ]


def _step_marks(found: History) -> list[dict[str, Any]]:
    """Between the last moment before a step and the first after it, since the rows can't tell when it was."""
    return [
        {"x": (_millisecond(step.last) + _millisecond(step.at)) / 2, "text": f"× {step.times:.3g}"}
        for step in found.steps
    ]


def _upright(
    marks: Sequence[Mapping[str, Any]], x: dict[str, Any], colour: str, align: str, y: dict[str, Any]
) -> dict[str, Any]:
    """Labels beside the marks' lines, without those that would lie on another one."""
    low, high = x["scale"]["domain"]
    kept: list[dict[str, Any]] = []
    for mark in marks:
        place = (mark["x"] - low) / (high - low) * _WIDTH
        if not kept or place - kept[-1]["place"] >= _APART:
            text = style.cut(mark["text"], _HEIGHT / 2 - 12, _LABEL_SIZE)
            kept.append({"x": mark["x"], "text": text, "place": place})
    mark = {"type": "text", "angle": 270, "align": align, "baseline": "bottom", "fontSize": _LABEL_SIZE,
            "dx": 0, "dy": -3, "color": colour, "aria": False}  # fmt: skip
    values = [{"x": one["x"], "text": one["text"]} for one in kept]
    return {"data": {"values": values}, "mark": mark, "encoding": {"x": x, "y": y, "text": {"field": "text"}}}


def _across(found: History) -> dict[str, Any]:
    first, last = _millisecond(found.moments[0]), _millisecond(found.moments[-1])
    margin = max((last - first) * 0.04, 1000.0)
    return {
        "field": "x",
        "type": "temporal",
        "scale": {"type": "utc", "domain": [first - margin, last + margin], "nice": False},
        "axis": {"title": "Date (UTC)", "grid": False, "labelOverlap": True, "tickCount": 7},
    }


def _up(unit: scales.Unit, axis: scales.Axis) -> dict[str, Any]:
    scale = {"type": "log" if axis.log else "linear", "domain": [axis.low, axis.high], "nice": False,
             "zero": False}  # fmt: skip
    ticks = {"title": scales.title_of(METRIC, unit, axis.log), "values": axis.ticks(), "format": "~r"}
    return {"field": "y", "type": "quantitative", "scale": scale, "axis": ticks}
