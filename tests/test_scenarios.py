"""Load patterns: exact figures from simulated threads whose time passes only when they spend it."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vertebra.data.preprocess import decode
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement
from vertebra.measuring.benchmarking import scenarios
from vertebra.measuring.benchmarking.scenarios import Bound, Served
from vertebra.metrics import METRICS

MILLISECOND = 1_000_000


class Simulation:
    """Streams in threads of their own, of which only the one furthest behind in time runs."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}
        self._turn = threading.Condition()
        self._me = threading.local()

    def clock(self) -> int:
        return self._times.get(getattr(self._me, "stream", -1), 0)

    def spend(self, milliseconds: float) -> None:
        me = self._me.stream
        with self._turn:
            self._times[me] += round(milliseconds * MILLISECOND)
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._is_next(me))

    def sleep(self, seconds: float) -> None:
        self.spend(seconds * 1e3)

    def together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        self._times = dict.fromkeys(range(len(calls)), 0)
        results: list[Any] = [None] * len(calls)

        def begin(me: int) -> None:
            self._me.stream = me
            with self._turn:
                self._turn.wait_for(lambda: self._is_next(me))
            results[me] = calls[me]()
            with self._turn:
                del self._times[me]
                self._turn.notify_all()

        threads = [threading.Thread(target=begin, args=(me,)) for me in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def takes(self, *milliseconds: float) -> Callable[[], None]:
        turn = cycle(milliseconds)
        return lambda: self.spend(next(turn))

    @property
    def fakes(self) -> dict[str, Any]:
        return {"clock": self.clock, "together": self.together}

    def _is_next(self, me: int) -> bool:
        return min(self._times, key=lambda stream: (self._times[stream], stream)) == me


# Offline.


def test_offline_counts_whole_batches_of_every_stream():
    fake = Simulation()
    told = scenarios.offline(
        [fake.takes(10), fake.takes(25)], batch_size=4, seconds=0.1, **fake.fakes
    )  # 10 batches of 10 ms, and 4 of 25
    assert told.streams == 2
    assert told.images == 4 * (10 + 4)
    assert told.throughput == pytest.approx(4 / 0.010 + 4 / 0.025)
    assert told.conditions() == {"scenario": "offline", "batch_size": 4, "streams": 2}


def test_offline_lets_the_last_batch_end_and_rates_it_whole():
    fake = Simulation()
    told = scenarios.offline([fake.takes(30)], batch_size=1, seconds=0.1, **fake.fakes)
    assert told.latencies_ns == ((30 * MILLISECOND,) * 4,)
    assert told.spans_ns == (120 * MILLISECOND,)
    assert told.throughput == pytest.approx(1 / 0.030)


def test_offline_runs_at_least_one_batch():
    fake = Simulation()
    assert scenarios.offline([fake.takes(500)], batch_size=64, seconds=0.1, **fake.fakes).images == 64


def test_real_streams_run_side_by_side_and_their_errors_are_told():
    meeting = threading.Barrier(3, timeout=30)  # passed only where all three are there at once
    assert scenarios.side_by_side([lambda: meeting.wait() is not None] * 3) == [True] * 3
    with pytest.raises(ZeroDivisionError):
        scenarios.side_by_side([lambda: 1, lambda: 1 // 0])


@pytest.mark.parametrize(("threads", "streams", "each"), [(8, 1, 8), (8, 3, 2), (8, 8, 1), (1, 1, 1)])
def test_threads_are_shared_among_streams(threads, streams, each):
    assert scenarios.threads_per_stream(threads, streams) == each


@pytest.mark.parametrize("streams", [0, 5, -1])
def test_a_stream_without_a_thread_is_refused(streams):
    with pytest.raises(InvalidInputError, match=f"{streams} streams"):
        scenarios.threads_per_stream(4, streams)


# The bound.


def exact_tail(queries: int, missed: int, percent: int) -> Fraction:
    late = 1 - Fraction(percent, 100)
    return sum(
        (
            math.comb(queries, hits) * late**hits * (1 - late) ** (queries - hits)
            for hits in range(missed + 1)
        ),
        Fraction(0),
    )


@pytest.mark.parametrize(("percent", "queries"), [(50, 11), (90, 64), (95, 130), (99, 662)])
def test_a_percentile_takes_as_many_queries_as_in_loadgen(percent, queries):
    assert Bound(1.0, percent).queries() == queries


@pytest.mark.parametrize("percent", [50, 90, 99])
@pytest.mark.parametrize("missed", [0, 1, 3])
def test_the_fewest_queries_are_those_of_the_exact_binomial(percent, missed):
    fewest = Bound(1.0, percent).queries(missed)
    assert exact_tail(fewest, missed, percent) <= Fraction(1, 100)
    assert exact_tail(fewest - 1, missed, percent) > Fraction(1, 100)


@pytest.mark.parametrize("queries", [400, 459, 661, 662, 2000])
def test_the_allowance_is_the_most_that_is_accepted(queries):
    bound = Bound(1.0)
    most = bound.allowance(queries)
    assert not bound.accepts(queries, most + 1)
    assert most == -1 or bound.accepts(queries, most)
    assert (most == -1) == (queries < 459)


@pytest.mark.parametrize(("seconds", "percent"), [(0.0, 99), (-1.0, 99), (1.0, 0), (1.0, 100)])
def test_a_bound_that_nothing_holds_is_refused(seconds, percent):
    with pytest.raises(InvalidInputError):
        Bound(seconds, percent)


# Server.


def test_arrivals_are_poisson_and_the_same_for_one_seed():
    when = scenarios.arrivals(50.0, 20_000, seed=3)
    assert when == scenarios.arrivals(50.0, 20_000, seed=3)
    assert when != scenarios.arrivals(50.0, 20_000, seed=4)
    gaps = np.diff([0.0, *when])
    assert gaps.min() > 0
    # Mean and deviation of an exponential are both 1 / rate; of 20,000 they are known to 0.7 %.
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.03)


def queue_by_hand(rate: float, queries: int, service_ms: float, servers: int) -> list[int]:
    """Latencies of first come, first served, by the free moments of the servers."""
    service = round(service_ms * MILLISECOND)
    free = [0] * servers
    latencies = []
    for arrival in scenarios.arrivals(rate, queries):
        moment = round(arrival * 1e9)
        done = max(moment, heapq.heappop(free)) + service
        heapq.heappush(free, done)
        latencies.append(done - moment)
    return latencies


@pytest.mark.parametrize(("streams", "rate"), [(1, 80.0), (1, 20.0), (2, 150.0), (3, 100.0)])
def test_a_server_is_the_queue_worked_out_by_hand(streams, rate):
    fake = Simulation()
    bound = Bound(10.0, 90)
    told = scenarios.serve(
        [fake.takes(10)] * streams, rate, bound, queries=200, sleep=fake.sleep, **fake.fakes
    )
    # Sleeps are in seconds and come back as nanoseconds: 1 ns of rounding may stay.
    assert np.allclose(told.latencies_ns, queue_by_hand(rate, 200, 10, streams), rtol=0, atol=2 * streams)
    assert told.missed == 0
    assert told.holds


def test_rates_count_images_and_not_queries():
    fake = Simulation()
    told = scenarios.serve(
        [fake.takes(10)], 80.0, Bound(10.0, 90), batch_size=4, queries=64, sleep=fake.sleep, **fake.fakes
    )
    assert np.allclose(told.latencies_ns, queue_by_hand(20.0, 64, 10, 1), rtol=0, atol=2)


def test_a_server_that_is_too_slow_is_ended_early_and_tells_no_figures():
    fake = Simulation()
    bound = Bound(0.05, 90)
    told = scenarios.serve([fake.takes(100)], 100.0, bound, queries=500, sleep=fake.sleep, **fake.fakes)
    assert told.missed == bound.allowance(500) + 1
    assert len(told.latencies_ns) < 500
    assert not told.holds
    assert told.figures() == {}


def test_missed_deadlines_and_percentiles_are_those_of_all_queries():
    late, early = 30 * MILLISECOND, 10 * MILLISECOND
    told = Served(5.0, 1, 1, Bound(0.02, 90), 700, (late,) * 70 + (early,) * 630)
    figures = told.figures()
    assert figures == {
        "latency": 0.01, "latency_p90": 0.01, "latency_p99": 0.03, "missed_deadlines": pytest.approx(0.1),
    }  # fmt: skip
    assert not told.holds  # exactly a tenth late doesn't show that less than a tenth is


def test_too_few_queries_for_the_percentile_are_refused():
    with pytest.raises(InvalidInputError) as told:
        scenarios.serve([lambda: None], 10.0, Bound(1.0), queries=458)
    assert "459" in str(told.value.hint)


def test_the_search_closes_in_on_the_greatest_rate_that_holds():
    def trial(rate: float) -> Served:
        slow = 2_000_000_000 if rate > 37 else 1
        return Served(rate, 1, 1, Bound(1.0), 662, (slow,) * 662)

    search = scenarios.greatest_rate(trial, ceiling=100.0, within=0.05)
    assert search.best is not None
    assert 37 / 1.05 <= search.best.rate <= 37
    assert search.figures() == {"sustained_rate": search.best.rate}
    assert search.conditions()["protocol"] == "p99 within 1000 ms"
    assert "arrival_rate" not in search.conditions()


def test_a_search_in_which_no_rate_holds_ends_and_tells_nothing():
    asked = []

    def trial(rate: float) -> Served:
        asked.append(rate)
        return Served(rate, 1, 1, Bound(1.0), 662, (2_000_000_000,) * 7)

    search = scenarios.greatest_rate(trial, ceiling=64.0, halvings=3)
    assert asked == [32.0, 16.0, 8.0]
    assert search.best is None
    assert search.figures() == search.conditions() == {}


def test_the_greatest_rate_of_a_simulated_server_lies_below_its_capacity():
    def trial(rate: float) -> Served:
        fake = Simulation()
        return scenarios.serve(
            [fake.takes(10)], rate, Bound(0.05, 90), queries=200, sleep=fake.sleep, **fake.fakes
        )

    search = scenarios.greatest_rate(trial, ceiling=100.0)
    assert search.best is not None
    assert 0.3 < search.best.rate / 100.0 < 1.0
    assert all(not one.holds for one in search.trials if one.rate > search.best.rate)


# End to end.


def test_end_to_end_tells_the_whole_and_the_preprocessing():
    fake = Simulation()
    seen = []

    def prepare(picture: bytes) -> str:
        fake.spend(3)
        return picture.decode()

    def infer(prepared: str) -> None:
        seen.append(prepared)
        fake.spend(7)

    def run() -> scenarios.EndToEnd:
        return scenarios.end_to_end([b"a", b"b"], prepare, infer, seconds=0.045, clock=fake.clock)

    (told,) = fake.together([run])
    assert seen == ["a", "b", "a", "b", "a"]
    assert told.latencies_ns == (10 * MILLISECOND,) * 5
    assert told.figures() == {"end_to_end_latency": 0.01, "preprocess_latency": 0.003}


def test_end_to_end_takes_the_samples_that_are_asked_for_whatever_the_time():
    told = scenarios.end_to_end([b"a"], lambda _: None, lambda _: None, seconds=0.0, samples=64)
    assert len(told.latencies_ns) == 64


def test_figures_and_conditions_are_what_rows_need():
    offline = scenarios.Offline(2, ((10,) * 700,), (7000,))
    server = Served(5.0, 1, 1, Bound(0.02), 700, (1,) * 700)
    rates = scenarios.RateSearch(server, (server,))
    runtime = {"system": "s", "engine": "e", "device": "cpu", "precision": "float32", "input_size": 224}
    for told in (offline, server, rates, scenarios.EndToEnd((2,), (1,))):
        for metric, value in told.figures().items():
            conditions = {**runtime, **told.conditions()}
            row = Measurement(model="m", metric=metric, value=value, origin="benched", **conditions)
            assert set(METRICS[metric].conditions) <= set(row.conditions())


# Photographs.


def test_synthetic_photographs_are_of_imagenets_size_and_the_same_every_time():
    first, second = scenarios.photographs(number=2)
    assert first != second
    assert [first, second] == scenarios.photographs(number=2)
    pixels = decode(first)
    assert pixels.shape == (375, 500, 3)
    assert pixels.std() > 30  # neither flat nor blank


def test_synthetic_photographs_fall_off_in_frequency_as_photographs_do():
    grey = decode(scenarios.photographs(number=1)[0]).mean(axis=2)
    amplitude = np.abs(np.fft.rfft(grey - grey.mean(), axis=1)).mean(axis=0)
    bands = [amplitude[low:high].mean() for low, high in [(2, 8), (8, 32), (32, 128)]]
    # Four times the frequency, about a quarter of the amplitude (along one axis, the other summed over).
    assert all(1.5 < low / high < 8 for low, high in pairwise(bands))


def test_photographs_of_a_folder_are_its_jpegs_by_name(tmp_path: Path):
    made = scenarios.photographs(number=3)
    for name, content in zip(["b.JPG", "sub/a.jpeg", "c.jpg"], made, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "notes.txt").write_text("no picture")
    assert scenarios.photographs(tmp_path) == [made[0], made[2], made[1]]
    assert scenarios.photographs(tmp_path, number=1) == [made[0]]


@pytest.mark.parametrize(("name", "said"), [("empty", "has no JPEG"), ("absent", "There is no folder")])
def test_a_folder_without_photographs_is_refused(tmp_path: Path, name: str, said: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match=said):
        scenarios.photographs(tmp_path / name)
