"""Requests over HTTP/1.1: connections that are kept, and more of them when all are busy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httptools

from vertebra.errors import InvalidInputError
from vertebra.inference.clients import inputs
from vertebra.inference.clients.addresses import Address
from vertebra.inference.clients.client import ANSWER_S, NO_TOKEN, About, Answer, Refused, only_model
from vertebra.inference.clients.inputs import Input, Question

#: Connections at most, where the system allows as many files.
MOST = 4096
#: Files that are left for everything else.
_SPARED = 128
_HEADER_LENGTH = "inference-header-content-length"
_NO_SERVER = "is a server of the Open Inference Protocol running there?"


class _Response:
    """A status, its headers and its body; or why there is none."""

    __slots__ = ("body", "broken", "headers", "is_begun", "status")

    def __init__(self) -> None:
        self.status, self.headers, self.body = 0, dict[str, str](), bytearray()
        self.broken: str | None = None
        self.is_begun = False


class _Connection(asyncio.Protocol):
    """One request at a time; `finished` is called when its response is whole or the connection broke."""

    def __init__(self, idle: Callable[[_Connection], None], lost: Callable[[_Connection], None]) -> None:
        self._idle, self._lost = idle, lost
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._response = _Response()
        self._finished: Callable[[_Response], None] | None = None
        self.is_used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def peer(self) -> tuple[str, int]:
        assert self._transport is not None
        host, port = self._transport.get_extra_info("peername")[:2]
        return host, port

    def send(self, request: bytes, finished: Callable[[_Response], None]) -> None:
        assert self._transport is not None
        self._finished, self._response = finished, _Response()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    def close(self) -> None:
        self._finished = None
        if self._transport is not None:
            self._transport.abort()

    # -------------------------------------------------------------- what comes

    def data_received(self, data: bytes) -> None:
        self._response.is_begun = True
        if self._finished is None:  # nothing was asked
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._broken("an answer that isn't HTTP")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        self._response.body += part

    def on_message_complete(self) -> None:
        response, finished = self._response, self._finished
        response.status = self._parser.get_status_code()
        if response.status < 200:  # 100 Continue
            self._response = _Response()
            return
        self._finished, self.is_used = None, True
        if self._parser.should_keep_alive() and self.is_open:
            self._idle(self)
        else:
            self.close()
        if finished is not None:
            finished(response)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(self)
        if self._finished is not None and self._parser is not None:
            if self._response.is_begun and error is None:  # a body that ends with the connection
                with contextlib.suppress(httptools.HttpParserError):
                    self._parser.feed_eof()
            self._broken("the connection was closed")

    def _broken(self, why: str) -> None:
        finished, self._finished = self._finished, None
        self.close()
        if finished is not None:
            self._response.broken = why
            finished(self._response)


class HttpClient:
    """See `client.Client`."""

    def __init__(self, address: Address, token: str | None) -> None:
        self._address = address
        self._tls = ssl.create_default_context() if address.is_tls else None
        self._headers = {"Host": address.authority, "Accept": "*/*"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._free: list[_Connection] = []
        self._live: set[_Connection] = set()
        self._most = _most_files()
        self._peer: tuple[str, int] | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._model, self._requests = "", list[bytes]()
        self._lengths: list[int | None] = []

    async def opened(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = await self._connect()
        except (OSError, TimeoutError) as error:
            why = getattr(error, "strerror", None) or str(error) or "no answer"
            raise InvalidInputError(
                f"{self._address.authority} can't be reached: {why}.", _NO_SERVER
            ) from error
        self._peer = connection.peer
        self._free.append(connection)

    async def close(self) -> None:
        for task in self._opening:
            task.cancel()
        for connection in [*self._live]:
            connection.close()
        await asyncio.sleep(0)

    # -------------------------------------------------------------- what the server is

    async def about(self, stated: Input | None = None) -> About:
        server = await self._get("/v2")
        self._model = self._address.model or only_model(await self._index())
        path = self._address.path_of(self._model, self._address.version)
        metadata = await self._get(path)
        try:
            taken = stated or inputs.only_input(self._model, list(metadata.get("inputs") or []))
            platform = str(metadata.get("platform") or "") or None
        except (KeyError, TypeError):
            raise InvalidInputError(f"{path} has no metadata of a model.", _NO_SERVER) from None
        version = server.get("version")
        name = str(server.get("name") or "unknown")
        return About(name, None if version is None else str(version), self._model, platform, taken)

    async def _index(self) -> list[Mapping[str, Any]]:
        response = await self._asked("POST", "/v2/repository/index", b'{"ready": true}')
        try:
            found = json.loads(bytes(response.body)) if response.status == 200 else None
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise InvalidInputError(
                f"{self._address.authority} doesn't list its models.", "name one in the URL: …/v2/models/NAME"
            )
        return found

    async def _get(self, path: str) -> dict[str, Any]:
        response = await self._asked("GET", path, b"")
        try:
            found = json.loads(bytes(response.body)) if response.status == 200 else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            said = response.broken or f"status {response.status}{_error_of(response)}"
            raise InvalidInputError(
                f"{self._address.authority}{self._address.prefix}{path}: {said}.", self._hint(response)
            )
        return found

    def _hint(self, response: _Response) -> str:
        """What may help where an answer has nothing of what was asked."""
        if response.status in (401, 403):
            return NO_TOKEN
        if response.broken is not None and self._tls is None:
            at = self._address.authority
            return f"{_NO_SERVER} With TLS it is https://{at}; a port of gRPC is grpc://{at}"
        return _NO_SERVER

    async def _asked(self, method: str, path: str, body: bytes) -> _Response:
        kind = {"Content-Type": "application/json"} if body else {}
        return await self._alone(self._head(method, path, len(body), kind) + body)

    # -------------------------------------------------------------- requests

    async def prepare(self, questions: Sequence[Question], *, at_once: int) -> str:
        path = self._address.path_of(self._model, self._address.version) + "/infer"
        self._lengths = []
        binary = [one.http() for one in questions]
        self._requests = [self._request(path, body, length) for body, length in binary]
        how = "over HTTPS" if self._tls is not None else "over HTTP"
        try:
            await self.answer(0)
        except Refused as refused:
            self._requests = [self._request(path, one.json(), None) for one in questions]
            try:
                await self.answer(0)
            except Refused:
                raise refused from None
            how += " as JSON"
        self._lengths = [await self._length(number) for number in range(len(questions))]
        wanted = min(at_once, self._most) - len(self._live)
        self._free += await asyncio.gather(*(self._connect() for _ in range(max(0, wanted))))
        return f"{questions[0].datatype} {how}"

    def _request(self, path: str, body: bytes, length: int | None) -> bytes:
        kind = {"Content-Type": "application/json"}
        if length is not None:
            kind = {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(length),
            }
        return self._head("POST", path, len(body), kind) + body

    def _head(self, method: str, path: str, length: int, more: Mapping[str, str]) -> bytes:
        headers = {**self._headers, **more, "Content-Length": str(length)}
        lines = [f"{method} {self._address.prefix}{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def _length(self, number: int) -> int | None:
        """Bytes of the numbers in an answer, which are always the same; None where texts have any length."""
        response = _good(await self._alone(self._requests[number]))
        has_texts = any(isinstance(one, list) for one in _decoded(response).values())
        return None if has_texts else _binary_length(response)

    async def answer(self, number: int) -> Answer:
        return _decoded(_good(await self._alone(self._requests[number % len(self._requests)])))

    def ask(self, number: int, done: Callable[[str | None], None]) -> Callable[[], None]:
        place = number % len(self._requests)

        def finished(response: _Response) -> None:
            if response.broken is not None:
                done(response.broken)
            elif response.status != 200:
                done(f"status {response.status}{_error_of(response)}")
            else:
                expected = self._lengths[place]
                is_good = expected is None or _binary_length(response) == expected
                done(None if is_good else "an answer of another size")

        return self._send(self._requests[place], finished)

    def _send(self, request: bytes, finished: Callable[[_Response], None]) -> Callable[[], None]:
        """Over a free connection, or a new one. A connection that the server closed before it had the request
        is replaced once."""
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                break
        else:
            return self._send_new(request, finished)
        current: list[Callable[[], None]] = [connection.close]

        def first(response: _Response) -> None:
            if response.broken is not None and not response.is_begun and connection.is_used:
                current[0] = self._send_new(request, finished)
            else:
                finished(response)

        connection.send(request, first)
        return lambda: current[0]()

    def _send_new(self, request: bytes, finished: Callable[[_Response], None]) -> Callable[[], None]:
        broken = _Response()
        if len(self._live) + len(self._opening) >= self._most:
            broken.broken = f"more than {self._most} requests were under way"
            finished(broken)
            return lambda: None
        made: list[_Connection] = []

        async def open_and_send() -> None:
            try:
                connection = await self._connect()
            except (OSError, TimeoutError):
                broken.broken = "no connection"
                finished(broken)
                return
            made.append(connection)
            connection.send(request, finished)

        task = asyncio.get_running_loop().create_task(open_and_send())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

        def give_up() -> None:
            task.cancel()
            for connection in made:
                connection.close()

        return give_up

    async def _connect(self) -> _Connection:
        host, port = self._peer or (self._address.host, self._address.port)
        named = self._address.host if self._tls is not None else None
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self._free.append, self._live.discard), host, port, ssl=self._tls,
            server_hostname=named,
        )  # fmt: skip
        self._live.add(connection)
        return connection

    async def _alone(self, request: bytes) -> _Response:
        future: asyncio.Future[_Response] = asyncio.get_running_loop().create_future()

        def finished(response: _Response) -> None:
            if not future.done():
                future.set_result(response)

        give_up = self._send(request, finished)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await future
        except TimeoutError:
            give_up()
            found = _Response()
            found.broken = f"no answer in {ANSWER_S:g} s"
            return found


def _most_files() -> int:
    """As many connections as the system lets this process have, up to MOST."""
    try:
        import resource
    except ImportError:  # Windows
        return 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + _SPARED if hard == resource.RLIM_INFINITY else min(hard, MOST + _SPARED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft - _SPARED))


def _good(response: _Response) -> _Response:
    if response.broken is not None:
        raise Refused(response.broken)
    if response.status != 200:
        raise Refused(f"status {response.status}{_error_of(response)}")
    return response


def _error_of(response: _Response) -> str:
    """What the server said, in a few words."""
    try:
        said = json.loads(bytes(response.body[:65536]))["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    text = " ".join(str(said).split())
    return f": {text[:120]}" if text else ""


def _header_length(response: _Response) -> int | None:
    text = response.headers.get(_HEADER_LENGTH, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _binary_length(response: _Response) -> int | None:
    """Bytes of the binary tensors in an answer, or None if it is all JSON."""
    length = _header_length(response)
    return None if length is None else len(response.body) - length


def _decoded(response: _Response) -> Answer:
    import numpy as np

    length = _header_length(response)
    begin = len(response.body) if length is None else length
    try:
        outputs = json.loads(bytes(response.body[:begin]))["outputs"]
        found: dict[str, Any] = {}
        place = begin
        for one in outputs:
            size = (one.get("parameters") or {}).get("binary_data_size")
            kind = inputs.DATATYPES.get(one["datatype"])
            if size is None:
                found[one["name"]] = np.asarray(one["data"])
            else:
                raw = bytes(response.body[place : place + int(size)])
                found[one["name"]] = [raw] if kind is None else np.frombuffer(raw, kind)
                place += int(size)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused("an answer that isn't as the protocol describes it") from None
    return found
