"""The statistics of latency samples, against figures worked out by hand and against the binomial itself."""

from __future__ import annotations

import importlib.util
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vertebra.measurements import statistics
from vertebra.measurements.blocks import Block, Surroundings, pack, unpack

_SCRIPT = Path(__file__).parent.parent / "benchmarks" / "false_alarms.py"


def _load(script: Path) -> Any:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


false_alarms = _load(_SCRIPT)


def chance_that_the_interval_misses(count: int, rank: int) -> Fraction:
    """Exact: the interval misses the median when fewer than `rank` samples fall on one side of it."""
    return Fraction(2 * sum(math.comb(count, hits) for hits in range(rank)), 2**count)


@pytest.mark.parametrize("count", [*range(6, 80), 100, 662, 1000, 1075, 1500])
def test_the_interval_of_the_median_is_the_narrowest_that_misses_in_at_most_5_percent(count: int) -> None:
    rank = statistics.interval_rank(count)
    assert rank is not None
    assert chance_that_the_interval_misses(count, rank) <= Fraction(5, 100)
    assert chance_that_the_interval_misses(count, rank + 1) > Fraction(5, 100)


def test_below_six_samples_there_is_no_interval() -> None:
    assert statistics.FEWEST_FOR_INTERVAL == 6
    assert [statistics.interval_rank(count) for count in range(1, 6)] == [None] * 5
    interval = statistics.median_interval([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (interval.median, interval.low, interval.high) == (3.0, None, None)
    assert interval.half_width == math.inf


def test_the_interval_is_told_by_the_samples_ranks() -> None:
    shuffled = list(range(1, 65))
    random.Random(0).shuffle(shuffled)
    interval = statistics.median_interval(shuffled)
    assert (interval.median, interval.low, interval.high) == (32.5, 24, 41)
    assert interval.half_width == pytest.approx(8.5 / 32.5)


def test_equal_samples_give_an_interval_without_width() -> None:
    assert statistics.median_interval([7.0] * 64).half_width == 0.0
    assert statistics.median_interval([0.0] * 64).half_width == 0.0


def test_the_interval_covers_the_median_of_a_skewed_distribution_as_often_as_it_says() -> None:
    generator = random.Random(1)
    true_median = math.log(2)
    trials = 2000
    covered = 0
    for _ in range(trials):
        interval = statistics.median_interval([generator.expovariate(1.0) for _ in range(64)])
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= true_median <= interval.high
    assert covered / trials >= 0.94


def test_an_even_number_of_samples_has_the_mean_of_the_middle_two_as_median() -> None:
    assert statistics.median([4.0, 1.0, 3.0, 2.0]) == 2.5
    assert statistics.median([9.0]) == 9.0


@pytest.mark.parametrize(("percent", "fewest"), [(50, 11), (90, 64), (95, 130), (99, 662)])
def test_a_percentile_is_told_only_with_loadgens_number_of_samples(percent: int, fewest: int) -> None:
    samples = [float(number) for number in range(1, fewest + 1)]
    assert statistics.percentile(samples[:-1], percent) is None
    assert statistics.percentile(samples, percent) == math.ceil(fewest * percent / 100)


def test_a_percentile_is_a_sample_that_this_share_does_not_exceed() -> None:
    samples = [float(number) for number in range(1, 101)]
    random.Random(2).shuffle(samples)
    assert statistics.percentile(samples, 90) == 90.0


@pytest.mark.parametrize(
    ("rises", "falls", "chance"),
    [(0, 0, 1.0), (6, 0, 2 / 64), (0, 6, 2 / 64), (1, 7, 18 / 256), (8, 2, 112 / 1024), (5, 5, 1.0)],
)
def test_the_sign_test_is_the_binomials(rises: int, falls: int, chance: float) -> None:
    assert statistics.sign_test(rises, falls) == pytest.approx(chance)


# Several processes.


def blocks_of(
    *processes: list[list[float]], first_order: int = 0, step: int = 1, started_s: float = 0.0
) -> list[Block]:
    """Blocks from their samples, process after process, one every second."""
    orders = itertools.count(first_order, step)
    return [
        Block(process=number, order=order, started_s=started_s + order, latencies=tuple(samples))
        for number, process in enumerate(processes)
        for samples, order in zip(process, orders, strict=False)
    ]


def test_the_median_is_that_of_the_processes_medians() -> None:
    found = statistics.process_interval([[1.0] * 100, [2.0] * 10, [9.0] * 10])
    assert found.median == 2.0  # and not 1.0, which most samples are


def test_the_interval_over_processes_spans_what_few_processes_say() -> None:
    found = statistics.process_interval([[1.0] * 50, [1.02] * 50, [1.05] * 50])
    assert (found.low, found.high) == (1.0, 1.05)


def test_one_process_has_the_interval_of_its_samples() -> None:
    samples = [float(number) for number in range(64)]
    assert statistics.process_interval([samples]) == statistics.median_interval(samples)


def test_the_short_way_to_a_bootstrap_agrees_with_the_plain_one() -> None:
    generator = np.random.default_rng(5)
    processes = [list(generator.lognormal(0.01 * number, 0.1, 101)) for number in range(4)]
    medians = []
    for _ in range(2000):
        drawn = [generator.choice(processes[chosen], 101) for chosen in generator.integers(4, size=4)]
        medians.append(np.median([np.median(samples) for samples in drawn]))
    low, high = np.quantile(medians, [0.025, 0.975])
    found = statistics.process_interval(processes)
    assert found.low == pytest.approx(low, rel=0.004)
    assert found.high == pytest.approx(high, rel=0.004)


def test_blocks_that_differ_widen_the_interval_that_their_samples_alone_would_give() -> None:
    generator = random.Random(6)
    process = [[10 * level + generator.random() / 100 for _ in range(50)]
               for level in (1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.08, 0.92)]  # fmt: skip
    by_samples = statistics.median_interval([one for block in process for one in block])
    by_blocks = statistics.interval(blocks_of(process))
    assert by_blocks.median == by_samples.median
    assert by_blocks.half_width > 2 * by_samples.half_width


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([range(1, 65)], (32.5, 24.0, 41.0)),  # one process: by its blocks' ranks
        ([[1.0] * 8, [1.02] * 8, [1.05] * 8], (1.02, 1.0, 1.05)),  # several: what they span
        ([[1.05] * 8, [1.0] * 8], (1.025, 1.0, 1.05)),
    ],
)
def test_the_interval_of_one_process_is_by_ranks_and_of_several_by_drawing_again(
    levels: Sequence[Sequence[float]], expected: tuple[float, float, float]
) -> None:
    found = statistics.interval(blocks_of(*[[[level] * 5 for level in process] for process in levels]))
    assert (found.median, found.low, found.high) == pytest.approx(expected)


