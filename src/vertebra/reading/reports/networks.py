"""The table of networks: published figures next to counted and measured ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vertebra import metrics, units
from vertebra.measurements import Measurement, WideRow
from vertebra.measurements.views import FORM
from vertebra.reading.reports.markup import (
    Cell,
    Column,
    Html,
    folded_section,
    items,
    joined,
    prose,
    table,
    tag,
    text,
)

_STATIC = ("top1", "top5", "params", "operations", "weight_bytes")
_OF_A_RUN = ("latency", "fps", "memory_total")
_HEADINGS = {
    "top1": "Top-1",
    "top5": "Top-5",
    "weight_bytes": "Weights",
    "memory_total": "Memory",
    "fps": "FPS",
}
_WORDS = {"batch_size": "batch", "threads": "threads", "streams": "streams", "arrival_rate": "arrival rate",
          "beside": "busy threads beside it:"}  # fmt: skip

#: A network's native input size is its own, so networks of one form may differ in it.
_OF_FORM = tuple(name for name in FORM if name != "input_size")


@dataclass(frozen=True)
class Form:
    """One way of running networks: its conditions, and a wide row for each network."""

    conditions: Mapping[str, Any]
    rows: tuple[WideRow, ...]

    def label(self, names: Iterable[str] = _OF_FORM) -> str:
        """The conditions called `names`, in words."""
        return ", ".join(condition(name, self.conditions[name]) for name in names if name in self.conditions)

    def row(self, model: str) -> WideRow | None:
        return next((row for row in self.rows if row.model == model), None)


def condition(name: str, value: Any) -> str:
    """A condition in words."""
    return f"{_WORDS[name]} {value}" if name in _WORDS else str(value)


def forms(rows: Sequence[WideRow]) -> list[Form]:
    """The forms in which latency was measured (not published), batch size 1 first."""
    found: list[dict[str, Any]] = []
    groups: list[list[WideRow]] = []
    for row in rows:
        latency = row.figures.get("latency")
        if latency is None or latency.origin != "benched":
            continue
        conditions = {name: value for name, value in row.conditions.items() if name != "input_size"}
        if conditions not in found:
            found.append(conditions)
            groups.append([])
        groups[found.index(conditions)].append(row)
    made = [Form(conditions, tuple(group)) for conditions, group in zip(found, groups, strict=True)]
    return sorted(made, key=lambda form: form.conditions.get("batch_size", 0))


def differing(measured: Sequence[Form]) -> tuple[str, ...]:
    """The conditions in which `measured` differ; the engine if there is only one form."""
    several = {
        name: {str(form.conditions[name]) for form in measured if name in form.conditions}
        for name in _OF_FORM
    }
    if several["beside"] and any("beside" not in form.conditions for form in measured):
        several["beside"].add("none")
    varying = [name for name, values in several.items() if len(values) > 1]
    named_by_engine = {"provider", "layout"} if "engine" in varying else set()
    return tuple(name for name in varying if name not in named_by_engine) or ("engine",)


def networks_section(rows: Sequence[WideRow], measured: Sequence[Form]) -> Html:
    """One line per network, with its figures in every measured form."""
    models = list(dict.fromkeys(row.model for row in rows))
    first = {row.model: row for row in reversed(rows)}
    varying = differing(measured)
    columns = [Column("Network", number=False), Column("Input"), *map(_column, _STATIC)]
    columns += [_column(metric, form.label(varying)) for form in measured for metric in _OF_A_RUN]
    body = [[text(model), _input(first[model]), *_figures(first[model], model, measured)] for model in models]
    return folded_section(
        "networks",
        "The networks",
        tag("p", *_preface(measured, varying)),
        table("Accuracy, size and speed of each network", columns, body),
        _conflicts(first.values()),
    )


def _preface(measured: Sequence[Form], varying: Sequence[str]) -> list[str]:
    parts = [
        "Accuracy is as published, unless it was evaluated here. Parameters and operations are our own "
        "counts if the table has them. "
    ]
    if measured:
        same = measured[0].label(name for name in _OF_FORM if name not in (*varying, "provider", "layout"))
        parts += [
            f"Measured with {same or 'the conditions in the headings'}. ",
            "Below each latency is its 95 % interval; the letter is its ",
            tag("a", "grade", href="#grades"),
            ". ",
        ]
    return [*parts, "Click a heading to sort by it."]


def _column(metric: str, group: str = "") -> Column:
    label = metrics.find(metric).label
    return Column(_HEADINGS.get(metric, label[:1].upper() + label[1:]), group)


def _input(row: WideRow) -> Cell:
    sizes = [figure.input_size for figure in row.figures.values() if figure.input_size is not None]
    return Cell(str(sizes[0]), sizes[0]) if sizes else Cell("")


def _figures(row: WideRow, model: str, measured: Sequence[Form]) -> list[Cell]:
    cells = [_figure(row.figures.get(metric)) for metric in _STATIC]
    for form in measured:
        run = form.row(model)
        cells += [_figure(run.figures.get(metric) if run else None) for metric in _OF_A_RUN]
    return cells


def _figure(figure: Measurement | None) -> Cell:
    """The value; for a latency its interval and grade too."""
    if figure is None:
        return Cell("")
    shown = show(figure)
    if figure.metric != "latency":
        return Cell(shown, figure.value)
    return Cell(joined([shown, *_grade(figure), *_interval(figure)]), figure.value)


def show(figure: Measurement) -> str:
    """A figure's value for people."""
    return units.show(figure.value, metrics.find(figure.metric).unit).removesuffix(
        "/s" if figure.metric == "fps" else "\0"
    )


