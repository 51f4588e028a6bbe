"""Batches: in order, errors in their place, no further ahead than asked, and no threads left over."""

from __future__ import annotations

import io
import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from vertebra.data.batches import Batch, in_batches
from vertebra.data.preprocess import Preprocess, Source
from vertebra.errors import ImageError, InvalidInputError

TINY = Preprocess(input_size=(2, 2), resize=(2, 2), interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))


def picture(grey: int | None) -> Source | ImageError:
    """An even grey; below 0 what is no picture, and None a reason why there is none."""
    if grey is None:
        return ImageError("no address.")
    return b"broken" if grey < 0 else np.full((3, 3, 3), grey, np.uint8)


def told(batches: Iterator[Batch[int]]) -> list[list[int | str]]:
    """The grey that each entry's row of the images has, or its error."""
    return [
        [str(row) if isinstance(row, ImageError) else round(float(batch.images[row].mean() * 255))
         for _, row in batch.entries]
        for batch in batches
    ]  # fmt: skip


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("preprocess")]


# ------------------------------------------------------------------ order


def test_pictures_come_in_batches_and_the_last_may_be_smaller():
    found = list(in_batches(range(7), picture, TINY, 3))
    assert told(iter(found)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.images.shape for batch in found] == [(3, 3, 2, 2), (3, 3, 2, 2), (1, 3, 2, 2)]
    assert [len(batch) for batch in found] == [3, 3, 1]
    assert list(in_batches([], picture, TINY, 3)) == []


def test_order_is_kept_under_many_threads():
    draw = random.Random(0)

    def drawn(grey: int) -> bytes:
        """A file that takes a shorter or longer time to decode."""
        stream = io.BytesIO()
        side = draw.choice([2, 30, 1200])
        Image.new("RGB", (side, side), (grey,) * 3).save(stream, "PNG")
        return stream.getvalue()

    greys = [draw.randrange(256) for _ in range(120)]
    found = told(in_batches(greys, drawn, TINY, 7, workers=16, prefetch=50))
    assert list(itertools.chain(*found)) == greys


@pytest.mark.parametrize("reuse", [False, True])
def test_a_batch_has_its_own_array_unless_one_is_to_do(reuse):
    first, second = itertools.islice(in_batches(range(4), picture, TINY, 2, reuse=reuse), 2)
    assert np.shares_memory(first.images, second.images) == reuse


# ------------------------------------------------------------------ errors


def test_errors_keep_their_place_with_their_reason():
    greys = [None, 1, -1, 2, 3, None, -1, None, 4]
    [first, second, third] = in_batches(greys, picture, TINY, 3)
    broken = "<6 bytes>: not a JPEG, PNG"
    for batch, expected in ((first, ["no address.", 1, broken, 2, 3]), (third, [4])):
        [entries] = told(iter([batch]))
        for one, other in zip(entries, expected, strict=True):
            assert one == other or str(one).startswith(str(other))
    assert (first.readable, first.images.shape[0]) == ([1, 2, 3], 3)
    assert [(item, str(error)[:9]) for item, error in first.unreadable] == [
        (None, "no addres"), (-1, "<6 bytes>"),
    ]  # fmt: skip
    assert [item for item, _ in second.unreadable] == [None, -1, None]
    assert second.readable == []


def test_a_batch_ends_after_as_many_errors_as_it_may_have_pictures():
    found = in_batches(itertools.repeat(-1), picture, TINY, 4)
    assert [len(batch) for batch in itertools.islice(found, 3)] == [4, 4, 4]


def test_what_can_not_be_a_source_ends_the_run_and_its_threads():
    with pytest.raises(InvalidInputError, match="Pixels must be"):
        list(in_batches([0, 1], lambda _: np.zeros((4, 4), np.uint8), TINY, 2))
    assert not decoding_threads()


@pytest.mark.parametrize("counts", [{"size": 0}, {"size": 1, "workers": 0}, {"size": 1, "prefetch": 0}])
def test_counts_below_one_are_refused(counts):
    with pytest.raises(InvalidInputError, match="at least 1"):
        list(in_batches([0], picture, TINY, **counts))


# ------------------------------------------------------------------ endless sources


class Endless:
    """A source without an end that counts what was taken of it; every `broken_every`th can't be read."""

    def __init__(self, broken_every: int) -> None:
        self.taken, self.broken_every = 0, broken_every

    def __iter__(self) -> Iterator[int | None]:
        for number in itertools.count():
            self.taken += 1
            yield None if number % self.broken_every == 0 else number % 256


@pytest.mark.parametrize("broken_every", [1, 2, 1000])
def test_a_source_is_read_no_further_ahead_than_asked(broken_every):
    endless = Endless(broken_every)
    with closing(in_batches(endless, picture, TINY, 4, workers=2, prefetch=6)) as batches:
        assert endless.taken == 0
        given = 0
        for batch in itertools.islice(batches, 10):
            given += len(batch)
            assert given <= endless.taken <= given + 6
    assert endless.taken <= given + 6


def test_a_batch_is_given_out_before_its_source_goes_on():
    """With a read-ahead of one picture, what comes two pictures later isn't waited for."""
    gate = threading.Event()

    def slow() -> Iterator[int]:
        yield from range(3)
        assert gate.wait(60)
        yield 3

    batches = in_batches(slow(), picture, TINY, 2, prefetch=1)
    assert told(itertools.islice(batches, 1)) == [[0, 1]]
    gate.set()
    assert told(batches) == [[2, 3]]


# ------------------------------------------------------------------ ends


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_consumer_stops_the_threads(kind):
    endless = Endless(1000)
    batches = in_batches(endless, picture, TINY, 2, workers=4)

    def consume() -> None:
        with closing(batches):
            for _ in batches:
                assert decoding_threads()
                raise kind

    with pytest.raises(kind):
        consume()
    assert not decoding_threads()
    taken = endless.taken
    assert next(batches, None) is None
    assert endless.taken == taken


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_source_stops_the_threads(kind):
    def source() -> Iterator[int]:
        yield from range(50)
        raise kind

    batches = in_batches(source(), picture, TINY, 4, workers=4, prefetch=8)
    with pytest.raises(kind):
        list(batches)
    assert not decoding_threads()


def test_an_interrupt_does_not_wait_for_what_is_still_to_be_decoded(monkeypatch):
    """Only pictures that are under way are waited for."""
    from vertebra.data.preprocess import pipeline

    begun, gate = [], threading.Event()

    def slow(source: Source, *_: object, **__: object) -> np.ndarray:
        begun.append(source)
        assert gate.wait(60)
        return np.zeros((3, 2, 2), np.float32)

    def source() -> Iterator[int]:
        yield from range(30)
        threading.Timer(0.5, gate.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "preprocess", slow)
    with pytest.raises(KeyboardInterrupt):
        list(in_batches(source(), picture, TINY, 4, workers=2, prefetch=40))
    assert not decoding_threads()
    assert len(begun) <= 2
