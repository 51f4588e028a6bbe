"""The parent's side of the process that measures one case; `worker` runs in it."""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol

from vertebra.errors import MeasurementError
from vertebra.machine import processes
from vertebra.machine.processes import Child, JunkError, LostError

_COMMAND = (sys.executable, "-P", "-m", "vertebra.measuring.benchmarking.worker")

#: Last event received -> what the child does next.
_STAGES = {"loaded": "before timing", "ready": "while timing"}
#: Events before an answer.
_ON_THE_WAY = ("loaded", "alive")


class Worker(Protocol):
    """A process that serves one case. `ask` raises MeasurementError, with the stage, if no answer arrives."""

    pid: int

    def ask(self, request: dict[str, Any], silence_s: float) -> dict[str, Any]: ...

    def end(self) -> None: ...


class WorkerProcess:
    """A real process. Raises MeasurementError if it can't be started."""

    def __init__(self) -> None:
        try:
            self._child = Child(_COMMAND, env={**os.environ, "PYTHONPATH": processes.import_path()})
        except LostError as error:
            raise MeasurementError(error.message) from error
        self.pid = self._child.pid
        self._stage = "while loading"

    def ask(self, request: dict[str, Any], silence_s: float) -> dict[str, Any]:
        """The answer to `request`. Raises MeasurementError with the reason if none arrives."""
        self._child.send(request)
        while True:
            event = self._event(silence_s)
            if event["event"] == "failed":
                raise MeasurementError(f"{self._stage}: {event['reason']}")
            self._stage = _STAGES.get(event["event"], self._stage)
            if event["event"] not in _ON_THE_WAY:
                return event

    def _event(self, silence_s: float) -> dict[str, Any]:
        try:
            return self._child.receive(silence_s)
        except JunkError as error:
            raise MeasurementError(error.message) from None
        except LostError as error:
            raise MeasurementError(f"{self._stage}: {error.message}") from None

    def end(self) -> None:
        """Kill it with all its descendants. May be called again."""
        self._child.end()
