"""The exporter in a process of its own, so that its parent needs no torch and outlives its crashes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from vertebra.bundle import Card
from vertebra.engines import Subject
from vertebra.errors import MeasurementError, UnsuitableNetworkError

#: How long one export may say nothing.
TIMEOUT_S = 900.0


def compiler_cache() -> str:
    """Where torch's compiler keeps what it made, if nothing else is said."""
    return f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}"


class Exporter:
    """Exports one network after another in one child, started when first asked and ended with the block.

    A child that crashes or hangs is ended, and the next export starts another. What it leaves unfinished
    stays in `scratch`, where one is given; the compiler's cache doesn't.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S, *, scratch: Path | None = None) -> None:
        self._timeout_s, self._scratch = timeout_s, scratch
        self._child: subprocess.Popen[bytes] | None = None
        self._talk: IO[bytes] | None = None
        self._is_cancelled = False

    def __enter__(self) -> Exporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def export(
        self,
        subject: Subject,
        folder: Path,
        *,
        input_size: int,
        in_channels: int = 3,
        card: Card | None = None,
        engine: str = "onnxruntime",
        precision: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        """Write the Bundle of `subject` for `engine` into `folder`. Raises MeasurementError with the reason
        otherwise: UnsuitableNetworkError where no engine should run the network with these parameters."""
        job = _job(subject, str(folder), input_size, in_channels)
        job |= {"engine": engine, "precision": precision, "batch_size": batch_size}
        if card is not None:
            job["card"] = card.to_dict()
        self._do(job)

    def check(self, subject: Subject, *, input_size: int, in_channels: int = 3) -> None:
        """Run the network of `subject` once, for a case that needs no Bundle. Raises MeasurementError with
        the reason, UnsuitableNetworkError as `export` does."""
        self._do(_job(subject, None, input_size, in_channels))

    def cancel(self) -> None:
        """End the child and what it started, for good; may be called from another thread. The export under
        way raises MeasurementError, and so does every further one."""
        self._is_cancelled = True
        child = self._child
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def _do(self, job: dict[str, Any]) -> None:
        answer = self._ask(json.dumps(job).encode() + b"\n")
        if answer["error"] == UnsuitableNetworkError.__name__:
            raise UnsuitableNetworkError(str(answer["message"]), answer["hint"])
        if answer["error"] is not None:
            raise MeasurementError(f"export: {answer['message']}", answer["hint"])

    def _ask(self, line: bytes) -> dict[str, str | None]:
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        if self._is_cancelled:  # while it was being started
            child.kill()
        try:
            child.stdin.write(line)
            ready, _, _ = select.select([child.stdout], [], [], self._timeout_s)
            answer = child.stdout.readline() if ready else None
        except BrokenPipeError:
            answer = b""
        if not answer:
            what = "hung" if answer is None else "crashed"
            reason = f"export: {what}{self._last_words()}"
            self._end()
            raise MeasurementError(reason)
        told: dict[str, str | None] = json.loads(answer)
        return told

    def _start(self) -> subprocess.Popen[bytes]:
        # A file and not a pipe: nobody reads what torch says unless something goes wrong.
        self._talk = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = subprocess.Popen(
            [sys.executable, "-m", "vertebra.exporting"],
            bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._talk,
            start_new_session=True, env=self._environment(),
        )  # fmt: skip
        return self._child

    def _environment(self) -> dict[str, str] | None:
        if self._scratch is None:
            return None
        return {"TORCHINDUCTOR_CACHE_DIR": compiler_cache(), **os.environ, "TMPDIR": str(self._scratch)}

    def _last_words(self) -> str:
        assert self._talk is not None
        self._talk.seek(0)
        lines = self._talk.read().decode(errors="replace").strip().splitlines()
        return f'; its last line: "{lines[-1][:200]}"' if lines else ""

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            with self._child:
                pass  # closes the pipes and reaps it
        if self._talk is not None:
            self._talk.close()
        self._child = self._talk = None


def _job(subject: Subject, folder: str | None, input_size: int, in_channels: int) -> dict[str, Any]:
    """What a line on the child's stdin says."""
    return {
        "subject": json.loads(subject.to_json()),
        "folder": folder,
        "input_size": input_size,
        "in_channels": in_channels,
    }
