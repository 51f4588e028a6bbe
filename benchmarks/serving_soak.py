"""Whether a server loses, doubles or spoils an answer while its processes are killed and its clients leave.

    python benchmarks/serving_soak.py BUNDLE --requests 100000

Starts `vertebra serve BUNDLE` with two processes, sends requests over a few connections, kills a process now
and then (SIGKILL, or SIGSTOP, which is a hang), and leaves some requests without waiting. Each answer must
be the one that the Bundle gives offline. At the end memory and file descriptors must be what they were after
the first tenth, and the server's counts must agree with the client's. Prints the counts; exits 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

import serving_parts as parts
from vertebra.inference import loading

IMAGES = 32
#: largest difference from the offline logits, relative to their spread, over batches of other sizes
MOST = 1e-4
#: bytes by which memory may have grown
GROWTH = 30 * 2**20


class Soak:
    """The server, what it must answer, and what came."""

    def __init__(self, bundle: Path, requests: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._left, self._total = requests, requests
        with loading.load(bundle) as loaded:
            shape = (IMAGES, *loaded.settings.input_shape[1:])
            self._images = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
            self._expected = np.concatenate([loaded.logits(one[None]) for one in self._images])
        self.counts: Counter[str] = Counter()
        options = ("--no-grpc", "--instances", "2", "--threads", "1", "--hang", "1s")
        self._server = parts.vertebra(bundle, "soaked", *options)
        self._port, self._process = self._server.port, self._server.main

    def run(self, connections: int, kills: int) -> list[str]:
        """What is wrong, one line each."""
        try:
            return asyncio.run(self._run(connections, kills))
        finally:
            self._server.close()

    async def _run(self, connections: int, kills: int) -> list[str]:
        killing = asyncio.create_task(self._kill(kills))
        before = asyncio.create_task(self._look())
        await asyncio.gather(*(self._ask() for _ in range(connections)))
        await killing
        memory, files = await before
        await asyncio.sleep(2)  # connections that were left have ended
        after = await self._used()
        self.counts.update(memory_grown=after[0] - memory, files_grown=after[1] - files)
        faults = [f"{self.counts['wrong']} wrong answers"] if self.counts["wrong"] else []
        if self.counts["broken"]:
            faults.append(f"{self.counts['broken']} connections were broken by the server")
        if after[0] - memory > GROWTH or after[1] > files + 2:
            faults.append(f"memory or files have grown: {memory, files} to {after}")
        return faults + self._counted()

    def _counted(self) -> list[str]:
        """The server's counts against ours: one that was left may have been answered all the same."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/v2/models/soaked/stats") as answer:
            (stats,) = json.load(answer)["model_stats"]
        success, fail = (stats["inference_stats"][name]["count"] for name in ("success", "fail"))
        self.counts.update(success=success, fail=fail)
        refused = sum(count for name, count in self.counts.items() if name.startswith("status "))
        right, left = self.counts["right"], self.counts["left"]
        if not (right <= success <= right + left and right + refused <= success + fail <= self._total):
            return [f"the server counts {success} + {fail}; the client {dict(self.counts)}"]
        return []

    async def _used(self) -> tuple[int, int]:
        return self._process.memory_info().rss, self._process.num_fds()

    async def _look(self) -> tuple[int, int]:
        while self._left > 0.9 * self._total:
            await asyncio.sleep(0.01)
        return await self._used()

    async def _kill(self, times: int) -> None:
        for number in range(1, times + 1):
            while self._left > self._total * (1 - number / (times + 1)):
                await asyncio.sleep(0.01)
            workers = self._process.children()
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                how = self._random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
                self._random.choice(workers).send_signal(how)
                self.counts["killed"] += 1

    async def _ask(self) -> None:
        reader = writer = None
        while self._left > 0:
            self._left -= 1
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            assert reader is not None
            chosen = [self._random.randrange(IMAGES) for _ in range(self._random.choice((1, 1, 1, 2, 5)))]
            writer.write(self._request(chosen))
            if self._random.random() < 0.1:
                await asyncio.sleep(self._random.choice((0, 0.001, 0.01)))
                writer.close()
                writer = None
                self.counts["left"] += 1
                continue
            try:
                await self._answered(reader, chosen)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.counts["broken"] += 1
                writer.close()
                writer = None
        if writer is not None:
            writer.close()

    def _request(self, chosen: list[int]) -> bytes:
        shape = (len(chosen), *self._images.shape[1:])
        return parts.inference("soaked", self._images[chosen].tobytes(), shape, "FP32")

    async def _answered(self, reader: asyncio.StreamReader, chosen: list[int]) -> None:
        status, fields, body = await parts.response(reader)
        if status != "200":
            self.counts[f"status {status}"] += 1
            return
        found = np.frombuffer(body[int(fields["inference-header-content-length"]) :], "<f4")
        expected = self._expected[chosen]
        off = np.abs(found.reshape(expected.shape) - expected).max() / self._expected.std()
        self.counts["right" if off <= MOST else "wrong"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=12)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    soak = Soak(asked.bundle, asked.requests, asked.seed)
    faults = soak.run(asked.connections, asked.kills)
    for name, count in sorted(soak.counts.items()):
        print(f"{name}: {count}")
    for fault in faults:
        print(f"fault: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
