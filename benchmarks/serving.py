"""How near a served Bundle comes to its engine, what overload does to it, and how soon it is ready.

    python benchmarks/serving.py BUNDLE [--photo FILE] [--seconds 20] [--rounds 3] [--only tensors ...]

Two processors are needed: the engine's process is pinned to one, with one thread, and everything else (the
server and this client) to the other. The engine's own offline rate, pinned in the same way, and the rates of
the server are measured in turns, and both sides are printed. Run it on a quiet machine; with --seconds 10
each round of `tensors` takes a minute. `poisson` searches four rates, each for minutes.

start      seconds from the command to *ready*, and the memory of the server and its process then; in each
           round, and whether torch was loaded
FP32       (tensors) binary tensors [1, 3, size, size]; against the engine offline with the batch, of 1 to 8,
           that gives it most over all rounds. The server has the batch that gave most in a first look at the
           engine alone, and twice as many connections, so that there is a batch to run and one that waits
UINT8      the same with pixels that the server normalises
JPEG       encoded photographs, against 1 / (decoding and preprocessing + inference), offline
Poisson    (a server with batches of 1) the largest rate of FP32 and of UINT8 requests at random times whose
           99th percentile is within 3 (and 6) times a single inference of that process, against the rate that
           a queue allows whose calls take as long as that process's. These are the server's own statistics:
           the time of each call of requests that come alone, at random times, and of which share of that a
           call takes that follows another. Beside it stands what the queue allows if the bound is shorter by
           what an answer takes beside its call. With --awake a process that gives way to every other keeps
           both processors busy: what is gained by it is what waking them costs
overload   five times the rate of FP32 requests over 8 connections, at random times: good answers against the
           rate without overload, the most memory meanwhile and that afterwards, and the time until a request
           is as fast as before
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import serving_parts as parts
from serving_parts import ENGINE, ENGINE_CORE, MOST_IMAGES, OTHER_CORE, Client, Process, largest
from vertebra.data.preprocess import preprocess
from vertebra.inference import loading
from vertebra.inference.clients import addresses, inputs
from vertebra.inference.clients.over_http import HttpClient
from vertebra.measuring.benchmarking.scenarios import Bound
from vertebra.measuring.requests import offering
from vertebra.measuring.requests.offering import Offered

#: what can be asked for alone
PARTS = ("start", "tensors", "poisson", "overload")


# ------------------------------------------------------------------ the engine alone


def offline(bundle: Path, photo: Path, seconds: float) -> dict[str, Any]:
    """Seconds of each batch in the engine alone, and images per second of decoding, preprocessing and engine;
    pinned."""
    os.sched_setaffinity(0, {ENGINE_CORE})
    content = photo.read_bytes()
    with loading.load(bundle, engine=ENGINE, threads=1) as loaded:
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
            "JPEG": _rate(lambda: loaded.logits(preprocess(content, record)[None]), seconds),
        }


def allowed(calls_s: list[float], share: float, bound_s: float) -> float:
    """The largest rate of arrivals at random times that a queue could take, with the 99th percentile within
    `bound_s`. A call takes one of `calls_s` where it begins at once, and this share of one where it follows
    another."""

    def holds(rate: float) -> bool:
        drawn = random.Random(1)
        free, waits = 0.0, []
        for arrival in itertools.accumulate(drawn.expovariate(rate) for _ in range(20_000)):
            call = drawn.choice(calls_s)
            free = arrival + call if arrival >= free else free + share * call
            waits.append(free - arrival)
        return bool(np.quantile(waits, 0.99) <= bound_s)

    return largest(holds, 1 / (share * statistics.fmean(calls_s)))


def _rate(call: Any, seconds: float) -> float:
    for _ in range(3):
        call()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - begin)


# ------------------------------------------------------------------ the server


def served(bundle: Path, most: int = MOST_IMAGES) -> Process:
    """`vertebra serve` of one Bundle, pinned, with batches of up to `most`."""
    return parts.measured(bundle, "measured", "--no-grpc", most=most)


def body_of(kind: str, size: int, photo: Path) -> bytes:
    """A whole request over HTTP."""
    if kind == "JPEG":
        return parts.picture("measured", photo.read_bytes())
    values = np.random.default_rng(0).integers(0, 256, (1, 3, size, size))
    content = values.astype(np.float32 if kind == "FP32" else np.uint8).tobytes()
    return parts.inference("measured", content, values.shape, kind)


def spent(server: Process) -> np.ndarray[Any, Any]:
    """The engine's calls so far, and the seconds of inference alone and of the whole calls."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v2/models/measured/stats") as answer:
        (stats,) = json.load(answer)["model_stats"]
    found = np.zeros(3)
    for one in stats["batch_stats"]:
        ns = [one[f"compute_{stage}"]["ns"] for stage in ("infer", "input", "output")]
        found += (one["compute_infer"]["count"], ns[0] / 1e9, sum(ns) / 1e9)
    return found


