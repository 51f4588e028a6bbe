"""How near a served Bundle comes to its engine, what overload does to it, and how soon it is ready.

    python benchmarks/serving.py BUNDLE [--photo FILE] [--seconds 20] [--rounds 3]

Two processors are needed: the engine's process is pinned to one, with one thread, and everything else (the
server and this client) to the other. The engine's own offline rate, pinned in the same way, and the rates of
the server are measured in turns, and both sides are printed. Run it on a quiet machine.

start      seconds from the command to *ready*, and the memory of the server and its process then
FP32       binary tensors [1, 3, size, size] over 8 connections, against the engine offline
UINT8      the same with pixels that the server normalises
JPEG       encoded photographs, against 1 / (decoding and preprocessing + inference), offline
Poisson    the largest rate of FP32 requests at random times whose 99th percentile is within 3 (and 6) times a
           single inference, against the rate that a queue allows whose batches take the times measured here
overload   five times that rate of FP32 requests, at random times: good answers against the rate without
           overload, memory, and the time until a request is as fast as before
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import itertools
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vertebra.data.preprocess import preprocess
from vertebra.inference import loading

CONNECTIONS, MOST_IMAGES = 8, 8
ENGINE_CORE, OTHER_CORE = 1, 0


# ------------------------------------------------------------------ the engine alone


def offline(bundle: Path, photo: Path, seconds: float) -> dict[str, Any]:
    """Images per second of the engine alone, and of decoding, preprocessing and engine; and the seconds of
    each batch; pinned."""
    os.sched_setaffinity(0, {ENGINE_CORE})
    content = photo.read_bytes()
    with loading.load(bundle, threads=1) as loaded:
        record = replace(loaded.preprocess, apply_orientation=True)
        image = preprocess(content, record)[None]
        batches = []
        for size in range(1, MOST_IMAGES + 1):
            resized = loaded.resized(size)
            assert resized is not None, "the batches of this engine can't be measured"
            images = np.repeat(image, size, axis=0)
            calls = seconds / MOST_IMAGES
            batches.append(1 / _rate(lambda resized=resized, images=images: resized.logits(images), calls))
        return {
            "batches": batches,
            "engine": _rate(lambda: loaded.logits(image), seconds),
            "JPEG": _rate(lambda: loaded.logits(preprocess(content, record)[None]), seconds),
        }


def allowed(batches: list[float], times: float) -> float:
    """The largest rate of arrivals at random times that a queue with these batches' times could take, with
    the 99th percentile within `times` the first."""

    def holds(rate: float) -> bool:
        drawn = random.Random(1)
        arrivals = list(itertools.accumulate(drawn.expovariate(rate) for _ in range(20_000)))
        free, place, waits = 0.0, 0, []
        while place < len(arrivals):
            begin = max(free, arrivals[place])
            last = min(place + len(batches), len(arrivals))
            taken = bisect.bisect_right(arrivals, begin, place, last) - place
            free = begin + batches[taken - 1]
            waits += [free - arrival for arrival in arrivals[place : place + taken]]
            place += taken
        return bool(np.quantile(waits, 0.99) <= times * batches[0])

    return largest(holds, len(batches) / batches[-1])


def largest(holds: Any, most: float) -> float:
    """The largest rate up to `most` at which `holds` is true, to 3 %."""
    low, high = 0.0, most
    while high - low > 0.03 * most:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _rate(call: Any, seconds: float) -> float:
    for _ in range(3):
        call()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - begin)


# ------------------------------------------------------------------ the server


class Served:
    """`vertebra serve` of one Bundle, pinned."""

    def __init__(self, bundle: Path) -> None:
        options = ("--port", "0", "--no-grpc", "--threads", "1")
        command = [sys.executable, "-m", "vertebra", "serve", f"measured={bundle}", *options]
        begin = time.perf_counter()
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        ready = next(line for line in self._process.stderr if line.startswith("ready at "))
        self.start_s = time.perf_counter() - begin
        self.port = int(re.search(r":(\d+)[;,]", ready)[1])  # type: ignore[index]
        self.main = psutil.Process(self._process.pid)
        (self.worker,) = self.main.children()
        for process, core in ((self.main, OTHER_CORE), (self.worker, ENGINE_CORE)):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, {core})

    def memory(self) -> int:
        """Bytes of the server and its process."""
        return sum(process.memory_info().rss for process in (self.main, self.worker))

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.stderr is not None
        self._process.stderr.read()
        self._process.wait(60)


def body_of(kind: str, size: int, photo: Path) -> bytes:
    """A whole request over HTTP."""
    if kind == "JPEG":
        picture = photo.read_bytes()
        content, shape, datatype = len(picture).to_bytes(4, "little") + picture, [1], "BYTES"
    else:
        values = np.random.default_rng(0).integers(0, 256, (1, 3, size, size))
        dtype, datatype = (np.float32, "FP32") if kind == "FP32" else (np.uint8, "UINT8")
        content, shape = values.astype(dtype).tobytes(), list(values.shape)
    given = {
        "name": "images", "shape": shape, "datatype": datatype,
        "parameters": {"binary_data_size": len(content)},
    }  # fmt: skip
    wanted = [{"name": "logits", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [given], "outputs": wanted}).encode()
    lines = (
        "POST /v2/models/measured/infer HTTP/1.1", "Host: localhost",
        f"Inference-Header-Content-Length: {len(head)}", f"Content-Length: {len(head) + len(content)}",
    )  # fmt: skip
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + head + content


class Client:
    """Connections that are kept, and what came over them."""

    def __init__(self, port: int, body: bytes) -> None:
        self._port, self._body = port, body
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []

    async def ask(self, due: float | None = None) -> None:
        begin = time.perf_counter() if due is None else due
        ends = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = ends
        writer.write(self._body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"^content-length: (\d+)", head, re.M)
        assert length is not None
        await reader.readexactly(int(length[1]))
        status = head.split(" ")[1]
        self.statuses[status] += 1
        if status == "200":
            self.latencies.append(time.perf_counter() - begin)
            self._free.append(ends)
        else:
            writer.close()  # a refusal before the body was read ends the connection

    async def steady(self, seconds: float) -> float:
        """Good answers per second over CONNECTIONS connections, each asking again and again."""
        begin = time.perf_counter()

        async def one() -> None:
            while time.perf_counter() - begin < seconds:
                await self.ask()

        before = self.statuses["200"]
        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
        return (self.statuses["200"] - before) / (time.perf_counter() - begin)

    async def poisson(self, rate: float, seconds: float) -> float:
        """Good answers per second of requests that come at random times, whether or not others are done."""
        drawn, tasks = random.Random(0), set[asyncio.Task[None]]()
        begin = due = time.perf_counter()
        before = self.statuses["200"]
        while due - begin < seconds:
            due += drawn.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self.ask(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        found = (self.statuses["200"] - before) / (time.perf_counter() - begin)
        await asyncio.gather(*tasks, return_exceptions=True)
        return found


def within(served: Served, body: bytes, most: float, bound_s: float, seconds: float) -> float:
    """The largest rate of requests at random times with the 99th percentile in `bound_s`, none refused."""

    def holds(rate: float) -> bool:
        client = Client(served.port, body)
        asyncio.run(client.poisson(rate, seconds))
        return set(client.statuses) == {"200"} and bool(np.quantile(client.latencies, 0.99) <= bound_s)

    return largest(holds, most)


async def overload(served: Served, body: bytes, seconds: float) -> list[str]:
    """What five times the load does."""
    client = Client(served.port, body)
    usual = await client.steady(seconds)
    for _ in range(20):
        await client.ask()
    single = statistics.median(client.latencies[-20:])
    memory = served.memory()
    good = await client.poisson(5 * usual, seconds)
    grown = served.memory() - memory
    begin = time.perf_counter()
    while True:
        await client.ask()
        if client.latencies and client.latencies[-1] <= 2 * single:
            break
    return [
        f"good answers: {good:.1f}/s; {usual:.1f}/s without overload ({good / usual:.0%}; asked: 90 %)",
        f"answers by status: {dict(client.statuses)}",
        f"memory: {grown / 2**20:+.0f} MiB (asked: 50 at most)",
        f"recovered after {time.perf_counter() - begin:.2f} s (asked: 2 at most)",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--photo", type=Path, help="a JPEG file; drawn if none is named")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--offline", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    photo = asked.photo or drawn()
    if asked.offline:
        print(json.dumps(offline(asked.bundle, photo, asked.seconds)))
        return
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("two processors are needed")
    os.sched_setaffinity(0, {OTHER_CORE})
    served = Served(asked.bundle)
    try:
        print(f"start: {served.start_s:.2f} s (asked: 1), {served.memory() / 1e6:.0f} MB (asked: 250)")
        size = json.loads((asked.bundle / "vertebra.json").read_text())["input_size"]
        found: dict[str, list[float]] = {}
        batches: list[float] = []
        for _ in range(asked.rounds):
            measured = alone(asked, photo)
            batches = measured.pop("batches")
            for name, value in measured.items():
                found.setdefault(f"offline {name}", []).append(value)
            for kind in ("FP32", "UINT8", "JPEG"):
                client = Client(served.port, body_of(kind, size, photo))
                found.setdefault(kind, []).append(asyncio.run(client.steady(asked.seconds)))
        best = {name: statistics.median(values) for name, values in found.items()}
        for kind, against, least in (("FP32", "engine", 80), ("UINT8", "engine", 90), ("JPEG", "JPEG", 85)):
            share = best[kind] / best[f"offline {against}"]
            rounds = ", ".join(f"{value:.1f}" for value in found[kind])
            print(
                f"{kind}: {best[kind]:.1f} images/s ({rounds}); offline {best[f'offline {against}']:.1f}: "
                f"{share:.0%} (asked: {least} %)"
            )
        for times in (3, 6):
            ideal = allowed(batches, times)
            rate = within(
                served, body_of("FP32", size, photo), 1.2 * ideal, times * batches[0], asked.seconds
            )
            share = f"{rate / ideal:.0%} (asked: 85 %)"
            print(
                f"Poisson, p99 within {times} inferences: {rate:.1f}/s; a queue allows {ideal:.1f}/s: {share}"
            )
        for line in asyncio.run(overload(served, body_of("FP32", size, photo), asked.seconds)):
            print(f"overload: {line}")
    finally:
        served.close()


def alone(asked: argparse.Namespace, photo: Path) -> dict[str, Any]:
    """`offline` in a process of its own, while the server has nothing to do."""
    command = [sys.executable, __file__, str(asked.bundle), "--offline", "--photo", str(photo)]
    ran = subprocess.run(
        [*command, "--seconds", str(asked.seconds)], check=True, capture_output=True, text=True
    )
    rates: dict[str, Any] = json.loads(ran.stdout)
    return rates


def drawn() -> Path:
    """A photograph's size of soft slopes, as a JPEG file."""
    import tempfile

    from PIL import Image

    y, x, c = np.ogrid[:480, :640, :3]
    pixels = ((x * 255 // 640 + y * 255 // 480 * (c + 1)) % 256).astype(np.uint8)
    path = Path(tempfile.mkdtemp()) / "drawn.jpg"
    Image.fromarray(pixels).save(path, quality=90)
    return path


if __name__ == "__main__":
    main()
