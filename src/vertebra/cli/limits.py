"""The options that are limits, for the verbs that take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

#: limit -> (example, what it bounds), in the order of the help.
LIMITS = {
    "latency": ("10ms", "Latency of one batch, at most."),
    "fps": ("30", "Images per second at batch size 1, at least."),
    "memory": ("700MB", "Peak memory of the process, at most."),
    "size": ("20MB", "Size of the weights, at most."),
    "params": ("10M", "Parameters, at most."),
    "macs": ("1G", "Multiply-accumulates of one image, at most."),
    "operations": ("2G", "Operations (FLOPs, twice the MACs) of one image, at most."),
    "top1": ("70%", "Top-1 accuracy, at least."),
    "top5": ("90%", "Top-5 accuracy, at least."),
    "probe": ("85%", "Top-1 accuracy of a probe on your images, at least."),
}


def limit_options(names: Iterable[str] = LIMITS) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds an option for each of these limits."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed([*names]):
            example, text = LIMITS[name]
            function = click.option(f"--{name}", metavar=example, help=text)(function)
        return function

    return add
