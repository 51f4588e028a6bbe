"""An ONNX graph with another classifier: cut back to the classifier's input, and continued by a linear head.

Written on protobuf's wire format, without onnx. What only the old classifier needed isn't in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vertebra.machine import protobuf

#: numbers of fields in onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto
_GRAPH, _OPSET = 7, 8
_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO, _ANNOTATION, _SPARSE = 1, 5, 12, 13, 14, 15
_TAKES, _GIVES, _NAME, _KIND, _ATTRIBUTE = 1, 2, 3, 4, 5
_INNER, _INNERS = 6, 11
_DIMS, _TYPE, _TENSOR_NAME, _EXTERNAL = 1, 2, 8, 13
_FLOAT = 1
#: The first in which Gemm adds a bias to every row.
_LEAST_OPSET = 7
#: operators that leave the values as they are
_PASSING = ("Identity", "Reshape", "Flatten", "Squeeze")

#: what the output of answers is called, and that of features
LOGITS, FEATURES = "logits", "features"


class Outside(NamedTuple):
    """A constant whose values are in another file: the number of its type in onnx.proto, and where there."""

    name: str
    kind: int
    shape: tuple[int, ...]
    location: str
    offset: int
    length: int | None


class _Node(NamedTuple):
    kind: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    content: bytes
    #: names that graphs inside it may take from outside
    inner: frozenset[str]


@dataclass(frozen=True)
class Headed:
    """A serialised model that ends in a head: `weight` (classes, D) and `bias` (classes,) are the names of
    its parameters, which it doesn't hold. `taken` are the names that its operators take and none gives."""

    model: bytes
    weight: str
    bias: str
    taken: frozenset[str]


def outputs(model: bytes) -> tuple[str, ...]:
    """The names of a serialised model's outputs. Raises ValueError where it isn't one."""
    return tuple(_first_text(content) for number, content in _held(_graph(model)) if number == _OUTPUT)


def width(model: bytes, output: str) -> int | None:
    """The second dimension of a serialised model's output; None where it isn't fixed."""
    for number, content in _held(_graph(model)):
        if number == _OUTPUT and _first_text(content) == output:
            dims = [held for field, held in _held(_inside(content, (2, 1, 2))) if field == 1]
            found = dict(protobuf.fields(dims[1], 0, len(dims[1]))).get(1) if len(dims) > 1 else None
            return found if isinstance(found, int) else None
    return None


def with_output(model: bytes, tensor: str) -> bytes:
    """The serialised model with one of its tensors as its only output."""

    def changed(graph: bytes) -> Iterator[bytes]:
        yield from (part for number, _, part in protobuf.parts(graph, 0, len(graph)) if number != _OUTPUT)
        yield protobuf.message(_OUTPUT, protobuf.text(1, tensor))

    return _changed(model, changed)


def lifted(model: bytes) -> tuple[bytes, list[Outside]]:
    """The serialised model without the constants whose values are in other files, and these."""
    found: list[Outside] = []

    def changed(graph: bytes) -> Iterator[bytes]:
        for number, value, part in protobuf.parts(graph, 0, len(graph)):
            if number == _INITIALIZER:
                begin, end = protobuf.span_of(value)
                one = _outside(graph[begin:end])
                if one is not None:
                    found.append(one)
                    continue
            yield part

    return _changed(model, changed), found


def classifier_input(model: bytes, constants: Iterable[str]) -> str | None:
    """The tensor of which the last layer makes the model's first output, where that layer is a product with
    one of the `constants` and nothing but reshapes follows; None where it is something else."""
    known = set(constants)
    makers = {name: node for node in _nodes(_graph(model)) for name in node.gives}
    name = outputs(model)[0]
    for _ in range(len(makers)):
        node = makers.get(name)
        if node is None:
            return None
        if node.kind in ("Gemm", "MatMul") and node.takes[1] in known:
            return node.takes[0]
        others = [one for one in node.takes if one not in known]
        if node.kind == "Add" and len(others) != 1:
            return None
        if node.kind not in (*_PASSING, "Add"):
            return None
        name = others[0] if node.kind == "Add" else node.takes[0]
    return None


def named(model: bytes) -> bytes:
    """The serialised `model` with a name for each operator that has none."""

    def changed(graph: bytes) -> Iterator[bytes]:
        place = 0
        for number, value, part in protobuf.parts(graph, 0, len(graph)):
            if number == _NODE:
                begin, end = protobuf.span_of(value)
                part, place = _named(_parsed(graph[begin:end]), place), place + 1
            yield part

    return _changed(model, changed)


