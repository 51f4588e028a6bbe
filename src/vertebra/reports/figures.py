"""The charts of the page, each with the table behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vertebra import charts, metrics, units
from vertebra.charts import Chart
from vertebra.errors import InvalidInputError
from vertebra.measurements import WideRow
from vertebra.reports.markup import Cell, Column, Html, details, section, table, tag, text
from vertebra.reports.networks import Form, telling

#: Charts of latency on one page; the rest would make it slow to open.
_MOST = 4


def charts_section(rows: Sequence[WideRow], measured: Sequence[Form]) -> Html:
    """Accuracy against operations, against latency in each measured form, and accuracy density.

    Raises MissingRuntimeError where vl-convert isn't installed.
    """
    drawn = [_drawn(lambda: charts.ball_chart(rows), "operations", "top1", "params")]
    apart = telling(measured)
    drawn += [_of_latency(form, apart) for form in measured[:_MOST]]
    drawn.append(_drawn(lambda: charts.bar_chart(rows, metric="accuracy_density"), "accuracy_density"))
    if len(measured) > _MOST:
        rest = "; ".join(form.label(apart) for form in measured[_MOST:])
        drawn.append(tag("p", f"Not drawn here, but in the table of networks: {rest}."))
    return section("charts", "Accuracy and what it costs", tag("p", _HOW_TO_READ), *drawn)


_HOW_TO_READ = (
    "Each ball is a network, its area the number of parameters. Up is more accurate, left is cheaper. "
    "Networks on the dashed stairs are beaten by none in both; for each of the others there is one that is "
    "at least as accurate and costs no more."
)


def _of_latency(form: Form, apart: Sequence[str]) -> Html:
    title = f"Top-1 accuracy against latency: {form.label(apart)}"
    return _drawn(lambda: charts.ball_chart(form.rows, x="latency", title=title), "latency", "top1", "params")


def _drawn(draw: Callable[[], Chart], *asked: str) -> Html:
    """The chart with its table, or why there is none."""
    try:
        chart = draw()
    except InvalidInputError as error:
        labels = " and ".join(metrics.find(metric).label for metric in asked)
        return tag("p", f"No chart of {labels}: {error.message}", class_="note")
    description = str(chart.spec["description"])
    svg = Html(chart.svg().replace("<svg ", f"<svg {_named(description)} ", 1))
    return tag("figure", tag("div", svg, class_="card"), _behind(chart, asked))


def _named(description: str) -> str:
    """The attributes that name an image."""
    return str(tag("i", role="img", aria_label=description)).removeprefix("<i ").removesuffix("></i>")


def _behind(chart: Chart, asked: Sequence[str]) -> Html:
    columns = [Column("Network", number=False), *(Column(_heading(metric)) for metric in asked)]
    columns += [Column("Pareto front", number=False)] if "on_front" in chart.data()[0] else []
    caption = str(chart.spec["title"]["text"])
    body = [_row(row, asked) for row in chart.data()]
    return details("The figures behind this chart", table(caption, columns, body))


def _heading(metric: str) -> str:
    label = metrics.find(metric).label
    return label[:1].upper() + label[1:]


def _row(row: Mapping[str, Any], asked: Sequence[str]) -> list[Cell]:
    cells = [text(row["model"])]
    cells += [Cell(units.show(row[metric], metrics.find(metric).unit), row[metric]) for metric in asked]
    return cells + ([text("yes" if row["on_front"] else "")] if "on_front" in row else [])
