"""The options that say which network with which weights, shared by the verbs that load one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--weights", metavar="SOURCE", help="A file, a published set, hf:… [default: the published set]"
    ),
    click.option("--untrained", is_flag=True, help="Run it without weights: it only guesses."),
    click.option(
        "--labels", metavar="FILE", help="What the classes are called. [default: as the weights tell]"
    ),
    click.option("--preprocess", metavar="NAME|FILE", help="A protocol or a JSON file. [default: likewise]"),
    click.option("--sha256", metavar="DIGEST", help="What the weights' file must have."),
    click.option("--accept-unverified", is_flag=True, help="Fetch weights whose digest nobody publishes."),
)


def weights_options(function: Function) -> Function:
    """Adds what `resolving.resolve` takes beside the name; the command gets them as keyword arguments."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, and a bar for what is downloaded."""
    return {**{name: value for name, value in options.items() if value}, "progress": _Bar()}


class _Bar:
    """Downloads on standard error: a bar on a terminal, one line elsewhere."""

    def __init__(self) -> None:
        self._told = -1

    def __call__(self, done: int, total: int | None) -> None:
        percent = 100 * done // total if total else 0
        terminal = sys.stderr.isatty()
        if terminal and percent != self._told:
            click.echo(
                f"\rdownloading: {percent} % of {(total or 0) / 1e6:.0f} MB", err=True, nl=done == total
            )
        elif not terminal and self._told < 0:
            click.echo("downloading the weights", err=True)
        self._told = percent
