"""Paddle Serving's GeneralModelService: its messages, read and written in place, whatever brings them.

The numbers of fields and of element types are those of Paddle Serving 0.9. A packed field of floats is the
tensor itself, so it is never made into Python's numbers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vertebra.inference.serving import tensors
from vertebra.inference.serving.protocol import check_once
from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.tensors import Limits, Question, Row, Wanted
from vertebra.machine import protobuf

if TYPE_CHECKING:
    from vertebra.inference.serving.batching import Answer

#: numbers of element types
_INT64, _FP32, _INT32, _FP16, _UINT8, _STRING = 0, 1, 2, 5, 7, 20
_TYPES = {_INT64: "INT64", _FP32: "FP32", _INT32: "INT32", _FP16: "FP16", _UINT8: "UINT8", _STRING: "STRING"}


@dataclass
class Given:
    """A tensor that came: its values as they lie in memory, or, for whole numbers, as varints."""

    name: str = ""
    alias: str = ""
    kind: int = _INT64
    shape: tuple[int, ...] = ()
    floats: bytes = b""
    integers: bytes = b""
    raw: bytes = b""
    texts: list[bytes] = field(default_factory=list)


@dataclass
class Asked:
    """A request: its tensors, the outputs that it wants, and the number to be sent back."""

    tensors: list[Given] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    log_id: int = 0


# ------------------------------------------------------------------ requests


def parsed(content: bytes) -> Asked:
    """A request in protobuf's form. Raises Refusal."""
    asked = Asked()
    try:
        for number, value in protobuf.fields(content, 0, len(content)):
            if number == 1:
                asked.tensors.append(_tensor(content, protobuf.span_of(value)))
            elif number == 2:
                asked.outputs.append(protobuf.text_of(content, value))
            elif number == 4 and isinstance(value, int):
                asked.log_id = value
    except (ValueError, IndexError):
        raise Refusal("invalid", "the request isn't a GeneralModelService.Request") from None
    return asked


def _tensor(content: bytes, span: protobuf.Span) -> Given:
    given = Given()
    shape: list[int] = []
    floats: list[bytes] = []
    integers: list[bytes] = []
    for number, value in protobuf.fields(content, *span):
        if number == 10 and isinstance(value, int):
            given.kind = value
        elif number == 11:
            shape += _numbers(content, value)
        elif number in (1, 3):
            integers.append(_varint(value) if isinstance(value, int) else content[slice(*value)])
        elif number in (2, 9, 13, 14, 15):
            part = content[slice(*protobuf.span_of(value))]
            if number == 2:
                floats.append(part)
            elif number == 9:
                given.texts.append(part)
            elif number == 15:
                given.raw = part
            elif number == 13:
                given.name = part.decode()
            else:
                given.alias = part.decode()
    given.shape, given.floats, given.integers = tuple(shape), b"".join(floats), b"".join(integers)
    return given


def _varint(value: int) -> bytes:
    return protobuf.number(1, value)[1:]


def _numbers(content: bytes, value: int | protobuf.Span) -> list[int]:
    if isinstance(value, int):
        return [value]
    found, (place, end) = [], value
    while place < end:
        one, place = protobuf.number_at(content, place)
        found.append(one)
    return found


def from_json(value: Mapping[str, Any]) -> Asked:
    """A request as JSON, with the names of the messages' fields. Raises Refusal."""
    import numpy as np

    asked = Asked()
    try:
        for one in value["tensor"]:
            integers = [*one.get("int64_data", ()), *one.get("int_data", ())]
            if any(type(number) is not int or not 0 <= number <= 255 for number in integers):
                raise _not_pixels()
            asked.tensors.append(
                Given(
                    name=str(one.get("name", "")), alias=str(one.get("alias_name", "")),
                    kind=int(one.get("elem_type", 0)), shape=tuple(map(int, one.get("shape", ()))),
                    floats=np.array(one.get("float_data", ()), "<f4").tobytes(),
                    integers=b"".join(map(_varint, integers)),
                    raw=base64.b64decode(one.get("tensor_content", ""), validate=True),
                    texts=[str(text).encode() for text in one.get("data", ())],
                )
            )  # fmt: skip
        asked.outputs = [str(name) for name in value.get("fetch_var_names", ())]
        asked.log_id = int(value.get("log_id", 0))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise Refusal("invalid", "the request isn't a GeneralModelService.Request in JSON") from None
    return asked


