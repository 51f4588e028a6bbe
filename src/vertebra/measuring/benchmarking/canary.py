"""A fixed piece of work, timed between blocks: if it takes longer, the machine has become slower.

It needs no privilege and no counter, so it shows clock changes, heat and other users where nothing else does:
in virtual machines, in containers, on systems without /proc.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: A few milliseconds of arithmetic in registers and caches, and of memory traffic beyond caches below 8 MB.
_HASHED_BYTES, _COPIED_BYTES = 3_000_000, 8_000_000


class Canary:
    """The same work on `threads` cores at once; it takes as long as the slowest of them.

    Both halves of the work run without Python's lock. Between runs the threads sleep in a queue, so
    that they don't disturb what is measured. A context manager: leaving it ends the threads.
    """

    def __init__(self, threads: int, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        import numpy as np

        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="canary")
        self._hashed = bytes(_HASHED_BYTES)
        self._pairs = [(np.ones(_COPIED_BYTES, np.uint8), np.ones(_COPIED_BYTES, np.uint8))
                       for _ in range(threads)]  # fmt: skip
        self.run()  # the first run starts the threads and touches the memory

    def run(self) -> float:
        """Do the work once; seconds from its start to the end of the last thread."""
        start = self._clock()
        for done in [self._pool.submit(self._work, *pair) for pair in self._pairs]:
            done.result()
        return (self._clock() - start) / 1e9

    def _work(self, source: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]) -> None:
        import numpy as np

        hashlib.blake2b(self._hashed).digest()
        np.copyto(target, source)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def __enter__(self) -> Canary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
