"""The range of a network's activations, layer by layer, from one eager run.

Untrained parameters are as fast as trained ones only while the numbers in between are ordinary: arithmetic on
subnormal numbers (below 1.2e-38 in float32) takes many processors ten times as long or more, and infinities
say nothing about the outputs. So a network is checked once before it is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vertebra.errors import UnsuitableNetworkError

#: The allowed share of subnormal numbers in a layer: a few among thousands cost nothing.
_MOST_SUBNORMAL = 1e-3
#: The range in which a layer's largest number is ordinary: far inside float16's and float32's in all engines.
_LEAST, _MOST = 1e-20, 1e20


@dataclass(frozen=True)
class Range:
    """One layer's output. `smallest` and `largest` are of the magnitudes of its finite numbers other than 0,
    and 0.0 where there are none; `subnormal` is the share of such numbers among all, `nonfinite` that of
    infinities and NaN."""

    layer: str
    kind: str
    smallest: float
    largest: float
    subnormal: float
    nonfinite: float


def run(network: nn.Module, images: Tensor) -> tuple[Tensor, list[Range]]:
    """The output of `network` for `images` (N, C, H, W), and the range of every layer in call order.

    A layer is a module that calls no other. The network is run as it is: set it to evaluation mode first.
    """
    ranges: list[Range] = []
    with torch.inference_mode(), ExitStack() as hooks:
        for name, module in network.named_modules():
            if next(module.children(), None) is None:
                hooks.callback(module.register_forward_hook(_Watch(name, ranges)).remove)
        outputs = network(images)
        ranges.append(_range("(outputs)", type(network).__name__, _floats(outputs)))
    return outputs, ranges


def defects(ranges: Iterable[Range]) -> list[str]:
    """What isn't ordinary: the first layer of each kind of defect, in words."""
    found: dict[str, str] = {}
    for one in ranges:
        for kind, text in _defects(one):
            found.setdefault(kind, text)
    return list(found.values())


def check(ranges: Iterable[Range]) -> None:
    """Raises UnsuitableNetworkError, naming the first layer, where activations are infinite or extreme."""
    found = defects(ranges)
    if found:
        raise UnsuitableNetworkError(
            f"The untrained parameters don't suit this network: {'; '.join(found)}.",
            "measure it with trained weights, or initialise its layers differently",
        )


class _Watch:
    """A forward hook that records a module's output before an operation in place can change it."""

    def __init__(self, name: str, ranges: list[Range]) -> None:
        self._name, self._ranges = name, ranges

    def __call__(self, module: nn.Module, _inputs: object, outputs: object) -> None:
        tensors = _floats(outputs)
        if tensors:
            self._ranges.append(_range(self._name, type(module).__name__, tensors))


def _floats(outputs: object) -> list[Tensor]:
    leaves = tree_leaves(outputs)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel()]


def _range(layer: str, kind: str, tensors: list[Tensor]) -> Range:
    sizes = torch.cat([tensor.detach().flatten() for tensor in tensors]).abs_()
    number = sizes.numel()
    finite = int(sizes.isfinite().count_nonzero())
    if finite < number:
        sizes = sizes[sizes.isfinite()]
    zeros = sizes == 0
    subnormal = int((sizes < torch.finfo(sizes.dtype).tiny).count_nonzero() - zeros.count_nonzero())
    largest = float(sizes.max()) if finite else 0.0
    smallest = float(sizes.masked_fill_(zeros, torch.inf).min()) if largest else 0.0
    return Range(layer, kind, smallest, largest, subnormal / number, (number - finite) / number)


def _defects(one: Range) -> list[tuple[str, str]]:
    where = f"in layer {one.layer} ({one.kind})"
    found = []
    if one.nonfinite > 0:
        found.append(("nonfinite", f"{100 * one.nonfinite:.3g} % infinite or NaN {where}"))
    if one.subnormal > _MOST_SUBNORMAL:
        found.append(("subnormal", f"{100 * one.subnormal:.3g} % subnormal activations {where}"))
    if 0 < one.largest < _LEAST:
        found.append(("small", f"no activation above {one.largest:.3g} {where}"))
    if one.largest > _MOST:
        found.append(("large", f"activations up to {one.largest:.3g} {where}"))
    return found
