"""Zip archives from any source, of which only the files in their own list are unpacked."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath

from vertebra.errors import BundleError

#: How many times its archive a content may be. Parameters hardly shrink; zeros shrink a thousandfold.
_MOST_RATIO = 100
_SPARE_BYTES = 2**20
_MOST_ENTRIES = 1000

#: The folder that macOS puts into its archives, for its file system's data on the files.
_LITTER = "__MACOSX/"

_HINT = "don't use it; ask its author for another copy"


def unpack(
    path: Path,
    to: Path,
    *,
    index: str,
    sizes: Callable[[bytes], Mapping[str, int]],
    more: Mapping[str, int],
    ignored: Collection[str] = (),
) -> None:
    """Unpack the files of one folder, at the archive's top or right below, into the folder `to`.

    `index` is the file that lists the others; `sizes` reads the bytes of each from its content. Next to those
    there may be `more`, up to their bytes, and the `ignored`, which are left out. Raises BundleError for
    anything else: other files, paths that lead elsewhere, links, secrets, and contents larger than listed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(path, archive, index)
            limit = more[index]
            listed = sizes(_content(path, archive, entries[index], limit))
            for name, entry in entries.items():
                if name in ignored:
                    continue
                _check(path, name, entry, {**more, **listed}, exact=name in listed)
                with archive.open(entry) as source, (to / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (BundleError, OSError, MemoryError):
        raise
    except Exception as error:  # what zipfile and zlib raise for damaged archives shares no other base
        raise BundleError(f"{path} can't be unpacked: {error}.", _HINT) from error


def _entries(path: Path, archive: zipfile.ZipFile, index: str) -> dict[str, zipfile.ZipInfo]:
    """name -> entry, of the folder that holds `index`."""
    found = [
        entry for entry in archive.infolist() if not entry.is_dir() and not entry.filename.startswith(_LITTER)
    ]
    size = sum(entry.file_size for entry in found)
    if len(found) > _MOST_ENTRIES or size > _MOST_RATIO * path.stat().st_size + _SPARE_BYTES:
        raise BundleError(
            f"{path} would unpack to {len(found):,} files of {size:,} bytes, too much for a Bundle.",
            _HINT,
        )
    tops = [PurePosixPath(entry.filename).parent for entry in found if entry.filename.split("/")[-1] == index]
    if len(tops) != 1 or len(tops[0].parts) > 1:
        raise BundleError(
            f"{path} is not a Bundle: it must contain exactly one {index}.", "zip the Bundle's folder"
        )
    prefix = "".join(f"{part}/" for part in tops[0].parts)
    return {_name(path, entry.filename, prefix): entry for entry in found}


def _name(path: Path, name: str, prefix: str) -> str:
    inner = name.removeprefix(prefix)
    if not name.startswith(prefix) or set(inner) & set("/\\:\0") or inner in ("", ".", ".."):
        raise BundleError(f'{path} holds "{name}", which is not a file of its Bundle.', _HINT)
    return inner


def _check(path: Path, name: str, entry: zipfile.ZipInfo, sizes: Mapping[str, int], *, exact: bool) -> None:
    if name not in sizes:
        raise BundleError(f'{path} holds "{name}", which its Bundle doesn\'t list.', _HINT)
    if stat.S_ISLNK(entry.external_attr >> 16) or entry.flag_bits & 1:
        raise BundleError(f'{path} holds "{name}" as a link or encrypted.', _HINT)
    check_packing(entry)
    if entry.file_size > sizes[name] or (exact and entry.file_size != sizes[name]):
        raise BundleError(
            f'{path} holds "{name}" with {entry.file_size:,} bytes; {sizes[name]:,} are listed.', _HINT
        )


def check_packing(entry: zipfile.ZipInfo) -> None:
    """Raise NotImplementedError unless the entry is stored or deflated: nobody packs a Bundle otherwise, and
    other methods have costs of their own."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError(
            f"{entry.filename} is packed by the method {entry.compress_type}, not stored or deflated"
        )


def _content(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    check_packing(entry)
    if entry.file_size > limit:
        raise BundleError(f"{path} holds {entry.filename} with {entry.file_size:,} bytes.", _HINT)
    return archive.read(entry)
