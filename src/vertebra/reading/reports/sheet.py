"""READ: the contact sheet: pictures with what is said of each, as one picture or one page."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError
from vertebra.machine.files import write_whole

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image, ImageDraw

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".html": "HTML"}

#: The most pictures on a sheet; what is over is counted on it.
MAX_CELLS = 1000

_SIDE, _MARGIN, _LINE, _MOST_LINES = 192, 12, 17, 4
_INK, _FAINT, _ALARM, _PAPER = "#1a1a1a", "#5c5c5c", "#a61b1b", "#ffffff"
_GOOD, _BAR, _TRACK = "#1a7f37", "#bcd7f2", "#eef1f4"
#: Pixels that a mark takes before a class.
_MARK = 14


@dataclass(frozen=True)
class Tile:
    """One picture (H, W, 3) of a sheet, its title, and what it shows: classes with their share, 0 to 1, or
    the `error` why there are none. Where the truth is known, `marks` says of a class whether it is the
    true one."""

    title: str
    classes: Sequence[tuple[float, str]] = ()
    error: str | None = None
    picture: npt.NDArray[np.uint8] | None = None
    marks: Sequence[bool | None] = ()


@dataclass(frozen=True)
class _Cell:
    title: str
    classes: Sequence[tuple[float, str]]
    error: str | None
    thumbnail: bytes | None  # JPEG: a thousand of them take a few megabytes
    marks: Sequence[bool | None] = ()

    def mark(self, number: int) -> bool | None:
        """Whether a class is the true one; None if nobody knows."""
        return self.marks[number] if number < len(self.marks) else None


class Sheet:
    """A contact sheet that grows by one tile at a time; `write` draws it."""

    def __init__(self) -> None:
        self._cells: list[_Cell] = []
        self._left_out = 0

    def add(self, tile: Tile) -> None:
        """Put a tile on the sheet while there is room."""
        if len(self._cells) == MAX_CELLS:
            self._left_out += 1
            return
        thumbnail = None if tile.picture is None else _thumbnail(tile.picture)
        self._cells.append(_Cell(tile.title, tile.classes, tile.error, thumbnail, tile.marks))

    def write(self, path: Path) -> None:
        """Write the sheet. Raises InvalidInputError where it can't be written, or its ending is unknown."""
        kind = format_of(path)
        more = f"and {self._left_out} more" if self._left_out else ""
        write_whole(path, _page(self._cells, more) if kind == "HTML" else _drawn(self._cells, more, kind))

    def html(self) -> str:
        """The tiles as figures of HTML, each with its picture in it."""
        return "".join(map(_figure, self._cells))


def format_of(path: Path) -> str:
    """The format that a sheet of this name has. Raises InvalidInputError."""
    if path.suffix.lower() not in FORMATS:
        raise InvalidInputError(
            f'Can\'t detect the format of "{path}".', f"a contact sheet is written as {', '.join(FORMATS)}"
        )
    return FORMATS[path.suffix.lower()]


def _thumbnail(pixels: Any) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return stream.getvalue()


# ------------------------------------------------------------------ one picture


