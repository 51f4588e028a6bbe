"""From labelled pictures to the batches of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra.data.datasets import Dataset
from vertebra.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """One process's share of a step: `images` (N, 3, S, S), float32, normalised; `labels` (N,), int64;
    `places` (N,), int64: each picture's index in its set; and its name."""

    images: Tensor
    labels: Tensor
    places: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)


class Loader:
    """Batches of a set's pictures, all randomness from (seed, epoch, place).

    `labels` has, for each sample of `data` in its order, the class that it is trained as; -1 leaves it out
    (a picture of the validation part, or one that can't be used). `workers` is the number of threads; 0: the
    caller's own. `steps` is the number of batches of an epoch.
    """

    def __init__(
        self,
        data: Dataset,
        labels: Sequence[int],
        recipe: Recipe,
        *,
        workers: int | None = None,
        seed: int | None = None,
        world: int = 1,
        rank: int = 0,
    ) -> None:
        raise NotImplementedError

    @property
    def steps(self) -> int:
        """Batches of an epoch: the same on every process."""
        raise NotImplementedError

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_step`. Raises ImageError at an unreadable picture, unless the
        recipe skips those."""
        raise NotImplementedError

    @property
    def class_weights(self) -> Tensor | None:
        """Each class's weight in the loss, float32, whose mean over the pictures is 1; None unless asked."""
        raise NotImplementedError
