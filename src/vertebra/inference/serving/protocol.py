"""The Open Inference Protocol's bodies over HTTP: JSON, with binary tensors after it, compressed or not."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from vertebra.inference.serving import tensors
from vertebra.inference.serving.batching import Answer
from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.tensors import Limits, Question, Row, Wanted

HEADER_LENGTH = "Inference-Header-Content-Length"
#: the end of an encoding that a client doesn't take
_NOT_TAKEN = re.compile(r";\s*q=0(\.0*)?\s*$")
#: microseconds that no deadline is beyond
_LONGEST_US = 10**12
#: how files of pictures begin that aren't text
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8")
_CHUNK_BYTES = 2**16
#: parameters of requests and tensors whose extensions aren't offered -> what they belong to
UNSUPPORTED = {
    "sequence_id": "sequences", "sequence_start": "sequences", "sequence_end": "sequences",
    "shared_memory_region": "shared memory", "shared_memory_offset": "shared memory",
    "shared_memory_byte_size": "shared memory",
}  # fmt: skip


# ------------------------------------------------------------------ compression


def inflated(content: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body as it was before compression. Raises Refusal if it is damaged or longer than `max_bytes`."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return content
    if name not in ("gzip", "x-gzip", "deflate"):
        raise Refusal("encoding", f"content encoding {encoding[:40]!r} isn't known; gzip and deflate are")
    parts: list[bytes] = []
    size = 0
    rest = content
    while rest:  # a file in gzip's format may have several members
        inflater = zlib.decompressobj(47)  # the header says whether it is gzip or zlib
        while not inflater.eof:
            try:
                part = inflater.decompress(rest, min(_CHUNK_BYTES, max_bytes + 1 - size))
            except zlib.error:
                raise Refusal("invalid", f"the body isn't {name}, or is damaged") from None
            size += len(part)
            parts.append(part)
            if size > max_bytes:
                raise too_large(max_bytes)
            if not part and not inflater.eof:
                raise Refusal("invalid", f"the body is cut off: its {name} data doesn't end")
            rest = inflater.unconsumed_tail
        rest = inflater.unused_data
    return b"".join(parts)


def too_large(max_bytes: int) -> Refusal:
    """A body over the limit."""
    return Refusal("large", f"the body is larger than {max_bytes} bytes, which is the limit")


def deflated(content: bytes, accepted: str) -> tuple[bytes, str | None]:
    """The body as a client that accepts these encodings gets it, and its encoding."""
    parts = [part.lower() for part in accepted.split(",") if not _NOT_TAKEN.search(part.lower())]
    names = {part.partition(";")[0].strip() for part in parts}
    if len(content) < 1024 or not names & {"gzip", "deflate"}:
        return content, None
    name = "gzip" if "gzip" in names else "deflate"
    deflater = zlib.compressobj(1, zlib.DEFLATED, 31 if name == "gzip" else 15)
    return deflater.compress(content) + deflater.flush(), name


# ------------------------------------------------------------------ requests


def parsed(content: bytes | memoryview) -> dict[str, Any]:
    """A JSON object. Raises Refusal for anything else."""
    try:
        text = bytes(content).decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("invalid", f"failed to parse the request's JSON: {_not_text(content)}") from None
    try:
        value = json.loads(text or "{}", parse_constant=_not_finite)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal("invalid", f"failed to parse the request's JSON: {reason}") from None
    if not isinstance(value, dict):
        raise Refusal("invalid", "the request must be a JSON object")
    return value


def _not_text(content: bytes | memoryview) -> str:
    if bytes(content[:4]).startswith(_PICTURES):
        return (
            f"it is a picture; send it as an element of the input '{tensors.INPUT}' of datatype BYTES (/docs "
            "shows how)"
        )
    return "it isn't text in UTF-8"


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} isn't a number in JSON")


def length_of(text: str) -> int | None:
    """The number of a header that says how long something is; None if it is none."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 4000  # Python reads no longer ones
    return int(text) if is_number else None


def question(content: bytes, header_length: str | None, limits: Limits) -> Question:
    """A request for inference from its inflated body. Raises Refusal."""
    whole = memoryview(content)
    begin = len(whole)
    if header_length is not None:
        told = length_of(header_length)
        if told is None or told > len(whole):
            raise Refusal(
                "invalid", f"{HEADER_LENGTH} must be a number up to the body's length of {len(whole)} bytes"
            )
        begin = told
    value = parsed(whole[:begin])
    parameters = parameters_of(value)
    rows = _rows(value.get("inputs"), whole[begin:], limits)
    identity = value.get("id", "")
    if not isinstance(identity, str):
        raise Refusal("invalid", "the request's id must be a text")
    outputs = _outputs(value.get("outputs"), parameters.get("binary_data_output") is True)
    return Question(identity, rows, outputs, timeout_of(parameters.get("timeout")))


