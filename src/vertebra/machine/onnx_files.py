"""What an ONNX file says of itself: its operators, its constants, where their data are, its precision.

A reader of protobuf's wire format that skips the parameters' values: it needs no package, reads little of a
large file, and knows only the few fields that are asked for here (onnx.proto has them all).
"""

from __future__ import annotations

import mmap
import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import NamedTuple

from vertebra.errors import InvalidInputError
from vertebra.machine.protobuf import Content, fields, number_at, span_of, text_of

#: onnx.proto's numbers of the types of elements
KINDS = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16", 17: "float8e4m3fn",
    18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1",
    24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip
_FLOATS = ("float32", "float16", "bfloat16", "float64")
#: what parameters of eight bits and more common types are stored in; anything shorter is its own precision
_COMMON = (*_FLOATS, "int8", "uint8", "int32", "uint32", "int64", "uint64", "bool")
#: Graphs hold graphs (branches, loops); deeper than this is no real network.
_DEEPEST = 16

#: operators that round what flows between the layers to integers
_ROUNDING = {
    "QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QGemm", "QAttention",
    "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM",
}  # fmt: skip
#: operators that leave the values as they are, or nearly so
_PASSING = {
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Transpose", "QuantizeLinear",
    "DequantizeLinear", "Dropout",
}  # fmt: skip


