"""Requests at planned moments: exact figures in virtual time, against queues that are worked out here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import virtual_time
from vertebra.measuring.benchmarking.scenarios import Bound, arrivals
from vertebra.measuring.requests import offering, results
from vertebra.measuring.requests.offering import Offered, offer
from vertebra.measuring.requests.results import Asked
from vertebra.measuring.requests.searching import WITHIN, Search
from virtual_time import Queue

BOUND = Bound(0.030)
ASKED = Asked(
    model="tiny", address="http://there:8000/v2/models/tiny", system=None, server="made", version="1.2",
    platform="onnx", sent="FP32 over HTTP", batch_size=1, input_size=224, bound=BOUND,
)  # fmt: skip


def offered(ask: Any, rate: float = 50.0, queries: int = 1000, **more: Any) -> Offered:
    return virtual_time.run(offer(ask, rate=rate, bound=BOUND, queries=queries, **more))


def made(rate: float, verdict: str, seed: int = 0) -> Offered:
    """A run with this verdict."""
    missed = {"kept": 0, "unclear": 8, "broken": 14, "late": 0}[verdict]
    lag = 0.01 if verdict == "late" else 0.0001
    return Offered(rate, 1, BOUND, 662, (0.02,) * (662 - missed), (lag,) * 662, missed, {}, True, seed)


# ------------------------------------------------------------------ the open loop


def lindley(moments: list[float], service_s: float) -> list[float]:
    """The latencies of a queue with one server."""
    free, found = 0.0, []
    for moment in moments:
        free = max(free, moment) + service_s
        found.append(free - moment)
    return found


@pytest.mark.parametrize("rate", [10.0, 30.0])
def test_latencies_are_those_of_the_queue(rate: float) -> None:
    found = offered(Queue(0.010).ask, rate, seed=3)
    expected = lindley(arrivals(rate, 1000, seed=3), 0.010)
    assert found.latencies_s == pytest.approx(expected, abs=1e-6)
    assert (found.missed, found.sent, found.is_whole) == (sum(one > 0.030 for one in expected), 1000, True)
    assert max(found.lags_s) < 1e-6


def test_a_stall_is_seen_by_every_request_that_was_planned_in_it() -> None:
    """A loop that waited for answers would see one slow request."""

    def ask(number: int, done: Any) -> Any:
        loop = asyncio.get_running_loop()
        now = loop.time() - 100.01  # the run's own time
        return loop.call_later(max(0.001, 6 - now if now >= 5 else 0), done, None).cancel

    found = virtual_time.run(offer(ask, rate=20, bound=Bound(0.5, 50), queries=400))
    expected = [6 - one if 5 <= one < 5.999 else 0.001 for one in arrivals(20, 400)]
    assert found.latencies_s == pytest.approx(expected, abs=1e-6)
    assert found.missed == sum(one > 0.5 for one in expected) >= 5


def test_a_rate_above_what_is_served_ends_early_and_is_broken() -> None:
    found = offered(Queue(0.010).ask, rate=200)
    assert (found.verdict, found.is_whole) == ("broken", False)
    assert found.missed == offering.fewest_broken(BOUND, 1000)
    assert found.sent < 200


def test_refusals_and_silence_are_counted_and_missed() -> None:
    def ask(number: int, done: Any) -> Any:
        if number == 7:
            return lambda: None  # never answered
        done("status 429" if number in (3, 400) else None)  # before `ask` returns
        return lambda: None

    found = offered(ask, queries=2000)
    assert found.failures == {"status 429": 2, "no answer": 1}
    assert (found.missed, len(found.latencies_s), found.is_whole, found.verdict) == (3, 1997, True, "kept")


def test_an_answer_that_is_late_and_bad_is_missed_once() -> None:
    def ask(number: int, done: Any) -> Any:
        late = number == 5
        return (
            asyncio.get_running_loop()
            .call_later(0.5 if late else 0.001, done, "broken" if late else None)
            .cancel
        )

    found = offered(ask)
    assert (found.missed, found.failures) == (1, {"broken": 1})


def test_requests_under_way_are_given_up_at_an_early_end() -> None:
    given_up = []
    found = offered(lambda number, done: lambda: given_up.append(number), rate=1000)
    assert (found.verdict, found.failures) == ("broken", {})
    assert len(given_up) == found.sent


def test_a_generator_that_is_late_says_so() -> None:
    def ask(number: int, done: Any) -> Any:
        asyncio.get_running_loop().now += 0.012  # type: ignore[attr-defined]
        done(None)
        return lambda: None

    found = offered(ask, rate=80)  # 12 ms are needed to send a request, and one comes every 12.5 ms
    assert (found.verdict, found.missed > 0) == ("late", True)
    assert found.lag_s > 0.003
    assert "late at 80" in results.late_text(found)
    assert found.latencies_s[-1] >= found.lags_s[-1]  # the latency counts from the planned moment


@pytest.mark.parametrize(
    ("percent", "queries"), [(50, 11), (90, 64), (90, 500), (99, 1), (99, 458), (99, 662), (99, 5000)]
)
def test_the_limits_are_those_of_the_binomial(percent: int, queries: int) -> None:
    bound = Bound(1.0, percent)
    assert offering.most_allowed(bound, queries) == bound.allowance(queries)
    late = 1 - percent / 100
    fewest = offering.fewest_broken(bound, queries)
    chances = (
        [math.comb(queries, n) * late**n * (1 - late) ** (queries - n) for n in range(queries + 1)]
        if (queries < 1000)
        else []
    )
    if chances:
        assert math.fsum(chances[fewest:]) <= 0.025
        assert math.fsum(chances[fewest - 1 :]) > 0.025


def test_the_precise_loop_runs_timers_in_order_and_reads_sockets() -> None:
    async def work() -> list[int]:
        seen: list[int] = []
        loop = asyncio.get_running_loop()
        for place in (3, 1, 2):
            loop.call_later(place / 1000, seen.append, place)
        loop.call_soon_threadsafe(seen.append, 0)
        while len(seen) < 4:
            await asyncio.sleep(0.0002)
        return seen

    with asyncio.Runner(loop_factory=offering.loop) as runner:
        assert runner.run(work()) == [0, 1, 2, 3]


# ------------------------------------------------------------------ the search


def search(verdict: Callable[[float, int], str], runs: int = 3, first: float = 10.0) -> Search:
    async def trial(rate: float, seed: int) -> Offered:
        return made(rate, verdict(rate, seed), seed)

    found = Search(runs=runs)
    asyncio.run(found.find(trial, first))
    return found


@pytest.mark.parametrize("limit", [1.0, 7.0, 10.0, 333.0])
def test_the_rate_is_just_below_the_limit_and_kept_in_every_run(limit: float) -> None:
    found = search(lambda rate, seed: "kept" if rate <= limit else "broken")
    assert found.rate is not None
    assert limit / WITHIN <= found.rate <= limit < found.broken <= found.rate * WITHIN * 1.0001
    assert [one.seed for one in found.at(found.rate)] == [0, 1, 2]
    assert (found.late, found.ended) == (None, "found")


def test_a_rate_that_fails_in_another_run_is_lowered() -> None:
    found = search(lambda rate, seed: "kept" if rate <= (100, 100, 80)[seed] else "unclear")
    assert 80 / WITHIN**3 < found.rate <= 80
    assert found.broken is None  # "unclear" shows nothing


def test_no_rate_is_found_where_none_is_kept() -> None:
    found = search(lambda rate, seed: "broken")
    assert found.rate is None
    assert [one.rate for one in found.trials] == [10 / 2**power for power in range(7)]


def test_a_late_generator_bounds_the_search_and_is_asked_again() -> None:
    found = search(lambda rate, seed: "kept" if rate <= 50 else "late")
    assert found.rate <= 50
    assert found.late is not None
    assert results.of_search(ASKED, found) == []
    tried: dict[float, int] = {}

    def by_chance(rate: float, seed: int) -> str:
        tried[rate] = tried.get(rate, 0) + 1
        return "broken" if rate > 90 else "late" if rate > 50 and tried[rate] == 1 else "kept"

    found = search(by_chance)
    assert 90 / WITHIN**2 < found.rate <= 90
    assert found.late is None


def test_what_was_found_is_kept_when_the_search_is_interrupted() -> None:
    async def trial(rate: float, seed: int) -> Offered:
        if rate > 30:
            raise KeyboardInterrupt
        return made(rate, "kept", seed)

    found = Search()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(found.find(trial, 10.0))
    assert (found.rate, found.ended) == (20.0, "interrupted")
    rate, *_ = results.of_search(ASKED, found)
    assert (rate.value, rate.grade) == (20.0, "C")
    assert "interrupted: a higher rate may be served" in rate.grade_reasons[0]


def waits_at_most(load: float, services: int) -> float:
    """P(wait <= `services` service times) in the queue M/D/1 under `load`, after Erlang."""
    terms = (
        (-load * (services - done)) ** done / math.factorial(done) * math.exp(load * (services - done))
        for done in range(services + 1)
    )
    return (1 - load) * math.fsum(terms)


def test_the_rate_found_is_that_of_the_queue_with_random_arrivals_and_constant_service() -> None:
    """The bound is three service times, so that at most two may be waited for."""

    async def trial(rate: float, seed: int) -> Offered:
        return await offer(Queue(0.010).ask, rate=rate, bound=BOUND, queries=6000, seed=seed)

    found = Search(runs=2)
    virtual_time.run(found.find(trial, 20.0))
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if waits_at_most(middle, 2) >= 0.99 else (low, middle)
    limit = low / 0.010  # a second
    assert 31 < limit < 33  # a third of what it can serve
    assert found.rate is not None
    assert 0.75 * limit < found.rate < 1.02 * limit
    for one in found.at(found.rate):  # by the same moments, counted
        late = sum(latency > 0.030 for latency in lindley(arrivals(found.rate, 6000, seed=one.seed), 0.010))
        assert one.missed == late <= offering.most_allowed(BOUND, 6000)


# ------------------------------------------------------------------ rows


def test_rows_state_what_was_asked_and_that_the_machine_is_unknown() -> None:
    found = Search(runs=2, trials=[made(40, "kept"), made(80, "broken"), made(40, "kept", 1)])
    found.ended, found._confirmed_rate = "found", 40
    rows = {row.metric: row for row in results.of_search(ASKED, found)}
    assert set(rows) == {
        "served_rate", "request_latency", "request_latency_p90", "request_latency_p99", "missed_requests",
        "failed_requests",
    }  # fmt: skip
    rate = rows["served_rate"]
    assert (rate.value, rate.low, rate.high, rate.samples) == (40, 40, 80, 1324)
    assert (rate.model, rate.engine, rate.provider, rate.scenario) == (
        "served:tiny",
        "made",
        "onnx",
        "server",
    )
    assert rate.system == "unknown (there:8000)"
    assert (rate.protocol, rate.arrival_rate) == ("p99 within 30 ms, FP32 over HTTP", None)
    assert (rate.source, rate.versions["server made"]) == (ASKED.address, "1.2")
    assert (rate.device, rate.precision, rate.threads) == (None, None, None)
    assert rate.grade == "B"
    assert "answers not compared: no reference" in rate.grade_reasons
    assert {rows[name].arrival_rate for name in rows if name != "served_rate"} == {40}
    assert rows["request_latency"].value == 0.02


def test_failures_bound_the_percentiles_and_are_said() -> None:
    few = replace(made(40, "kept"), latencies_s=(0.02,) * 652, missed=10, failures={"status 500": 10})
    rows = {row.metric: row for row in results.of_rate(ASKED, [few])}
    assert rows["failed_requests"].value == pytest.approx(10 / 662)
    assert "request_latency_p99" not in rows  # the 99th percentile of the requests had no good answer
    assert rows["request_latency_p90"].value == 0.02
    assert "10 of 662 requests failed: status 500 (10)" in rows["failed_requests"].grade_reasons


@pytest.mark.parametrize(
    ("runs", "grade", "said"),
    [
        ([0.02], "B", "one run"),
        ([0.02, 0.0201, 0.0202], "B", "3 runs 1.0 % apart"),
        ([0.02, 0.03, 0.025], "C", "3 runs 40.0 % apart"),
    ],
)
def test_runs_that_contradict_each_other_lower_the_grade(runs: list[float], grade: str, said: str) -> None:
    several = [replace(made(40, "kept", seed), latencies_s=(value,) * 662) for seed, value in enumerate(runs)]
    graded = results.graded_runs(ASKED, several)
    assert graded.letter == grade
    assert graded.reasons[0] == said
    assert results.graded_runs(replace(ASKED, defects=("others",)), several).letter == "C"


def test_raw_samples_can_be_told_apart_by_run() -> None:
    samples = results.samples_of([made(40, "kept"), made(40, "unclear", 1)])
    assert samples["request_latency.count"] == [662, 654]
    assert len(samples["request_latency"]) == 662 + 654
    assert all(early <= late for early, late in pairwise(samples["request_latency.seed"]))
