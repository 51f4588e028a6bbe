"""Where a converted network differs from eager: the layer at which it begins, and the worst one.

Converters rename, fold and reorder layers, so none is looked up by its name. Each output of eager's layers
is compared with every tensor of the converted graph that has as many elements: the nearest one counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vertebra import parity, units
from vertebra.bundles import Bundle
from vertebra.errors import VertebraError
from vertebra.exporting import intermediates

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

#: A layer is at fault if its error is this many times larger than before it.
_JUMP = 10
#: Errors below this share of the limit are rounding, and so are errors below the least one.
_ROUNDING, _LEAST = 0.01, 1e-7
#: The outputs of all layers together may take this much memory.
_MOST_BYTES = 2**30
#: To find the nearest of many tensors, this many of their values are compared.
_PLACES = 1000


@dataclass(frozen=True)
class Layer:
    """The output of one of eager's layers against the graph: `error` is the largest difference from the
    nearest tensor, relative to the spread of eager's, and infinite if no tensor has its size. `chained`: its
    only input is the output of the layer before it."""

    name: str
    kind: str
    error: float
    chained: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


def describe(kept: Bundle, network: nn.Module, images: Array) -> str:
    """One sentence: where the Bundle's graph, in float32, differs from `network` on `images` (N, C, H, W)."""
    limit = parity.LIMITS["float32"]
    try:
        if kept.format in intermediates.OPENED:
            return verdict(compare(network, images, tensors(kept, images), limit), limit)
        return _describe_again(kept, network, images, limit)
    except (VertebraError, RuntimeError) as error:  # this must not hide the error that it explains
        return f"The layer at fault can't be found: {str(error).strip()}"


def tensors(kept: Bundle, images: Array) -> Iterable[Array]:
    """Every tensor that the Bundle's graph computes from `images`, for a format that can be opened."""
    return intermediates.OPENED[kept.format](kept.network, images)


def _describe_again(kept: Bundle, network: nn.Module, images: Array, limit: float) -> str:
    """The same for a format that shows nothing but its outputs."""
    given = [0]
    with torch.inference_mode(), intermediates.watched(network, lambda *of: given.append(of[2].nbytes)):
        expected = network(torch.from_numpy(images)).numpy()
    if sum(given) > _MOST_BYTES:
        size, most = units.show(sum(given), "B"), units.show(_MOST_BYTES, "B")
        return f"The layer at fault can't be found: the layers' outputs take {size}; at most {most} are kept."
    end, *answers = intermediates.shown(kept, network, images)
    again = "Converted again with every layer's result as an output"
    if _agree(expected, end):
        return (
            f"{again}, the network is right on the reference images: the fault is only in the first file, "
            "in layers that the engine merges if their results are no outputs, or with other images."
        )
    return f"{again}: {verdict(compare(network, images, [end, *answers], limit), limit)}"


def _agree(expected: Array, got: Array) -> bool:
    try:
        parity.check_outputs(expected, got)
    except VertebraError:
        return False
    return True


def verdict(layers: Iterable[Layer], limit: float) -> str:
    """The layer with the largest jump over all errors before it, and the worst one."""
    floor = before = max(limit * _ROUNDING, _LEAST)
    first, jump, jumped_from, worst = None, float(_JUMP), before, None
    for layer in layers:
        if layer.error > jump * before:
            first, jump, jumped_from = layer, layer.error / before, before
        if worst is None or layer.error > worst.error:
            worst = layer
        before = max(before, layer.error)
    if worst is None or worst.error <= floor * _JUMP:
        compared = "the graphs" if worst is None else "all layers"
        return f"In float32 {compared} agree: the fault is after the last layer, or in the precision."
    if first is None:
        return f"No layer is much worse than those before it; the worst is {_off(worst)}."
    so_far = f"at most {jumped_from:.1g}" if jumped_from > floor else "only rounding"
    also = "" if worst == first else f"; the worst is {_off(worst)}"
    return f"It begins at the layer {_off(first)}; before it: {so_far}{also}."


def _off(layer: Layer) -> str:
    if layer.error == float("inf"):
        return f"{layer}, for which the graph has no tensor of that size"
    return f"{layer}, off by {layer.error:.2g} of its spread"


def compare(network: nn.Module, images: Array, theirs: Iterable[Array], limit: float) -> list[Layer]:
    """Every layer of `network`, in the order in which they run, against `theirs`, the graph's tensors.
    A layer without a tensor is left out if it was folded into a later one that agrees within `limit`."""
    by_size: dict[int, list[Array]] = {}
    for tensor in theirs:
        by_size.setdefault(tensor.size, []).append(tensor.ravel())
    layers: list[Layer] = []

    def look(name: str, layer: nn.Module, answer: Tensor, chained: bool) -> None:
        expected = answer.numpy().ravel()
        error = _error(expected, by_size.get(expected.size, []))
        _append(layers, Layer(name, type(layer).__name__, error, chained), limit)

    with torch.inference_mode(), intermediates.watched(network, look):
        network(torch.from_numpy(images))
    return layers


def _append(layers: list[Layer], layer: Layer, limit: float) -> None:
    """The layer, in place of those before it that were folded into it, or joined with the one before."""
    if layer.error <= limit:
        chained = layer.chained
        while chained and layers and layers[-1].error > limit:
            chained = layers.pop().chained
    elif layer.chained and layers and layers[-1].error > limit:
        before = layers.pop()
        if layer.kind.startswith("BatchNorm"):
            layer = _joined(layer, before, layer.error, before.chained)
        elif layer.error * _JUMP < before.error:  # no layer corrects that much: the graph has both in one
            layer = _joined(before, layer, layer.error, before.chained)
        else:
            layers.append(before)
    layers.append(layer)


def _joined(layer: Layer, other: Layer, error: float, chained: bool) -> Layer:
    link = "," if ", with " in layer.kind else ", with"
    return Layer(layer.name, f"{layer.kind}{link} {other}", error, chained)


def _error(expected: Array, candidates: list[Array]) -> float:
    import numpy as np

    if not candidates:
        return float("inf")
    step = -(-expected.size // _PLACES)
    gaps = [float(np.abs(one[::step] - expected[::step]).sum()) for one in candidates]
    nearest = candidates[int(np.argmin(np.nan_to_num(gaps, nan=np.inf)))]
    spread = float(expected.std()) or float(np.abs(expected).max()) or 1.0
    error = float(np.abs(nearest - expected).max()) / spread
    return error if np.isfinite(error) else float("inf")
