"""The graphs that ship: networks as ONNX without parameters, found and put together without torch or onnx.

`data/index.json` has one line per network; `data/NN.xz` holds up to 25 similar graphs each, and
`data/constants.xz` (or several) what their definitions compute once: position tables, masks, indices.
`python tools/graphs.py` makes, proves and packs them; docs/graphs.md says how.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from vertebra.errors import InvalidInputError, UnknownNameError

#: onnx.proto's numbers of the types that constants have
_TYPES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float64": 11}
#: kinds of numbers that constants have
KINDS = tuple(_TYPES)
#: how names of constants begin that only the features need
FOR_FEATURES = "f."
#: what was done to a definition, as Apache-2.0 wants it said
CHANGES = (
    "Changed by vertebra: the definition was traced to an ONNX graph, arithmetic on shapes was simplified"
    ", values were renamed, and all but operators, constants and the names and shapes of parameters left "
    "out. In a Bundle, batch norms are folded into the layers before them."
)
_PRODUCER = b"vertebra"


class Parameter(NamedTuple):
    """One entry of a network's state dict: its key there, the kind of its numbers, its shape."""

    key: str
    kind: str
    shape: tuple[int, ...]


class Constant(NamedTuple):
    """What the definition computes once: its name in the graph, kind, shape, and its digest."""

    name: str
    kind: str
    shape: tuple[int, ...]
    digest: str


class Answer(NamedTuple):
    """Logits of eager PyTorch with drawn parameters, for each of two images `drawing.draw(name, "images",
    (2, 3, size, size))`, at these classes."""

    size: int
    classes: tuple[int, ...]
    logits: tuple[tuple[float, ...], ...]
    spread: float


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A network's graph, and what is known of it without its nodes.

    `input_size` is the only size that it takes, in pixels a side; None where it takes any from `smallest` on
    that is a multiple of `step`. `native_size` is the definition's own. `file` is the definition's source, in
    the package of `library` and under `licence` (SPDX). `params` counts numbers in parameters, not buffers.
    """

    name: str
    input_size: int | None
    native_size: int
    smallest: int
    step: int
    library: str
    version: str
    file: str
    licence: str
    copyright: str
    params: int
    shard: str
    place: int

    def parameters(self) -> tuple[Parameter, ...]:
        """What has to be filled in: every entry of the state dict that the graph takes, in its order."""
        return tuple(Parameter(key, kind, tuple(shape)) for key, kind, shape in self._record["parameters"])

    @property
    def unused(self) -> tuple[Parameter, ...]:
        """Entries of the state dict that the graph doesn't take: counters, whole numbers that the definition
        computes, and what only training uses."""
        return tuple(Parameter(key, kind, tuple(shape)) for key, kind, shape in self._record["unused"])

    def constants(self) -> tuple[Constant, ...]:
        """What `skeleton` adds from the store of computed constants."""
        found = self._record["constants"]
        return tuple(Constant(name, kind, tuple(shape), digest) for name, kind, shape, digest in found)

    @property
    def answers(self) -> Answer | None:
        """What eager answered where it was proved; None for the few networks that were too large for that."""
        found = self._record["answers"]
        if found is None:
            return None
        logits = tuple(tuple(row) for row in found["logits"])
        return Answer(found["size"], tuple(found["classes"]), logits, found["spread"])

    @property
    def has_features(self) -> bool:
        """Whether it can give the classifier's input as a second output."""
        return bool(self._record["features"])

    @property
    def _record(self) -> Mapping[str, Any]:
        return _shard(self.shard)[0][self.place]


def names() -> frozenset[str]:
    """The networks that have a graph, as `vertebra list` spells them."""
    return frozenset(_index()["graphs"])


def without() -> Mapping[str, str]:
    """The networks that ship no graph, each with its reason."""
    found: Mapping[str, str] = _index()["without"]
    return found


def graphs(name: str) -> tuple[Graph, ...]:
    """Every graph of a network, its native size first. Raises UnknownNameError, and InvalidInputError where
    it is known why there is none."""
    index = _index()
    spelled = _spelled(name)
    if spelled is None:
        bare = _without_tag(name)
        if bare in without():
            raise InvalidInputError(
                f"{bare} ships no graph: {without()[bare]}.", "to build it from its definition, install torch"
            )
        raise UnknownNameError.of("graph", name, index["graphs"], "vertebra list")
    found = []
    for size, native, smallest, step, file, params, shard, place in index["graphs"][spelled]:
        library, version, path, licence, copyright_ = index["files"][file]
        graph = Graph(
            name=spelled, input_size=size, native_size=native, smallest=smallest, step=step, library=library,
            version=version, file=path, licence=licence, copyright=copyright_, params=params, shard=shard,
            place=place,
        )  # fmt: skip
        found.append(graph)
    return tuple(found)


