"""Lines through points: a power law, a straight line, and the straight upper bound of a front.

Each line states how well it fits. Its error is that of networks it hasn't seen: each one is predicted from
the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

#: Fewer networks than this are not enough for a line.
FEWEST = 3


@dataclass(frozen=True)
class Fit:
    """A least-squares line: y = e^`intercept` x^`slope` where `kind` is "power", else y = `intercept` +
    `slope` x.

    `r_squared` is that of the fitted straight line, so of logarithms for a power law; `spearman` needs no
    line; `median_error` is the median of |prediction / value - 1|, each point predicted from the others, and
    None if leaving one out leaves no line.
    """

    kind: Literal["power", "linear"]
    slope: float
    intercept: float
    r_squared: float
    spearman: float
    median_error: float | None
    count: int

    def value(self, x: float) -> float:
        """The line's y at `x`; for a power law it is 0 if `x` isn't above 0."""
        if self.kind == "power" and x <= 0:
            return 0.0
        if self.kind == "power":
            return math.exp(self.intercept + self.slope * math.log(x))
        return self.intercept + self.slope * x

    def quality(self) -> str:
        """How well the line fits, in words."""
        of = " of the logarithms" if self.kind == "power" else ""
        text = f"R² {self.r_squared:.3f}{of}, Spearman {self.spearman:.3f}"
        if self.median_error is None:
            return text
        return f"{text}, median error {self.median_error:.1%} predicting each network from the others"


def fit(kind: Literal["power", "linear"], xs: Sequence[float], ys: Sequence[float]) -> Fit | None:
    """The line through the points, or None if there are fewer than three points, or only one x or y.

    A power law needs values above 0: other points are left out.
    """
    from scipy import stats

    points = [(x, y) for x, y in zip(xs, ys, strict=True) if kind == "linear" or (x > 0 and y > 0)]
    kept_x, kept_y = [x for x, _ in points], [y for _, y in points]
    if len(points) < FEWEST or len(set(kept_x)) == 1 or len(set(kept_y)) == 1:
        return None
    bent_x, bent_y = (list(map(math.log, kept)) if kind == "power" else kept for kept in (kept_x, kept_y))
    line = stats.linregress(bent_x, bent_y)
    left_out = _predictions(bent_x, bent_y, float(line.slope), float(line.intercept))
    predicted = [math.exp(one) if kind == "power" and one is not None else one for one in left_out]
    return Fit(
        kind, float(line.slope), float(line.intercept), float(line.rvalue) ** 2,
        float(stats.spearmanr(kept_x, kept_y).statistic), _median_error(predicted, kept_y), len(points),
    )  # fmt: skip


def _predictions(
    xs: Sequence[float], ys: Sequence[float], slope: float, intercept: float
) -> list[float | None]:
    """What the line through the other points predicts for each one; None if the others make no line.

    Computed by the leverage of a least-squares line, which saves a fit per point.
    """
    mean = sum(xs) / len(xs)
    spread = sum((x - mean) ** 2 for x in xs)
    predicted: list[float | None] = []
    for x, y in zip(xs, ys, strict=True):
        free = 1 - 1 / len(xs) - (x - mean) ** 2 / spread
        predicted.append(y - (y - intercept - slope * x) / free if free > 1e-9 else None)
    return predicted


def _median_error(predicted: Sequence[float | None], values: Sequence[float]) -> float | None:
    errors = [abs(one / value - 1) for one, value in zip(predicted, values, strict=True)
              if one is not None and value]  # fmt: skip
    return median(errors) if errors else None


@dataclass(frozen=True)
class Bound:
    """The straight line y = `intercept` + `slope` x that no point is above, through two of the points."""

    slope: float
    intercept: float

    def value(self, x: float) -> float:
        """The line's y at `x`."""
        return self.intercept + self.slope * x


def upper_bound(xs: Sequence[float], ys: Sequence[float]) -> Bound | None:
    """The straight line nearest to the points among those that no point is above. The points are a front (the
    larger x, the smaller y); None for fewer than two points."""
    hull: list[tuple[float, float]] = []
    for point in sorted(zip(xs, ys, strict=True)):
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) >= 0:
            hull.pop()
        hull.append(point)
    middle = sum(xs) / len(xs) if xs else 0.0
    for (x1, y1), (x2, y2) in pairwise(hull):
        if x1 <= middle <= x2 and x1 < x2:  # the sum of distances is least on the edge above the mean
            slope = (y2 - y1) / (x2 - x1)
            return Bound(slope, y1 - slope * x1)
    return None


def _turn(one: tuple[float, float], two: tuple[float, float], three: tuple[float, float]) -> float:
    """Above 0 if the path from `one` over `two` to `three` turns left."""
    return (two[0] - one[0]) * (three[1] - one[1]) - (two[1] - one[1]) * (three[0] - one[0])
