"""Whether a server keeps its rate while deadlines expire, minute after minute.

    python benchmarks/expiring_deadlines.py BUNDLE --minutes 10

Starts `vertebra serve BUNDLE`, finds the rate that it can answer, and then sends requests at random times at
70 % of it. A fifth of them have a deadline that can't be met. Each minute's good answers are printed. Exits 1
if the last minute has less than 95 % of the first's share of answers, or an honest request isn't answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

LOAD, HOPELESS = 0.7, 0.2
LEAST = 0.95


class Client:
    """Requests over connections that are kept."""

    def __init__(self, port: int, size: int) -> None:
        self._port, self._size = port, size
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._content = np.zeros((1, 3, size, size), np.float32).tobytes()

    def _request(self, timeout_us: int) -> bytes:
        given = {
            "name": "images", "shape": [1, 3, self._size, self._size], "datatype": "FP32",
            "parameters": {"binary_data_size": len(self._content)},
        }  # fmt: skip
        wanted = [{"name": "logits", "parameters": {"binary_data": True}}]
        asked = {"inputs": [given], "outputs": wanted, "parameters": {"timeout": timeout_us}}
        head = json.dumps(asked).encode()
        lines = (
            "POST /v2/models/measured/infer HTTP/1.1", "Host: localhost",
            f"Inference-Header-Content-Length: {len(head)}",
            f"Content-Length: {len(head) + len(self._content)}", "", "",
        )  # fmt: skip
        return "\r\n".join(lines).encode() + head + self._content

    async def ask(self, timeout_us: int) -> str:
        """The status of one answer."""
        ends = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = ends
        writer.write(self._request(timeout_us))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"^content-length: (\d+)", head, re.M)
        assert length is not None
        await reader.readexactly(int(length[1]))
        if "connection: close" in head:
            writer.close()
        else:
            self._free.append(ends)
        return head.split(" ")[1]

    async def steady(self, seconds: float) -> float:
        """Answers per second over eight connections, each asking again and again."""
        begin, count = time.perf_counter(), 0

        async def one() -> None:
            nonlocal count
            while time.perf_counter() - begin < seconds:
                await self.ask(0)
                count += 1

        await asyncio.gather(*(one() for _ in range(8)))
        return count / (time.perf_counter() - begin)


async def minutes_of(client: Client, count: int, seconds: float) -> list[Counter[str]]:
    """What came in each minute, of `seconds`: honest, answered, late, and others by status."""
    rate = LOAD * await client.steady(min(10.0, seconds))
    print(f"{rate:.1f} requests/s, {HOPELESS:.0%} of them without a chance", flush=True)
    found, drawn = [Counter[str]() for _ in range(count)], random.Random(0)

    async def ask(into: Counter[str], is_hopeless: bool) -> None:
        status = await client.ask(100 if is_hopeless else 0)
        into["honest"] += not is_hopeless
        into["answered" if status == "200" else "late" if status == "504" else status] += 1

    begin = due = time.perf_counter()
    tasks = set[asyncio.Task[None]]()
    for number in range(count):
        while due - begin < seconds * (number + 1):
            due += drawn.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(ask(found[number], drawn.random() < HOPELESS))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        print(f"minute {number + 1}: {dict(found[number])}", flush=True)
    await asyncio.gather(*tasks)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a minute is")
    asked = parser.parse_args()
    options = ("--port", "0", "--no-grpc", "--queue", "512")
    command = [sys.executable, "-m", "vertebra", "serve", f"measured={asked.bundle}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        ready = next(line for line in server.stderr if line.startswith("ready at "))
        size = json.loads((asked.bundle / "vertebra.json").read_text())["input_size"]
        client = Client(int(re.search(r":(\d+)[;,]", ready)[1]), size)  # type: ignore[index]
        try:
            found = asyncio.run(minutes_of(client, asked.minutes, asked.seconds))
        finally:
            server.send_signal(signal.SIGTERM)
            server.stderr.read()
    shares = [one["answered"] / max(1, one["honest"]) for one in found]
    print(f"honest requests answered in time: {shares[0]:.1%} at first, {shares[-1]:.1%} at the end")
    return 0 if shares[-1] >= LEAST * shares[0] and min(shares) >= LEAST else 1


if __name__ == "__main__":
    raise SystemExit(main())
