"""The ONNX converter: torch's graph capture, with the parameters in a separate file."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.bundles.manifest import NETWORK
from vertebra.exporting.orders import Order, layer_name, layer_of, refused

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: keys of the exporter's notes on each node: the layers around it, outermost first, and their classes
_SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.onnx` and `model.onnx.data` in `draft`, without the exporter's notes about the code."""
    import onnx

    path = draft / NETWORK
    _program(network, images, order).save(str(path), external_data=True)
    graph = onnx.load(str(path), load_external_data=False)
    _strip(graph)
    onnx.save(graph, str(path))


def layer_with(network: nn.Module, images: Tensor, order: Order, operator: str) -> str | None:
    """The layer that became ONNX's `operator` ("Conv"); None if no layer did."""
    for node in _program(network, images, order).model.graph:
        if node.op_type == operator and node.metadata_props.get(_SCOPES):
            name = ast.literal_eval(node.metadata_props[_SCOPES])[-2]  # the last one is the node's own
            kind = ast.literal_eval(node.metadata_props[_CLASSES])[-2]
            return layer_name(name, kind)
    return None


def _program(network: nn.Module, images: Tensor, order: Order) -> torch.onnx.ONNXProgram:
    """The program of torch's exporter. Raises MeasurementError, naming the operator that it can't take."""
    import torch

    batch = {0: torch.export.Dim("batch", min=1)} if order.batch_size is None else None
    try:
        program = torch.onnx.export(
            network,
            (images,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=None if batch is None else (batch,),
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise _refusal(error, network, images) from error
    assert program is not None
    return program


def _strip(graph: object) -> None:
    """Remove the names of code and folders on the machine that exported it."""
    from onnx import ModelProto

    assert isinstance(graph, ModelProto)
    parts = [graph, graph.graph, *graph.functions, *graph.graph.node, *graph.graph.value_info]
    parts += [*graph.graph.input, *graph.graph.output, *graph.graph.initializer]
    parts += [node for function in graph.functions for node in function.node]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _refusal(error: Exception, network: nn.Module, images: Tensor) -> Exception:
    """The error with the operator that the exporter names, if it does, and its first cause."""
    found = re.search(r"(?:aten|prims)\.\w+", str(error))
    operator = found.group(0) if found else None
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return refused("onnx", operator, lines[0], operator and layer_of(network, images, operator))
