"""The outputs of common operations on the meta device, known at once instead of derived by torch.

On that device torch finds the shape of many outputs by a decomposition in Python, which takes milliseconds
a call. Where the output has the shape and the type of an input, or where a product's shape is plain, there is
nothing to derive. Each entry of `KNOWN` returns what torch would return, or None to leave it to torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

_aten = torch.ops.aten
Known = Callable[..., Any]


def _empty_like(tensor: Tensor) -> Tensor:
    """`torch.empty_like`, which on this device derives even a plain layout in Python."""
    return tensor.new_empty(tensor.shape) if tensor.is_contiguous() else torch.empty_like(tensor)


def _alike(first: object, *_: object, **__: object) -> Tensor | None:
    """Elementwise, with one floating-point type."""
    if isinstance(first, Tensor) and first.is_floating_point():
        return _empty_like(first)
    return None


def _itself(first: Tensor, *_: object, **__: object) -> Tensor:
    """Changed in place."""
    return first


def _pairwise(first: object, second: object, *_: object, **__: object) -> Tensor | None:
    """For two inputs, where one already has the output's shape."""
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return None
    if not isinstance(second, Tensor):
        return _empty_like(first)
    if first.dtype != second.dtype:
        return None
    if _covers(first.shape, second.shape):
        return _empty_like(first)
    return _empty_like(second) if _covers(second.shape, first.shape) else None


def _covers(shape: torch.Size, other: torch.Size) -> bool:
    """Whether a tensor of the shape `other` is broadcast to `shape`."""
    missing = len(shape) - len(other)
    return missing >= 0 and all(
        size in (1, whole) for size, whole in zip(other, shape[missing:], strict=True)
    )


def _normalised(images: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor, Tensor]:
    """The output; then two statistics that evaluation doesn't use."""
    return _empty_like(images), images.new_empty(0), images.new_empty(0)


def _layer_normalised(tokens: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor, Tensor]:
    return tokens.new_empty(tokens.shape), tokens.new_empty(0), tokens.new_empty(0)


def _added_product(_: Tensor, left: Tensor, right: Tensor, **__: object) -> Tensor | None:
    return _product(left, right)


def _product(left: Tensor, right: Tensor) -> Tensor | None:
    if left.shape[1] != right.shape[0]:
        return None
    return left.new_empty((left.shape[0], right.shape[1]))


def _batched_product(left: Tensor, right: Tensor) -> Tensor | None:
    if left.shape[0] != right.shape[0] or left.shape[2] != right.shape[1]:
        return None
    return left.new_empty((left.shape[0], left.shape[1], right.shape[2]))


def _convolved(
    images: Tensor, filters: Tensor, _: object, stride: list[int], padding: list[int], dilation: list[int],
    transposed: bool, __: object, groups: int,
) -> Tensor | None:  # fmt: skip
    if transposed or images.dim() != filters.dim() or images.shape[1] != groups * filters.shape[1]:
        return None
    geometry = zip(images.shape[2:], filters.shape[2:], stride, padding, dilation, strict=True)
    sides = [
        (size + 2 * pad - spread * (taps - 1) - 1) // step + 1 for size, taps, step, pad, spread in geometry
    ]
    return images.new_empty((images.shape[0], filters.shape[0], *sides)) if min(sides) > 0 else None


def _resized(images: Tensor, output_size: object, *_: object) -> Tensor | None:
    if not isinstance(output_size, list | tuple) or images.dim() != 4:
        return None
    return images.new_empty((*images.shape[:2], *output_size))


def _mean(tensor: Tensor, axes: object = None, keepdim: bool = False, **more: object) -> Tensor | None:
    return None if more else _reduced(tensor, axes, keepdim)


def _norm(
    tensor: Tensor, _: object = 2, axes: object = None, keepdim: bool = False, **more: object
) -> Tensor | None:
    return None if more else _reduced(tensor, axes, keepdim)


def _reduced(tensor: Tensor, axes: object, keepdim: bool) -> Tensor | None:
    """Over some of the axes, to one value for each place in the others."""
    if not isinstance(axes, list | tuple) or not axes or not tensor.is_floating_point():
        return None
    gone = {axis % tensor.dim() for axis in axes}
    sides = [1 if axis in gone else side for axis, side in enumerate(tensor.shape)]
    return tensor.new_empty(
        sides if keepdim else [sides[axis] for axis in range(len(sides)) if axis not in gone]
    )


_ALIKE = (
    _aten.gelu, _aten.relu, _aten.silu, _aten.sigmoid, _aten.tanh, _aten.hardswish, _aten.hardsigmoid,
    _aten.hardtanh, _aten.mish, _aten.leaky_relu, _aten.elu, _aten.softplus, _aten.exp, _aten.sqrt,
    _aten.rsqrt, _aten.neg, _aten.abs, _aten._softmax, _aten._safe_softmax,
)  # fmt: skip
_IN_PLACE = (
    _aten.relu_, _aten.silu_, _aten.sigmoid_, _aten.hardswish_, _aten.hardsigmoid_, _aten.hardtanh_,
    _aten.leaky_relu_, _aten.elu_, _aten.mish_,
)  # fmt: skip
_RESIZED = (_aten.upsample_bilinear2d, _aten.upsample_bicubic2d, _aten.upsample_nearest2d)

KNOWN: dict[Any, Known] = {
    **dict.fromkeys(_ALIKE, _alike),
    **dict.fromkeys(_IN_PLACE, _itself),
    **dict.fromkeys((_aten.add, _aten.sub, _aten.mul, _aten.div, _aten.pow, _aten.clamp_min), _pairwise),
    **dict.fromkeys((_aten.native_batch_norm, _aten.native_group_norm), _normalised),
    **dict.fromkeys(_RESIZED, _resized),
    _aten.mean: _mean,
    _aten.linalg_vector_norm: _norm,
    _aten.native_layer_norm: _layer_normalised,
    _aten.convolution: _convolved,
    _aten.addmm: _added_product,
    _aten.mm: _product,
    _aten.bmm: _batched_product,
}

_FILLS = frozenset(
    (
        Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_, Tensor.erfinv_, Tensor.clamp_,
        Tensor.mul_, Tensor.add_, Tensor.sub_, Tensor.div_, Tensor.bernoulli_, Tensor.random_,
        init.normal_, init.uniform_, init.constant_, init.kaiming_uniform_, init.kaiming_normal_,
    )
)  # fmt: skip


class Unfilled(TorchFunctionMode):
    """Skips the initial values of tensors on the meta device, which can't hold any."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLS:
            filled = args[0] if args else kwargs["tensor"]
            if filled.is_meta:
                return filled
        return func(*args, **kwargs)
