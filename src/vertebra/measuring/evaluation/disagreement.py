"""How often a network's first answer in a precision is another one than in float32: no labels are needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vertebra.data.batches import in_batches
from vertebra.data.datasets import Dataset, Sample, is_validation
from vertebra.data.labels import IMAGENET_1K
from vertebra.data.preprocess import Preprocess
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.machine import system
from vertebra.measurements import Measurement
from vertebra.measurements.possible import plain_names
from vertebra.measuring.evaluation.counting import NAMED
from vertebra.measuring.evaluation.probing import digest
from vertebra.measuring.evaluation.results import Share, protocol
from vertebra.measuring.evaluation.running import Answer, split_told, unreadable_in
from vertebra.progress import Listener, Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

METRIC = "top1_disagreement"


@dataclass(frozen=True)
class Disagreement:
    """The share of pictures that are `classed_otherwise`, and what was compared. `copies` counts pictures
    left out because they equal another; `unreadable` names pictures and the reasons, at most a thousand, and
    `num_unreadable` counts all. `seconds` is the time of the run."""

    classed_otherwise: Share
    dataset: str
    dataset_sha256: str
    split: str
    preprocess: Preprocess
    copies: int
    unreadable: tuple[tuple[str, str], ...]
    num_unreadable: int
    seconds: float


def compare(
    data: Dataset,
    answer: Answer,
    reference: Answer,
    record: Preprocess,
    *,
    batch_size: int = 32,
    limit: int | None = None,
    strict: bool = False,
    progress: Listener | None = None,
) -> Disagreement:
    """Count the pictures among the first `limit` of `data` (None: all) to which `answer` and `reference`, the
    network in float32, give another first class. If outputs tie, the lower index is the answer.

    Labels aren't looked at. A picture that can't be read is named in the result and not counted; with
    `strict` it ends the run. Raises InvalidInputError if none can be read, ImageError with `strict`, and
    MeasurementError if an answer isn't a number.
    """
    total = len(data) if limit is None else min(limit, len(data))
    otherwise = compared = missed = 0
    unreadable = list[tuple[str, str]]()
    distinct = _Distinct(data.first(total))
    start = time.monotonic()
    listener = progress or silent
    event = Progress(f"comparing with float32 on {data.name}", 0, total, "images")
    listener(event)
    ready = in_batches(
        distinct, lambda sample: sample.source, record, batch_size,
        prefetch=2 * max(batch_size, system.default_threads()), reuse=True,
    )  # fmt: skip
    with closing(ready):
        for batch in ready:
            failed = unreadable_in(batch, strict=strict)
            missed += len(failed)
            unreadable += failed[: NAMED - len(unreadable)]
            samples = batch.readable
            if samples:
                own = _first_classes(answer(batch.images), samples)
                otherwise += int((own != _first_classes(reference(batch.images), samples)).sum())
                compared += len(samples)
            listener(replace(event, done=compared + missed + distinct.copies))
    if not compared:
        raise InvalidInputError(f"None of the {missed} images of {data.name} can be read: {unreadable[0][1]}")
    return Disagreement(
        classed_otherwise=Share(otherwise, compared),
        dataset=IMAGENET_1K if is_validation(data) else data.name,
        dataset_sha256=data.part(total).sha256,
        split=split_told(data, total),
        preprocess=record,
        copies=distinct.copies,
        unreadable=tuple(unreadable),
        num_unreadable=missed,
        seconds=time.monotonic() - start,
    )


@dataclass
class _Distinct:
    """The samples without exact copies of earlier ones: a picture counts once, however often it is there."""

    samples: Iterator[Sample]
    copies: int = 0

    def __iter__(self) -> Iterator[Sample]:
        seen: set[str] = set()
        for sample in self.samples:
            content = digest(sample)
            if content in seen:
                self.copies += 1
                continue
            seen.add(content)
            yield sample


def _first_classes(logits: npt.NDArray[np.float32], samples: list[Sample]) -> npt.NDArray[np.intp]:
    import numpy as np

    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        bad = samples[int(np.argmin(finite))]
        raise MeasurementError(f"The network's answer to {bad.name} isn't finite.", "check its weights")
    found: npt.NDArray[np.intp] = logits.argmax(axis=1)
    return found


def row(found: Disagreement, conditions: Mapping[str, Any]) -> Measurement:
    """The disagreement as a row. `conditions` are the columns that only the caller knows, as in
    `results.rows`."""
    low, high = found.classed_otherwise.interval
    common = plain_names(
        {
            "origin": "evaluated",
            "dataset": found.dataset,
            "dataset_sha256": found.dataset_sha256,
            "split": found.split,
            "protocol": protocol(found.preprocess),
            "input_size": found.preprocess.input_size[0],
            "samples": found.classed_otherwise.total,
            **conditions,
        }
    )
    return Measurement(metric=METRIC, value=found.classed_otherwise.value, low=low, high=high, **common)
