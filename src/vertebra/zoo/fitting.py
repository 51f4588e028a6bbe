"""Weights from a file by the names of a network's own state dict: what a graph that ships is filled with.

Names and shapes must be the network's, but for its number of classes. Nothing is matched by order, and
nothing translated as timm's own functions would: what needs that needs timm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vertebra.errors import MissingRuntimeError, WeightsError
from vertebra.zoo import dialects, renaming
from vertebra.zoo.graphs import filling, store
from vertebra.zoo.graphs.filling import Slot

if TYPE_CHECKING:
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


def of_library(
    model: Model, source: str | Path, path: Path, ema: bool | None, input_size: int | None = None
) -> Taken:
    """The weights in the file at `path`, called `source`, for the graph of another library's `model`. Raises
    WeightsError, in one line with what differs first, and MissingRuntimeError for what needs the library."""
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
    wanted = {slot.key for slot in slots}
    arrays, note = renaming.renamed(model.name, found.arrays, wanted)
    bare = prefixes.without(arrays, wanted, found.left_of(ema))
    passed_over = {one.key for one in graph.unused}
    state = {key: array for key, array in bare.state.items() if key not in passed_over}
    skeleton = store.skeleton(graph)
    classes = filling.other_classes(skeleton, slots, state)
    try:
        filling.check(model.name, filling.resized(slots, state) if classes else slots, state)
    except WeightsError as error:
        raise WeightsError(
            error.message,
            f"check that the file is this network's; {model.source} translates some files' names itself: "
            'pip install "vertebra[torch,catalogue]"',
        ) from error
    dialects.check_finite(state)
    count = classes or filling.classes_of(skeleton) or 1000
    notes = prefixes.told(source, found, bare)
    if note is not None:
        notes += (f"{Path(source).name}: {note}",)
    return Taken(state, prefixes.called(source, found, bare), count, notes)
