"""The AOTInductor converter: torch's graph capture, compiled to machine code for this processor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.bundles import native
from vertebra.bundles.manifest import NETWORKS
from vertebra.exporting.orders import Order, refused
from vertebra.machine import leftovers

if TYPE_CHECKING:
    from torch import Tensor, nn

#: The compiler needs a largest batch size; it costs nothing here.
_MOST_IMAGES = 4096


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.pt2` in `draft`."""
    import torch
    from torch import _inductor

    batch = {0: torch.export.Dim("batch", min=1, max=_MOST_IMAGES)} if order.batch_size is None else None
    made = draft / NETWORKS["aotinductor"]
    try:
        captured = torch.export.export(network, (images,), dynamic_shapes=None if batch is None else (batch,))
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
            path = _inductor.aoti_compile_and_package(captured, package_path=f"{scratch}/{made.name}")
            made.write_bytes(Path(path).read_bytes())
        native.note(made)
    except (RuntimeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise refused("aotinductor", None, lines[0]) from error