def _grade(figure: Measurement) -> list[Html]:
    if figure.grade is None:
        return []
    letter = tag(
        "span", figure.grade, class_=f"grade grade-{figure.grade.lower()}", title=f"grade {figure.grade}"
    )
    return [Html(" "), letter]


def _interval(figure: Measurement) -> list[Html]:
    if figure.low is None or figure.high is None:
        return []
    unit = metrics.find(figure.metric).unit
    return [tag("small", f"{units.show(figure.low, unit)} – {units.show(figure.high, unit)}")]


def _conflicts(rows: Iterable[WideRow]) -> Html:
    """The other values, if sources disagree."""
    disagreements = [
        f"{row.model}, {metrics.find(metric).label}: also {', '.join(show(rival) for rival in rivals)}"
        f" ({'; '.join(rival.source or rival.origin for rival in rivals)})"
        for row in rows
        for metric, rivals in row.conflicts.items()
        if metric in _STATIC
    ]
    return joined([tag("p", "Sources disagree on:"), items(disagreements)]) if disagreements else Html("")


def grade_section(measured: Sequence[Form]) -> Html:
    """How to read a grade, and why each C is one."""
    meaning = [
        (
            "A",
            "at least three fresh processes agree, each warmed up; the median's 95\u00a0% interval is "
            "within ±2\u00a0%, nothing drifted, the machine was quiet, and the outputs were compared with "
            "the reference.",
        ),
        (
            "B",
            "one process, or a sign of disturbance that is too mild to make the figure wrong.",
        ),
        (
            "C",
            "a defect because of which the figure can't be believed; the reason names it. Hollow in the "
            "charts, and never picked unless you allow it.",
        ),
    ]
    meanings = [joined([tag("strong", letter), f" {words}"]) for letter, words in meaning]
    return folded_section(
        "grades",
        "How to read the grades",
        tag("p", "A grade says how far a measured latency can be trusted; it doesn't judge the network."),
        items(meanings),
        _reasons(measured),
    )


def _reasons(measured: Sequence[Form]) -> Html:
    varying = differing(measured)
    rows = [
        [text(row.model), text(form.label(varying)), Cell(show(latency), latency.value),
         prose("; ".join(latency.grade_reasons))]
        for form in measured
        for row in form.rows
        for latency in [row.figures["latency"]]
        if latency.grade == "C"
    ]  # fmt: skip
    if not rows:
        return Html("")
    columns = [Column("Network", number=False), Column("Form", number=False), Column("Latency"),
               Column("Reasons", number=False)]  # fmt: skip
    return table("Latencies of grade C and the reasons", columns, rows)
