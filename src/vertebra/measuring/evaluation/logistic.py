"""Multinomial logistic regression with an L2 penalty on standardised features, in bounded memory.

It minimises what scikit-learn's StandardScaler and LogisticRegression minimise, and answers the same (a test
holds it to that). It isn't scikit-learn because that copies all features twice in float64, starts each
penalty anew, and isn't installed where only networks' graphs are used; SciPy's L-BFGS is.

Two ways to the same minimum. With few rows, the rows are rotated onto their own principal directions: the
penalty doesn't change under a rotation and weights outside the rows' span are zero, so N unknowns a class
stand for D. Otherwise rows are read in blocks, each standardised as it is read. Both descend along principal
directions in units in which the curvature is about one, so that a few dozen steps are enough.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

#: Rows read at once: 20 MB of float32 at 1,280 features.
BLOCK = 4096
MAX_STEPS = 500
#: Where a descent ends: the largest slope in scaled coordinates, in float64 and in float32, whose rounding
#: hides smaller ones. What is left of the mean loss is about the squares' sum.
SLOPE, SLOPE_32 = 1e-5, 1e-4
#: A descent that ends with a larger slope than this hasn't converged.
_CONVERGED = 1e-3
#: Up to this number of rows, the rows' own N x N problem is solved.
_FEW = 800
#: Up to these numbers of values, standardised rows are held: in float64 (32 MB), in float32 (128 MB).
_HELD_64, _HELD_32 = 4_000_000, 32_000_000
#: Up to this number of features, principal directions are computed, from at most _SAMPLED rows.
_DIRECTIONS = 2048
_SAMPLED = 20_000


@dataclass(frozen=True)
class Solution:
    """Weights (D, C) and bias (C,) on raw features, in float64; `slope` is what was left at the end."""

    weights: Matrix
    bias: Matrix
    penalty: float
    slope: float

    @property
    def converged(self) -> bool:
        return self.slope <= _CONVERGED


@dataclass(frozen=True)
class Directions:
    """Orthogonal directions (D, R) of standardised features, and the variance along each (R,)."""

    basis: Matrix
    variance: Matrix


def check(
    vectors: Any, labels: Sequence[int] | Indices, classes: int, pictures: Sequence[int] | None = None
) -> None:
    """Raise InvalidInputError unless `vectors` is (N, D), finite, and `labels` are N of 0 to `classes` - 1.
    `pictures` are the rows' numbers to name (None: 0 to N - 1)."""
    import numpy as np

    shape = np.shape(vectors)
    if len(shape) != 2 or not shape[1] or shape[0] != len(labels) or not shape[0]:
        raise InvalidInputError(
            f"Features of shape {tuple(shape)} came for {len(labels)} pictures; (pictures, features) was "
            "expected, neither of them 0."
        )
    truth = np.asarray(labels)
    if truth.min() < 0 or truth.max() >= classes:
        raise InvalidInputError(
            f"Labels from {truth.min()} to {truth.max()} came for {classes} classes; 0 to {classes - 1} "
            "were expected."
        )
    for start in range(0, shape[0], BLOCK):
        fine = np.isfinite(vectors[start : start + BLOCK]).all(axis=1)
        if not fine.all():
            row = start + int(np.argmin(fine))
            told = row if pictures is None else pictures[row]
            raise InvalidInputError(
                f"The features of picture {told} aren't finite numbers.",
                "check the network's weights and the picture's preprocessing",
            )


def directions(vectors: Any) -> Directions | None:
    """Principal directions of the standardised features, for the descent alone: no result depends on them.

    None where there are few rows, which have directions of their own, or too many features.
    """
    import numpy as np

    count, width = vectors.shape
    if count <= min(_FEW, width) or width > _DIRECTIONS:
        return None
    taken = np.unique(np.linspace(0, count - 1, min(count, _SAMPLED)).astype(np.intp))
    rows = _Rows(vectors, taken)
    gram = np.zeros((width, width))
    for block, _ in rows.blocks():
        gram += block.T @ block
    variance, basis = np.linalg.eigh(gram / len(taken))
    return Directions(basis, np.maximum(variance, 0.0))


def path(
    vectors: Any,
    labels: Indices,
    rows: Indices,
    *,
    classes: int,
    penalties: Sequence[float],
    balanced: bool = False,
    along: Directions | None = None,
) -> list[Solution]:
    """A solution for each of `penalties` (inverse strengths), from the strongest on, on `rows` of `vectors`.

    A class without a picture among `rows` has weights of zero and a bias too low to be answered. `balanced`
    weighs each picture so that all classes weigh the same.
    """
    few = len(rows) <= min(_FEW, vectors.shape[1])
    with _one_thread() if few else nullcontext():
        return _path(vectors, labels, rows, classes, penalties, balanced, along, few)


