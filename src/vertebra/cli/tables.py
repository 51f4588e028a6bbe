"""Tables for people, laid out for the width of the terminal.

One row is a list of `name  value` lines. Several rows are aligned columns. Where they don't fit, heads and
then texts are broken between words, and at last columns are printed below their row. Conditions that all
rows share are printed once, above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from vertebra.cli.terminal import breadth, cut, folded, line, painted, room

_GAP = "  "
#: The width where lines aren't broken.
_ENDLESS = 10**9
_BELOW = "    "
#: A column of texts isn't narrower than this, and is not broken into more lines.
_LEAST, _TALLEST = 16, 4
#: Texts of more columns than this are the first that go below their row, and aren't repeated there.
_LONG = 40

#: Column -> text in it -> style; None: every other text.
_STYLES: dict[str, dict[str | None, str]] = {
    "model": {None: "bold"},
    "grade": {"A": "green", "C": "red"},
    "verdict": {"better": "green", "fixed": "green", "worse": "red", "failed": "red"},
    "missing": {None: "yellow"},
}


def _style(head: str, text: str) -> str:
    styles = _STYLES.get(head, {})
    return styles.get(text, styles.get(None, ""))


@dataclass(frozen=True, eq=False)
class _Column:
    """A column: its head, the text of each row, and how wide it may be."""

    head: str
    cells: Sequence[str]
    is_number: bool
    width: int = 0

    @cached_property
    def natural(self) -> int:
        """Columns without any break but in the head, which gives way to short cells."""
        return max(_longest_word(self.head), *map(breadth, self.cells))

    @cached_property
    def least(self) -> int:
        words = max(map(_longest_word, (self.head, *self.cells)))
        return min(max(words, _LEAST), self.natural)

    @cached_property
    def is_text(self) -> bool:
        return not self.is_number and self.natural > _LEAST and any(" " in cell for cell in self.cells)

    def lines(self, row: int) -> list[str]:
        """The row's text in lines as wide as the column, padded and in their style."""
        style = _style(self.head, self.cells[row])
        return [self.padded(text, style) for text in folded(self.cells[row], self.width)]

    def padded(self, text: str, style: str = "") -> str:
        space = " " * max(self.width - breadth(text), 0)
        shown = painted(text, style)
        return space + shown if self.is_number else shown + space


def columns(rows: Sequence[Mapping[str, Any]], *, grouped: bool = False) -> str:
    """`rows` as a table: aligned columns, numbers to the right. Empty columns are left out.

    The values of a column may be mappings of conditions: those that all rows share are printed above.
    `grouped` prints the others above the rows that share them, too, instead of in a column.
    """
    if not rows:
        return "(nothing)"
    rows, above = _without_shared(rows)
    body = _table(rows, grouped=grouped)
    return "\n".join([*([f"With: {above}.", ""] if above else []), body])


