"""How far a long call has come: one event, given to `progress`, one parameter of every call that takes long.

>>> def show(event: Progress) -> None:
...     print(event.text, event.done, event.total)
>>> show(Progress("measuring alexnet", 1.5, 3, left_s=40.0))
measuring alexnet 1.5 3
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`text` says what is being done. `done` of `total` are finished, one under way counting in part; `total`
    is None where nothing is counted or the total isn't known. `unit` says what is counted: "cases", "images"
    or "B" (bytes). `left_s` is the time left in seconds, where it can be estimated."""

    text: str
    done: float = 0
    total: float | None = None
    unit: str = ""
    left_s: float | None = None


#: What a call with `progress=` gives each event to.
Listener = Callable[[Progress], None]


#: Seconds between the events of a step that counts nothing.
BEAT_S = 1.0


@contextlib.contextmanager
def beating(progress: Listener, event: Progress) -> Iterator[None]:
    """Give `event` at once, and again every second until the block ends: for a step that gives no events of
    its own. `progress` is called from another thread."""
    done = threading.Event()

    def beat() -> None:
        with contextlib.suppress(Exception):  # a reader that is gone shows in the caller's own thread
            while not done.wait(BEAT_S):
                progress(event)

    progress(event)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def silent(event: Progress) -> None:
    """The listener where none is given."""
