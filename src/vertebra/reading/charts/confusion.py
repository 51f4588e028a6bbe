"""The confusion matrix as a picture: a row per true class, a column per predicted class, darker is more
frequent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from vertebra.reading.charts import style
from vertebra.reading.charts.chart import SCHEMA, Chart
from vertebra.reading.names import distinct, short

#: The most classes with which a matrix is readable; of more, those with the most mistakes are drawn.
MOST = 30
#: With up to this many classes, each cell shows its number.
_NUMBERED = 15
_REST = "all others"
#: The most pixels of a line of the title.
_TITLE = 560
_LONGEST = 24


def confusion_chart(
    counts: Mapping[tuple[int, int], int], name_of: Callable[[int], str], *, title: str = "Confusion matrix"
) -> Chart:
    """A heat map of `counts`, images by (true class, predicted class).

    Each row's colours are shares of that row's images, so that rare classes are as readable as common ones.
    Of more than 30 classes, the 30 with the most mistakes are drawn and the others are summed up.
    """
    shown, left_out = _shown(counts)
    cells = _cells(counts, shown)
    labels = _labels([*shown, *([None] if left_out else [])], name_of)
    data = [
        {"truth": labels[truth], "answer": labels[answer], "count": count, "share": count / total}
        for (truth, answer), (count, total) in cells.items()
        if truth is not None
    ]
    order = [labels[index] for index in shown] + ([labels[None]] if left_out else [])
    images = sum(counts.values())
    subtitle = f"{images:,} images; colours are shares of a row"
    if left_out:
        subtitle += f"; the {len(shown)} classes with the most mistakes, the {left_out} others summed up"
    spec = {
        "$schema": SCHEMA,
        "background": "white",
        "padding": 18,
        "width": {"step": 30},
        "height": {"step": 30},
        "description": f"{title}: {images} images of {len(shown) + left_out} classes.",
        "title": {
            "text": style.cut(title, _TITLE, style.CONFIG["title"]["fontSize"]),
            "subtitle": style.subtitle([subtitle.split("; ")], _TITLE),
        },
        "data": {"values": data},
        "encoding": _encoding(order),
        "layer": _layers(len(order) <= _NUMBERED),
        "config": style.CONFIG,
    }
    return Chart(spec, tuple(data))


def _shown(counts: Mapping[tuple[int, int], int]) -> tuple[list[int], int]:
    """The classes that are drawn, in order, and how many are not."""
    mistakes: Counter[int] = Counter()
    for (truth, answer), count in counts.items():
        wrong = count if truth != answer else 0
        mistakes[truth] += wrong
        mistakes[answer] += wrong
    if len(mistakes) <= MOST:
        return sorted(mistakes), 0
    worst = sorted(mistakes, key=lambda index: (-mistakes[index], index))[:MOST]
    return sorted(worst), len(mistakes) - MOST


def _cells(
    counts: Mapping[tuple[int, int], int], shown: list[int]
) -> dict[tuple[int | None, int | None], tuple[int, int]]:
    """The count and the row's total of each cell; None stands for the other classes."""
    drawn = set(shown)
    cells: Counter[tuple[int | None, int | None]] = Counter()
    totals: Counter[int | None] = Counter()
    for (truth, answer), count in counts.items():
        row = truth if truth in drawn else None
        cells[row, answer if answer in drawn else None] += count
        totals[row] += count
    return {cell: (count, totals[cell[0]]) for cell, count in sorted(cells.items(), key=str)}


def _labels(classes: list[int | None], name_of: Callable[[int], str]) -> dict[int | None, str]:
    """A short name for each class, with its number if two names would be equal."""
    cut = {index: _REST if index is None else _cut(name_of(index)) for index in classes}
    times = Counter(cut.values())
    numbered = {index: name if times[name] == 1 else f"{name} {index}" for index, name in cut.items()}
    labels = distinct(numbered.values(), str)
    return {index: labels[name] for index, name in numbered.items()}


def _cut(name: str) -> str:
    first = short(name.partition(",")[0], 5 * _LONGEST)
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"


def _encoding(order: list[str]) -> dict[str, Any]:
    axis = {"grid": False, "labelColor": style.INK, "labelLimit": 200}
    return {
        "y": {"field": "truth", "type": "nominal", "sort": None, "scale": {"domain": order},
              "axis": {**axis, "title": "True class"}},
        "x": {
            "field": "answer", "type": "nominal", "sort": None, "scale": {"domain": order},
            "axis": {**axis, "title": "Predicted class", "labelAngle": -45, "orient": "bottom"},
        },
    }  # fmt: skip


def _layers(numbered: bool) -> list[dict[str, Any]]:
    strength = {
        "field": "share", "type": "quantitative",
        "scale": {"domain": [0, 1], "type": "sqrt", "range": [0.04, 1]},
        "legend": {"title": "Share of the row", "format": "~%", "values": [0, 0.05, 0.25, 0.5, 1],
                   "symbolType": "square", "symbolFillColor": style.CELL, "symbolStrokeColor": style.CELL},
    }  # fmt: skip
    rect = {"type": "rect", "color": style.CELL}
    layers: list[dict[str, Any]] = [{"mark": rect, "encoding": {"fillOpacity": strength}}]
    if numbered:
        ink = {"condition": {"test": "datum.share > 0.3", "value": style.ON_CELL}, "value": style.INK}
        text = {"type": "text", "fontSize": 10, "aria": False}
        layers.append({"mark": text, "encoding": {"text": {"field": "count"}, "color": ink}})
    return layers
