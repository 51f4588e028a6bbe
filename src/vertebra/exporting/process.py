"""The exporter in a process of its own, so that its parent needs no torch, outlives its crashes, and can be
interrupted at any instant: inside torch an interrupt is at times swallowed, or ends in another error."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from vertebra import bundle, errors
from vertebra.bundle import Bundle, Card
from vertebra.engines import Subject
from vertebra.errors import MeasurementError, UnsuitableNetworkError, VertebraError

if TYPE_CHECKING:
    from vertebra.exporting.quantisation import Calibration

#: How long one export may say nothing.
TIMEOUT_S = 900.0


def export(
    subject: Subject,
    folder: Path | str,
    *,
    input_size: int,
    card: Card,
    calibration: Calibration | None = None,
    **made: Any,
) -> Bundle:
    """What `exporting.export` does, in a process of its own, however long it takes. The `calibration` is one
    of `quantisation.asked`. Raises what that raises, and MeasurementError where the process crashes."""
    with _child_made(Path(folder)) as made_in, Exporter(timeout_s=None) as exporter:
        job = _job(subject, str(made_in), input_size, 3) | {"card": card.to_dict(), **made}
        if calibration is not None:
            job["calibration"] = dict(calibration.options)
        try:
            exporter.do(job)
        except _LostError as lost:
            raise MeasurementError(f"The export {lost.message}.") from lost
    return bundle.read(folder, verify=False)


@contextlib.contextmanager
def _child_made(folder: Path) -> Iterator[Path]:
    """Where a child is to make the Bundle that takes the place of `folder`: inside a draft of this process's,
    which goes with all that a killed child leaves."""
    with bundle.draft(folder) as draft:
        made = draft / "made"
        yield made
        for path in made.iterdir():
            path.rename(draft / path.name)
        made.rmdir()


class _LostError(MeasurementError):
    """A child that ended without an answer: its text says how."""


def compiler_cache() -> str:
    """Where torch's compiler keeps what it made, if nothing else is said."""
    return f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}"


class Exporter:
    """Exports one network after another in one child, started when first asked and ended with the block.

    A child that crashes or hangs is ended, and the next export starts another. Its scratch folder, made in
    `scratch` where one is given, ends with it; the compiler's cache doesn't.
    """

    def __init__(self, timeout_s: float | None = TIMEOUT_S, *, scratch: Path | None = None) -> None:
        self._timeout_s, self._parent_folder = timeout_s, scratch
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
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
        more: dict[str, Any] = {"engine": engine, "precision": precision, "batch_size": batch_size}
        if card is not None:
            more["card"] = card.to_dict()
        with _for_a_case(), _child_made(folder) as made_in:
            self.do(_job(subject, str(made_in), input_size, in_channels) | more)

    def check(self, subject: Subject, *, input_size: int, in_channels: int = 3) -> None:
        """Run the network of `subject` once, for a case that needs no Bundle. Raises MeasurementError with
        the reason, UnsuitableNetworkError as `export` does."""
        with _for_a_case():
            self.do(_job(subject, None, input_size, in_channels))

    def cancel(self) -> None:
        """End the child and what it started, for good; may be called from another thread. The export under
        way raises MeasurementError, and so does every further one."""
        self._is_cancelled = True
        if self._child is not None:
            _kill(self._child)

    def do(self, job: dict[str, Any]) -> None:
        """A job as the child's stdin takes it. Raises what the child met."""
        answer = self._ask(json.dumps(job).encode() + b"\n")
        if answer["error"] is not None:
            raise _error(answer)

    def _ask(self, line: bytes) -> dict[str, str | None]:
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        if self._is_cancelled:  # while it was being started
            _kill(child)
        try:
            child.stdin.write(line)
            ready, _, _ = select.select([child.stdout], [], [], self._timeout_s)
            answer = child.stdout.readline() if ready else None
        except BrokenPipeError:
            answer = b""
        except BaseException:  # interrupted, as by Ctrl-C: nobody will wait for the answer
            self._end()
            raise
        if not answer:
            what = "hung" if answer is None else "crashed"
            reason = f"{what}{self._last_words()}"
            self._end()
            raise _LostError(reason)
        told: dict[str, str | None] = json.loads(answer)
        return told

    def _start(self) -> subprocess.Popen[bytes]:
        # A file and not a pipe: nobody reads what torch says unless something goes wrong.
        self._talk = tempfile.TemporaryFile()  # noqa: SIM115
        self._scratch = tempfile.TemporaryDirectory(
            prefix="vertebra-", dir=self._parent_folder, ignore_cleanup_errors=True
        )
        own = {"TORCHINDUCTOR_CACHE_DIR": compiler_cache(), **os.environ, "TMPDIR": self._scratch.name}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "vertebra.exporting"],
            bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._talk,
            start_new_session=True, env=own,
        )  # fmt: skip
        return self._child

    def _last_words(self) -> str:
        assert self._talk is not None
        self._talk.seek(0)
        lines = self._talk.read().decode(errors="replace").strip().splitlines()
        return f'; its last line: "{lines[-1][:200]}"' if lines else ""

    def _end(self) -> None:
        if self._child is not None:
            _kill(self._child)
            with self._child:
                pass  # closes the pipes and reaps it
        for left in (self._talk, self._scratch):
            if left is not None:
                left.__exit__(None, None, None)
        self._child = self._talk = self._scratch = None


def _kill(child: subprocess.Popen[bytes]) -> None:
    """With what it started: until it is reaped it keeps its number, so the signal meets no other group."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of the dead only
            os.killpg(child.pid, signal.SIGKILL)


def _error(answer: Mapping[str, str | None]) -> VertebraError:
    """What a child met, as it was raised there; what isn't ours, by its name."""
    kind = getattr(errors, str(answer["error"]), None)
    if kind is None:
        return MeasurementError(f"{answer['error']}: {answer['message']}")
    error: VertebraError = kind(str(answer["message"]), answer["hint"])
    return error


@contextlib.contextmanager
def _for_a_case() -> Iterator[None]:
    """Whatever stands in the way of an export is a case's failure."""
    try:
        yield
    except UnsuitableNetworkError:
        raise
    except VertebraError as error:
        raise MeasurementError(f"export: {error.message}", error.hint) from error


def _job(subject: Subject, folder: str | None, input_size: int, in_channels: int) -> dict[str, Any]:
    """What a line on the child's stdin says."""
    return {
        "subject": json.loads(subject.to_json()),
        "folder": folder,
        "input_size": input_size,
        "in_channels": in_channels,
    }
