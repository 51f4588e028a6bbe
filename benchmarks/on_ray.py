"""What a Ray cluster costs and brings on one machine, against the same work without it.

    python benchmarks/on_ray.py                     both parts; ten minutes on two quiet cores
    python benchmarks/on_ray.py --part cases        the time that --on ray adds to a case, against --shard
    python benchmarks/on_ray.py --part evaluation   images a second in two processes, against one

It starts its own cluster: a head without processors and one node for each process. Times begin when the
cluster is there and the first result has come, so that neither starting Ray nor loading a network counts;
both are printed beside. It exits with 1 where a figure isn't what is asked for. Needs `vertebra[ray,onnx]`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vertebra
from vertebra.campaigns.on_ray import SLOT
from vertebra.progress import Progress

#: The most seconds that Ray may add to a case, and by how much two processes must be faster than one.
MOST_S, LEAST = 1.0, 1.8
MODELS = ("alexnet", "squeezenet1_0", "squeezenet1_1")
BATCHES = (1, 2, 4)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("cases", "evaluation"), help="only this part")
    parser.add_argument("--pictures", type=int, default=2000, help="pictures to evaluate")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of each timed case")
    asked = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    good = True
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.environ["VERTEBRA_CACHE"] = str(scratch / "cache")
        if asked.part != "evaluation":
            good &= cases(scratch, asked.seconds)
        if asked.part != "cases":
            good &= evaluation(scratch, asked.pictures)
    return 0 if good else 1


@contextmanager
def cluster(nodes: int) -> Iterator[None]:
    """A cluster of so many nodes of one processor each, that this process is connected to."""
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20}
    began = time.monotonic()
    found = Cluster(initialize_head=True, head_node_args={**small, "num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            found.add_node(num_cpus=1, resources={SLOT: 1}, **small)
        ray.init(found.address, log_to_driver=False, logging_level="ERROR")
        told = f"{nodes} node" if nodes == 1 else f"{nodes} nodes"
        print(f"a Ray cluster of {told} started in {time.monotonic() - began:.1f} s")
        yield
    finally:
        ray.shutdown()
        found.shutdown()


def cases(scratch: Path, seconds: float) -> bool:
    """The seconds that Ray adds to a case."""
    wanted: dict[str, Any] = {
        "engine": "onnxruntime", "quick": True, "seconds": seconds, "batch_size": list(BATCHES), "threads": 1,
    }  # fmt: skip
    vertebra.bench(*MODELS, **wanted, table=scratch / "first.sqlite")  # exports are kept from now on
    took = {}
    took["shard"] = timed(wanted, scratch / "shard.sqlite", shard="1/1")
    with cluster(1):
        took["warming"] = timed(wanted, scratch / "warm.sqlite", on="ray")
        took["ray"] = timed(wanted, scratch / "ray.sqlite", on="ray")
    count = len(MODELS) * len(BATCHES)
    each = {name: one / count for name, one in took.items()}
    added = each["ray"] - each["shard"]
    print(
        f"{count} cases: {each['shard']:.2f} s each by --shard 1/1, {each['ray']:.2f} s each by --on ray "
        f"on one node ({each['warming']:.2f} s in its first sweep)"
    )
    print(f"added to a case: {added:+.2f} s; asked for: at most {MOST_S:g} s")
    return added <= MOST_S


def timed(wanted: dict[str, Any], table: Path, **how: Any) -> float:
    began = time.monotonic()
    rows = vertebra.bench(*MODELS, **wanted, **how, table=table)
    assert len({(row.model, row.batch_size) for row in rows}) == len(MODELS) * len(BATCHES)
    return time.monotonic() - began


def evaluation(scratch: Path, count: int) -> bool:
    """Images a second in one process and in two, each with one thread."""
    place = scratch / "pictures"
    chance = np.random.default_rng(0)
    for number in range(count):
        path = place / ("n01440764", "n01443537")[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(chance.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        small.resize((400, 300)).save(path, quality=90)
    rates = {}
    for processes in (1, 2):
        with cluster(processes):
            rates[processes], whole = rate(place, scratch, count)
        print(f"{processes} x 1 thread: {rates[processes]:.1f} images/s ({whole:.1f} with its start)")
    gain = rates[2] / rates[1]
    print(f"two processes are {gain:.2f} times as fast as one; asked for: at least {LEAST:g}")
    return gain >= LEAST


def rate(place: Path, scratch: Path, count: int) -> tuple[float, float]:
    """Images a second from the first part that came to the last, and in all."""
    seen: list[tuple[float, float]] = []

    def note(event: Progress) -> None:
        if event.unit == "images" and event.done:
            seen.append((time.monotonic(), event.done))

    began = time.monotonic()
    vertebra.evaluate(
        "squeezenet1_1", place, untrained=True, labels="imagenet-1k", threads=1, on="ray", progress=note,
        table=scratch / "accuracy.sqlite",
    )  # fmt: skip
    (first, some), (last, all_) = seen[0], seen[-1]
    return (all_ - some) / (last - first), count / (time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