class Constant(NamedTuple):
    """A tensor of the file: its elements' type, and the name of the other file that holds its data, if one
    does."""

    name: str
    kind: str
    shape: tuple[int, ...]
    location: str | None

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        bits = re.match(r"[a-z]+(64|32|16|8|4|2)", self.kind)
        return -(-self.elements * (int(bits[1]) if bits else 8) // 8)


class Node(NamedTuple):
    """One operator with the names of the tensors that it takes and gives; and its equation, if it has one."""

    kind: str
    domain: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    equation: str = ""


@dataclass(frozen=True)
class OnnxFile:
    """The graph in `path`. `nodes` and `constants` include those of inner graphs, after the graph's own."""

    path: Path
    opset: int
    nodes: tuple[Node, ...]
    constants: tuple[Constant, ...]
    outputs: tuple[str, ...] = field(default=())

    @cached_property
    def locations(self) -> tuple[str, ...]:
        """The files that hold data of the network, as the file names them: relative to its folder."""
        return tuple(dict.fromkeys(one.location for one in self.constants if one.location is not None))

    @cached_property
    def precision(self) -> str:
        """In what the network computes: int8 where it rounds between its layers, int8-weights where only its
        parameters have eight bits, else the type of most of its parameters. A type of fewer bits, or of 16
        that is no float, is named as it is ("int4"), and no engine here runs it."""
        elements: Counter[str] = Counter()
        for one in self.constants:
            if len(one.shape) > 1:
                elements[one.kind] += one.elements
        short = [kind for kind in elements if kind not in _COMMON]
        if short:
            return max(short, key=elements.__getitem__)
        if any(node.kind in _ROUNDING or node.kind.startswith("QLinear") for node in self.nodes):
            return "int8"
        if any(node.kind == "DequantizeLinear" for node in self.nodes):
            return "int8-weights"
        floats = [kind for kind in _FLOATS if elements[kind]]
        return max(floats, key=elements.__getitem__) if floats else "float32"

    @cached_property
    def ending(self) -> str:
        """The operator that gives the answers, apart from those that only change their shape or type; empty
        where there is none."""
        makers: dict[str, Node] = {}
        for node in self.nodes:
            for name in node.gives:
                makers.setdefault(name, node)
        name = self.outputs[0] if self.outputs else ""
        for _ in range(len(self.nodes)):
            node_ = makers.get(name)
            if node_ is None or node_.kind not in _PASSING or not node_.takes:
                return "" if node_ is None else node_.kind
            name = node_.takes[0]
        return ""


def read(path: Path) -> OnnxFile:
    """The graph in the file, without its parameters' values. Raises InvalidInputError where it isn't one."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _network(path, content)
    except (OSError, ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"{path} can't be read as a network: {error or 'it is damaged'}.",
            "use an ONNX file that ONNX Runtime can run",
        ) from error


class End(NamedTuple):
    """An input or an output of a network: its name, its elements' type, and its extents; None: any."""

    name: str
    kind: str
    shape: tuple[int | None, ...]


def ends(path: Path) -> tuple[list[End], list[End]]:
    """The inputs and outputs of the network in the file. Raises InvalidInputError where it isn't one."""
    constants = {one.name for one in read(path).constants}
    inputs, outputs = list[End](), list[End]()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for number, graph in fields(content, 0, len(content)):
            for inner, value in fields(content, *span_of(graph)) if number == 7 else ():
                if inner in (11, 12):
                    (inputs if inner == 11 else outputs).append(_end(content, value))
    return [one for one in inputs if one.name not in constants], outputs


def data_files(found: OnnxFile) -> list[Path]:
    """The other files that hold the network's data. Raises InvalidInputError where one is missing, or outside
    the file's folder."""
    files = []
    for location in found.locations:
        path = Path(location)
        if path.is_absolute() or ".." in path.parts or "\\" in location or "\0" in location or not path.parts:
            raise InvalidInputError(
                f'{found.path} has data in "{location[:200]}", which isn\'t in its folder.',
                "save it again with its data beside it: onnx.save(..., save_as_external_data=True)",
            )
        beside = found.path.parent / path
        if not beside.is_file():
            raise InvalidInputError(
                f"{found.path} has its data in {location}, and there is no file {beside}.",
                "put that file beside it: both belong together",
            )
        files.append(beside)
    return files


# ------------------------------------------------------------------ onnx.proto


def _network(path: Path, content: Content) -> OnnxFile:
    opset, outputs = 0, tuple[str, ...]()
    nodes: list[Node] = []
    constants: list[Constant] = []
    graphs = []
    for number, value in fields(content, 0, len(content)):
        if number == 8:  # opset_import
            entry = dict(fields(content, *span_of(value)))
            domain = text_of(content, entry[1]) if 1 in entry else ""
            if domain in ("", "ai.onnx"):
                opset = int(entry.get(2, 0))  # type: ignore[arg-type]
        elif number == 7:
            outputs = _graph(content, value, nodes, constants, 0)
            graphs.append(value)
        elif number == 25:  # a function: like a graph, with its operators in field 7
            for inner, node in fields(content, *span_of(value)):
                if inner == 7:
                    _node(content, node, nodes, constants, 1)
    if not graphs:
        raise ValueError("it has no graph")
    return OnnxFile(path, opset, tuple(nodes), tuple(constants), outputs)


def _graph(
    content: Content, span: int | tuple[int, int], nodes: list[Node], constants: list[Constant], depth: int
) -> tuple[str, ...]:
    if depth > _DEEPEST:
        raise ValueError("its graphs are nested too deeply")
    outputs, held = [], []
    for number, value in fields(content, *span_of(span)):
        if number == 1:
            held.append(value)
        elif number == 5:
            constants.append(_constant(content, value))
        elif number == 12:
            name = dict(fields(content, *span_of(value))).get(1)
            outputs.append("" if name is None else text_of(content, name))
    for value in held:
        _node(content, value, nodes, constants, depth)
    return tuple(outputs)


def _end(content: Content, span: int | tuple[int, int]) -> End:
    """A ValueInfoProto: its name (1), and in its type (2) a tensor's (1) elements (1) and extents (2)."""
    value = dict(fields(content, *span_of(span)))
    kind, shape = 0, list[int | None]()
    for number, tensor in fields(content, *span_of(value[2])) if 2 in value else ():
        for inner, part in fields(content, *span_of(tensor)) if number == 1 else ():
            if inner == 1 and isinstance(part, int):
                kind = part
            elif inner == 2:
                for _, extent in fields(content, *span_of(part)):
                    known = dict(fields(content, *span_of(extent))).get(1)
                    shape.append(known if isinstance(known, int) else None)
    return End(text_of(content, value[1]), KINDS.get(kind, f"type {kind}"), tuple(shape))


def _node(
    content: Content, span: int | tuple[int, int], nodes: list[Node], constants: list[Constant], depth: int
) -> None:
    takes, gives, kind, domain = [], [], "", ""
    inner: list[int | tuple[int, int]] = []
    for number, value in fields(content, *span_of(span)):
        if number == 1:
            takes.append(text_of(content, value))
        elif number == 2:
            gives.append(text_of(content, value))
        elif number == 4:
            kind = text_of(content, value)
        elif number == 7:
            domain = text_of(content, value)
        elif number == 5:
            inner.append(value)
    equation = _equation(content, inner) if kind == "Einsum" else ""
    nodes.append(Node(kind, domain, tuple(takes), tuple(gives), equation))
    for attribute in inner:
        for number, value in fields(content, *span_of(attribute)):
            if number in (5, 10):
                made = gives[0] if kind == "Constant" and gives else None
                constants.append(_constant(content, value, made))
            elif number in (6, 11):
                _graph(content, value, nodes, constants, depth + 1)


def _equation(content: Content, attributes: list[int | tuple[int, int]]) -> str:
    for span in attributes:
        held = dict(fields(content, *span_of(span)))
        if 1 in held and 4 in held and text_of(content, held[1]) == "equation":
            return text_of(content, held[4])
    return ""


def _constant(content: Content, span: int | tuple[int, int], name: str | None = None) -> Constant:
    shape: list[int] = []
    kind, own, location = 0, "", None
    for number, value in fields(content, *span_of(span)):
        if number == 1 and isinstance(value, int):
            shape.append(value)
        elif number == 1:
            place, end = span_of(value)
            while place < end:
                extent, place = number_at(content, place)
                shape.append(extent)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            own = text_of(content, value)
        elif number == 13:
            entry = {key: text_of(content, text) for key, text in fields(content, *span_of(value))}
            location = entry.get(2, "") if entry.get(1) == "location" else location
    return Constant(name or own, KINDS.get(kind, f"type {kind}"), tuple(shape), location)