def find(name: str, input_size: int | None = None) -> Graph:
    """The graph of a network for square pictures of `input_size` pixels a side, by default its native ones.

    The weights' tag in a name is ignored. Raises what `graphs` raises, and InvalidInputError for a size that
    no graph takes, which names those that there are.
    """
    found = graphs(name)
    wanted = found[0].native_size if input_size is None else input_size
    for graph in found:
        if _takes(graph, wanted):
            return graph
    raise InvalidInputError(
        f"The graph of {found[0].name} takes no pictures of {wanted}x{wanted} pixels.",
        f"use {_sizes(found)}",
    )


def _takes(graph: Graph, size: int) -> bool:
    if graph.input_size is not None:
        return size == graph.input_size
    return size >= graph.smallest and size % graph.step == 0


def _sizes(found: Sequence[Graph]) -> str:
    fixed = sorted(graph.input_size for graph in found if graph.input_size is not None)
    parts = [" or ".join(map(str, fixed))] if fixed else []
    for graph in found:
        if graph.input_size is None:
            multiple = f", a multiple of {graph.step}" if graph.step > 1 else ""
            parts.append(f"{graph.smallest} or more{multiple}")
    return "; or ".join(parts)


def skeleton(graph: Graph, *, features: bool = False) -> bytes:
    """The graph as a serialised ONNX model: input `images` (batch, 3, H, W), output `logits`, and with
    `features` also `features` (batch, D), the classifier's input. Everything is inside but the parameters.

    Raises InvalidInputError where features are asked for and the graph has none.
    """
    if features and not graph.has_features:
        raise InvalidInputError(f"The graph of {graph.name} has no output for features.")
    records, content = _shard(graph.shard)
    record = records[graph.place]
    begin, core, extra = record["at"]
    graph_bytes = content[begin : begin + core]
    if features:
        graph_bytes += content[begin + core : begin + core + extra]
    wanted = [one for one in graph.constants() if features or not one.name.startswith(FOR_FEATURES)]
    constants = [(one, constant(one)) for one in wanted]
    return assemble(record["opset"], graph_bytes, constants)


def constant(one: Constant) -> bytes:
    """The values of a computed constant, little-endian."""
    shard, begin, length = _index()["constants"][one.digest]
    return _constants(shard)[begin : begin + length]


def assemble(opset: int, graph: bytes, constants: Sequence[tuple[Constant, bytes]]) -> bytes:
    """The serialised model of a serialised graph and of the constants that are kept apart from it."""
    inside = [graph, *(_field(5, tensor(one, content)) for one, content in constants)]
    version = _field(8, _field(1, b"") + _number(2, opset))
    return _number(1, 10) + _field(2, _PRODUCER) + _field(7, b"".join(inside)) + version


def tensor(one: Constant, content: bytes) -> bytes:
    """A serialised TensorProto with the values inside."""
    dims = b"".join(_number(1, extent) for extent in one.shape)
    return dims + _number(2, _TYPES[one.kind]) + _field(8, one.name.encode()) + _field(9, content)


def notices(graph: Graph) -> str:
    """What has to accompany a copy of the graph: whose work it is, what was changed, the licences' texts."""
    heads = [
        f"model.onnx was made from {graph.file} of {graph.library} {graph.version}.",
        graph.copyright,
        f"Licence: {graph.licence}.",
        CHANGES,
    ]
    texts = [f"{licence}\n\n{licence_text(licence).strip()}" for licence in graph.licence.split(" AND ")]
    return "\n\n".join([*heads, *texts]) + "\n"


def licence_text(licence: str) -> str:
    """The text of one of the licences of the definitions, by its SPDX name."""
    return _read(f"{licence}.txt").decode()


# ------------------------------------------------------------------ the files


@cache
def _index() -> Any:
    return json.loads(_read("index.json"))


@cache
def _spellings() -> Mapping[str, str]:
    return {name.lower(): name for name in _index()["graphs"]}


def _spelled(name: str) -> str | None:
    return _spellings().get(name.lower()) or _spellings().get(_without_tag(name))


def _without_tag(name: str) -> str:
    return name.lower().partition(".")[0]


@lru_cache(maxsize=8)
def _shard(name: str) -> tuple[list[dict[str, Any]], bytes]:
    """The records of a shard, and their bytes."""
    content = lzma.decompress(_read(f"{name}.xz"))
    length = int.from_bytes(content[:4], "little")
    return json.loads(content[4 : 4 + length]), content[4 + length :]


@lru_cache(maxsize=4)
def _constants(name: str) -> bytes:
    return lzma.decompress(_read(f"{name}.xz"))


def _read(name: str) -> bytes:
    return (Path(__file__).parent / "data" / name).read_bytes()


# ------------------------------------------------------------------ protobuf


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
