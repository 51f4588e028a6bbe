"""The accuracy that quantising costs: both networks on the same labelled pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.bundles import Card
from vertebra.data.batches import in_batches
from vertebra.data.datasets import Dataset, Sample
from vertebra.data.preprocess import Preprocess
from vertebra.errors import InvalidInputError
from vertebra.exporting.quantisation import graphs
from vertebra.exporting.quantisation.pictures import Split
from vertebra.measuring import evaluation
from vertebra.measuring.evaluation.statistics import paired_difference

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.exporting.quantisation.graphs import Images

    Right = npt.NDArray[np.bool_]

_BATCH = 16


@dataclass(frozen=True)
class Lost:
    """Top-1 in float32 and quantised over the same `images`, as shares of 1, and the accuracy `lost` with its
    95 % interval, `low` to `high`; negative if accuracy was gained. `only_float32` and `only_quantised` are
    the numbers of pictures that only one of the two gets right. `most` may be lost; None: any share."""

    dataset: str
    split: str
    images: int
    unreadable: int
    float32: float
    quantised: float
    only_float32: int
    only_quantised: int
    lost: float
    low: float
    high: float
    most: float | None

    @property
    def is_bearable(self) -> bool:
        return self.most is None or self.lost <= self.most

    def to_dict(self) -> dict[str, Any]:
        """The manifest's record: shares rounded to four decimal places."""
        return {name: round(value, 4) if isinstance(value, float) else value
                for name, value in asdict(self).items()}  # fmt: skip


@dataclass(frozen=True)
class Loss:
    """Labelled pictures, none of which the network is calibrated on, and the share of accuracy that may be
    lost on them at `most`. `outputs` are the network's outputs for their classes."""

    data: Dataset
    record: Preprocess
    outputs: tuple[int, ...]
    seen: frozenset[Path]
    batch_size: int
    most: float | None

    @classmethod
    def of(
        cls,
        data: Dataset,
        most: float | None,
        card: Card,
        num_classes: int,
        split: Split | None,
        batch_size: int | None,
    ) -> Loss:
        """Raises InvalidInputError if the classes aren't the network's, or it is untrained."""
        if card.weights is None or card.preprocess is None:
            raise InvalidInputError(
                "An untrained network has no accuracy to lose.",
                "pass weights, or leave the labelled pictures out",
            )
        outputs = evaluation.match(data, card.labels, num_classes)
        seen = frozenset() if split is None else split.seen
        return cls(data, card.preprocess, outputs, seen, batch_size or _BATCH, most)

    def right(self, run: graphs.Run) -> Right:
        """For every picture that can be read, in order, whether the network's first class is right."""
        import numpy as np

        right = [
            graphs.logits(run, images, self.batch_size).argmax(axis=1)
            == [self.outputs[sample.label] for sample in samples]
            for samples, images in self._batches()
        ]
        if not right:
            raise InvalidInputError(
                f"{self.data.name} has no picture left to measure accuracy on.",
                "label readable pictures that aren't used for calibration",
            )
        return np.concatenate(right)

    def some(self, count: int) -> Images:
        """The first `count` pictures as the network sees them, or all if there are fewer."""
        import numpy as np

        return np.concatenate([images.copy() for _, images in islice(self._batches(), count)])[:count]

    def between(self, first: Right, second: Right) -> Lost:
        """The accuracy lost from `first` to `second`, both from `right`."""
        only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
        low, high = paired_difference(only_first, only_second, len(first))
        return Lost(
            dataset=self.data.name,
            split=self.data.split or "all",
            images=len(first),
            unreadable=sum(1 for _ in self._samples()) - len(first),
            float32=float(first.mean()),
            quantised=float(second.mean()),
            only_float32=only_first,
            only_quantised=only_second,
            lost=(only_first - only_second) / len(first),
            low=low,
            high=high,
            most=self.most,
        )

    def _samples(self) -> Iterator[Sample]:
        return (sample for sample in self.data if not self._is_seen(sample))

    def _is_seen(self, sample: Sample) -> bool:
        return isinstance(sample.source, str | Path) and Path(sample.source).resolve() in self.seen

    def _batches(self) -> Iterator[tuple[list[Sample], Images]]:
        ready = in_batches(
            self._samples(), lambda sample: sample.source, self.record, self.batch_size, reuse=True
        )
        with closing(ready):
            for batch in ready:
                if len(batch.images):
                    yield batch.readable, batch.images
