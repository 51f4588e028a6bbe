"""The order of an epoch: every picture, as often for each process, whatever came before."""

from __future__ import annotations

import numpy as np
import pytest

from vertebra.errors import InvalidInputError
from vertebra.training import draws
from vertebra.training.order import WINDOW, balanced, positions


def test_an_epoch_has_every_picture_once_in_an_order_of_its_own():
    orders = [positions(1000, seed=7, epoch=epoch).tolist() for epoch in (0, 1)]
    assert [sorted(order) for order in orders] == [list(range(1000))] * 2
    assert orders[0] != orders[1] != list(range(1000))
    assert orders[0] == positions(1000, seed=7, epoch=0).tolist()
    assert orders[0] != positions(1000, seed=8, epoch=0).tolist()


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_processes_take_equally_many_and_all_of_them_together(count: int, world: int):
    parts = [positions(count, seed=0, epoch=3, world=world, rank=rank) for rank in range(world)]
    assert {len(part) for part in parts} == {-(-count // world)}
    assert set(np.concatenate(parts).tolist()) == set(range(count))


@pytest.mark.parametrize("world", [2, 3, 6])
def test_a_step_has_the_same_pictures_in_the_same_order_for_any_number_of_processes(world: int):
    batch, count = 12, 100
    alone = positions(count, seed=5, epoch=2, batch=batch).reshape(-1, batch)
    assert alone.shape == (8, 12)
    parts = [positions(count, seed=5, epoch=2, world=world, rank=rank, batch=batch) for rank in range(world)]
    together = np.concatenate([part.reshape(8, -1) for part in parts], axis=1)
    assert (together == alone).all()


def test_pictures_that_do_not_fill_a_step_are_other_ones_in_each_epoch():
    left = [set(range(10)) - set(positions(10, seed=0, epoch=epoch, batch=8).tolist()) for epoch in range(30)]
    assert {len(one) for one in left} == {2}
    assert set().union(*left) == set(range(10))


def test_balanced_classes_are_drawn_equally_often():
    labels = [0] * 900 + [1] * 90 + [3] * 10
    weights = balanced(labels)
    taken = np.concatenate([positions(1000, seed=0, epoch=epoch, weights=weights) for epoch in range(30)])
    shares = np.bincount(np.asarray(labels)[taken]) / len(taken)
    # 30,000 draws: a share of a third has a standard error of 0.0027.
    assert shares == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.0027 * 4)
    parts = [positions(1000, seed=0, epoch=0, weights=weights, world=3, rank=rank) for rank in range(3)]
    assert {len(part) for part in parts} == {334}


def test_shards_follow_each_other_in_any_order_and_windows_are_shuffled():
    sizes = [3 * WINDOW, 0, WINDOW, 2 * WINDOW]
    order = positions(6 * WINDOW, seed=1, epoch=0, shards=sizes)
    assert sorted(order.tolist()) == list(range(6 * WINDOW))
    shard_of = np.repeat(np.arange(4), sizes)
    runs = shard_of[order].reshape(6, WINDOW)
    assert all(len(set(run.tolist())) == 1 for run in runs)
    visited = list(dict.fromkeys(shard_of[order].tolist()))
    assert sorted(visited) == [0, 2, 3]
    seen = {
        tuple(dict.fromkeys(shard_of[positions(6 * WINDOW, seed=1, epoch=epoch, shards=sizes)].tolist()))
        for epoch in range(20)
    }
    assert len(seen) == 6
    assert (np.diff(order[:WINDOW]) != 1).any()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"world": 2, "rank": 2}, "Process 2 of 2"),
        ({"world": 3, "batch": 8}, "can't be shared equally by 3"),
        ({"world": 9, "batch": 8}, "can't be shared equally by 9"),
        ({"weights": [1.0]}, "weights from 0 up"),
        ({"weights": [0.0] * 10}, "one above 0"),
        ({"shards": [3, 4]}, "The shards have 7 pictures; there are 10."),
    ],
)
def test_what_cannot_be_is_refused(given: dict, word: str):
    with pytest.raises(InvalidInputError, match=word):
        positions(10, seed=0, epoch=0, **given)


def test_draws_of_a_place_are_those_of_philox_and_no_two_places_share_any():
    # The known answer of Philox 4x64-10 for a counter and key of zeros, from its authors' test vectors, is
    # that of the counter that numpy raises before it draws.
    zeros = np.random.Philox(key=[0, 0], counter=[2**64 - 1] * 4).random_raw(4)
    assert [hex(word) for word in zeros.tolist()] == [
        "0x16554d9eca36314c", "0xdb20fe9d672d0fdc", "0xd7e772cee186176b", "0x7e68b68aec7ba23b",
    ]  # fmt: skip
    drawn = [
        draws.raw(purpose, seed, epoch, place, 8).tolist()
        for purpose in (1, 2) for seed in (0, 1) for epoch in (0, 1) for place in (0, 1, 2)
    ]  # fmt: skip
    words = [word for one in drawn for word in one]
    assert len(set(words)) == len(words)
    assert draws.raw(1, 2**63 - 1, 2**40, 2**40, 2).dtype == np.uint64
    uniform = draws.uniform(2, 0, 0, 0, 4)
    assert ((uniform >= 0) & (uniform < 1)).all()
    assert draws.whole(0.999999999999, 3) == 2
    assert [draws.whole(share, 4) for share in (0.0, 0.24, 0.25, 1.0)] == [0, 0, 1, 3]
