"""The server's side of the processes that hold an engine: each has a thread here, which hands it batches,
waits for its answers, and replaces it when it crashes, hangs or answers its canary wrongly."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertebra.errors import MeasurementError, VertebraError
from vertebra.inference.serving import logs
from vertebra.inference.serving.batching import Item, Outcome
from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.worker import Slab, aligned
from vertebra.machine import leftovers, processes
from vertebra.machine.processes import Child, LostError

_COMMAND = (sys.executable, "-P", "-m", "vertebra.inference.serving.worker")
#: OpenMP's threads sleep while they wait, unless the user's environment says otherwise: those of ncnn would
#: take the cores from all others
_SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE"}
#: Seconds that a process may take to load its network.
_LOAD_S = 300.0
#: Seconds before a process that was lost again and again is replaced.
_PAUSES_S = (0.0, 0.1, 0.5, 1.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class Post:
    """What a process is asked to hold, and how long it may be silent. A free one is checked every
    `canary_s`."""

    bundle: Path
    engine: str
    threads: int
    most_images: int
    input_bytes: int
    num_classes: int
    max_pixels: int
    hang_s: float
    canary_s: float

    @property
    def slab(self) -> Slab:
        return Slab(self.most_images, self.input_bytes, self.num_classes)


@dataclass(frozen=True)
class _Job:
    """A batch in one half of a process's memory, and what it is sent."""

    batch: Sequence[Item]
    half: int
    memory: mmap.mmap | None
    request: dict[str, Any]


