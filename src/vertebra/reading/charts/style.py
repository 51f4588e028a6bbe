"""How charts look: font, colours of the families, and the defaults of every figure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from vertebra.reading.names import short

#: vl-convert brings the first font and draws with it; the others have roughly its widths.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

INK = "#1f2328"
FAINT = "#59636e"
GRID = "#e8ebef"

#: Okabe and Ito's palette for colour-blind readers too (2008), without the yellow, which is faint on white,
#: and with a purple for the second blue, which small marks don't tell from the first.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#6a3d9a")
OTHER = "#6e7781"
OTHERS = "other families"
#: The fill of a legend's neutral marks, that of a confusion matrix's cells, and the numbers on dark cells.
LEGEND, CELL, ON_CELL = "#d8dde3", "#0b3c7d", "#fffffe"

CONFIG: dict[str, Any] = {
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "gridColor": GRID, "domain": False, "ticks": False, "labelColor": FAINT, "labelFontSize": 12,
        "labelPadding": 7, "titleColor": INK, "titleFontSize": 13,
        "titleFontWeight": "bold", "titlePadding": 12,
    },
    "legend": {
        "titleColor": INK, "titleFontSize": 12, "titleFontWeight": "bold", "labelColor": INK,
        "labelFontSize": 12, "rowPadding": 4, "offset": 24,
        "layout": {"margin": 20},
    },
    "title": {
        "anchor": "start", "frame": "group", "color": INK, "fontSize": 18, "fontWeight": "bold", "offset": 16,
        "subtitleColor": FAINT, "subtitleFontSize": 12, "subtitlePadding": 6, "subtitleLineHeight": 16,
    },
}  # fmt: skip

#: Widths in thousandths of the font size, as the metrics of Helvetica give them; others count as 667.
_WIDTHS = {
    191: "'", 222: "ijl", 260: "|", 278: " !,./:;I[]\\ft", 333: "()-`r·", 334: "{}", 355: '"', 389: "*",
    469: "^", 500: "Jcksvxyz", 556: "#$0123456789?L_abdeghnopqu–", 584: "+<=>~×", 611: "FTZ",
    722: "CDHNRUw", 778: "GOQ", 833: "mM", 889: "%", 944: "W", 1015: "@",
}  # fmt: skip
_WIDTH_OF = {letter: width for width, letters in _WIDTHS.items() for letter in letters}


def text_width(text: str, font_size: float) -> float:
    """Width of `text` in pixels, in the regular weight of `FONT`."""
    return sum(_WIDTH_OF.get(letter, 667) for letter in text) * font_size / 1000


#: What stands before a family's name: where the weights come from, or what was changed.
_BEFORE = re.compile(r"(?:tf|gluon|legacy|ssl|swsl|bn)_(?=[a-z])", re.IGNORECASE)
_FAMILY = re.compile(r"([A-Za-z]+?)(?:_?[vV]([0-9]+))?(?![A-Za-z])")


def family(model: str) -> str:
    """The family that a network's name begins with, with its version and without the library's prefix.

    >>> family("squeezenet1_0"), family("timm:resnet50_acnet_deploy"), family("50net")
    ('squeezenet', 'resnet', '50net')
    >>> family("timm:tf_mobilenetv3_small_075"), family("mobilenet_v3_large"), family("senet_vd")
    ('mobilenetv3', 'mobilenetv3', 'senet')
    """
    name = model.rpartition(":")[2].rpartition("/")[2]
    start = _FAMILY.match(_BEFORE.sub("", name, count=1) if _BEFORE.match(name) else name)
    if start is None:
        return short(name, _LONGEST_FAMILY)
    word, version = start.groups()
    return short(word.lower(), _LONGEST_FAMILY) + (f"v{version[:2]}" if version else "")


_LONGEST_FAMILY = 20


def colours(families: Iterable[str]) -> dict[str, str]:
    """A colour per family, in the order given; families beyond the palette share a grey under one name."""
    distinct = list(dict.fromkeys(families))
    coloured = dict(zip(distinct, COLOURS, strict=False))
    return coloured if len(distinct) <= len(COLOURS) else {**coloured, OTHERS: OTHER}


def wrap(parts: Iterable[str], width: float, font_size: float) -> list[str]:
    """`parts` joined by dots into lines of at most `width` pixels; one part is never broken."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines else part
        if lines and text_width(longer, font_size) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def subtitle(groups: Iterable[Sequence[str]], width: float) -> list[str]:
    """The parts of `groups` one after the other, in at most three lines of `width` pixels under a title."""
    size = CONFIG["title"]["subtitleFontSize"]
    lines = wrap((cut(part, width, size) for group in groups for part in group), width, size)
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1] = cut(" · ".join(lines[_MOST_LINES - 1 :]), width, size)
    return lines[:_MOST_LINES]


_MOST_LINES = 3


def cut(text: str, width: float, font_size: float) -> str:
    """`text`, ended with dots if it is wider than `width` pixels."""
    if text_width(text, font_size) <= width:
        return text
    text = text[: int(width)]
    while text and text_width(f"{text}…", font_size) > width:
        text = text[: -max(1, len(text) // 50)]
    return f"{text.rstrip(' ·')}…"


def dashed(any_estimated: bool) -> dict[str, Any]:
    """The channel that dashes the outline of estimates, if there are any."""
    dash = {"condition": {"test": "datum.estimated", "value": [3, 2]}, "value": [1, 0]}
    return {"strokeDash": dash} if any_estimated else {}
