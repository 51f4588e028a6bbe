"""Weights by the names of a network's own state dict, as arrays: what a graph that ships is filled with.

Names and shapes must be the network's, but for its number of classes. Nothing is matched by order, and
nothing translated as timm's own functions would: what needs that needs timm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vertebra.errors import MissingRuntimeError, WeightsError
from vertebra.zoo import adapters, dialects, weights
from vertebra.zoo.graphs import filling, store
from vertebra.zoo.graphs.filling import Slot

if TYPE_CHECKING:
    from vertebra.progress import Listener
    from vertebra.zoo.conversion import Array
    from vertebra.zoo.names import Model


#: networks that rescale their pixels where they have weights
_RESCALING = ("torchvision:googlenet", "torchvision:inception_v3")


class Taken(NamedTuple):
    """The arrays out of a file by the network's own names, what these weights are called, their number of
    classes, and lines on what was taken out of the file."""

    arrays: Mapping[str, Array]
    name: str
    num_classes: int
    notes: tuple[str, ...]


def take(
    model: Model,
    source: str | Path,
    *,
    ema: bool | None = None,
    sha256: str | None = None,
    accept_unverified: bool = False,
    input_size: int | None = None,
    progress: Listener | None = None,
) -> Taken:
    """The weights `source` for the graph of `model`, a source as `zoo.build` takes it.

    Raises WeightsError, in one line with what differs first, UnknownNameError, DownloadError and
    MissingRuntimeError.
    """
    if model.source == "vertebra":
        ours = weights.take(
            model.name, source, ema=ema, sha256=sha256, accept_unverified=accept_unverified, progress=progress
        )
        return Taken(ours.state, ours.name, len(ours.state["head.classifier.bias"]), ours.notes)
    if source == "pretrained":
        source, digits = adapters.load(model.source).published(model)
        sha256 = sha256 or digits
    return _of_library(
        model, source, weights.file_of(source, sha256=sha256, progress=progress), ema, input_size
    )


def _of_library(
    model: Model, source: str | Path, path: Path, ema: bool | None, input_size: int | None
) -> Taken:
    if model.name.partition(".")[0] in _RESCALING:
        raise MissingRuntimeError.of(
            f"{model.name} with weights, which rescales its pixels as its graph doesn't,", "torchvision",
            "torch,catalogue",
        )  # fmt: skip
    from vertebra.zoo import checkpoints
    from vertebra.zoo.checkpoints import prefixes

    graph = store.find(model.name, input_size)
    slots = tuple(Slot(*one) for one in graph.parameters())
    found = checkpoints.take(path, ema=ema)
    bare = prefixes.without(found.arrays, {slot.key for slot in slots}, found.left_of(ema))
    passed_over = {one.key for one in graph.unused}
    state = {key: array for key, array in bare.state.items() if key not in passed_over}
    skeleton = store.skeleton(graph)
    classes = filling.other_classes(skeleton, slots, state)
    try:
        filling.check(model.name, filling.resized(slots, state) if classes else slots, state)
    except WeightsError as error:
        if model.source not in adapters.LIBRARIES:
            raise
        raise WeightsError(
            error.message,
            f"check that the file is this network's; {model.source} translates some files' names itself: "
            'pip install "vertebra[torch,catalogue]"',
        ) from error
    dialects.check_finite(state)
    count = classes or filling.classes_of(skeleton) or 1000
    return Taken(state, prefixes.called(source, found, bare), count, prefixes.told(source, found, bare))


def fused(arrays: Mapping[str, Any]) -> dict[str, Array]:
    """The parameters of an ACNet's deploy form, from those of its form for training: each block's three
    convolutions and norms become one convolution with a bias (arXiv 1908.03930, section 3.3)."""
    branches = ("square", "vertical", "horizontal")
    ending = ".square.conv.weight"
    blocks = [key.removesuffix(ending) for key in arrays if key.endswith(ending)]
    inside = tuple(f"{block}.{branch}." for block in blocks for branch in branches)
    made = {key: array for key, array in arrays.items() if not key.startswith(inside)}
    for block in blocks:
        (kernel, bias), (tall, more), (wide, rest) = (_absorbed(arrays, f"{block}.{one}") for one in branches)
        middle = kernel.shape[-1] // 2
        kernel[:, :, :, middle] += tall[:, :, :, 0]
        kernel[:, :, middle, :] += wide[:, :, 0, :]
        made |= {f"{block}.weight": kernel, f"{block}.bias": bias + (more + rest)}
    return made


def _absorbed(arrays: Mapping[str, Any], branch: str) -> tuple[Array, Array]:
    """The kernel and bias of a branch, its batch norm multiplied in."""
    import numpy as np

    norm = {part: arrays[f"{branch}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
    factor = norm["weight"] / np.sqrt(norm["running_var"] + np.float32(1e-5))
    kernel = arrays[f"{branch}.conv.weight"] * factor[:, None, None, None]
    return kernel, norm["bias"] - norm["running_mean"] * factor
