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
import time
from collections import Counter
from pathlib import Path

import numpy as np

import serving_parts as parts
from serving_parts import Client

LOAD, HOPELESS = 0.7, 0.2
LEAST = 0.95


async def minutes_of(client: Client, hopeless: bytes, count: int, seconds: float) -> list[Counter[str]]:
    """What came in each minute, of `seconds`: honest, answered, late, and others by status. The client's
    usual request is the honest one."""
    rate = LOAD * await client.steady(min(10.0, seconds))
    print(f"{rate:.1f} requests/s, {HOPELESS:.0%} of them without a chance", flush=True)
    found, drawn = [Counter[str]() for _ in range(count)], random.Random(0)

    async def ask(into: Counter[str], is_hopeless: bool) -> None:
        status, _ = await client.answer(hopeless if is_hopeless else None)
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
    size = json.loads((asked.bundle / "vertebra.json").read_text())["input_size"]
    shape = (1, 3, size, size)
    content = np.zeros(shape, np.float32).tobytes()
    server = parts.vertebra(asked.bundle, "measured", "--no-grpc", "--queue", "512")
    try:
        client = Client(server.port, parts.inference("measured", content, shape, "FP32"))
        hopeless = parts.inference("measured", content, shape, "FP32", timeout=100)
        found = asyncio.run(minutes_of(client, hopeless, asked.minutes, asked.seconds))
    finally:
        server.close()
    shares = [one["answered"] / max(1, one["honest"]) for one in found]
    print(f"honest requests answered in time: {shares[0]:.1%} at first, {shares[-1]:.1%} at the end")
    return 0 if shares[-1] >= LEAST * shares[0] and min(shares) >= LEAST else 1


if __name__ == "__main__":
    raise SystemExit(main())
