"""The grid of the best networks: a row per class of memory, a column per class of speed, the best few in each
cell.

As in Bianco et al. (2018), Table 3, whose classes are the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vertebra import metrics, units
from vertebra.errors import InvalidInputError
from vertebra.measurements import WideRow
from vertebra.reading.charts import style
from vertebra.reading.charts.chart import SCHEMA, Chart
from vertebra.reading.charts.points import is_drawable
from vertebra.reading.choice.rule import Limit, doubt, refuse_mixed_loads
from vertebra.reading.names import short

#: The classes of the paper.
MEMORY_CLASSES = (0.7e9, 1.0e9, 1.4e9)
FPS_CLASSES = (15.0, 30.0, 60.0)
BEST = 5

_COLUMN = 300
_LONGEST = 34
#: The most networks without a place in a cell of the picture.
_MOST_BRACKETED = 3
_LINE = 17


@dataclass(frozen=True)
class Entry:
    """A network in a cell: its `place`, or None if it is borderline or doubted, with the reasons."""

    row: WideRow
    place: int | None
    reasons: tuple[str, ...] = ()
    verdict: Literal["met", "borderline", "doubted"] = "met"


@dataclass(frozen=True)
class Cell:
    """One pair of classes, its `limits`, and its networks, best first, including borderline ones."""

    limits: tuple[Limit, ...]
    entries: tuple[Entry, ...]


def grid(
    rows: Iterable[WideRow],
    *,
    memory_classes: Sequence[float] | None = None,
    fps_classes: Sequence[float] | None = None,
    best: int = BEST,
    objective: str = "top1",
    least_grade: str | None = None,
) -> list[Cell]:
    """The `best` networks by `objective` that certainly meet each pair of classes, row by row of the grid.

    Classes are peak memory in bytes, at most, and images per second at batch size 1, at least; by default
    those of the paper, or round ones from the rows where the paper's would give two equal rows or columns. A
    network
    gets no place if a bound lies within its interval, or if a figure has a grade worse than `least_grade`;
    it is listed where it would have had one. Raises InvalidInputError if the rows are of different loads, or
    no network has all of `objective`, speed and memory.
    """
    rows = list(rows)
    memory_classes = classes(rows, "memory_total") if memory_classes is None else memory_classes
    fps_classes = classes(rows, "fps") if fps_classes is None else fps_classes
    if not memory_classes or not fps_classes or min(*memory_classes, *fps_classes, best) <= 0:
        raise InvalidInputError(
            "A grid needs classes and a number of networks above 0.",
            "for example: --memory-classes 700MB,1GB --fps-classes 15,30",
        )
    asked = (objective, "fps", "memory_total")
    known = [row for row in rows if all(metric in row.figures for metric in asked)]
    if not known:
        labels = ", ".join(metrics.find(metric).label for metric in asked)
        raise InvalidInputError(
            f"No network has all of these: {labels}.", "fill the table with: vertebra survey"
        )
    refuse_mixed_loads(known)
    return [
        _cell(known, (Limit("memory_total", memory), Limit("fps", fps)), best, objective, least_grade)
        for memory in sorted(memory_classes)
        for fps in sorted(fps_classes)
    ]


#: The paper's classes, and how many of them must hold other networks than the next to be kept: rates of video
#: are known to people, sizes of memory are only round.
_USUAL = {"memory_total": (MEMORY_CLASSES, 3), "fps": (FPS_CLASSES, 2)}


def classes(rows: Iterable[WideRow], metric: str) -> tuple[float, ...]:
    """Three classes of peak memory or of frames per second: the paper's if they divide the networks of
    `rows`,
    else round ones near the thirds of their figures."""
    values = {row.model: row.figures[metric].value for row in rows if metric in row.figures}
    figures = sorted(value for value in values.values() if is_drawable(value, True))
    (usual, least), is_ceiling = _USUAL[metric], metrics.find(metric).better == "lower"
    if len(set(figures)) < 3 or _groups(figures, usual, is_ceiling) >= least:
        return usual
    count = len(figures)
    ends = [-(-count * share // 3) for share in (1, 2, 3)]  # rounded up
    thirds = [figures[end - 1] if is_ceiling else figures[count - end] for end in ends]
    for digits in range(1, 7):
        found = tuple(sorted(_round(value, digits, is_ceiling) for value in thirds))
        if _groups(figures, found, is_ceiling) == len(found):
            return found
    return usual


def _groups(figures: Sequence[float], bounds: Sequence[float], is_ceiling: bool) -> int:
    """How many different groups of figures meet the bounds, without the empty one."""
    met = (sum(value <= bound if is_ceiling else value >= bound for value in figures) for bound in bounds)
    return len(set(met) - {0})


def _round(value: float, digits: int, upwards: bool) -> float:
    """`value` in so many digits, away from the side on which figures meet a bound of it."""
    exponent = math.floor(math.log10(value)) - digits + 1
    steps = value / 10.0**exponent
    return float(f"{math.ceil(steps) if upwards else math.floor(steps)}e{exponent}")


def _cell(
    known: Sequence[WideRow], limits: tuple[Limit, ...], best: int, objective: str, least_grade: str | None
) -> Cell:
    nearest: dict[str, Entry] = {}
    for row in sorted(known, key=lambda row: _merit(row, objective)):
        entry = _entry(row, limits, objective, least_grade)
        before = nearest.get(row.model)
        if entry is not None and (before is None or (before.place is None and entry.place is not None)):
            nearest[row.model] = entry
    kept: list[Entry] = []
    placed = 0
    for entry in sorted(nearest.values(), key=lambda entry: _merit(entry.row, objective)):
        if placed == best:
            break
        placed += entry.place is not None
        kept.append(Entry(entry.row, placed) if entry.place is not None else entry)
    return Cell(limits, tuple(kept))


def _merit(row: WideRow, objective: str) -> tuple[float, float, str]:
    value, latency = row.figures[objective].value, row.value("latency")
    signed = -value if metrics.find(objective).better == "higher" else value
    return signed, float("inf") if latency is None else latency, row.model


def _entry(row: WideRow, limits: Sequence[Limit], objective: str, least_grade: str | None) -> Entry | None:
    """A row's entry, its place not yet known; None if it breaks a limit."""
    verdicts = [(limit, limit.verdict(row)) for limit in limits]
    if any(verdict in ("broken", "unknown") for _, verdict in verdicts):
        return None
    reasons = [limit.reason(row) for limit, verdict in verdicts if verdict == "borderline"]
    near = bool(reasons)
    for metric in (objective, *(limit.metric for limit in limits)):
        figure = row.figures[metric]
        if doubt(figure, least_grade) is not None:
            reasons.append(f"{metrics.find(metric).label} is graded {figure.grade}")
    if not reasons:
        return Entry(row, 0)
    return Entry(row, None, tuple(reasons), "borderline" if near else "doubted")