def question(asked: Asked, limits: Limits, timeout_s: float | None = None) -> Question:
    """What is asked of the model. Raises Refusal."""
    if len(asked.tensors) != 1:
        raise Refusal("invalid", f"expected 1 tensor, '{tensors.INPUT}', but got {len(asked.tensors)}")
    (given,) = asked.tensors
    if tensors.INPUT not in (given.name, given.alias):
        raise Refusal(
            "invalid",
            f"unexpected tensor {(given.name or given.alias)[:80]!r}; it is called '{tensors.INPUT}'",
        )
    outputs = [tensors.wanted(name, None, True) for name in asked.outputs]
    outputs = outputs or [Wanted(name, binary=True) for name in tensors.OUTPUTS]
    check_once(outputs)
    return Question("", _rows(given, limits), outputs, timeout_s)


def _rows(given: Given, limits: Limits) -> list[Row]:
    if given.kind not in _TYPES:
        known = ", ".join(f"{number} ({name})" for number, name in _TYPES.items())
        raise Refusal("invalid", f"elem_type is {given.kind}; the input takes {known}")
    if given.kind == _STRING:
        shape = tensors.shape_of(given.shape or (len(given.texts),))
        return tensors.rows("BYTES", shape, tensors.packed([_picture(text) for text in given.texts]), limits)
    shape = tensors.shape_of(given.shape)
    if given.kind == _FP32:
        return tensors.rows("FP32", shape, given.floats or given.raw, limits)
    if given.kind in (_INT64, _INT32):
        return tensors.rows("UINT8", shape, _pixels(given.integers), limits)
    return tensors.rows(_TYPES[given.kind], shape, given.raw, limits)


def _picture(text: bytes) -> bytes:
    """An encoded picture, as it is or in base64, which no picture's bytes are."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text


def _pixels(varints: bytes) -> bytes:
    """Whole numbers from 0 to 255, one byte each."""
    import numpy as np

    values = np.frombuffer(varints, np.uint8)
    ends = np.flatnonzero(values < 0x80)
    begins = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - begins + 1
    if values.size and (not len(ends) or ends[-1] != values.size - 1 or lengths.max() > 2):
        raise _not_pixels()
    found = values[begins].astype(np.uint16) & 0x7F
    found[lengths == 2] |= values[ends[lengths == 2]].astype(np.uint16) << 7
    if found.size and found.max() > 255:
        raise _not_pixels()
    pixels: bytes = found.astype(np.uint8).tobytes()
    return pixels


def _not_pixels() -> Refusal:
    return Refusal("invalid", f"whole numbers of '{tensors.INPUT}' are pixels, and must be 0 to 255")


# ------------------------------------------------------------------ responses


def response(asked: Question, answer: Answer, log_id: int, engine: str) -> bytes:
    """The answer in protobuf's form."""
    outputs = b"".join(
        protobuf.message(
            1,
            protobuf.message(2, values.astype("<f4").tobytes()),
            protobuf.number(10, _FP32),
            protobuf.message(11, *(_varint(size) for size in values.shape)),
            protobuf.text(13, name),
            protobuf.text(14, name),
        )
        for name, values in _values(asked, answer)
    )
    model = protobuf.message(1, outputs, protobuf.text(2, engine))
    return model + (protobuf.number(4, log_id) if log_id else b"")


def to_json(asked: Question, answer: Answer, log_id: int, engine: str) -> dict[str, Any]:
    """The answer as JSON, with the names of the messages' fields. Raises Refusal for values that aren't
    finite."""
    found = []
    for name, values in _values(asked, answer):
        tensors.check_finite(values, "JSON")
        found.append(
            {
                "float_data": values.ravel().tolist(), "elem_type": _FP32, "shape": list(values.shape),
                "name": name, "alias_name": name,
            }
        )  # fmt: skip
    return {"outputs": [{"tensor": found, "engine_name": engine}], "log_id": log_id, "err_no": 0}


def _values(asked: Question, answer: Answer) -> list[tuple[str, Any]]:
    both = {tensors.PROBABILITIES: answer.probabilities, tensors.LOGITS: answer.logits}
    return [(output.name, both[output.name]) for output in asked.outputs]
