"""Batching: requests become batches by images, and each request ends exactly once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from vertebra.inference.serving.batching import Batcher, Item, Outcome
from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.tensors import READY, Row


class Engine:
    """A runner that answers when it is told to: each image with its own number."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.batches: list[list[int]] = []
        self.skipped: list[int] = []
        self.done = 0
        batcher.join(self)

    def run(self, batch: Sequence[Item]) -> None:
        self.batches.append([int(bytes(item.row.content)) for item in batch])

    def skip(self, place: int) -> None:
        self.skipped.append(place)

    def finish(self, **outcome: Any) -> None:
        numbers = np.array([[number] for number in self.batches[self.done]], np.float32)
        self.done += 1
        given = {
            "probabilities": numbers,
            "logits": -numbers,
            "ran": len(numbers),
            "input_ns": 1,
            "infer_ns": 2,
        }
        self._batcher.finished(self, Outcome(**(given | outcome)))

    def lose(self) -> None:
        for batch in range(self.done, len(self.batches)):
            self._batcher.finished(self, Outcome(lost="crashed", begun=batch == self.done))
        self.done = len(self.batches)
        self._batcher.join(self)  # its successor


class Bench:
    """A batcher with its engines, and the requests made of it."""

    def __init__(self, engines: int = 1, **settings: Any) -> None:
        self.calls: list[tuple[int, int, int, int]] = []
        usual = {"most_images": 4, "most_bytes": 1000, "delay_s": 0.0, "queue_images": 100}
        self.batcher = Batcher(**(usual | settings), ran=lambda *call: self.calls.append(call))
        self.engines = [Engine(self.batcher) for _ in range(engines)]
        self.engine = self.engines[0]

    async def ask(self, *numbers: int, timeout_s: float = 60) -> asyncio.Task[Any]:
        rows = [Row(READY, str(number).encode()) for number in numbers]
        task = asyncio.create_task(self.batcher.answer(rows, timeout_s, time.monotonic_ns()))
        await asyncio.sleep(0)
        return task


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    def run(**given: Any) -> None:
        asyncio.run(test(**given))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def numbers(task: asyncio.Task[Any]) -> list[float]:
    return task.result().probabilities[:, 0].tolist()


async def kind(task: asyncio.Task[Any]) -> str:
    with pytest.raises(Refusal) as caught:
        await task
    return caught.value.kind


@on_a_loop
async def test_batches_are_made_by_images_in_order():
    bench = Bench()
    tasks = [await bench.ask(*some) for some in ([0], [1, 2], [3, 4, 5, 6, 7, 8], [9])]
    while bench.batcher.running:
        bench.engine.finish()
    assert bench.engine.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]
    await asyncio.gather(*tasks)
    assert [numbers(task) for task in tasks] == [[0], [1, 2], [3, 4, 5, 6, 7, 8], [9]]
    assert [images for images, *_ in bench.calls] == [1, 4, 4, 1]


@on_a_loop
async def test_a_batch_is_also_bounded_in_bytes():
    bench = Bench(most_bytes=4)
    for number in (10, 11, 12, 13, 14):
        await bench.ask(number)
    bench.engine.finish()
    bench.engine.finish()
    assert bench.engine.batches == [[10], [11, 12], [13, 14]]


@on_a_loop
async def test_a_free_engine_waits_for_more_images_only_as_long_as_the_delay():
    bench = Bench(delay_s=0.02)
    first = await bench.ask(1)
    assert bench.engine.batches == []
    await bench.ask(2)
    await asyncio.sleep(0.05)
    assert bench.engine.batches == [[1, 2]]
    bench.engine.finish()
    await first
    await bench.ask(3, 4, 5, 6)  # a full batch doesn't wait
    assert bench.engine.batches == [[1, 2], [3, 4, 5, 6]]


@on_a_loop
async def test_the_deadline_is_no_delay_and_the_delay_no_deadline():
    bench = Bench(delay_s=0.01)
    late = await bench.ask(1, timeout_s=0.05)
    assert await kind(late) == "late"
    assert bench.engine.batches == [[1]]
    assert bench.engine.skipped == [0]
    in_time = await bench.ask(2, timeout_s=60)
    await asyncio.sleep(0.05)
    bench.engine.finish()
    await asyncio.sleep(0)
    assert bench.engine.batches[-1] == [2]
    bench.engine.finish()
    await in_time
    assert numbers(in_time) == [2]


