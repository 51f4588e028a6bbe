"""The LiteRT converter: torch's graph capture, for one batch size. The parameters stay float32."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.bundles.manifest import NETWORKS
from vertebra.exporting.orders import Order, layer_of, refused

if TYPE_CHECKING:
    from torch import Tensor, nn


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.tflite` in `draft`."""
    import litert_torch

    try:
        made = litert_torch.convert(network, (images,))
    except Exception as error:  # The converter raises what its many parts raise.
        text = str(error)
        found = re.search(r"aten\.\w+", text)
        operator = found.group(0) if found else None
        lines = text.strip().splitlines() or [type(error).__name__]
        layer = operator and layer_of(network, images, operator)
        raise refused("litert", operator, lines[0], layer) from error
    made.export(str(draft / NETWORKS["litert"]))
