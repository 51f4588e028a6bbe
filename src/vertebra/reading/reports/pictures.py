"""Charts inside a page: SVG whose colours follow the page's light or dark setting."""

from __future__ import annotations

import re

from vertebra.reading.charts import Chart, style
from vertebra.reading.reports.markup import Html, tag

#: The colours of charts and the variables of page.css that stand for them.
_VARIABLES = {
    "white": "paper", "#ffffff": "paper", "#fff": "paper", style.INK: "ink", style.FAINT: "faint",
    style.GRID: "grid", style.OTHER: "other", style.LEGEND: "legend", style.CELL: "cell",
    style.ON_CELL: "on-cell", **{colour: f"family-{place}" for place, colour in enumerate(style.COLOURS)},
}  # fmt: skip
_COLOUR = re.compile(r'\b(fill|stroke)="([^"]+)"')


def picture(chart: Chart) -> Html:
    """The chart as one SVG element with its description as its name.

    Raises MissingRuntimeError if vl-convert isn't installed.
    """
    named = str(tag("i", role="img", aria_label=str(chart.spec["description"])))
    attributes = named.removeprefix("<i ").removesuffix("></i>")
    return Html(themed(chart.svg()).replace("<svg ", f"<svg {attributes} ", 1))


def themed(svg: str) -> str:
    """The SVG with variables for its colours, which page.css sets for light and for dark."""
    return _COLOUR.sub(_variable, svg)


def _variable(match: re.Match[str]) -> str:
    attribute, colour = match.groups()
    name = _VARIABLES.get(colour)
    return match.group() if name is None else f'{attribute}="var(--chart-{name})"'
