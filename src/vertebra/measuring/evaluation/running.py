"""The run of an evaluation: pictures in, logits out, and only counts are kept."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.data.batches import Batch, in_batches
from vertebra.data.datasets import Dataset, Sample, is_validation
from vertebra.data.labels import IMAGENET_1K, LabelSet
from vertebra.data.names import printable
from vertebra.data.preprocess import Preprocess
from vertebra.errors import ImageError, InvalidInputError
from vertebra.machine import system
from vertebra.measuring.evaluation.counting import MISTAKES, Count
from vertebra.measuring.evaluation.described import describe
from vertebra.measuring.evaluation.matching import match, matched_by
from vertebra.measuring.evaluation.results import Evaluation, names_of, of_tally
from vertebra.measuring.evaluation.tally import Tally
from vertebra.progress import Listener, Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Images (N, 3, H, W), float32, to logits (N, num_classes); N is at most the batch size.
Answer = Callable[["npt.NDArray[np.float32]"], "npt.NDArray[np.float32]"]


def evaluate(
    data: Dataset,
    answer: Answer,
    record: Preprocess,
    *,
    num_classes: int,
    labels: LabelSet | None = None,
    by_index: bool = False,
    independent: bool = False,
    batch_size: int = 32,
    limit: int | None = None,
    strict: bool = False,
    workers: int | None = None,
    prefetch: int | None = None,
    mistakes: int = MISTAKES,
    progress: Listener | None = None,
) -> Evaluation:
    """Count the answers of `answer` to the first `limit` images of `data` (None: to all).

    An image that can't be read is named in the result and left out of the shares; with `strict` it ends the
    run. At most a batch and `prefetch` images (None: two batches) are held at once.
    Raises InvalidInputError if classes and outputs can't be matched or no image could be read, ImageError
    with `strict`, and MeasurementError if the network answers with a value that isn't a number.
    """
    outputs = match(data, labels, num_classes, by_index=by_index)
    total = len(data) if limit is None else min(limit, len(data))
    start = time.monotonic()
    found = count(
        data.first(total), answer, record, outputs, independent=independent, batch_size=batch_size,
        strict=strict, workers=workers, prefetch=prefetch, mistakes=mistakes,
        event=Progress(f"evaluating on {data.name}", 0, total, "images"), progress=progress,
    )  # fmt: skip
    return result(
        data, found, record, outputs, num_classes=num_classes, labels=labels, by_index=by_index, total=total,
        seconds=time.monotonic() - start,
    )  # fmt: skip


def count(
    samples: Iterable[Sample],
    answer: Answer,
    record: Preprocess,
    outputs: Sequence[int],
    *,
    independent: bool = False,
    batch_size: int = 32,
    strict: bool = False,
    workers: int | None = None,
    prefetch: int | None = None,
    mistakes: int = MISTAKES,
    event: Progress | None = None,
    progress: Listener | None = None,
) -> Count:
    """What `answer` says of the `samples`, whose labels are the outputs at their place in `outputs`. Options
    as for `evaluate`. Counts of different pictures can be merged."""
    found = Count(Tally(mistakes, independent))
    listener, event = progress or silent, event or Progress("evaluating", 0, None, "images")
    listener(event)
    # Two batches ahead: while one is answered, the next becomes ready, be it on other silicon or these cores.
    ahead = 2 * max(batch_size, system.default_threads()) if prefetch is None else prefetch
    ready = in_batches(
        samples, lambda sample: sample.source, record, batch_size,
        workers=workers, prefetch=ahead, reuse=True,
    )  # fmt: skip
    with closing(ready):
        for batch in ready:
            failed = unreadable_in(batch, strict=strict)
            found.miss([sample.label for sample, _ in batch.unreadable], failed)
            readable = batch.readable
            found.read_of.update(sample.label for sample in readable)
            if readable:
                truths = [outputs[sample.label] for sample in readable]
                found.tally.add(readable, truths, answer(batch.images))
            listener(replace(event, done=found.tally.total + found.missed))
    return found


def result(
    data: Dataset,
    found: Count,
    record: Preprocess,
    outputs: tuple[int, ...],
    *,
    num_classes: int,
    total: int,
    seconds: float,
    labels: LabelSet | None = None,
    by_index: bool = False,
) -> Evaluation:
    """The evaluation of the first `total` pictures of `data`, which were counted. Raises InvalidInputError
    where none of them could be read."""
    if not found.tally.total:
        raise InvalidInputError(
            f"None of the {found.missed} images of {data.name} can be read: {found.unreadable[0][1]}"
        )
    return of_tally(
        found.tally,
        dataset=IMAGENET_1K if is_validation(data) else data.name,
        dataset_sha256=data.part(total).sha256,
        split=split_told(data, total),
        preprocess=record,
        num_classes=num_classes,
        unreadable=tuple(found.unreadable),
        num_unreadable=found.missed,
        names=names_of(labels, data.classes, outputs),
        seconds=seconds,
        pictures=describe(
            data,
            read=found.read_of,
            missed=found.missed_of,
            matched=matched_by(data, labels, by_index=by_index),
            left_out={"after the limit": len(data) - total},
        ),
    )


def split_told(data: Dataset, total: int) -> str:
    """The split as rows record it: a part of one isn't comparable with the whole, so it is marked.

    "val", "test", "all" if the set has no splits, "val[:500]" for its first 500 images.
    """
    split = data.split or ("val" if is_validation(data) else "all")
    return split if total == len(data) else f"{split}[:{total}]"


def unreadable_in(batch: Batch[Sample], *, strict: bool) -> list[tuple[str, str]]:
    """Names and reasons of a batch's unreadable images; with `strict` the first raises its ImageError."""
    failed = batch.unreadable
    if strict and failed:
        sample, error = failed[0]
        raise ImageError(f"{sample.name}: {error.message}", error.hint)
    return [(sample.name, reason(sample, error)) for sample, error in failed]


def reason(sample: Sample, error: ImageError) -> str:
    """Why an image can't be read, without the path or the size that the error begins with."""
    start = (
        r"<[\d,]+ bytes>"
        if not isinstance(sample.source, str | Path)
        else re.escape(printable(sample.source))
    )
    return printable(re.sub(f"^{start}: ", "", error.message))
