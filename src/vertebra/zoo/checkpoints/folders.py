"""A folder of a Hugging Face repository: the files of its weights, and what its config.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vertebra.errors import WeightsError

_WHOLE = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".pdparams")
_MAX_BYTES = 16 * 2**20  # of a JSON file


def files(path: Path) -> tuple[Path, ...]:
    """The file of weights itself, or the files of those in a folder, several where an index names shards.

    Raises WeightsError for a folder without weights.
    """
    if not path.is_dir():
        return (path,)
    for name in _WHOLE:
        if (path / name).is_file():
            return (path / name,)
    for name in _INDICES:
        if (path / name).is_file():
            return _shards(path / name)
    others = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES and one.is_file())
    if len(others) == 1:
        return (others[0],)
    held = ", ".join(one.name for one in others[:3]) or "none"
    raise WeightsError(
        f"Can't read {path}: a folder of weights has model.safetensors or pytorch_model.bin; of files of "
        f"weights it has {held}.",
        "pass the file itself",
    )


def _shards(index: Path) -> tuple[Path, ...]:
    named = _json(index).get("weight_map")
    names = set(named.values()) if isinstance(named, dict) else set()
    if not names or not all(isinstance(name, str) and _is_plain(name) for name in names):
        raise WeightsError(f"{index} doesn't name the files of the weights.", "download it again")
    return tuple(index.parent / name for name in sorted(names))


def _is_plain(name: str) -> bool:
    return bool(name) and Path(name).name == name and "\\" not in name


def config(path: str | Path) -> dict[str, Any]:
    """What config.json in a folder says; empty where there is none. Raises WeightsError."""
    file = Path(path).expanduser() / "config.json"
    return _json(file) if file.is_file() else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1)
        found = json.loads(text) if len(text) <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} can't be read: {error}.", "download it again") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} is not a JSON object.", "download it again")
    return found
