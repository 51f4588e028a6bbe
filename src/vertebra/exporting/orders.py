"""What every converter needs: formats, orders, errors for what it can't take, and names of layers.

Converters import this file and not `conversion`, which calls them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vertebra.errors import MeasurementError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Format:
    """How a Bundle of one format is made: `module` has the converter, which needs `packages`, and `extra`
    installs them. Without `any_batch_size`, a network is exported for one batch size only."""

    module: str
    packages: tuple[str, ...]
    extra: str
    any_batch_size: bool


_ONNX = ("torch", "onnx", "onnxscript")

#: format -> how it is made
FORMATS: dict[str, Format] = {
    "onnx": Format("vertebra.exporting.onnx", _ONNX, "torch", True),
    "openvino": Format("vertebra.exporting.openvino", (*_ONNX, "openvino"), "torch,openvino", True),
    "aotinductor": Format("vertebra.exporting.aotinductor", ("torch",), "torch", True),
    "ncnn": Format("vertebra.exporting.ncnn", ("torch", "pnnx", "ncnn"), "ncnn-export", True),
    "mnn": Format("vertebra.exporting.mnn", (*_ONNX, "MNN"), "torch,mnn", True),
    "litert": Format("vertebra.exporting.litert", ("torch", "litert_torch"), "litert-export", False),
    "executorch": Format("vertebra.exporting.executorch", ("torch", "executorch"), "executorch", False),
}


@dataclass(frozen=True)
class Order:
    """What a converter must make: for which batch size (None: any), in which precision."""

    batch_size: int | None
    precision: str


class Converter(Protocol):
    """The module of a Format."""

    def write(self, network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
        """Write the network's files into the folder `draft`. `images` (N, C, H, W) are an example: as many as
        the order's batch size, or 2. Raises MeasurementError, which names what can't be converted."""
        ...


def refused(engine: str, operator: str | None, reason: str, layer: str | None = None) -> MeasurementError:
    """The error of a converter that can't take an operator, or the network. It names the layer, if known, and
    the engines that can."""
    where = f" of the layer {layer}" if layer else ""
    what = f"the operator {operator}{where}" if operator else "this network"
    able = ["eager"] if operator is None else ["eager", "compile", "aotinductor"]
    more = "" if operator is None or engine in ("onnx", "openvino") else "; onnxruntime and openvino run most"
    return MeasurementError(
        f"The converter for {engine} can't take {what}: {reason}",
        f"use an engine that runs all that torch does: {', '.join(able)}{more}",
    )


def layer_of(network: nn.Module, images: Tensor, operator: str) -> str | None:
    """The layer that calls torch's `operator` ("aten.add"), by its name and class; None if no layer does,
    or if the network can't be captured."""
    import torch

    try:
        captured = torch.export.export(network, (images,))
    except (RuntimeError, TypeError, ValueError):
        return None  # the caller already has an error to raise
    wanted = _plain(operator)
    calls = [(_plain(str(node.target)), node) for node in captured.graph.nodes if node.op == "call_function"]
    named = [node for name, node in calls if name == wanted] or [
        node
        for name, node in calls
        if name.endswith(wanted)  # special_erfinv for erfinv
    ]
    if not named:
        return None
    name, kind = list(named[0].meta["nn_module_stack"].values())[-1]
    return layer_name(name, str(kind))


def layer_name(name: str, kind: str) -> str:
    """A layer called `name` of the class `kind`, as messages name it: `features.0 (Conv2d)`."""
    kind = kind.rpartition(".")[2]
    return f"{name} ({kind})" if name else kind


def _plain(operator: str) -> str:
    """`maxpool2d` for `aten.max_pool2d.default`, `aten::max_pool2d` or `max_pool2d`."""
    parts = operator.replace("::", ".").split(".")
    return (parts[1] if len(parts) > 1 else parts[0]).replace("_", "").lower()
