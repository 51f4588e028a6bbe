"""The head that turns a network's frozen features into the user's classes: one matrix on raw features.

It is a logistic regression (`logistic`) with the standardisation folded in. Unless it is given, the penalty
is chosen by the log loss of answers to pictures that weren't fitted: log loss counts how sure an answer was,
so it tells penalties apart where accuracies tie, and what it chooses is calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, warn
from vertebra.measuring.evaluation import kept_heads

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.measuring.evaluation.kept_heads import Arrays, Recall
    from vertebra.measuring.evaluation.logistic import Directions, Solution

    Indices = npt.NDArray[np.intp]

#: Inverse strengths of the penalty that are tried, as scikit-learn's C; a probe's fixed one is among them.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
#: Parts that pictures are dealt into where no folds are given.
PARTS = 5
#: A head that only serves to choose a penalty or a network is fitted on about this many pictures at most:
#: there are dozens of them, and with more pictures the choice hardly changes. All others are fitted on all.
MOST_TO_CHOOSE = 4000


@dataclass(frozen=True)
class Head:
    """`weights` (D, C) and `bias` (C,), float32, on raw features; `penalty` is the inverse strength of L2 on
    standardised features, as scikit-learn's C."""

    weights: npt.NDArray[np.float32] = field(repr=False)
    bias: npt.NDArray[np.float32] = field(repr=False)
    penalty: float


def logits(head: Head, vectors: Any) -> npt.NDArray[np.float32]:
    """Features (N, D) to logits (N, C), in float32, as the shipped head computes them."""
    import numpy as np

    answers: npt.NDArray[np.float32] = np.asarray(vectors, dtype=np.float32) @ head.weights + head.bias
    return answers


def fit(
    vectors: Any,
    labels: Sequence[int],
    *,
    classes: int,
    penalty: float | None = None,
    folds: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
    balanced: bool = False,
    seed: int = 0,
    recall: Recall = kept_heads.fresh,
) -> Head:
    """The head of all N pictures with features `vectors` (N, D).

    Unless `penalty` is given, it is the one of `PENALTIES` with the least log loss over `folds`, by default
    five that keep `groups` whole. `balanced` weighs classes alike, however many pictures they have.
    Raises InvalidInputError for features that aren't finite, and for shapes and labels that don't fit.
    """
    import numpy as np

    from vertebra.measuring.evaluation import logistic

    logistic.check(vectors, labels, classes)
    truth = np.asarray(labels, dtype=np.intp)
    if penalty is not None and not penalty > 0:
        raise InvalidInputError(f"A penalty of {penalty} was given; a number above 0 was expected.")
    parts = None
    if penalty is None:
        parts = dealt(labels, groups, PARTS, seed) if folds is None else numbered(folds, len(truth), groups)
    inputs = {
        "vectors": vectors, "labels": truth, "parts": parts, "groups": groups, "classes": classes,
        "penalties": PENALTIES if penalty is None else (penalty,), "balanced": balanced, "seed": seed,
        "most": MOST_TO_CHOOSE,
    }  # fmt: skip
    found = recall(
        "head", inputs, lambda: _fitted(vectors, truth, parts, groups, classes, penalty, balanced, seed)
    )
    Slack.of(found).tell()
    return Head(found["weights"], found["bias"], float(found["penalty"]))


def _fitted(
    vectors: Any,
    truth: Indices,
    parts: Indices | None,
    groups: Sequence[int] | None,
    classes: int,
    penalty: float | None,
    balanced: bool,
    seed: int,
) -> Arrays:
    """The head as arrays; where no penalty is given, the one with the least log loss over the parts."""
    import numpy as np

    from vertebra.measuring.evaluation import logistic

    along = logistic.directions(vectors)
    slack = Slack()
    if penalty is None:
        assert parts is not None
        losses = np.zeros(len(PENALTIES))
        for part in np.unique(parts):
            rest, tested = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
            if len(rest):
                rest = thinned(rest, truth, groups, seed)
                found = solved(vectors, truth, rest, classes, PENALTIES, balanced, along, slack)
                losses += [
                    log_losses(
                        logits(head, vectors[tested]), truth[tested], weights(truth, balanced)[tested]
                    ).sum()
                    for head in found
                ]
        penalty = least(losses, PENALTIES)
    (head,) = solved(vectors, truth, np.arange(len(truth)), classes, [penalty], balanced, along, slack)
    return {"weights": head.weights, "bias": head.bias, "penalty": np.array(penalty), **slack.arrays()}


@dataclass
class Slack:
    """Which fits hadn't converged, to be told once for many."""

    fits: int = 0
    short: int = 0
    worst: float = 0.0

    def add(self, solution: Solution) -> None:
        self.fits += 1
        self.short += not solution.converged
        self.worst = max(self.worst, solution.slope)

    @classmethod
    def of(cls, found: Arrays) -> Slack:
        """What `arrays` made of it."""
        fits, short, worst = found["slack"].tolist()
        return cls(int(fits), int(short), worst)

    def arrays(self) -> Arrays:
        """The same among arrays that are kept, so that it can be told again."""
        import numpy as np

        return {"slack": np.array([self.fits, self.short, self.worst], np.float64)}

    def tell(self, of: str = "") -> None:
        """Warn if a fit hadn't converged; `of` says whose they were."""
        if self.short:
            warn(
                f"{self.short} of {self.fits} fits of the head{of} hadn't converged when they were ended (a "
                f"slope of {self.worst:.1g} was left), so their answers aren't quite those of the best head.",
                "look for features of enormous or tiny values: is the network's preprocessing right?",
            )


