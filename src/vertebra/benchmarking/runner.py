"""Runs a case in a fresh child process, sleeps until it speaks, and turns what it says into rows.

Whatever happens to the child (crash, hang, out of memory, an exception, wrong outputs) is a row of the
metric `failure`. The child is gone when `measure` returns or raises: it lives in a session of its own, so
Ctrl-C meets the parent only, and it ends by itself when the parent dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from vertebra import engines
from vertebra.benchmarking import results
from vertebra.benchmarking.plan import Case, Limits
from vertebra.benchmarking.results import Result
from vertebra.engines import EngineInfo
from vertebra.errors import MeasurementError

_COMMAND = (sys.executable, "-P", "-m", "vertebra.benchmarking.worker")
_TAIL_BYTES, _LINE_LENGTH = 4096, 200

#: Last event heard -> what the child does then.
_STAGES = {"loaded": "before timing", "warmed": "while timing"}


def measure(
    case: Case, limits: Limits | None = None, *, system: str, engine: EngineInfo | None = None
) -> Result:
    """Measure `case` in a fresh process on the machine whose id is `system`.

    `engine` describes an engine that isn't in the table of `vertebra.engines`. Raises UnknownNameError where
    there is none by that name; everything that happens in the child is a result. KeyboardInterrupt ends
    the child before it goes on.
    """
    info = engine or engines.find(case.engine)
    limits = limits or Limits()
    request = {
        "case": case.to_json(),
        "limits": limits.to_json(),
        "engine": None if engine is None else asdict(engine),
    }
    try:
        figures = _run(json.dumps(request), limits.timeout_s + limits.seconds)
    except MeasurementError as error:
        return results.failed(case, info, error.message, system=system)
    return results.measured(case, info, figures, system=system)


def _run(request: str, silence_s: float) -> dict[str, Any]:
    """The figures of the child's last event. Raises MeasurementError with the reason where none came."""
    with _child() as child:
        channel = _Channel(child)
        channel.send(request)
        stage = "while loading"
        while True:
            try:
                event = channel.receive(silence_s)
            except TimeoutError:
                raise MeasurementError(f"{stage}: hung for {silence_s:g} s{channel.last_words()}") from None
            if event is None:
                _end(child)
                raise MeasurementError(f"{stage}: {_death(child.returncode)}{channel.last_words()}")
            if event["event"] == "failed":
                raise MeasurementError(f"{stage}: {event['reason']}")
            if event["event"] == "done":
                return event
            stage = _STAGES[event["event"]]


@contextlib.contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    """A worker with pipes to all three ends, killed with all its descendants and reaped at the end."""
    try:
        child = subprocess.Popen(
            _COMMAND,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": _import_path()},
            start_new_session=True,
        )
    except OSError as error:
        raise MeasurementError(f"no process could be started: {error}") from error
    with child:
        try:
            yield child
        finally:
            _end(child)


def _import_path() -> str:
    """This process's own, so that the child finds the same modules, and a builder in the user's folder."""
    return os.pathsep.join(os.path.abspath(entry) for entry in sys.path)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Until it is reaped the child keeps its number, so the signal can't meet another's group.

    A child that is dying already keeps the exit status that it has.
    """
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of the dead only
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class _Channel:
    """The child's three pipes: the request, its events, and the end of what it wrote to stderr."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self._request, self._events, self._stderr = child.stdin, child.stdout, child.stderr
        self._heard, self._tail = b"", b""
        self._selector = selectors.DefaultSelector()
        for pipe in (self._events, self._stderr):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)

    def send(self, request: str) -> None:
        """One line. A child that died at once can't read it, and tells why through `receive`."""
        with contextlib.suppress(BrokenPipeError):
            self._request.write(request.encode() + b"\n")

    def receive(self, silence_s: float) -> dict[str, Any] | None:
        """The next event, however long that takes within `silence_s`; None where the child has gone.

        Raises TimeoutError after that, and MeasurementError where what came is no event.
        """
        deadline = time.monotonic() + silence_s
        while b"\n" not in self._heard:
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            if not all([self._take(key.fileobj) for key, _ in ready]):
                return None
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            raise MeasurementError(f"the process sent {line[:80]!r}, which is no event") from None
        return event

    def _take(self, pipe: Any) -> bool:
        """Take in what `pipe` holds. False where it is the pipe of events and that has been closed."""
        chunk = os.read(pipe.fileno(), 65536)
        if pipe is self._stderr:
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        else:
            self._heard += chunk
        if not chunk:
            self._selector.unregister(pipe)
        return bool(chunk) or pipe is self._stderr

    def last_words(self) -> str:
        """The last line on stderr, ready to be appended to a reason."""
        with contextlib.suppress(BlockingIOError):  # A descendant may hold the pipe open: don't wait for it.
            while chunk := os.read(self._stderr.fileno(), 65536):
                self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), None)
        return "" if last is None else f'; its last line: "{last[:_LINE_LENGTH]}"'


def _death(returncode: int) -> str:
    if returncode == -signal.SIGKILL:
        return "killed (SIGKILL), as the system does when memory runs out"
    if returncode < 0:
        return f"crashed with signal {-returncode} ({signal.strsignal(-returncode)})"
    return f"ended with exit code {returncode} and no result"
