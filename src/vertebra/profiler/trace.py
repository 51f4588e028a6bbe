"""What a network does with one image: the operations in order, and the module call that each belongs to.

The network is on torch's meta device, where tensors have shapes and no contents: nothing is allocated and
nothing computed. Operations are seen below torch's functions, so a functional call counts like a module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Operation:
    """One operation of torch: its aten name, arguments (tensors as shapes) and first output's shape.

    `macs` is 0 for whatever is no convolution or matrix product. `call` is an index into the calls.
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
    with torch.no_grad(), _fused_attention_off(), ExitStack() as hooks:
        for name, module in network.named_modules():
            _follow(name, module, record, stack, hooks)
        with _Recorder(record, stack):
            network(images)
    return record


def _follow(name: str, module: nn.Module, record: Trace, stack: list[int], hooks: ExitStack) -> None:
    def enter(*_: object) -> None:
        if stack:
            record.calls[stack[-1]].is_leaf = False
        stack.append(len(record.calls))
        record.calls.append(Call(name, module))

    def leave(_module: nn.Module, _inputs: object, output: object) -> None:
        record.calls[stack.pop()].output_shape = _first_shape(output)

    hooks.callback(module.register_forward_pre_hook(enter).remove)
    hooks.callback(module.register_forward_hook(leave).remove)


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
        formula = flop_registry.get(func.overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        output = func(*args, **kwargs)
        macs = formula(*args, **kwargs, out_val=output) // 2 if formula else 0
        self._note(func.overloadpacket.__name__, args, output, macs)
        return output

    def _note(self, name: str, args: tuple[Any, ...], output: object, macs: int) -> None:
        call = self.stack[-1]
        for leaf in tree_leaves(args):
            if isinstance(leaf, Tensor):
                self.record.touched.setdefault(id(leaf), call)
        operation = Operation(name, tree_map(_shape_of, args), _first_shape(output), macs, call)
        self.record.operations.append(operation)


def _shape_of(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else value


def _first_shape(output: object) -> tuple[int, ...]:
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    return tuple(tensors[0].shape) if tensors else ()