def solved(
    vectors: Any,
    truth: Indices,
    rows: Indices,
    classes: int,
    penalties: Sequence[float],
    balanced: bool,
    along: Directions | None,
    slack: Slack,
) -> list[Head]:
    """A head for each penalty, in their order from the strongest on, fitted on `rows`."""
    import numpy as np

    from vertebra.measuring.evaluation import logistic

    heads = []
    for solution in logistic.path(
        vectors, truth, rows, classes=classes, penalties=penalties, balanced=balanced, along=along
    ):
        slack.add(solution)
        with np.errstate(over="ignore"):
            head = Head(
                solution.weights.astype(np.float32), solution.bias.astype(np.float32), solution.penalty
            )
        if not (np.isfinite(head.weights).all() and np.isfinite(head.bias).all()):
            raise InvalidInputError(
                "The features are so large or so small that a head in float32 can't hold their weights.",
                "check the network's weights and its preprocessing",
            )
        heads.append(head)
    return heads


def log_losses(answers: npt.NDArray[np.float32], truth: Indices, weight: Any = 1.0) -> Any:
    """Each picture's log loss, times its weight (N,)."""
    import numpy as np

    scores = answers.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    return weight * (np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(truth)), truth])


def weights(truth: Indices, balanced: bool) -> npt.NDArray[np.float64]:
    """What each picture weighs (N,): 1, or with `balanced` so much that all classes weigh the same."""
    import numpy as np

    if not balanced:
        return np.ones(len(truth))
    present, place, counts = np.unique(truth, return_inverse=True, return_counts=True)
    each: npt.NDArray[np.float64] = len(truth) / (len(present) * counts)[place]
    return each


def least(losses: Any, penalties: Sequence[float]) -> float:
    """The penalty with the least loss, of equal ones the stronger (the smaller number)."""
    import numpy as np

    return sorted(penalties)[int(np.argmin(losses))]


def numbered(folds: Sequence[int], count: int, groups: Sequence[int] | None = None) -> Indices:
    """Folds as 0 to K - 1, in their order. Raises InvalidInputError unless each of `count` pictures has one,
    there are two or more, and each group lies in one."""
    import numpy as np

    if len(folds) != count:
        raise InvalidInputError(f"Folds of {len(folds)} pictures came for {count} pictures.")
    ids, places = np.unique(np.asarray(folds), return_inverse=True)
    if len(ids) < 2:
        raise InvalidInputError(f"All {count} pictures are in one fold; at least 2 folds were expected.")
    if groups is not None:
        if len(groups) != count:
            raise InvalidInputError(f"Groups of {len(groups)} pictures came for {count} pictures.")
        of_group: dict[int, int] = {}
        for group, fold in zip(groups, places.tolist(), strict=True):
            if of_group.setdefault(int(group), fold) != fold:
                raise InvalidInputError(
                    f"Pictures of group {group} are in more than one fold.",
                    "keep each group whole: a head would be tested on near-copies of what it was fitted on",
                )
    return places.astype(np.intp)


def dealt(labels: Sequence[int], groups: Sequence[int] | None, parts: int, seed: int = 0) -> Indices:
    """Which of `parts` each picture is in: groups stay whole, and each class is spread over the parts."""
    import numpy as np

    members = _members(labels, groups, seed)
    of_class: dict[int, list[int]] = {}
    whole = [0] * parts
    found = np.zeros(len(labels), dtype=np.intp)
    for label, rows in sorted(members, key=lambda item: -len(item[1])):
        counts = of_class.setdefault(label, [0] * parts)
        part = min(range(parts), key=lambda one: (counts[one], whole[one]))
        counts[part] += len(rows)
        whole[part] += len(rows)
        found[rows] = part
    return found


def thresholds(
    labels: Sequence[int], groups: Sequence[int] | None, strata: Sequence[int], seed: int = 0
) -> npt.NDArray[np.float64]:
    """A number from 0 to 1 for each picture: those below `share` are about that share of every class in every
    stratum, whole groups, at least one of each, and part of any larger share."""
    import numpy as np

    cells: dict[tuple[int, int], list[list[int]]] = {}
    for label, rows in _members(labels, groups, seed):
        cells.setdefault((label, strata[rows[0]]), []).append(rows)
    found = np.zeros(len(labels))
    for cell in cells.values():
        total, before = sum(map(len, cell)), 0
        for rows in cell:
            found[rows] = before / total
            before += len(rows)
    return found


def thinned(rows: Indices, truth: Indices, groups: Sequence[int] | None, seed: int = 0) -> Indices:
    """`rows`, or of more than `MOST_TO_CHOOSE` about as many: whole groups, a share of every class."""
    if len(rows) <= MOST_TO_CHOOSE:
        return rows
    own = None if groups is None else [groups[row] for row in rows.tolist()]
    order = thresholds(truth[rows].tolist(), own, [0] * len(rows), seed)
    return rows[order < MOST_TO_CHOOSE / len(rows)]


def _members(labels: Sequence[int], groups: Sequence[int] | None, seed: int) -> list[tuple[int, list[int]]]:
    """The groups in a drawn order, each as its commonest label and its pictures."""
    import random
    from collections import Counter

    rows_of: dict[int, list[int]] = {}
    for row in range(len(labels)):
        rows_of.setdefault(row if groups is None else int(groups[row]), []).append(row)
    found = [
        (Counter(int(labels[row]) for row in rows).most_common(1)[0][0], rows) for rows in rows_of.values()
    ]
    random.Random(seed).shuffle(found)
    return found
