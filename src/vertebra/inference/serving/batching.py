"""Requests that wait, and the batches made of them: by images, never more than the engine takes at a time.

Everything here runs on one event loop. A request is a ticket; each of its images is an item of its own, so
that large requests are divided and small ones share a batch. A ticket ends exactly once: answered, refused,
late, or given up by its client; items of an ended ticket are never run, or skipped where they are running.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.tensors import Row

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

#: how often the images of a lost batch are tried: the second time each on its own
_TRIES = 2


@dataclass(frozen=True, slots=True)
class Stages:
    """Where a request's time went, in nanoseconds; `total_ns` is their sum."""

    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int

    @property
    def total_ns(self) -> int:
        return self.queue_ns + self.input_ns + self.infer_ns + self.output_ns


@dataclass(frozen=True, slots=True)
class Answer:
    """Probabilities and logits (N, C) of a request's images."""

    probabilities: Array
    logits: Array
    stages: Stages


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a runner made of a batch. `lost`: why it gave nothing at all, and `begun` whether it may be the
    batch's fault. `errors`: place in the batch -> why that image has no answer. `ran`: the images that the
    engine was given."""

    probabilities: Array | None = None
    logits: Array | None = None
    errors: Mapping[int, Refusal] = field(default_factory=dict)
    lost: str | None = None
    begun: bool = True
    ran: int = 0
    input_ns: int = 0
    infer_ns: int = 0


class Runner(Protocol):
    """What runs batches, one after the other, and hands each outcome to `Batcher.finished`, in order."""

    def run(self, batch: Sequence[Item]) -> None:
        """Run it, after the batch that runs."""

    def skip(self, slot: int) -> None:
        """The image in this slot isn't needed any more."""


@dataclass(eq=False, slots=True)
class Item:
    """One image of a request. A runner's slots are 0 to `most_images` less one for one batch, and those after
    them for a batch that waits behind it."""

    ticket: Ticket
    place: int
    row: Row
    tries: int = 0
    alone: bool = False
    runner: Runner | None = None
    slot: int = 0


@dataclass(eq=False, slots=True)
class Ticket:
    """One request: `future` gets its Answer or its Refusal."""

    future: asyncio.Future[Answer]
    arrived_ns: int
    items: list[Item] = field(default_factory=list)
    answers: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        return self.future.done()


@dataclass(eq=False, slots=True)
class _Batch:
    """What a runner has: the images, the first one's slot, and since when it runs."""

    items: list[Item]
    first_slot: int
    began_ns: int


