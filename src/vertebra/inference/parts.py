"""A long piece of work on many pictures in parts, each of which is kept in a file until all are there: a run
that is interrupted goes on with those that are missing."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vertebra.data.preprocess import Source
from vertebra.errors import InvalidInputError
from vertebra.machine import downloads, files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Pictures in a part, and in how many parts few pictures are divided.
_MOST, _PARTS = 256, 64
_SECONDS = "seconds"


class Place(NamedTuple):
    """A picture that is a file: its name, its path, its label, the bytes and the time of its file (-1 where
    it isn't there), and the reason why it isn't read, if it isn't."""

    name: str
    path: str
    label: int = -1
    size: int = -1
    changed: int = -1
    error: str | None = None


def place(name: str, source: Source, *, label: int = -1, error: str | None = None) -> Place:
    """The picture at a path, as this machine has it. Raises InvalidInputError for a picture that isn't a
    file."""
    if error is not None:
        return Place(name, "", label, error=error)
    if not isinstance(source, str | Path):
        raise InvalidInputError(
            f"{name} isn't a file of its own; --on ray sends the nodes the paths of pictures.",
            "unpack the pictures into a folder that all nodes have, or leave --on out",
        )
    path = os.path.abspath(source)
    try:
        state = os.stat(path)
    except OSError:
        return Place(name, path, label)
    return Place(name, path, label, state.st_size, state.st_mtime_ns)


def check(found: Place, node: str) -> None:
    """Raise InvalidInputError unless this machine, called `node`, has the picture with as many bytes: it
    would be counted as unreadable otherwise."""
    if found.error is None and place(found.name, found.path).size != found.size:
        raise InvalidInputError(
            f"{node} of the Ray cluster doesn't have {found.path} as this machine does.",
            "put the pictures where all nodes have them under the same path",
        )


@dataclass(frozen=True)
class Part:
    """Pictures that follow each other; `key` says which they are, and what is done with them."""

    number: int
    places: tuple[Place, ...]
    key: str


def divided(found: Iterable[Place], batch_size: int, told: str) -> list[Part]:
    """All pictures in parts of whole batches. `told` is what is done with them."""
    places = list(found)
    size = min(_MOST, -(-len(places) // _PARTS))
    size = -(-size // batch_size) * batch_size
    return [
        Part(number, some, _key(some, told))
        for number, start in enumerate(range(0, len(places), size or 1))
        for some in [tuple(places[start : start + size])]
    ]


def _key(places: Sequence[Place], told: str) -> str:
    return sha256(json.dumps([told, places]).encode()).hexdigest()[:32]


def packed(told: Any, features: npt.NDArray[np.float32] | None = None) -> bytes:
    """The content of a part's file: plain values, and vectors."""
    import numpy as np

    stream = io.BytesIO()
    text = np.frombuffer(json.dumps(told).encode(), np.uint8)
    if features is None:
        np.savez(stream, told=text)
    else:
        np.savez(stream, told=text, features=features)
    return stream.getvalue()


def unpacked(content: bytes) -> tuple[Any, npt.NDArray[np.float32] | None]:
    """What `packed` was given. Raises ValueError or zipfile.BadZipFile for anything else."""
    import numpy as np

    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        told = json.loads(arrays["told"].tobytes())
        return told, arrays.get("features")


class Kept:
    """The files of the parts in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._began = time.monotonic()
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """How long it took, all runs together."""
        return self._before + time.monotonic() - self._began

    def has(self, part: Part) -> bool:
        """Whether the part is there, and whole."""
        try:
            self.read(part)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return False
        return True

    def read(self, part: Part) -> tuple[Any, npt.NDArray[np.float32] | None]:
        """What was written of a part."""
        return unpacked(self._path(part).read_bytes())

    def write(self, part: Part, content: bytes) -> None:
        """Keep the content of a part: all of it or nothing."""
        files.write_whole(self._path(part), content)
        files.write_whole(self.folder / _SECONDS, f"{self.seconds:.3f}".encode())

    def begin(self) -> None:
        """Count the time of earlier runs, of which something is kept."""
        try:
            self._before = float((self.folder / _SECONDS).read_text())
        except (OSError, ValueError):
            self._before = 0.0

    def clear(self) -> None:
        """All is done: nothing needs to be kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, part: Part) -> Path:
        return self.folder / f"{part.key}.npz"


@contextmanager
def kept(parts: Sequence[Part], beside: Path | None = None) -> Iterator[Kept]:
    """The files of these parts: next to the file `beside`, else in the user's cache. One run at a time uses
    them. They are removed if the block ends without an error. Raises InvalidInputError where the folder can't
    be written."""
    told = sha256("".join(part.key for part in parts).encode()).hexdigest()[:16]
    folder = downloads.cache_folder() / "on-ray" / told
    if beside is not None:
        folder = beside.with_name(f"{beside.name}.parts")
    with files.sole_use(folder):
        try:
            files.make_folder(folder)
        except OSError as error:
            raise InvalidInputError(f"{folder} can't be written: {error.strerror or error}.") from error
        found = Kept(folder)
        yield found
        found.clear()
    folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


def placed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the files among them by their whole paths, as other machines need them."""
    return {name: whole_path(value) for name, value in options.items()}


def whole_path(value: Any) -> Any:
    """The whole path of a file or folder that is here, also behind "onnx:"; anything else as it is."""
    if not isinstance(value, str | Path):
        return value
    scheme, colon, rest = str(value).rpartition(":")
    there = Path(rest).expanduser()
    if not rest or not there.exists():
        return value
    return f"{scheme}{colon}{there.resolve()}" if colon else there.resolve()
