"""JSON from anywhere: text that was made to do harm raises the same as text that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

#: No real file of ours has more levels; deeper ones break whatever walks through them later.
MOST_LEVELS = 64


def parsed(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value in `text`; `pairs` makes an object of its keys and values. Raises ValueError if the text
    isn't JSON, if it nests more than MOST_LEVELS deep, or if a number has thousands of digits."""
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise _too_deep() from None
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise _too_deep()


def shown(value: Any, most: int = 60) -> str:
    """A value out of such a text, for a message: its beginning, in signs that can be printed."""
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[:most]}…"


def _inside(value: Any) -> list[Any]:
    """The lists and objects right inside a list or an object."""
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in held if isinstance(inner, dict | list)]


def _too_deep() -> ValueError:
    return ValueError(f"it nests more than {MOST_LEVELS} levels deep")
