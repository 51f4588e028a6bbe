"""protobuf's messages from a `.proto` file, made when they are needed: generated code would fit only some
versions of protobuf. The file may have what the ones beside this module have: proto3 without imports."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r'"[^"]*"|[A-Za-z_][\w.]*|\d+|[{}<>=;,()]')
_COMMENT = re.compile(r"//[^\n]*")
_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12,
    "uint32": 13,
}  # fmt: skip
_REPEATED, _OPTIONAL = 3, 1


class _Reader:
    """The file's tokens, one at a time."""

    def __init__(self, text: str) -> None:
        self._tokens: Iterator[str] = iter(_TOKEN.findall(_COMMENT.sub("", text)))

    def next(self) -> str:
        return next(self._tokens)

    def expect(self, *tokens: str) -> None:
        for token in tokens:
            found = self.next()
            assert found == token, f"{token} was expected, not {found}"


def _file(text: str, name: str) -> Any:
    from google.protobuf import descriptor_pb2

    made = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3")
    reader = _Reader(text)
    reader.expect("syntax", "=", '"proto3"', ";", "package")
    made.package = reader.next()
    reader.expect(";")
    try:
        while True:
            kind = reader.next()
            if kind == "message":
                _message(reader, made.message_type.add())
            elif kind == "enum":
                _enumeration(reader, made.enum_type.add())
            else:
                assert kind == "service", kind
                _service(reader, made.service.add())
    except StopIteration:
        return made


def _message(reader: _Reader, made: Any) -> None:
    made.name = reader.next()
    reader.expect("{")
    oneof: int | None = None
    while True:
        token = reader.next()
        if token == "}":
            if oneof is None:
                return
            oneof = None
        elif token == "message":
            _message(reader, made.nested_type.add())
        elif token == "enum":
            _enumeration(reader, made.enum_type.add())
        elif token == "oneof":
            made.oneof_decl.add(name=reader.next())
            oneof = len(made.oneof_decl) - 1
            reader.expect("{")
        elif token == "map":
            _map(reader, made)
        else:
            repeated = token == "repeated"
            field = made.field.add(label=_REPEATED if repeated else _OPTIONAL)
            _field(reader, field, reader.next() if repeated else token)
            if oneof is not None:
                field.oneof_index = oneof


def _field(reader: _Reader, field: Any, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type_name = kind  # found from where it is named, as protobuf does
    field.name = reader.next()
    reader.expect("=")
    field.number = int(reader.next())
    reader.expect(";")


def _map(reader: _Reader, made: Any) -> None:
    """A repeated message of key and value."""
    reader.expect("<")
    key = reader.next()
    reader.expect(",")
    value = reader.next()
    reader.expect(">")
    field = made.field.add(label=_REPEATED)
    _field(reader, field, "?")
    name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
    field.type_name = name
    entry = made.nested_type.add(name=name)
    entry.options.map_entry = True
    for number, (word, kind) in enumerate((("key", key), ("value", value)), 1):
        inner = entry.field.add(name=word, number=number, label=_OPTIONAL)
        if kind in _SCALARS:
            inner.type = _SCALARS[kind]
        else:
            inner.type_name = kind


def _enumeration(reader: _Reader, made: Any) -> None:
    made.name = reader.next()
    reader.expect("{")
    while (token := reader.next()) != "}":
        reader.expect("=")
        made.value.add(name=token, number=int(reader.next()))
        reader.expect(";")


def _service(reader: _Reader, made: Any) -> None:
    made.name = reader.next()
    reader.expect("{")
    while reader.next() != "}":  # rpc
        method = made.method.add(name=reader.next())
        reader.expect("(")
        method.input_type = reader.next()
        reader.expect(")", "returns", "(")
        method.output_type = reader.next()
        reader.expect(")", ";")


class Messages:
    """The classes of a file's messages by name, and the methods of its service."""

    def __init__(self, path: Path) -> None:
        from google.protobuf import descriptor_pool, message_factory

        # A pool of its own: another library in this process may have the same names.
        self._pool = descriptor_pool.DescriptorPool()
        described = _file(path.read_text("utf-8"), path.name)
        self._pool.AddSerializedFile(described.SerializeToString())
        file = self._pool.FindFileByName(path.name)
        self._classes = {
            name: message_factory.GetMessageClass(message)
            for name, message in file.message_types_by_name.items()
        }
        self.methods = {
            f"{service.full_name}": {
                method.name: (self._classes[method.input_type.name], self._classes[method.output_type.name])
                for method in service.methods
            }
            for service in file.services_by_name.values()
        }

    def __getitem__(self, name: str) -> Any:
        return self._classes[name]


@functools.cache
def open_inference() -> Messages:
    """The Open Inference Protocol's."""
    return Messages(Path(__file__).with_name("open_inference.proto"))
