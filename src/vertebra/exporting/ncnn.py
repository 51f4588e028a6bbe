"""The ncnn converter: pnnx, by way of torch's tracer. The parameters stay float32."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.bundles.manifest import NETWORKS
from vertebra.exporting.orders import Order, layer_of, refused
from vertebra.machine import leftovers

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Files that pnnx would write in addition to ncnn's, each with all parameters.
_UNWANTED = (f"pnnxbin={os.devnull}", f"pnnxonnx={os.devnull}")

#: pnnx copies all parameters many times, and page faults take most of its time: large pages save it.
_LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

#: Prefixes of layers for which pnnx found no counterpart in ncnn.
_FOREIGN = ("aten::", "prim::", "torch.", "Tensor.", "F.", "nn.", "pnnx.", "torchvision.")


def write(network: nn.Module, images: Tensor, draft: Path, order: Order) -> None:
    """`model.ncnn.param` and `model.ncnn.bin` in `draft`."""
    import pnnx
    import torch

    target = draft / NETWORKS["ncnn"]
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notice that a newer format exists
        path = Path(scratch) / "model.pt"
        try:
            traced: Any = torch.jit.trace(network, images[:1], check_trace=False)  # type: ignore[no-untyped-call]
            traced.save(str(path))
        except RuntimeError as error:
            raise refused("ncnn", None, str(error).strip().splitlines()[-1]) from error
        shape = ",".join(map(str, images[:1].shape))
        done = subprocess.run(
            [pnnx.EXEC_PATH, path.name, f"inputshape=[{shape}]", "fp16=0", *_UNWANTED],
            cwd=scratch, env=_LARGE_PAGES | os.environ, capture_output=True, text=True, errors="replace",
            check=False,
        )  # fmt: skip
        made = path.with_name(target.name)
        if done.returncode != 0 or not made.is_file():
            lines = done.stderr.strip().splitlines() or [f"pnnx ended with status {done.returncode}"]
            raise refused("ncnn", None, lines[-1])
        _check_layers(made, network, images)
        for suffix in (".param", ".bin"):
            shutil.copyfile(made.with_suffix(suffix), target.with_suffix(suffix))


def _check_layers(param: Path, network: nn.Module, images: Tensor) -> None:
    """Raise MeasurementError for a layer that pnnx left unconverted because ncnn has no such layer."""
    layers = [line.split()[:2] for line in param.read_text(encoding="utf-8").splitlines()[2:]]
    foreign = [(kind, name) for kind, name in layers if kind.startswith(_FOREIGN)]
    # A layer that pnnx made of several operators has a name that users don't know, so it comes last.
    for kind, name in sorted(foreign, key=lambda layer: layer[0].startswith("pnnx.")):
        layer = layer_of(network, images, kind)
        raise refused("ncnn", kind, "ncnn has no such layer", layer or name)
