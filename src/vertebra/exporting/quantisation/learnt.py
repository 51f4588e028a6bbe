"""Ranges that a network was trained for, on the tensors of its ONNX graph.

A layer's tensors are found by the name of its weight, which the exporter keeps; those of additions, products
and concatenations by their order, where the graph has as many as the network had.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.zoo.compressed import Range

if TYPE_CHECKING:
    from vertebra.exporting.quantisation.graphs import Images
    from vertebra.zoo.compressed import Ranges

_LAYERS = ("Conv", "Gemm", "MatMul")
_RECTIFIERS = ("Relu", "Clip")
#: Their outputs have the values that their inputs have, or some of them.
_KEEPING = ("MaxPool", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout")
_WEIGHT = ".weight"


@dataclass(frozen=True)
class Learnt:
    """A training in eight bits: the ranges, and `answer`, which gives the trained network's logits
    (N, num_classes) for images (N, 3, H, W)."""

    ranges: Ranges
    answer: Callable[[Images], Images]


@dataclass(frozen=True)
class Placed:
    """The range of each tensor by its name, and the number of learnt ranges that no tensor was found for."""

    tensors: dict[str, Range]
    lost: int


def place(path: Path, ranges: Ranges) -> Placed:
    """The tensors of the ONNX graph at `path` that the `ranges` are of."""
    import onnx

    return _Graph(onnx.load(str(path), load_external_data=False).graph).place(ranges)


class _Graph:
    def __init__(self, graph: Any) -> None:
        self._nodes = list(graph.node)
        self._stored = {one.name for one in graph.initializer}
        self._maker = {name: node for node in self._nodes for name in node.output}
        self._takers: dict[str, list[Any]] = defaultdict(list)
        for node in self._nodes:
            for name in node.input:
                self._takers[name].append(node)

    def place(self, ranges: Ranges) -> Placed:
        made: dict[str, Range] = {}
        lost = len(ranges.inputs) + len(ranges.outputs)
        for node in self._nodes:
            layer = self._layer(node) or ""
            if layer in ranges.outputs:
                made[self._end(node)] = ranges.outputs[layer]
                lost -= 1
            if layer in ranges.inputs:
                for tensor in self._upwards(node.input[0]):
                    made.setdefault(tensor, ranges.inputs[layer])
                lost -= 1
        for kind, every in ranges.joins.items():
            joins = [node for node in self._nodes if node.op_type == kind and self._joins(node)]
            if len(joins) == len(every):
                made |= {self._end(node): one for node, one in zip(joins, every, strict=True)}
            else:
                lost += len(every)
        return Placed(made, lost)

    def _layer(self, node: Any) -> str | None:
        """The name of the layer whose weight the node has, if it is one."""
        if node.op_type not in _LAYERS or len(node.input) < 2 or node.input[1] not in self._stored:
            return None
        name: str = node.input[1]
        return name.removesuffix(_WEIGHT) if name.endswith(_WEIGHT) else None

    def _joins(self, node: Any) -> bool:
        """Whether all that the node takes is computed, and it isn't an activation: x times x's sigmoid."""
        if any(name not in self._maker for name in node.input):
            return False
        made = [self._maker[name] for name in node.input]
        return not any(one.op_type == "Sigmoid" and one.input[0] in node.input for one in made)

    def _end(self, node: Any) -> str:
        """What the node gives, or the rectifier that alone takes it."""
        tensor: str = node.output[0]
        takers = self._takers[tensor]
        if len(takers) == 1 and takers[0].op_type in _RECTIFIERS:
            tensor = takers[0].output[0]
        return tensor

    def _upwards(self, tensor: str) -> Iterator[str]:
        """The tensor, and those before it with the same values."""
        yield tensor
        while (maker := self._maker.get(tensor)) is not None and maker.op_type in _KEEPING:
            tensor = maker.input[0]
            yield tensor
