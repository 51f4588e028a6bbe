"""A graph with its parameters: `model.onnx` and `model.onnx.data`, written without onnx and without torch.

The parameters stand in the file before an engine reads it. Put into a session afterwards, as ONNX Runtime's
`add_initializer` does, they would come too late: it has folded what stood there by then.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vertebra.errors import InvalidInputError, WeightsError
from vertebra.machine import protobuf
from vertebra.machine.onnx_files import KINDS
from vertebra.zoo.graphs import drawing, folding, nodes, settling

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    Array = npt.NDArray[Any]

#: Parameters begin at multiples of these many bytes: those above a MiB at pages, so that they can be mapped.
_ALIGNED, _PAGE, _LARGE = 64, 4096, 2**20
#: numbers of fields in onnx.proto: ModelProto, GraphProto, NodeProto, TensorProto, StringStringEntryProto
_GRAPH, _INITIALIZER, _VALUE_INFO, _INPUT, _OUTPUT = 7, 5, 13, 11, 12
_NODE, _TAKES, _GIVES, _KIND = 1, 1, 2, 4
_DIMS, _TYPE, _NAME, _RAW, _EXTERNAL, _PLACE = 1, 2, 8, 9, 13, 14
_IS_EXTERNAL = 1
_NUMBERS = {kind: number for number, kind in KINDS.items()}
#: what a checkpoint may have beside what a network computes with
_COUNTER = ".num_batches_tracked"


class Slot(NamedTuple):
    """A parameter that a graph lacks: its name in the network's state dict, its type and its shape."""

    key: str
    kind: str
    shape: tuple[int, ...]


class Values:
    """The parameters of a graph in the order of its slots, each made when it is asked for, so that one after
    the other is in memory."""

    def __init__(self, slots: Iterable[Slot], make: Callable[[Slot], Array]) -> None:
        self._slots = {slot.key: slot for slot in slots}
        self._make = make

    def __getitem__(self, key: str) -> Array:
        return self._make(self._slots[key])

    def __iter__(self) -> Iterator[Array]:
        return map(self._make, self._slots.values())


def drawn(network: str, slots: Iterable[Slot]) -> Values:
    """The drawn parameters of a network. Raises InvalidInputError if there is one that isn't float32."""
    slots = tuple(slots)
    for slot in slots:
        if slot.kind != "float32":
            raise InvalidInputError(f"{slot.key} of {network} holds {slot.kind}, which isn't drawn.")
    return Values(slots, lambda slot: drawing.draw(network, slot.key, slot.shape))


def given(network: str, slots: Iterable[Slot], arrays: Mapping[str, Array]) -> Values:
    """The parameters in `arrays`, which have exactly the names and shapes of `slots`, in the types of these.
    Raises WeightsError if they haven't."""
    slots = tuple(slots)
    check(network, slots, arrays)
    return Values(slots, lambda slot: arrays[slot.key].astype(slot.kind, copy=False))


def check(network: str, slots: Iterable[Slot], arrays: Mapping[str, Array]) -> None:
    """Raise WeightsError, in one line with what differs first, unless the arrays have exactly the names and
    shapes of `slots`. Counters of batches are passed over: nothing is computed with them."""
    wanted = {slot.key: slot.shape for slot in slots}
    found = {key: tuple(array.shape) for key, array in arrays.items() if not key.endswith(_COUNTER)}
    missing, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    hint = "check that the file belongs to exactly this network and variant"
    if missing or more:
        reason = f"{len(missing)} missing{_listed(missing)}, {len(more)} unexpected{_listed(more)}"
        raise WeightsError(f"The weights don't fit {network}: {reason}.", hint)
    for key, shape in wanted.items():
        if found[key] != shape:
            raise WeightsError(
                f"The weights don't fit {network}: {key} has the shape {found[key]}; {shape} was expected.",
                hint,
            )
        if arrays[key].dtype.kind not in "fiub":
            raise WeightsError(f"{key} contains {arrays[key].dtype} values; numbers were expected.")


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})" if names else ""


def write(
    skeleton: bytes, slots: Iterable[Slot], values: Values, path: Path, *, folded: bool = True
) -> None:  # fmt: skip
    """The graph `skeleton`, a serialised ModelProto, at `path` with the `values` of its `slots` in the file
    `path`.data beside it. Raises OSError, and ValueError where the skeleton isn't a graph.

    Unless not to be `folded`, what follows from the size of the pictures is settled, batch normalisations are
    in the weights and biases of the layers before them, and parameters that are only used transposed are
    stored so, as in an export. A layer's weight keeps its name.
    """
    slots = tuple(slots)
    if folded:
        skeleton = settling.settled(skeleton, {slot.key: (slot.kind, slot.shape) for slot in slots})
    shapes = {slot.key: slot.shape for slot in slots if slot.kind == "float32" and folded}
    folds, turned = folding.find(skeleton, shapes), folding.turns(skeleton, shapes)
    tensors = []
    with (data := path.with_name(f"{path.name}.data")).open("wb") as file:
        for slot, parts in _tensors(slots, values, folds, turned):
            size = _size(slot)
            file.write(b"\0" * (-file.tell() % (_PAGE if size > _LARGE else _ALIGNED)))
            tensors.append(_tensor(slot, data.name, begin := file.tell(), size))
            for array in parts:
                file.write(_bytes(array).data)
            assert file.tell() == begin + size, slot
    path.write_bytes(spliced(skeleton, tensors, folds, turned))