class Worker:
    """One place for a process. Events arrive on the event loop: `joined` when a process is ready for batches,
    `left` with the reason when it was lost, and `finished` with the outcome of each batch."""

    def __init__(
        self,
        post: Post,
        *,
        joined: Callable[[Worker], None],
        left: Callable[[Worker, str], None],
        finished: Callable[[Worker, Outcome], None],
    ) -> None:
        self._post, self._joined, self._left, self._finished = post, joined, left, finished
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ended, self._pause = threading.Event(), threading.Event()
        self._child: Child | None = None
        self._memory: mmap.mmap | None = None
        self._thread = threading.Thread(target=self._work, name="vertebra-worker", daemon=True)
        self._started: asyncio.Future[None] = self._loop.create_future()
        self.pid: int | None = None
        self._was_ready = self._was_useful = False

    async def start(self) -> None:
        """Returns when the first process is ready. Raises VertebraError if it can't be made ready."""
        self._thread.start()
        await self._started

    def run(self, batch: Sequence[Item]) -> None:
        """Part of `batching.Runner`. The images are written here, while the process works on others."""
        half, memory = batch[0].slot // self._post.most_images, self._memory
        request: dict[str, Any] = {"half": half}
        if memory is not None:
            try:
                request["run"] = self._written(memory, half, batch)
            except Exception as error:
                if memory.closed:  # the process was lost
                    memory = None
                else:
                    request["fault"] = repr(error)
        self._jobs.put(_Job(batch, half, memory, request))

    def skip(self, slot: int) -> None:
        """Part of `batching.Runner`."""
        if self._memory is not None:
            with contextlib.suppress(ValueError):  # closed: the process was lost
                self._memory[slot] = 1

    async def end(self) -> None:
        """End the process, whatever it does."""
        self._ended.set()
        self._pause.set()
        self._jobs.put(None)
        if (child := self._child) is not None:
            child.cancel()
        self._started.cancel()  # no effect on one that is done
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    # -------------------------------------------------------------- in the thread

    def _work(self) -> None:
        lost = 0
        while not self._ended.is_set():
            try:
                self._live()
                reason = "it was ended"
            except Exception as error:
                told = (
                    error if isinstance(error, VertebraError) else MeasurementError(f"It failed: {error!r}")
                )
                reason = told.message
                if not self._was_ready:
                    self._tell(self._fail, told)
                    return
            if self._ended.is_set():
                return
            self._give_back(reason)
            lost = 0 if self._was_useful else lost + 1
            self._tell(self._left, self, reason)
            self._pause.wait(_PAUSES_S[min(lost, len(_PAUSES_S) - 1)])

    def _give_back(self, reason: str) -> None:
        """Batches that came while the process was lost, or that it hadn't begun."""
        with contextlib.suppress(queue.Empty):
            while self._jobs.get_nowait() is not None:
                self._tell(self._finished, self, Outcome(lost=reason, begun=False))

    def _fail(self, error: VertebraError) -> None:
        if not self._started.done():
            self._started.set_exception(error)

    def _begin(self) -> None:
        if not self._started.done():
            self._started.set_result(None)
        if not self._ended.is_set():
            self._joined(self)

    def _live(self) -> None:
        """Start a process and serve it until it is lost, which raises LostError, or until the end."""
        self._was_useful = False
        environment = {**_SLEEPING, **os.environ, "PYTHONPATH": processes.import_path()}
        with _shared(self._post.slab) as (memory, path), Child(_COMMAND, env=environment) as child:
            self._memory, self._child, self.pid = memory, child, child.pid
            try:
                self._load(child, path)
                self._was_ready = True
                self._tell(self._begin)
                self._serve(child, memory)
            finally:
                self._memory = self._child = self.pid = None

    def _load(self, child: Child, path: Path) -> None:
        if self._ended.is_set():
            child.cancel()
        post = self._post
        answer = child.ask(
            {
                "load": {
                    "bundle": str(post.bundle), "engine": post.engine, "threads": post.threads,
                    "max_pixels": post.max_pixels, "memory": str(path),
                    "slab": {
                        "most_images": post.most_images, "input_bytes": post.input_bytes,
                        "num_classes": post.num_classes,
                    },
                }
            },
            _LOAD_S,
        )  # fmt: skip
        if "error" in answer:
            raise MeasurementError(answer["error"], answer.get("hint"))

    def _serve(self, child: Child, memory: mmap.mmap) -> None:
        job: _Job | None = None
        while True:
            if job is None:
                try:
                    job = self._jobs.get(timeout=self._post.canary_s)
                except queue.Empty:
                    self._check(child)
                    continue
                if job is None:
                    return
                if not self._sent(child, memory, job):
                    job = None
                    continue
            try:
                answer = child.receive(self._post.hang_s)
            except Exception as error:
                self._tell(self._finished, self, Outcome(lost=str(error) or repr(error)))
                raise
            following = self._next(child, memory)  # first: the process waits
            self._was_useful = True
            try:
                outcome = self._outcome(memory, job, answer)
            except Exception as error:
                self._tell(self._finished, self, Outcome(lost=repr(error)))
                if following is not None:
                    self._tell(self._finished, self, Outcome(lost=repr(error), begun=False))
                raise
            self._tell(self._finished, self, outcome)
            job = following

    def _next(self, child: Child, memory: mmap.mmap) -> _Job | None:
        """The batch that waits, which is sent."""
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return None
        if job is None:  # the end, for whoever waits for it
            self._jobs.put(None)
            return None
        return job if self._sent(child, memory, job) else None

    def _sent(self, child: Child, memory: mmap.mmap, job: _Job) -> bool:
        """Whether the job was sent; one that was written into an earlier process's memory is given back."""
        if job.memory is not memory:
            self._tell(self._finished, self, Outcome(lost="the process was replaced", begun=False))
            self._tell(self._joined, self)
            return False
        if "fault" in job.request:
            logs.event("images can't be passed on", level="error", reason=job.request["fault"])
            why = Refusal("internal", "internal error; the server's log says more")
            self._tell(self._finished, self, Outcome(errors=dict.fromkeys(range(len(job.batch)), why)))
            return False
        child.send(job.request)
        return True

    def _check(self, child: Child) -> None:
        answer = child.ask({"canary": True}, self._post.hang_s)
        fault = answer.get("fault") or answer.get("error")
        if fault:
            raise LostError(f"its canary failed: {fault}")

    def _outcome(self, memory: mmap.mmap, job: _Job, answer: dict[str, Any]) -> Outcome:
        if "error" in answer:
            why = Refusal("internal", str(answer["error"]))
            return Outcome(errors=dict.fromkeys(range(len(job.batch)), why))
        found = self._post.slab.answers(memory)[job.half, :, : len(job.batch)].copy()
        return Outcome(
            found[0], found[1],
            errors={int(place): Refusal(*told) for place, told in answer["errors"].items()},
            ran=answer["ran"], input_ns=answer["input_ns"], infer_ns=answer["infer_ns"],
        )  # fmt: skip

    def _written(self, memory: mmap.mmap, half: int, batch: Sequence[Item]) -> list[list[Any]]:
        """The images in one half of the shared memory; where each is."""
        slab = self._post.slab
        flags, inputs = slab.flags(half), slab.inputs(half)
        memory[flags : flags + len(batch)] = bytes(len(batch))
        rows: list[list[Any]] = []
        place = 0
        for item in batch:
            content, begin = item.row.content, inputs + place
            memory[begin : begin + len(content)] = content
            rows.append([item.row.kind, place, len(content), item.row.shape])
            place += aligned(len(content))
        return rows

    def _tell(self, event: Callable[..., None], *arguments: Any) -> bool:
        """Call `event` on the event loop, unless that has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(event, *arguments)
            return True
        return False


@contextmanager
def _shared(slab: Slab) -> Iterator[tuple[mmap.mmap, Path]]:
    """Memory that a child of this user can open by a path. Pages that were never written take no room."""
    if sys.platform == "linux":
        # Memory without a mount: /dev/shm may be small, and a write beyond its end kills the writer.
        number = os.memfd_create("vertebra")
        path = Path(f"/proc/{os.getpid()}/fd/{number}")
    else:
        number, name = tempfile.mkstemp(prefix=leftovers.prefix())
        path = Path(name)
    try:
        with open(number, "r+b", buffering=0) as file:
            file.truncate(slab.size)
            memory = mmap.mmap(file.fileno(), slab.size)
            try:
                yield memory, path
            finally:
                with contextlib.suppress(BufferError):  # an error's traceback has a view of it
                    memory.close()
    finally:
        if sys.platform != "linux":
            path.unlink(missing_ok=True)