def grid_chart(
    given: Sequence[Cell], *, best: int = BEST, objective: str = "top1", title: str | None = None
) -> Chart:
    """`grid`'s cells as a picture and a table; borderline and doubted networks are in brackets, without a
    place, in the picture below the others. `best` and `objective` are those that the cells were made with."""
    title = (
        title
        or f"The {best} best networks by {metrics.find(objective).label} under limits of memory and speed"
    )
    cells = [_for_picture(cell) for cell in given]
    lines = max((len(cell.entries) for cell in cells), default=0) + 1
    rows_order = list(dict.fromkeys(str(cell.limits[0]) for cell in cells))
    columns_order = list(dict.fromkeys(str(cell.limits[1]) for cell in cells))
    encoding = {
        "y": _axis("memory", rows_order, {"labelLimit": 300}),
        "x": _axis("speed", columns_order, {"orient": "top", "labelAngle": 0, "labelLimit": _COLUMN}),
    }
    spec = {
        "$schema": SCHEMA,
        "background": "white",
        "padding": 18,
        "width": {"step": _COLUMN},
        "height": {"step": lines * _LINE + 12},
        "description": f"{title}: {len(cells)} cells.",
        "title": {"text": title, "subtitle": _subtitle(cells)},
        "encoding": encoding,
        "layer": _layers(cells, objective, lines),
        "config": style.CONFIG,
    }
    return Chart(spec, tuple(_records(given, objective)))


