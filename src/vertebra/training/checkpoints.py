"""All that a training needs to go on, in one file: whole, or as it was before.

A checkpoint is written beside its place, made durable, and then takes the place of the earlier one in one
step, so that a process that is killed at any instant leaves a whole one. Reading it runs no code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vertebra.errors import WeightsError
from vertebra.machine import leftovers

#: Version of a checkpoint's content and its meaning.
VERSION = 1


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state`, of tensors, numbers, texts, lists and dicts, to `path`. Raises OSError where the disk
    refuses it; what was at `path` then stays."""
    handle, name = tempfile.mkstemp(prefix=leftovers.hidden(path.name), dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            _write(stream, {**state, "version": VERSION})
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)  # mkstemp's files are private
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _settle(path.parent)


def _write(stream: Any, state: Mapping[str, Any]) -> None:
    try:
        torch.save(dict(state), stream)
    except RuntimeError as error:  # torch's writer hides why the file took no more
        reason = next((one for one in _chain(error) if isinstance(one, OSError)), None)
        if reason is not None:
            raise reason from error
        raise OSError(os.strerror(28), str(getattr(stream, "name", ""))) from error


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _settle(folder: Path) -> None:
    """Make a file's new name durable; not every system can."""
    with contextlib.suppress(OSError):
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def load(path: Path) -> dict[str, Any]:
    """The state that `save` wrote, on the CPU. Raises WeightsError where there is none, or of another
    version."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(
            f"Can't read the checkpoint {path}: {error.strerror or error}.", "pass the folder of a run"
        ) from error
    except Exception as error:  # torch's reader has no error of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"{path} isn't a checkpoint: {reason}", "pass the folder of a run") from error
    found = state.get("version") if isinstance(state, dict) else None
    if found != VERSION:
        raise WeightsError(
            f"The checkpoint {path} has version {found}; this vertebra reads version {VERSION}.",
            "continue it with the vertebra that wrote it; run.json in its folder has the version",
        )
    return dict(state)


def digest(value: Any) -> str:
    """The sha256 of tensors, numbers, texts and containers of these, by content alone: equal for equal bits,
    however they were stored."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        found.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
        flat = value.detach().cpu().flatten().clone(memory_format=torch.contiguous_format)
        found.update(flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        found.update(b"{")
        for key in sorted(value, key=str):
            found.update(f"{key!r}:".encode())
            _feed(found, value[key])
        found.update(b"}")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        found.update(b"[")
        for one in value:
            _feed(found, one)
        found.update(b"]")
    elif isinstance(value, float):
        found.update(struct.pack("<d", value))
    else:
        found.update(f"{type(value).__name__} {value!r};".encode())