def _tensors(
    slots: Iterable[Slot], values: Values, folds: Iterable[folding.Fold], turned: Iterable[folding.Turn]
) -> Iterator[tuple[Slot, Iterable[Array]]]:
    """What the file has, each in parts one after the other."""
    layers, turns = {one.weight: one for one in folds}, {one.key: one for one in turned}
    taken = frozenset(key for one in layers.values() for key in one.taken)
    for slot in slots:
        one = layers.get(slot.key)
        if one is not None:
            factors = folding.factors(values[one.scale], values[one.variance], one.epsilon)
            yield slot, folding.scaled(values[slot.key], factors)
            before = None if one.bias is None else values[one.bias]
            bias = folding.shifted(before, factors, values[one.shift], values[one.mean])
            yield Slot(one.name, slot.kind, slot.shape[:1]), (bias,)
        elif slot.key in turns:
            turned_ = turns[slot.key].applied(values[slot.key])
            yield Slot(turns[slot.key].out, slot.kind, turned_.shape), (turned_,)
        elif slot.key not in taken:
            yield slot, (values[slot.key],)


def _size(slot: Slot) -> int:
    import numpy as np

    return math.prod(slot.shape) * np.dtype(slot.kind).itemsize


def _bytes(array: Array) -> Array:
    import numpy as np

    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8)


def _tensor(slot: Slot, location: str, offset: int, length: int) -> bytes:
    """The initialiser of a parameter, whose values are in another file."""
    entries = {"location": location, "offset": str(offset), "length": str(length)}
    return protobuf.message(
        _INITIALIZER,
        *(protobuf.number(_DIMS, extent) for extent in slot.shape),
        protobuf.number(_TYPE, _NUMBERS[slot.kind]),
        protobuf.text(_NAME, slot.key),
        *(protobuf.message(_EXTERNAL, protobuf.text(1, key), protobuf.text(2, value))
          for key, value in entries.items()),
        protobuf.number(_PLACE, _IS_EXTERNAL),
    )  # fmt: skip


def spliced(
    skeleton: bytes, tensors: Iterable[bytes], folds: Collection[folding.Fold] = (),
    turned: Collection[folding.Turn] = (),
) -> bytes:  # fmt: skip
    """The model with further initialisers in its graph, and without the batch normalisations of `folds` and
    the transpositions in `turned`. Raises ValueError if it has no graph."""
    if not folds and not turned:
        return nodes.with_graph(skeleton, lambda graph: (graph, *tensors))
    return nodes.with_graph(skeleton, lambda graph: (*folding.folded(graph, folds, turned), *tensors))


def with_classes(skeleton: bytes, classes: int) -> bytes:
    """The model with another number of classes in the shape of its first output, and in that of the reshape
    that gives it, if one does. The shapes noted of what flows inside are left out: they may depend on it."""
    own = classes_of(skeleton)

    def changed(graph: bytes) -> Iterator[bytes]:
        outputs, target = 0, _reshaped_by(graph)
        for number, value, part in protobuf.parts(graph, 0, len(graph)):
            if number == _INITIALIZER and target is not None and own is not None:
                begin, end = protobuf.span_of(value)
                if _texts(graph, (begin, end), _NAME) == [target]:
                    part = protobuf.message(_INITIALIZER, _ended(graph[begin:end], own, classes))
            if number == _VALUE_INFO:
                continue
            if number == _OUTPUT:
                outputs += 1
                if outputs == 1:
                    begin, end = protobuf.span_of(value)
                    part = protobuf.message(_OUTPUT, _with_extent(graph[begin:end], 1, classes))
            yield part

    return nodes.with_graph(skeleton, changed)