@dataclass(frozen=True)
class Service:
    """Seconds of a single inference of the server's process, asked alone at random times, of each whole call
    then, and of each answer as the client sees it; and which share of a call's mean one takes that follows
    another at once."""

    single_s: float
    calls_s: list[float]
    answers_s: list[float]
    share: float


async def service(server: Process, body: bytes, seconds: float) -> Service:
    """How long the server's process takes for requests of this body."""
    client, drawn = Client(server.port, body), random.Random(0)
    await client.steady(1)
    states = [spent(server)]
    for _ in range(max(100, round(5 * seconds))):
        await asyncio.sleep(drawn.uniform(0.05, 0.15))
        await client.ask()
        states.append(spent(server))
    calls = np.diff(states, axis=0)
    answers = client.latencies[-len(calls) :]
    await client.steady(seconds)
    many, _, busy = spent(server) - states[-1]
    _, infer, whole = calls.mean(axis=0)
    return Service(float(infer), calls[:, 2].tolist(), answers, float(busy / many / whole))


async def poisson(server: Process, kind: str, rate: float, bound_s: float, seconds: float) -> Offered:
    """Requests of one datatype at random times by the generator of `vertebra bench`; a run ends early if 1 %
    can't be within the bound any more."""
    client = HttpClient(addresses.parsed(f"http://127.0.0.1:{server.port}"), None)
    try:
        await client.opened()
        about = await client.about()
        taken = replace(about.taken, datatype=kind)
        await client.prepare(inputs.tensors(taken, batch_size=1, input_size=None, seed=0), at_once=32)
        queries = max(662, round(rate * seconds))
        return await offering.offer(client.ask, rate=rate, bound=Bound(bound_s), queries=queries)
    finally:
        await client.close()


def within(server: Process, kind: str, most: float, bound_s: float, seconds: float) -> float:
    """The largest rate of requests at random times with the 99th percentile in `bound_s`, none refused."""

    def holds(rate: float) -> bool:
        with asyncio.Runner(loop_factory=offering.loop) as runner:
            run = runner.run(poisson(server, kind, rate, bound_s, seconds))
        if run.verdict == "late":
            print(f"at {rate:.1f}/s the generator was late: {1e3 * run.lag_s:.1f} ms")
        p99 = run.percentile(99) if run.is_whole else None
        return not run.failures and p99 is not None and p99 <= bound_s

    return largest(holds, most)


async def crowd(client: Client, rate: float, seconds: float) -> float:
    """Good answers per second of requests that come at random times, whether or not others are done."""
    drawn, tasks = random.Random(0), set[asyncio.Task[bytes]]()
    begin = due = time.perf_counter()
    before = client.statuses["200"]
    while due - begin < seconds:
        due += drawn.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(client.ask())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    found = (client.statuses["200"] - before) / (time.perf_counter() - begin)
    await asyncio.gather(*tasks, return_exceptions=True)
    return found


def largest_memory(server: Process, seconds: float) -> int:
    """The most bytes in so many seconds, looked at twice a second."""
    until, most = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        most = max(most, server.memory())
        time.sleep(0.5)
    return most


