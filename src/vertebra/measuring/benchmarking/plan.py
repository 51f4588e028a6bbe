"""What is to be measured, and how long that may take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vertebra.engines import ENGINES, Settings, Subject
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements.statistics import FEWEST_FOR_INTERVAL
from vertebra.measuring.benchmarking.scenarios import threads_per_stream

#: Load patterns in MLPerf's words.
SCENARIOS = ("single-stream", "offline", "server")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network on one engine under one set of conditions: what one child process measures.

    `reference` is the folder of a Bundle of the same network; the outputs are compared with its logits before
    a timing is trusted. A subject that is a Bundle is its own reference; a builder without one is timed, and
    its figures say that nothing was compared. `network_sha256` is the network's content if that comes from a
    file.

    `scenario` is one of SCENARIOS: `streams` serve an offline load at once; queries of a server arrive
    at `arrival_rate` per second and should be answered within `latency_bound_s`. With `preprocess`, the
    record of a Preprocess as plain data, the time from a JPEG's bytes to the logits is measured too.
    `operations` are those of one image, if known: no latency can be shorter than the machine needs for them.
    `beside` is the number of busy threads of ours that run meanwhile, None for none.
    `graph` has the library and version of the graph that the subject's Bundle was made from, if it was.
    """

    model: str
    engine: str
    subject: Subject
    input_size: int
    batch_size: int = 1
    num_classes: int = 1000
    in_channels: int = 3
    precision: str = "float32"
    threads: int = 1
    device: str = "cpu"
    layout: str | None = None
    provider: str | None = None
    weights: str | None = None
    network_sha256: str | None = None
    reference: str | None = None
    scenario: str = "single-stream"
    streams: int = 1
    arrival_rate: float | None = None
    latency_bound_s: float | None = None
    preprocess: Mapping[str, Any] | None = None
    operations: float | None = None
    beside: int | None = None
    graph: str | None = None

    def __post_init__(self) -> None:
        _ = self.settings  # refuses impossible sizes here, before a process is started
        if self.scenario not in SCENARIOS:
            raise UnknownNameError.of("scenario", self.scenario, SCENARIOS, "vertebra bench --help")

    @property
    def settings(self) -> Settings:
        """What the engine is asked for. If it can't serve several streams by itself, several calls share it,
        and each gets its part of the threads."""
        info = ENGINES.get(self.engine.lower())
        inside = self.streams == 1 or (info is not None and info.many_streams)
        return Settings(
            batch_size=self.batch_size,
            input_size=self.input_size,
            in_channels=self.in_channels,
            num_classes=self.num_classes,
            precision=self.precision,
            device=self.device,
            threads=self.threads if inside else threads_per_stream(self.threads, self.streams),
            layout=self.layout,
            provider=self.provider,
            streams=self.streams if inside else 1,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Case:
        """The case that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "subject": Subject(**values["subject"])})


#: What a good figure has: this many samples, and a 95 % interval of the median within this share of it.
GOOD_SAMPLES, GOOD_HALF_WIDTH = 64, 0.02
#: Half of the interval at which a brief process ends. With the prior that ships, an undisturbed one gets
#: there with five blocks; with any number it would not get below 7 %.
BRIEF_HALF_WIDTH = 0.10


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a case may take and what its samples must reach. Times are in seconds.

    `seconds` bounds warm-ups and blocks of all the case's processes together; loading and the first inference
    come on top. `processes` fresh ones are measured, and further ones if the interval over processes is
    still too wide and there is time. Each runs blocks of about `block_s` until it has `samples` over
    `least_s` and an interval of the median within `half_width`, or its part of the time is spent; then it has
    at least `least_samples`. Warm-up gets at most `warm_up_most_s` and a third of the process's time. A child
    that sends nothing for `timeout_s` beyond the time it was given counts as hung.

    With `within`, a quick process has enough as soon as half of the interval that an independent survey falls
    into (`measurements.spread`) is within that share of the latency: what is then unknown, such as what
    another process would give, further samples of this one don't tell.
    """

    seconds: float = 60.0
    processes: int = 3
    samples: int = GOOD_SAMPLES
    half_width: float = GOOD_HALF_WIDTH
    least_samples: int = FEWEST_FOR_INTERVAL
    most_samples: int = 20_000
    least_s: float = 2.0
    block_s: float = 0.25
    block_least: int = 3
    run_in_s: float = 0.02
    warm_up_runs: int = 10
    warm_up_least_s: float = 0.5
    warm_up_most_s: float = 10.0
    timeout_s: float = 120.0
    within: float | None = None

    def __post_init__(self) -> None:
        names = ("seconds", "processes", "samples", "half_width", "least_samples", "block_s", "timeout_s")
        for name in names:
            if getattr(self, name) <= 0:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, but must be greater than 0.")
        if self.samples > self.most_samples or self.least_samples > self.most_samples:
            raise InvalidInputError(
                f"{max(self.samples, self.least_samples)} samples were asked for, "
                f"but at most {self.most_samples} are taken.",
                "raise most_samples, or ask for fewer",
            )

    @classmethod
    def quick(cls, **more: Any) -> Limits:
        """One process and at least half a second of samples, never graded above B."""
        return cls(**{"processes": 1, "least_s": 0.5, **more})

    def brief(self) -> Limits:
        """These, for many cases of which each counts by what an independent survey would find."""
        return replace(
            self, within=BRIEF_HALF_WIDTH, block_least=2, warm_up_most_s=min(self.warm_up_most_s, 1.0)
        )

    @property
    def is_quick(self) -> bool:
        return self.processes == 1

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """The limits that `to_json` wrote."""
        return cls(**json.loads(text))
