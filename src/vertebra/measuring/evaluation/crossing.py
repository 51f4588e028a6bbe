"""A head's answers to pictures that it hasn't seen: cross-validation, with the penalty chosen inside the
folds.

For each fold, the penalty is chosen on the other folds' pictures alone, by the answers of heads that have
seen neither the fold nor the picture. A head without the folds i and j serves the choice for i and the choice
for j, so that K folds take K(K - 1)/2 such heads for each penalty. These are fitted on some thousands of
pictures at most.

The interval of the accuracy is the one of a probe: the wider of Wilson's and of Nadeau and Bengio's.
Pictures of one group (near-duplicates) resemble each other in being right, so they count as fewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vertebra.measuring.evaluation import heads, kept_heads
from vertebra.measuring.evaluation.paired import Pair, paired
from vertebra.measuring.evaluation.statistics import Z, bins_error, cross_validated, design_effect, wilson

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.measuring.evaluation.kept_heads import Arrays, Recall

    Indices = npt.NDArray[np.intp]
    Flags = npt.NDArray[np.bool_]

#: Parts that a fold's other pictures are dealt into where they are a single fold.
_PARTS = 3


@dataclass(frozen=True)
class ClassScore:
    """One class, by its label: its pictures, how many were answered right, and how many answers named it.
    `low` to `high` is Wilson's 95 % interval of the recall; `confused_with` the commonest wrong answer."""

    label: int
    pictures: int
    right: int
    answers: int
    low: float
    high: float
    confused_with: int | None

    @property
    def recall(self) -> float:
        return self.right / self.pictures

    @property
    def precision(self) -> float | None:
        return self.right / self.answers if self.answers else None


@dataclass(frozen=True)
class Wrong:
    """A picture answered wrong, by its row: `confidence` of the answer, `share` of the truth."""

    row: int
    truth: int
    answered: int
    confidence: float
    share: float


@dataclass(frozen=True)
class Held:
    """Every picture answered once by a head that hasn't seen it: `logits` (N, C), in the pictures' order.

    `low` to `high` is a 95 % interval of `accuracy`, `by_fold` the share right in each fold, `penalties` what
    was chosen for each. `majority` is the share of the largest class, and `beyond` how much more often than
    it the head is right (with `balanced` classes: the mean recall, over that of a constant answer), with its
    interval. `fitted` is the mean number of pictures that a head was fitted on. `confusion` counts (truth,
    answer).
    """

    logits: npt.NDArray[np.float32] = field(repr=False)
    labels: Indices = field(repr=False)
    folds: Indices = field(repr=False)
    total: int
    right: int
    accuracy: float
    low: float
    high: float
    by_fold: tuple[float, ...]
    penalties: tuple[float, ...]
    fitted: int
    majority: float
    beyond: Pair
    log_loss: float
    calibration_error: float
    per_class: tuple[ClassScore, ...]
    confusion: Mapping[tuple[int, int], int]
    balanced: bool = False

    @property
    def learnt(self) -> bool:
        """Whether the head is surely better than always answering the largest class."""
        return self.beyond.low > 0

    @property
    def verdict(self) -> str:
        """Whether it learnt, in one sentence."""
        gain = f"{100 * self.beyond.low:+.1f} to {100 * self.beyond.high:+.1f} points"
        if self.balanced:
            what = f"recalls {100 * self.mean_recall:.1f} % of a class on average"
            against = f"any constant answer {100 / len(self.per_class):.1f} %"
        else:
            what = f"is right on {100 * self.accuracy:.1f} % of {self.total:,} pictures that it hasn't seen"
            against = f"always answering the largest class would be on {100 * self.majority:.1f} %"
        surely = "surely more" if self.learnt else "no sure difference"
        return f"The head {what}; {against}: {surely} ({gain})."

    @property
    def mean_recall(self) -> float:
        return sum(one.recall for one in self.per_class) / len(self.per_class)

    @property
    def answered_right(self) -> Flags:
        """Whether each picture was answered right (N,)."""
        found: Flags = self.logits.argmax(axis=1) == self.labels
        return found

    def mistakes(self, limit: int = 24) -> tuple[Wrong, ...]:
        """The most confident mistakes, the worst first, equals by row."""
        import numpy as np

        shares, answers = _shares(self.logits), self.logits.argmax(axis=1)
        rows = np.flatnonzero(answers != self.labels)
        order = np.lexsort((rows, -shares[rows, answers[rows]]))[:limit]
        return tuple(
            Wrong(
                int(row), int(self.labels[row]), int(answers[row]), float(shares[row, answers[row]]),
                float(shares[row, self.labels[row]]),
            )
            for row in rows[order]
        )  # fmt: skip


