"""What a load generator sends: tensors that fit the model's metadata, or encoded photographs."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from vertebra.data import walking
from vertebra.errors import InvalidInputError

#: Datatype of the protocol -> that of NumPy, little-endian.
DATATYPES = {"FP32": "<f4", "FP16": "<f2", "FP64": "<f8", "UINT8": "u1", "INT8": "i1"}
#: Requests that differ: a server that kept its answers would give them without working.
_DIFFERENT = 8
_MOST_PICTURES = 64
#: All of them together have at most about this many bytes.
_MOST_BYTES = 2**28


@dataclass(frozen=True)
class Input:
    """The one input of a model, as its metadata has it; a dimension of any size is -1."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """One input tensor in the protocol's binary form, of `images` images."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes
    images: int

    def http(self) -> tuple[bytes, int]:
        """A body with a binary tensor, and the length of the JSON before it."""
        given = {**self._described(), "parameters": {"binary_data_size": len(self.content)}}
        head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
        return head + self.content, len(head)

    def json(self) -> bytes:
        """A body without a binary tensor, for servers that take none."""
        import numpy as np

        if self.datatype == "BYTES":
            texts = [base64.b64encode(one).decode() for one in _elements(self.content)]
            given = {**self._described(), "parameters": {"content_type": "base64"}, "data": texts}
        else:
            values = np.frombuffer(self.content, DATATYPES[self.datatype])
            given = {**self._described(), "data": values.tolist()}
        return json.dumps({"inputs": [given]}).encode()

    def _described(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def stated(text: str) -> Input:
    """The input that a user states, such as "images:FP32:-1x3x224x224". Raises InvalidInputError."""
    found = re.fullmatch(r"(.+):([A-Z0-9]+):(-?\d{1,9}(?:x-?\d{1,9})*)", text)
    shape = tuple(map(int, found[3].split("x"))) if found else ()
    if found is None or any(size == 0 or size < -1 for size in shape):
        raise InvalidInputError(
            f'"{text[:200]}" doesn\'t describe an input.',
            "write it as NAME:DATATYPE:SHAPE, such as images:FP32:-1x3x224x224",
        )
    return Input(found[1], found[2], shape)


def only_input(model: str, metadata: Sequence[Mapping[str, Any]]) -> Input:
    """Raises InvalidInputError unless the model has one input, described as the protocol has it."""
    if len(metadata) != 1:
        names = ", ".join(str(one.get("name"))[:40] for one in metadata[:8]) or "none"
        raise InvalidInputError(
            f'The model "{model}" has {len(metadata)} inputs: {names}.',
            "only models with one input can be measured; if it has one that its metadata doesn't state: "
            "--tensor NAME:DATATYPE:SHAPE, such as images:FP32:-1x3x224x224",
        )
    (one,) = metadata
    try:
        return Input(str(one["name"]), str(one["datatype"]), tuple(int(size) for size in one["shape"]))
    except (KeyError, TypeError, ValueError):
        raise InvalidInputError(
            f'The metadata of the model "{model}" isn\'t as the protocol describes it.',
            "is this a server of the Open Inference Protocol?",
        ) from None


def image_size(taken: Input) -> int | None:
    """The height and width of the images, where the metadata has both and they are equal."""
    sides = [size for size in taken.shape[1:] if size > 4]
    return sides[0] if len(taken.shape) == 4 and len(sides) == 2 and sides[0] == sides[1] else None


def tensors(taken: Input, *, batch_size: int, input_size: int | None, seed: int) -> list[Question]:
    """Requests with random values. Raises InvalidInputError if the input isn't one of images."""
    import numpy as np

    if taken.datatype not in DATATYPES:
        raise InvalidInputError(
            f'The input "{taken.name}" has the datatype {taken.datatype[:40]}.',
            f"datatypes that can be sent: {', '.join([*DATATYPES, 'BYTES'])}",
        )
    shape = _shape(taken, batch_size, input_size)
    drawn = np.random.default_rng(seed)
    kind = np.dtype(DATATYPES[taken.datatype])
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if size > _MOST_BYTES:
        raise InvalidInputError(f"A request of shape {list(shape)} has {size} bytes.", "use a smaller batch")

    def content() -> bytes:
        if kind.kind == "f":
            return drawn.standard_normal(shape, dtype=np.float32).astype(kind).tobytes()
        limits = np.iinfo(kind)
        return drawn.integers(limits.min, limits.max + 1, shape, dtype=kind).tobytes()

    number = max(1, min(_DIFFERENT, _MOST_BYTES // size))
    return [Question(taken.name, taken.datatype, shape, content(), batch_size) for _ in range(number)]


def _shape(taken: Input, batch_size: int, input_size: int | None) -> tuple[int, ...]:
    """The shape of a request; the first dimension counts images if it may have any size or there are four."""
    shape = list(taken.shape)
    if not shape or (len(shape) == 1 and shape[0] < 0):
        raise InvalidInputError(
            f'The metadata gives the input "{taken.name}" the shape {shape}, which says nothing of an image.',
            "state it: --tensor NAME:DATATYPE:SHAPE, such as images:FP32:-1x3x224x224",
        )
    has_batch = shape[0] < 0 or len(shape) >= 4
    if has_batch and shape[0] < 0:
        shape[0] = batch_size
    fixed = shape[0] if has_batch else 1
    if fixed != batch_size:
        raise InvalidInputError(
            f'The input "{taken.name}" of shape {list(taken.shape)} takes {fixed} images in a request; '
            f"{batch_size} were asked for.",
            f"use --batch-size {fixed}",
        )
    own = image_size(taken)
    if input_size is not None and own not in (None, input_size):
        raise InvalidInputError(
            f'The input "{taken.name}" takes images of {own}x{own} pixels, not {input_size}x{input_size}.',
            "leave the input size out",
        )
    if min(shape) < 0 and input_size is None:
        raise InvalidInputError(
            f'The input "{taken.name}" of shape {list(taken.shape)} takes images of any size.',
            "say which to send: --input-size PIXELS",
        )
    return tuple(input_size if size < 0 and input_size is not None else size for size in shape)


def photographs(taken: Input, pictures: Sequence[bytes], *, batch_size: int) -> list[Question]:
    """Requests with encoded pictures, each taken in turn."""
    # a model whose metadata names BYTES says whether elements are in a column
    column = (1,) if taken.datatype == "BYTES" and len(taken.shape) == 2 else ()
    supply = cycle(pictures)
    found = []
    for _ in range(math.lcm(len(pictures), batch_size) // batch_size):  # so that each is sent equally often
        chosen = list(islice(supply, batch_size))
        content = b"".join(struct.pack("<I", len(one)) + one for one in chosen)
        found.append(Question(taken.name, "BYTES", (batch_size, *column), content, batch_size))
    return found


def pictures_in(path: str | Path) -> list[bytes]:
    """The encoded pictures of a file or a folder as they are; of more than 64, as many at equal distances in
    the order of their paths. Raises InvalidInputError if there is none."""
    root = Path(path).expanduser()
    every = [root] if root.is_file() else sorted(one for one in root.rglob("*") if one.is_file())
    found = [one for one in every if walking.is_picture(one.name)]
    if not found:
        raise InvalidInputError(
            f"The folder {root} has no pictures." if root.is_dir() else f"There are no pictures at {root}.",
            f"pass a folder with files that end in {', '.join(walking.SUFFIXES[:4])}, …",
        )
    number = min(len(found), _MOST_PICTURES)
    try:
        return [found[place * len(found) // number].read_bytes() for place in range(number)]
    except OSError as error:
        raise InvalidInputError(f"{error.filename} can't be read: {error.strerror}.") from error


def _elements(content: bytes) -> list[bytes]:
    found, place = [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<I", content, place)
        found.append(content[place + 4 : place + 4 + length])
        place += 4 + length
    return found
