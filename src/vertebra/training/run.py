"""A run's folder while it is written, and what a run comes to."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vertebra.bundles import runs
from vertebra.errors import InvalidInputError, MeasurementError, OutOfTimeError
from vertebra.machine import files, leftovers

if TYPE_CHECKING:
    from torch import Tensor

    from vertebra.measuring.evaluation import Evaluation
    from vertebra.training.job import Job

#: What ends a run: all epochs, no progress for as long as the recipe says, a signal.
FINISHED, STALLED, INTERRUPTED = "finished", "stopped early", "interrupted"


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a training ended: after `step` steps, in which `status`. `best` describes the weights in
    model.safetensors: their epoch, "raw" or "averaged", top-1 and the counts that it is of; None where no
    epoch ended. `evaluation` is the best epoch's, where it was in this process; `images_per_s` is of the
    steps since this process began, of all processes together, None where there were none."""

    folder: Path
    status: str
    step: int
    epochs: int
    seconds: float
    waited: float
    best: Mapping[str, Any] | None
    evaluation: Evaluation | None = None
    images_per_s: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to do."""
        return self.status != INTERRUPTED

    @property
    def again(self) -> str:
        """The command that goes on."""
        return f"vertebra train --resume {self.folder}"


class Folder:
    """The folder of a run under way; only the first process has one that writes."""

    def __init__(self, place: Path, *, writes: bool) -> None:
        self.place, self._writes = place, writes
        self._log: IO[bytes] | None = None
        self.kept_step: int | None = None

    # -------------------------------------------------------------- the log

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a line; its values but those under "times" depend on nothing but the job."""
        if self._writes:
            with self.keeping():
                assert self._log is not None
                self._log.write(json.dumps(line, allow_nan=False).encode() + b"\n")
                self._log.flush()

    def open_log(self, size: int) -> None:
        """Continue the log after its first `size` bytes: later lines will come again."""
        if self._writes:
            with self.keeping():
                self._log = open(self.place / runs.LOG, "ab")  # noqa: SIM115
                self._log.truncate(size)

    def settle_log(self) -> int:
        """Make the log durable; its size in bytes."""
        if self._log is None:
            return 0
        with self.keeping():
            os.fsync(self._log.fileno())
            return os.fstat(self._log.fileno()).st_size

    # -------------------------------------------------------------- files

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint."""
        if self._writes:
            from vertebra.training import checkpoints

            with self.keeping():
                checkpoints.save(self.place / runs.CHECKPOINT, state)
        self.kept_step = int(state["step"])

    def weights(self, name: str, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Write weights with what is needed to use them, as `zoo.facts` reads it."""
        if self._writes:
            from safetensors.torch import save

            whole = {key: value.detach().cpu().contiguous() for key, value in state.items()}
            with self.keeping():
                files.write_whole(self.place / name, save(whole, {"vertebra": json.dumps(about)}))

    def record(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        self.write(name, (json.dumps(value, indent=2) + "\n").encode())

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        if self._writes:
            with self.keeping():
                files.write_whole(self.place / name, content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._writes:
            (self.place / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Say, where the disk refuses to write, what is safe and how to go on."""
        try:
            yield
        except (OSError, InvalidInputError) as error:
            reason = error.message if isinstance(error, InvalidInputError) else (error.strerror or str(error))
            cause = error if isinstance(error, OSError) else error.__cause__
            is_full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
            first = "free some space" if is_full else "make the folder writable again"
            if self.kept_step is None:
                safe, hint = "no checkpoint was written yet", f"{first}, then start again"
            else:
                safe = f"the checkpoint of step {self.kept_step:,} is whole"
                hint = f"{first}, then: vertebra train --resume {self.place}"
            raise MeasurementError(
                f"The run in {self.place} can't be written: {reason.rstrip('.')}; {safe}.", hint
            ) from error

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None


@contextlib.contextmanager
def opened(job: Job, *, is_first: bool) -> Iterator[Folder]:
    """The job's folder, for one process at a time.

    Raises InvalidInputError where it can't be written, holds another run already, or holds none to resume.
    """
    if not is_first:
        yield Folder(job.folder, writes=False)
        return
    check(job.folder, resume=job.resume)
    try:
        _make(job.folder)
        held = files.sole_use(job.folder / "run", patience_s=0.0)
        with held:
            leftovers.sweep(job.folder)
            folder = Folder(job.folder, writes=True)
            try:
                yield folder
            finally:
                folder.close()
    except OutOfTimeError as error:
        raise InvalidInputError(
            f"Another process trains in {job.folder}.", "wait for it, or choose another folder: --output"
        ) from error


def _make(folder: Path) -> None:
    try:
        files.make_folder(folder)
    except OSError as error:
        raise InvalidInputError(
            f"Can't make the folder {folder}: {error.strerror or error}.", "choose another with --output"
        ) from error


def _check_writable(folder: Path, *, resume: bool) -> None:
    """Raise InvalidInputError unless files can be written in `folder`; what that makes is removed again."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        _make(folder)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"0")
    except OSError as error:
        raise InvalidInputError(
            f"The folder {folder} can't be written: {error.strerror or error}.",
            "a run continues where it is: make it writable" if resume else "choose another with --output",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # where another process has begun to use them
            for place in made:
                place.rmdir()


def check(folder: Path, *, resume: bool) -> None:
    """Raise InvalidInputError unless a run can begin in `folder`, or be resumed from it."""
    if resume:
        runs.read(folder)
        _check_writable(folder, resume=True)
        return
    if runs.is_run(folder):
        raise InvalidInputError(
            f"{folder} already holds a run.",
            f"continue it with --resume {folder}, or choose another folder: --output",
        )
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file.", "choose a folder: --output")
    strange = [] if not folder.exists() else [one for one in folder.iterdir() if not _is_ours(one.name)]
    if strange:
        raise InvalidInputError(
            f"{folder} isn't empty: it holds {strange[0].name}.", "choose another folder: --output"
        )
    _check_writable(folder, resume=False)


def _is_ours(name: str) -> bool:
    """Whether a process that was killed before its run had begun may have left it."""
    return name == "run.lock" or name.startswith(".run.json.")
