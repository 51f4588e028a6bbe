"""Files of trained parameters, read as named arrays without executing code in them.

`read(path)` takes Paddle's pickles (`.pdparams`, `.pkl`), the archives of its static graphs (`.tar`), torch's
`.pth` and `.pt`, and `.safetensors`. The first bytes decide the format, not the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vertebra.errors import MissingRuntimeError, WeightsError
from vertebra.zoo.checkpoints import archives, pickles

if TYPE_CHECKING:
    import torch

__all__ = ["read"]

Array = np.ndarray[Any, Any]

#: where training programs keep the parameters next to their own state
_WRAPPINGS = ("state_dict", "model")
_PADDLE_NAMES = "StructuredToParameterName@@"
_PADDLE_SPLIT = "UnpackBigParamInfor@@"
_TORCH_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")  # begins the pickles of torch before 1.6


def read(path: str | Path) -> dict[str, Array]:
    """The arrays of a checkpoint by their names there, in its order. They may share memory and be read-only.

    Parameters kept under `state_dict` or `model` are found; a list of arrays under one name becomes `name.0`,
    `name.1`, …
    Raises WeightsError for a file that is broken, of another kind, or would execute code, and
    MissingRuntimeError where torch or safetensors is needed and absent.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
        content = _content(path, head)
    except OSError as error:
        raise WeightsError(
            f"Can't read {path}: {error.strerror or error}.", "pass the path of a checkpoint"
        ) from error
    arrays = dict(_named_arrays(path, content))
    if not arrays:
        raise WeightsError(f"{path} contains no arrays.", "use a checkpoint of a network's parameters")
    return arrays


def _content(path: Path, head: bytes) -> object:
    if head.startswith(b"PK\x03\x04") or (head.startswith(b"\x80") and _TORCH_MAGIC in head[:32]):
        return _torch(path)
    if head.startswith(b"\x80"):
        return pickles.read(path)
    if head[257:262] == b"ustar" or path.suffix == ".tar":
        return archives.read(path)
    if head[8:9] == b"{":
        return _safetensors(path)
    raise WeightsError(
        f"{path} is not a checkpoint of a known kind.",
        "use a .pdparams or another pickle of arrays, Paddle's .tar, torch's .pth, or .safetensors",
    )


def _named_arrays(path: Path, content: object) -> Iterator[tuple[str, Array]]:
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} contains a {type(content).__name__}; named arrays were expected.",
            "save the network's state dict",
        )
    named: Mapping[Any, Any] = content
    inner = next((named[key] for key in _WRAPPINGS if isinstance(named.get(key), Mapping)), named)
    if _PADDLE_SPLIT in inner:
        raise WeightsError(
            f"{path} contains arrays in pieces, as Paddle splits those above 1 GiB.",
            "save it again with Paddle's pickle protocol 4",
        )
    for name, value in inner.items():
        if name != _PADDLE_NAMES:
            yield from _flat(path, name, value)


def _flat(path: Path, name: object, value: object) -> Iterator[tuple[str, Array]]:
    if isinstance(name, str) and isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(name, str) and isinstance(value, list) and value and _are_arrays(value):
        yield from ((f"{name}.{index}", item) for index, item in enumerate(value))
    else:
        raise WeightsError(
            f"{path} contains a {type(value).__name__} under {name!r}; an array was expected.",
            "save only the network's state dict",
        )


def _are_arrays(values: list[object]) -> bool:
    return all(isinstance(value, np.ndarray) for value in values)


def _torch(path: Path) -> object:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of(f"reading {path.name}", "torch", "torch") from error
    archives.refuse_swollen_zip(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # torch raises many types, C++ errors among them, where a file is broken or asks for code.
    except Exception as error:
        raise WeightsError(
            f"{path} can't be loaded as plain weights: {_reason(error)}.",
            "save only the network's state dict: torch.save(network.state_dict(), path)",
        ) from error
    return _from_tensors(path, content)


def _safetensors(path: Path) -> object:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of(f"reading {path.name}", "safetensors", "weights") from error
    try:
        return _from_tensors(path, load_file(path))
    except SafetensorError as error:
        raise WeightsError(f"{path} is broken: {_reason(error)}.", "download it again") from error


def _reason(error: Exception) -> str:
    """The part of a library's message with the reason."""
    text = str(error).strip()
    asked = re.search(r"GLOBAL +([\w.]+)", text) or re.search(r"Unsupported \w+:? +([\w.]+)", text)
    if asked:
        return f"it asks for {asked[1]}, and loading it might execute code"
    return text.partition("\n")[0].partition(". ")[0].rstrip(".")[:200] or type(error).__name__


def _from_tensors(path: Path, content: object, depth: int = 2) -> object:
    """The same with arrays for tensors, in the dicts directly inside too."""
    import torch

    if isinstance(content, Mapping) and depth:
        return {
            name: _array(path, name, value)
            if isinstance(value, torch.Tensor)
            else _from_tensors(path, value, depth - 1)
            for name, value in content.items()
        }
    return content


def _array(path: Path, name: object, tensor: torch.Tensor) -> Array:
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise WeightsError(
            f"{path} contains {name} as a sparse, quantised or empty tensor.", "save plain tensors of numbers"
        )
    if tensor.numel() * tensor.element_size() > max(1, tensor.untyped_storage().nbytes()):
        raise WeightsError(
            f"{path} contains less of {name} than its shape {tuple(tensor.shape)} needs.", "download it again"
        )
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()  # NumPy has no bfloat16
    array: Array = tensor.numpy()
    return array
