"""Where a Bundle may be written, and the hidden folder in which it is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vertebra.bundles.manifest import LITTER, MANIFEST, ROWS, read_manifest
from vertebra.errors import BundleError
from vertebra.machine.files import whole_folder


@contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """A hidden folder that replaces `folder` at the end. Raises BundleError if that is impossible."""
    try:
        check(folder)
        with whole_folder(folder, _is_bundle, is_own=_is_cached(folder)) as draft_:
            yield draft_
    except FileExistsError as error:
        raise _taken(folder) from error
    except OSError as error:
        raise BundleError(
            f"The Bundle {folder} can't be written: {error.strerror or error}.",
            "check the free space and the permissions; nothing was written",
        ) from error


def _is_cached(folder: Path) -> bool:
    from vertebra.machine import downloads

    return folder.absolute().is_relative_to(downloads.cache_folder())


def _is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _taken(folder: Path) -> BundleError:
    return BundleError(
        f"{folder} exists and is not a Bundle.", "choose another folder; this one is untouched"
    )


def check(folder: Path) -> None:
    """Raise BundleError if a Bundle in `folder` would add files to another Bundle, delete the current folder
    or files that don't belong to the old Bundle, or take the place of something else."""
    if folder.resolve() == Path.cwd():
        raise BundleError(
            f"{folder} is the current folder; a Bundle would replace all of it.", "choose another folder"
        )
    if folder.exists() and not (folder.is_dir() and (_is_bundle(folder) or not any(folder.iterdir()))):
        raise _taken(folder)
    around = [place for place in folder.absolute().parents if _is_bundle(place)]
    if around:
        raise BundleError(
            f"{folder} lies inside the Bundle {around[0]}; a Bundle holds only its own files.",
            "choose another folder",
        )
    if _is_bundle(folder) and (found := strangers(folder, _listed(folder))):
        raise BundleError(
            f"{folder} holds {found[0]}, which isn't part of the Bundle; a new Bundle would delete it.",
            "move it out of the folder, or choose another folder; this one is untouched",
        )


def _listed(folder: Path) -> list[str]:
    """The files of the Bundle in `folder`; if its manifest is damaged, all files there."""
    try:
        return list(read_manifest(folder / MANIFEST)["files"])
    except BundleError:
        return [path.name for path in folder.iterdir()]


def strangers(folder: Path, listed: Iterable[str]) -> list[str]:
    """Names in `folder` that aren't `listed` and that no Bundle may have unlisted."""
    known = {*listed, MANIFEST, ROWS, *LITTER}
    return sorted(path.name for path in folder.iterdir() if path.name not in known)