@dataclass(frozen=True)
class Inner:
    """What the other folds alone say of a network: their `rows`, and whether each was answered right by a
    head that has seen neither it nor the fold."""

    rows: Indices
    right: Flags


@dataclass(frozen=True)
class Crossed:
    """A network's answers out of fold, and for each fold what its choice may look at (empty if not asked)."""

    held: Held
    inner: tuple[Inner, ...]


def held(
    vectors: Any,
    labels: Sequence[int],
    folds: Sequence[int],
    *,
    classes: int,
    groups: Sequence[int] | None = None,
    penalty: float | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> Held:
    """Cross-validated answers of heads on features (N, D); with a `penalty`, none is chosen.

    `groups` must lie whole in `folds`. Raises InvalidInputError as `heads.fit` does, and for fewer than two
    folds.
    """
    penalties = heads.PENALTIES if penalty is None else (penalty,)
    return cross(
        vectors, labels, folds, classes=classes, groups=groups, penalties=penalties, balanced=balanced,
        seed=seed, compared=False,
    ).held  # fmt: skip


def cross(
    vectors: Any,
    labels: Sequence[int],
    folds: Sequence[int],
    *,
    classes: int,
    groups: Sequence[int] | None = None,
    penalties: Sequence[float] = heads.PENALTIES,
    balanced: bool = False,
    seed: int = 0,
    compared: bool = True,
    of: str = "",
    recall: Recall = kept_heads.fresh,
) -> Crossed:
    """The same as `held`, with what a choice among networks inside the folds needs if `compared`."""
    import numpy as np

    from vertebra.measuring.evaluation import logistic

    logistic.check(vectors, labels, classes)
    truth, places = np.asarray(labels, dtype=np.intp), heads.numbered(folds, len(labels), groups)
    penalties = sorted(penalties)
    inputs = {
        "vectors": vectors, "labels": truth, "folds": places, "groups": groups, "classes": classes,
        "penalties": penalties, "balanced": balanced, "seed": seed, "compared": compared,
        "most": heads.MOST_TO_CHOOSE,
    }  # fmt: skip
    found = recall(
        "answers out of fold", inputs,
        lambda: _answered(vectors, truth, places, groups, classes, penalties, balanced, seed, compared),
    )  # fmt: skip
    heads.Slack.of(found).tell(of)
    summed = summary(
        found["logits"], truth, places, penalties=found["penalties"].tolist(), groups=groups,
        balanced=balanced,
    )  # fmt: skip
    inner = []
    for seen, right in zip(found["seen"], found["right"], strict=True):
        others = np.flatnonzero(seen)
        inner.append(Inner(others, right[others]))
    return Crossed(summed, tuple(inner))


def _answered(
    vectors: Any,
    truth: Indices,
    places: Indices,
    groups: Sequence[int] | None,
    classes: int,
    penalties: Sequence[float],
    balanced: bool,
    seed: int,
    compared: bool,
) -> Arrays:
    """Logits out of fold (N, C) and the penalty chosen for each of K folds; and, if `compared`, whether each
    picture was `seen` by a fold's choice (K, N), and answered `right` there."""
    import numpy as np

    from vertebra.measuring.evaluation import logistic

    along, slack, count = logistic.directions(vectors), heads.Slack(), int(places.max()) + 1

    def solved(rows: Indices, wanted: Sequence[float]) -> list[heads.Head]:
        return heads.solved(vectors, truth, rows, classes, wanted, balanced, along, slack)

    losses, right = np.zeros((count, len(penalties))), {}
    seen = np.zeros((count, len(truth)), bool)
    if compared or len(penalties) > 1:
        weight = heads.weights(truth, balanced)
        right = {
            (fold, at): np.zeros(len(truth), bool) for fold in range(count) for at in range(len(penalties))
        }
        for rows, tests in _inner(truth, places, groups, seed):
            found = solved(heads.thinned(rows, truth, groups, seed), penalties)
            for fold, tested in tests:
                seen[fold, tested] = True
                for at, head in enumerate(found):
                    answers = heads.logits(head, vectors[tested])
                    losses[fold, at] += heads.log_losses(answers, truth[tested], weight[tested]).sum()
                    right[fold, at][tested] = answers.argmax(axis=1) == truth[tested]
    logits = np.zeros((len(truth), classes), np.float32)
    chosen = []
    for fold in range(count):
        tested, rest = np.flatnonzero(places == fold), np.flatnonzero(places != fold)
        chosen.append(heads.least(losses[fold], penalties))
        (head,) = solved(rest, [chosen[-1]])
        logits[tested] = heads.logits(head, vectors[tested])
    inner = [right[fold, penalties.index(one)] for fold, one in enumerate(chosen)] if compared else []
    return {
        "logits": logits, "penalties": np.array(chosen), "seen": seen if compared else seen[:0],
        "right": np.array(inner, bool).reshape(-1, len(truth)), **slack.arrays(),
    }  # fmt: skip


def _inner(
    truth: Indices, places: Indices, groups: Sequence[int] | None, seed: int
) -> Iterator[tuple[Indices, list[tuple[int, Indices]]]]:
    """The heads that a choice needs: rows to fit, and for which folds' choice which rows are answered."""
    import numpy as np

    count = int(places.max()) + 1
    rows = [np.flatnonzero(places == fold) for fold in range(count)]
    if count > 2:
        for one in range(count):
            for two in range(one + 1, count):
                rest = np.flatnonzero((places != one) & (places != two))
                yield rest, [(one, rows[two]), (two, rows[one])]
        return
    for fold in range(count):
        seen = rows[1 - fold]
        own = None if groups is None else [groups[row] for row in seen.tolist()]
        parts = heads.dealt(truth[seen].tolist(), own, _PARTS, seed)
        for part in range(_PARTS):
            rest, tested = seen[parts != part], seen[parts == part]
            if len(rest) and len(tested):
                yield rest, [(fold, tested)]


def summary(
    logits: npt.NDArray[np.float32],
    truth: Indices,
    places: Indices,
    *,
    penalties: Sequence[float],
    groups: Sequence[int] | None,
    balanced: bool,
) -> Held:
    """What pooled answers out of fold say."""
    import numpy as np

    answers = logits.argmax(axis=1)
    right = answers == truth
    shares = _shares(logits)
    sizes = np.bincount(places)
    by_fold = tuple((np.bincount(places, right) / sizes).tolist())
    alike = 1.0 if groups is None else design_effect(right.astype(float).tolist(), list(groups))
    low, high = cross_validated(int(right.sum()), len(truth), by_fold, alike)
    confusion = Counter(zip(truth.tolist(), answers.tolist(), strict=True))
    per_class = tuple(_classes(confusion))
    counts = np.bincount(truth)
    constant = truth == counts.argmax()
    beyond = _beyond_constant(per_class, alike) if balanced else paired(right, constant, groups=groups)
    return Held(
        logits=logits,
        labels=truth,
        folds=places,
        total=len(truth),
        right=int(right.sum()),
        accuracy=float(right.mean()),
        low=low,
        high=high,
        by_fold=by_fold,
        penalties=tuple(penalties),
        fitted=round(float(np.mean(len(truth) - sizes))),
        majority=float(counts.max() / len(truth)),
        beyond=beyond,
        log_loss=float(heads.log_losses(logits, truth).mean()),
        calibration_error=bins_error(shares[np.arange(len(truth)), answers].tolist(), right.tolist()),
        per_class=per_class,
        confusion=dict(sorted(confusion.items())),
        balanced=balanced,
    )


def _classes(confusion: Mapping[tuple[int, int], int]) -> Iterator[ClassScore]:
    pictures, answers = Counter[int](), Counter[int]()
    wrong: dict[int, tuple[int, int]] = {}
    for (truth, answer), count in sorted(confusion.items()):
        pictures[truth] += count
        answers[answer] += count
        if truth != answer and count > wrong.get(truth, (0, 0))[0]:
            wrong[truth] = (count, answer)
    for truth in sorted(pictures):
        right = confusion.get((truth, truth), 0)
        low, high = wilson(right, pictures[truth])
        confused = wrong[truth][1] if truth in wrong else None
        yield ClassScore(truth, pictures[truth], right, answers[truth], low, high, confused)


def _beyond_constant(per_class: Sequence[ClassScore], alike: float) -> Pair:
    """The mean recall over that of a constant answer, with its interval: the classes' own variances, each
    with two more pictures of which one is right, so that a full class isn't taken for certain."""
    count = len(per_class)
    value = sum(one.recall for one in per_class) / count - 1 / count
    variance = 0.0
    for one in per_class:
        share = (one.right + 1) / (one.pictures + 2)
        variance += share * (1 - share) / one.pictures
    half = Z * (alike * variance) ** 0.5 / count
    return Pair(value, value - half, value + half)


def _shares(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    import numpy as np

    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    shares: npt.NDArray[np.float64] = np.exp(scores)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
