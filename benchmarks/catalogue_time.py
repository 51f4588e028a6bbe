"""Time how long counting every network of the catalogue takes.

    python benchmarks/catalogue_time.py [--jobs N] [--sample N]

Prints the number of networks, and the seconds of wall-clock and processor time. With --sample, counts only N
networks, drawn at random with a fixed seed, and estimates the time for all of them.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import catalogue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sample", type=int)
    arguments = parser.parse_args()
    every = catalogue.names()
    chosen = random.Random(0).sample(every, arguments.sample) if arguments.sample else every
    start = time.monotonic()
    failed = sum(outcome.count is None for outcome in catalogue.count(chosen, arguments.jobs))
    seconds = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime
    print(f"{len(chosen)} of {len(every)} networks, {failed} without a count, {arguments.jobs} processes")
    print(f"{seconds:.1f} s of wall-clock time, {processor:.1f} s of processor time")
    if arguments.sample:
        whole = processor * len(every) / len(chosen)
        print(f"all networks at this rate: {whole:.0f} s of processor time")


if __name__ == "__main__":
    main()
