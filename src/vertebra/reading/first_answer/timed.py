"""The networks that run in the visitor's browser: their graphs without parameters, and where those go."""

from __future__ import annotations

import base64
import gzip
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertebra.errors import InvalidInputError
from vertebra.machine import leftovers, protobuf
from vertebra.measurements import shipped
from vertebra.measuring import estimation
from vertebra.reading.choice import field
from vertebra.zoo.graphs import drawing, filling, store

#: How many networks run in the browser.
ANCHORS = 8
#: What an anchor has at most: a phone must run it several times in a few seconds, and hold all of them.
_MOST_MACS, _MOST_PARAMS = 2e9, 15e6
#: The numbers of fields in onnx.proto: GraphProto's initialisers; TensorProto's dims, name, external_data.
_GRAPH, _INITIALIZER, _DIMS, _NAME, _EXTERNAL = 7, 5, 1, 8, 13


@dataclass(frozen=True)
class Timed:
    """A network for the browser: `graph` is its model.onnx, whose parameters stand in a file that the page
    makes. `parameters` are the name, the first byte and the shape of each; the file has `size` bytes."""

    name: str
    input_size: int
    level: float
    graph: bytes
    parameters: tuple[tuple[str, int, tuple[int, ...]], ...]
    size: int

    def packed(self) -> dict[str, Any]:
        """As JSON for the page, which draws the parameters by their names."""
        return {
            "name": self.name,
            "size": self.input_size,
            "level": self.level,
            "graph": base64.b64encode(gzip.compress(self.graph, 9, mtime=0)).decode(),
            "parameters": [[name, offset, *shape] for name, offset, shape in self.parameters],
            "bytes": self.size,
        }


def anchors(count: int = ANCHORS) -> list[str]:
    """The networks that say most about all others, among the small ones with a published accuracy and a
    graph that ships."""
    return estimation.anchors(count, among=[name for name in sorted(store.names()) if _is_small(name)])


def _is_small(name: str) -> bool:
    counts = shipped.counts().get(name)
    if counts is None or name not in field.names():
        return False
    if counts.macs > _MOST_MACS or counts.params > _MOST_PARAMS:
        return False
    try:
        return store.find(name, counts.input_size).answers is not None
    except InvalidInputError:
        return False


def timed(name: str) -> Timed:
    """The network for pictures of the size that it is counted at. Raises what `store.find` raises, and
    InvalidInputError where nothing is known of it to estimate others by."""
    counts = shipped.counts().get(name)
    if counts is None:
        raise InvalidInputError(f"{name} can't be timed for estimates: its counts are not known.")
    graph = store.find(name, counts.input_size)
    skeleton = filling.with_size(store.skeleton(graph), counts.input_size)
    slots = tuple(filling.Slot(*one) for one in graph.parameters())
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        path = Path(scratch) / "model.onnx"
        filling.write(skeleton, slots, filling.drawn(graph.name, slots), path)
        content, size = path.read_bytes(), path.with_name("model.onnx.data").stat().st_size
    return Timed(
        name, counts.input_size, drawing.level_of(graph.name), content, _places(content), size
    )  # fmt: skip


def _places(model: bytes) -> tuple[tuple[str, int, tuple[int, ...]], ...]:
    """Name, offset and shape of each parameter that stands in the model's data file."""
    found = []
    ((begin, end),) = (protobuf.span_of(value) for number, value in protobuf.fields(model, 0, len(model))
                       if number == _GRAPH)  # fmt: skip
    for number, value in protobuf.fields(model, begin, end):
        if number != _INITIALIZER:
            continue
        shape, name, entries = [], "", {}
        for inner, one in protobuf.fields(model, *protobuf.span_of(value)):
            if inner == _DIMS:
                shape += [one] if isinstance(one, int) else _packed(model, protobuf.span_of(one))
            elif inner == _NAME:
                name = protobuf.text_of(model, one)
            elif inner == _EXTERNAL:
                parts = dict(protobuf.fields(model, *protobuf.span_of(one)))
                entries[protobuf.text_of(model, parts[1])] = protobuf.text_of(model, parts[2])
        if entries:
            found.append((name, int(entries["offset"]), tuple(shape)))
    return tuple(found)


def _packed(model: bytes, span: tuple[int, int]) -> list[int]:
    place, found = span[0], list[int]()
    while place < span[1]:
        number, place = protobuf.number_at(model, place)
        found.append(number)
    return found
