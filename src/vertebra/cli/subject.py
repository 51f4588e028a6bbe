"""The options that say which network with which weights, shared by the verbs that load one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

_WEIGHTS = click.option(
    "--weights",
    metavar="SOURCE",
    help="Weights: a file, a hub folder, a published set or hf:… [default: the published set]",
)
_WEIGHTS_OF_SEVERAL = click.option(
    "--weights",
    multiple=True,
    metavar="SOURCE",
    help="Weights: a file, a hub folder, a published set or hf:…; of one MODEL: MODEL=SOURCE. Repeatable.",
)
#: options of which both values are a choice
CHOICES = ("ema", "transform_input")

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--untrained", is_flag=True, help="Run the network without trained weights; its answers are random."
    ),
    click.option("--labels", metavar="FILE", help="Names of the classes. [default: those of the weights]"),
    click.option(
        "--preprocess",
        metavar="NAME|FILE",
        help="Preprocessing: whole (nothing cropped), a protocol or a file. [default: that of the weights]",
    ),
    click.option(
        "--outputs",
        metavar="KIND",
        help="What outputs are: logits, probabilities, sigmoids or independent-logits. [default: as seen]",
    ),
    click.option("--sha256", metavar="DIGEST", help="Digest that the file of the weights must have."),
    click.option(
        "--ema/--no-ema",
        default=None,
        help="Averaged or raw weights of a file with both. [default: averaged]",
    ),
    click.option(
        "--transform-input/--no-transform-input",
        default=None,
        help="torchvision's googlenet, inception_v3: rescale pixels. [default: as published]",
    ),
    click.option("--accept-unverified", is_flag=True, help="Allow weights that have no published digest."),
)


def weights_options(function: Function) -> Function:
    """Adds the options of `resolving.resolve`; the command gets them as keyword arguments."""
    return _with(function, _WEIGHTS)


def weights_options_of_several(function: Function) -> Function:
    """The same for a verb that takes several networks: `weights` is a tuple; see `weights_by_model`."""
    return _with(function, _WEIGHTS_OF_SEVERAL)


def _with(function: Function, weights: Callable[[Any], Any]) -> Function:
    for option in reversed((weights, *_OPTIONS)):
        function = option(function)
    return function


def weights_by_model(given: tuple[str, ...], models: tuple[str, ...]) -> str | dict[str, str] | None:
    """The values of --weights: one source for all `models`, or one each, as MODEL=SOURCE."""
    named: dict[str, str] = {}
    plain: list[str] = []
    for text in given:
        model = next((one for one in models if text.startswith(f"{one}=")), None)
        if model is None:
            plain.append(text)
        elif model in named:
            raise click.UsageError(f"--weights has two sources for {model}.")
        else:
            named[model] = text[len(model) + 1 :]
    if len(plain) > 1 or (plain and named):
        raise click.UsageError("Several --weights must each name their network: --weights MODEL=SOURCE.")
    return plain[0] if plain else named or None


trust_option = click.option(
    "--trust-code",
    is_flag=True,
    help="Run a Bundle of native code that another machine made: it can do all that you can.",
)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
