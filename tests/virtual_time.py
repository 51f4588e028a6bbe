"""An event loop whose clock moves only to the next timer, so that a minute of waiting takes no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing would ever happen again"
        self.loop.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now` is the time, which code that is meant to be slow may move."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 100.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


class Queue:
    """A server that takes `service_s` for each request, one at a time, first come first served."""

    def __init__(self, service_s: float) -> None:
        self._service_s, self._free = service_s, 0.0

    def ask(self, number: int, done: Any) -> Any:
        loop = asyncio.get_running_loop()
        self._free = max(self._free, loop.time()) + self._service_s
        return loop.call_at(self._free, done, None).cancel