def _without_shared(rows: Sequence[Mapping[str, Any]]) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The rows without the conditions that all share, and these as text."""
    found = [value for row in rows for value in row.values() if isinstance(value, Mapping)]
    if len(rows) < 2 or not found:
        return rows, ""
    shared = {
        name: value
        for name, value in found[0].items()
        if all(name in one and one[name] == value for one in found)
    }
    kept = [
        {head: _less(value, shared) if isinstance(value, Mapping) else value for head, value in row.items()}
        for row in rows
    ]  # fmt: skip
    return kept, listed(shared)


def _less(conditions: Mapping[str, Any], shared: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in conditions.items() if name not in shared}


def _conditions(row: Mapping[str, Any]) -> str:
    return ", ".join(listed(value) for value in row.values() if isinstance(value, Mapping))


def listed(conditions: Mapping[str, Any]) -> str:
    """Conditions as text: "engine onnxruntime, batch_size 1"."""
    return ", ".join(f"{name} {value}" for name, value in conditions.items())


# ------------------------------------------------------------------ layouts


def _table(rows: Sequence[Mapping[str, Any]], *, grouped: bool) -> str:
    titles = {}
    if grouped:
        # each group once, at the place of its first row
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            groups.setdefault(_conditions(row), []).append(row)
        rows = [row for group in groups.values() for row in group]
        named = [_conditions(row) for row in rows]
        titles = {place: name for place, name in enumerate(named) if not place or name != named[place - 1]}
        rows = [
            {head: value for head, value in row.items() if not isinstance(value, Mapping)} for row in rows
        ]
    heads = [head for head in rows[0] if any(_is_there(row.get(head)) for row in rows)]
    parts = [_column(head, [row.get(head) for row in rows]) for head in heads]
    return "\n".join(_card(parts) if len(rows) == 1 and not titles else _laid_out(parts, titles, room()))


def _is_there(value: Any) -> bool:
    return value not in (None, "", {})


def _column(head: str, values: Sequence[Any]) -> _Column:
    cells = [_text(value) for value in values]
    return _Column(line(head), cells, all(_is_number(value) for value in values))


def _text(value: Any) -> str:
    if value is None:
        return ""
    return line(listed(value) if isinstance(value, Mapping) else value)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.removeprefix("~")[:1].isdigit()
    return value is None or isinstance(value, int | float)


def _card(parts: Sequence[_Column]) -> list[str]:
    """One row, upright."""
    most = room()
    width = max(breadth(part.head) for part in parts)
    lines = []
    for part in parts:
        free = (most or _ENDLESS) - width - len(_GAP)
        value, *rest = folded(_cells_cut(part.cells[0], free), free)
        label = part.head + " " * (width - breadth(part.head))
        lines.append(f"{label}{_GAP}{painted(value, _style(part.head, part.cells[0]))}".rstrip())
        lines += [" " * (width + len(_GAP)) + text for text in rest]
    return lines


def _cells_cut(text: str, most: int) -> str:
    """`text` with no word wider than `most`."""
    if _longest_word(text) <= most:
        return text
    return " ".join(cut(word, most) for word in text.split(" "))


def _laid_out(parts: Sequence[_Column], titles: Mapping[int, str], most: int | None) -> list[str]:
    if most is None:
        parts = [replace(part, width=max(part.natural, breadth(part.head))) for part in parts]
        return _aligned(parts, [], titles, most)
    parts = [
        replace(part, cells=[_cells_cut(cell, most - 6 if place else most // 2) for cell in part.cells])
        for place, part in enumerate(parts)
    ]
    above: list[str] = []
    if _fitting(parts, most) is None:
        parts, above = _without_constant(parts, most)
    kept = list(parts)
    while (fitting := _fitting(kept, most)) is None:
        kept.remove(_to_move(kept))
    return [*above, *_aligned(fitting, [part for part in parts if part not in kept], titles, most)]


def _without_constant(parts: Sequence[_Column], most: int) -> tuple[Sequence[_Column], list[str]]:
    """The columns whose cells differ, and lines that give the others once."""
    same = [part for part in parts if len(part.cells) > 1 and part.cells[0] and len(set(part.cells)) == 1]
    if not same or len(same) == len(parts):
        return parts, []
    shared = ", ".join(f"{part.head} {part.cells[0]}" for part in same)
    return [part for part in parts if part not in same], [*folded(f"With: {shared}.", most, rest=_GAP), ""]


def _to_move(parts: Sequence[_Column]) -> _Column:
    """The widest column of long texts, else the last one."""
    texts = [part for part in parts[1:] if part.is_text and part.natural > _LONG]
    return max(texts, key=lambda part: part.natural) if texts else parts[-1]


def _fitting(parts: Sequence[_Column], most: int) -> list[_Column] | None:
    """`parts` with widths that fit side by side, or None."""
    free = most - len(_GAP) * (len(parts) - 1)
    wide = [replace(part, width=max(part.natural, breadth(part.head))) for part in parts]
    for tried in (wide, [replace(part, width=part.natural) for part in parts]):
        if sum(part.width for part in tried) <= free:
            return _widened(tried, free)
    texts = [part for part in parts if part.is_text]
    free -= sum(part.natural for part in parts if not part.is_text)
    if len(parts) == 1:
        return [replace(parts[0], width=most)]
    if not texts or sum(part.least for part in texts) > free:
        return None
    widths = _shares(texts, free)
    fitted = [replace(part, width=widths.get(id(part), part.natural)) for part in parts]
    tallest = max(len(folded(cell, part.width)) for part in fitted for cell in part.cells)
    return fitted if tallest <= _TALLEST else None


def _widened(parts: Sequence[_Column], free: int) -> list[_Column]:
    """Give what is free to heads that are broken, from the left."""
    left = free - sum(part.width for part in parts)
    out = []
    for part in parts:
        more = max(breadth(part.head) - part.width, 0)
        take = more if more <= left else 0
        left -= take
        out.append(replace(part, width=part.width + take))
    return out


def _shares(texts: Sequence[_Column], free: int) -> dict[int, int]:
    """The widths of columns of texts: at least the least, the rest in proportion to what they need."""
    spare = free - sum(part.least for part in texts)
    needed = sum(part.natural - part.least for part in texts) or 1
    return {
        id(part): part.least + min(spare * (part.natural - part.least) // needed, part.natural - part.least)
        for part in texts
    }


def _aligned(
    parts: Sequence[_Column], below: Sequence[_Column], titles: Mapping[int, str], most: int | None
) -> list[str]:
    heads = [[part.padded(one) for one in folded(part.head, part.width)] for part in parts]
    lines = [*_side_by_side(heads, parts), _GAP.join("-" * part.width for part in parts)]
    for row in range(len(parts[0].cells)):
        if row in titles:
            lines += [
                "",
                *(painted(one, "bold") for one in folded(titles[row] or "In general", most or _ENDLESS)),
            ]
        lines += _side_by_side([part.lines(row) for part in parts], parts)
        lines += _under(below, row, most)
    return lines


def _side_by_side(cells: Sequence[Sequence[str]], parts: Sequence[_Column]) -> list[str]:
    height = max(map(len, cells))
    full = [
        [*cell, *[" " * part.width] * (height - len(cell))] for cell, part in zip(cells, parts, strict=True)
    ]
    return [_GAP.join(row).rstrip() for row in zip(*full, strict=True)]


def _under(below: Sequence[_Column], row: int, most: int | None) -> list[str]:
    """What has no room in a row, beneath it: short values in one line, each text in its own. A text that is
    that of the row before is not repeated."""
    there = [part for part in below if part.cells[row]]
    short = [f"{part.head} {part.cells[row]}" for part in there if not part.is_text]
    texts = [f"{part.head}: {_new(part, row)}" for part in there if part.is_text]
    paragraphs = ([", ".join(short)] if short else []) + texts
    return [one for text in paragraphs for one in folded(text, most or _ENDLESS, _BELOW, _BELOW + _GAP)]


def _new(part: _Column, row: int) -> str:
    text = part.cells[row]
    return "as above" if row and len(text) > _LONG and text == part.cells[row - 1] else text


def _longest_word(text: str) -> int:
    return max(map(breadth, text.split(" ")))
