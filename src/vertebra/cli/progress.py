"""A progress bar on standard error: what is being measured, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vertebra.campaigns.campaign import Progress


@contextmanager
def watching() -> Iterator[Callable[[Progress], None]]:
    """A function that shows each Progress: a bar on a terminal, elsewhere a line for whatever is new, and
    now and then one for the same."""
    import sys

    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True), transient=True,
        auto_refresh=False,  # drawing ten times a second would disturb what is being measured
    ) as bar:  # fmt: skip
        task = bar.add_task("starting", total=None, count="", left="")

        def show(progress: Progress) -> None:
            bar.update(
                task,
                description=progress.text,
                completed=progress.done,
                total=progress.total,
                count=_count(progress),
                left=_left(progress),
                refresh=True,
            )

        yield show


#: Seconds between two lines where there is no terminal.
_LINE_EVERY_S = 10.0


@contextmanager
def counting(text: str) -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many images are done, of how many, at which rate, and the time left.

    The clock starts when it hears that none is done yet: loading a network isn't part of the rate.
    """
    import sys
    import time

    clock = {"start": time.monotonic(), "told": time.monotonic()}

    def pace(done: int, total: int) -> str:
        if done == 0:
            clock["start"] = time.monotonic()
        return _pace(done, total, time.monotonic() - clock["start"])

    def line(done: int, total: int) -> None:
        shown, now = pace(done, total), time.monotonic()
        if done and (now - clock["told"] >= _LINE_EVERY_S or done == total):
            clock["told"] = now
            click.echo(f"{text}: {done:,} of {total:,}, {shown}", err=True)

    if not sys.stderr.isatty():
        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task(text, total=None, pace="")
        yield lambda done, total: bar.update(task, completed=done, total=total, pace=pace(done, total))


def _pace(done: int, total: int, seconds: float) -> str:
    """Images per second, and the time left at that rate."""
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    minutes, rest = divmod(round((total - done) / rate), 60)
    return f"{rate:.3g} images/s" + (f", about {minutes}:{rest:02d} left" if done < total else "")


def _lines() -> Callable[[Progress], None]:
    import time

    told: dict[str, Any] = {"text": "", "at_s": 0.0}

    def line(progress: Progress) -> None:
        now = time.monotonic()
        if progress.text != told["text"] or now - told["at_s"] >= _LINE_EVERY_S:
            told.update(text=progress.text, at_s=now)
            click.echo(f"[{_count(progress)}] {progress.text} {_left(progress)}".rstrip(), err=True)

    return line


def _count(progress: Progress) -> str:
    """Rounded down to tenths: a case counts as done when it is."""
    tenths = int(10 * progress.done + 1e-6) / 10
    return f"{tenths:g}/{progress.total}"


def _left(progress: Progress) -> str:
    if progress.left_s is None:
        return ""
    minutes, seconds = divmod(round(progress.left_s), 60)
    return f"about {minutes}:{seconds:02d} left"
