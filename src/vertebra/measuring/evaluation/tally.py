"""What an evaluation counts, image by image, so that no image has to be kept.

Everything is a whole number (confidences in steps of 2^-40), so the order of images changes no digit.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vertebra.data.datasets import Sample
from vertebra.data.preprocess import Source
from vertebra.errors import MeasurementError
from vertebra.measuring.evaluation.statistics import BINS, bin_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: A confidence of 1, in the steps that are summed.
ONE = 2**40


@dataclass(frozen=True)
class Mistake:
    """An image that the network got wrong: outputs by index, `confidence` of its answer, `share` of the
    truth. `source` is what is needed to show it."""

    name: str
    truth: int
    predicted: int
    confidence: float
    share: float
    source: Source = field(repr=False, compare=False)


@dataclass
class Tally:
    """Counts over the images so far; `kept` bounds how many of the most confident mistakes are
    kept. Where the classes are `independent`, a class's share is the sigmoid of its logit."""

    kept: int
    independent: bool = False
    total: int = 0
    top1: int = 0
    top5: int = 0
    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)
    bin_counts: list[int] = field(default_factory=lambda: [0] * BINS)
    bin_right: list[int] = field(default_factory=lambda: [0] * BINS)
    bin_confidence: list[int] = field(default_factory=lambda: [0] * BINS)
    top5_by_class: Counter[int] = field(default_factory=Counter)
    _worst: list[_Ranked] = field(default_factory=list)

    def add(self, samples: Sequence[Sample], truths: Sequence[int], logits: npt.NDArray[np.float32]) -> None:
        """Count a batch: the samples, the output that each should have, and the logits (N, num_classes).

        If outputs tie, the one with the lower index is the answer. Raises MeasurementError for logits that
        aren't finite numbers.
        """
        import numpy as np

        rows, truth = np.arange(len(samples)), np.asarray(truths)
        scores = logits.astype(np.float64)
        if not np.isfinite(scores).all():
            bad = samples[int(np.argmin(np.isfinite(scores).all(axis=1)))]
            raise MeasurementError(f"The network's answer to {bad.name} isn't finite.", "check its weights")
        own = scores[rows, truth][:, None]
        before = np.arange(scores.shape[1]) < truth[:, None]
        ranks = (scores > own).sum(axis=1) + ((scores == own) & before).sum(axis=1)
        predicted = scores.argmax(axis=1)
        if self.independent:
            shares = 0.5 * (1 + np.tanh(0.5 * scores))
        else:
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
        for row, sample in enumerate(samples):
            guess = int(predicted[row])
            self._count(int(truth[row]), guess, int(ranks[row]), float(shares[row, guess]))
            if guess != truth[row]:
                self._keep(sample, int(truth[row]), guess, shares[row])

    def _count(self, truth: int, predicted: int, rank: int, confidence: float) -> None:
        self.total += 1
        self.top1 += rank == 0
        self.top5 += rank < 5
        self.top5_by_class[truth] += rank < 5
        self.pairs[truth, predicted] += 1
        place = bin_of(confidence)
        self.bin_counts[place] += 1
        self.bin_right[place] += rank == 0
        self.bin_confidence[place] += round(confidence * ONE)

    def _keep(self, sample: Sample, truth: int, predicted: int, shares: npt.NDArray[np.float64]) -> None:
        mistake = Mistake(
            sample.name, truth, predicted, float(shares[predicted]), float(shares[truth]), sample.source
        )
        self.keep(mistake)

    def keep(self, mistake: Mistake) -> None:
        """Keep a mistake, if it is among the most confident ones."""
        entry = _Ranked(mistake)
        if len(self._worst) < self.kept:
            heapq.heappush(self._worst, entry)
        elif self.kept:
            heapq.heappushpop(self._worst, entry)

    def merge(self, other: Tally) -> None:
        """Add the counts of `other`, of different images: the same as if all had been counted here."""
        self.total += other.total
        self.top1 += other.top1
        self.top5 += other.top5
        self.pairs.update(other.pairs)
        self.top5_by_class.update(other.top5_by_class)
        for own, more in (
            (self.bin_counts, other.bin_counts),
            (self.bin_right, other.bin_right),
            (self.bin_confidence, other.bin_confidence),
        ):
            own[:] = [one + two for one, two in zip(own, more, strict=True)]
        self._worst = heapq.nlargest(self.kept, [*self._worst, *other._worst])
        heapq.heapify(self._worst)

    def mistakes(self) -> tuple[Mistake, ...]:
        """The most confident mistakes, the worst first, equals by name."""
        return tuple(entry.mistake for entry in sorted(self._worst, reverse=True))

    def calibration_error(self) -> float:
        """Mean distance between confidence and accuracy in a bin, each bin by its count."""
        return error_of(self.bin_right, self.bin_confidence, self.total)


def error_of(right: Sequence[int], confidence: Sequence[int], total: int) -> float:
    """The calibration error of `total` images, from each bin's right answers and sum of confidences."""
    gaps = (abs(good * ONE - sure) for good, sure in zip(right, confidence, strict=True))
    return sum(gaps) / (ONE * total)


@dataclass(frozen=True)
class _Ranked:
    """A mistake, which is less than a worse one: by confidence, then by what is later in the alphabet."""

    mistake: Mistake

    def __lt__(self, other: _Ranked) -> bool:
        one, two = self.mistake, other.mistake
        if one.confidence != two.confidence:
            return one.confidence < two.confidence
        return (one.name, one.truth, one.predicted) > (two.name, two.truth, two.predicted)
