"""Files and folders in one piece: the whole content under the name asked for, or nothing of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def whole_folder(folder: Path, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """A hidden folder beside `folder` that takes its name at the end, and vanishes where that fails.

    What is at `folder` is replaced if it is empty or `replaceable`. Raises FileExistsError if it isn't, and
    what else the disk raises as OSError.
    """
    draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or replaceable(folder))):
            raise FileExistsError(f"{folder} exists and is something else")
        draft.mkdir(parents=True)
        yield draft
        _take_place(draft, folder)
    finally:
        _drop(draft, folder)


def _drop(draft: Path, folder: Path) -> None:
    """Remove what is left of a draft; what it was to replace, and didn't, stands again."""
    old = _old(draft)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in (draft, old):
        shutil.rmtree(left, ignore_errors=True)


def _old(draft: Path) -> Path:
    """Where what stood in the draft's place waits for its end."""
    return draft.with_name(draft.name + ".old")


def _take_place(draft: Path, folder: Path) -> None:
    if not folder.exists():
        draft.rename(folder)
        return
    old = _old(draft)
    folder.rename(old)
    draft.rename(folder)
    shutil.rmtree(old)
