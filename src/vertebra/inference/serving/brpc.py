"""baidu_std, the protocol of bRPC: frames of 12 bytes, `RpcMeta` and a message, many on one connection.

A frame is "PRPC", the length of what follows and that of the meta, both as four bytes, highest first. The
protocol has neither tokens nor TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Any

from vertebra.inference.serving import app, logs, management, paddle
from vertebra.inference.serving.app import Site
from vertebra.inference.serving.models import now_ns
from vertebra.inference.serving.refusals import Refusal
from vertebra.machine import protobuf

MAGIC = b"PRPC"
SERVICE = "baidu.paddle_serving.predictor.general_model.GeneralModelService"
METHOD = "inference"
#: brpc's error codes
_NO_SERVICE, _NO_METHOD, _REQUEST, _TIMED_OUT, _INTERNAL, _LIMIT, _STOPPING = (
    1001, 1002, 1003, 1008, 2001, 2004, 2007,
)  # fmt: skip
_CODES = {
    "late": _TIMED_OUT, "slow": _TIMED_OUT, "full": _LIMIT, "large": _LIMIT, "internal": _INTERNAL,
    "unavailable": _STOPPING,
}  # fmt: skip
_HEAD = struct.Struct(">4sII")
_MOST_META = 2**16
#: requests of one connection that may be under way; more wait in the connection
_MOST_AT_ONCE = 64


class FrameError(Exception):
    """What came isn't baidu_std: the connection can't go on."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What a request's `RpcMeta` says."""

    service: str = ""
    method: str = ""
    timeout_ms: int = 0
    compress_type: int = 0
    correlation_id: int = 0
    attachment_size: int = 0
    is_request: bool = False


def meta_of(content: bytes) -> Meta:
    """Raises FrameError if it is none."""
    values: dict[str, Any] = {}
    plain = {3: "compress_type", 4: "correlation_id", 5: "attachment_size"}
    try:
        for number, value in protobuf.fields(content, 0, len(content)):
            if number == 1:
                values["is_request"] = True
                for inner, one in protobuf.fields(content, *protobuf.span_of(value)):
                    if inner in (1, 2):
                        values[("service", "method")[inner - 1]] = protobuf.text_of(content, one)
                    elif inner == 8 and isinstance(one, int):
                        values["timeout_ms"] = one if one < 2**31 else 0
            elif number in plain and isinstance(value, int):
                values[plain[number]] = value
    except (ValueError, IndexError):
        raise FrameError("its RpcMeta can't be read") from None
    return Meta(**values)


def frame(meta: bytes, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return _HEAD.pack(MAGIC, len(meta) + len(payload), len(meta)) + meta + payload


def reply(correlation_id: int, payload: bytes = b"", code: int = 0, text: str = "") -> bytes:
    """A response's frame: an answer, or brpc's error code with a text."""
    error = (protobuf.number(1, code), protobuf.text(2, text)) if code else (protobuf.number(1, 0),)
    return frame(protobuf.message(2, *error) + protobuf.number(4, correlation_id), payload)


class Server:
    """Answers GeneralModelService's requests for the model called `name`."""

    def __init__(self, site: Site, name: str) -> None:
        self._site, self._name = site, name
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, bound: socket.socket) -> None:
        """Serve on a socket that is bound."""
        self._server = await asyncio.start_server(self._connection, sock=bound, limit=2**20)

    async def stop(self) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        room, under_way = asyncio.Semaphore(_MOST_AT_ONCE), set[asyncio.Task[None]]()

        def ended(one: asyncio.Task[None]) -> None:
            under_way.discard(one)
            room.release()

        try:
            while True:
                await room.acquire()
                meta, payload = await self._read(reader)
                one = asyncio.create_task(self._answer(meta, payload, writer))
                under_way.add(one)
                one.add_done_callback(ended)
        except FrameError as error:
            logs.event("a bRPC connection was closed", level="warning", reason=error)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the client has left, or the server ends
        finally:
            for one in list(under_way):
                one.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            self._tasks.discard(task)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[Meta, bytes | Refusal]:
        """The next frame; a payload over the limit is read past, and is a Refusal. Raises FrameError."""
        head = await reader.readexactly(_HEAD.size)
        magic, size, meta_size = _HEAD.unpack(head)
        if magic != MAGIC or meta_size > min(size, _MOST_META):
            raise FrameError("what came isn't a frame of baidu_std")
        async with asyncio.timeout(app.BODY_S):
            meta = meta_of(await reader.readexactly(meta_size))
            left = size - meta_size
            if left > self._site.max_body:
                if left > 4 * self._site.max_body:
                    raise FrameError(f"a frame of {size} bytes is too large to be read past")
                while left:
                    left -= len(await reader.readexactly(min(left, 2**16)))
                return meta, Refusal("large", f"the message is larger than {self._site.max_body} bytes")
            return meta, await reader.readexactly(left)

    async def _answer(self, meta: Meta, payload: bytes | Refusal, writer: asyncio.StreamWriter) -> None:
        began_ns = now_ns()
        code, text, answer = 0, "", b""
        try:
            answer = await self._answered(meta, payload)
        except Refusal as refusal:
            code, text = _CODES.get(refusal.kind, _REQUEST), refusal.message
            if refusal.kind == "unknown":
                code = _NO_SERVICE if "service" in refusal.message else _NO_METHOD
        except Exception:
            logs.LOGGER.exception(
                "a request failed", extra={"fields": {"correlation_id": meta.correlation_id}}
            )
            code, text = _INTERNAL, "internal error; the server's log says more"
        logs.request(method=f"brpc {meta.method[:40]}", status=code, ms=round((now_ns() - began_ns) / 1e6, 3))
        with contextlib.suppress(ConnectionError):
            writer.write(reply(meta.correlation_id, answer, code, text))
            await writer.drain()

    async def _answered(self, meta: Meta, payload: bytes | Refusal) -> bytes:
        arrived_ns = now_ns()
        model = self._site.repository.model(self._name)
        with management.counted(self._site.repository, model, arrived_ns) as count:
            _check(meta)
            if isinstance(payload, Refusal):
                raise payload
            with self._site.holding() as hold:
                hold(len(payload))
                asked = paddle.parsed(payload)
                timeout_s = meta.timeout_ms / 1e3 if meta.timeout_ms else None
                question = paddle.question(asked, model.limits, timeout_s)
                answer = await model.answer(question, arrived_ns)
            found = paddle.response(question, answer, asked.log_id, model.spec.name)
            count(len(question.rows), answer.stages)
        return found


def _check(meta: Meta) -> None:
    if not meta.is_request:
        raise Refusal("invalid", "the frame holds no request")
    if meta.service.rpartition(".")[2] != SERVICE.rpartition(".")[2]:
        raise Refusal("unknown", f"unknown service {meta.service[:100]!r}; there is {SERVICE}")
    if meta.method != METHOD:
        raise Refusal("unknown", f"unknown method {meta.method[:100]!r}; there is {METHOD}")
    if meta.compress_type:
        raise Refusal("unsupported", f"messages may not be compressed (compress_type {meta.compress_type})")
    if meta.attachment_size:
        raise Refusal("unsupported", "attachments aren't taken")
