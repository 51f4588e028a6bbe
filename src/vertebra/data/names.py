"""The names of files as text."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit


def printable(path: str | os.PathLike[str]) -> str:
    """The path as text that can be printed and stored, even if its bytes are not UTF-8.

    >>> printable("caf\\udce9.jpg")
    'caf\\\\udce9.jpg'
    """
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def from_address(text: str) -> Path | None:
    """The path of a `file:` address of this machine, or None if the text is anything else.

    >>> str(from_address("file:///data/my%20cats"))
    '/data/my cats'
    """
    if text[:7].lower() != "file://":
        return None
    parts = urlsplit(text)
    if parts.netloc.lower() not in ("", "localhost"):
        return None
    path = unquote(text[7 + len(parts.netloc) :])
    windows = os.name == "nt" and path[2:3] == ":"
    return Path(path[1:] if windows else path)
