"""Files of safetensors as arrays, without torch or its package: a length, a JSON header, the numbers.

Facts: the format's description in the README of huggingface/safetensors.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from vertebra.errors import WeightsError
from vertebra.machine import json_text

Array = np.ndarray[Any, Any]

#: kinds of numbers by the format's name; of bfloat16 the bits
_KINDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_MAX_HEADER = 100_000_000
_MAX_DIMENSIONS = 32


class OtherKindError(WeightsError):
    """The file holds numbers of a kind that needs torch."""


def read(path: Path) -> dict[str, Array]:
    """The arrays of the file by name, in its order; bfloat16 as float32. Raises WeightsError, which is an
    OtherKindError for numbers that only torch knows, and OSError."""
    try:
        return _arrays(path)
    except OtherKindError as error:
        raise OtherKindError(f"{path}: {error.message}", error.hint) from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"{path} is broken: {reason}.", "download it again") from error


def metadata(path: Path) -> dict[str, str]:
    """The texts that the file holds beside its arrays. Raises WeightsError and OSError."""
    try:
        header, _ = _header(path)
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} is broken: {str(error)[:200]}.", "download it again") from error
    told = header.get("__metadata__")
    return {name: text for name, text in told.items() if isinstance(text, str)} if told else {}


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and where the numbers begin."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise ValueError(f"its header would have {length:,} bytes")
        header = json_text.parsed(file.read(length))
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise ValueError("its header is not a JSON object")
    return header, 8 + length


def _arrays(path: Path) -> dict[str, Array]:
    size = path.stat().st_size
    header, begin = _header(path)
    content = (
        np.memmap(path, np.uint8, "r", begin, (size - begin,)) if size > begin else np.empty(0, np.uint8)
    )
    header.pop("__metadata__", None)
    end = 0
    made = {}
    for name, entry in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end or not start <= stop <= size - begin:
            raise ValueError(f"{name[:100]} lies at {start} to {stop}, after {end}")
        made[name] = _array(name, entry["dtype"], entry["shape"], content[start:stop])
        end = stop
    if end != size - begin:
        raise ValueError(f"it has {size - begin - end:,} bytes that no tensor has")
    return {name: made[name] for name in header}


def _array(name: str, kind: str, shape: list[int], content: Array) -> Array:
    if kind not in _KINDS:
        raise OtherKindError(
            f"{name[:100]} holds {str(kind)[:20]}, which can't be read without torch.",
            "save it in float32, or install torch",
        )
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"{name[:100]} has {len(shape)} dimensions")
    if any(type(one) is not int or one < 0 for one in shape):
        raise ValueError(f"{name[:100]} has an impossible shape")
    if math.prod(shape) * np.dtype(_KINDS[kind]).itemsize != content.size:
        raise ValueError(f"{name[:100]} has {content.size:,} bytes for the shape {shape}")
    values = content.view(_KINDS[kind]).reshape(shape)
    return (values.astype("<u4") << 16).view("<f4") if kind == "BF16" else values
