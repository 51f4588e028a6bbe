"""Names as pictures and pages show them: harmless, and short where room is short.

A name comes from a file or a table and may hold anything: control characters, which end the program that
draws charts, half of a surrogate pair, which no file can hold, or thousands of letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vertebra.measurements.display import plain

#: The most letters of a name in a label.
LONGEST = 60
UNNAMED = "(no name)"
_HEAD = 20


def encoded(text: str) -> bytes:
    """`text` as a file's bytes; names that weren't UTF-8 keep their bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def short(name: str, most: int = LONGEST) -> str:
    """`name` for a label: plain, at most `most` characters, with dots in its middle, as paths differ at their
    ends.

    >>> short("onnx:a/long/way/down/to/the/classifier/model_int8.onnx", 33)
    'onnx:a/long…ifier/model_int8.onnx'
    """
    text = plain(name).strip() or UNNAMED
    head = min(_HEAD, most // 3)
    return text if len(text) <= most else f"{text[:head]}…{text[len(text) - (most - head - 1) :]}"


def distinct(names: Iterable[str], shown: Callable[[str], str] = short) -> dict[str, str]:
    """Each name as `shown` gives it, with a number after it where another name already looks so."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        first = label = shown(name)
        number = 2
        while label in taken:
            label, number = f"{first} ({number})", number + 1
        taken.add(label)
        found[name] = label
    return found
