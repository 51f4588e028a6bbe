"""Progress in a notebook, where no listener is given."""

from __future__ import annotations

import sys
import time
from typing import Any

from vertebra.progress import Listener, Progress

#: Seconds between two drawings of the bar: each is a message to the browser.
_DRAW_EVERY_S = 0.2


def listener(progress: Listener | None) -> Listener | None:
    """`progress`, or in a notebook a bar if it is None."""
    return Bar() if progress is None and _is_notebook() else progress


def _is_notebook() -> bool:
    """Whether a Jupyter kernel runs this; imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class Bar:
    """A bar below the cell that each event moves."""

    def __init__(self) -> None:
        self._shown: Any = None
        self._text, self._drawn_s = "", 0.0

    def __call__(self, event: Progress) -> None:
        now = time.monotonic()
        is_due = event.text != self._text or event.done == event.total
        if is_due or now - self._drawn_s >= _DRAW_EVERY_S:
            self._text, self._drawn_s = event.text, now
            self._draw(event)

    def _draw(self, event: Progress) -> None:
        from IPython import display

        shown: Any = display  # it has no types
        content = shown.HTML(drawn(event))
        if self._shown is None:
            self._shown = shown.display(content, display_id=True)
        else:
            self._shown.update(content)


def drawn(event: Progress) -> str:
    """The event as HTML: a bar if something is counted, and the time left if it is known."""
    import html

    text = html.escape(event.text)
    if event.total is None:
        return f"<div>{text}</div>"
    count = html.escape(f"{event.done:g}/{event.total:g} {event.unit}".rstrip())
    minutes, seconds = divmod(round(event.left_s or 0), 60)
    left = "" if event.left_s is None else f", about {minutes}:{seconds:02d} left"
    bar = f'<progress value="{event.done:g}" max="{event.total:g}"></progress>'
    return f"<div>{bar} {count} {text}{left}</div>"