def _path(
    vectors: Any,
    labels: Indices,
    rows: Indices,
    classes: int,
    penalties: Sequence[float],
    balanced: bool,
    along: Directions | None,
    few: bool,
) -> list[Solution]:
    import numpy as np

    present, truth = np.unique(labels[rows], return_inverse=True)
    counts = np.bincount(truth)
    weight = len(rows) / (len(present) * counts)[truth] if balanced else np.ones(len(rows))
    held = _reduced(vectors, rows) if few else _streamed(vectors, rows, along)
    descent = _Descent(held, truth, weight, len(present))
    found = []
    for penalty in sorted(penalties):
        inner, bias, slope = descent.minimum(penalty)
        weights, shift = held.unfolded(inner)
        full = np.zeros((vectors.shape[1], classes))
        offset = np.full(classes, -math.log(2.0 * len(rows)) - 1.0)
        full[:, present] = weights
        offset[present] = bias - shift
        found.append(Solution(full, offset, penalty, slope))
    return found


def _one_thread() -> AbstractContextManager[Any]:
    """Products of a few hundred rows are quicker on one thread; on a busy machine, several wait for each
    other longer than they compute."""
    limited: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> Any:
    import numpy.linalg  # what is to be limited must be loaded
    from threadpoolctl import ThreadpoolController

    assert numpy.linalg is not None
    return ThreadpoolController()


class _Rows:
    """Some rows of the features, standardised by their own mean and deviation as they are read.

    A feature that doesn't vary, as far as float32 can tell, has no say.
    """

    def __init__(self, vectors: Any, rows: Indices) -> None:
        import numpy as np

        self.vectors, self.rows = vectors, rows
        self.mean = sum(self._raw(part).sum(axis=0) for part in self._parts()) / len(rows)
        spread = sum(np.square(self._raw(part) - self.mean).sum(axis=0) for part in self._parts())
        deviation = np.sqrt(spread / len(rows))
        varies = (deviation > 1e-30) & (deviation > np.finfo(np.float32).eps * np.abs(self.mean))
        self.scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
        size = len(rows) * vectors.shape[1]
        self.exact = size <= _HELD_64
        self._dtype = np.float64 if self.exact else np.float32
        self._held = [self._standard(part) for part in self._parts()] if size <= _HELD_32 else None

    def _parts(self) -> Iterator[slice]:
        return (slice(start, start + BLOCK) for start in range(0, len(self.rows), BLOCK))

    def _raw(self, part: slice) -> Matrix:
        import numpy as np

        taken: Matrix = np.asarray(self.vectors[self.rows[part]], dtype=np.float64)
        return taken

    def _standard(self, part: slice) -> Any:
        import numpy as np

        taken: Any = np.array(self.vectors[self.rows[part]], dtype=self._dtype)
        taken -= self.mean.astype(self._dtype)
        taken *= self.scale.astype(self._dtype)
        return taken

    def blocks(self) -> Iterator[tuple[Any, slice]]:
        """Standardised rows (B, D), and which they are."""
        for place, part in enumerate(self._parts()):
            yield (self._standard(part) if self._held is None else self._held[place]), part

    def raw(self, weights: Matrix) -> tuple[Matrix, Matrix]:
        """Weights on standardised features as weights on raw ones, and what to take from the bias."""
        folded = weights * self.scale[:, None]
        taken = self.mean.astype(self._dtype).astype(folded.dtype)  # in float32 the rounded mean was taken
        return folded, taken @ folded


@dataclass(frozen=True)
class _Held:
    """Rows for the descent: blocks of coordinates, from which `basis` leads to standardised features (None:
    they are those), with the `variance` along each unknown."""

    rows: _Rows
    variance: Matrix
    basis: Matrix | None
    coordinates: Matrix | None = None

    def blocks(self) -> Iterator[tuple[Any, slice]]:
        if self.coordinates is None:
            return self.rows.blocks()
        return iter([(self.coordinates, slice(None))])

    def onto(self, inner: Matrix) -> Matrix:
        """What multiplies a block, from the unknowns (R, C)."""
        return inner if self.basis is None or self.coordinates is not None else self.basis @ inner

    def back(self, gradient: Matrix) -> Matrix:
        """The gradient in the unknowns, from that of what multiplies a block."""
        return gradient if self.basis is None or self.coordinates is not None else self.basis.T @ gradient

    def unfolded(self, inner: Matrix) -> tuple[Matrix, Matrix]:
        return self.rows.raw(inner if self.basis is None else self.basis @ inner)


def _streamed(vectors: Any, rows: Indices, along: Directions | None) -> _Held:
    import numpy as np

    if along is None:
        return _Held(_Rows(vectors, rows), np.ones(vectors.shape[1]), None)
    return _Held(_Rows(vectors, rows), along.variance, along.basis)


def _reduced(vectors: Any, rows: Indices) -> _Held:
    """The rows in coordinates of their own span, at most as many as there are rows."""
    import numpy as np

    standard = _Rows(vectors, rows)
    whole = np.concatenate([block for block, _ in standard.blocks()]).astype(np.float64)
    squares, left = np.linalg.eigh(whole @ whole.T)
    kept = squares > max(float(squares[-1]), 0.0) * len(rows) * np.finfo(np.float64).eps
    size = np.sqrt(squares[kept])
    basis = whole.T @ (left[:, kept] / size)
    return _Held(standard, squares[kept] / len(rows), basis, left[:, kept] * size)