def _drawn(cells: Sequence[_Cell], more: str, kind: str) -> bytes:
    from PIL import Image, ImageDraw

    columns = max(1, math.ceil(math.sqrt(len(cells))))
    rows = math.ceil(len(cells) / columns)
    lines = max((len(list(_lines(cell))) for cell in cells), default=0)
    width, height = _SIDE + 2 * _MARGIN, _SIDE + lines * _LINE + 2 * _MARGIN
    foot = _LINE + _MARGIN if more else 0
    canvas = Image.new("RGB", (columns * width, max(1, rows) * height + foot), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, cell in enumerate(cells):
        left, top = number % columns * width + _MARGIN, number // columns * height + _MARGIN
        _draw_cell(canvas, draw, cell, left, top)
    if more:
        draw.text((_MARGIN, rows * height), more, _FAINT, _font())
    stream = io.BytesIO()
    canvas.save(stream, kind)
    return stream.getvalue()


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(13)


def _draw_cell(canvas: Image.Image, draw: ImageDraw.ImageDraw, cell: _Cell, left: int, top: int) -> None:
    from PIL import Image

    if cell.thumbnail is not None:
        thumbnail = Image.open(io.BytesIO(cell.thumbnail))
        canvas.paste(thumbnail, (left + (_SIDE - thumbnail.width) // 2, top + _SIDE - thumbnail.height))
    else:
        draw.rectangle((left, top, left + _SIDE - 1, top + _SIDE - 1), outline=_FAINT)
    font = _font()
    for number, (text, ink, share, mark) in enumerate(_lines(cell)):
        y = top + _SIDE + 3 + number * _LINE
        if share is not None:
            draw.rectangle((left, y, left + _SIDE - 1, y + _LINE - 3), _TRACK)
            filled = round(min(max(share, 0), 1) * (_SIDE - 1))
            draw.rectangle((left, y, left + filled, y + _LINE - 3), _BAR)
        shift = 3 * (share is not None) + (0 if mark is None else _MARK)
        if mark is not None:
            _draw_mark(draw, left + 3, y + 3, mark)
        draw.text((left + shift, y), _cut(text, font, _SIDE - shift), ink, font)


def _draw_mark(draw: ImageDraw.ImageDraw, left: int, top: int, is_right: bool) -> None:
    """A tick or a cross, drawn, since not every font has them."""
    if is_right:
        draw.line([(left, top + 4), (left + 3, top + 8), (left + 9, top)], _GOOD, 2)
        return
    draw.line([(left, top), (left + 8, top + 8)], _ALARM, 2)
    draw.line([(left, top + 8), (left + 8, top)], _ALARM, 2)


def _lines(cell: _Cell) -> Iterator[tuple[str, str, float | None, bool | None]]:
    """What stands below a picture: its classes, by the first of their names, or why there are none, and its
    title; each with its colour, its share, and whether it is the truth."""
    if cell.error is not None:
        yield "no answer:", _ALARM, None, None
        yield cell.error, _ALARM, None, None
    for number, (share, name) in enumerate(cell.classes[: _MOST_LINES - 1]):
        yield f"{share:.0%} {name.partition(',')[0]}", _INK, share, cell.mark(number)
    yield cell.title.rsplit("/", 1)[-1], _FAINT, None, None


def _cut(text: str, font: Any, width: int) -> str:
    """`text` on one line, ended with dots where it is wider than `width` pixels."""
    text = "".join(sign if sign.isprintable() else " " for sign in text[:200])
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


# ------------------------------------------------------------------ one page

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(208px, 1fr)); gap: 1.5rem }
figure { margin: 0 } img { width: 192px; display: block }
figcaption { overflow-wrap: anywhere; color: #5c5c5c } ol { margin: .3rem 0; padding: 0; list-style: none }
.error { color: #a61b1b } h1, p { overflow-wrap: anywhere }
meter { display: block; width: 192px; height: .5rem }
.right::before { content: "✓ "; color: #1a7f37 } .wrong::before { content: "✗ "; color: #a61b1b }
li { overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #161616 }
  figcaption { color: #aaa } .error, .wrong::before { color: #ff9a8f }
  .right::before { color: #5fd07a } }
"""


def _page(cells: Sequence[_Cell], more: str) -> bytes:
    figures = "\n".join(map(_figure, cells))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Predictions</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>Predictions</h1>\n<main>\n{figures}\n</main>\n"
        f"<p>{html.escape(more)}</p></body></html>\n"
    ).encode("utf-8", "replace")


def _marked(is_right: bool | None) -> str:
    return "" if is_right is None else f' class="{"right" if is_right else "wrong"}"'


def _figure(cell: _Cell) -> str:
    title = html.escape(cell.title)
    if cell.error is not None:
        said = f'<p class="error">no answer: {html.escape(cell.error)}</p>'
    else:
        classes = (
            f"<li{_marked(cell.mark(number))}><b>{share:.1%}</b> {html.escape(name)}"
            f'<meter value="{share:.4f}" aria-hidden="true"></meter></li>'
            for number, (share, name) in enumerate(cell.classes)
        )
        said = f"<ol>{''.join(classes)}</ol>"
    picture = ""
    if cell.thumbnail is not None:
        data = base64.b64encode(cell.thumbnail).decode()
        picture = f'<img alt="{title}" src="data:image/jpeg;base64,{data}">'
    return f"<figure>{picture}{said}<figcaption>{title}</figcaption></figure>"