def with_size(skeleton: bytes, size: int) -> bytes:
    """The model for pictures of `size` pixels a side alone: an engine that knows all shapes but the batch's
    plans its memory, and computes what depends on them, when it loads the file."""
    import numpy as np

    def changed(graph: bytes) -> Iterator[bytes]:
        images = ""
        for number, value in protobuf.fields(graph, 0, len(graph)):
            if number == _INPUT:
                (images,) = _texts(graph, protobuf.span_of(value), 1)
        for number, value, part in protobuf.parts(graph, 0, len(graph)):
            if number == _NODE:
                told = folding.extents(graph, protobuf.span_of(value), images, (3, size, size))
                if told is not None:
                    part = nodes.initialiser(told[0], np.array(told[1], np.int64))
            if number == _INPUT:
                begin, end = protobuf.span_of(value)
                one = graph[begin:end]
                for dimension in (2, 3):
                    one = _with_extent(one, dimension, size)
                part = protobuf.message(_INPUT, one)
            yield part

    return nodes.with_graph(skeleton, changed)


def other_classes(skeleton: bytes, slots: Iterable[Slot], arrays: Mapping[str, Array]) -> int | None:
    """The number of classes that the arrays are for, if it isn't the skeleton's and nothing else differs:
    then all that differ, a matrix among them, have it in place of the skeleton's as their first extent."""
    differing = [slot for slot in slots if slot.key in arrays and arrays[slot.key].shape != slot.shape]
    own, counts = classes_of(skeleton), {arrays[slot.key].shape[:1] for slot in differing}
    if len(counts) != 1 or counts == {()} or not any(len(slot.shape) > 1 for slot in differing):
        return None
    fits = all((own, *slot.shape[1:]) == slot.shape for slot in differing)
    alike = all(arrays[slot.key].shape[1:] == slot.shape[1:] for slot in differing)
    return int(next(iter(counts))[0]) if fits and alike else None


def resized(slots: Iterable[Slot], arrays: Mapping[str, Array]) -> tuple[Slot, ...]:
    """The slots with the shapes of the arrays that are there."""
    return tuple(
        slot._replace(shape=tuple(arrays[slot.key].shape)) if slot.key in arrays else slot for slot in slots
    )


def classes_of(skeleton: bytes) -> int | None:
    """The second dimension of the first output; None where it isn't fixed."""
    place: tuple[int, int] = (0, len(skeleton))
    for number, which in ((_GRAPH, 0), (_OUTPUT, 0), (2, 0), (1, 0), (2, 0), (1, 1)):
        spans = [value for found, value in protobuf.fields(skeleton, *place) if found == number]
        if len(spans) <= which:
            return None
        place = protobuf.span_of(spans[which])
    value = dict(protobuf.fields(skeleton, *place)).get(1)
    return value if isinstance(value, int) else None


def _reshaped_by(graph: bytes) -> str | None:
    """The name of the shape to which the first output is reshaped, where that is how it is made."""
    spans = list(protobuf.fields(graph, 0, len(graph)))
    output = _texts(graph, protobuf.span_of(next(value for number, value in spans if number == _OUTPUT)), 1)
    for number, value in spans:
        if number != _NODE:
            continue
        span = protobuf.span_of(value)
        if _texts(graph, span, _GIVES) == output and _texts(graph, span, _KIND) == ["Reshape"]:
            return _texts(graph, span, _TAKES)[1]
    return None


def _texts(content: bytes, span: tuple[int, int], wanted: int) -> list[str]:
    return [protobuf.text_of(content, value) for number, value in protobuf.fields(content, *span)
            if number == wanted]  # fmt: skip


def _ended(tensor: bytes, own: int, classes: int) -> bytes:
    """The shape in a TensorProto, whose last number, if it is `own`, becomes `classes`."""
    made = []
    for number, value, part in protobuf.parts(tensor, 0, len(tensor)):
        if number == _RAW:
            begin, end = protobuf.span_of(value)
            numbers = list(struct.unpack(f"<{(end - begin) // 8}q", tensor[begin:end]))
            if numbers[-1:] == [own]:
                numbers[-1] = classes
            part = protobuf.message(_RAW, struct.pack(f"<{len(numbers)}q", *numbers))
        made.append(part)
    return b"".join(made)


def _with_extent(value: bytes, dimension: int, extent: int) -> bytes:
    """A ValueInfoProto with another extent of a dimension: its type, tensor type and shape are replaced."""

    def replaced(content: bytes, path: tuple[int, ...]) -> bytes:
        made, seen = [], 0
        for number, inner, part in protobuf.parts(content, 0, len(content)):
            if number == path[0]:
                begin, end = protobuf.span_of(inner)
                if len(path) > 1:
                    part = protobuf.message(number, replaced(content[begin:end], path[1:]))
                elif seen == dimension:
                    part = protobuf.message(number, protobuf.number(1, extent))
                seen += 1
            made.append(part)
        return b"".join(made)

    return replaced(value, (2, 1, 2, 1))  # type, tensor_type, shape, dim


def size_bytes(slots: Iterable[Slot]) -> int:
    """About what the parameters take on disk."""
    return sum(4 * math.prod(slot.shape) for slot in slots)
