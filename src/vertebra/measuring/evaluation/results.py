"""The result of an evaluation, and its rows for the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess
from vertebra.data.preprocess.record import IMAGENET_MEAN, IMAGENET_STD
from vertebra.measurements import Measurement
from vertebra.measurements.possible import plain_names
from vertebra.measuring.evaluation.described import Pictures
from vertebra.measuring.evaluation.statistics import wilson
from vertebra.measuring.evaluation.tally import Mistake, Tally


@dataclass(frozen=True)
class Share:
    """A share of images, with its 95 % interval (Wilson's)."""

    right: int
    total: int

    @property
    def value(self) -> float:
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.total)


@dataclass(frozen=True)
class ClassResult:
    """One class of the data set: how many of its images there were, and how well the network did on them.

    `recall` is the share of its images that were found, `precision` the share of the answers with this class
    that were right (None without such an answer). `confused_with` is the commonest wrong answer.
    """

    index: int
    name: str
    images: int
    right: int
    top5: int
    answers: int
    confused_with: str | None

    @property
    def recall(self) -> float:
        return self.right / self.images

    @property
    def precision(self) -> float | None:
        return self.right / self.answers if self.answers else None


@dataclass(frozen=True)
class Bins:
    """Of each bin of confidence: the right answers, and the sum of confidences in steps of 2^-40."""

    right: tuple[int, ...]
    confidence: tuple[int, ...]


@dataclass(frozen=True)
class Evaluation:
    """What a network scored on a data set.

    `confusion` counts (true output, answered output) pairs, `names` are the outputs' names by index, if
    known. `unreadable` are the names of images that couldn't be read and the reasons, at most a thousand of
    them; `num_unreadable` counts all. `seconds` is the time of the run. `pictures` says which classes and
    files it is of, and what was left out; `bins` are what `calibration_error` is computed from.
    """

    dataset: str
    split: str
    preprocess: Preprocess
    num_classes: int
    total: int
    top1: Share
    top5: Share | None
    calibration_error: float
    confusion: Mapping[tuple[int, int], int]
    top5_by_class: Mapping[int, int]
    mistakes: tuple[Mistake, ...]
    unreadable: tuple[tuple[str, str], ...]
    num_unreadable: int
    names: Mapping[int, str]
    seconds: float
    dataset_sha256: str | None = None
    pictures: Pictures | None = None
    bins: Bins | None = None

    def name_of(self, output: int) -> str:
        """An output's name, or its number."""
        return self.names.get(output, str(output))

    def interval_of(self, one: ClassResult) -> tuple[float, float]:
        """The 95 % interval of a class's recall."""
        return wilson(one.right, one.images)

    def classes(self) -> list[ClassResult]:
        """One result for each class that had an image, in the order of the outputs."""
        images: Counter[int] = Counter()
        answers: Counter[int] = Counter()
        wrong: dict[int, tuple[int, int]] = {}
        for (truth, predicted), count in sorted(self.confusion.items()):
            images[truth] += count
            answers[predicted] += count
            if truth != predicted and count > wrong.get(truth, (0, 0))[0]:
                wrong[truth] = (count, predicted)
        return [
            ClassResult(
                index=truth,
                name=self.name_of(truth),
                images=images[truth],
                right=self.confusion.get((truth, truth), 0),
                top5=self.top5_by_class.get(truth, 0),
                answers=answers[truth],
                confused_with=self.name_of(wrong[truth][1]) if truth in wrong else None,
            )
            for truth in sorted(images)
        ]


def of_tally(tally: Tally, **facts: Any) -> Evaluation:
    """The evaluation from a tally with images; with five classes or fewer there is no top-5."""
    assert tally.total, "an evaluation has images"
    return Evaluation(
        total=tally.total,
        top1=Share(tally.top1, tally.total),
        top5=Share(tally.top5, tally.total) if facts["num_classes"] > 5 else None,
        calibration_error=tally.calibration_error(),
        confusion=dict(tally.pairs),
        top5_by_class=dict(tally.top5_by_class),
        mistakes=tally.mistakes(),
        bins=Bins(tuple(tally.bin_right), tuple(tally.bin_confidence)),
        **facts,
    )


def names_of(
    labels: LabelSet | None, classes: tuple[str, ...] | None, outputs: tuple[int, ...]
) -> dict[int, str]:
    """Outputs by index and their names: the network's, else the data set's."""
    if labels is not None:
        return {label.index: label.name for label in labels}
    return dict(zip(outputs, classes, strict=True)) if classes is not None else {}


def rows(evaluation: Evaluation, conditions: Mapping[str, Any]) -> list[Measurement]:
    """The evaluation as rows. `conditions` are the columns that only the caller knows: model, weights,
    engine, precision, device, versions, measured_at, …"""
    common: dict[str, Any] = plain_names(
        {
            "origin": "evaluated",
            "dataset": evaluation.dataset,
            "dataset_sha256": evaluation.dataset_sha256,
            "split": evaluation.split,
            "protocol": protocol(evaluation.preprocess),
            "input_size": evaluation.preprocess.input_size[0],
            "samples": evaluation.total,
            **conditions,
        }
    )
    found = [_accuracy("top1", evaluation.top1, common)]
    if evaluation.top5 is not None:
        found.append(_accuracy("top5", evaluation.top5, common))
    error = min(1.0, evaluation.calibration_error)  # confidences in float32 may sum to a little more than 1
    found.append(Measurement(metric="calibration_error", value=error, **common))
    found.append(Measurement(metric="unreadable", value=float(evaluation.num_unreadable), **common))
    return found


def _accuracy(metric: str, share: Share, common: Mapping[str, Any]) -> Measurement:
    low, high = share.interval
    return Measurement(metric=metric, value=share.value, low=low, high=high, **common)


def protocol(record: Preprocess) -> str:
    """The preprocessing in words, for the table's column `protocol`: what makes two accuracies of one
    network differ.

    >>> from vertebra.data.preprocess import protocols
    >>> protocol(protocols.find("torchvision"))
    'resize 256 bilinear, crop 224'
    """
    resize = "x".join(map(str, record.resize)) if isinstance(record.resize, tuple) else str(record.resize)
    height, width = record.input_size
    words = [f"resize {resize} {record.interpolation}"]
    words.append(f"crop {height}" if height == width else f"crop {height}x{width}")
    if (record.mean, record.std) != (IMAGENET_MEAN, IMAGENET_STD):
        words.append(f"mean {_numbers(record.mean)}, std {_numbers(record.std)}")
    if record.apply_orientation:
        words.append("turned upright")
    if record.decode != "exact":
        words.append(f"{record.decode} decoding")
    return ", ".join(words)


def _numbers(values: tuple[float, ...]) -> str:
    """One number if the three channels have the same."""
    return " ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))
