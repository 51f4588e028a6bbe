"""What compressing a network cost and bought: accuracy, size and latency before and after, with intervals.

Both sides answer the same pictures, so the difference of their accuracies has an interval for pairs. Their
latencies are taken in turns in one process, so that what slows the machine slows both; `vertebra bench`
measures each in a process of its own and keeps rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vertebra import units
from vertebra.errors import MeasurementError
from vertebra.measurements.statistics import Interval, median, median_interval
from vertebra.measuring.evaluation.paired import Pair, paired

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Flags = npt.NDArray[np.bool_]

ROUNDS = 25


@dataclass(frozen=True)
class Side:
    """A network: `right` (N,), whether its first class is right for each picture, the bytes of its files, and
    a call that runs it once for one picture."""

    name: str
    right: Flags
    size_bytes: int
    run: Callable[[], object]


@dataclass(frozen=True)
class Outcome:
    """Two networks on the same `pictures`: top-1 as shares of 1, the `gained` accuracy with its 95 % interval
    for pairs, bytes, seconds for one picture (medians), and the second's share of the first's time with its
    95 % interval, None below six rounds. `surely` says whether accuracy rose or fell, or None where the
    interval holds 0."""

    before: str
    after: str
    pictures: int
    top1_before: float
    top1: float
    gained: float
    low: float
    high: float
    bytes_before: int
    bytes: int
    latency_before_s: float
    latency_s: float
    of_time: float
    of_time_low: float | None
    of_time_high: float | None

    @property
    def surely(self) -> bool | None:
        return None if self.low <= 0 <= self.high else self.gained > 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "surely": self.surely}

    def line(self) -> str:
        """In one line for people."""
        verdict = {None: "no sure difference", True: "surely better", False: "surely worse"}[self.surely]
        sizes = " -> ".join(units.show(one, "B") for one in (self.bytes_before, self.bytes))
        times = " -> ".join(units.show(one, "s") for one in (self.latency_before_s, self.latency_s))
        span = ""
        if self.of_time_low is not None:
            span = f" [{self.of_time_low:.2f}, {self.of_time_high:.2f}]"
        return (
            f"{self.before} -> {self.after}: top-1 {self.top1_before:.2%} -> {self.top1:.2%} "
            f"({self.gained * 100:+.2f} [{self.low * 100:+.2f}, {self.high * 100:+.2f}] points on "
            f"{self.pictures} pictures, {verdict}); {sizes}; {times} "
            f"({self.of_time:.2f} of it{span})"
        )


def compare(
    before: Side,
    after: Side,
    *,
    groups: Sequence[int] | None = None,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """The outcome of `before` and `after`. `groups` are those of pictures that go together. Raises
    MeasurementError where the two didn't answer the same number of pictures, or none."""
    if len(before.right) != len(after.right) or not len(before.right):
        raise MeasurementError(
            f"{before.name} answered {len(before.right)} pictures and {after.name} {len(after.right)}: the "
            "two can't be compared."
        )
    pair: Pair = paired(after.right, before.right, groups=groups)
    first, second = in_turns(before.run, after.run, rounds=rounds, clock=clock)
    share: Interval = median_interval([b / a for a, b in zip(first, second, strict=True)])
    return Outcome(
        before=before.name, after=after.name, pictures=len(before.right),
        top1_before=float(before.right.mean()), top1=float(after.right.mean()),
        gained=pair.difference, low=pair.low, high=pair.high,
        bytes_before=before.size_bytes, bytes=after.size_bytes,
        latency_before_s=median(first), latency_s=median(second),
        of_time=share.median, of_time_low=share.low, of_time_high=share.high,
    )  # fmt: skip


def in_turns(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """The seconds of each call of `first` and of `second`, called in turns after three of each that don't
    count, the order changing from round to round."""
    samples: tuple[list[float], list[float]] = ([], [])
    for turn in range(-3, rounds):
        order = ((first, 0), (second, 1))
        for run, side in order if turn % 2 else order[::-1]:
            started = clock()
            run()
            took = clock() - started
            if turn >= 0:
                samples[side].append(took)
    return samples