#: Blocks of one process as (blocks, samples in each, seconds): the fast ones hold more samples.
_RESTLESS = [
    [[(3, 250, 0.001), (5, 25, 0.010)]],
    [[(6, 400, 0.0005), (7, 2, 0.9)]],
    [[(3, 250, 0.001), (5, 25, 0.010)], [(8, 25, 0.010)], [(4, 250, 0.001), (4, 25, 0.010)]],
    [[(6, 1, 1e-9), (6, 1, 1e3)], [(7, 9, 1e-9), (6, 9, 1e3)]],
    [[(8, 3, 0.0)], [(5, 3, 0.0), (6, 3, 0.02)]],
]


@pytest.mark.parametrize("made", _RESTLESS)
def test_an_interval_holds_its_median_and_stays_among_the_samples(
    made: list[list[tuple[int, int, float]]],
) -> None:
    processes = [[[level] * held for count, held, level in process for _ in range(count)] for process in made]
    found = statistics.interval(blocks_of(*processes))
    every = [one for process in processes for block in process for one in block]
    assert found.low is not None
    assert found.high is not None
    assert min(every) <= found.low <= found.median <= found.high <= max(every)


def test_an_interval_shows_what_half_of_the_blocks_were_slowed_to() -> None:
    process = [[0.001] * 250] * 3 + [[0.010] * 25] * 5
    assert statistics.interval(blocks_of(process)) == statistics.Interval(0.001, 0.001, 0.010)


# Two cases.


def interleaved(
    ratio: float, levels: Sequence[float], *, offset: float = 0.0
) -> tuple[list[Block], list[Block]]:
    """Two cases, a block of each in turn, eight of each in every process; `levels` is the machine's in each.

    `offset` sets the second's processes apart from each other.
    """
    first, second = [], []
    for process, level in enumerate(levels):
        for place in range(16):
            order = 16 * process + place
            is_second = place % 2
            factor = (ratio * (1 + offset * (process - 1))) if is_second else 1.0
            block = Block(
                process=process, order=order, started_s=0.25 * order,
                latencies=tuple(level * factor * (1 + 0.001 * sample) for sample in range(5)),
            )  # fmt: skip
            (second if is_second else first).append(block)
    return first, second


def test_a_machine_that_is_slower_in_one_round_changes_nothing() -> None:
    found = statistics.compare(*interleaved(1.04, [0.01, 0.013, 0.009]))
    assert found.paired
    assert found.ratio == pytest.approx(1.04)
    assert found.detected
    assert 1.02 < found.low < 1.04 < found.high < 1.06


