"""uvicorn's connections, with an end for clients that send the head of a request too slowly or not at all."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes that the head of a request may have.
MOST_HEAD = 2**16
#: Seconds for the head of a request to arrive, from the connection or from its first byte.
HEAD_S = 15.0


class _Joined:
    """A transport that sends the head of a response together with what comes next: two packets would wake the
    client twice."""

    def __init__(self, transport: Any) -> None:
        self._transport, self._head = transport, b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._head and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100 "):
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        """Send a head after which nothing came."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()


class Patient(HttpToolsProtocol):
    """Closes a connection whose request's head doesn't arrive in time, or doesn't end, and one whose request
    was answered before its body had arrived."""

    transport: Any
    _deadline: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast("asyncio.Transport", _Joined(transport)))
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._arm()
        if self._deadline is not None:  # within a head
            self._head += len(data)
        super().data_received(data)
        if self._deadline is not None and self._head > MOST_HEAD:
            self._give_up()

    def on_headers_complete(self) -> None:
        self._disarm()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        if not self.pipeline and self.cycle is not None and self.cycle.more_body:
            self.transport.close()  # the rest of this body isn't the next request's head
        self.transport.flush()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._head = 0
        self._deadline = self.loop.call_later(HEAD_S, self._give_up)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._disarm()
        if not self.transport.is_closing():
            self.transport.close()
