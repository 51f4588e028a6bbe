"""The metrics on the page, with their definitions from the dictionary of metrics."""

from __future__ import annotations

from collections.abc import Iterable

from vertebra.measurements import WideRow
from vertebra.metrics import METRICS, Metric
from vertebra.reading.reports.markup import Html, folded_section, tag

_BETTER = {"higher": "Higher is better.", "lower": "Lower is better.", "neither": ""}


def glossary_section(rows: Iterable[WideRow]) -> Html:
    """The definitions of all metrics that the rows have."""
    present = {name for row in rows for name in row.figures}
    entries = [part for name, metric in METRICS.items() if name in present for part in _entry(metric)]
    return folded_section("glossary", "Glossary", tag("dl", *entries))


def _entry(metric: Metric) -> list[Html]:
    definition = f"{metric.definition} {_BETTER[metric.better]}".strip()
    return [tag("dt", metric.label[:1].upper() + metric.label[1:]), tag("dd", definition)]
