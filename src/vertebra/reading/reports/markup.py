"""HTML from plain values: everything that isn't already markup is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vertebra.measurements.display import plain


class Html(str):
    """Markup. Any other str is text, and `tag` escapes it."""

    __slots__ = ()


Attribute = str | int | float | None

#: Elements without content and end tag.
_VOID = ("img", "input")


def tag(name: str, *content: str, **attributes: Attribute) -> Html:
    """An element. Attributes that are None are left out; `class_` and `data_value` lose their underscores.

    >>> tag("td", "a < b", Html("<br>"), class_="note", data_value=0.5)
    '<td class="note" data-value="0.5">a &lt; b<br></td>'
    """
    shown = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{joined(content)}</{name}>")


def _attribute(key: str, value: Attribute) -> str:
    return f' {key.rstrip("_").replace("_", "-")}="{_escaped(str(value))}"'


def joined(parts: Iterable[str], between: str = "") -> Html:
    """`parts` joined by the text `between`, with text escaped."""
    return Html(_escaped(between).join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def _escaped(text: str) -> str:
    """Text without markup and without the characters that no page can hold."""
    return html.escape(plain(text))


@dataclass(frozen=True)
class Cell:
    """A table's cell: what it shows, and the number by which it sorts, unless it is text."""

    shown: str
    value: float | None = None
    kind: str | None = "number"


def text(shown: str | None) -> Cell:
    """A cell of a word or two; None is blank."""
    return Cell(shown or "", kind=None)


def prose(shown: str | None) -> Cell:
    """A cell of text that may take several lines; None is blank."""
    return Cell(shown or "", kind="prose" if shown else None)


@dataclass(frozen=True)
class Column:
    """A table's column; `group` is a heading above several."""

    heading: str
    group: str = ""
    number: bool = True


def table(
    caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, sortable: bool = True
) -> Html:
    """A table whose first column names its rows; with `sortable`, each heading is a button that sorts."""
    head = [tag("tr", *_groups(columns))] if any(column.group for column in columns) else []
    head.append(tag("tr", *(_heading(column, sortable) for column in columns)))
    body = [tag("tr", _row_heading(first), *map(_cell, rest)) for first, *rest in rows]
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", *head),
        tag("tbody", *body),
        class_="sortable" if sortable else None,
    )
    # focusable, so that the keyboard can scroll a table wider than the page
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _groups(columns: Sequence[Column]) -> list[Html]:
    """The upper row of headings, each as wide as its columns."""
    cells: list[Html] = []
    start = 0
    for end in range(1, len(columns) + 1):
        group = columns[start].group
        if end == len(columns) or columns[end].group != group:
            name = "th" if group else "td"
            cells.append(tag(name, group, colspan=end - start, scope="colgroup" if group else None))
            start = end
    return cells


def _heading(column: Column, sortable: bool) -> Html:
    shown = tag("button", column.heading, type="button") if sortable else column.heading
    return tag("th", shown, scope="col", class_="number" if column.number else None)


def _row_heading(cell: Cell) -> Html:
    return tag("th", cell.shown, scope="row", data_value=cell.value)


def _cell(cell: Cell) -> Html:
    return tag("td", cell.shown, class_=cell.kind, data_value=cell.value)


def section(name: str, heading: str, *content: str) -> Html:
    """A part of the page, reached as `#name`."""
    return tag(
        "section",
        tag("h2", heading, id=f"{name}-heading"),
        *content,
        id=name,
        aria_labelledby=f"{name}-heading",
    )


def folded_section(name: str, heading: str, *content: str, note: str = "") -> Html:
    """A part of the page that is folded until the reader opens it; `note` says briefly what is in it."""
    title = tag("h2", heading, id=f"{name}-heading")
    told = [" ", tag("span", note, class_="note")] if note else []
    whole = tag("details", tag("summary", title, *told), *content)
    return tag("section", whole, id=name, aria_labelledby=f"{name}-heading")


def details(summary: str, *content: str) -> Html:
    """Content that is folded until the reader opens it."""
    return tag("details", tag("summary", summary), *content)


def items(parts: Iterable[str], ordered: bool = False) -> Html:
    """A list."""
    return tag("ol" if ordered else "ul", *(tag("li", part) for part in parts))
