"""A progress bar on standard error: what is being measured, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vertebra.surveying import Progress


@contextmanager
def watching() -> Iterator[Callable[[Progress], None]]:
    """A function that shows each Progress: a bar on a terminal, a line each elsewhere."""
    import sys

    if not sys.stderr.isatty():
        yield _line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("starting", total=None, left="")

        def show(progress: Progress) -> None:
            bar.update(
                task,
                description=progress.text,
                completed=progress.done,
                total=progress.total,
                left=_left(progress),
            )

        yield show


def _line(progress: Progress) -> None:
    click.echo(f"[{progress.done}/{progress.total}] {progress.text} {_left(progress)}".rstrip(), err=True)


def _left(progress: Progress) -> str:
    if progress.left_s is None:
        return ""
    minutes, seconds = divmod(round(progress.left_s), 60)
    return f"about {minutes}:{seconds:02d} left"