def test_a_drift_that_both_share_is_not_taken_for_a_difference() -> None:
    first, second = interleaved(1.0, [0.01] * 3)
    drifting = [
        [replace(block, latencies=tuple(one * (1 + 0.002 * block.order) for one in block.latencies))
         for block in case] for case in (first, second)
    ]  # fmt: skip
    found = statistics.compare(*drifting)
    assert found.ratio == pytest.approx(1.0, abs=0.0005)
    assert not found.detected


def test_the_comparison_is_the_same_the_other_way_round() -> None:
    first, second = interleaved(1.1, [0.01, 0.012, 0.011], offset=0.01)
    forth, back = statistics.compare(first, second), statistics.compare(second, first)
    assert back.ratio == pytest.approx(1 / forth.ratio)
    assert back.low == pytest.approx(1 / forth.high)
    assert back.p_value == pytest.approx(forth.p_value)


def test_processes_that_disagree_widen_the_interval_however_many_samples_they_have() -> None:
    calm = statistics.compare(*interleaved(1.04, [0.01] * 3))
    restless = statistics.compare(*interleaved(1.04, [0.01] * 3, offset=0.03))
    assert restless.high - restless.low > 3 * (calm.high - calm.low)
    assert not restless.detected


def test_nothing_below_one_percent_or_the_machines_floor_is_told_apart() -> None:
    pair = interleaved(1.06, [0.01] * 3)
    assert statistics.compare(*pair).detected
    assert not statistics.compare(*pair, floor=0.06).detected
    assert not statistics.compare(*interleaved(1.009, [0.01] * 20)).detected


def test_one_process_of_each_tells_only_what_processes_can_not_make() -> None:
    assert not statistics.compare(*interleaved(1.03, [0.01])).detected
    assert statistics.compare(*interleaved(1.06, [0.01])).detected


def of_another_day(blocks: list[Block]) -> list[Block]:
    """The same, as its own run would have counted and timed it."""
    return [replace(block, order=block.order - 1, started_s=block.started_s + 86_400) for block in blocks]


def test_blocks_of_two_days_are_not_paired_and_take_a_larger_difference() -> None:
    first, second = interleaved(1.035, [0.01] * 3)
    assert statistics.compare(first, second).detected
    found = statistics.compare(first, of_another_day(second))
    assert not found.paired
    assert found.ratio == pytest.approx(1.035)
    assert found.margin == statistics.LEAST_DIFFERENCE_APART
    assert not found.detected


def test_blocks_that_a_clock_set_back_put_out_of_order_are_not_paired() -> None:
    first, second = interleaved(1.2, [0.01] * 3)
    assert not statistics.compare(
        first, [replace(block, started_s=block.started_s - 30) for block in second]
    ).paired


#: Standard errors of noiseless cases times Student's 97.5 % points: the 1 % of processes counts as four.
_ONE_ROUND, _TWO_DAYS = 0.01 * 2.7764451, math.sqrt(4 * 0.5e-4 / 7 * (1 / 3 + 1 / 2)) * 2.3646243


def test_the_interval_of_a_ratio_is_as_worked_out_by_hand() -> None:
    found = statistics.compare(*interleaved(1.04, [0.01]))
    assert (found.low, found.high) == pytest.approx(
        (1.04 * math.exp(-_ONE_ROUND), 1.04 * math.exp(_ONE_ROUND)), rel=1e-8
    )
    first = blocks_of(*[[[0.01] * 5] * 8] * 3)
    second = blocks_of(*[[[0.012] * 5] * 8] * 2, started_s=86_400.0)
    found = statistics.compare(first, second)
    assert (found.ratio, found.low, found.high) == pytest.approx(
        (1.2, 1.2 * math.exp(-_TWO_DAYS), 1.2 * math.exp(_TWO_DAYS)), rel=1e-8
    )


@pytest.mark.parametrize(
    ("squares", "freedom", "expected"),
    [
        (0.0, 0, (1.0, 4)),
        (0.0, 2, (4 / 6, 6)),
        (4.0, 2, (8 / 6, 6)),
        (4.1, 2, (2.05, 2)),
        (10.0, 2, (5.0, 2)),
    ],
)
def test_a_variance_is_what_is_expected_and_what_is_seen_unless_that_is_far_more(
    squares: float, freedom: int, expected: tuple[float, int]
) -> None:
    assert statistics._moderated(squares, freedom, 1.0) == pytest.approx(expected)


@pytest.mark.parametrize(("blocks", "slope"), [(5, 0.0), (6, 0.25), (7, 0.25)])
def test_a_slope_is_told_from_six_blocks_on(blocks: int, slope: float) -> None:
    at = np.arange(blocks, dtype=np.float64)
    sides = [(at, 3 + 0.25 * at), (at + 0.5, 4 + 0.25 * at)]
    assert statistics._common_slope(sides) == pytest.approx(slope)
    assert statistics._common_slope([(0 * at, level) for at, level in sides]) == 0.0


