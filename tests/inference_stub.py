"""A server of the Open Inference Protocol over HTTP that answers one request at a time, each after a given
time, and does what a test asks for with some of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Stub:
    """`inputs` is the model's metadata; `odd` gives another reply for a request's number, or None. `asked`
    has the bodies of the requests for inference."""

    inputs: list[dict[str, Any]] = field(
        default_factory=lambda: [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    )
    models: tuple[str, ...] = ("made",)
    service_s: float = 0.0
    is_binary: bool = True
    odd: Callable[[int], Reply | None] = lambda number: None
    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.splitlines()
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, more, content = await self._reply(*first.split(" ")[:2], headers, body)
                if status == 0:  # gone without an answer
                    break
                shown = {"Content-Length": str(len(content)), **more}
                text = "".join(f"{name}: {value}\r\n" for name, value in shown.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{text}\r\n".encode() + content)
        writer.close()

    async def _reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path.endswith("/infer"):
            self.asked.append(body)
            self.headers.append(headers)
            odd = self.odd(len(self.asked) - 1)
            if odd is not None:
                return odd
            async with self._turn:
                await asyncio.sleep(self.service_s)
            if "inference-header-content-length" in headers:
                return self._binary() if self.is_binary else (400, {}, b'{"error": "no binary tensors"}')
            return (
                200,
                {},
                json.dumps(
                    {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
                ).encode(),
            )
        known = {
            "/v2": {"name": "made-up", "version": "0.1", "extensions": []},
            "/v2/repository/index": [{"name": name, "state": "READY"} for name in self.models],
            **{
                f"/v2/models/{name}": {"name": name, "platform": "none", "inputs": self.inputs, "outputs": []}
                for name in self.models
            },
        }
        if path in known:
            return 200, {}, json.dumps(known[path]).encode()
        return 404, {}, b'{"error": "unknown"}'

    def _binary(self) -> Reply:
        described = {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
        head = json.dumps({"outputs": [described]}).encode()
        return 200, {"Inference-Header-Content-Length": str(len(head))}, head + bytes(8)

    async def run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        self._turn = asyncio.Lock()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def stubbed(**options: Any) -> Iterator[Stub]:
    """In a thread of its own."""
    stub, ready = Stub(**options), threading.Event()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def work() -> None:
        stop = asyncio.Event()
        ends.append((asyncio.get_running_loop(), stop))
        await stub.run(ready, stop)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        assert ready.wait(30)
        yield stub
    finally:
        loop, stop = ends[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
