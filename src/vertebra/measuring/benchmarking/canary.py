"""A fixed piece of work, timed between blocks: if it takes longer, the machine has become slower.

It needs no privilege and no counter, so it shows clock changes, heat and other users where nothing else does:
in virtual machines, in containers, on systems without /proc.

A second one times how long a processor needs to read what another has just written. On a virtual machine
whose processors move, that shows whether they share a cache just now: where they don't, networks whose
threads exchange much take half as long again, while each processor by itself is as fast as ever.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from statistics import median
from threading import Barrier
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: A few milliseconds of arithmetic in registers and caches, and of memory traffic beyond caches below 8 MB.
_HASHED_BYTES, _COPIED_BYTES = 3_000_000, 8_000_000
#: What is handed over: more than a first-level cache holds, less than a second-level one. Each pair of
#: neighbours does it so often in both directions; of many processors only the first few.
_HANDED_BYTES, _TIMES, _PAIRS = 400_000, 3, 4
#: Seconds after which threads that didn't all start are an error.
_START_S = 30.0


class Canary:
    """The same work on `threads` processors at once; it takes as long as the slowest of them.

    Both halves of the work run without Python's lock, and each thread stays on a processor of its own (where
    the system lets it, and there are no more processors than threads): else two that are woken one after the
    other may share one. Between runs the threads sleep, so that they don't disturb what is measured. A
    context manager: leaving it ends the threads.
    """

    def __init__(self, threads: int, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        import numpy as np

        self._clock = clock
        self._open = ExitStack()
        processors = _processors()
        self._own = processors if len(processors) == threads else []
        stays: list[Callable[[], None] | None] = [partial(_stay, number) for number in self._own]
        pools = [
            ThreadPoolExecutor(1, thread_name_prefix="canary", initializer=stay)
            for stay in stays or [None] * threads
        ]
        self._pools = [self._open.enter_context(pool) for pool in pools]
        self._together = Barrier(threads)
        self._hashed = bytes(_HASHED_BYTES)
        self._pairs = [(np.ones(_COPIED_BYTES, np.uint8), np.ones(_COPIED_BYTES, np.uint8))
                       for _ in range(threads)]  # fmt: skip
        self._handed = np.ones(_HANDED_BYTES // 8)
        self.run()  # the first run starts the threads and touches the memory

    def run(self) -> float:
        """Do the work once on all at the same time; seconds that the slowest took."""
        doing = [pool.submit(self._timed, *pair) for pool, pair in zip(self._pools, self._pairs, strict=True)]
        return max([done.result() for done in doing]) / 1e9

    def handover(self) -> float | None:
        """Seconds in which a processor reads 400 kB that another has just written: the median over some
        pairs. None where threads can't be kept on processors of their own, or there is only one."""
        if len(self._own) < 2:
            return None
        taken = []
        for one, other in pairwise(self._pools[: _PAIRS + 1]):
            for writer, reader in ((one, other), (other, one)) * _TIMES:
                writer.submit(self._handed.fill, 1.0).result()
                taken.append(reader.submit(self._read).result())
        return median(taken) / 1e9

    def _timed(self, source: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]) -> int:
        self._together.wait(_START_S)
        start = self._clock()
        self._work(source, target)
        return self._clock() - start

    def _work(self, source: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]) -> None:
        import numpy as np

        hashlib.blake2b(self._hashed).digest()
        np.copyto(target, source)

    def _read(self) -> int:
        start = self._clock()
        self._handed.sum()
        return self._clock() - start

    def close(self) -> None:
        """End the threads."""
        self._open.close()

    def __enter__(self) -> Canary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _processors() -> list[int]:
    """The processors that this process may use; none where the system doesn't say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _stay(processor: int) -> None:
    """Keep the calling thread on one processor."""
    os.sched_setaffinity(0, {processor})