def headed(
    model: bytes, features: str, *, classes: int, flattened: bool = False, keeps_features: bool = False
) -> Headed:
    """The serialised `model` up to the tensor `features` (N, D), or if `flattened` (N, D, 1, 1), and a head
    of so many classes after it. With `keeps_features` its second output is `features`.

    Raises ValueError where the model has no such tensor or is of an opset without what the head needs.
    """
    graph = _graph(model)
    if _opset(model) < _LEAST_OPSET:
        raise ValueError(f"it is of opset {_opset(model)}; {_LEAST_OPSET} is the least that can be changed")
    nodes = list(_nodes(graph))
    live, needed = _needed(nodes, features)
    made = {name for node in live for name in node.gives}
    if features not in made:
        raise ValueError(f"it has no tensor {features}")
    used = made | needed
    weight, bias, answers, flat = (
        _free(name, used) for name in ("fitted.weight", "fitted.bias", LOGITS, "flat")
    )
    if answers != LOGITS:
        raise ValueError(f"what comes before its classifier is called {LOGITS}")
    end = [_named(node, place) for place, node in enumerate(live)]
    source = features
    if flattened:
        end.append(_node("Flatten", len(end), [source], [flat]))
        source = flat
    end.append(_node("Gemm", len(end), [source, weight, bias], [LOGITS], _whole("transB", 1)))
    given = [_value(LOGITS, _batch(graph), classes)]
    if keeps_features:
        if source != FEATURES:
            end.append(_node("Identity", len(end), [source], [FEATURES]))
        given.append(_value(FEATURES, _batch(graph), None))
    kept = list(_kept(graph, used))
    whole = _changed(model, lambda _: [*end, *kept, *given])
    return Headed(whole, weight, bias, frozenset((needed | {weight, bias}) - made))


# ------------------------------------------------------------------ reading


