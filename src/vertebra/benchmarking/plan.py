"""What is to be measured, and how long that may take."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from vertebra.benchmarking.statistics import FEWEST_FOR_INTERVAL
from vertebra.engines import Settings, Subject
from vertebra.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network on one engine under one set of conditions: what one child process measures.

    `reference` is the folder of a Bundle of the same network, whose logits the outputs are compared with
    before a timing is believed. A subject that is a Bundle is its own reference; a builder without one is
    timed, and its figures say that nothing was compared.
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
    weights: str | None = None
    reference: str | None = None

    def __post_init__(self) -> None:
        _ = self.settings  # refuses impossible sizes here, before a process is started

    @property
    def settings(self) -> Settings:
        """What the engine is asked for."""
        return Settings(
            batch_size=self.batch_size,
            input_size=self.input_size,
            in_channels=self.in_channels,
            num_classes=self.num_classes,
            precision=self.precision,
            device=self.device,
            threads=self.threads,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Case:
        """The case that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "subject": Subject(**values["subject"])})


#: What a good figure has: so many samples, and a 95 % interval of the median within so much of it.
GOOD_SAMPLES, GOOD_HALF_WIDTH = 64, 0.02


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a case may take and what is asked of its samples. Times are in seconds.

    `seconds` bounds warm-up and timing together; loading and the first inference come on top. Warm-up gets
    at most `warm_up_most_s` and a third of `seconds`. A child that says nothing for `timeout_s` beyond
    what it was given counts as hung. `least_s` makes a fast network's samples span more than one moment.
    """

    seconds: float = 60.0
    samples: int = GOOD_SAMPLES
    half_width: float = GOOD_HALF_WIDTH
    least_samples: int = FEWEST_FOR_INTERVAL
    most_samples: int = 20_000
    least_s: float = 0.5
    warm_up_runs: int = 10
    warm_up_least_s: float = 0.5
    warm_up_most_s: float = 10.0
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("seconds", "samples", "half_width", "least_samples", "timeout_s"):
            if getattr(self, name) <= 0:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, but must be greater than 0.")
        if self.samples > self.most_samples or self.least_samples > self.most_samples:
            raise InvalidInputError(
                f"{max(self.samples, self.least_samples)} samples are asked for, "
                f"but at most {self.most_samples} are taken.",
                "raise most_samples, or ask for fewer",
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """The limits that `to_json` wrote."""
        return cls(**json.loads(text))
