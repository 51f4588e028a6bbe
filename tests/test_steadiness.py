"""Whether samples are steady, against figures worked out by hand and against drawn samples."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from vertebra.measurements.blocks import Block
from vertebra.measuring.benchmarking import steadiness


def blocks_of(*processes: list[list[float]]) -> list[Block]:
    """Blocks from their samples, process after process, one every second."""
    found: list[Block] = []
    for number, process in enumerate(processes):
        for samples in process:
            order = len(found)
            found.append(Block(process=number, order=order, started_s=order, latencies=tuple(samples)))
    return found


def test_a_ramp_is_drift_and_its_size_is_the_change_between_the_halves() -> None:
    ramp = [100.0 + number for number in range(20)]  # medians of the halves: 104.5 and 114.5
    assert steadiness.drift(ramp) == pytest.approx(10 / 104.5)
    assert steadiness.drift(ramp[::-1]) == pytest.approx(-10 / 114.5)


def test_what_is_small_or_may_be_chance_is_no_drift() -> None:
    sure_but_small = [1000.0 + number / 10 for number in range(60)]  # 0.3 % between the halves
    assert steadiness.drift(sure_but_small) == 0.0
    large_but_too_few = [100.0, 101.0, 110.0, 111.0]
    assert steadiness.drift(large_but_too_few) == 0.0
    assert steadiness.drift([5.0]) == 0.0
    assert steadiness.drift([10.0, 12.0] * 50) == 0.0


def test_noise_without_trend_is_rarely_called_drift() -> None:
    generator = random.Random(3)
    called = sum(
        steadiness.drift([generator.lognormvariate(0, 0.2) for _ in range(64)]) != 0.0 for _ in range(500)
    )
    assert called / 500 <= 0.02


def test_windows_agree_up_to_one_percent_of_the_smaller() -> None:
    assert steadiness.agree([100.0], [101.0])
    assert steadiness.agree([101.0], [100.0])
    assert not steadiness.agree([100.0], [101.1])
    assert steadiness.agree([0.0], [0.0])


def test_outliers_are_counted_by_tukeys_fences() -> None:
    body = [float(number) for number in range(10, 20)]
    assert steadiness.outliers(body) == steadiness.Outliers(0, 0)
    # With three more the quartiles are 12 and 18: inner fences at 3 and 27, outer ones at -6 and 36.
    assert steadiness.outliers([*body, 27.0, 40.0, 3.0]) == steadiness.Outliers(mild=0, severe=1)
    assert steadiness.outliers([*body, 27.5, 40.0, 2.5]) == steadiness.Outliers(mild=2, severe=1)


def test_the_variance_is_split_into_between_and_within_processes() -> None:
    alike = steadiness.spread([[0.99, 1.0, 1.01]] * 3)
    assert alike.between == 0.0
    assert alike.within == pytest.approx(1.4826 * 0.01)
    apart = steadiness.spread([[0.9] * 9, [1.0] * 9, [1.1] * 9])
    assert apart.between == pytest.approx(0.1)
    assert apart.within == 0.0
    assert steadiness.spread([[1.0, 2.0]]).between is None
    assert steadiness.spread([[0.0, 0.0], [0.0, 1.0, 0.0]]) == steadiness.Spread(0.0, 0.0)
    assert steadiness.spread([[0.0, 0.0, 1.0]]) == steadiness.Spread(None, 0.0)


def test_disagreement_is_from_the_fastest_to_the_slowest_process() -> None:
    assert steadiness.disagreement([[2.0], [2.02], [2.2]]) == pytest.approx(0.1)
    assert steadiness.disagreement([[1.0, 5.0]]) == 0.0


def test_two_heaps_are_told_with_their_distance_and_the_share_of_the_slower() -> None:
    generator = random.Random(7)
    samples = [generator.gauss(1.0, 0.01) for _ in range(140)] + [
        generator.gauss(1.2, 0.01) for _ in range(60)
    ]
    generator.shuffle(samples)
    found = steadiness.modes(samples)
    assert found is not None
    assert found.ratio == pytest.approx(1.2, rel=0.01)
    assert found.share == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("samples", "distance"),
    [
        ([2.0] * 4, 0.0),
        ([1.0, 2.0, 3.0, 4.0], 1 / 8),  # half a step
        ([0.0, 4.0, 6.0, 7.0, 7.5], 1 / 10),  # the denser, the later
        ([0.0, 0.5, 1.5, 3.5, 7.5], 1 / 10),
        ([0.0, 4.0, 6.0, 7.0, 8.0, 10.0, 14.0], 1 / 14),
        # at 2 is a quarter of them, 0.2 above the line to the other heap
        ([0.0, 1.0, 2.0, *np.linspace(10.0, 10.8, 9)], 1 / 10),
        ([*np.linspace(0.0, 0.8, 9), 8.8, 9.8, 10.8], 1 / 10),
        ([1.0] * 5 + [2.0] * 5, 1 / 4),
        ([1.0] * 9 + [2.0] * 3, 1 / 8),
        ([1.0] * 3 + [2.0] * 9, 1 / 8),
        ([1.0] * 4 + [1.5] * 2 + [2.0] * 4, 1 / 5),  # half of the heap that isn't the mode
    ],
)
def test_the_distance_from_one_mode_is_as_worked_out_by_hand(samples: list[float], distance: float) -> None:
    assert steadiness._distance_from_one_mode(np.array(samples)) == pytest.approx(distance)


def distance_by_every_turn_and_every_line(samples: list[int]) -> float:
    """The definition, slowly: at each place the convex function is the lowest line between two others."""
    places, steps = sorted(set(samples)), len(samples)

    def above(at: list[int], low: list[float], high: list[float]) -> float:
        def lowest(place: int) -> float:
            ends = [(left, right) for left in range(place) for right in range(place + 1, len(at))]
            lines = [low[left] + (low[right] - low[left]) * (at[place] - at[left]) / (at[right] - at[left])
                     for left, right in ends]  # fmt: skip
            return min([low[place], *lines])

        return max(high[place] - lowest(place) for place in range(len(at)))

    def side(at: list[int], below: Callable[[int], int]) -> float:
        low = [below(place) / steps for place in at]
        return above(
            at, low, [low[i] + samples.count(abs(at[i])) / steps for i in range(len(at) - 1)] + [low[-1]]
        )

    return min(
        max(side(places[: turn + 1], lambda place: sum(one < place for one in samples)),
            side([-place for place in places[:turn - 1 if turn else None:-1]],
                 lambda place: sum(one > -place for one in samples)))
        for turn in range(len(places))
    ) / 2  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_the_distance_from_one_mode_is_what_every_turn_and_every_line_give(seed: int) -> None:
    generator = random.Random(seed)
    samples = [generator.randrange(generator.choice((15, 60))) for _ in range(14)]
    expected = distance_by_every_turn_and_every_line(samples)
    assert steadiness._distance_from_one_mode(np.sort(samples)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_modes_are_cut_where_they_vary_least_inside(seed: int) -> None:
    generator = random.Random(seed)
    heaps = [generator.gauss(1.0, 0.03) for _ in range(20)] + [generator.gauss(1.3, 0.06) for _ in range(12)]
    ordered = np.sort(heaps)
    cut = min(
        range(1, 32),
        key=lambda cut: float(sum(np.var(part) * len(part) for part in np.split(ordered, [cut]))),
    )
    fast, slow = np.split(ordered, [cut])
    found = steadiness._two_modes(ordered)
    assert found == steadiness.Modes(pytest.approx(np.median(slow) / np.median(fast)), len(slow) / 32)


def test_what_lies_beyond_the_outer_fence_is_in_neither_mode() -> None:
    body = [1.0] * 4 + [1.1] * 5 + [1.2] * 2  # with one more the quartiles are 1.0 and 1.1, the fence at 1.4
    found = steadiness._two_modes(np.array([*body, 1.55]))
    assert found == steadiness.Modes(pytest.approx(1.1), pytest.approx(7 / 11))
    found = steadiness._two_modes(np.array([*body, 1.39]))
    assert found == steadiness.Modes(pytest.approx(1.2 / 1.1), pytest.approx(3 / 12))


@pytest.mark.parametrize("count", [64, 300, 3000])
def test_one_heap_with_a_long_tail_is_one_mode(count: int) -> None:
    generator = random.Random(8)
    for _ in range(10):
        assert steadiness.modes([generator.lognormvariate(0, 0.3) for _ in range(count)]) is None


def test_of_uniform_samples_the_hardest_to_tell_hardly_any_are_called_two_modes() -> None:
    generator = random.Random(9)
    called = sum(steadiness.modes([generator.random() for _ in range(128)]) is not None for _ in range(200))
    assert called <= 8


def test_outliers_and_modes_close_to_each_other_are_no_second_mode() -> None:
    generator = random.Random(10)
    body = [generator.gauss(1.0, 0.01) for _ in range(190)]
    assert steadiness.modes(body + [3.0 + generator.random() for _ in range(10)]) is None
    assert steadiness.modes([1.0] * 100 + [1.01] * 100) is None
    assert steadiness.modes([2.0] * 100) is None
    assert steadiness.modes([2.0]) is None


def test_drift_is_that_which_most_processes_show() -> None:
    ramp = [[1.0 + 0.001 * (10 * block + place) for place in range(10)] for block in range(8)]
    flat = [[1.0, 1.001] * 5 for _ in range(8)]
    assert steadiness.drift_of_blocks(blocks_of(ramp, ramp, flat)) == pytest.approx(0.04 / 1.0195)
    assert steadiness.drift_of_blocks(blocks_of(ramp, flat, flat)) == 0.0
