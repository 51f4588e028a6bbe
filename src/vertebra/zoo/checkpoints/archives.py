"""Archives of parameters: the tar of a static graph, one tensor a file, read in place and never unpacked.

Paddle wrote each parameter of a static graph to a file of its name, all numbers little-endian:

    uint32  version, 0
    uint64  levels of detail; for each a uint64 count of bytes, and as many bytes (parameters: none)
    uint32  version of the tensor, 0
    int32   bytes of the description that follows, a protobuf message: field 1 the type, field 2 the shape
    the values, row by row

Facts from Paddle's `DenseTensor` serialisation and `framework.proto` (Apache-2.0).
"""

from __future__ import annotations

import math
import mmap
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vertebra.errors import WeightsError

Array = np.ndarray[Any, Any]

#: VarType of framework.proto
DTYPES = {0: "|b1", 1: "<i2", 2: "<i4", 3: "<i8", 4: "<f2", 5: "<f4", 6: "<f8", 20: "|u1", 21: "|i1"}
MAX_DIMENSIONS = 16
#: what the optimizer leaves next to the parameters
_OPTIMIZER = ("_velocity_0", "_moment_0", "@LR_DECAY_COUNTER@", "learning_rate_0")


def read(path: Path) -> dict[str, Array]:
    """The arrays of a tar of tensors, by the names of its files; the folders around them don't matter.

    Raises WeightsError for links, devices and paths that lead out, for names that occur twice, and for broken
    files; OSError.
    """
    arrays: dict[str, Array] = {}
    try:
        for member, content in _files(path):
            name = PurePosixPath(member).name
            if name in arrays:
                raise WeightsError(f"{path} contains {name} twice.", "keep one of them")
            arrays[name] = tensor(f"{path}: {member}", content)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise WeightsError(
            f"{path} is not a complete tar archive: {error}.",
            "download it again; if it is compressed, expand it first",
        ) from error
    return arrays


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    # A mapped file returns what it has; an ordinary one would first allocate any size that a header claims.
    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
        tarfile.open(fileobj=content, mode="r:") as archive,
    ):
        for member in archive:
            if _is_parameter(path, member):
                file = archive.extractfile(member)
                assert file is not None, "a regular file"
                yield member.name, file.read()


def _is_parameter(path: Path, member: tarfile.TarInfo) -> bool:
    parts = PurePosixPath(member.name).parts
    if member.name.startswith("/") or "\\" in member.name or ".." in parts:
        raise WeightsError(
            f"{path} contains {member.name!r}, a path that leads out of it.", "don't trust this file"
        )
    if member.isdir():
        return False
    if not member.isreg() or member.issparse():
        raise WeightsError(
            f"{path} contains {member.name!r}, a link, a device or a file with holes.",
            "don't trust this file",
        )
    return not parts[-1].startswith(".") and not parts[-1].endswith(_OPTIMIZER)


def tensor(where: str, content: bytes) -> Array:
    """The array of one file in Paddle's binary form. Raises WeightsError, which names `where`."""
    try:
        return _tensor(content)
    except (struct.error, ValueError, IndexError) as error:
        raise WeightsError(
            f"{where} is not a tensor of Paddle's: {error or 'it is cut short'}.",
            "download the archive again",
        ) from error


def _tensor(content: bytes) -> Array:
    version, levels = struct.unpack_from("<IQ", content)
    at = 12
    if version != 0 or levels > 8:
        raise ValueError(f"it has the version {version} and {levels} levels of detail")
    for _ in range(levels):
        (extent,) = struct.unpack_from("<Q", content, at)
        at += 8 + min(extent, len(content))
    version, length = struct.unpack_from("<Ii", content, at)
    at += 8
    if version != 0 or not 0 < length <= len(content) - at:
        raise ValueError(f"its tensor has the version {version} and a description of {length} bytes")
    dtype, shape = _description(content[at : at + length])
    at += length
    needed = math.prod(shape) * dtype.itemsize
    if len(content) - at != needed:
        raise ValueError(f"the shape {shape} needs {needed} bytes, {len(content) - at} are there")
    return np.frombuffer(content, dtype, offset=at).reshape(shape)


def _description(message: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    code: int | None = None
    shape: list[int] = []
    for field, value in _fields(message):
        if field == 1:
            code = value
        elif field == 2:
            shape.append(value)
    if code not in DTYPES:
        raise ValueError(f"its values have the type {code}; numbers were expected")
    if len(shape) > MAX_DIMENSIONS or any(extent >= 2**40 for extent in shape):
        raise ValueError(f"it has the shape {shape[: MAX_DIMENSIONS + 1]}")
    return np.dtype(DTYPES[code]), tuple(shape)


def _fields(message: bytes) -> Iterator[tuple[int, int]]:
    """The numbers of a protobuf message, field by field; repeated ones may be packed."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
        elif key & 7 == 2:
            length, at = _varint(message, at)
            end = at + length
            if end > len(message):
                raise ValueError("its description is cut short")
            while at < end:
                value, at = _varint(message, at)
                yield key >> 3, value
        else:
            raise ValueError("its description has fields of an unknown kind")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("its description has a number without end")
