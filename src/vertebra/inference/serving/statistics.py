"""Counts and times of one model, which add up: every request that names it is one success or one failure, and
the times of a success's stages sum to its whole."""

from __future__ import annotations

import bisect
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from vertebra.inference.serving.batching import Stages

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")
#: upper bounds of the histograms' buckets, in seconds
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class Duration:
    """How often, and how long together."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def to_dict(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class Histogram:
    """Times by upper bound; the last bucket has none."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    ns: int = 0

    def add(self, ns: int) -> None:
        self.buckets[bisect.bisect_left(BOUNDS_S, ns / 1e9)] += 1
        self.ns += ns


class Statistics:
    """What one version of a model has done since the server started, reloads included."""

    def __init__(self) -> None:
        self.success, self.fail = Duration(), Duration()
        self.stages = {name: Duration() for name in STAGES}
        self.histograms = {name: Histogram() for name in ("request", *STAGES)}
        self.images = 0
        self.reasons: Counter[str] = Counter()
        #: images in a call of the engine -> times before, in and after it
        self.batches: dict[int, tuple[Duration, Duration, Duration]] = {}
        self.last_ms = 0
        self.lost = 0

    def succeeded(self, images: int, stages: Stages) -> None:
        """One request was answered."""
        self.images += images
        self.success.add(stages.total_ns)
        self.histograms["request"].add(stages.total_ns)
        for name, ns in zip(
            STAGES, (stages.queue_ns, stages.input_ns, stages.infer_ns, stages.output_ns), strict=True
        ):
            self.stages[name].add(ns)
            self.histograms[name].add(ns)
        self.last_ms = time.time_ns() // 1_000_000

    def failed(self, reason: str, ns: int) -> None:
        """One request was refused, for a reason of `refusals.KINDS`."""
        self.fail.add(ns)
        self.reasons[reason] += 1

    def ran(self, images: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """One call of the engine."""
        times = self.batches.setdefault(images, (Duration(), Duration(), Duration()))
        for duration, ns in zip(times, (input_ns, infer_ns, output_ns), strict=True):
            duration.add(ns)

    @property
    def calls(self) -> int:
        """Calls of the engine."""
        return sum(infer.count for _, infer, _ in self.batches.values())

    def to_dict(self) -> dict[str, Any]:
        """As the protocol's statistics extension has it."""
        nothing = Duration().to_dict()
        return {
            "last_inference": self.last_ms,
            "inference_count": self.images,
            "execution_count": self.calls,
            "inference_stats": {
                "success": self.success.to_dict(),
                "fail": self.fail.to_dict(),
                **{name: duration.to_dict() for name, duration in self.stages.items()},
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    **dict(zip(STAGES[1:], (one.to_dict() for one in times), strict=True)),
                }
                for size, times in sorted(self.batches.items())
            ],
        }
