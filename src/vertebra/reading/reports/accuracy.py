"""One evaluation as a page: the figures, the confusion matrix, the classes and the worst mistakes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files

from vertebra import metrics, units
from vertebra._version import __version__
from vertebra.measurements import Measurement
from vertebra.measuring.evaluation import ClassResult, Evaluation, Mistake
from vertebra.reading.charts import Chart
from vertebra.reading.reports.markup import (
    Cell,
    Column,
    Html,
    details,
    items,
    joined,
    section,
    table,
    tag,
    text,
)
from vertebra.reading.reports.pictures import picture

_STYLE = """
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1.2rem; }
.sheet figure { margin: 0; } .sheet img { display: block; max-width: 100%; image-rendering: auto; }
.sheet figcaption { font-size: .85rem; overflow-wrap: anywhere; }
"""


def html(
    model: str,
    evaluation: Evaluation,
    rows: Sequence[Measurement],
    confusion: Chart,
    mistakes: Sequence[tuple[Mistake, bytes]],
    conditions: Mapping[str, str | None],
) -> str:
    """The page; `mistakes` have their small JPEGs with them. Raises MissingRuntimeError without
    vl-convert."""
    title = f"{model} on {evaluation.dataset}"
    body = joined([
        tag("header", tag("h1", title), tag("p", _summary(evaluation), class_="summary")),
        tag("main", _figures(evaluation, rows, conditions), _confusion(confusion),
            _classes(evaluation), _mistakes(evaluation, mistakes), _unreadable(evaluation)),
    ])  # fmt: skip
    return page(title, body, _STYLE)


def page(title: str, body: str, styles: str = "") -> str:
    """A page of this `body`, with the styles and scripts that all pages have."""
    head = joined([
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(_asset("page.css") + styles)),
    ])  # fmt: skip
    footer = tag("footer", tag("p", f"Made by vertebra {__version__}."))
    script = tag("script", Html(_asset("page.js")))
    whole = f"<head>{head}</head>\n<body>{body}{footer}{script}</body>"
    return f'<!DOCTYPE html>\n<html lang="en">\n{whole}\n</html>\n'


def _asset(name: str) -> str:
    return files("vertebra.reading.reports").joinpath(name).read_text(encoding="utf-8")


def _summary(evaluation: Evaluation) -> str:
    low, high = evaluation.top1.interval
    shown = [units.show(value, "fraction") for value in (evaluation.top1.value, low, high)]
    return (
        f"Top-1 accuracy {shown[0]} ({shown[1]} to {shown[2]}, 95 % interval) "
        f"over {evaluation.total:,} images, split {evaluation.split}."
    )


def _figures(
    evaluation: Evaluation, rows: Sequence[Measurement], conditions: Mapping[str, str | None]
) -> Html:
    entries = []
    for row in rows:
        metric = metrics.find(row.metric)
        shown = units.show(row.value, metric.unit)
        if row.low is not None and row.high is not None:
            shown += f" ({units.show(row.low, metric.unit)} to {units.show(row.high, metric.unit)})"
        entries += [tag("dt", metric.label[:1].upper() + metric.label[1:]), tag("dd", shown)]
    conditions = {**conditions, "preprocessing": rows[0].protocol, "precision": rows[0].precision}
    for name, value in conditions.items():
        if value:
            entries += [tag("dt", name.capitalize()), tag("dd", value)]
    return section("figures", "Figures", tag("dl", *entries, class_="facts"))


def _confusion(chart: Chart) -> Html:
    return section(
        "confusion",
        "Confusion matrix",
        tag(
            "p",
            "Each row is a true class, each column a predicted class; off the diagonal are the mistakes.",
        ),
        tag(
            "figure", tag("div", picture(chart), class_="card", tabindex=0, role="group", aria_label="Chart")
        ),
    )


#: A share of fewer images than this says little, so right answers are counted instead.
_FEW = 10


def _classes(evaluation: Evaluation) -> Html:
    found = evaluation.classes()
    counted = all(one.images < _FEW for one in found)
    columns = [
        Column("Class", number=False), Column("Images"), Column("Right" if counted else "Top-1"),
        *([] if counted else [Column("from"), Column("to")]),
        *([Column("In the top 5" if counted else "Top-5")] if evaluation.top5 is not None else []),
        *([] if counted else [Column("Precision")]), Column("Most often confused with", number=False),
    ]  # fmt: skip
    worst_first = sorted(found, key=lambda one: (one.recall, one.index))
    body = [_class(evaluation, one, counted) for one in worst_first]
    few = sum(one.images < _FEW for one in found)
    note = (
        f"A class with fewer than {_FEW} images has its right answers counted, as a share would say little."
    )
    return section(
        "classes", "Class by class", *([tag("p", note)] if few else []),
        table("The classes, the worst first", columns, body),
    )  # fmt: skip


def _class(evaluation: Evaluation, one: ClassResult, counted: bool) -> list[Cell]:
    few = one.images < _FEW
    cells = [text(one.name), Cell(str(one.images), one.images)]
    cells.append(_of(one.right, one.images) if few else _share(one.recall))
    if not counted:
        cells += [Cell(""), Cell("")] if few else map(_share, evaluation.interval_of(one))
    if evaluation.top5 is not None:
        cells.append(_of(one.top5, one.images) if few else _share(one.top5 / one.images))
    if not counted:
        cells.append(_of(one.right, one.answers) if few else _share(one.precision))
    return [*cells, text(one.confused_with)]


def _of(right: int, images: int) -> Cell:
    return Cell(f"{right} of {images}", right / images) if images else Cell("")


def _share(value: float | None) -> Cell:
    return text(None) if value is None else Cell(units.show(value, "fraction"), value)


def _mistakes(evaluation: Evaluation, mistakes: Sequence[tuple[Mistake, bytes]]) -> Html:
    if not mistakes:
        return Html("")
    shown = [_mistake(evaluation, one, jpeg) for one, jpeg in mistakes]
    text = "Wrong answers with the highest confidence. Some may be mistakes in the labels."
    return section("mistakes", "The worst mistakes", tag("p", text), tag("div", *shown, class_="sheet"))


def _mistake(evaluation: Evaluation, one: Mistake, jpeg: bytes) -> Html:
    data = base64.b64encode(jpeg).decode()
    picture = tag("img", src=f"data:image/jpeg;base64,{data}", alt=one.name)
    answer, truth = evaluation.name_of(one.predicted), evaluation.name_of(one.truth)
    caption = (
        f"{answer} ({units.show(one.confidence, 'fraction')}); "
        f"true class: {truth} ({units.show(one.share, 'fraction')})"
    )
    return tag("figure", picture, tag("figcaption", caption, tag("small", f" {one.name}")))


def _unreadable(evaluation: Evaluation) -> Html:
    if not evaluation.num_unreadable:
        return Html("")
    named = items(f"{name}: {reason}" for name, reason in evaluation.unreadable)
    text = f"{evaluation.num_unreadable} images couldn't be read and are not counted."
    return section("unreadable", "Unreadable images", tag("p", text), details("Which ones", named))
