"""What needn't be computed for each picture is done while a graph is filled: batch normalisations go into the
convolutions and full layers before them, and weights that are transposed are stored so.

What an export by PyTorch does, too. An engine would do it when it loads the file, and keep in memory what it
copies meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from vertebra.machine import protobuf
from vertebra.zoo.graphs import nodes
from vertebra.zoo.graphs.nodes import Node

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    Array = npt.NDArray[Any]

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
    """A parameter that is only used transposed, or looked up in by constant places: its key, and what becomes
    of it. `steps` are the values on the way: the name of each, and the order of its dimensions or the places
    of its elements."""

    key: str
    steps: tuple[tuple[str, tuple[int, ...] | Array], ...]

    @property
    def out(self) -> str:
        """The name of what it becomes."""
        return self.steps[-1][0]

    def applied(self, values: Array) -> Array:
        """What becomes of its values."""
        for _, how in self.steps:
            values = values.transpose(how) if isinstance(how, tuple) else values[tuple(how)]
        return values


def find(skeleton: bytes, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Fold, ...]:
    """The batch normalisations of a model that follow a convolution or a full layer, and whose answer is all
    that is done with the layer's. `shapes` are those of the model's float32 parameters by their keys.

    One is left where its layer's answer, or one of the parameters, has another use.
    """
    model = nodes.read(skeleton)
    uses = Counter([*model.outputs, *(name for node in model.nodes for name in node.takes)])
    made = {name: node for node in model.nodes for name in node.gives}
    names = {*uses, *made, *shapes}
    found = []
    for norm in model.nodes:
        if norm.kind != "BatchNormalization" or len(norm.gives) != 1:
            continue
        layer = made.get(norm.takes[0])
        attributes = norm.attributes
        if layer is None or not _is_linear(layer) or attributes.get("training_mode", 0):
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
    """The parameters of a model that are only used transposed, or looked up in, and how. `shapes` as for
    `find`."""
    model = nodes.read(skeleton)
    users: dict[str, list[Node]] = {name: [] for name in shapes}
    for node in model.nodes:
        for name in node.takes:
            users.setdefault(name, []).append(node)
    found = []
    for key, shape in shapes.items():
        steps, name, rank = [], key, len(shape)
        while len(users.get(name, ())) == 1 and name not in model.outputs:
            (node,) = users[name]
            how = _moved(model, node, name, rank)
            if how is None or node.gives[0] in model.outputs:
                break
            name, rank = node.gives[0], _rank(how, rank)
            steps.append((name, how))
        if steps:
            found.append(Turn(key, tuple(steps)))
    return tuple(found)


def _moved(model: nodes.Model, node: Node, name: str, rank: int) -> tuple[int, ...] | Array | None:
    """How the operator moves the elements of the value `name`; None if it does something else."""
    if node.takes[0] != name:
        return None
    if node.kind == "Transpose":
        return tuple(node.attributes.get("perm") or reversed(range(rank)))
    places = model.constants.get(node.takes[1]) if node.kind == "GatherND" else None
    held = None if places is None or node.attributes.get("batch_dims") else places.values()
    return None if held is None else held.transpose(-1, *range(held.ndim - 1))


def _rank(how: tuple[int, ...] | Array, rank: int) -> int:
    return rank if isinstance(how, tuple) else how.ndim - 1 + rank - len(how)


def extents(
    graph: bytes, span: tuple[int, int], name: str, shape: tuple[int, ...]
) -> tuple[str, tuple[int, ...]] | None:  # fmt: skip
    """What a serialised node at `span` gives, and its name, where that is part of the shape of the value
    `name`, which is `shape` after its first dimension; None where it is anything else."""
    node = nodes.node_at(graph, span)
    if node.kind != "Shape" or node.takes != [name]:
        return None
    whole = len(shape) + 1
    asked = {"start": 0, "end": whole} | node.attributes
    begin, end = (int(asked[edge]) for edge in ("start", "end"))
    if not 1 <= begin < end <= whole:
        return None
    return node.gives[0], shape[begin - 1 : end - 1]


def folded(graph: bytes, folds: Collection[Fold], turned: Collection[Turn] = ()) -> Iterator[bytes]:
    """The parts of a serialised GraphProto without the batch normalisations of `folds`, without what moves
    the parameters in `turned`, and without constants that only these took."""
    layers = {one.between: one for one in folds}
    stored = {name for one in turned for name, _ in one.steps}
    gone = {one.out for one in folds} | stored
    before, used = set[str](), set[str]()
    for node in nodes.read_graph(graph).nodes:
        before |= {*node.takes}
        used |= set() if node.gives[0] in gone else {*node.takes}
    unused = before - used
    for number, value, part in protobuf.parts(graph, 0, len(graph)):
        if number == nodes.NODE:
            begin, end = protobuf.span_of(value)
            (first, *_) = nodes.node_at(graph, (begin, end)).gives
            if first in gone:
                continue
            if first in layers:
                part = protobuf.message(nodes.NODE, _with_bias(graph[begin:end], layers[first]))
        elif number in (nodes.VALUE_INFO, nodes.INITIALIZER):
            field = nodes.NAME if number == nodes.VALUE_INFO else nodes.TENSOR_NAME
            name = nodes.text(graph, protobuf.span_of(value), field)
            if name in layers or name in stored or name in unused:
                continue
        yield part


def _free(name: str, names: Collection[str]) -> str:
    while name in names:
        name += "_"
    return name


def _is_linear(layer: Node) -> bool:
    """Whether the layer's weight has a row for each channel that a batch normalisation scales."""
    if layer.kind == "Conv":
        return True
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    given = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    return layer.kind == "Gemm" and given | layer.attributes == plain


def _with_bias(node: bytes, one: Fold) -> bytes:
    """A serialised layer that has the bias of the fold and gives what comes out of it."""
    made, takes = [], 0
    for number, _, part in protobuf.parts(node, 0, len(node)):
        if number == nodes.GIVES:
            part = protobuf.text(nodes.GIVES, one.out)
        elif number == nodes.TAKES:
            takes += 1
            if takes > 2:
                continue
        made.append(part)
    return b"".join((*made, protobuf.text(nodes.TAKES, one.name)))


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
