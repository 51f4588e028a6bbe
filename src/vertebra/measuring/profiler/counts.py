"""Parameters, multiply-accumulates and activations of a network, per layer and in total."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from vertebra import units
from vertebra.errors import InvalidInputError, MeasurementError, VertebraError
from vertebra.machine import system
from vertebra.measurements import Measurement, display
from vertebra.measurements.possible import plain_names
from vertebra.measurements.shipped import Count, Layer, Stage
from vertebra.measuring.profiler import fvcore, historic
from vertebra.measuring.profiler.shapes import Unfilled
from vertebra.measuring.profiler.trace import Call, Trace, trace

#: Metrics that are the same at every input size.
_SIZELESS = ("params", "buffers", "weight_bytes")


@dataclass(frozen=True, kw_only=True, repr=False)
class Profile(display.Shown, Count):
    """The counts of one network, layer by layer too. `model_stat` is None for networks that are not on the
    page of 2020."""

    layers: tuple[Layer, ...]
    stages: tuple[Stage, ...]
    model_stat: historic.ModelStat | None

    def summary(self) -> str:
        """The totals in one line."""
        params, macs = (units.show(count, "count") for count in (self.params, self.macs))
        return f"{self.model}: {params} parameters, {macs} MACs at {self.input_size}x{self.input_size}"

    def tables(self) -> Iterable[list[display.Line]]:
        """The stages."""
        yield [{**one._asdict(), "output_shape": "x".join(map(str, one.output_shape))} for one in self.stages]


def profile(
    network: nn.Module | Callable[[], nn.Module], *, model: str, input_size: int, in_channels: int = 3
) -> Profile:
    """Count `network`, or what a builder returns, for one square image in evaluation mode.

    Nothing is run and no weights are made: a builder is called under torch's meta device, and a built
    network is copied without its contents (it stays as it is). Operations without a formula in torch aren't
    counted: dot products of two vectors, bilinear layers, custom operators.

    Raises InvalidInputError for an impossible size, and MeasurementError where the network can't be built
    or followed so.
    """
    if input_size < 1 or in_channels < 1:
        raise InvalidInputError(
            f"Can't profile {model} for an input of {in_channels}x{input_size}x{input_size}.",
            "use a size and a number of channels of at least 1",
        )
    emptied = _without_contents(network, model)
    size = (1, in_channels, input_size, input_size)
    images = torch.empty(size, dtype=_dtype(emptied), device="meta")
    try:
        record = trace(emptied, images)
    except VertebraError:
        raise
    except Exception as error:
        raise MeasurementError(
            f"Can't follow an input of shape {size} through {model}: {_first_line(error)}",
            "try another size or number of channels; a network with operations that depend on values "
            "can't be counted without running it",
        ) from error
    return _count(emptied, record, model, input_size)


def rows(profile: Profile, *, measured_at: str | None = None) -> list[Measurement]:
    """The totals of `profile` as rows; the historic figures too, where the page of 2020 has the network."""
    counts = profile.totals()
    metrics = ["params", "buffers", "weight_bytes", "macs", "activations"]
    if profile.model_stat is not None:
        counts["model_stat_params"] = profile.model_stat.params
        counts["model_stat_operations"] = profile.model_stat.operations
        metrics += ["model_stat_params", "model_stat_operations"]
    versions = system.library_versions(("torch", "vertebra"))
    return [
        Measurement(
            **plain_names({"model": profile.model}),
            metric=metric,
            value=counts[metric],
            origin="profiled",
            input_size=None if metric in _SIZELESS else profile.input_size,
            precision="float32" if metric == "weight_bytes" else None,
            versions=versions,
            measured_at=measured_at,
        )
        for metric in metrics
    ]


def _without_contents(network: nn.Module | Callable[[], nn.Module], model: str) -> nn.Module:
    try:
        if isinstance(network, nn.Module):
            return _emptied(network).eval()
        built = _built(network)
        return (built if _is_empty(built) else _emptied(built)).eval()
    except VertebraError:
        raise
    except Exception as error:
        raise MeasurementError(
            f"Can't build {model} without its weights: {_first_line(error)}",
            "if its builder reads values of tensors, build it first and profile the built network",
        ) from error


def _built(builder: Callable[[], nn.Module]) -> nn.Module:
    try:
        with torch.device("meta"), Unfilled():
            return builder()
    except VertebraError:
        raise
    except Exception:  # it reads values of its tensors: leave only its parameters without contents
        hook = register_module_parameter_registration_hook(_emptied_parameter)  # type: ignore[arg-type]
        try:
            with Unfilled():
                return builder()
        finally:
            hook.remove()


def _emptied_parameter(_: nn.Module, __: str, parameter: nn.Parameter | None) -> Tensor | None:
    return None if parameter is None or parameter.is_meta else _shape_only(parameter)


def _is_empty(network: nn.Module) -> bool:
    return all(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))


def _emptied(network: nn.Module) -> nn.Module:
    """A copy of `network` in which tensors have shapes only; the tensors that were shared still are."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): _shape_only(tensor) for tensor in tensors})


