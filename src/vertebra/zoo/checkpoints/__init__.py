"""Files of trained parameters, read as named arrays without executing code in them.

`read(path)` takes Paddle's pickles (`.pdparams`, `.pkl`), the archives of its static graphs (`.tar`), torch's
`.pth` and `.pt`, and `.safetensors`. The first bytes decide the format, not the name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vertebra.errors import WeightsError
from vertebra.zoo.checkpoints import archives, contents, folders, pickles, safetensors_files, torch_files
from vertebra.zoo.checkpoints.contents import Found
from vertebra.zoo.compressed import KEY, Compressed
from vertebra.zoo.compressed import read as read_compressed

if TYPE_CHECKING:
    import torch

__all__ = ["Found", "compressed", "read", "take"]

Array = np.ndarray[Any, Any]

MAX_DIMENSIONS = pickles.MAX_DIMENSIONS


def read(path: str | Path) -> dict[str, Array]:
    """The arrays of a checkpoint by their names there, in its order; see `take`."""
    return dict(take(path).arrays)


def take(path: str | Path, *, ema: bool | None = None) -> Found:
    """The arrays of a checkpoint by their names there, in its order, and where they were found in it. They
    may share memory, be read-only, and be views of the file.

    Parameters kept under a name that training programs use (`contents.RAW`) are found, averaged ones first
    unless `ema` is False; a list of arrays under one name becomes `name.0`, `name.1`, …
    Raises WeightsError for a file that is broken, of another kind, or would execute code, and
    MissingRuntimeError where torch is needed and absent. `path` may be a folder of a Hugging
    Face repository; the files of its index are read together.
    """
    content: object = None
    for file in folders.files(Path(path)):
        part = _opened(file)
        if content is None:
            content = part
        elif isinstance(content, dict) and isinstance(part, dict):
            content |= part
    return contents.find(path, content, ema)


def compressed(path: str | Path) -> Compressed:
    """What compression left in a file of weights beside them; empty where it holds nothing of the kind.

    Raises WeightsError, also for a record that can't be read.
    """
    for file in folders.files(Path(path)):
        text = _beside(file)
        if text is not None:
            return read_compressed(text)
    return Compressed()


def _beside(path: Path) -> str | None:
    """The record in one file."""
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
        if head[8:9] == b"{":
            return safetensors_files.metadata(path).get(KEY)
        if not head.startswith(b"PK\x03\x04"):
            return None
        content = torch_files.read(path, head)
    except OSError as error:
        raise WeightsError(
            f"Can't read {path}: {error.strerror or error}.", "pass the path of a checkpoint"
        ) from error
    text = content.get(KEY) if isinstance(content, dict) else None
    return text if isinstance(text, str) else None


def _opened(path: Path) -> object:
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
        return _content(path, head)
    except OSError as error:
        raise WeightsError(
            f"Can't read {path}: {error.strerror or error}.", "pass the path of a checkpoint"
        ) from error


def _content(path: Path, head: bytes) -> object:
    if head.startswith(b"PK\x03\x04") or (head.startswith(b"\x80") and torch_files.MAGIC in head[:32]):
        return torch_files.read(path, head)
    if head.startswith(b"\x80"):
        return pickles.read(path)
    if head[257:262] == b"ustar" or path.suffix == ".tar":
        return archives.read(path)
    if head[8:9] == b"{":
        return _safetensors(path)
    if head[:1] == b"{":
        raise WeightsError(f"{path} is JSON.", "pass the file of the weights beside it, or their folder")
    raise WeightsError(
        f"{path} is not a checkpoint of a known kind.",
        "use a .pdparams or another pickle of arrays, Paddle's .tar, torch's .pth, or .safetensors",
    )


def _safetensors(path: Path) -> object:
    try:
        return safetensors_files.read(path)
    except safetensors_files.OtherKindError:  # only torch knows numbers of eight bits
        if any(importlib.util.find_spec(name) is None for name in ("safetensors", "torch")):
            raise
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return _from_tensors(path, load_file(path))
    # ValueError and others: shapes that torch refuses.
    except (SafetensorError, ValueError, RuntimeError, TypeError, OverflowError, KeyError) as error:
        raise WeightsError(f"{path} is broken: {_reason(error)}.", "download it again") from error


def _reason(error: Exception) -> str:
    """The part of a library's message with the reason."""
    text = str(error).strip()
    return text.partition("\n")[0].partition(". ")[0].rstrip(".")[:200] or type(error).__name__


def _from_tensors(path: Path, content: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    return {name: _array(path, name, tensor) for name, tensor in content.items()}


def _array(path: Path, name: str, tensor: torch.Tensor) -> Array:
    import torch

    if tensor.ndim > MAX_DIMENSIONS:
        raise WeightsError(f"{path} contains {name} with {tensor.ndim} dimensions.", "download it again")
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()  # NumPy has no bfloat16
    array: Array = tensor.numpy()
    return array