def _held(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that have a length."""
    for number, value in protobuf.fields(content, 0, len(content)):
        if isinstance(value, tuple):
            yield number, content[value[0] : value[1]]


def _graph(model: bytes) -> bytes:
    for number, content in _held(model):
        if number == _GRAPH:
            return content
    raise ValueError("it has no graph")


def _opset(model: bytes) -> int:
    for number, content in _held(model):
        if number == _OPSET:
            entry = dict(protobuf.fields(content, 0, len(content)))
            domain = protobuf.text_of(content, entry[1]) if 1 in entry else ""
            if domain in ("", "ai.onnx"):
                version = entry.get(2, 0)
                return version if isinstance(version, int) else 0
    return 0


def _nodes(graph: bytes) -> Iterator[_Node]:
    for number, content in _held(graph):
        if number == _NODE:
            yield _parsed(content)


def _parsed(content: bytes) -> _Node:
    takes, gives, kind, inner = [], [], "", set[str]()
    for number, value in _held(content):
        if number == _TAKES:
            takes.append(value.decode())
        elif number == _GIVES:
            gives.append(value.decode())
        elif number == _KIND:
            kind = value.decode()
        elif number == _ATTRIBUTE:
            graphs = [held for field, held in _held(value) if field in (_INNER, _INNERS)]
            for held in graphs:
                for node in _nodes(held):
                    inner |= {*node.takes, *node.inner}
                inner |= {_first_text(one) for field, one in _held(held) if field == _OUTPUT}
    return _Node(kind, tuple(takes), tuple(gives), content, frozenset(inner))


def _first_text(content: bytes) -> str:
    """The name of a ValueInfoProto."""
    return next((value.decode() for number, value in _held(content) if number == 1), "")


def _needed(nodes: list[_Node], tensor: str) -> tuple[list[_Node], set[str]]:
    """The operators that `tensor` depends on, in their order, and all names that these take."""
    wanted, live = {tensor}, []
    for node in reversed(nodes):
        if wanted.isdisjoint(node.gives):
            continue
        live.append(node)
        wanted |= {name for name in (*node.takes, *node.inner) if name}
    taken = {name for node in live for name in (*node.takes, *node.inner) if name}
    return live[::-1], taken


def _batch(graph: bytes) -> bytes:
    """The first dimension of the graph's first output, serialised."""
    first = next(held for number, held in _held(graph) if number == _OUTPUT)
    return _inside(first, (2, 1, 2, 1))  # type, tensor_type, shape, dim


def _inside(content: bytes, path: tuple[int, ...]) -> bytes:
    """The first message at a path of fields; empty where there is none."""
    for field in path:
        content = next((held for number, held in _held(content) if number == field), b"")
    return content


def _outside(tensor: bytes) -> Outside | None:
    """A TensorProto whose values are in another file; None for one that holds them."""
    fields = list(protobuf.fields(tensor, 0, len(tensor)))
    places: dict[str, str] = {}
    for number, held in _held(tensor):
        if number == _EXTERNAL:
            texts = {field: value.decode() for field, value in _held(held)}
            places[texts.get(1, "")] = texts.get(2, "")
    if "location" not in places:
        return None
    shape: list[int] = []
    kind = 0
    for number, value in fields:
        if number == _DIMS and isinstance(value, int):
            shape.append(value)
        elif number == _DIMS:
            place, end = protobuf.span_of(value)
            while place < end:
                extent, place = protobuf.number_at(tensor, place)
                shape.append(extent)
        elif number == _TYPE and isinstance(value, int):
            kind = value
    length = int(places["length"]) if "length" in places else None
    name = _name_of(_INITIALIZER, tensor)
    return Outside(name, kind, tuple(shape), places["location"], int(places.get("offset", 0)), length)


def _free(name: str, used: set[str]) -> str:
    while name in used:
        name += "_"
    return name


# ------------------------------------------------------------------ writing


def _changed(model: bytes, change: Callable[[bytes], Iterable[bytes]]) -> bytes:
    """The serialised model with the fields of its graph that `change` makes of the graph."""
    whole = []
    for number, value, part in protobuf.parts(model, 0, len(model)):
        if number == _GRAPH:
            begin, end = protobuf.span_of(value)
            part = protobuf.message(_GRAPH, *change(model[begin:end]))
        whole.append(part)
    return b"".join(whole)


def _kept(graph: bytes, used: set[str]) -> Iterator[bytes]:
    """The graph's other fields, without what is of tensors that aren't `used`."""
    for number, value, part in protobuf.parts(graph, 0, len(graph)):
        if number in (_NODE, _OUTPUT, _ANNOTATION):
            continue
        if isinstance(value, tuple) and number in (_INITIALIZER, _SPARSE, _VALUE_INFO):
            content = graph[value[0] : value[1]]
            if _name_of(number, content) not in used:
                continue
        yield part


def _name_of(number: int, content: bytes) -> str:
    if number == _VALUE_INFO:
        return _first_text(content)
    if number == _SPARSE:  # its values are a TensorProto, which has the name
        content = next((held for field, held in _held(content) if field == 1), b"")
    return next((held.decode() for field, held in _held(content) if field == _TENSOR_NAME), "")


def _named(node: _Node, place: int) -> bytes:
    """The operator, with a name: what puts layers back to float32 tells them apart by it."""
    if any(number == _NAME and value for number, value in _held(node.content)):
        return protobuf.message(_NODE, node.content)
    return protobuf.message(_NODE, node.content, protobuf.text(_NAME, f"{node.kind}_{place}"))


def _node(kind: str, place: int, takes: list[str], gives: list[str], *attributes: bytes) -> bytes:
    return protobuf.message(
        _NODE,
        *(protobuf.text(_TAKES, name) for name in takes),
        *(protobuf.text(_GIVES, name) for name in gives),
        protobuf.text(_NAME, f"{kind}_{place}"),
        protobuf.text(_KIND, kind),
        *attributes,
    )


def _whole(name: str, value: int) -> bytes:
    """An attribute that is a whole number."""
    return protobuf.message(
        _ATTRIBUTE, protobuf.text(1, name), protobuf.number(3, value), protobuf.number(20, 2)
    )


def _value(name: str, batch: bytes, extent: int | None) -> bytes:
    """An output of two dimensions."""
    second = b"" if extent is None else protobuf.number(1, extent)
    shape = protobuf.message(2, protobuf.message(1, batch), protobuf.message(1, second))
    tensor = protobuf.message(1, protobuf.number(1, _FLOAT), shape)
    return protobuf.message(_OUTPUT, protobuf.text(1, name), protobuf.message(2, tensor))
