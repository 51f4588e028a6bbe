"""What more pictures would buy: the accuracy of heads that were fitted on a part of the pictures.

Heads for each fold are fitted on a quarter and on half of the other folds' pictures, and answer the whole
fold, so that all points of the curve are of the same pictures and can be compared in pairs. The penalty is
the one that was chosen for the fold. A quarter and a half hold that share of every class, whole groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vertebra.measuring.evaluation import heads, kept_heads
from vertebra.measuring.evaluation.crossing import Held
from vertebra.measuring.evaluation.paired import Pair, paired
from vertebra.measuring.evaluation.statistics import cross_validated, design_effect

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.measuring.evaluation.kept_heads import Arrays, Recall

    Flags = npt.NDArray[np.bool_]

#: Shares of the pictures that smaller heads are fitted on.
SHARES = (0.25, 0.5)
#: A gain that is surely below this isn't worth more pictures.
LITTLE = 0.02


@dataclass(frozen=True)
class Point:
    """Heads fitted on `fitted` pictures (mean over the folds): accuracy on all, with its 95 % interval."""

    share: float
    fitted: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """What doubling the pictures brought: the share right with all minus that with half of them, for one
    class (its recall), or for all classes together (`label` None)."""

    label: int | None
    pictures: int
    pair: Pair

    @property
    def more_helps(self) -> bool | None:
        """Whether fitting on twice as many surely helped; False if it surely brought less than `LITTLE`, and
        None if these pictures can't tell."""
        if self.pair.low > 0:
            return True
        return False if self.pair.high < LITTLE else None


@dataclass(frozen=True)
class Curve:
    """Accuracy by the number of pictures fitted, and what doubling them brought. The classes' intervals hold
    for all classes at once (95 %, Bonferroni), so that among many classes none seems to gain by chance."""

    points: tuple[Point, ...]
    gain: Gain
    by_class: tuple[Gain, ...]

    @property
    def gaining(self) -> tuple[int, ...]:
        """The classes that surely gained from more pictures, those that gained most first."""
        sure = [one for one in self.by_class if one.more_helps and one.label is not None]
        return tuple(
            one.label for one in sorted(sure, key=lambda one: -one.pair.difference) if one.label is not None
        )


def learn(
    vectors: Any,
    held: Held,
    *,
    classes: int,
    groups: Sequence[int] | None = None,
    seed: int = 0,
    recall: Recall = kept_heads.fresh,
) -> Curve:
    """The learning curve of a head on features (N, D), whose answers out of fold with all pictures are
    `held`."""
    inputs = {
        "vectors": vectors, "labels": held.labels, "folds": held.folds, "penalties": held.penalties,
        "groups": groups, "classes": classes, "balanced": held.balanced, "seed": seed, "shares": SHARES,
    }  # fmt: skip
    found = recall("learning curve", inputs, lambda: _partly(vectors, held, classes, groups, seed))
    heads.Slack.of(found).tell(" on a part of the pictures")
    right, half = held.answered_right, found["right"][-1]
    points = [
        _point(share, fitted, part, held, groups)
        for share, fitted, part in zip(SHARES, found["fitted"].tolist(), found["right"], strict=True)
    ]
    points.append(Point(1.0, held.fitted, held.accuracy, held.low, held.high))
    whole = Gain(None, len(held.labels), paired(right, half, groups=groups))
    return Curve(tuple(points), whole, _by_class(right, half, held, groups))


def _partly(vectors: Any, held: Held, classes: int, groups: Sequence[int] | None, seed: int) -> Arrays:
    """For each share, whether each picture is answered right (S, N), and the mean number of pictures that a
    head was `fitted` on."""
    import numpy as np

    from vertebra.measuring.evaluation import logistic

    truth, places = held.labels, held.folds
    along, slack = logistic.directions(vectors), heads.Slack()
    right = np.zeros((len(SHARES), len(truth)), bool)
    fitted = []
    for share, found in zip(SHARES, right, strict=True):
        sizes = []
        for fold, penalty in enumerate(held.penalties):
            rest, tested = np.flatnonzero(places != fold), np.flatnonzero(places == fold)
            own = None if groups is None else [groups[row] for row in rest.tolist()]
            kept = heads.thresholds(truth[rest].tolist(), own, [0] * len(rest), seed) < share
            (head,) = heads.solved(
                vectors, truth, rest[kept], classes, [penalty], held.balanced, along, slack
            )
            sizes.append(int(kept.sum()))
            found[tested] = heads.logits(head, vectors[tested]).argmax(axis=1) == truth[tested]
        fitted.append(round(float(np.mean(sizes))))
    return {"right": right, "fitted": np.array(fitted), **slack.arrays()}


def _point(share: float, fitted: int, right: Flags, held: Held, groups: Sequence[int] | None) -> Point:
    import numpy as np

    by_fold = (np.bincount(held.folds, right) / np.bincount(held.folds)).tolist()
    alike = 1.0 if groups is None else design_effect(right.astype(float).tolist(), list(groups))
    low, high = cross_validated(int(right.sum()), len(right), by_fold, alike)
    return Point(share, fitted, float(right.mean()), low, high)


def _by_class(right: Flags, half: Flags, held: Held, groups: Sequence[int] | None) -> tuple[Gain, ...]:
    import numpy as np

    level = 1 - 0.05 / len(held.per_class)
    gains = []
    for one in held.per_class:
        rows = np.flatnonzero(held.labels == one.label)
        own = None if groups is None else [groups[row] for row in rows.tolist()]
        pair = paired(right[rows], half[rows], groups=own, level=level)
        gains.append(Gain(one.label, one.pictures, pair))
    return tuple(gains)
