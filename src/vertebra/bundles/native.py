"""Bundles whose network is native code, and which of those files this machine made itself.

A network in ONNX is data. A network in AOTInductor's format is a shared library: loading it runs whatever is
in there. It is loaded only if the digest of its file is in this user's own list, which an export adds to, or
if the caller trusts it; and never out of an archive, which nobody has looked into.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vertebra.bundles.bundle import Bundle
from vertebra.bundles.manifest import EXPORT_AGAIN, NATIVE
from vertebra.errors import BundleError
from vertebra.machine import files, leftovers

_FOLDER, _LIST = "native-code", "made-here.sha256"
_TRUST = "if you trust its maker, add --trust-code (Python: trust_code=True)"
_CHUNK_BYTES = 2**20


def check(kept: Bundle, *, trust_code: bool = False, called: str | Path | None = None) -> None:
    """Raise BundleError if the network is native code that may not be loaded, by the digest in the manifest:
    an early answer. What is loaded is checked again by `cleared`. `called` is what the user calls it."""
    if kept.format in NATIVE:
        _check_place(kept, called)
        if not trust_code and kept.files[kept.network.name]["sha256"] not in made_here():
            raise _refusal(called or kept.folder, kept.format)


@contextmanager
def cleared(kept: Bundle, *, trust_code: bool = False) -> Iterator[Path]:
    """A private copy of the Bundle's native code, deleted at the end. Raises BundleError if it may not be
    loaded."""
    _check_place(kept, None)
    with _copied(kept.network) as (copy, digest):
        if digest != kept.files[copy.name]["sha256"]:
            raise BundleError(f"{kept.network} was changed after the Bundle was written.", EXPORT_AGAIN)
        if not trust_code and digest not in made_here():
            raise _refusal(kept.folder, kept.format)
        yield copy


@contextmanager
def own(path: Path) -> Iterator[Path]:
    """A private copy of a file that this machine made, as `cleared` gives one. Raises BundleError for any
    other file."""
    with _copied(path) as (copy, digest):
        if digest not in made_here():
            raise _refusal(path, path.suffix)
        yield copy


def note(path: Path) -> None:
    """Add the file, which this machine just made, to the list. Raises InvalidInputError if the list can't be
    written."""
    from vertebra.machine import downloads

    listed = _listed()
    with files.sole_use(listed.parent, hint="name another folder with VERTEBRA_CACHE"):
        known = made_here()  # empty if anyone else could have written it
        _make_private(listed.parent)
        content = "".join(f"{digest}\n" for digest in sorted({*known, downloads.digest(path)}))
        files.write_whole(listed, content.encode(), mode=0o600)


def made_here() -> frozenset[str]:
    """The digests in the list; none if somebody else than this user can write it."""
    listed = _listed()
    try:
        if not all(map(_is_own, (listed.parent, listed))):
            return frozenset()
        return frozenset(listed.read_text(encoding="ascii").split())
    except (OSError, UnicodeDecodeError):
        return frozenset()


def _listed() -> Path:
    from vertebra.machine import downloads

    return downloads.cache_folder() / _FOLDER / _LIST


def _make_private(folder: Path) -> None:
    with contextlib.suppress(OSError):  # writing into it will say why
        if folder.is_dir() and not _is_own(folder):
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700, exist_ok=True)


def _is_own(path: Path) -> bool:
    about = path.lstat()
    is_mine = leftovers.is_users(about) and (os.name == "nt" or not about.st_mode & 0o022)
    return is_mine and (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode))


def _check_place(kept: Bundle, called: str | Path | None) -> None:
    if kept.is_from_archive:
        raise BundleError(
            f"{called or kept.folder} is an archive of native code ({kept.format}), which is never loaded "
            "from an archive.",
            f"unpack it into a folder and pass that; {_TRUST}",
        )


def _refusal(called: str | Path, format: str) -> BundleError:
    return BundleError(
        f"{called} holds native code ({format}), which would run with your rights, and this machine didn't "
        "make it.",
        f"export the network here (vertebra export); or, {_TRUST}",
    )


@contextmanager
def _copied(source: Path) -> Iterator[tuple[Path, str]]:
    """A copy that only this user can reach, and the digest of the bytes in it: nobody can exchange the file
    between the check and the loading."""
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as private:
        copy = Path(private) / source.name
        try:
            digest = _copy(source, copy)
        except OSError as error:
            raise BundleError(
                f"{source} can't be copied to {private}: {error.strerror or error}.",
                "check its permissions and the free space, or set TMPDIR to another folder",
            ) from error
        yield copy, digest


def _copy(source: Path, to: Path) -> str:
    content = hashlib.sha256()
    with source.open("rb") as reader, to.open("xb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            content.update(chunk)
            writer.write(chunk)
    return content.hexdigest()
