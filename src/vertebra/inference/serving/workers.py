"""The server's side of the processes that hold an engine: the event loop hands each its batches and hears its
answers; a thread replaces it when it crashes, hangs or answers its canary wrongly."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import queue
import sys
import tempfile
import threading
from collections import deque
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
#: Seconds for a process that has ended to be found dead.
_DEATH_S = 5.0
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


class _Talk:
    """What the event loop says to a process that is ready, and hears from it: batches, answered one after the
    other in the order in which they were sent, and a canary when it is free.

    A batch is sent while the one before it runs, so that the process never waits. `finished` gets each
    batch's outcome. `over` is called once at the end: with the reason, or without one where the process has
    ended by itself. What `unanswered` names is lost then.
    """

    def __init__(
        self,
        post: Post,
        child: Child,
        memory: mmap.mmap,
        *,
        finished: Callable[[Outcome], None],
        over: Callable[[str | None], None],
    ) -> None:
        self._post, self._child, self._memory = post, child, memory
        self._finished, self._over = finished, over
        self._loop = asyncio.get_running_loop()
        self._sent: deque[_Sent | None] = deque()  # None: a canary
        self._timer: asyncio.TimerHandle | None = None
        self._is_over, self.was_useful = False, False
        self._loop.add_reader(child.fileno(), self._hear)
        self._wait()

    def run(self, batch: Sequence[Item]) -> None:
        """Write the images, while the process works on others, and send where they are."""
        half = batch[0].slot // self._post.most_images
        try:
            rows = self._written(half, batch)
        except Exception as error:
            logs.event("images can't be passed on", level="error", reason=repr(error))
            why = Refusal("internal", "internal error; the server's log says more")
            outcome = Outcome(errors=dict.fromkeys(range(len(batch)), why))
            self._sent.append(_Sent(half, len(batch), outcome))
            self._loop.call_soon(self._answer_unsent)
            return
        self._sent.append(_Sent(half, len(batch)))
        self._child.send({"half": half, "run": rows})
        if len(self._sent) == 1:
            self._wait()

    def skip(self, slot: int) -> None:
        """The image in this slot isn't needed any more."""
        self._memory[slot] = 1

    @property
    def unanswered(self) -> list[bool]:
        """The batches that weren't answered, in their order: whether each may have been begun."""
        return [not place for place, one in enumerate(self._sent) if one is not None]

    def end(self, reason: str | None) -> None:
        """Say no more, and hear no more."""
        if self._is_over:
            return
        self._is_over = True
        self._loop.remove_reader(self._child.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._over(reason)

    def _wait(self) -> None:
        """For the next answer; where none is expected, for the time of a canary."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sent:
            self._timer = self._loop.call_later(self._post.hang_s, self._hang)
        else:
            self._timer = self._loop.call_later(self._post.canary_s, self._ask_canary)

    def _hang(self) -> None:
        self.end(f"hung for {self._post.hang_s:g} s{self._child.last_words()}")

    def _ask_canary(self) -> None:
        self._sent.append(None)
        self._child.send({"canary": True})
        self._wait()

    def _hear(self) -> None:
        try:
            for answer in self._child.heard():
                self._take(answer)
        except Exception as error:
            self.end(str(error) or repr(error))
            return
        if self._child.is_over:
            self.end(None)

    def _take(self, answer: dict[str, Any]) -> None:
        if not self._sent:
            raise LostError("it answered what it wasn't asked")
        sent, outcome = self._sent[0], None
        if sent is not None:
            outcome = self._outcome(sent, answer)
            self.was_useful = True
        elif fault := answer.get("fault") or answer.get("error"):
            raise LostError(f"its canary failed: {fault}")
        self._sent.popleft()
        self._wait()
        if outcome is not None:
            self._finished(outcome)
        self._answer_unsent()

    def _answer_unsent(self) -> None:
        """What couldn't be sent is answered in its turn."""
        while self._sent and (sent := self._sent[0]) is not None and sent.outcome is not None:
            self._sent.popleft()
            self._wait()
            self._finished(sent.outcome)

    def _outcome(self, sent: _Sent, answer: dict[str, Any]) -> Outcome:
        if "error" in answer:
            why = Refusal("internal", str(answer["error"]))
            return Outcome(errors=dict.fromkeys(range(sent.images), why))
        found = self._post.slab.answers(self._memory)[sent.half, :, : sent.images].copy()
        return Outcome(
            found[0], found[1],
            errors={int(place): Refusal(*told) for place, told in answer["errors"].items()},
            ran=answer["ran"], input_ns=answer["input_ns"], infer_ns=answer["infer_ns"],
        )  # fmt: skip

    def _written(self, half: int, batch: Sequence[Item]) -> list[list[Any]]:
        """The images in one half of the shared memory; where each is."""
        slab, memory = self._post.slab, self._memory
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


@dataclass(frozen=True)
class _Sent:
    """A batch that was sent: the half of the memory that it is in, and how many images; or its outcome,
    where it couldn't be sent."""

    half: int
    images: int
    outcome: Outcome | None = None


class Worker:
    """One place for a process. Events arrive on the event loop: `joined` when a process is ready for batches,
    `left` with the reason when it was lost, and `finished` with the outcome of each batch.

    Its thread starts and ends processes, which takes time; the event loop itself talks to the one that is
    ready (`_Talk`), since a thread between them would wait for the interpreter's lock at each batch.
    """

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
        self._ended, self._pause = threading.Event(), threading.Event()
        self._over: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._child: Child | None = None
        self._talk: _Talk | None = None
        self._thread = threading.Thread(target=self._work, name="vertebra-worker", daemon=True)
        self._started: asyncio.Future[None] = self._loop.create_future()
        self.pid: int | None = None
        self._was_ready = self._was_useful = False
        self._unanswered: list[bool] = []

    async def start(self) -> None:
        """Returns when the first process is ready. Raises VertebraError if it can't be made ready."""
        self._thread.start()
        await self._started

    def run(self, batch: Sequence[Item]) -> None:
        """Part of `batching.Runner`."""
        if self._talk is None:
            self._loop.call_soon(self._finished, self, Outcome(lost="the process was replaced", begun=False))
        else:
            self._talk.run(batch)

    def skip(self, slot: int) -> None:
        """Part of `batching.Runner`."""
        if self._talk is not None:
            self._talk.skip(slot)

    async def end(self) -> None:
        """End the process, whatever it does."""
        self._ended.set()
        self._pause.set()
        if self._talk is not None:
            self._talk.end("the server is being stopped")
        if (child := self._child) is not None:
            child.cancel()
        self._started.cancel()  # no effect on one that is done
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _begin(self, child: Child, memory: mmap.mmap) -> None:
        """A process is ready."""
        if self._ended.is_set():
            self._over.put("it was ended")
            return
        self._talk = _Talk(
            self._post, child, memory, finished=lambda outcome: self._finished(self, outcome), over=self._lose
        )
        if not self._started.done():
            self._started.set_result(None)
        self._joined(self)

    def _lose(self, reason: str | None) -> None:
        """It says no more."""
        assert self._talk is not None
        self._was_useful, self._unanswered, self._talk = self._talk.was_useful, self._talk.unanswered, None
        self._over.put(reason)

    def _leave(self, reason: str) -> None:
        """The process was lost, and how is known."""
        for begun in self._unanswered:
            self._finished(self, Outcome(lost=reason, begun=begun))
        self._unanswered = []
        self._left(self, reason)

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
            lost = 0 if self._was_useful else lost + 1
            self._tell(self._leave, reason)
            self._pause.wait(_PAUSES_S[min(lost, len(_PAUSES_S) - 1)])

    def _fail(self, error: VertebraError) -> None:
        if not self._started.done():
            self._started.set_exception(error)

    def _live(self) -> None:
        """Start a process and wait until the event loop has done with it. Raises LostError if it was lost."""
        self._was_useful = False
        environment = {**_SLEEPING, **os.environ, "PYTHONPATH": processes.import_path()}
        with _shared(self._post.slab) as (memory, path), Child(_COMMAND, env=environment) as child:
            self._child, self.pid = child, child.pid
            try:
                self._load(child, path)
                self._was_ready = True
                if not self._tell(self._begin, child, memory):
                    return
                reason = self._over.get()
                if reason is None:
                    child.receive(_DEATH_S)  # which says how it ended
                raise LostError(reason or "it said something more")
            finally:
                self._child = self.pid = None

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
