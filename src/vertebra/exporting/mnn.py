"""The MNN converter, by way of ONNX. The parameters stay float32.

The converter runs in a separate process, without MNN's Python wrapper: the wrapper installs a package for
telemetry when it is imported.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.bundles.manifest import NETWORK, NETWORKS
from vertebra.exporting import onnx
from vertebra.exporting.orders import Order, refused
from vertebra.machine import leftovers

if TYPE_CHECKING:
    from torch import Tensor, nn

_IDENTIFIER = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CONVERT = "import json, sys, _tools; _tools.mnnconvert(json.loads(sys.argv[1]))"


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.mnn` in `draft`."""
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        onnx.write(network, images, Path(scratch), order)
        convert(Path(scratch) / NETWORK, draft, partial(onnx.layer_with, network, images, order))


def convert(path: Path, draft: Path, layer_with: Callable[[str], str | None] = lambda _: None) -> None:
    """The same of the ONNX file at `path`; `layer_with` names the layer that became an operator."""
    made = (draft / NETWORKS["mnn"]).resolve()  # the converter runs in another folder
    words = ["mnnconvert", "-f", "ONNX", "--modelFile", str(path.resolve()), "--MNNModel", str(made)]
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, json.dumps([*words, "--bizCode", "vertebra"])],
        cwd=path.parent, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    if done.returncode != 0 or not made.is_file() or "Converted Success" not in output:
        unknown = re.search(r"Not Support:\s*(?:ONNX::)?([\w:]+)", output)
        operator = unknown.group(1) if unknown else None
        lines = output.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise refused("mnn", operator, lines[-1], operator and layer_with(operator))
    _name_by_content(made)


def _name_by_content(path: Path) -> None:
    """Replace the random identifier that MNN gives each file with one computed from the network, so that the
    same network gives the same file."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as network:
        place = _IDENTIFIER.search(network)
        if place is None:
            return
        start, end = place.span()
        del place  # it keeps the map open
        with memoryview(network) as view:
            digest = hashlib.sha256(view[:start])
            digest.update(view[end:])
        network[start:end] = str(uuid.uuid5(uuid.NAMESPACE_OID, digest.hexdigest())).encode()
