"""How many times as many images per second two processes evaluate as one, each with a share of the pictures.

    python benchmarks/eval_shares.py [FOLDER]

Each process runs `vertebra.evaluate` with one thread on a processor of its own, for the one as for the two,
so that nothing but what they share keeps two from being twice as fast. They load first and start together.
FOLDER has class folders called by ImageNet's synsets; without one, JPEGs of 500 × 375 pixels are made.
Rounds of one and two alternate; medians are compared. The goal is 1.8. Exits with status 1 only if the
shares don't come to the whole.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import vertebra
from eval_throughput import made
from vertebra.machine.system import describe, library_versions
from vertebra.measurements import Table

ASKED, ROUNDS, MODEL, ENGINE = 1.8, 3, "squeezenet1_1", "onnxruntime"
#: The first ten classes of ImageNet.
SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475", "n01496331", "n01498041",
           "n01514668", "n01514859", "n01518878")  # fmt: skip


def main() -> int:
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        print("two processes need two processors")
        return 1
    versions = library_versions(("vertebra", "numpy", "onnxruntime", "simplejpeg"))
    print(f"machine   {describe().id}, {platform.platform()}")
    print(f"versions  {', '.join(map(' '.join, versions.items()))}")
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "pictures"
        pictures.mkdir()
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else named(made(pictures))
        speeds: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(ROUNDS):
            for count, own in speeds.items():
                tables = [Path(scratch) / f"{turn}-{count}-{number}.sqlite" for number in range(count)]
                own.append(speed(folder, tables, processors))
        whole = Table(Path(scratch) / "0-1-0.sqlite").rows(metric="top1")[0]
        both = Table(Path(scratch) / "both.sqlite")
        joined = vertebra.merge(*(Path(scratch) / f"0-2-{number}.sqlite" for number in (0, 1)), table=both)
    one, two = (statistics.median(own) for own in speeds.values())
    print(f"one process   {one:.1f} images/s {[round(each, 1) for each in speeds[1]]}")
    print(f"two processes {two:.1f} images/s {[round(each, 1) for each in speeds[2]]}")
    print(f"ratio         {two / one:.2f} (goal: {ASKED})")
    row = joined.joined[0].rows[0]
    same = (row.value, row.low, row.high, row.samples) == (whole.value, whole.low, whole.high, whole.samples)
    print(f"the shares come to the whole: {same}")
    return not same


def named(folder: Path) -> Path:
    """The folder with its classes called by synsets, so that they are the network's."""
    for number, synset in enumerate(SYNSETS):
        (folder / str(number)).rename(folder / synset)
    return folder


def speed(folder: Path, tables: list[Path], processors: list[int]) -> float:
    """Images per second of as many processes as there are tables, by the slowest one's time."""
    count = len(tables)
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", str(folder), str(table), str(processor),
             f"{number}/{count}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number, (table, processor) in enumerate(zip(tables, processors, strict=False), 1)
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    return float(sum(one["images"] for one in told) / max(one["seconds"] for one in told))


def worker(folder: str, table: str, processor: str, shard: str) -> None:
    """Load the network, say so, wait for a line, and evaluate the share."""
    os.sched_setaffinity(0, {int(processor)})
    options = {"engine": ENGINE, "threads": 1, "untrained": True, "labels": "imagenet-1k"}
    vertebra.evaluate(MODEL, folder, limit=32, table=f"{table}.first", **options)
    print("ready", flush=True)
    sys.stdin.readline()
    done = vertebra.evaluate(MODEL, folder, shard=None if shard == "1/1" else shard, table=table, **options)
    print(json.dumps({"images": done.evaluation.total, "seconds": done.evaluation.seconds}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        sys.exit(main())
