"""From a request's tensors to pictures, one to a row, and from logits to a response's tensors.

The datatype of the one input says what its rows are:

FP32, FP16   (N, 3, H, W)  a network's input, preprocessed by the client
UINT8        (N, 3, H, W)  RGB pixels of the network's size, which the server normalises
UINT8        (N, H, W, 3)  RGB pixels of any size, on which the server carries out the whole Preprocess
BYTES        (N) or (N, 1) encoded pictures, decoded and preprocessed by the server
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vertebra.inference.serving.refusals import Refusal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

INPUT = "images"
PROBABILITIES, LOGITS = OUTPUTS = ("probabilities", "logits")
DATATYPES = ("FP32", "FP16", "UINT8", "BYTES")
#: bytes of one value
_SIZES = {"FP32": 4, "FP16": 2, "UINT8": 1}
#: what a row is: a network's input, its pixels, a picture's pixels, an encoded picture
READY, PLANES, PIXELS, ENCODED = ROWS = ("ready", "planes", "pixels", "encoded")


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a request: `kind` is one of ROWS, `shape` (height, width) of pixels, or empty."""

    kind: str
    content: bytes | memoryview
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output that is asked for: as numbers, or as its `classes` best classes (0: as numbers)."""

    name: str
    classes: int = 0
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A request for inference, whichever protocol brought it."""

    id: str
    rows: Sequence[Row]
    outputs: Sequence[Wanted]
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    input_size: int
    num_classes: int
    max_images: int
    max_pixels: int


# ------------------------------------------------------------------ what comes in


def shape_of(value: Any) -> tuple[int, ...]:
    """A tensor's shape. Raises Refusal unless it is a list of whole numbers from 0 up."""
    if isinstance(value, list | tuple) and 0 < len(value) <= 8 and all(type(one) is int for one in value):
        shape = tuple(value)
        if all(0 <= one < 2**31 for one in shape):
            return shape
    raise Refusal("invalid", f"shape of input '{INPUT}' must be a list of 1 to 8 whole numbers from 0 up")


def datatype_of(value: Any) -> str:
    """A tensor's datatype. Raises Refusal for one that isn't taken."""
    if value not in DATATYPES:
        raise Refusal(
            "invalid", f"datatype of input '{INPUT}' is {str(value)[:40]!r}; it takes {', '.join(DATATYPES)}"
        )
    return str(value)


def rows(datatype: str, shape: tuple[int, ...], raw: bytes | memoryview, limits: Limits) -> list[Row]:
    """The rows of a tensor in binary form, little-endian. Raises Refusal where it can't be one."""
    _check_count(shape[0], limits)
    if datatype == "BYTES":
        return _encoded(shape, _elements(raw), limits)
    kind, sizes = _kind(datatype, shape, limits)
    expected = math.prod(shape) * _SIZES[datatype]
    if len(raw) != expected:
        raise Refusal(
            "invalid",
            f"input '{INPUT}' of shape {list(shape)} and datatype {datatype} has {len(raw)} bytes; "
            f"{expected} were expected",
        )
    if datatype == "FP16":
        import numpy as np

        raw = np.frombuffer(raw, "<f2").astype("<f4").tobytes()
    whole, step = memoryview(raw), len(raw) // shape[0]
    return [
        Row(kind, whole[begin : begin + step], sizes) for begin in range(0, len(raw), step)
    ]  # fmt: skip


def json_rows(datatype: str, shape: tuple[int, ...], data: Any, limits: Limits) -> list[Row]:
    """The rows of a tensor that came as JSON: numbers, nested or flat, or base64 of encoded pictures."""
    _check_count(shape[0], limits)
    if not isinstance(data, list):
        raise Refusal("invalid", f"data of input '{INPUT}' must be a list")
    if datatype == "BYTES":
        return _encoded(shape, [_decoded(text) for text in _flat(data)], limits)
    _kind(datatype, shape, limits)
    raw, expected = _numbers(datatype, data), math.prod(shape)
    if len(raw) != expected * _SIZES[datatype]:
        raise Refusal(
            "invalid",
            f"data of input '{INPUT}' has {len(raw) // _SIZES[datatype]} numbers; its shape {list(shape)} "
            f"says {expected}",
        )
    return rows(datatype, shape, raw, limits)


def _check_count(count: int, limits: Limits) -> None:
    if count < 1:
        raise Refusal("invalid", f"input '{INPUT}' has no images")
    if count > limits.max_images:
        raise Refusal(
            "invalid", f"input '{INPUT}' has {count} images; a request may have {limits.max_images} at most"
        )