@on_a_loop
async def test_the_queue_is_bounded_in_images():
    bench = Bench(queue_images=3)
    await bench.ask(0)  # runs
    await bench.ask(1, 2)
    refused = await bench.ask(3, 4)
    with pytest.raises(Refusal, match="2 images wait, 3 may") as caught:
        await refused
    assert (caught.value.kind, caught.value.status) == ("full", 429)
    assert caught.value.retry_s == 1
    await bench.ask(5)
    assert bench.batcher.waiting == 3


@on_a_loop
async def test_the_queue_is_bounded_in_bytes_but_for_one_request():
    bench = Bench(queue_bytes=3)
    await bench.ask(0)  # runs
    large = await bench.ask(1111, 2222)
    refused = await bench.ask(3)
    with pytest.raises(Refusal, match=r"2 images of 8 bytes wait, 3 bytes may") as caught:
        await refused
    assert (caught.value.kind, caught.value.status) == ("full", 429)
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    bench.batcher.check_room(1, 9)
    await bench.ask(4)
    await bench.ask(5, 6)
    with pytest.raises(Refusal, match="3 images of 3 bytes"):
        bench.batcher.check_room(1, 1)
    bench.engine.finish()  # so that those that waited run
    assert bench.batcher.waiting == 0
    bench.batcher.check_room(1, 3)


@on_a_loop
async def test_what_clients_gave_up_is_never_run_and_blocks_nothing():
    bench = Bench()
    running = await bench.ask(0)
    waiting = await bench.ask(1, 2)
    kept = await bench.ask(3)
    for task in (running, waiting):
        task.cancel()
    await asyncio.sleep(0)
    assert bench.engine.skipped == [0]
    assert bench.batcher.waiting == 1
    bench.engine.finish()
    bench.engine.finish()
    await kept
    assert bench.engine.batches == [[0], [3]]
    await bench.batcher.drained()


@on_a_loop
async def test_a_third_given_up_at_random_leaves_nothing_in_the_queue():
    bench, random = Bench(engines=2), np.random.default_rng(3)
    tasks = []
    for number in range(300):
        tasks.append(await bench.ask(*[number] * int(random.integers(1, 6)), timeout_s=60))
        if random.random() < 0.3:
            tasks[int(random.integers(len(tasks)))].cancel()
        for engine in bench.engines:
            if random.random() < 0.8 and engine in bench.batcher._running:
                engine.finish()
        await asyncio.sleep(0)
        if bench.batcher.waiting > 80:
            for engine in bench.engines:
                engine.finish()
    while bench.batcher.running:
        for engine in [one for one in bench.engines if one in bench.batcher._running]:
            engine.finish()
        await asyncio.sleep(0)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    for number, (task, one) in enumerate(zip(tasks, done, strict=True)):
        assert isinstance(one, asyncio.CancelledError | Refusal) or set(numbers(task)) == {number}
    assert bench.batcher.waiting == 0
    assert not bench.batcher._tickets
    assert all(1 <= len(batch) <= 4 for engine in bench.engines for batch in engine.batches)


@on_a_loop
async def test_after_a_crash_each_image_is_tried_once_more_alone_and_only_the_poisoned_one_fails():
    bench = Bench()
    first = await bench.ask(0)
    tasks = [await bench.ask(number) for number in (1, 2, 3)]
    bench.engine.finish()
    await first
    assert bench.engine.batches[-1] == [1, 2, 3]
    bench.engine.lose()
    results = []
    while bench.batcher.running:
        results.append(bench.engine.batches[-1])
        if bench.engine.batches[-1] == [2]:
            bench.engine.lose()
        else:
            bench.engine.finish()
        await asyncio.sleep(0)
    assert sorted(results) == [[1], [2], [3]]
    assert [numbers(tasks[0]), numbers(tasks[2])] == [[1], [3]]
    assert await kind(tasks[1]) == "internal"


@on_a_loop
async def test_one_image_that_can_t_be_read_refuses_its_request_only():
    bench = Bench()
    await bench.ask(0)
    bad, good = await bench.ask(1, 2), await bench.ask(3)
    bench.engine.finish()
    bench.engine.finish(errors={1: Refusal("invalid", "not a picture")})
    with pytest.raises(Refusal, match="image 1: not a picture"):
        await bad
    await good
    assert numbers(good) == [3]


