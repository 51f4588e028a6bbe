"""The curves of a training: loss, accuracy and rate over its epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vertebra.reading.charts import style
from vertebra.reading.charts.chart import SCHEMA, Chart

_WIDTH, _HEIGHT, _LOW = 640, 200, 90
#: Points of a curve that are drawn; of more, as many means of neighbours.
_MOST = 400
#: What a curve is called -> its colour.
_COLOURS = dict(
    zip(("training", "raw weights", "averaged weights"), (style.OTHER, *style.COLOURS[:2]), strict=True)
)


def curves_chart(
    log: Iterable[Mapping[str, Any]], steps_per_epoch: int, *, title: str, notes: Sequence[str] = ()
) -> Chart:
    """Loss, top-1 accuracy (of the training's own pictures where it is known, and of each evaluation) and the
    rate, over the epochs of a run's `log`."""
    rows = curves(log, steps_per_epoch)
    panels = [("loss", "Loss", None, _HEIGHT), ("top1", "Top-1 accuracy", "~%", _HEIGHT),
              ("rate", "Rate", "~g", _LOW)]  # fmt: skip
    spec = {
        "$schema": SCHEMA,
        "background": "white",
        "padding": 18,
        "description": f"{title}: loss, accuracy and rate of each epoch.",
        "title": {
            "text": style.cut(title, _WIDTH, style.CONFIG["title"]["fontSize"]),
            "subtitle": style.subtitle([notes], _WIDTH),
        },
        "vconcat": [
            _panel([row for row in rows if row["metric"] == metric], label, form, height)
            for metric, label, form, height in panels
        ],
        "config": style.CONFIG,
    }
    return Chart(spec, tuple(rows))


def curves(log: Iterable[Mapping[str, Any]], steps_per_epoch: int) -> list[dict[str, Any]]:
    """The points of all curves: `metric`, `of` (what it is of), `epoch` (with its part) and `value`."""
    rows: list[dict[str, Any]] = []
    for line in log:
        at = line.get("step", 0) / max(1, steps_per_epoch)
        if line.get("kind") == "step":
            for metric in ("loss", "top1", "rate"):
                if line.get(metric) is not None:
                    rows.append({"metric": metric, "of": "training", "epoch": at, "value": line[metric]})
        elif line.get("kind") == "epoch":
            for one in line.get("evaluated", ()):
                name = f"{one['weights']} weights"
                rows.append({"metric": "top1", "of": name, "epoch": at, "value": one["top1"]})
    return rows


def _panel(rows: Sequence[Mapping[str, Any]], label: str, form: str | None, height: int) -> dict[str, Any]:
    drawn = [point for name in _COLOURS for point in _thinned([row for row in rows if row["of"] == name])]
    there = [name for name in _COLOURS if any(row["of"] == name for row in rows)]
    colour: dict[str, Any] = {
        "field": "of", "type": "nominal",
        "scale": {"domain": there, "range": [_COLOURS[name] for name in there]},
        "legend": {"title": None} if len(there) > 1 else None,
    }  # fmt: skip
    axis = {"title": label, **({"format": form} if form else {}), "tickCount": 5}
    return {
        "width": _WIDTH,
        "height": height,
        "data": {"values": drawn},
        "mark": {"type": "line", "strokeWidth": 1.6, "aria": False, "point": len(drawn) <= 60},
        "encoding": {
            "x": {"field": "epoch", "type": "quantitative", "axis": {"title": "Epoch", "grid": False},
                  "scale": {"nice": False}},
            "y": {"field": "value", "type": "quantitative", "axis": axis, "scale": {"zero": False}},
            "color": colour,
        },
        "resolve": {"scale": {"color": "independent"}},
    }  # fmt: skip


def _thinned(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    size = -(-len(rows) // _MOST)
    return [
        {**rows[start], "epoch": _mean(part, "epoch"), "value": _mean(part, "value")}
        for start in range(0, len(rows), max(1, size))
        for part in [rows[start : start + size]]
    ]


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(float(row[name]) for row in rows) / len(rows)
