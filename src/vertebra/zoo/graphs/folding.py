"""What needn't be computed for each picture is done while a graph is filled: batch normalisations go into the
convolutions and full layers before them, and weights that are transposed are stored so.

What an export by PyTorch does, too. An engine would do it when it loads the file, and keep in memory what it
copies meanwhile.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from vertebra.machine import protobuf

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    Array = npt.NDArray[Any]

#: numbers of fields in onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto
_GRAPH, _NODE, _OUTPUT, _VALUE_INFO = 7, 1, 12, 13
_TAKES, _GIVES, _KIND, _ATTRIBUTE = 1, 2, 4, 5
_NAME, _FLOAT, _INT, _INTS = 1, 2, 3, 8
_EPSILON = 1e-5
#: numbers scaled at once in float64
_CHUNK = 1 << 18


class Fold(NamedTuple):
    """A batch normalisation that goes into the layer before it: keys of both in the state dict, the `name` of
    the layer's bias afterwards, the value `between` them, which disappears, and the one that comes `out`."""

    weight: str
    bias: str | None
    scale: str
    shift: str
    mean: str
    variance: str
    epsilon: float
    name: str
    between: str
    out: str

    @property
    def taken(self) -> frozenset[str]:
        """The keys whose values are in the layer's weight and bias afterwards, and nowhere else."""
        more = () if self.bias is None else (self.bias,)
        return frozenset((self.weight, *more, self.scale, self.shift, self.mean, self.variance))


class Turn(NamedTuple):
    """A parameter that is only used transposed: its key, the name of what it becomes, and the order of its
    dimensions there."""

    key: str
    out: str
    order: tuple[int, ...]


@dataclass
class _Node:
    kind: str = ""
    takes: list[str] = field(default_factory=list)
    gives: list[str] = field(default_factory=list)
    attributes: list[tuple[int, int]] = field(default_factory=list)


def find(skeleton: bytes, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Fold, ...]:
    """The batch normalisations of a model that follow a convolution or a full layer, and whose answer is all
    that is done with the layer's. `shapes` are those of the model's float32 parameters by their keys.

    One is left where its layer's answer, or one of the parameters, has another use.
    """
    nodes, outputs = _read(skeleton)
    uses = Counter([*outputs, *(name for node in nodes for name in node.takes)])
    made = {name: node for node in nodes for name in node.gives}
    names = {*uses, *made, *shapes}
    found = []
    for norm in nodes:
        if norm.kind != "BatchNormalization" or len(norm.gives) != 1:
            continue
        layer = made.get(norm.takes[0])
        attributes = _attributes(skeleton, norm)
        if layer is None or not _is_linear(skeleton, layer) or attributes.get("training_mode", 0):
            continue
        weight, *bias = filter(None, layer.takes[1:])
        scale, shift, mean, variance = norm.takes[1:]
        keys = [weight, *bias, scale, shift, mean, variance]
        if uses[norm.takes[0]] != 1 or any(uses[key] != 1 or key not in shapes for key in keys):
            continue
        if any(shapes[key] != shapes[weight][:1] for key in keys[1:]):
            continue
        own = bias[0] if bias else None
        name = own or _free(f"{weight.rpartition('.')[0] or weight}.bias", names)
        names.add(name)
        epsilon = float(attributes.get("epsilon", _EPSILON))
        found.append(
            Fold(weight, own, scale, shift, mean, variance, epsilon, name, norm.takes[0], norm.gives[0])
        )
    return tuple(found)


def turns(skeleton: bytes, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Turn, ...]:
    """The parameters of a model that are only used transposed, and how. `shapes` as for `find`."""
    nodes, outputs = _read(skeleton)
    uses = Counter(name for node in nodes for name in node.takes)
    found = []
    for node in nodes:
        key = node.takes[0] if node.takes else ""
        if node.kind == "Transpose" and key in shapes and uses[key] == 1 and node.gives[0] not in outputs:
            order = _integers(skeleton, node, "perm") or tuple(reversed(range(len(shapes[key]))))
            found.append(Turn(key, node.gives[0], order))
    return tuple(found)


def extents(
    graph: bytes, span: tuple[int, int], name: str, shape: tuple[int, ...]
) -> tuple[str, tuple[int, ...]] | None:  # fmt: skip
    """What a serialised node at `span` gives, and its name, where that is part of the shape of the value
    `name`, which is `shape` after its first dimension; None where it is anything else."""
    node = _node(graph, span)
    if node.kind != "Shape" or node.takes != [name]:
        return None
    whole = len(shape) + 1
    asked = {"start": 0, "end": whole} | _attributes(graph, node)
    begin, end = (int(asked[edge]) for edge in ("start", "end"))
    if not 1 <= begin < end <= whole:
        return None
    return node.gives[0], shape[begin - 1 : end - 1]


