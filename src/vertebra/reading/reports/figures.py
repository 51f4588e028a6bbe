"""The charts of the page, each with a table of its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vertebra import metrics, units
from vertebra.errors import InvalidInputError
from vertebra.measurements import WideRow
from vertebra.reading import charts
from vertebra.reading.charts import Chart
from vertebra.reading.reports.markup import Cell, Column, Html, details, section, table, tag, text
from vertebra.reading.reports.networks import Form, differing
from vertebra.reading.reports.pictures import picture

#: Charts of latency on one page; more would make it slow to open.
_MOST = 4


def charts_section(rows: Sequence[WideRow], measured: Sequence[Form]) -> Html:
    """Accuracy against latency in each measured form, against operations, and accuracy density: the first in
    sight, the others folded.

    Raises MissingRuntimeError if vl-convert isn't installed.
    """
    varying = differing(measured)
    ordered = sorted(
        measured, key=lambda form: (form.conditions.get("batch_size", 1), -len(form.rows), _pace(form))
    )
    drawn = [_of_latency(form, varying) for form in ordered[:_MOST]]
    drawn.append(_drawn(lambda: charts.ball_chart(rows), "operations", "top1", "params"))
    drawn.append(_drawn(lambda: _densest(rows), "accuracy_density"))
    if len(measured) > _MOST:
        rest = "; ".join(form.label(varying) for form in ordered[_MOST:])
        drawn.append(tag("p", f"Not drawn here, but in the table of networks: {rest}."))
    first, *others = drawn
    folded = details(f"{len(others)} more charts: the other forms, operations, accuracy density", *others)
    return section("charts", "Accuracy and what it costs", tag("p", _HOW_TO_READ), first, tag("div", folded))


def _pace(form: Form) -> float:
    """Less is faster, over all networks of the form."""
    return sum(row.figures["latency"].value for row in form.rows)


_HOW_TO_READ = (
    "Each ball is a network, and its area is the number of parameters. Higher is more accurate, further left "
    "is cheaper. The dashed steps are the Pareto front: for every network that is not on it, another one is "
    "at least as accurate and costs no more."
)


#: The most bars of one chart.
_MOST_BARS = 40


def _densest(rows: Sequence[WideRow]) -> Chart:
    """Accuracy density of all networks, or of the best ones if they are many."""
    known = {row.model: row for row in rows if "accuracy_density" in row.figures}
    best = sorted(known.values(), key=lambda row: -row.figures["accuracy_density"].value)[:_MOST_BARS]
    few = len(best) < len(known)
    title = f"Accuracy density: the {_MOST_BARS} best of {len(known)} networks" if few else None
    return charts.bar_chart(best if few else rows, metric="accuracy_density", title=title)


def _of_latency(form: Form, varying: Sequence[str]) -> Html:
    title = f"Top-1 accuracy against latency: {form.label(varying)}"
    return _drawn(lambda: charts.ball_chart(form.rows, x="latency", title=title), "latency", "top1", "params")


def _drawn(draw: Callable[[], Chart], *asked: str) -> Html:
    """The chart with its table, or the reason why there is none."""
    try:
        chart = draw()
    except InvalidInputError as error:
        labels = " and ".join(metrics.find(metric).label for metric in asked)
        return tag("p", f"No chart of {labels}: {error.message}", class_="note")
    return tag(
        "figure",
        tag("div", picture(chart), class_="card", tabindex=0, role="group", aria_label="Chart"),
        _table(chart, asked),
    )


def _table(chart: Chart, asked: Sequence[str]) -> Html:
    columns = [Column("Network", number=False), *(Column(_heading(metric)) for metric in asked)]
    columns += [Column("Pareto front", number=False)] if "on_front" in chart.data()[0] else []
    caption = str(chart.spec["title"]["text"])
    body = [_row(row, asked) for row in chart.data()]
    return details("The figures of this chart", table(caption, columns, body))


def _heading(metric: str) -> str:
    label = metrics.find(metric).label
    return label[:1].upper() + label[1:]


def _row(row: Mapping[str, Any], asked: Sequence[str]) -> list[Cell]:
    cells = [text(row["model"])]
    cells += [Cell(units.show(row[metric], metrics.find(metric).unit), row[metric]) for metric in asked]
    return cells + ([text("yes" if row["on_front"] else "")] if "on_front" in row else [])