@on_a_loop
async def test_stages_add_up_to_the_whole_time():
    bench = Bench()
    begin = time.monotonic_ns()
    task = await bench.ask(1)
    bench.engine.finish(input_ns=30, infer_ns=500)
    stages = (await task).stages
    assert (stages.input_ns, stages.infer_ns) == (30, 500)
    assert stages.total_ns == stages.queue_ns + 30 + 500 + stages.output_ns <= time.monotonic_ns() - begin


@on_a_loop
async def test_a_runner_that_is_lost_while_free_gets_nothing_until_it_is_back():
    bench = Bench()
    bench.batcher.quit(bench.engine)
    task = await bench.ask(1)
    assert bench.engine.batches == []
    bench.batcher.join(bench.engine)
    bench.engine.finish()
    await task


# ------------------------------------------------------------------ a batch ahead


@on_a_loop
async def test_a_busy_runner_has_its_next_batch_as_soon_as_that_is_full():
    bench = Bench(ahead=True, queue_images=8)
    tasks = [await bench.ask(number) for number in range(4)]
    assert bench.engine.batches == [[0]]  # what isn't full may still grow
    tasks.append(await bench.ask(4))
    assert bench.engine.batches == [[0], [1, 2, 3, 4]]
    assert (bench.batcher.running, bench.batcher.waiting) == (1, 4)  # it waits for all that
    tasks += [await bench.ask(number) for number in (5, 6, 7, 8)]
    assert (len(bench.engine.batches), bench.batcher.waiting) == (2, 8)
    assert await kind(await bench.ask(9)) == "full"
    bench.engine.finish()
    assert bench.engine.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert (bench.batcher.running, bench.batcher.waiting) == (4, 4)
    bench.engine.finish()
    bench.engine.finish()
    await asyncio.gather(*tasks)
    assert [numbers(task) for task in tasks] == [[number] for number in range(9)]
    await bench.batcher.drained()


@on_a_loop
async def test_with_several_runners_each_must_have_a_batch_before_one_has_two():
    bench = Bench(engines=2, ahead=True)
    tasks = [await bench.ask(number) for number in range(9)]
    assert [engine.batches for engine in bench.engines] == [[[0]], [[1]]]
    tasks.append(await bench.ask(9))
    assert [engine.batches for engine in bench.engines] == [[[0], [2, 3, 4, 5]], [[1], [6, 7, 8, 9]]]
    for engine in bench.engines * 2:
        engine.finish()
    await asyncio.gather(*tasks)


@on_a_loop
async def test_a_batch_that_waited_behind_a_crash_is_not_blamed_for_it():
    bench = Bench(most_images=1, ahead=True)
    poisoned, innocent = await bench.ask(0), await bench.ask(1)
    assert bench.engine.batches == [[0], [1]]
    for _ in range(2):
        while bench.engine.batches[bench.engine.done] != [0]:
            bench.engine.finish()
        bench.engine.lose()
    bench.engine.finish() if bench.batcher.running else None
    assert await kind(poisoned) == "internal"
    await innocent
    assert numbers(innocent) == [1]


@on_a_loop
async def test_what_clients_give_up_is_skipped_in_the_batch_that_waits_too():
    bench = Bench(most_images=2, ahead=True)
    tasks = [await bench.ask(number) for number in range(3)]
    assert bench.engine.batches == [[0], [1, 2]]
    tasks[2].cancel()
    await asyncio.sleep(0)
    assert bench.engine.skipped == [3]  # the second slot of the second half
    bench.engine.finish()
    bench.engine.finish()
    assert numbers((await asyncio.gather(tasks[1]), tasks[1])[1]) == [1]


@on_a_loop
async def test_at_the_end_what_waits_is_refused():
    bench = Bench()
    tasks = [await bench.ask(0), await bench.ask(1)]
    bench.batcher.refuse_all(Refusal("unavailable", "the server is being stopped"))
    assert [await kind(task) for task in tasks] == ["unavailable", "unavailable"]
    bench.engine.finish()
    await bench.batcher.drained()