async def overload(server: Process, body: bytes, seconds: float) -> list[str]:
    """What five times the load does."""
    client = Client(server.port, body)
    usual = await client.steady(seconds)
    for _ in range(20):
        await client.ask()
    single = statistics.median(client.latencies[-20:])
    before = server.memory()
    meanwhile = asyncio.create_task(asyncio.to_thread(largest_memory, server, seconds))
    good = await crowd(client, 5 * usual, seconds)
    most, after = await meanwhile - before, server.memory() - before
    begin = time.perf_counter()
    while True:
        await client.ask()
        if client.latencies and client.latencies[-1] <= 2 * single:
            break
    return [
        f"good answers: {good:.1f}/s; {usual:.1f}/s without overload ({good / usual:.0%}; asked: 90 %)",
        f"answers by status: {dict(client.statuses)}",
        f"memory: {most / 1e6:+.0f} MB meanwhile, {after / 1e6:+.0f} MB afterwards (asked: 50 at most)",
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
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    kinds = ("FP32", "UINT8")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, help="of `poisson` only")
    parser.add_argument("--times", nargs="+", type=int, default=(3, 6), help="of `poisson` only")
    parser.add_argument("--awake", action="store_true", help="let no processor fall asleep meanwhile")
    parser.add_argument("--offline", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.photo = asked.photo or parts.drawn()
    if asked.offline:
        print(json.dumps(offline(asked.bundle, asked.photo, asked.seconds)))
        return
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("two processors are needed")
    os.sched_setaffinity(0, {OTHER_CORE})
    with parts.awake() if asked.awake else contextlib.nullcontext():
        figures(asked)


def figures(asked: argparse.Namespace) -> None:
    """The parts that are asked for, one after the other."""
    if "start" in asked.only:
        starts(asked)
    size = json.loads((asked.bundle / "vertebra.json").read_text())["input_size"]
    if "poisson" in asked.only:
        poissons(asked, size)
    if "tensors" in asked.only:
        tensors(asked, size)
    if "overload" in asked.only:
        server = served(asked.bundle)
        try:
            for line in asyncio.run(overload(server, body_of("FP32", size, asked.photo), asked.seconds)):
                print(f"overload: {line}", flush=True)
        finally:
            server.close()


def starts(asked: argparse.Namespace) -> None:
    """Servers that are started, looked at and ended."""
    seconds, memory, has_torch = [], [], False
    for _ in range(asked.rounds):
        server = served(asked.bundle)
        seconds.append(server.start_s)
        memory.append(server.memory() / 1e6)
        for one in (server.main, *server.children()):
            has_torch |= any("libtorch" in kept.path for kept in one.memory_maps())
        server.close()
    print(
        f"start: {statistics.median(seconds):.2f} s (asked: 1), {max(memory):.0f} MB (asked: 250), "
        f"{'with' if has_torch else 'no'} torch; rounds {', '.join(f'{one:.2f}' for one in seconds)}",
        flush=True,
    )


def tensors(asked: argparse.Namespace, size: int) -> None:
    """The rates in turns."""
    kinds = ("FP32", "UINT8", "JPEG")
    found: dict[str, list[float]] = {kind: [] for kind in ("offline JPEG", *kinds)}
    measured: list[list[float]] = []
    most = best_batch(asked.bundle, asked.photo, asked.seconds)
    server = served(asked.bundle, most)
    try:
        for _ in range(asked.rounds):
            rates = alone(asked.bundle, asked.photo, asked.seconds)
            measured.append(rates["batches"])
            found["offline JPEG"].append(rates["JPEG"])
            for kind in kinds:
                client = Client(server.port, body_of(kind, size, asked.photo))
                found[kind].append(asyncio.run(client.steady(asked.seconds, 2 * most)))
    finally:
        server.close()
    batches = [statistics.median(times) for times in zip(*measured, strict=True)]
    engine, best = max((count / one, count) for count, one in enumerate(batches, 1))
    against = {"FP32": engine, "UINT8": engine, "JPEG": statistics.median(found["offline JPEG"])}
    for kind, least in (("FP32", 80), ("UINT8", 90), ("JPEG", 85)):
        rate, rounds = statistics.median(found[kind]), ", ".join(f"{one:.1f}" for one in found[kind])
        how = "" if kind == "JPEG" else f" in batches of {best}, server of {most}"
        print(
            f"{kind}: {rate:.1f} images/s ({rounds}); offline {against[kind]:.1f}{how}: "
            f"{rate / against[kind]:.0%} (asked: {least} %)",
            flush=True,
        )


def poissons(asked: argparse.Namespace, size: int) -> None:
    """The largest rates at random times, against those that a queue allows."""
    server = served(asked.bundle, most=1)
    try:
        for kind, times in itertools.product(asked.kinds, asked.times):
            body = body_of(kind, size, asked.photo)
            took = asyncio.run(service(server, body, asked.seconds))
            bound_s = times * took.single_s
            ideal = allowed(took.calls_s, took.share, bound_s)
            beside_s = statistics.median(took.answers_s) - statistics.median(took.calls_s)
            reachable = allowed(took.calls_s, took.share, bound_s - beside_s)
            rate = within(server, kind, 1.2 * ideal, bound_s, asked.seconds)
            call, answer = (_spread(one) for one in (took.calls_s, took.answers_s))
            print(
                f"Poisson, {kind}, p99 within {times} inferences of {1e3 * took.single_s:.1f} ms: "
                f"{rate:.1f}/s; a queue whose calls take {call}, and {took.share:.0%} of that after another, "
                f"allows {ideal:.1f}/s: {rate / ideal:.0%} (asked: 85 %). Asked alone, answers "
                f"take {answer}; with {1e3 * beside_s:.1f} ms less the queue allows {reachable:.1f}/s",
                flush=True,
            )
    finally:
        server.close()


def _spread(seconds: list[float]) -> str:
    median, late = 1e3 * np.quantile(seconds, [0.5, 0.99])
    return f"{median:.1f} ms (99 %: {late:.1f} ms)"


def best_batch(bundle: Path, photo: Path, seconds: float) -> int:
    """The batch that a look at the engine alone finds best."""
    times = alone(bundle, photo, seconds)["batches"]
    return max(range(1, len(times) + 1), key=lambda size: size / times[size - 1])


def alone(bundle: Path, photo: Path, seconds: float) -> dict[str, Any]:
    """`offline` in a process of its own, while the server has nothing to do."""
    command = [sys.executable, __file__, str(bundle), "--offline", "--photo", str(photo)]
    ran = subprocess.run([*command, "--seconds", str(seconds)], check=True, capture_output=True, text=True)
    rates: dict[str, Any] = json.loads(ran.stdout)
    return rates


if __name__ == "__main__":
    main()
