"""The exporter in a separate process, so that its parent needs no torch, survives its crashes, and can be
interrupted at any time: torch sometimes swallows an interrupt, or turns it into another error."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vertebra import bundles, errors
from vertebra.bundles import Bundle, Card
from vertebra.engines import Subject
from vertebra.errors import MeasurementError, OutOfTimeError, UnsuitableNetworkError, VertebraError
from vertebra.machine import leftovers
from vertebra.machine.processes import Child, HungError, LostError

if TYPE_CHECKING:
    from vertebra.exporting.quantisation import Calibration

#: An export without an answer for longer than this has hung.
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
    """`exporting.export` in a separate process, however long it takes. The `calibration` is one that
    `quantisation.asked` returned. Raises the same, and MeasurementError if the process crashes."""
    with _child_made(Path(folder)) as made_in, Exporter(timeout_s=None) as exporter:
        job = _job(subject, str(made_in), input_size, 3) | {"card": card.to_dict(), **made}
        if calibration is not None:
            job["calibration"] = dict(calibration.options)
        try:
            exporter.do(job)
        except _LostError as lost:
            raise MeasurementError(f"The export {lost.message}.") from lost
    return bundles.read(folder, verify=False)


@contextlib.contextmanager
def _child_made(folder: Path) -> Iterator[Path]:
    """Where a child must write the Bundle that replaces `folder`: inside a draft of this process, which is
    deleted with all that a killed child leaves."""
    with bundles.draft(folder) as draft:
        made = draft / "made"
        yield made
        for path in made.iterdir():
            path.rename(draft / path.name)
        made.rmdir()


class _LostError(MeasurementError):
    """A child that ended without an answer; the message says how."""


def compiler_cache() -> str:
    """The folder in which torch's compiler keeps its results, unless the environment names another."""
    return f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}"


class Exporter:
    """Exports one network after another in one child, started at the first export and ended with the block.

    A child that crashes or hangs is ended, and the next export starts another. Its scratch folder, inside
    `scratch` if given, is deleted with it; the compiler's cache isn't. At `end` (of `clock`) the current
    export is stopped, and one isn't begun that couldn't be finished by then, if it takes as long as the one
    before it: OutOfTimeError.
    """

    def __init__(
        self,
        timeout_s: float | None = TIMEOUT_S,
        *,
        scratch: Path | None = None,
        end: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s, self._scratch, self._end_s, self._clock = timeout_s, scratch, end, clock
        self._took_s = 0.0
        self._child: Child | None = None
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
        drawn: bool = False,
        features: bool = False,
    ) -> None:
        """Write the Bundle of `subject` for `engine` into `folder`. If that fails, raises MeasurementError
        with the reason: UnsuitableNetworkError if no engine should run the network with these parameters."""
        more: dict[str, Any] = {"engine": engine, "precision": precision, "batch_size": batch_size}
        more |= {"drawn": drawn, "features": features}
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
        """End the child and what it started, for good; may be called from another thread. The current export
        raises MeasurementError, and so does every later one."""
        self._is_cancelled = True
        if self._child is not None:
            self._child.cancel()

    def do(self, job: dict[str, Any]) -> None:
        """Run a job as the child's stdin takes it. Raises the child's error."""
        answer = self._ask(job)
        if answer["error"] is not None:
            raise _error(answer)

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._left_s() <= self._took_s:
            raise OutOfTimeError("the time was up before the export")
        child = self._child or self._start()
        if self._is_cancelled:  # while it was being started
            child.cancel()
        began = self._clock()
        timeout_s = min(math.inf if self._timeout_s is None else self._timeout_s, self._left_s())
        try:
            answer = child.ask(job, None if timeout_s == math.inf else max(timeout_s, 0.0))
            self._took_s = self._clock() - began
            return answer
        except LostError as lost:
            if self._left_s() <= 0:
                self._end()
                raise OutOfTimeError("the time was up during the export") from lost
            reason = f"{'hung' if isinstance(lost, HungError) else 'crashed'}{child.last_words()}"
            self._end()
            raise _LostError(reason) from lost
        except BaseException:  # interrupted, as by Ctrl-C: the answer won't be read
            self._end()
            raise

    def _left_s(self) -> float:
        """Seconds until the end of all."""
        return math.inf if self._end_s is None else self._end_s - self._clock()

    def _start(self) -> Child:
        leftovers.sweep(Path(tempfile.gettempdir()))
        self._child = Child(
            [sys.executable, "-m", "vertebra.exporting"],
            env={"TORCHINDUCTOR_CACHE_DIR": compiler_cache(), **os.environ},
            scratch=self._scratch or Path(tempfile.gettempdir()),
        )
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None


def _error(answer: Mapping[str, str | None]) -> VertebraError:
    """The child's error, with its own type if it is vertebra's, else by its name."""
    kind = getattr(errors, str(answer["error"]), None)
    if kind is None:
        return MeasurementError(f"{answer['error']}: {answer['message']}")
    error: VertebraError = kind(str(answer["message"]), answer["hint"])
    return error


@contextlib.contextmanager
def _for_a_case() -> Iterator[None]:
    """Any error of an export becomes a case's failure."""
    try:
        yield
    except (UnsuitableNetworkError, OutOfTimeError):
        raise
    except VertebraError as error:
        raise MeasurementError(f"export: {error.message}", error.hint) from error


def _job(subject: Subject, folder: str | None, input_size: int, in_channels: int) -> dict[str, Any]:
    """The content of a line on the child's stdin."""
    return {
        "subject": json.loads(subject.to_json()),
        "folder": folder,
        "input_size": input_size,
        "in_channels": in_channels,
    }
