"""The load: how pictures reach a network, and which load is best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.machine import system
from vertebra.measurements import Measurement, loads
from vertebra.measuring import benchmarking
from vertebra.measuring.benchmarking import scenarios

#: More busy threads beside a network than this are a mistake.
MOST_BESIDE = 1024


@dataclass(frozen=True)
class Load:
    """How pictures arrive: `scenario` is one of `benchmarking.SCENARIOS`. A server's queries arrive at
    `arrival_rate` (None searches for the greatest rate that keeps the bound) and are to be answered within
    `latency_bound_s`; `streams` are the numbers of calls that may run at once. With `end_to_end` the time
    from a JPEG's bytes is measured too. `beside` is the number of busy threads that run meanwhile, to measure
    as on a machine that is shared; 0 and None: none.

    Raises InvalidInputError if these contradict each other.
    """

    scenario: str = "single-stream"
    arrival_rate: float | None = None
    latency_bound_s: float | None = None
    streams: tuple[int, ...] = (1,)
    end_to_end: bool = False
    beside: int | None = None

    def __post_init__(self) -> None:
        if self.scenario not in benchmarking.SCENARIOS:
            raise UnknownNameError.of(
                "scenario", self.scenario, benchmarking.SCENARIOS, "vertebra bench --help"
            )
        if self.beside is not None and not 0 <= self.beside <= MOST_BESIDE:
            raise InvalidInputError(
                f"{self.beside} busy threads beside a network were asked for.",
                f"pass a whole number from 0 to {MOST_BESIDE}",
            )
        is_server = self.scenario == "server"
        if is_server != (self.latency_bound_s is not None):
            raise InvalidInputError(
                "A server needs a latency bound." if is_server else _not_for(self, "a latency bound"),
                "for a server, for example: --scenario server --latency-bound 50ms",
            )
        for what, value in (("arrival rate", self.arrival_rate), ("latency bound", self.latency_bound_s)):
            if value is not None and not (0 < value < math.inf):
                raise InvalidInputError(f"The {what} is {value:g}; it must be greater than 0 and finite.")
        if not is_server and self.arrival_rate is not None:
            raise InvalidInputError(_not_for(self, "an arrival rate"), "use: --scenario server")
        if self.scenario == "single-stream" and self.streams != (1,):
            raise InvalidInputError(_not_for(self, "several streams"), "use: --scenario offline, or server")
        if self.end_to_end and self.scenario != "single-stream":
            raise InvalidInputError(_not_for(self, "--end-to-end"), "leave one of them out")


def _not_for(load: Load, what: str) -> str:
    return f"The scenario {load.scenario} can't be combined with {what}."


def batches_of(scenario: str) -> tuple[int, ...]:
    """The batch sizes that are measured if none are named."""
    return scenarios.BATCH_SIZES if scenario == "offline" else (1,)


def streams_of(scenario: str, threads: int | None) -> tuple[int, ...]:
    """The numbers of streams that are measured if none are named."""
    return scenarios.stream_counts(checked_threads(threads)) if scenario == "offline" else (1,)


def best_loads(rows: Iterable[Measurement]) -> list[Measurement]:
    """From offline rows, the throughput of each network on each engine at the best load: of those within 2 %
    of the greatest throughput, the one with the fewest pictures at once."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for row in rows:
        if (row.metric, row.scenario) == ("throughput", "offline"):
            key = (row.model, row.network_sha256, row.engine, row.precision, row.device, row.beside)
            groups.setdefault(key, []).append(row)
    return [loads.best(group) for group in groups.values()]


def checked_threads(threads: int | None) -> int:
    most = system.describe().usable_cores
    if threads is not None and not 1 <= threads <= most:
        raise InvalidInputError(
            f"{threads} threads were asked for; this process may use 1 to {most}.",
            "leave out the number of threads to use every physical core",
        )
    return system.default_threads() if threads is None else threads
