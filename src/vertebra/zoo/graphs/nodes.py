"""A serialised ONNX graph, as far as filling it looks: operators, their attributes, and small constants."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from vertebra.machine import protobuf
from vertebra.machine.onnx_files import KINDS

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]
    Shape: TypeAlias = tuple[int | str | None, ...]

#: numbers of fields in onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto
GRAPH, NODE, INITIALIZER, INPUT, OUTPUT, VALUE_INFO = 7, 1, 5, 11, 12, 13
TAKES, GIVES, KIND, ATTRIBUTE = 1, 2, 4, 5
NAME, FLOAT, INT, TEXT, FLOATS, INTS = 1, 2, 3, 4, 7, 8
TENSOR_NAME = 8
_DIMS, _TYPE, _RAW = 1, 2, 9
#: constants of more numbers aren't computed with: places of elements have fewer, masks may have more
FEW = 1 << 16
_READ = ("float32", "float64", "int32", "int64", "bool")
_NUMBERS = {kind: number for number, kind in KINDS.items()}


@dataclass
class Node:
    """One operator: what it takes and gives, and its attributes, as the serialised graph has them."""

    kind: str = ""
    takes: list[str] = field(default_factory=list)
    gives: list[str] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    content: bytes = b""

    @property
    def attributes(self) -> dict[str, Any]:
        """Those that are numbers, texts or lists of numbers."""
        return dict(_attribute(self.content, span) for span in self.spans)


@dataclass(frozen=True)
class Constant:
    """A tensor of the graph; `span` is where its numbers are in `content`, if they are there as bytes."""

    kind: str
    shape: tuple[int, ...]
    content: bytes
    span: tuple[int, int] | None

    @property
    def few(self) -> Array | None:
        """Its numbers, unless there are many."""
        return self.values() if prod(self.shape) <= FEW else None

    def values(self) -> Array | None:
        """Its numbers; None where they aren't read here."""
        if self.span is None or self.kind not in _READ:
            return None
        import numpy as np

        held = np.frombuffer(self.content[slice(*self.span)], np.dtype(self.kind).newbyteorder("<"))
        return held.astype(self.kind).reshape(self.shape)


@dataclass
class Model:
    """A graph's operators in order, and by name its constants, and the kinds and shapes of its inputs."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    inputs: dict[str, tuple[str, Shape]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)


def read(skeleton: bytes) -> Model:
    """The graph of a serialised model. Raises ValueError where it isn't one."""
    for number, value in protobuf.fields(skeleton, 0, len(skeleton)):
        if number == GRAPH:
            begin, end = protobuf.span_of(value)
            return read_graph(skeleton[begin:end])
    raise ValueError("it has no graph")


def read_graph(graph: bytes) -> Model:
    """A serialised graph."""
    found = Model()
    for number, value in protobuf.fields(graph, 0, len(graph)):
        if number == NODE:
            found.nodes.append(node_at(graph, protobuf.span_of(value)))
        elif number == INITIALIZER:
            name, constant = _constant(graph, protobuf.span_of(value))
            found.constants[name] = constant
        elif number == INPUT:
            span = protobuf.span_of(value)
            found.inputs[text(graph, span, NAME)] = _typed(graph, span)
        elif number == OUTPUT:
            found.outputs.append(text(graph, protobuf.span_of(value), NAME))
    return found


def node_at(content: bytes, span: tuple[int, int]) -> Node:
    """The serialised operator at `span`."""
    node = Node(content=content)
    for number, value in protobuf.fields(content, *span):
        if number == TAKES:
            node.takes.append(protobuf.text_of(content, value))
        elif number == GIVES:
            node.gives.append(protobuf.text_of(content, value))
        elif number == KIND:
            node.kind = protobuf.text_of(content, value)
        elif number == ATTRIBUTE:
            node.spans.append(protobuf.span_of(value))
    return node


def text(content: bytes, span: tuple[int, int], wanted: int) -> str:
    """The first text in the field `wanted` of a message; empty where there is none."""
    return next((protobuf.text_of(content, value) for number, value in protobuf.fields(content, *span)
                 if number == wanted), "")  # fmt: skip


def _attribute(content: bytes, span: tuple[int, int]) -> tuple[str, Any]:
    name = ""
    value: Any = None
    several = list[Any]()
    for number, found in protobuf.fields(content, *span):
        if number == NAME:
            name = protobuf.text_of(content, found)
        elif number == INT and isinstance(found, int):
            value = _signed(found)
        elif number == FLOAT:
            (value,) = struct.unpack("<f", content[slice(*protobuf.span_of(found))])
        elif number == TEXT:
            value = protobuf.text_of(content, found)
        elif number == INTS and isinstance(found, int):
            several.append(_signed(found))
        elif number == INTS:  # packed
            place, stop = protobuf.span_of(found)
            while place < stop:
                one, place = protobuf.number_at(content, place)
                several.append(_signed(one))
    return name, several if several else value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _constant(content: bytes, span: tuple[int, int]) -> tuple[str, Constant]:
    name, kind, dims, raw = "", "", list[int](), None
    for number, value in protobuf.fields(content, *span):
        if number == _DIMS and isinstance(value, int):
            dims.append(value)
        elif number == _TYPE and isinstance(value, int):
            kind = KINDS.get(value, "")
        elif number == TENSOR_NAME:
            name = protobuf.text_of(content, value)
        elif number == _RAW:
            raw = protobuf.span_of(value)
    return name, Constant(kind, tuple(dims), content, raw)


def _typed(content: bytes, span: tuple[int, int]) -> tuple[str, Shape]:
    """The kind of numbers and the shape in a ValueInfoProto: an extent is a number, a name or unknown."""
    kind, dims = "", list[int | str | None]()
    for type_ in _spans(content, span, 2):
        for tensor in _spans(content, type_, 1):
            for number, value in protobuf.fields(content, *tensor):
                if number == 1 and isinstance(value, int):
                    kind = KINDS.get(value, "")
                elif number == 2:
                    for one in _spans(content, protobuf.span_of(value), 1):
                        held = dict(protobuf.fields(content, *one))
                        named = protobuf.text_of(content, held[2]) if 2 in held else None
                        dims.append(extent if isinstance(extent := held.get(1), int) else named)
    return kind, tuple(dims)


def _spans(content: bytes, span: tuple[int, int], wanted: int) -> list[tuple[int, int]]:
    return [protobuf.span_of(value) for number, value in protobuf.fields(content, *span) if number == wanted]


# ------------------------------------------------------------------ writing


def initialiser(name: str, values: Array) -> bytes:
    """The part of a graph that holds a constant."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return protobuf.message(
        INITIALIZER,
        *(protobuf.number(_DIMS, extent) for extent in values.shape),
        protobuf.number(_TYPE, _NUMBERS[str(values.dtype)]),
        protobuf.text(TENSOR_NAME, name),
        protobuf.message(_RAW, little.tobytes()),
    )


def with_graph(model: bytes, change: Callable[[bytes], Iterable[bytes]]) -> bytes:
    """The serialised model with the parts of another graph. Raises ValueError if it has no graph."""
    made, found = [], False
    for number, value, part in protobuf.parts(model, 0, len(model)):
        if number == GRAPH:
            begin, end = protobuf.span_of(value)
            part, found = protobuf.message(GRAPH, *change(model[begin:end])), True
        made.append(part)
    if not found:
        raise ValueError("it has no graph")
    return b"".join(made)