def _kind(datatype: str, shape: tuple[int, ...], limits: Limits) -> tuple[str, tuple[int, ...]]:
    size = limits.input_size
    if shape[1:] == (3, size, size):
        return (PLANES if datatype == "UINT8" else READY), ()
    if datatype == "UINT8" and len(shape) == 4 and shape[3] == 3:
        pixels = shape[1] * shape[2]
        if 1 <= pixels <= limits.max_pixels:
            return PIXELS, shape[1:3]
        raise Refusal(
            "invalid", f"an image of {pixels} pixels was sent; 1 to {limits.max_pixels} are allowed"
        )
    more = " or [N,H,W,3]" if datatype == "UINT8" else ""
    raise Refusal(
        "invalid",
        f"unexpected shape for input '{INPUT}' of datatype {datatype}: got {list(shape)}, expected "
        f"[N,3,{size},{size}]{more}",
    )


def _encoded(shape: tuple[int, ...], elements: list[bytes], limits: Limits) -> list[Row]:
    if shape[1:] not in ((), (1,)):
        raise Refusal(
            "invalid",
            f"unexpected shape for input '{INPUT}' of datatype BYTES: got {list(shape)}, expected [N]",
        )
    if len(elements) != shape[0]:
        raise Refusal("invalid", f"input '{INPUT}' has {len(elements)} elements; its shape says {shape[0]}")
    return [Row(ENCODED, element) for element in elements]


def _elements(raw: bytes | memoryview) -> list[bytes]:
    """Each element has its length before it, 4 bytes."""
    found, place = [], 0
    while place < len(raw):
        if place + 4 > len(raw):
            raise Refusal("invalid", f"input '{INPUT}' ends within the length of an element")
        (length,) = struct.unpack_from("<I", raw, place)
        place += 4
        if place + length > len(raw):
            raise Refusal(
                "invalid", f"an element of input '{INPUT}' is cut off: {len(raw) - place} of {length} bytes"
            )
        found.append(bytes(raw[place : place + length]))
        place += length
    return found


def _flat(data: list[Any]) -> list[Any]:
    if len(data) > 0 and all(isinstance(one, list) for one in data):
        return [one for inner in data for one in inner]
    return data


def _decoded(text: Any) -> bytes:
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Refusal("invalid", "an encoded picture in JSON must be a text in base64; or send it as binary data")


def _numbers(datatype: str, data: list[Any]) -> bytes:
    import numpy as np

    try:
        values = np.asarray(data)
    except ValueError:
        raise Refusal("invalid", f"data of input '{INPUT}' is ragged") from None
    if values.dtype.kind not in "iuf":
        raise Refusal("invalid", f"data of input '{INPUT}' must be numbers, for datatype {datatype}")
    if datatype != "UINT8":
        with np.errstate(over="ignore"):
            kind = "<f4" if datatype == "FP32" else "<f2"
            return values.astype(kind).tobytes()
    if values.dtype.kind == "f" or (values.size and not 0 <= values.min() <= values.max() <= 255):
        raise Refusal("invalid", f"data of input '{INPUT}' of datatype UINT8 must be whole numbers, 0 to 255")
    return values.astype(np.uint8).tobytes()


# ------------------------------------------------------------------ what goes out


def wanted(name: Any, classes: Any, binary: bool) -> Wanted:
    """One output that a request names. Raises Refusal for another name, or a wrong number of classes."""
    if name not in OUTPUTS:
        raise Refusal("invalid", f"unknown output {str(name)[:80]!r}; there are: {', '.join(OUTPUTS)}")
    if classes is not None and (type(classes) is not int or classes < 1):
        raise Refusal("invalid", "classification must be a whole number from 1 up")
    return Wanted(str(name), classes or 0, binary)


def check_finite(values: Array, what: str) -> None:
    """Raises Refusal if a client's own tensor led to values that `what` can't hold."""
    import numpy as np

    if not np.isfinite(values).all():
        raise Refusal("invalid", f"the tensor gives values that are not finite, which {what} can't hold")


def classified(shares: Array, names: Sequence[str] | None, classes: int) -> list[list[bytes]]:
    """For each row of `shares` (N, C) its `classes` best as `value:index:name`, the highest first. Raises
    Refusal for values that are not finite."""
    import numpy as np

    check_finite(shares, "an order")
    best = np.argsort(-shares, axis=1, kind="stable")[:, :classes]
    return [
        [_line(float(row[index]), int(index), names) for index in order]
        for row, order in zip(shares, best, strict=True)
    ]


def _line(value: float, index: int, names: Sequence[str] | None) -> bytes:
    name = "" if names is None else f":{names[index]}"
    return f"{value:.9g}:{index}{name}".encode()


def packed(elements: Sequence[bytes]) -> bytes:
    """BYTES in binary form."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def metadata(limits: Limits) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The inputs and the outputs of a model, as the protocol describes them."""
    size = limits.input_size
    return (
        [{"name": INPUT, "datatype": "FP32", "shape": [-1, 3, size, size]}],
        [{"name": name, "datatype": "FP32", "shape": [-1, limits.num_classes]} for name in OUTPUTS],
    )
