"""The counting rule of the parameters and FLOPs that PaddleClas printed for these networks in 2020.

They are neither the true parameters nor MACs nor twice the MACs, but what
`paddle.fluid.contrib.model_stat.summary` of paddlepaddle 1.8.5 printed under Python 2.7. Here is what
it did, established by running it, so that its table can be regenerated and its errors explained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from vertebra.measuring.profiler.trace import Operation

#: The page's networks, and the side of the kernel that their programs wrote on a global average pool. It has
#: no effect on such a pool, but the tool counted it. AlexNet and VGG have no global pool.
_GLOBAL_POOL_KERNEL = {
    "alexnet": 1,
    "squeezenet1_0": 1,
    "squeezenet1_1": 1,
    "vgg11": 1,
    "vgg13": 1,
    "vgg16": 1,
    "vgg19": 1,
    "darknet53": 1,
    "senet154_vd": 1,
    "resnet50_acnet": 7,
    "resnet50_acnet_deploy": 7,
}


@dataclass(frozen=True)
class Share:
    """What the operations of one kind add."""

    params: int = 0
    operations: int = 0
    number: int = 0


@dataclass(frozen=True)
class ModelStat:
    """The 2020 rule's count: `by_kind` splits it by the kinds of operation that the tool knew."""

    by_kind: Mapping[str, Share]

    @property
    def params(self) -> int:
        return sum(share.params for share in self.by_kind.values())

    @property
    def operations(self) -> int:
        return sum(share.operations for share in self.by_kind.values())


def count(operations: Sequence[Operation], model: str) -> ModelStat | None:
    """The rule applied to a trace of `model` at batch 1.

    None for a network that is not on the page, or at a size that its original program could not take.
    """
    if model not in _GLOBAL_POOL_KERNEL or any(_resizes(operation) for operation in operations):
        return None
    shares: dict[str, Share] = defaultdict(Share)
    for operation in operations:
        if operation.name not in _RULES:
            continue
        kind, rule = _RULES[operation.name]
        params, added = rule(operation, _GLOBAL_POOL_KERNEL[model])
        so_far = shares[kind]
        shares[kind] = Share(so_far.params + params, so_far.operations + added, so_far.number + 1)
    return ModelStat(dict(shares))


def _resizes(operation: Operation) -> bool:
    """An adaptive pool that does something: the original AlexNet and VGG had none."""
    return operation.name == "_adaptive_avg_pool2d" and operation.arguments[0] != operation.output_shape


def _convolution(operation: Operation, _: int) -> tuple[int, int]:
    """Two for each multiply-accumulate, without the bias; a grouped convolution loses everything.

    The filter's shape already holds in_channels / groups. The tool divided by the groups once more, and
    Python 2 rounded down, to 0 wherever a group is narrower than the number of groups.
    """
    out_channels, in_per_group, height, width = operation.arguments[1]
    groups = operation.arguments[8]
    per_output = height * width * (in_per_group // groups)
    return out_channels * per_output, 2 * prod(operation.output_shape) * per_output


def _fully_connected(operation: Operation, _: int) -> tuple[int, int]:
    """One for each multiply-accumulate, and a bias of one element at any width."""
    in_features, out_features = operation.arguments[-1]
    return in_features * out_features + 1, in_features * out_features


def _normalisation(operation: Operation, _: int) -> tuple[int, int]:
    return 2 * operation.output_shape[1], 2 * prod(operation.output_shape)


def _pool(operation: Operation, _: int) -> tuple[int, int]:
    return 0, prod(operation.arguments[1]) * prod(operation.output_shape)


def _global_pool(operation: Operation, kernel: int) -> tuple[int, int]:
    return 0, kernel**2 * prod(operation.output_shape)


def _activation(operation: Operation, _: int) -> tuple[int, int]:
    """Less than nothing: the tool multiplied by the batch size, which was -1, for "any"."""
    return 0, -prod(operation.output_shape)


#: aten's name -> the tool's name, and its rule: parameters and operations that one operation adds.
_RULES: dict[str, tuple[str, Callable[[Operation, int], tuple[int, int]]]] = {
    "convolution": ("conv2d", _convolution),
    "addmm": ("mul", _fully_connected),
    "mm": ("mul", _fully_connected),
    "native_batch_norm": ("batch_norm", _normalisation),
    "max_pool2d_with_indices": ("pool2d", _pool),
    "avg_pool2d": ("pool2d", _pool),
    "mean": ("pool2d", _global_pool),
    "relu": ("relu", _activation),
    "relu_": ("relu", _activation),
    "sigmoid": ("sigmoid", _activation),
    "sigmoid_": ("sigmoid", _activation),
}
