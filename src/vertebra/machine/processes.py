"""Child processes that exchange lines of JSON with their parent, and how each of them ends.

A child is killed together with all that it started. It also ends with its parent, however the parent ends:
it holds one end of a pipe, and only the parent has the other end. It runs in its own session, so a terminal's
Ctrl-C reaches only the parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, TextIO

from vertebra.errors import VertebraError
from vertebra.machine import leftovers

#: The environment variable with the number of the child's end of that pipe.
_LIFELINE = "VERTEBRA_LIFELINE"
_TAIL_BYTES, _LINE_LENGTH, _CHUNK_BYTES = 4096, 200, 65536
#: Seconds that a child has to exit after it closed stdout, and between two checks.
_EXIT_S, _CHECK_S = 2.0, 0.005


class LostError(VertebraError):
    """A child that gave no answer: how it ended, and the last line of its stderr."""


class HungError(LostError):
    """A child that was killed because it was silent for too long."""


class JunkError(LostError):
    """A child that sent something that isn't a JSON object."""


class Child:
    """A process that runs `command` until the block or `end` ends it. Raises LostError if it can't start.

    Its environment is `env`, or this process's. If `scratch` is given, it gets its own folder in there for
    temporary files, which is removed at the end.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, scratch: Path | None = None
    ) -> None:
        environment = dict(os.environ if env is None else env)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        with contextlib.ExitStack() as undone:
            if scratch is not None:
                self._scratch = tempfile.TemporaryDirectory(
                    prefix=leftovers.prefix(), dir=scratch, ignore_cleanup_errors=True
                )
                undone.callback(self._scratch.cleanup)
                environment["TMPDIR"] = self._scratch.name
            self._process, self._lifeline = _started(command, environment)
            undone.pop_all()
        self.pid = self._process.pid
        self._lock, self._is_cancelled, self._is_reaped = threading.RLock(), False, False
        self._unsent = self._received = self._tail = b""
        self._is_over = False
        self._requests, self._answers, self._errors = _pipes(self._process)
        self._selector = selectors.DefaultSelector()
        for pipe in (self._answers, self._errors):
            self._selector.register(pipe, selectors.EVENT_READ)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def ask(self, request: Mapping[str, Any], silence_s: float | None) -> dict[str, Any]:
        """`send`, then `receive`."""
        self.send(request)
        return self.receive(silence_s)

    def send(self, request: Mapping[str, Any]) -> None:
        """Send one line. What doesn't fit into the pipe is sent during `receive`, which also raises if the
        child has died."""
        if not self._unsent:
            self._selector.register(self._requests, selectors.EVENT_WRITE)
        self._unsent += json.dumps(request).encode() + b"\n"
        self._write()

    def receive(self, silence_s: float | None) -> dict[str, Any]:
        """The next line, which may take `silence_s` seconds; None: no limit. Raises LostError."""
        deadline = None if silence_s is None else time.monotonic() + silence_s
        while b"\n" not in self._received:
            if self._is_over:
                raise LostError(f"{self._death()}{self.last_words()}")
            ready = self._selector.select(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not ready:
                self._reap()
                raise HungError(f"hung for {silence_s:g} s{self.last_words()}")
            for key, _ in ready:
                self._serve(key.fileobj)
        line, _, self._received = self._received.partition(b"\n")
        return _parsed(line)

    def fileno(self) -> int:
        """A file descriptor that is readable when `heard` has something to do."""
        return self._selector.fileno()

    @property
    def is_over(self) -> bool:
        """Whether no line comes any more; `receive` then raises LostError, with the reason."""
        return self._is_over and b"\n" not in self._received

    def heard(self) -> list[dict[str, Any]]:
        """The lines that have come, without waiting for more; what couldn't be sent is sent. Raises
        JunkError."""
        for key, _ in self._selector.select(0):
            self._serve(key.fileobj)
        *lines, self._received = self._received.split(b"\n")
        return [_parsed(line) for line in lines]

    def last_words(self) -> str:
        """The last line of its stderr, to be appended to a reason; empty if there is none."""
        with contextlib.suppress(BlockingIOError):  # a descendant may hold the pipe open: don't wait for it
            while chunk := os.read(self._errors.fileno(), _CHUNK_BYTES):
                self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), None)
        return "" if last is None else f'; its last line: "{last[:_LINE_LENGTH]}"'

    def cancel(self) -> None:
        """Kill it with all that it started. May be called from another thread: a waiting `receive` raises
        LostError."""
        self._is_cancelled = True
        self._kill()

    def end(self) -> None:
        """Kill it with all that it started, and release its pipes and files. May be called again."""
        try:
            self._clear()
        except BaseException:  # an interrupt must not leave anything either
            self._clear()
            raise

    def _clear(self) -> None:
        self._reap()
        self._selector.close()
        for pipe in (self._requests, self._answers, self._errors, self._lifeline):
            pipe.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _kill(self) -> None:
        """Until it is reaped it keeps its process id, so the signal can't reach another group. If it is
        already dying, it keeps its exit status."""
        with self._lock:
            if not self._is_reaped:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of the dead
                    os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> int:
        self._kill()
        with self._lock:  # `cancel` in another thread runs before this, or does nothing
            self._is_reaped = True
        return self._process.wait()

    def _await_exit(self) -> None:
        """Without reaping it: see `_kill`. An interpreter closes stdout some time before it exits."""
        if self._is_reaped or not hasattr(os, "waitid"):  # macOS lacks it before Python 3.13
            return
        deadline, options = time.monotonic() + _EXIT_S, os.WEXITED | os.WNOHANG | os.WNOWAIT
        while os.waitid(os.P_PID, self.pid, options) is None and time.monotonic() < deadline:
            time.sleep(_CHECK_S)

    def _death(self) -> str:
        self._await_exit()
        status = self._reap()
        if self._is_cancelled:
            return "cancelled"
        if status == -signal.SIGKILL:
            return "killed (SIGKILL), as the system does when memory runs out"
        if status < 0:
            return f"crashed with signal {-status} ({signal.strsignal(-status)})"
        return f"ended with exit code {status} and no result"

    def _serve(self, pipe: Any) -> None:
        if pipe is self._requests:
            self._write()
            return
        chunk = os.read(pipe.fileno(), _CHUNK_BYTES)
        if not chunk:
            self._selector.unregister(pipe)
        if pipe is self._answers:
            self._received += chunk
            self._is_over = not chunk
        else:
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                self._unsent = self._unsent[os.write(self._requests.fileno(), self._unsent) :]
            except BrokenPipeError:
                self._unsent = b""
        if not self._unsent:
            self._selector.unregister(self._requests)


def _started(
    command: Sequence[str], environment: dict[str, str]
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """The process, and the parent's end of the pipe that keeps it alive. An interrupt here closes that end,
    so the child ends."""
    theirs, ours = os.pipe()
    with open(theirs, "rb", buffering=0), contextlib.ExitStack() as undone:
        lifeline = undone.enter_context(open(ours, "wb", buffering=0))
        try:
            process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**environment, _LIFELINE: str(theirs)}, pass_fds=[theirs], start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise LostError(f"no process could be started: {error}") from error
        undone.pop_all()
    return process, lifeline


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    """Its stdin, stdout and stderr, none of which blocks this process."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    pipes = process.stdin, process.stdout, process.stderr
    for pipe in pipes:
        os.set_blocking(pipe.fileno(), False)
    return pipes


def _parsed(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        answer = json.loads(line)
        if isinstance(answer, dict):
            return answer
    raise JunkError(f"the process sent {line[:80]!r}, which is not a JSON object")


def import_path() -> str:
    """The PYTHONPATH with which a child finds the same modules as this process."""
    return os.pathsep.join(os.path.abspath(entry) for entry in sys.path)


# ------------------------------------------------------------------ in the child


def answers() -> TextIO:
    """The real stdout, for a child's answers; a child calls this first. From then on all other output, also
    from C libraries, goes to stderr, and the process ends with its parent."""
    _end_with_parent()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _end_with_parent() -> None:
    number = os.environ.pop(_LIFELINE, None)
    if number is None:
        return  # started by hand
    lifeline = int(number)
    os.set_inheritable(lifeline, False)
    if sys.platform == "linux":  # the kernel kills it even if native code blocks every thread
        import fcntl

        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_end_after, args=(lifeline,), daemon=True).start()


def _end_after(lifeline: int) -> NoReturn:
    os.read(lifeline, 1)  # nothing is ever written: it returns when the other end closes
    os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
