"""The row of a compressed network: what it cost and bought, worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vertebra.errors import MeasurementError
from vertebra.training.outcome import Side, compare, in_turns


class Clock:
    """A clock that only calls move."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at

    def takes(self, *seconds: float):
        left = list(seconds)

        def run() -> None:
            self.at += left.pop(0) if len(left) > 1 else left[0]

        return run


def side(name: str, right: list[int], run, size: int = 4_000_000) -> Side:
    return Side(name, np.array(right, bool), size, run)


def test_an_outcome_has_both_accuracies_their_paired_interval_sizes_and_times():
    clock = Clock()
    before = side("plain", [1, 1, 1, 1, 0, 0, 0, 0, 0, 0] * 10, clock.takes(0.004))
    after = side("rounded", [1, 1, 1, 0, 1, 1, 0, 0, 0, 0] * 10, clock.takes(0.001), 1_000_000)
    found = compare(before, after, rounds=8, clock=clock)
    assert (found.top1_before, found.top1) == (0.4, 0.5)
    assert found.gained == pytest.approx(0.1)
    assert found.low < 0.1 < found.high
    assert (found.latency_before_s, found.latency_s) == pytest.approx((0.004, 0.001))
    assert (found.of_time, found.of_time_low, found.of_time_high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.line() == (
        "plain -> rounded: top-1 40.00% -> 50.00% "
        f"(+10.00 [{found.low * 100:+.2f}, {found.high * 100:+.2f}] points on 100 pictures, "
        f"{'no sure difference' if found.low <= 0 else 'surely better'}); 4.00 MB -> 1.00 MB; "
        "4.00 ms -> 1.00 ms (0.25 of it [0.25, 0.25])"
    )


@pytest.mark.parametrize(
    ("first", "second", "surely"),
    [([1] * 40, [0] * 40, False), ([0] * 40, [1] * 40, True), ([0, 1] * 20, [1, 0] * 20, None)],
)
def test_a_difference_is_sure_only_where_its_interval_leaves_0_out(first, second, surely):
    clock = Clock()
    found = compare(side("a", first, clock.takes(1.0)), side("b", second, clock.takes(1.0)), clock=clock)
    assert found.surely is surely
    assert found.to_dict()["surely"] is surely


def test_calls_take_turns_and_the_first_three_do_not_count():
    clock, order = Clock(), []

    def called(name: str, run):
        return lambda: (order.append(name), run())

    first = called("a", clock.takes(9.0, 9.0, 9.0, 1.0))
    second = called("b", clock.takes(9.0, 9.0, 9.0, 2.0))
    assert in_turns(first, second, rounds=3, clock=clock) == ([1.0] * 3, [2.0] * 3)
    pairs = ["".join(order[start : start + 2]) for start in range(0, len(order), 2)]
    assert sorted(set(pairs)) == ["ab", "ba"]
    assert all(one != other for one, other in itertools.pairwise(pairs))


@pytest.mark.parametrize(("first", "second"), [([1, 0], [1]), ([], [])])
def test_answers_to_different_pictures_are_not_compared(first, second):
    with pytest.raises(MeasurementError, match="can't be compared"):
        compare(side("a", first, lambda: None), side("b", second, lambda: None))
