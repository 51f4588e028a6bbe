"""Folders searched for pictures: which files count, and what is left out."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Endings of pictures' file names, in lower case; the content decides the format.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif",
    ".tif", ".tiff",
)  # fmt: skip

#: Endings of pictures that aren't read.
UNREAD = (
    ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".tga",
    ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".dcm", ".exr", ".npy", ".ico",
)  # fmt: skip

#: Folders that systems and programs leave among one's own, in lower case.
_LITTER = (
    "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "#recycle", "#snapshot",
    "__pycache__",
)  # fmt: skip
#: Files likewise.
_LITTER_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")

HIDDEN = "hidden"
NOT_PICTURES = "not pictures"
NOT_FILES = "not regular files"
BESIDE = "pictures outside the class folders"
#: The kind of each ending in UNREAD.
UNREADABLE = tuple(f"{ending} pictures, which can't be read" for ending in UNREAD)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or is what a system leaves in folders: __MACOSX, @eaDir, Thumbs.db.

    >>> [is_hidden(name) for name in ("._a.jpg", "@eaDir", "cat")]
    [True, True, False]
    """
    return name.startswith(".") or name.lower() in _LITTER or name.lower() in _LITTER_FILES


def is_picture(name: str) -> bool:
    """Whether a file's name is a picture's; hidden files never are."""
    base = name.rpartition("/")[2]
    return base.lower().endswith(SUFFIXES) and not is_hidden(base)


def kind_of(name: str) -> str | None:
    """What a file that is left out is: hidden, a picture that isn't read (by its ending), or not a picture;
    None for a picture."""
    base = name.rpartition("/")[2]
    if is_hidden(base):
        return HIDDEN
    if base.lower().endswith(SUFFIXES):
        return None
    ending = os.path.splitext(base)[1].lower()
    return UNREADABLE[UNREAD.index(ending)] if ending in UNREAD else NOT_PICTURES


def is_special(path: str | Path) -> bool:
    """Whether the path is a pipe, a socket or a device: reading one may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@dataclass
class Found:
    """One folder of a search: its pictures, sorted, what is left out by kind, and what isn't a regular file
    though it is named like a picture."""

    folder: str
    pictures: list[str]
    special: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def walk(folder: str | Path, problems: list[OSError] | None = None) -> Iterator[Found]:
    """The folder and those below it, each sorted by name, hidden ones left out.

    Links to files are followed, links to folders aren't. Errors are added to `problems`.
    """
    for place, folders, files in os.walk(folder, onerror=None if problems is None else problems.append):
        found = Found(place, [])
        found.left_out[HIDDEN] += sum(map(is_hidden, folders))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            kind = kind_of(name)
            if kind is None and is_special(os.path.join(place, name)):
                found.special.append(name)
                kind = NOT_FILES
            if kind is None:
                found.pictures.append(name)
            else:
                found.left_out[kind] += 1
        yield found
