"""The statistics of latency samples, against figures worked out by hand and against the binomial itself."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from vertebra.benchmarking import statistics


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


def test_a_ramp_is_drift_and_its_size_is_the_change_between_the_halves() -> None:
    ramp = [100.0 + number for number in range(20)]  # medians of the halves: 104.5 and 114.5
    assert statistics.drift(ramp) == pytest.approx(10 / 104.5)
    assert statistics.drift(ramp[::-1]) == pytest.approx(-10 / 114.5)


def test_what_is_small_or_may_be_chance_is_no_drift() -> None:
    sure_but_small = [1000.0 + number / 10 for number in range(60)]  # 0.3 % between the halves
    assert statistics.drift(sure_but_small) == 0.0
    large_but_too_few = [100.0, 101.0, 110.0, 111.0]
    assert statistics.drift(large_but_too_few) == 0.0
    assert statistics.drift([5.0]) == 0.0
    assert statistics.drift([10.0, 12.0] * 50) == 0.0


def test_noise_without_trend_is_rarely_called_drift() -> None:
    generator = random.Random(3)
    called = sum(
        statistics.drift([generator.lognormvariate(0, 0.2) for _ in range(64)]) != 0.0 for _ in range(500)
    )
    assert called / 500 <= 0.02


def test_windows_agree_up_to_one_percent_of_the_smaller() -> None:
    assert statistics.agree([100.0], [101.0])
    assert statistics.agree([101.0], [100.0])
    assert not statistics.agree([100.0], [101.1])
    assert statistics.agree([0.0], [0.0])


def test_outliers_are_counted_by_tukeys_fences() -> None:
    body = [float(number) for number in range(10, 20)]
    assert statistics.outliers(body) == statistics.Outliers(0, 0)
    # With three more the quartiles are 12 and 18: inner fences at 3 and 27, outer ones at -6 and 36.
    assert statistics.outliers([*body, 27.0, 40.0, 3.0]) == statistics.Outliers(mild=0, severe=1)
    assert statistics.outliers([*body, 27.5, 40.0, 2.5]) == statistics.Outliers(mild=2, severe=1)
