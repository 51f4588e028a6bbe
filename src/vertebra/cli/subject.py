"""The options that say which network with which weights, shared by the verbs that load one."""

from __future__ import annotations

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
    """The options that were given."""
    return {name: value for name, value in options.items() if value}
