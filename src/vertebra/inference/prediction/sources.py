"""Sources of pictures, and the pictures in them, one after another."""

from __future__ import annotations

import glob
import importlib.util
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vertebra.data import walking
from vertebra.data.names import from_address, printable
from vertebra.data.preprocess import Source
from vertebra.data.preprocess.decode import MAX_BYTES
from vertebra.errors import DownloadError, InvalidInputError, MissingRuntimeError
from vertebra.machine import leftovers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    #: A path, pattern, address, "-", "camera:0"; a picture's bytes; pixels (H, W, 3), uint8, RGB.
    Given: TypeAlias = str | Path | bytes | npt.NDArray[np.uint8]
else:
    Given = Any

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")

#: The longest wait for a picture, in seconds: one slow server must not hold up the others.
_WHOLE_S = 120.0
_CAMERA = re.compile(r"camera:(\d+)")


@dataclass(frozen=True)
class Picture:
    """One picture, not yet decoded: its name for messages, and its content; or `error`, why it has none."""

    name: str
    content: Source = b""
    error: str | None = None


def pictures_of(sources: Iterable[Given], every: int = 1) -> Iterator[Picture]:
    """The pictures in all `sources`, in order; every `every`th frame of a video. See `prediction.predict`."""
    for source in sources:
        yield from _pictures(source, every)


def is_on_disk(source: Given) -> bool:
    """Whether `source` is files, perhaps none of them a picture: files can be read twice."""
    if not isinstance(source, str | Path):
        return False
    text = str(source)
    if text == "-" or _is_address(text) or _CAMERA.fullmatch(text):
        return False
    local = from_address(text) or source
    if not os.path.exists(local):
        return True
    return os.path.isdir(local) or (os.path.isfile(local) and not text.lower().endswith(VIDEOS))


def _is_address(text: str) -> bool:
    return text[:8].lower().startswith(("https://", "http://"))


def _pictures(source: Given, every: int) -> Iterator[Picture]:
    if isinstance(source, bytes | bytearray | memoryview):
        return iter([Picture(f"<{len(source):,} bytes>", bytes(source))])
    if isinstance(source, Path):
        return _at_path(source, every)
    if not isinstance(source, str):
        return iter([_pixels(source)])
    if source == "-":
        return iter([_standard_input()])
    if _is_address(source):
        return iter([_fetched(source)])
    local = from_address(source)
    if local is not None:
        return _at_path(local, every)
    camera = _CAMERA.fullmatch(source)
    if camera is not None:
        return _frames(source, int(camera[1]), every)
    if not os.path.lexists(source) and glob.has_magic(source):
        return _matches(source)
    return _at_path(Path(source), every)


def _pixels(source: Any) -> Picture:
    import numpy as np

    if not isinstance(source, np.ndarray):
        raise InvalidInputError(
            f"A source is a path, an address, bytes or pixels (H, W, 3), not {type(source).__name__}."
        )
    return Picture(f"<pixels {'x'.join(map(str, source.shape))}>", source)


def _at_path(path: Path, every: int) -> Iterator[Picture]:
    if os.path.isdir(path):
        return _in_folder(path)
    if path.suffix.lower() in VIDEOS and os.path.isfile(path):
        return _frames(str(path), str(path), every)
    return iter([_file(path)])


def _file(path: Path) -> Picture:
    return Picture(printable(path), path)


def _in_folder(folder: Path) -> Iterator[Picture]:
    """The pictures in a folder and its subfolders, each sorted by name. Links to folders aren't followed, and
    hidden files and folders are left out."""
    problems: list[OSError] = []
    found = False
    for one in walking.walk(folder, problems):
        found = found or bool(one.pictures or one.special)
        for name in sorted((*one.pictures, *one.special)):
            path = Path(one.folder, name)
            special = name in one.special
            yield Picture(printable(path), error="it is not a regular file.") if special else _file(path)
    for problem in problems:
        yield Picture(printable(problem.filename), error=f"can't be read: {problem.strerror}.")
    if not found and not problems:
        yield Picture(
            printable(folder), error=f"the folder holds no picture ({', '.join(walking.SUFFIXES)})."
        )


def _literal(pattern: str) -> str:
    """The pattern, in which the longest start that is a folder is meant as it is written."""
    parts = Path(pattern).parts
    for count in range(len(parts) - 1, 0, -1):
        start = os.path.join(*parts[:count])
        if os.path.isdir(start):
            return os.path.join(glob.escape(start), *parts[count:])
    return pattern


def _matches(pattern: str) -> Iterator[Picture]:
    """The files that match a pattern, sorted; `**` matches any folders."""
    found = sorted(glob.glob(_literal(pattern), recursive=True))
    paths = [path for path in found if not os.path.isdir(path) and not walking.is_special(path)]
    yield from (_file(Path(path)) for path in paths)
    if not paths:
        yield Picture(pattern, error="no file matches the pattern.")


def _standard_input() -> Picture:
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        return Picture("-", error=f"standard input has more than {MAX_BYTES:,} bytes.")
    return Picture("-", data)


def _with_small_scheme(url: str) -> str:
    scheme, colon, rest = url.partition(":")
    return f"{scheme.lower()}{colon}{rest}"


def _fetched(url: str) -> Picture:
    """The picture at an address. It isn't kept, since the picture there may change."""
    from vertebra.machine import downloads

    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as folder:
        try:
            address = _with_small_scheme(url).replace(" ", "%20")
            path = downloads.fetch(
                address, folder=Path(folder), attempts=2, limit_bytes=MAX_BYTES, whole_s=_WHOLE_S
            )
            return Picture(url, path.read_bytes())
        except DownloadError as error:
            return Picture(url, error=error.message)


def _frames(name: str, address: str | int, every: int) -> Iterator[Picture]:
    """A video's or camera's frames, named name#0, name#1, … by their position."""
    if importlib.util.find_spec("cv2") is None:
        raise MissingRuntimeError.of("Reading a video or a camera", "OpenCV", "video")
    import cv2

    capture = cv2.VideoCapture(address)
    try:
        for number in itertools.count():
            there, frame = capture.read()
            if not there:
                break
            if number % every == 0:
                pixels: Any = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                yield Picture(f"{name}#{number}", pixels)
        if number == 0:
            yield Picture(name, error="no frame can be read from it.")
    finally:
        capture.release()
