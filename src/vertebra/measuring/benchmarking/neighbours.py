"""Busy threads of our own beside what is measured: how a form does on a machine that it shares.

They run in one child process, unpinned and with ordinary priority: each multiplies small matrices again and
again, so that it needs a core's arithmetic and its caches and little else. They are paused while the canary
runs, which looks at the machine without them. `python -m vertebra.measuring.benchmarking.neighbours` is the
child; it ends with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NoReturn

from vertebra.errors import MeasurementError
from vertebra.machine import processes
from vertebra.machine.processes import Child, LostError

_COMMAND = (sys.executable, "-P", "-m", "vertebra.measuring.benchmarking.neighbours")
#: A library of linear algebra starts threads of its own otherwise.
_ONE_THREAD = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
#: Seconds in which the child answers, on a machine that it has filled itself.
_SILENCE_S = 60.0
#: The side of the matrices: a product takes about a millisecond, and fits the caches of one core.
_SIDE = 256


class Neighbours:
    """`threads` busy threads, until the block or `end` ends them. Raises MeasurementError if they can't run,
    and from each method if they don't any more."""

    def __init__(self, threads: int) -> None:
        single = dict.fromkeys(_ONE_THREAD, "1")
        environment = {**os.environ, **single, "PYTHONPATH": processes.import_path()}
        try:
            self._child = Child(_COMMAND, env=environment)
        except LostError as error:
            raise MeasurementError(error.message) from error
        self.pid = self._child.pid
        self._done = 0
        try:
            self._ask("start", threads=threads)
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Neighbours:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """None of them computes inside the block."""
        self._ask("pause")
        try:
            yield
        finally:
            self._ask("go")

    def check(self) -> None:
        """Raise MeasurementError unless each of them has computed since the last look."""
        before, self._done = self._done, self._ask("look")["done"]
        if self._done <= before:
            raise MeasurementError("the busy threads beside it have computed nothing")

    def end(self) -> None:
        """Kill them. May be called again."""
        self._child.end()

    def _ask(self, command: str, **more: Any) -> dict[str, Any]:
        try:
            answer = self._child.ask({"command": command, **more}, _SILENCE_S)
        except LostError as error:
            raise MeasurementError(f"the busy threads beside it: {error.message}") from error
        if "failed" in answer:
            raise MeasurementError(f"the busy threads beside it: {answer['failed']}")
        return answer


# ------------------------------------------------------------------ in the child


class _Threads:
    """The threads, each with a lock that it holds while it computes."""

    def __init__(self, count: int) -> None:
        self._go = threading.Event()
        self._locks = [threading.Lock() for _ in range(count)]
        self._done = [0] * count
        for number in range(count):
            threading.Thread(target=self._compute, args=(number,), daemon=True).start()
        self._go.set()

    def _compute(self, number: int) -> NoReturn:
        import numpy as np

        values = np.random.default_rng(number).standard_normal((_SIDE, _SIDE), dtype=np.float32) / _SIDE
        product = np.empty_like(values)
        while True:
            self._go.wait()
            with self._locks[number]:
                np.matmul(values, values, out=product)
            self._done[number] += 1

    def obey(self, command: str) -> dict[str, Any]:
        if command == "pause":
            self._go.clear()
            for lock in self._locks:
                with lock:  # what was begun is finished
                    pass
        elif command == "go":
            self._go.set()
        return {"done": min(self._done)}


def main() -> NoReturn:
    """Compute and answer until stdin ends."""
    channel = processes.answers()
    threads: _Threads | None = None
    for text in sys.stdin:
        request = json.loads(text)
        try:
            if threads is None:
                import numpy  # noqa: F401 - not in each thread at once

                threads = _Threads(request["threads"])
            answer = threads.obey(request["command"])
        except (ImportError, RuntimeError) as error:  # no numpy, or no more threads
            answer = {"failed": str(error)}
        print(json.dumps(answer), file=channel, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
