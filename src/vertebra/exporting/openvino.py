"""The OpenVINO converter: its own two files, float32 as the network is, by way of ONNX."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra import bundle
from vertebra.exporting import onnx
from vertebra.exporting.conversion import Order, refused

if TYPE_CHECKING:
    from torch import Tensor, nn


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.xml` and `model.bin` in `draft`."""
    import openvino

    with tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
        path = Path(scratch) / bundle.NETWORK
        onnx.write_file(network, images, path, order)
        try:
            graph = openvino.Core().read_model(path)
        except RuntimeError as error:
            raise refused("openvino", None, str(error).strip().splitlines()[-1]) from error
        for number, node in enumerate(graph.get_ordered_ops()):
            # A name that OpenVINO made counts all the nodes that this process ever had.
            if node.get_friendly_name() == node.get_name():
                node.set_friendly_name(f"{node.get_type_name()}.{number}")
        openvino.save_model(graph, draft / bundle.NETWORKS["openvino"], compress_to_fp16=False)
