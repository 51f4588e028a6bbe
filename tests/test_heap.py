"""Freed memory that stays in the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from contextlib import nullcontext
from vertebra.machine import heap

def faults(block):
    with block:
        np.ones(2**24)  # 128 MiB, which glibc maps by itself and gives back
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            np.ones(2**24)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

print(faults(nullcontext()), faults(heap.kept()), faults(nullcontext()), resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
@pytest.mark.parametrize("said", [{}, {"MALLOC_MMAP_MAX_": "65536"}])
def test_freed_memory_is_kept_within_the_block_only(said: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS],
        env={**environment, **said},
        capture_output=True,
        text=True,
        check=True,
    )
    before, within, after, resident = map(int, done.stdout.split())
    assert min(before, after) > 100  # huge pages make them fewer
    assert within == pytest.approx(0, abs=20) if not said else within > 100
    assert resident < 100e6


_PIECES = """
import resource
from vertebra.machine import heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

pieces = [b"1" * 100_000 for _ in range(2_000)]
last = pieces[-1]  # so that the end of the heap can't be cut off
del pieces
before = resident()
heap.give_back()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_free_memory_is_given_back_at_once() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", _PIECES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100e6
