"""What follows from the size of the pictures is settled while a graph is filled: numbers computed from shapes
become constants, and the shape of each value is noted, as in an export.

An engine would find most of it when it loads the file, but not the batch after a reshape to [-1, ...].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from vertebra.machine import protobuf
from vertebra.machine.onnx_files import KINDS
from vertebra.zoo.graphs import extents, nodes
from vertebra.zoo.graphs.extents import Value
from vertebra.zoo.graphs.nodes import Model, Node

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

#: What holds for two batches of primes that no network has as an extent holds for all.
_BATCHES = 1009, 2003
#: what attention does to queries and keys before their shares are taken
_INSIDE = ("Reshape", "Transpose", "Mul", "MatMul", "Add", "Where")
_NUMBERS = {kind: number for number, kind in KINDS.items()}
#: an extent: a number, a name for the batch or a multiple of it, or unknown
Extent: TypeAlias = int | str | None


@dataclass(frozen=True)
class _Settled:
    """What follows: `constants` by the names of values, `targets` of reshapes by the names of their answers,
    and the `shapes` of values with the kinds of their numbers."""

    constants: dict[str, Array]
    targets: Mapping[str, list[int]]
    shapes: Mapping[str, tuple[str, tuple[Extent, ...]]]


def settled(skeleton: bytes, parameters: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The model with what follows from its input's size. `parameters` are the kinds and shapes of those that
    it lacks. It stays as it is where the size isn't fixed."""
    model = nodes.read(skeleton)
    given = {name: one for name, one in model.inputs.items() if name not in parameters}
    if len(given) != 1:
        return skeleton
    ((images, (kind, shape)),) = given.items()
    batch, *rest = shape
    if not isinstance(batch, str) or not all(isinstance(extent, int) for extent in rest):
        return skeleton
    held = {name: Value(*one) for name, one in parameters.items()}
    found = [extents.follow(model, {**held, images: Value(kind, (size, *rest))}) for size in _BATCHES]  # type: ignore[arg-type]
    return nodes.with_graph(skeleton, lambda graph: _changed(graph, model, _follows(model, found, batch)))


def _follows(model: Model, found: list[dict[str, Value]], batch: str) -> _Settled:
    import numpy as np

    one, other = found
    made = [name for node in model.nodes for name in node.gives if name in one and name in other]
    shapes = {name: _extents(one[name].shape, other[name].shape, batch) for name in made}
    constants: dict[str, Array] = {}
    for node in model.nodes:
        # A part of a shape with the batch in it stays computed, as in an export.
        from_constants = all(name in constants or name in model.constants for name in node.takes)
        for name in node.gives if from_constants or node.kind == "Shape" else ():
            first, second = (found[name].held if name in found else None for found in (one, other))
            if first is None or second is None or name in model.outputs:
                continue
            if first.shape == second.shape and bool(np.array_equal(first, second)):
                constants[name] = first
    targets = dict[str, list[int]]()
    for node in model.nodes:
        if node.kind == "Reshape" and not {node.takes[1]} & {*constants, *model.constants}:
            told = shapes.get(node.gives[0], (None,) * 2)
            fixed = [extent for extent in told if isinstance(extent, int)]
            if len(fixed) >= len(told) - 1 and all(fixed) and node.attributes.get("allowzero"):
                targets[node.gives[0]] = [extent if isinstance(extent, int) else -1 for extent in told]
    inside = _inside_attention(model, {*targets}, {*constants, *model.constants})
    noted = {name: (one[name].kind, shape) for name, shape in shapes.items()
             if one[name].kind in _NUMBERS and name not in inside}  # fmt: skip
    return _Settled(constants, targets, noted)


def _inside_attention(model: Model, targets: Set[str], constants: Set[str]) -> Set[str]:
    """What an export notes no shapes of: from keys, which attention reshapes to a shape that it computes, to
    the shares. With these shapes ONNX Runtime would use memory twice that it can't in an export."""
    made = {name: node for node in model.nodes for name in node.gives}
    found = set[str]()
    for softmax in (node for node in model.nodes if node.kind == "Softmax"):
        inside, computed, waiting = {softmax.gives[0]}, False, [softmax.takes[0]]
        while waiting:
            name = waiting.pop()
            node = made.get(name)
            if node is None or name in inside or node.kind not in _INSIDE:
                continue
            if node.kind == "Reshape":
                if node.takes[1] in constants or name in targets or node.attributes.get("allowzero"):
                    continue
                computed = True
            inside.add(name)
            waiting += node.takes
        found |= inside if computed else set()
    return found