class _Descent:
    """The mean loss and its slope over the rows, and L-BFGS from one penalty's minimum to the next."""

    def __init__(self, held: _Held, truth: Indices, weight: Matrix, present: int) -> None:
        import numpy as np

        self.held, self.truth, self.weight, self.present = held, truth, weight, present
        self.total = float(weight.sum())
        shares = np.bincount(truth, weight, minlength=present) / self.total
        self.inner = np.zeros((len(held.variance), present))
        self.bias = np.log(shares) - np.log(shares).mean()

    def minimum(self, penalty: float) -> tuple[Matrix, Matrix, float]:
        """Unknowns (R, C), bias (C,) and the slope that was left."""
        import numpy as np

        # scikit-learn fits two classes with one vector, the difference of these two, and its square is twice
        # the sum of theirs.
        pull = (2.0 if self.present == 2 else 1.0) / (penalty * self.total)
        likely = (1 / self.present) * (1 - 1 / self.present) or 1.0
        unit = 1.0 / np.sqrt(likely * self.held.variance + pull)[:, None]
        unit_bias = 1.0 / math.sqrt(likely)

        def loss(flat: Matrix) -> tuple[float, Matrix]:
            packed = flat.reshape(-1, self.present)
            inner = packed[:-1] * unit
            value, slope, slope_bias = self._loss(inner, packed[-1] * unit_bias)
            value += 0.5 * pull * float(np.square(inner).sum())
            scaled = np.vstack([(slope + pull * inner) * unit, slope_bias[None] * unit_bias])
            return value, scaled.ravel()

        start = np.vstack([self.inner / unit, self.bias[None] / unit_bias]).ravel()
        ends = SLOPE if self.held.rows.exact else SLOPE_32
        found, slope = _descended(loss, start, ends)
        packed = found.reshape(-1, self.present)
        self.inner, self.bias = packed[:-1] * unit, packed[-1] * unit_bias
        self.bias -= self.bias.mean()
        return self.inner, self.bias, slope

    def _loss(self, inner: Matrix, bias: Matrix) -> tuple[float, Matrix, Matrix]:
        import numpy as np

        onto = self.held.onto(inner)
        value, slope, slope_bias = 0.0, np.zeros_like(onto), np.zeros(self.present)
        for block, part in self.held.blocks():
            truth, weight = self.truth[part], self.weight[part]
            rows = np.arange(len(truth))
            scores = (block @ onto.astype(block.dtype)).astype(np.float64) + bias
            scores -= scores.max(axis=1, keepdims=True)
            shares = np.exp(scores)
            sums = shares.sum(axis=1)
            value += float(weight @ (np.log(sums) - scores[rows, truth]))
            shares *= (weight / sums)[:, None]
            shares[rows, truth] -= weight
            slope += block.T @ shares.astype(block.dtype)
            slope_bias += shares.sum(axis=0)
        return value / self.total, self.held.back(slope) / self.total, slope_bias / self.total


#: Steps that the shape of the loss is remembered from.
_REMEMBERED = 10


def _descended(
    loss: Callable[[Matrix], tuple[float, Matrix]], start: Matrix, ends: float
) -> tuple[Matrix, float]:
    """Where the largest slope of a smooth, convex loss is at most `ends`, and that slope, by L-BFGS (Nocedal
    and Wright, Numerical Optimization, algorithms 7.4 and 7.5). SciPy's version, which also keeps bounds,
    takes ten times as long for its own arithmetic as for the loss of a few hundred pictures."""
    import numpy as np

    place, (value, slope) = start, loss(start)
    remembered: deque[tuple[Matrix, Matrix, float]] = deque(maxlen=_REMEMBERED)
    for _ in range(MAX_STEPS):
        if float(np.abs(slope).max()) <= ends:
            break
        way = -_turned(slope, remembered)
        fall, step = float(way @ slope), 1.0
        if not remembered:  # nothing is known of the curvature: no further than a unit
            step = min(1.0, 1.0 / float(np.linalg.norm(way)))
        while True:
            reached = place + step * way
            value_there, slope_there = loss(reached)
            if value_there <= value + 1e-4 * step * fall or step < 1e-12:
                break
            step *= 0.5
        moved, turned = reached - place, slope_there - slope
        curvature = float(moved @ turned)
        if curvature > 1e-12 * float(turned @ turned):
            remembered.append((moved, turned, 1.0 / curvature))
        if step < 1e-12:  # as deep as its numbers can tell
            break
        place, value, slope = reached, value_there, slope_there
    return place, float(np.abs(slope).max())


def _turned(slope: Matrix, remembered: Sequence[tuple[Matrix, Matrix, float]]) -> Matrix:
    """The slope times the inverse of the curvature that was met so far."""
    way, shares = slope.copy(), []
    for moved, turned, inverse in reversed(remembered):
        shares.append(inverse * float(moved @ way))
        way -= shares[-1] * turned
    if remembered:
        _, turned, inverse = remembered[-1]
        way /= inverse * float(turned @ turned)
    for (moved, turned, inverse), share in zip(remembered, reversed(shares), strict=True):
        way += (share - inverse * float(turned @ way)) * moved
    return way
