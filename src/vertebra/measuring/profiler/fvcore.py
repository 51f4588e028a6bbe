"""The counting rule of the GMACs that timm publishes: that of fvcore's `FlopCountAnalysis` (0.1.5).

One for each multiply-accumulate, as here, and in addition: 2 for each normalised element of a batch norm (5
where it takes the batch's own statistics), 5 of a layer or group norm, 1 for each element that an adaptive
average pool reads or a nearest-neighbour resize writes, 4 for one that a bilinear resize writes. So published
counts can be held against ours in their own convention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod

from vertebra.measuring.profiler.trace import Operation


def count(operations: Iterable[Operation]) -> int:
    """What fvcore would call the flops of a trace at batch 1."""
    return sum(operation.macs + _beside(operation) for operation in operations)


def _beside(operation: Operation) -> int:
    rule = _RULES.get(operation.name)
    return 0 if rule is None else rule(operation)


def _batch_norm(operation: Operation) -> int:
    _, scale, *_, training, _, _ = operation.arguments[:8]
    affine = scale is not None
    return prod(operation.output_shape) * ((4 + affine) if training else (1 + affine))


def _layer_norm(operation: Operation) -> int:
    return prod(operation.output_shape) * (4 + (operation.arguments[2] is not None))


def _group_norm(operation: Operation) -> int:
    return prod(operation.output_shape) * (4 + (operation.arguments[1] is not None))


def _adaptive_pool(operation: Operation) -> int:
    return prod(operation.arguments[0])


def _mean(operation: Operation) -> int:
    """Torch's form of an adaptive pool to one element; a mean over named axes isn't one."""
    return prod(operation.arguments[0]) if list(operation.arguments[1:2]) == [[-1, -2]] else 0


_RULES: dict[str, Callable[[Operation], int]] = {
    "native_batch_norm": _batch_norm,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "_adaptive_avg_pool2d": _adaptive_pool,
    "mean": _mean,
    "upsample_nearest2d": lambda operation: prod(operation.output_shape),
    "upsample_bilinear2d": lambda operation: 4 * prod(operation.output_shape),
}
