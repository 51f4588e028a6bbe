"""The evaluation after an epoch: every process takes a part of the pictures, and the counts are added."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import nn

from vertebra.data.batches import in_batches
from vertebra.data.datasets import Dataset, Sample
from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.measuring.evaluation import Evaluation, describe, match, split_told, unreadable_in
from vertebra.measuring.evaluation.counting import NAMED
from vertebra.measuring.evaluation.matching import matched_by
from vertebra.measuring.evaluation.results import names_of, of_tally
from vertebra.measuring.evaluation.tally import Tally
from vertebra.progress import Listener, Progress
from vertebra.training.ranks import Team

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Images in one call of the network.
BATCH = 64
#: Seconds after which an evaluation shows how far it is.
_SHOWN_S = 3.0
#: How many of the most confident mistakes are kept.
_MISTAKES = 24


@dataclass
class _Counted:
    """What one process saw of its part."""

    tally: Tally
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    missed: int = 0
    read_of: Counter[int] = field(default_factory=Counter)
    missed_of: Counter[int] = field(default_factory=Counter)


def evaluate(
    network: nn.Module,
    data: Dataset,
    record: Preprocess,
    labels: LabelSet,
    team: Team,
    *,
    workers: int,
    check: Callable[[], None] = lambda: None,
    text: str = "",
    progress: Listener,
) -> Evaluation:
    """Count the answers of `network` to the pictures of `data`, whose classes are matched to `labels` by
    name. `check` is called after every batch. Raises MeasurementError for answers that aren't finite."""
    outputs = match(data, labels, len(labels))
    start = time.monotonic()
    was_training = network.training
    network.eval()
    try:
        counted = _part(network, data, record, outputs, team, workers, check, progress, text)
    finally:
        network.train(was_training)
    whole = _added(team.gather(counted))
    if not whole.tally.total:
        raise InvalidInputError(
            f"None of the {whole.missed} images of {data.name} can be read: {whole.unreadable[0][1]}"
        )
    return of_tally(
        whole.tally,
        dataset=data.name,
        dataset_sha256=None,
        split=split_told(data, len(data)),
        preprocess=record,
        num_classes=len(labels),
        unreadable=tuple(whole.unreadable[:NAMED]),
        num_unreadable=whole.missed,
        names=names_of(labels, data.classes, outputs),
        seconds=time.monotonic() - start,
        pictures=describe(
            data, read=whole.read_of, missed=whole.missed_of, matched=matched_by(data, labels), left_out={}
        ),
    )


def _part(
    network: nn.Module, data: Dataset, record: Preprocess, outputs: tuple[int, ...], team: Team, workers: int,
    check: Callable[[], None], progress: Listener, text: str,
) -> _Counted:  # fmt: skip
    found = _Counted(Tally(_MISTAKES))
    event = Progress(text or f"evaluating on {data.name}", 0, len(data), "images")
    ready = in_batches(
        _own(data, team), lambda sample: sample.source, record, BATCH,
        workers=max(1, workers), prefetch=2 * BATCH, reuse=True,
    )  # fmt: skip
    answer, start = _answer(network), time.monotonic()
    with closing(ready):
        for batch in ready:
            failed = unreadable_in(batch, strict=False)
            found.missed += len(failed)
            found.unreadable += failed[: NAMED - len(found.unreadable)]
            found.missed_of.update(sample.label for sample, _ in batch.unreadable)
            samples = batch.readable
            found.read_of.update(sample.label for sample in samples)
            if samples:
                found.tally.add(samples, [outputs[one.label] for one in samples], answer(batch.images))
            check()
            if time.monotonic() - start >= _SHOWN_S:
                done = min(len(data), team.world * (found.tally.total + found.missed))
                progress(replace(event, done=done))
    return found


def _own(data: Dataset, team: Team) -> Iterator[Sample]:
    return islice(iter(data), team.rank, None, team.world)


def _answer(
    network: nn.Module,
) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    like = next(network.parameters())

    def answer(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits = network(torch.from_numpy(images).to(like.device, like.dtype))
        given: npt.NDArray[np.float32] = logits.float().cpu().numpy()
        return given

    return answer


def _added(parts: list[_Counted]) -> _Counted:
    """The counts of all processes together: whole numbers, so that their order changes nothing."""
    first, *others = parts
    for other in others:
        first.tally.merge(other.tally)
        first.unreadable += other.unreadable
        first.missed += other.missed
        first.read_of.update(other.read_of)
        first.missed_of.update(other.missed_of)
    return first


@torch.no_grad()
def check_finite(network: nn.Module) -> None:
    """Raise MeasurementError where a parameter or a running statistic isn't a finite number."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise MeasurementError(f"{name} of the network isn't finite.", "lower the rate: --set lr=…")
