"""Protobuf's wire format, as little of it as ONNX files need: fields read in place, messages written."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TypeAlias

Content: TypeAlias = "mmap.mmap | bytes"
#: where the content of a longer value begins and ends
Span: TypeAlias = "tuple[int, int]"
#: number, value: a whole number, or where the content of a longer value begins and ends
Field: TypeAlias = "tuple[int, int | Span]"


def fields(content: Content, begin: int, end: int) -> Iterator[Field]:
    """The fields of the message from `begin` to `end`. Raises ValueError where it isn't one."""
    place = begin
    while place < end:
        key, place = number_at(content, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = number_at(content, place)
            yield number, value
            continue
        if wire == 2:
            length, place = number_at(content, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("it is not a protobuf message")
        if place + length > end:
            raise ValueError("it is cut off, or not a protobuf message")
        yield number, (place, place + length)
        place += length


def number_at(content: Content, place: int) -> tuple[int, int]:
    """The whole number that begins at `place`, and where it ends."""
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("it is not a protobuf message")


def text_of(content: Content, span: int | Span) -> str:
    """The text of a field."""
    begin, end = span_of(span)
    return content[begin:end].decode()


def span_of(value: int | Span) -> Span:
    """The value of a field that has a length. Raises ValueError for a whole number."""
    if isinstance(value, int):
        raise ValueError("it is not an ONNX file")
    return value


# ------------------------------------------------------------------ writing


def number(field: int, value: int) -> bytes:
    """A field that holds a whole number from 0 up."""
    return _varint(field << 3) + _varint(value)


def message(field: int, *content: bytes) -> bytes:
    """A field that holds bytes: a text, or a message of these fields."""
    return _varint(field << 3 | 2) + _varint(sum(map(len, content))) + b"".join(content)


def text(field: int, value: str) -> bytes:
    """A field that holds a text."""
    return message(field, value.encode())


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def parts(content: bytes, begin: int, end: int) -> Iterator[tuple[int, int | Span, bytes]]:
    """As `fields`, each with its whole bytes, tag included: joined, they are the message again."""
    for number_, value in fields(content, begin, end):
        stop = value[1] if isinstance(value, tuple) else number_at(content, number_at(content, begin)[1])[1]
        yield number_, value, content[begin:stop]
        begin = stop
