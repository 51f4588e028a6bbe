"""The part of the page about time: what runs of several days or versions say of one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vertebra import units
from vertebra.measurements.history import History
from vertebra.measurements.pooling import version
from vertebra.reading.charts.history import history_chart
from vertebra.reading.reports.markup import (
    Cell,
    Column,
    Html,
    details,
    folded_section,
    items,
    table,
    tag,
    text,
)
from vertebra.reading.reports.networks import condition
from vertebra.reading.reports.pictures import picture

#: Histories that are drawn: those with steps first, then the longest; the table has all.
_MOST = 4
_OF_FORM = ("engine", "precision", "batch_size", "threads", "streams", "layout", "scenario", "beside")


def history_section(found: Sequence[History]) -> Html:
    """The forms with runs of several days or versions: a table of all, and charts of some; empty if there are
    none.

    Raises MissingRuntimeError if vl-convert isn't installed.
    """
    several = [one for one in found if len(one.moments) > 1]
    if not several:
        return Html("")
    ranked = sorted(several, key=lambda one: (-len(one.steps), -len(one.moments)))
    columns = [
        Column("Network", number=False), Column("Form", number=False), Column("Days and versions"),
        Column("First"), Column("Last"), Column("Steps"), Column("Versions", number=False),
    ]  # fmt: skip
    charts = [_drawn(one) for one in ranked[:_MOST]]
    rest = len(ranked) - len(charts)
    more = tag("p", f"Not drawn: {rest} more, which the table has.") if rest else Html("")
    return folded_section(
        "history", "Over time", tag("p", _HOW_TO_READ),
        table("Networks measured on several days or under several versions", columns, map(_row, ranked)),
        *charts, more,
    )  # fmt: skip


_HOW_TO_READ = (
    "The runs of one day and one version of the engine and its driver make one point with the interval that "
    "an independent survey falls into with 95 %. A step is a change that the intervals before and after it "
    "contradict."
)


def _drawn(one: History) -> Html:
    chart = history_chart(one, title=f"Latency over time: {one.moments[0].row.model}, {_form(one)}")
    return tag(
        "figure", tag("div", picture(chart), class_="card", tabindex=0, role="group", aria_label="Chart"),
        details("What this chart says", items(chart.notes)),
    )  # fmt: skip


def _row(one: History) -> list[Cell]:
    first, last = one.moments[0].row, one.moments[-1].row
    versions = dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in version(moment.row)) for moment in one.moments
    )
    return [
        text(first.model), text(_form(one)), Cell(str(len(one.moments)), len(one.moments)),
        Cell(units.show(first.value, "s"), first.value), Cell(units.show(last.value, "s"), last.value),
        Cell(str(len(one.steps)), len(one.steps)), text("; ".join(filter(None, versions)) or "not stated"),
    ]  # fmt: skip


def _form(one: History) -> str:
    row = one.moments[0].row
    known: dict[str, Any] = {name: getattr(row, name) for name in _OF_FORM}
    return ", ".join(condition(name, value) for name, value in known.items() if value is not None)