def _for_picture(cell: Cell) -> Cell:
    """The cell with what has a place first, and of the others as many as there are places at most."""
    placed = [entry for entry in cell.entries if entry.place is not None]
    others = [entry for entry in cell.entries if entry.place is None]
    return Cell(cell.limits, tuple([*placed, *others[:_MOST_BRACKETED]]))


def _axis(field: str, order: Sequence[str], more: dict[str, Any]) -> dict[str, Any]:
    axis = {"title": None, "grid": False, "labelColor": style.INK, "labelFontWeight": "bold", **more}
    scale = {"paddingInner": 0.03, "paddingOuter": 0.02}
    return {"field": field, "type": "nominal", "sort": list(order), "axis": axis, "scale": scale}


def _subtitle(cells: Sequence[Cell]) -> list[str]:
    rows = [entry.row for cell in cells for entry in cell.entries]
    if not rows:
        return ["No network meets any of the classes"]
    fixed = [
        f"{name.replace('_', ' ')} {value}" for name in ("system", "device", "engine", "precision", "threads")
        if len({row.conditions.get(name) for row in rows}) == 1
        and (value := rows[0].conditions.get(name)) is not None
    ]  # fmt: skip
    near = any(entry.place is None for cell in cells for entry in cell.entries)
    parts = ["batch size 1", *fixed]
    parts += ["in brackets: borderline, or of a grade that is not trusted"] if near else []
    parts += ["~: estimated"] if any(_is_estimated(row) for row in rows) else []
    return style.subtitle([parts], 3 * _COLUMN)


def _is_estimated(row: WideRow) -> bool:
    return any(row.figures[name].origin == "estimated" for name in ("fps", "memory_total"))


def _line(entry: Entry, objective: str) -> str:
    shown = units.show(entry.row.figures[objective].value, metrics.find(objective).unit)
    text = f"{short(entry.row.model, _LONGEST)} {shown}{' ~' if _is_estimated(entry.row) else ''}"
    return f"({text})" if entry.place is None else f"{entry.place}. {text}"


def _layers(cells: Sequence[Cell], objective: str, lines: int) -> list[dict[str, Any]]:
    back = [
        {"memory": str(cell.limits[0]), "speed": str(cell.limits[1]),
         "met": any(entry.place is not None for entry in cell.entries)}
        for cell in cells
    ]  # fmt: skip
    fill = {"condition": {"test": "datum.met", "value": style.GRID}, "value": "white"}
    rect = {"type": "rect", "stroke": style.GRID, "strokeWidth": 1.5, "aria": False}
    layers: list[dict[str, Any]] = [{"data": {"values": back}, "mark": rect, "encoding": {"fill": fill}}]
    for index in range(lines - 1):
        values = [
            {
                **where,
                "text": _line(cell.entries[index], objective),
                "near": cell.entries[index].place is None,
            }
            for where, cell in zip(back, cells, strict=True)
            if index < len(cell.entries)
        ]
        ink = {"condition": {"test": "datum.near", "value": style.FAINT}, "value": style.INK}
        mark = {"type": "text", "fontSize": 12, "align": "left", "dx": -_COLUMN / 2 + 14,
                "dy": (index - (lines - 2) / 2) * _LINE}  # fmt: skip
        layers.append(
            {"data": {"values": values}, "mark": mark, "encoding": {"text": {"field": "text"}, "color": ink}}
        )
    return layers


def _records(cells: Sequence[Cell], objective: str) -> list[dict[str, Any]]:
    """One record per network and cell, values in base units; an empty cell is a record without a network."""
    records: list[dict[str, Any]] = []
    for cell in cells:
        where = {f"{limit.metric}_limit": limit.bound for limit in cell.limits}
        records += [
            {**where, "place": entry.place, "model": entry.row.model, **_figures(entry.row, objective),
             "verdict": entry.verdict,
             "reasons": "; ".join(entry.reasons)}
            for entry in cell.entries
        ] or [{**where, "verdict": "none"}]  # fmt: skip
    return records


def _figures(row: WideRow, objective: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"engine": row.conditions.get("engine")}
    for metric in (objective, "fps", "memory_total"):
        figure = row.figures[metric]
        fields[metric] = figure.value
        asides = {"low": figure.low, "high": figure.high, "grade": figure.grade, "origin": figure.origin}
        fields.update({f"{metric}_{name}": value for name, value in asides.items() if value is not None})
    return fields