@pytest.mark.parametrize(("pause_s", "paired"), [(59.9, True), (60.1, False)])
def test_processes_are_of_one_stretch_up_to_a_minute_after_the_last_sample(
    pause_s: float, paired: bool
) -> None:
    first = blocks_of([[1.0] * 5, [20.0]])  # ends at 21 s
    second = blocks_of([[1.0] * 5, [1.0] * 5], first_order=2, started_s=19.0 + pause_s)
    assert statistics.compare(first, second).paired is paired
    assert statistics._together(second, first) is paired


def test_with_few_blocks_the_samples_tell_the_interval() -> None:
    samples = [[float(5 * place + block) for place in range(20)] for block in range(5)]
    found = statistics.interval(blocks_of(samples))
    assert found == statistics.median_interval([one for block in samples for one in block])


def test_a_large_difference_between_two_days_is_told() -> None:
    first, second = interleaved(1.2, [0.01] * 3)
    assert statistics.compare(first, of_another_day(second)).detected


def test_a_canary_that_differed_between_two_days_raises_what_can_be_told() -> None:
    first, second = interleaved(1.2, [0.01] * 3)
    then = [replace(block, canary_s=0.010) for block in first]
    now = [replace(block, canary_s=0.012) for block in of_another_day(second)]
    found = statistics.compare(then, now)
    assert found.margin == pytest.approx(0.2)
    assert not found.detected
    assert statistics._canaries_apart(now, then) == pytest.approx(0.2)
    assert statistics._canaries_apart(now, first) == 0.0


# How often it is right.


def counted(pair: Callable[[int], tuple[list[Block], list[Block]]], comparisons: int) -> tuple[int, int]:
    """Comparisons that tell the second slower or faster, and those that tell it slower."""
    found = [statistics.compare(*pair(seed)) for seed in range(comparisons)]
    return sum(one.detected for one in found), sum(one.detected and one.ratio > 1 for one in found)


def test_of_200_equals_on_a_restless_machine_at_most_18_are_told_apart() -> None:
    told, _ = counted(lambda seed: false_alarms.drawn(seed, 0.0), false_alarms.COMPARISONS)
    assert told <= false_alarms.MOST_FALSE


def test_of_200_that_are_3_percent_apart_at_least_160_are_found() -> None:
    _, found = counted(lambda seed: false_alarms.drawn(seed, 0.03), false_alarms.COMPARISONS)
    assert found >= false_alarms.LEAST_FOUND


def test_the_interval_holds_the_truth_even_where_processes_differ_more_than_is_expected() -> None:
    held = 0
    for seed in range(100):
        found = statistics.compare(*false_alarms.drawn(seed, 0.0, process_spread=0.01))
        held += found.low <= 1.0 <= found.high
    assert held >= 90


def test_of_a_few_sleeping_engines_none_is_told_from_itself() -> None:
    told, _ = counted(lambda seed: false_alarms.slept(seed, 0.0, seconds=0.001, block_s=0.01), 8)
    assert told <= 1


@pytest.mark.slow
def test_of_200_sleeping_engines_at_most_18_are_told_from_themselves() -> None:
    told, _ = counted(lambda seed: false_alarms.slept(seed, 0.0), false_alarms.COMPARISONS)
    assert told <= false_alarms.MOST_FALSE


@pytest.mark.slow
def test_of_200_sleeping_engines_3_percent_apart_at_least_160_are_found() -> None:
    _, found = counted(lambda seed: false_alarms.slept(seed, 0.03), false_alarms.COMPARISONS)
    assert found >= false_alarms.LEAST_FOUND


# Blocks.


def test_packed_blocks_come_back_as_they_were() -> None:
    seen = Surroundings(wall_s=0.25, others_cpu=0.1, steal=0.0, load=1.5)
    first, _ = interleaved(1.0, [0.01, 0.02])
    told = [replace(block, canary_s=0.006, surroundings=seen) for block in first]
    assert unpack(pack(reversed(told))) == told
    half = [told[0], replace(told[1], canary_s=None, surroundings=None)]
    assert unpack(pack(half)) == half


def test_samples_without_blocks_are_one_block() -> None:
    assert unpack({"latency": [1.0, 2.0]}) == [Block(process=0, order=0, started_s=0.0, latencies=(1.0, 2.0))]
    assert unpack({}) == []


def test_what_is_not_known_of_any_block_is_not_stored() -> None:
    first, _ = interleaved(1.0, [0.01])
    assert set(pack(first)) == {
        "latency",
        "latency.count",
        "latency.process",
        "latency.block",
        "latency.started",
    }
