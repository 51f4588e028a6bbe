"""Where a converted network leaves eager: the layer at which the two begin to differ, and the worst one.

Converters rename, fold and reorder layers, so none is looked up by its name. What each of eager's layers
gives is compared with every tensor of the converted graph that has as many elements: the nearest one counts.
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

#: How often as large as before it an error must be to be a layer's own.
_JUMP = 10
#: Errors of less than this share of the limit are rounding, and so is the least one.
_ROUNDING, _LEAST = 0.01, 1e-7
#: What all layers together may give, to be kept as outputs.
_MOST_BYTES = 2**30
#: Of two tensors so many places are compared, to find the nearest of many.
_PLACES = 1000


@dataclass(frozen=True)
class Layer:
    """What one of eager's layers gives, against the graph: the largest difference from the nearest tensor,
    relative to the spread of eager's; infinite where none has its size. `chained`: all that it takes is what
    the layer before it gave."""

    name: str
    kind: str
    error: float
    chained: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


def tell(kept: Bundle, network: nn.Module, images: Array) -> str:
    """One sentence on where the Bundle's graph, in float32, leaves `network` on `images` (N, C, H, W)."""
    limit = parity.LIMITS["float32"]
    try:
        if kept.format in intermediates.OPENED:
            return verdict(compare(network, images, tensors(kept, images), limit), limit)
        return _tell_again(kept, network, images, limit)
    except (VertebraError, RuntimeError) as error:  # not to stand in the way of what it was asked for
        return f"At which layer can't be told: {str(error).strip()}"


def tensors(kept: Bundle, images: Array) -> Iterable[Array]:
    """All that the Bundle's graph makes of `images` on its way, of a format that can be opened."""
    return intermediates.OPENED[kept.format](kept.network, images)


def _tell_again(kept: Bundle, network: nn.Module, images: Array, limit: float) -> str:
    """The same of a format that shows nothing but its end."""
    given = [0]
    with torch.inference_mode(), intermediates.watched(network, lambda *of: given.append(of[2].nbytes)):
        expected = network(torch.from_numpy(images)).numpy()
    if sum(given) > _MOST_BYTES:
        size, most = units.show(sum(given), "B"), units.show(_MOST_BYTES, "B")
        return f"At which layer can't be told: what they give takes {size}, and {most} may be kept."
    end, *answers = intermediates.shown(kept, network, images)
    again = "Converted again with its layers' answers as outputs"
    if _agree(expected, end):
        return (
            f"{again}, the network answers the reference images right: the fault is the file's alone, "
            "in what the engine joins where nothing between is shown, or with other images."
        )
    return f"{again}: {verdict(compare(network, images, [end, *answers], limit), limit)}"


def _agree(expected: Array, got: Array) -> bool:
    try:
        parity.check_outputs(expected, got)
    except VertebraError:
        return False
    return True


def verdict(layers: Iterable[Layer], limit: float) -> str:
    """The layer whose error is larger than all before it by the greatest factor, and the worst one."""
    floor = before = max(limit * _ROUNDING, _LEAST)
    first, jump, told_before, worst = None, float(_JUMP), before, None
    for layer in layers:
        if layer.error > jump * before:
            first, jump, told_before = layer, layer.error / before, before
        if worst is None or layer.error > worst.error:
            worst = layer
        before = max(before, layer.error)
    if worst is None or worst.error <= floor * _JUMP:
        last = "they" if worst is None else "all layers"
        return f"In float32 {last} agree when opened: the fault comes after the last, or with the precision."
    if first is None:
        return f"No layer stands out; the worst is {_off(worst)}."
    so_far = f"at most {told_before:.1g}" if told_before > floor else "rounding alone"
    also = "" if worst == first else f"; the worst is {_off(worst)}"
    return f"It begins at the layer {_off(first)}, after {so_far}{also}."


def _off(layer: Layer) -> str:
    if layer.error == float("inf"):
        return f"{layer}, of whose size the graph has nothing"
    return f"{layer}, off by {layer.error:.2g} of its spread"


def compare(network: nn.Module, images: Array, theirs: Iterable[Array], limit: float) -> list[Layer]:
    """Every layer of `network`, in the order in which they answer, against `theirs`, the graph's tensors.
    Left out is what has none because it was folded into a layer behind it that agrees within `limit`."""
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
        elif layer.error * _JUMP < before.error:  # no layer mends so much: the graph has both in one
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