class Batcher:
    """The queue of one model and its runners.

    A batch begins as soon as a runner is free and there are `most_images` waiting, or the first has waited
    for `delay_s`. With `ahead` a runner that is busy gets its next batch already, if there are enough images
    for a full one for each runner, so that it never waits between two. `queue_images` may wait, of
    `queue_bytes` together, or one request that is larger; `ran` is called with (images, input_ns, infer_ns,
    output_ns) of every call of the engine.
    """

    def __init__(
        self,
        *,
        most_images: int,
        most_bytes: int,
        delay_s: float,
        queue_images: int,
        queue_bytes: float = math.inf,
        ahead: bool = False,
        ran: Callable[[int, int, int, int], None],
    ) -> None:
        self._most_images, self._most_bytes, self._delay_s = most_images, most_bytes, delay_s
        self._queue_images, self._queue_bytes, self._ahead, self._ran = queue_images, queue_bytes, ahead, ran
        self._waiting: OrderedDict[Item, int] = OrderedDict()  # -> when it came
        self._waiting_bytes = 0
        self._free: dict[Runner, None] = {}
        self._running: dict[Runner, list[_Batch]] = {}
        self._lost: set[Runner] = set()  # until they join again
        self._tickets: set[Ticket] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._image_s = 0.05

    # -------------------------------------------------------------- requests

    @property
    def waiting(self) -> int:
        """Images in the queue, and those that a runner has for later and that are still needed."""
        later = (item for every in self._running.values() for one in every[1:] for item in one.items)
        return len(self._waiting) + sum(not item.ticket.is_over for item in later)

    @property
    def running(self) -> int:
        """Images that an engine has."""
        return sum(len(every[0].items) for every in self._running.values())

    def check_room(self, images: int = 1, size_bytes: int = 1) -> None:
        """Raises Refusal if the queue has no room for so many images of `size_bytes` together."""
        waiting, held = self.waiting, self._waiting_bytes
        if waiting + images > self._queue_images:
            full = f"{waiting} images wait, {self._queue_images} may"
        elif held and held + size_bytes > self._queue_bytes:
            full = f"{waiting} images of {held:,} bytes wait, {self._queue_bytes:,} bytes may"
        else:
            return
        retry_s = max(1, math.ceil(waiting * self._image_s))
        raise Refusal("full", f"the queue is full: {full}", retry_s=retry_s)

    async def answer(
        self,
        rows: Sequence[Row],
        timeout_s: float,
        arrived_ns: int,
        gone: asyncio.Future[Any] | None = None,
    ) -> Answer:
        """The answer for a request's images. Raises Refusal: full, late, a picture that can't be read, ...
        If the caller is cancelled or `gone` is done, since the client has left, so is the request."""
        self.check_room(len(rows), sum(len(row.content) for row in rows))
        now = time.monotonic_ns()
        left_s = timeout_s - (now - arrived_ns) / 1e9
        if left_s <= 0:
            raise _late(timeout_s)
        loop = asyncio.get_running_loop()
        ticket = Ticket(loop.create_future(), arrived_ns)
        ticket.items = [Item(ticket, place, row) for place, row in enumerate(rows)]
        ticket.timer = loop.call_later(left_s, self._expire, ticket, timeout_s)
        if gone is not None:
            gone.add_done_callback(
                lambda _: self._refuse(ticket, Refusal("cancelled", "the client has left"))
            )
        self._tickets.add(ticket)
        self._idle.clear()
        for item in ticket.items:
            self._wait(item, now)
        try:
            self._dispatch()
            return await ticket.future
        finally:
            self._leave(ticket)

    def _expire(self, ticket: Ticket, timeout_s: float) -> None:
        self._refuse(ticket, _late(timeout_s))

    def _refuse(self, ticket: Ticket, why: Refusal) -> None:
        if not ticket.is_over:
            ticket.future.set_exception(why)
            self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        """Forget a request that has ended, whichever way; may be called again."""
        if ticket.timer is not None:
            ticket.timer.cancel()
        ticket.future.cancel()  # no effect on one that is done
        for item in ticket.items:
            if item in self._waiting:
                self._take(item)
            elif item.runner is not None:
                item.runner.skip(item.slot)
        ticket.items = []
        self._tickets.discard(ticket)
        self._rest()

    def _wait(self, item: Item, came_ns: int) -> None:
        self._waiting[item] = came_ns
        self._waiting_bytes += len(item.row.content)

    def _take(self, item: Item) -> None:
        """It waits no longer."""
        del self._waiting[item]
        self._waiting_bytes -= len(item.row.content)

    def _rest(self) -> None:
        if not self._tickets and not self._running:
            self._idle.set()

    async def drained(self) -> None:
        """Returns when no request waits or runs."""
        await self._idle.wait()

    def refuse_all(self, why: Refusal) -> None:
        """End every request with the same refusal."""
        for ticket in list(self._tickets):
            self._refuse(ticket, why)

    # -------------------------------------------------------------- runners

    def join(self, runner: Runner) -> None:
        """A runner that is ready for a batch."""
        self._lost.discard(runner)
        if runner not in self._running:
            self._free[runner] = None
            self._dispatch()

    def quit(self, runner: Runner) -> None:
        """A runner that takes no more batches."""
        self._free.pop(runner, None)

    def finished(self, runner: Runner, outcome: Outcome) -> None:
        """The batch of `runner` has ended; unless it was lost, the runner is ready for the next."""
        batch, *behind = self._running.pop(runner)
        now_ns = time.monotonic_ns()
        spent_ns = now_ns - batch.began_ns
        if behind:
            behind[0].began_ns = now_ns
            self._running[runner] = behind
        input_ns, infer_ns = outcome.input_ns, outcome.infer_ns
        output_ns = max(0, spent_ns - input_ns - infer_ns)
        if outcome.ran:
            self._image_s += 0.1 * (spent_ns / 1e9 / outcome.ran - self._image_s)
            self._ran(outcome.ran, input_ns, infer_ns, output_ns)
        for slot, item in enumerate(batch.items):
            item.runner = None
            if item.ticket.is_over:
                continue
            if outcome.lost is not None:
                self._again(item, outcome.lost, begun=outcome.begun)
            else:
                self._settle(item, slot, outcome, (input_ns, infer_ns, output_ns))
        if outcome.lost is not None:
            self._lost.add(runner)
        elif not behind:
            self._free[runner] = None
        self._rest()
        self._dispatch()

    def _again(self, item: Item, reason: str, *, begun: bool) -> None:
        """One image may have brought the worker down: alone, it can do no harm to others."""
        if begun:
            item.tries += 1
            item.alone = True
        if item.tries >= _TRIES:
            self._refuse(item.ticket, Refusal("internal", f"the engine's process was lost: {reason}"))
            return
        self._wait(item, 0)
        self._waiting.move_to_end(item, last=False)

    def _settle(self, item: Item, slot: int, outcome: Outcome, spent: tuple[int, int, int]) -> None:
        ticket = item.ticket
        error = outcome.errors.get(slot)
        if error is not None:
            which = f"image {item.place}: " if len(ticket.items) > 1 else ""
            self._refuse(ticket, Refusal(error.kind, which + error.message))
            return
        assert outcome.probabilities is not None
        assert outcome.logits is not None
        ticket.answers[item.place] = (outcome.probabilities[slot], outcome.logits[slot])
        if len(ticket.answers) < len(ticket.items):
            return
        import numpy as np

        pairs = [ticket.answers[place] for place in range(len(ticket.items))]
        total_ns = time.monotonic_ns() - ticket.arrived_ns
        stages = Stages(max(0, total_ns - sum(spent)), *spent)
        ticket.future.set_result(
            Answer(np.stack([one for one, _ in pairs]), np.stack([one for _, one in pairs]), stages)
        )

    def _dispatch(self) -> None:
        """Give batches to the runners that are free, as long as there are enough images or they waited."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self._free:
            first, came_ns = next(iter(self._waiting.items()))
            left_s = self._delay_s - (time.monotonic_ns() - came_ns) / 1e9
            if len(self._waiting) < self._most_images and not first.alone and left_s > 0:
                self._timer = asyncio.get_running_loop().call_later(left_s, self._dispatch)
                return
            runner = next(iter(self._free))
            del self._free[runner]
            self._give(runner)
        if self._ahead and not self._free:
            self._give_ahead()

    def _give(self, runner: Runner) -> None:
        items, before = self._taken(), self._running.setdefault(runner, [])
        first = self._most_images if before and before[0].first_slot == 0 else 0
        for slot, item in enumerate(items, first):
            item.runner, item.slot = runner, slot
        before.append(_Batch(items, first, time.monotonic_ns()))
        runner.run(items)

    def _give_ahead(self) -> None:
        """To the runners that have nothing after what runs, those first that began first. A batch that isn't
        full could still grow, and with fewer than one for each, another runner may be free sooner."""
        runners = [one for one, every in self._running.items() if len(every) == 1 and one not in self._lost]
        runners.sort(key=lambda one: self._running[one][0].began_ns)
        while runners and len(self._waiting) >= self._most_images * len(runners):
            if next(iter(self._waiting)).alone:
                return
            self._give(runners.pop(0))

    def _taken(self) -> list[Item]:
        batch: list[Item] = []
        size_bytes = 0
        for item in list(self._first()):
            size_bytes += len(item.row.content)
            if batch and (item.alone or size_bytes > self._most_bytes):
                break
            batch.append(item)
            self._take(item)
            if item.alone:
                break
        return batch

    def _first(self) -> Sequence[Item]:
        waiting = iter(self._waiting)
        return [item for item, _ in zip(waiting, range(self._most_images), strict=False)]


def _late(timeout_s: float) -> Refusal:
    return Refusal("late", f"no answer within the deadline of {timeout_s:g} s")
