"""Arrays in a Bundle's .npz files, of which the shape and type are known before they are read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vertebra.bundles.manifest import EXPORT_AGAIN
from vertebra.errors import BundleError
from vertebra.machine import archives

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: The most that a header has, beside the values.
_HEADER_BYTES = 1024


def read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays of these names and shapes, as float32. Nothing is allocated for other shapes. Raises
    BundleError, naming what differs."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _array(path, archive, name, shape) for name, shape in shapes.items()}
    except BundleError:
        raise
    except Exception as error:  # those of zipfile, zlib and numpy's reader of headers share no other base
        raise BundleError(f"The reference {path} can't be read: {error}.", EXPORT_AGAIN) from error


def _array(
    path: Path, archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    import numpy as np

    entry = archive.getinfo(f"{name}.npy")
    archives.check_packing(entry)
    most = 8 * math.prod(shape) + _HEADER_BYTES
    if entry.file_size > most:
        raise ValueError(f"{name} unpacks to {entry.file_size:,} bytes; at most {most:,} were expected")
    with archive.open(entry) as stream:
        found, in_columns, kind = _header(stream)
        if kind.kind != "f" or in_columns:
            raise ValueError(f"{name} has the type {kind}; float32 by rows was expected")
        if found != shape:
            raise BundleError(f"{path} holds {name} of shape {found}; {shape} was expected.", EXPORT_AGAIN)
        values = np.frombuffer(stream.read(most), dtype=kind)
    return values.reshape(shape).astype(np.float32)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first index runs fastest, and type."""
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"its format has the version {version}")
    return readers[version](stream)
