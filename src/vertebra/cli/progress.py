"""Progress on standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vertebra.cli.terminal import line, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from vertebra.progress import Listener, Progress

#: Seconds between two lines with the same text, and between two drawings of the bar.
_LINE_EVERY_S, _DRAW_EVERY_S = 10.0, 0.1
#: Seconds after which a step that counts nothing shows how long it has gone on.
_WAITS_S = 3.0
#: Units whose rate is steady enough to compute the time left from it.
_WITH_RATE = ("images", "B")


@contextmanager
def showing() -> Iterator[Listener]:
    """A listener that shows each event. On a terminal the bar is erased at the end; events without a count
    are lines that stay."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines()
        return
    terminal = _Terminal()
    try:
        yield terminal
    finally:
        terminal.clear()


class _Lines:
    """A line for each new text, and every few seconds one for the same text."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._rate = clock, _Rate(clock)
        self._shown: Progress | None = None
        self._shown_s = 0.0

    def __call__(self, event: Progress) -> None:
        rate = self._rate.of(event)
        if self._is_due(event):
            self._shown, self._shown_s = event, self._clock()
            say(_line(event, rate, self._rate.waited_s), err=True)

    def _is_due(self, event: Progress) -> bool:
        shown = self._shown
        if shown is None or event.text != shown.text or self._clock() - self._shown_s >= _LINE_EVERY_S:
            return True
        return event.unit == "images" and event.done == event.total != shown.done


class _Terminal:
    """A bar, drawn only when there is an event: a thread that draws would disturb what is being measured."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._rate = clock, _Rate(clock)
        self._text = ""
        self._drawn_s = 0.0
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __call__(self, event: Progress) -> None:
        is_new, self._text = event.text != self._text, event.text
        rate = self._rate.of(event)
        if event.total is None and not event.unit and self._rate.waited_s < _WAITS_S:
            self.clear()
            if is_new:
                say(event.text, err=True)
        elif is_new or event.done == event.total or self._clock() - self._drawn_s >= _DRAW_EVERY_S:
            self._drawn_s = self._clock()
            self._draw(event, rate)

    def _draw(self, event: Progress, rate: float | None) -> None:
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
        if self._task is not None:
            self._bar.remove_task(self._task)  # an update can't take a total away
        self._task = self._bar.add_task(
            line(event.text), total=event.total, completed=event.done,  # type: ignore[arg-type]
            count=_count(event, rate), left=_lasting(event, rate, self._rate.waited_s),
        )  # fmt: skip

    def clear(self) -> None:
        """Erase the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True), transient=True, auto_refresh=False, redirect_stdout=False,
    )  # fmt: skip


class _Rate:
    """The work done per second since the first event with this text, so that earlier work, such as loading a
    network, isn't included."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._text, self._began_s, self._first, self._last = "", 0.0, 0.0, 0.0
        self._still_since_s = 0.0

    @property
    def waited_s(self) -> float:
        """Seconds for which the last event has come again and again, with nothing more done."""
        return self._clock() - self._still_since_s

    def of(self, event: Progress) -> float | None:
        """None as long as nothing is done, and for units without a rate."""
        now = self._clock()
        if event.text != self._text or event.done != self._last:
            self._still_since_s = now
        if event.text != self._text or event.done < self._last:
            self._text, self._began_s, self._first = event.text, now, event.done
        self._last = event.done
        done, seconds = event.done - self._first, now - self._began_s
        return done / seconds if event.unit in _WITH_RATE and done > 0 and seconds > 0 else None


def _line(event: Progress, rate: float | None, waited_s: float) -> str:
    count, left = _count(event, rate), _lasting(event, rate, waited_s)
    if count and event.unit not in _WITH_RATE:
        return f"[{count}] {event.text} {left}".rstrip()
    return ": ".join(filter(None, [event.text, ", ".join(filter(None, [count, left]))]))


def _count(event: Progress, rate: float | None) -> str:
    if event.total is None:
        return ""
    if event.unit == "B":
        return _bytes(event.done, event.total)
    if event.unit == "images":
        pace = "" if rate is None else f", {rate:,.0f} images/s" if rate >= 100 else f", {rate:.3g} images/s"
        return f"{event.done:,.0f}/{event.total:,.0f} images{pace}"
    tenths = int(10 * event.done + 1e-6) / 10  # rounded down: a case counts as done when it is
    return f"{tenths:g}/{event.total:g}"


def _bytes(done: float, total: float) -> str:
    scale, prefix = next((pair for pair in ((1e9, "G"), (1e6, "M")) if total >= pair[0]), (1e3, "k"))
    return f"{done / scale:.1f} of {total / scale:.1f} {prefix}B"


def _lasting(event: Progress, rate: float | None, waited_s: float) -> str:
    """For how long a step has gone on that counts nothing, and the time left."""
    waited = f"for {int(waited_s) // 60}:{int(waited_s) % 60:02d}" if waited_s >= _WAITS_S else ""
    return ", ".join(filter(None, [waited, _left(event, rate)]))


def _left(event: Progress, rate: float | None) -> str:
    seconds = event.left_s
    if seconds is None and rate is not None and event.total is not None and event.done < event.total:
        seconds = (event.total - event.done) / rate
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"about {minutes}:{rest:02d} left"
