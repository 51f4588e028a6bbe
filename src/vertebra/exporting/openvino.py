"""The OpenVINO converter: its own two files, float32 as the network is, by way of ONNX."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.bundles.manifest import NETWORK, NETWORKS
from vertebra.exporting import onnx
from vertebra.exporting.orders import Order, refused

if TYPE_CHECKING:
    from torch import Tensor, nn


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.xml` and `model.bin` in `draft`."""
    import openvino

    with tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
        onnx.write(network, images, Path(scratch), order)
        try:
            graph = openvino.Core().read_model(Path(scratch) / NETWORK)
        except RuntimeError as error:
            told = str(error).strip()
            found = re.search(r"operations: ([\w.]+)-\d+", told)
            operator = found.group(1) if found else None
            layer = operator and onnx.layer_with(network, images, order, operator)
            raise refused("openvino", operator, told.splitlines()[-1].lstrip("- "), layer) from error
        name_nodes(graph)
        openvino.save_model(graph, draft / NETWORKS["openvino"], compress_to_fp16=False)


def name_nodes(graph: Any) -> None:
    """Give the nodes that OpenVINO named itself names that any process would give them."""
    for number, node in enumerate(graph.get_ordered_ops()):
        # A name that OpenVINO made counts all the nodes that this process ever had.
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}.{number}")