def _shape_only(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _dtype(network: nn.Module) -> torch.dtype:
    kinds = (param.dtype for param in network.parameters() if param.is_floating_point())
    return next(kinds, torch.float32)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _count(network: nn.Module, record: Trace, model: str, input_size: int) -> Profile:
    homes = _homes(network, record)
    params = [param for param in network.parameters() if id(param) in homes]
    buffers = [buffer for buffer in _stored_buffers(network) if id(buffer) in homes]
    products = [operation for operation in record.operations if operation.macs]
    macs_conv = sum(operation.macs for operation in products if operation.name == "convolution")
    layers = tuple(_layers(record, homes, params))
    return Profile(
        model=model,
        input_size=input_size,
        params=_elements(params),
        unused_params=_elements(network.parameters()) - _elements(params),
        buffers=_elements(buffers),
        macs_conv=macs_conv,
        macs_linear=sum(operation.macs for operation in products) - macs_conv,
        activations=sum(prod(operation.output_shape) for operation in products),
        weight_bytes=sum(tensor.numel() * _stored_bytes(tensor) for tensor in (*params, *buffers)),
        layers=layers,
        stages=tuple(_stages(layers, record)),
        model_stat=historic.count(record.operations, model),
        macs_fvcore=fvcore.count(record.operations),
    )


def _homes(network: nn.Module, record: Trace) -> dict[int, int]:
    """For each parameter and buffer that the answer depends on, by id: the call that it belongs to.

    That is its owner's first call, or, where another module uses it instead, the first call that did.
    """
    first_calls: dict[int, int] = {}
    for index, call in enumerate(record.calls):
        first_calls.setdefault(id(call.module), index)
    owned: dict[int, int] = {}
    for owner in network.modules():
        if id(owner) in first_calls:
            index = first_calls[id(owner)]
            for tensor in (*owner.parameters(recurse=False), *owner.buffers(recurse=False)):
                owned[id(tensor)] = min(index, owned.get(id(tensor), index))
    return record.touched | owned


def _stored_buffers(network: nn.Module) -> list[Tensor]:
    stored = network.state_dict(keep_vars=True)
    return [buffer for name, buffer in network.named_buffers() if name in stored]


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _stored_bytes(tensor: Tensor) -> int:
    return torch.float32.itemsize if tensor.is_floating_point() else tensor.element_size()


def _layers(record: Trace, homes: dict[int, int], params: list[nn.Parameter]) -> Iterator[Layer]:
    """The calls with parameters or operations, in order: leaves, and other modules that have any."""
    own: list[dict[str, int]] = [{"params": 0, "macs": 0, "activations": 0} for _ in record.calls]
    for param in params:
        own[homes[id(param)]]["params"] += param.numel()
    for operation in record.operations:
        own[operation.call]["macs"] += operation.macs
        own[operation.call]["activations"] += prod(operation.output_shape) if operation.macs else 0
    busy = {operation.call for operation in record.operations}
    for index, (call, counts) in enumerate(zip(record.calls, own, strict=True)):
        if any(counts.values()) or (call.is_leaf and index in busy):
            yield _layer(call, counts)


def _layer(call: Call, counts: dict[str, Any]) -> Layer:
    return Layer(call.name or "(network)", type(call.module).__name__, call.output_shape, **counts)


def _stages(layers: Iterable[Layer], record: Trace) -> Iterator[Stage]:
    outputs = {call.name: call.output_shape for call in record.calls}
    for name, group in groupby(layers, key=lambda layer: layer.stage):
        members = list(group)
        shape = outputs.get(name, members[-1].output_shape)
        sums = [sum(getattr(one, what) for one in members) for what in ("params", "macs", "activations")]
        yield Stage(name, shape, *sums)