def folded(graph: bytes, folds: Collection[Fold], turned: Collection[Turn] = ()) -> Iterator[bytes]:
    """The parts of a serialised GraphProto without the batch normalisations of `folds`, and without the
    transpositions in `turned`."""
    layers = {one.between: one for one in folds}
    gone = {one.out for one in folds} | {one.out for one in turned}
    for number, value, part in protobuf.parts(graph, 0, len(graph)):
        if number == _NODE:
            begin, end = protobuf.span_of(value)
            (first, *_) = _node(graph, (begin, end)).gives
            if first in gone:
                continue
            if first in layers:
                part = protobuf.message(_NODE, _with_bias(graph[begin:end], layers[first]))
        elif number == _VALUE_INFO and _text(graph, protobuf.span_of(value), _NAME) in layers:
            continue
        yield part


def _free(name: str, names: Collection[str]) -> str:
    while name in names:
        name += "_"
    return name


def _is_linear(skeleton: bytes, layer: _Node) -> bool:
    """Whether the layer's weight has a row for each channel that a batch normalisation scales."""
    if layer.kind == "Conv":
        return True
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    given = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    return layer.kind == "Gemm" and given | _attributes(skeleton, layer) == plain


def _with_bias(node: bytes, one: Fold) -> bytes:
    """A serialised layer that has the bias of the fold and gives what comes out of it."""
    made, takes = [], 0
    for number, _, part in protobuf.parts(node, 0, len(node)):
        if number == _GIVES:
            part = protobuf.text(_GIVES, one.out)
        elif number == _TAKES:
            takes += 1
            if takes > 2:
                continue
        made.append(part)
    return b"".join((*made, protobuf.text(_TAKES, one.name)))


# ------------------------------------------------------------------ arithmetic


def factors(scale: Array, variance: Array, epsilon: float) -> Array:
    """What the layer's answers are multiplied by, per channel, in float64."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):  # what such a variance gives is the network's answer
        found: Array = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    return found


def scaled(weight: Array, factors: Array) -> Iterator[Array]:
    """The weight with its rows multiplied, some of them at a time: computed in float64, rounded once."""
    import numpy as np

    rows = max(1, _CHUNK // max(1, weight[:1].size))
    for begin in range(0, len(weight), rows):
        part = weight[begin : begin + rows].astype(np.float64)
        part *= factors[begin : begin + rows].reshape(-1, *[1] * (weight.ndim - 1))
        yield part.astype(weight.dtype)


def shifted(bias: Array | None, factors: Array, shift: Array, mean: Array) -> Array:
    """The layer's bias with the batch normalisation in it: computed in float64, rounded once."""
    import numpy as np

    begin = 0.0 if bias is None else bias.astype(np.float64)
    found: Array = ((begin - mean) * factors + shift).astype(shift.dtype)
    return found


# ------------------------------------------------------------------ reading


def _read(skeleton: bytes) -> tuple[list[_Node], list[str]]:
    """The model's nodes, and its outputs' names."""
    nodes, outputs = [], []
    for number, value in protobuf.fields(skeleton, 0, len(skeleton)):
        if number != _GRAPH:
            continue
        for kind, inner in protobuf.fields(skeleton, *protobuf.span_of(value)):
            if kind == _NODE:
                nodes.append(_node(skeleton, protobuf.span_of(inner)))
            elif kind == _OUTPUT:
                outputs.append(_text(skeleton, protobuf.span_of(inner), _NAME))
    return nodes, outputs


def _node(content: bytes, span: tuple[int, int]) -> _Node:
    node = _Node()
    for number, value in protobuf.fields(content, *span):
        if number == _TAKES:
            node.takes.append(protobuf.text_of(content, value))
        elif number == _GIVES:
            node.gives.append(protobuf.text_of(content, value))
        elif number == _KIND:
            node.kind = protobuf.text_of(content, value)
        elif number == _ATTRIBUTE:
            node.attributes.append(protobuf.span_of(value))
    return node


def _attributes(content: bytes, node: _Node) -> dict[str, float]:
    """The node's attributes that are numbers."""
    found = {}
    for span in node.attributes:
        for number, value in protobuf.fields(content, *span):
            if number == _INT and isinstance(value, int):
                found[_text(content, span, _NAME)] = float(value)
            elif number == _FLOAT:
                found[_text(content, span, _NAME)] = struct.unpack(
                    "<f", content[slice(*protobuf.span_of(value))]
                )[0]
    return found


def _integers(content: bytes, node: _Node, name: str) -> tuple[int, ...]:
    """A node's attribute that is a list of whole numbers from 0 up; empty where it has none."""
    for begin, end in node.attributes:
        if _text(content, (begin, end), _NAME) == name:
            found = list[int]()
            for number, value in protobuf.fields(content, begin, end):
                if number == _INTS and isinstance(value, int):
                    found.append(value)
                elif number == _INTS:  # packed
                    place, stop = protobuf.span_of(value)
                    while place < stop:
                        one, place = protobuf.number_at(content, place)
                        found.append(one)
            return tuple(found)
    return ()


def _text(content: bytes, span: tuple[int, int], wanted: int) -> str:
    return next((protobuf.text_of(content, value) for number, value in protobuf.fields(content, *span)
                 if number == wanted), "")  # fmt: skip
