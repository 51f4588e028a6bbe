"""Files in one piece: the whole content under the name asked for, or nothing of it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from vertebra.errors import InvalidInputError


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`; what stood there before stays whole until the new content is complete.

    Raises InvalidInputError where the folder is missing, may not be written or is full.
    """
    try:
        _replace(path, content)
    except OSError as error:
        raise InvalidInputError(
            f"Can't write {path}: {error.strerror or error}.",
            "choose a folder that exists, may be written and has room",
        ) from error


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp's files are private
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
