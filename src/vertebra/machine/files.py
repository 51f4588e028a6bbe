"""Files and folders written as a whole, by one process at a time: all of the content, or none of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError, OutOfTimeError
from vertebra.machine import leftovers

if TYPE_CHECKING:
    from filelock import BaseFileLock


def named(path: str | Path) -> Path:
    """The path that somebody wrote, with `~` replaced. Raises InvalidInputError if no file can be called so,
    which is otherwise found out in many places and ways."""
    try:
        found = Path(path).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found.lstat()
    except (OSError, ValueError, RuntimeError) as error:
        start = ascii(str(path))[1:-1][:60]
        raise InvalidInputError(
            f"No file can be called {start}…: {getattr(error, 'strerror', None) or error}.",
            "pass the path of a file",
        ) from error
    return found


def cache_folder() -> Path:
    """VERTEBRA_CACHE, else the cache folder of this user on this operating system."""
    named = os.environ.get("VERTEBRA_CACHE")
    if named:
        return Path(named).expanduser().absolute()  # processes that have another folder share it
    import platformdirs

    return platformdirs.user_cache_path("vertebra", appauthor=False)


def write_whole(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write `content` to `path`; what was there before stays until the new content is complete. The file's
    `mode` is by default the usual one. A device or a pipe is written into and never replaced.

    Raises InvalidInputError where the folder is missing, may not be written or is full.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as stream:
                stream.write(content)
        else:
            _replace(path, content, mode)
    except OSError as error:
        raise InvalidInputError(
            f"Can't write {path}: {error.strerror or error}.",
            "choose a writable folder with free space",
        ) from error


def _replace(path: Path, content: bytes, mode: int | None) -> None:
    import tempfile

    handle, name = tempfile.mkstemp(prefix=leftovers.hidden(path.name), dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask() if mode is None else mode)  # mkstemp's files are private
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def unshared(path: str, flags: int) -> int:
    """An `opener` for `open`: a new file that only its owner may write, whatever the umask."""
    return os.open(path, flags, 0o644)


def make_folder(folder: Path) -> None:
    """Make the folder and those above it; only their owner may write into those that are made, whatever the
    umask. Raises OSError."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir(exist_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def whole_folder(
    folder: Path, replaceable: Callable[[Path], bool], *, is_own: bool = False
) -> Iterator[Path]:
    """A hidden folder next to `folder` that takes its name at the end, and is removed where that fails, as
    are those of dead processes next to it. If it `is_own`, only its owner may write into it, whatever the
    umask.

    What is at `folder` is replaced if it is empty or `replaceable`. Raises FileExistsError if it isn't, and
    what else the disk raises as OSError.
    """
    import uuid

    leftovers.sweep(folder.parent)
    draft = folder.parent / f"{leftovers.hidden(folder.name)}{uuid.uuid4().hex[:8]}"
    try:
        if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or replaceable(folder))):
            raise FileExistsError(f"{folder} already exists and would be overwritten")
        if is_own:
            make_folder(folder.parent)
        draft.mkdir(0o700 if is_own else 0o777, parents=True)
        yield draft
        if is_own:
            _unshare(draft)
        _take_place(draft, folder)
    finally:
        _drop(draft, folder)


def _unshare(draft: Path) -> None:
    for path in draft.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o022)
    draft.chmod(0o755)


def _drop(draft: Path, folder: Path) -> None:
    """Remove what is left of a draft, and restore what it failed to replace."""
    old = _old(draft)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in (draft, old):
        shutil.rmtree(left, ignore_errors=True)


def _old(draft: Path) -> Path:
    """Where the folder to be replaced is kept until the draft is in its place."""
    return draft.with_name(draft.name + ".old")


def _take_place(draft: Path, folder: Path) -> None:
    if not folder.exists():
        draft.rename(folder)
        return
    old = _old(draft)
    folder.rename(old)
    draft.rename(folder)
    shutil.rmtree(old)


@contextlib.contextmanager
def sole_use(
    path: Path,
    *,
    wait: Callable[[], None] | None = None,
    poll_s: float = 0.05,
    hint: str = "choose a folder that may be written and has room",
    patience_s: float | None = None,
) -> Iterator[None]:
    """Hold `PATH.lock`, as one process at a time can; a killed process's hold ends with it.

    Where somebody else holds it, `wait` is called once, and the lock is tried again every `poll_s` seconds. A
    missing folder is made. Raises InvalidInputError with this `hint` where the folder can't be written, and
    OutOfTimeError where it is still held after `patience_s` (None: it waits for as long as it takes).
    """
    import filelock

    lock = filelock.FileLock(path.with_name(f"{path.name}.lock"))
    if not _acquired(lock, hint, blocking=False):
        if wait is not None:
            wait()
        if not _acquired(lock, hint, poll_s=poll_s, patience_s=patience_s):
            raise OutOfTimeError(f"{path.name} is still used by another process.")
    try:
        yield
    finally:
        lock.release()


def _acquired(
    lock: BaseFileLock,
    hint: str,
    *,
    blocking: bool = True,
    poll_s: float | None = None,
    patience_s: float | None = None,
) -> bool:
    import filelock

    folder = Path(lock.lock_file).parent
    try:
        make_folder(folder)
        lock.acquire(patience_s, blocking=blocking, poll_interval=poll_s)
    except filelock.Timeout:
        return False
    except OSError as error:
        raise InvalidInputError(f"{folder} can't be written: {error.strerror or error}.", hint) from error
    return True
