"""Signals that ask a training to end: it ends after the step under way, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = ("SIGINT", "SIGTERM")


class Stop:
    """Whether an end was asked for since the block began: by Ctrl-C, or `kill`. The second signal ends the
    process at once, as without this, unless it is `patient`: torchrun passes on a signal that its processes
    had already. In threads other than the main one signals go their usual way."""

    def __init__(self, *, patient: bool = False) -> None:
        self.number: int | None = None
        self._patient = patient
        self._before: dict[int, Any] = {}

    @property
    def is_asked(self) -> bool:
        """Whether a signal came."""
        return self.number is not None

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if not self._patient:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