def parameters_of(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a request or a tensor. Raises Refusal for those of extensions that aren't offered."""
    parameters = value.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refusal("invalid", "parameters must be a JSON object")
    check_parameters(parameters)
    return parameters


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raises Refusal for those of extensions that aren't offered."""
    for name, what in UNSUPPORTED.items():
        if parameters.get(name):
            raise Refusal("unsupported", f"this server has no {what} (parameter {name!r})")


def timeout_of(microseconds: Any) -> float | None:
    """Seconds, from the parameter `timeout`."""
    if microseconds in (None, 0, "0"):
        return None
    try:
        given = int(microseconds) if not isinstance(microseconds, bool | float) else -1
    except (TypeError, ValueError):
        given = -1
    if given < 0:
        raise Refusal("invalid", "timeout must be a whole number of microseconds")
    return min(given, _LONGEST_US) / 1e6


def _rows(inputs: Any, binary: memoryview, limits: Limits) -> list[Row]:
    if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
        raise Refusal("invalid", "inputs must be a list of JSON objects")
    if len(inputs) != 1:
        raise Refusal("invalid", f"expected 1 input, '{tensors.INPUT}', but got {len(inputs)}")
    (given,) = inputs
    check_name(given.get("name"))
    parameters = parameters_of(given)
    datatype = tensors.datatype_of(given.get("datatype"))
    shape = tensors.shape_of(given.get("shape"))
    size = parameters.get("binary_data_size")
    if size is None:
        if len(binary):
            raise Refusal("invalid", f"{len(binary)} bytes follow the JSON; no input has binary_data_size")
        return tensors.json_rows(datatype, shape, given.get("data"), limits)
    if "data" in given:
        raise Refusal("invalid", f"input '{tensors.INPUT}' has both data and binary_data_size")
    if type(size) is not int or size != len(binary):
        raise Refusal(
            "invalid", f"binary_data_size is {str(size)[:20]}, but {len(binary)} bytes follow the JSON"
        )
    return tensors.rows(datatype, shape, binary, limits)


def check_name(name: Any) -> None:
    """Raises Refusal unless it is the input's."""
    if name != tensors.INPUT:
        raise Refusal(
            "invalid", f"unexpected inference input {str(name)[:80]!r}; it is called '{tensors.INPUT}'"
        )


def _outputs(outputs: Any, binary: bool) -> list[Wanted]:
    if outputs is None or outputs == []:
        return [Wanted(name, 0, binary) for name in tensors.OUTPUTS]
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise Refusal("invalid", "outputs must be a list of JSON objects")
    found = []
    for one in outputs:
        parameters = parameters_of(one)
        as_binary = parameters.get("binary_data", binary)
        if not isinstance(as_binary, bool):
            raise Refusal("invalid", "binary_data must be true or false")
        found.append(tensors.wanted(one.get("name"), parameters.get("classification"), as_binary))
    check_once(found)
    return found


def check_once(outputs: Sequence[Wanted]) -> None:
    """Raises Refusal for an output that is named twice."""
    if len({one.name for one in outputs}) < len(outputs):
        raise Refusal("invalid", "an output is named twice")


# ------------------------------------------------------------------ responses


def response(
    asked: Question, answer: Answer, names: Sequence[str] | None, about: Mapping[str, Any]
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON where binary tensors follow. `about` is what
    it says of the model."""
    described: list[dict[str, Any]] = []
    binaries: list[bytes] = []
    for output in asked.outputs:
        values = answer.probabilities if output.name == tensors.PROBABILITIES else answer.logits
        if output.classes:
            lines = tensors.classified(values, names, output.classes)
            flat = [line for row in lines for line in row]
            one: dict[str, Any] = {
                "name": output.name, "datatype": "BYTES", "shape": [len(lines), len(lines[0])]
            }  # fmt: skip
            content = tensors.packed(flat) if output.binary else b""
            data: Any = None if output.binary else [line.decode() for line in flat]
        else:
            one = {"name": output.name, "datatype": "FP32", "shape": list(values.shape)}
            content = values.astype("<f4").tobytes() if output.binary else b""
            if not output.binary:
                tensors.check_finite(values, "JSON")
            data = None if output.binary else values.ravel().tolist()
        if output.binary:
            one["parameters"] = {"binary_data_size": len(content)}
            binaries.append(content)
        else:
            one["data"] = data
        described.append(one)
    identity = {"id": asked.id} if asked.id else {}
    header = json.dumps({**about, **identity, "outputs": described}).encode()
    return header + b"".join(binaries), (len(header) if binaries else None)
