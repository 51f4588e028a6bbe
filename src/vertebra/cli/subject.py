"""The options that say which network with which weights, shared by the verbs that load one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--weights",
        metavar="SOURCE",
        help="Weights: a file, a published set or hf:… [default: the published set]",
    ),
    click.option(
        "--untrained", is_flag=True, help="Run the network without trained weights; its answers are random."
    ),
    click.option("--labels", metavar="FILE", help="Names of the classes. [default: those of the weights]"),
    click.option(
        "--preprocess",
        metavar="NAME|FILE",
        help="Preprocessing: a protocol or a JSON file. [default: that of the weights]",
    ),
    click.option("--sha256", metavar="DIGEST", help="Digest that the file of the weights must have."),
    click.option("--accept-unverified", is_flag=True, help="Allow weights that have no published digest."),
)


def weights_options(function: Function) -> Function:
    """Adds the options of `resolving.resolve`; the command gets them as keyword arguments."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value}
