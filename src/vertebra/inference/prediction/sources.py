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

#: Endings of the pictures that are found in a folder. A picture named directly may have any ending.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
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
    if text == "-" or text.startswith(("https://", "http://")) or _CAMERA.fullmatch(text):
        return False
    if not os.path.exists(source):
        return True
    return os.path.isdir(source) or (os.path.isfile(source) and not text.lower().endswith(VIDEOS))


def _pictures(source: Given, every: int) -> Iterator[Picture]:
    if isinstance(source, bytes | bytearray | memoryview):
        return iter([Picture(f"<{len(source):,} bytes>", bytes(source))])
    if isinstance(source, Path):
        return _at_path(source, every)
    if not isinstance(source, str):
        return iter([_pixels(source)])
    if source == "-":
        return iter([_standard_input()])
    if source.startswith(("https://", "http://")):
        return iter([_fetched(source)])
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
    return Picture(_name(path), path)


def _name(path: str | Path) -> str:
    """The path as text that can be printed and stored, even if its bytes are not UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _in_folder(folder: Path) -> Iterator[Picture]:
    """The pictures in a folder and its subfolders, each sorted by name. Links to folders aren't followed."""
    problems: list[OSError] = []
    found = False
    for place, folders, files in os.walk(folder, onerror=problems.append):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES):
                found = True
                yield _file(Path(place, name))
    for problem in problems:
        yield Picture(_name(problem.filename), error=f"can't be read: {problem.strerror}.")
    if not found and not problems:
        yield Picture(_name(folder), error=f"the folder holds no picture ({', '.join(SUFFIXES)}).")


def _matches(pattern: str) -> Iterator[Picture]:
    """The files that match a pattern, sorted; `**` matches any folders."""
    paths = [path for path in sorted(glob.glob(pattern, recursive=True)) if not os.path.isdir(path)]
    yield from (_file(Path(path)) for path in paths)
    if not paths:
        yield Picture(pattern, error="no file matches the pattern.")


def _standard_input() -> Picture:
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        return Picture("-", error=f"standard input has more than {MAX_BYTES:,} bytes.")
    return Picture("-", data)


def _fetched(url: str) -> Picture:
    """The picture at an address. It isn't kept, since the picture there may change."""
    from vertebra.machine import downloads

    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as folder:
        try:
            path = downloads.fetch(
                url, folder=Path(folder), attempts=2, limit_bytes=MAX_BYTES, whole_s=_WHOLE_S
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