def _extents(one: tuple[int, ...], other: tuple[int, ...], batch: str) -> tuple[Extent, ...]:
    found = list[Extent]()
    for first, second in zip(one, other, strict=True):
        times, left = divmod(first, _BATCHES[0])
        if first == second:
            found.append(first)
        elif left == 0 and second == times * _BATCHES[1]:
            found.append(batch if times == 1 else f"{times}*{batch}")
        else:
            found.append(None)
    return tuple(found)


# ------------------------------------------------------------------ writing


def _changed(graph: bytes, model: Model, found: _Settled) -> Iterator[bytes]:
    """The parts of the serialised graph."""
    import numpy as np

    takes = {out: _name(target) for out, target in found.targets.items()}
    kept = _needed(model, found.constants, takes)
    used = {name for node in model.nodes if node.gives[0] in kept for name in _takes(node, takes)}
    for number, value, part in protobuf.parts(graph, 0, len(graph)):
        if number == nodes.NODE:
            begin, end = protobuf.span_of(value)
            (first, *_) = nodes.node_at(graph, (begin, end)).gives
            if first not in kept:
                continue
            if first in takes:
                part = protobuf.message(nodes.NODE, _to(graph[begin:end], takes[first]))
        elif number == nodes.VALUE_INFO:
            if nodes.text(graph, protobuf.span_of(value), nodes.NAME) in found.shapes:
                continue
        elif number == nodes.INITIALIZER:
            name = nodes.text(graph, protobuf.span_of(value), nodes.TENSOR_NAME)
            if name not in used and name not in model.outputs:
                continue
        yield part
    targets = {takes[out]: np.array(target, np.int64) for out, target in found.targets.items()}
    for name, held in (found.constants | targets).items():
        if name in used:
            yield nodes.initialiser(name, held)
    noted = {name for node in model.nodes if node.gives[0] in kept for name in node.gives} - {*model.outputs}
    for name, (kind, shape) in found.shapes.items():
        if name in noted:
            yield _value_info(name, kind, shape)


def _name(target: list[int]) -> str:
    """What a reshape's target is called: the same for the same one, and as nothing else in a graph is."""
    return f"to {' '.join(map(str, target))}"


def _takes(node: Node, changed: Mapping[str, str]) -> list[str]:
    return [node.takes[0], changed[node.gives[0]]] if node.gives[0] in changed else node.takes


def _needed(model: Model, constants: Mapping[str, Array], takes: Mapping[str, str]) -> Set[str]:
    """The first answers of the operators that the outputs depend on."""
    wanted, found = {*model.outputs}, set[str]()
    for node in reversed(model.nodes):
        if any(name in wanted and name not in constants for name in node.gives):
            found.add(node.gives[0])
            wanted |= {*_takes(node, takes)}
    return found


def _to(node: bytes, name: str) -> bytes:
    """A serialised reshape to the target called `name`."""
    made, takes = [], 0
    for number, _, part in protobuf.parts(node, 0, len(node)):
        if number == nodes.TAKES:
            takes += 1
            if takes == 2:
                part = protobuf.text(nodes.TAKES, name)
        made.append(part)
    return b"".join(made)


def _value_info(name: str, kind: str, shape: tuple[Extent, ...]) -> bytes:
    dims = (protobuf.message(1, _dim(extent)) for extent in shape)
    tensor = protobuf.number(1, _NUMBERS[kind]), protobuf.message(2, *dims)
    type_ = protobuf.message(2, protobuf.message(1, *tensor))
    return protobuf.message(nodes.VALUE_INFO, protobuf.text(1, name), type_)


def _dim(extent: Extent) -> bytes:
    if extent is None:
        return b""
    return protobuf.number(1, extent) if isinstance(extent, int) else protobuf.text(2, extent)
