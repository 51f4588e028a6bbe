"""What a network does with one image: the operations in order, and the module call that each belongs to.

The network is on torch's meta device, where tensors have shapes and no contents: nothing is allocated and
nothing computed. Operations are seen below torch's functions, so a functional call counts like a module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import DispatchKey
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vertebra.measuring.profiler.shapes import KNOWN


@dataclass(frozen=True)
class Operation:
    """One operation of torch: its aten name, arguments (tensors as shapes) and first output's shape.

    `macs` is 0 for anything but a convolution or matrix product. `call` is an index into the calls.
    """

    name: str
    arguments: tuple[Any, ...]
    output_shape: tuple[int, ...]
    macs: int
    call: int


@dataclass
class Call:
    """One call of one module. `is_leaf` where it called no other."""

    name: str
    module: nn.Module
    output_shape: tuple[int, ...] = ()
    is_leaf: bool = True


@dataclass
class Trace:
    """`touched` maps the id of each tensor that entered an operation to the first call that used it."""

    calls: list[Call] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    touched: dict[int, int] = field(default_factory=dict)


def trace(network: nn.Module, images: Tensor) -> Trace:
    """Follow `images` through `network`; both must be on the meta device."""
    record = Trace()
    stack: list[int] = []
    followed = _followed(network, record, stack)
    with torch.no_grad(), _fused_attention_off(), followed, _Recorder(record, stack):
        network(images)
    return record


@contextmanager
def _followed(network: nn.Module, record: Trace, stack: list[int]) -> Iterator[None]:
    """Record every call of the network's modules; `stack` holds those in progress."""
    names = {id(module): name for name, module in network.named_modules()}

    def enter(module: nn.Module, _inputs: object) -> None:
        if id(module) in names:
            if stack:
                record.calls[stack[-1]].is_leaf = False
            stack.append(len(record.calls))
            record.calls.append(Call(names[id(module)], module))

    def leave(module: nn.Module, _inputs: object, output: object) -> None:
        if id(module) in names:
            record.calls[stack.pop()].output_shape = _first_shape(output)

    # two hooks for all modules: hooks on each would take longer than following the network
    hooks = (register_module_forward_pre_hook(enter), register_module_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _fused_attention_off() -> Iterator[None]:
    """Attention in evaluation can run as one fused operation that no counter sees into."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts as torch's own FlopCounterMode does, by the same formulas.

    FlopCounterMode itself is not used: it gives no shapes and no arguments, and its module tracker
    raises on networks that are otherwise fine.
    """

    def __init__(self, record: Trace, stack: list[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record
        self.stack = stack

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        formula, known = flop_registry.get(packet), KNOWN.get(packet)
        output = None if known is None else known(*args, **kwargs)
        if output is None:
            if formula is None and _has_parts(func):
                with self:
                    parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
            output = func(*args, **kwargs)
        call = self.stack[-1]
        shapes, given = tuple(self._noted(argument, call) for argument in args), _first_shape(output)
        if formula is None:
            macs = 0
        elif bare := getattr(
            formula, "__wrapped__", None
        ):  # the form that takes shapes, which are known here
            macs = bare(*shapes, **kwargs, out_shape=given) // 2
        else:
            macs = formula(*args, **kwargs, out_val=output) // 2
        self.record.operations.append(Operation(packet.__name__, shapes, given, macs, call))
        return output

    def _noted(self, argument: object, call: int) -> object:
        """An argument with its tensors as shapes; the tensors are remembered."""
        if isinstance(argument, Tensor):
            self.record.touched.setdefault(id(argument), call)
            return tuple(argument.shape)
        if isinstance(argument, list | tuple):
            return [self._noted(part, call) for part in argument]
        return argument


@cache
def _has_parts(operation: Any) -> bool:
    """Whether torch can express the operation by others. Asking where it can't is slow."""
    composite = DispatchKey.CompositeImplicitAutograd
    return operation is not torch.ops.prim.device.default and (
        composite in operation.py_kernels
        or torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), composite)
    )


def _first_shape(output: object) -> tuple[int, ...]:
    if isinstance(output, Tensor):
        return tuple(output.shape)
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    return tuple(tensors[0].shape) if tensors else ()
