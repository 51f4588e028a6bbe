"""What the benchmarks of serving share: servers as processes, whole requests, connections, pinning."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ENGINE_CORE, OTHER_CORE = 1, 0
CONNECTIONS = 8
#: what both sides of a figure run
ENGINE, MOST_IMAGES = "onnxruntime", 8


class Process:
    """A server that a command starts. It is ready when `line` finds its port in what it writes, or with a
    `port` of its own as soon as that takes connections."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        line: str | None = None,
        port: int = 0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        begin = time.perf_counter()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL if line else self._said, text=True,
            stderr=self._said if line is None else subprocess.PIPE, env={**os.environ, **(env or {})},
        )  # fmt: skip
        if line is None:
            self.port, self.ready = port, ""
            self._until_open()
        else:
            assert self.process.stderr is not None
            found = (re.search(line, text) for text in self.process.stderr)
            match = next((one for one in found if one is not None), None)
            assert match is not None, f"{command[0]} ended before it was ready"
            self.port, self.ready = int(match[1]), match.string
        self.start_s = time.perf_counter() - begin
        self.main = psutil.Process(self.process.pid)

    def _until_open(self) -> None:
        for _ in range(1200):
            if self.process.poll() is not None:
                self._said.seek(0)
                said = self._said.read().decode(errors="replace")
                raise AssertionError(f"the server ended before it was ready: {said[-3000:]}")
            with socket.socket() as one:
                one.settimeout(1)
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the server isn't ready after two minutes")

    def children(self) -> list[psutil.Process]:
        return self.main.children(recursive=True)

    def memory(self) -> int:
        """Bytes of the server and its processes; what they share counts once."""
        return sum(one.memory_full_info().pss for one in (self.main, *self.children()))

    def close(self) -> None:
        children = self.children()
        self.process.send_signal(signal.SIGTERM)
        try:
            if self.process.stderr is not None:
                self.process.stderr.read()
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        for child in children:  # of a server that doesn't end its own
            if child.is_running():
                child.kill()


def vertebra(bundle: Path, name: str, *options: str) -> Process:
    """`vertebra serve` of one Bundle under a name, over HTTP at a free port."""
    command = [sys.executable, "-m", "vertebra", "serve", f"{name}={bundle}", "--port", "0", *options]
    return Process(command, line=r"ready at \S+:(\d+)[;,]")


def measured(bundle: Path, name: str, *options: str, most: int = MOST_IMAGES) -> Process:
    """The same for a figure: one process with one thread, pinned, and batches of up to `most`, whatever the
    table would choose."""
    asked = ("--engine", ENGINE, "--instances", "1", "--threads", "1", "--max-batch", str(most))
    server = vertebra(bundle, name, *asked, *options)
    pinned(server)
    return server


def pin(process: psutil.Process, core: int) -> None:
    """Every thread of it."""
    for thread in process.threads():
        os.sched_setaffinity(thread.id, {core})


def pinned(server: Process) -> None:
    """The server's own process to one core, the engine's to the other."""
    pin(server.main, OTHER_CORE)
    for child in server.children():
        pin(child, ENGINE_CORE)


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keep both processors busy by processes that give way to every other."""
    code = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    busy = []
    try:
        for core in (ENGINE_CORE, OTHER_CORE):
            busy.append(subprocess.Popen([sys.executable, "-c", code]))
            os.sched_setaffinity(busy[-1].pid, {core})
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


# ------------------------------------------------------------------ requests


def request(path: str, body: bytes, **headers: str) -> bytes:
    """A whole request over HTTP."""
    fields = {"Host": "localhost", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def inference(
    model: str,
    content: bytes,
    shape: Iterable[int],
    datatype: str,
    output: str = "logits",
    name: str = "images",
    **parameters: Any,
) -> bytes:
    """A whole request of the Open Inference Protocol with a binary tensor, which asks for one; `parameters`
    are the request's own."""
    given = {
        "name": name, "shape": list(shape), "datatype": datatype,
        "parameters": {"binary_data_size": len(content)},
    }  # fmt: skip
    wanted = [{"name": output, "parameters": {"binary_data": True}}]
    asked = {"inputs": [given], "outputs": wanted, **({"parameters": parameters} if parameters else {})}
    head = json.dumps(asked).encode()
    return request(
        f"/v2/models/{model}/infer", head + content, Inference_Header_Content_Length=str(len(head)),
        Content_Type="application/octet-stream",
    )  # fmt: skip


def picture(model: str, encoded: bytes) -> bytes:
    """The same with an encoded picture."""
    return inference(model, len(encoded).to_bytes(4, "little") + encoded, [1], "BYTES")


async def response(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
    body = await reader.readexactly(int(fields["content-length"]))
    return head.split(" ")[1], fields, body


class Client:
    """Connections that are kept, and what came over them."""

    def __init__(self, port: int, body: bytes) -> None:
        self._port, self._body = port, body
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []

    async def ask(self, body: bytes | None = None) -> bytes:
        """The answer's body."""
        return (await self.answer(body))[1]

    async def answer(self, body: bytes | None = None) -> tuple[str, bytes]:
        """Status and body of the answer to this request, or to the usual one."""
        begin = time.perf_counter()
        ends = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = ends
        writer.write(self._body if body is None else body)
        try:
            status, fields, answer = await response(reader)
        except ConnectionError:
            self.statuses["connection lost"] += 1
            raise
        self.statuses[status] += 1
        if status == "200":
            self.latencies.append(time.perf_counter() - begin)
        if fields.get("connection") == "close":  # a refusal before the body was read
            writer.close()
        else:
            self._free.append(ends)
        return status, answer

    async def steady(self, seconds: float, connections: int = CONNECTIONS) -> float:
        """Good answers per second over so many connections, each asking again and again."""
        begin = time.perf_counter()

        async def one() -> None:
            while time.perf_counter() - begin < seconds:
                await self.ask()

        before = self.statuses["200"]
        await asyncio.gather(*(one() for _ in range(connections)))
        return (self.statuses["200"] - before) / (time.perf_counter() - begin)


# ------------------------------------------------------------------ figures


def largest(holds: Any, most: float, within: float = 0.03) -> float:
    """The largest rate up to `most` at which `holds` is true, to this share of it; 0 if that is false down
    to an eighth of it: slower trials would take minutes each."""
    low, high = 0.0, most
    while high - low > within * low and high > most / 8:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def drawn() -> Path:
    """A photograph's size of soft slopes, as a JPEG file."""
    from PIL import Image

    y, x, c = np.ogrid[:480, :640, :3]
    pixels = ((x * 255 // 640 + y * 255 // 480 * (c + 1)) % 256).astype(np.uint8)
    path = Path(tempfile.mkdtemp()) / "drawn.jpg"
    Image.fromarray(pixels).save(path, quality=90)
    return path
