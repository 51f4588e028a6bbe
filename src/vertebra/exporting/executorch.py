"""The ExecuTorch converter: torch's graph capture, lowered to XNNPACK, for one batch size.

Operators without an XNNPACK kernel use ExecuTorch's portable ones, so hardly any is refused. A
dynamic batch would plan memory for the largest one, whatever the batch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.bundles.manifest import NETWORKS
from vertebra.exporting.orders import Order, layer_of, refused

if TYPE_CHECKING:
    from torch import Tensor, nn


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.pte` in `draft`."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    try:
        captured = torch.export.export(network, (images,))
        lowered = to_edge_transform_and_lower(captured, partitioner=[XnnpackPartitioner()])
        made = lowered.to_executorch()
    except Exception as error:  # The converter raises what its many parts raise.
        text = str(error)
        found = re.search(r"aten\.\w+", text)
        operator = found.group(0) if found else None
        lines = text.strip().splitlines() or [type(error).__name__]
        layer = operator and layer_of(network, images, operator)
        raise refused("executorch", operator, lines[0], layer) from error
    (draft / NETWORKS["executorch"]).write_bytes(made.buffer)
