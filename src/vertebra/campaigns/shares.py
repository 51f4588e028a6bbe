"""A share of many cases for one of several machines: the same command on each, and nothing to coordinate.

Which share a case is in follows from what it is, and from nothing else: not from the other cases, the order,
or the machine. So shares are disjoint and together the whole, also where machines have different engines,
and a case that is added moves no other.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from vertebra.errors import InvalidInputError
from vertebra.machine import tenancy
from vertebra.measurements.display import count
from vertebra.measuring.benchmarking import Case
from vertebra.progress import Listener, Progress, silent

T = TypeVar("T")

#: The most shares.
MOST = 1_000_000


@dataclass(frozen=True)
class Share:
    """Share `number` (from 1) of `of`."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.of <= MOST or not 1 <= self.number <= self.of:
            raise InvalidInputError(
                f"There is no share {self.number} of {self.of}.",
                f"write --shard K/N with K from 1 to N, and N of at most {MOST:,}",
            )

    @classmethod
    def parsed(cls, text: str) -> Share:
        """The share that a text such as "3/8" names. Raises InvalidInputError where it names none."""
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
        if found is None:
            raise InvalidInputError(f'"{text[:50]}" is not a share.', "write it as K/N, such as 3/8")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, content: str) -> bool:
        """Whether something with this content is in the share."""
        digest = hashlib.sha256(content.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:16], "big") % self.of == self.number - 1


def of_cases(wanted: Iterable[Case], shard: str | None, progress: Listener | None = None) -> list[Case]:
    """The cases in the share that `shard` ("3/8") names, in their order; all if it is None. Says to
    `progress` which share it is, and whether the machine is shared."""
    return _of(list(wanted), shard, content, "case", progress)


def of_names(wanted: Iterable[T], shard: str | None, progress: Listener | None = None) -> list[T]:
    """As `of_cases`, of networks that are known by a text."""
    return _of(list(wanted), shard, str, "network", progress)


def content(case: Case) -> str:
    """What a case is, without what the machine chooses for it, such as the number of threads."""
    asked = {
        "model": case.model, "weights": case.weights, "network": case.network_sha256, "engine": case.engine,
        "precision": case.precision, "device": case.device, "input_size": case.input_size,
        "batch_size": case.batch_size, "scenario": case.scenario, "streams": case.streams,
        "arrival_rate": case.arrival_rate, "latency_bound_s": case.latency_bound_s, "beside": case.beside,
        "end_to_end": case.preprocess is not None,
    }  # fmt: skip
    return json.dumps(asked, sort_keys=True)


def _of(
    every: list[T], shard: str | None, content_of: Callable[[T], str], noun: str, progress: Listener | None
) -> list[T]:
    if shard is None:
        return every
    share = Share.parsed(shard)
    chosen = [one for one in every if share.holds(content_of(one))]
    of = count(len(every), noun)
    (progress or silent)(Progress(f"share {share}: {len(chosen)} of {of}; {tenancy.here()}"))
    return chosen
