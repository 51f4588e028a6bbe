"""The ONNX converter: torch's graph capture, parameters in a file beside the graph."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra import bundle
from vertebra.exporting.conversion import Order, refused

if TYPE_CHECKING:
    from torch import Tensor, nn


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.onnx` and `model.onnx.data` in `draft`."""
    write_file(network, images, draft / bundle.NETWORK, order)


def write_file(
    network: nn.Module, images: Tensor, path: Path, order: Order, *, external_data: bool = True
) -> None:
    """The graph at `path`, without the notes on the code that it was made of; its parameters beside it, or
    inside where there is to be no `external_data`."""
    import onnx
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
        raise _told(error) from error
    assert program is not None
    program.save(str(path), external_data=external_data)
    graph = onnx.load(str(path), load_external_data=False)
    _strip(graph)
    onnx.save(graph, str(path))


def _strip(graph: object) -> None:
    """Take out traces of the code and folders of the machine that exported it."""
    from onnx import ModelProto

    assert isinstance(graph, ModelProto)
    parts = [graph, graph.graph, *graph.functions, *graph.graph.node, *graph.graph.value_info]
    parts += [*graph.graph.input, *graph.graph.output, *graph.graph.initializer]
    parts += [node for function in graph.functions for node in function.node]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _told(error: Exception) -> Exception:
    """The error with the operator that the exporter names, if it does."""
    text = str(error)
    found = re.search(r"aten\.([\w.]+)", text)
    lines = text.strip().splitlines()
    return refused("ONNX", found.group(0) if found else None, lines[0] if lines else "no reason told")
