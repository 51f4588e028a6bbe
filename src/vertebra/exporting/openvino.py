"""The OpenVINO converter: its own two files, in float32 like the network, by way of ONNX."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.bundles.manifest import NETWORK, NETWORKS
from vertebra.exporting import onnx
from vertebra.exporting.orders import Order, refused
from vertebra.machine import leftovers

if TYPE_CHECKING:
    from torch import Tensor, nn


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.xml` and `model.bin` in `draft`."""
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        onnx.write(network, images, Path(scratch), order)
        convert(Path(scratch) / NETWORK, draft, partial(onnx.layer_with, network, images, order))


def convert(path: Path, draft: Path, layer_with: Callable[[str], str | None] = lambda _: None) -> None:
    """The same of the ONNX file at `path`; `layer_with` names the layer that became an operator."""
    import openvino

    try:
        graph = openvino.Core().read_model(path)
    except RuntimeError as error:
        text = str(error).strip()
        found = re.search(r"operations: ([\w.]+)-\d+", text)
        operator = found.group(1) if found else None
        layer = operator and layer_with(operator)
        raise refused("openvino", operator, text.splitlines()[-1].lstrip("- "), layer) from error
    name_nodes(graph)
    openvino.save_model(graph, draft / NETWORKS["openvino"], compress_to_fp16=False)


def name_nodes(graph: Any) -> None:
    """Rename the nodes that OpenVINO named, so that every process gives them the same names."""
    for number, node in enumerate(graph.get_ordered_ops()):
        # Names by OpenVINO count all the nodes that this process ever had.
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}.{number}")
