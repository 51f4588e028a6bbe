"""FILL: estimates networks that never ran here from some that did, and says how large the errors may be.

A machine is treated as one more column of a table that other machines have filled: networks down, machines
across, logarithms of seconds in the cells. What the columns have in common (the principal components of the
published ones), the networks' counts, their family and similar networks make up a prior over new columns; a
few measured networks, the anchors, make it a posterior (Gaussian process regression, Rasmussen and Williams
2006, chapter 2). The anchors are those that say most about all the others, and leaving each of them out in
turn shows how far the estimates can be trusted.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError
from vertebra.measuring.estimation.fewest import ANCHORS, FEWEST_ANCHORS
from vertebra.measuring.estimation.memory import quantile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

# The prior's standard deviations, in logarithms: of a machine's general speed; of how it responds to each
# standard deviation of a count; of what similar networks share; of what a family shares; of one network
# alone. Halving or doubling any of them changes the held-out errors by less than a third
# (benchmarks/estimation_error.py).
_LEVEL, _TASTE, _LOCAL, _FAMILY, _ALONE = 3.0, 0.10, 0.12, 0.08, 0.06
#: Components of the published tables that are kept, how much more a new machine may differ along them than
#: the published ones do, how many of them decide what is near, and what is near, in standard deviations.
_COMPONENTS, _SPREAD, _NEAR_COMPONENTS, _NEAR = 8, 1.5, 4, 2.0
#: Rank and number of rounds for filling in the missing cells of a table.
_RANK, _ROUNDS = 3, 30
#: Half of a 90 % interval in standard deviations of the prediction, as the anchors' errors scale them. The
#: published tables' own errors have heavier tails than the normal distribution's 1.64.
_HALF_WIDTH = 1.55
#: An anchor is left out if it is this many standard deviations, as the others' errors scale them, and this
#: factor away from what the others foretell. A network that one engine runs badly says nothing of the rest.
_CONTRADICTION, _LEAST_FACTOR = 4.0, 2.0
#: The anchors' errors count as if this many more had been exactly as the prior expects.
_TRUSTED = 1


@dataclass(frozen=True)
class Field:
    """What is known about every network before anything is measured here.

    `counts` (networks, counts) holds positive numbers such as MACs, activations, parameters and the input's
    size; `published` (networks, `tables`) seconds per image on other machines, NaN if a table lacks a
    network. `families` groups related networks.
    """

    names: tuple[str, ...]
    counts: Array
    families: tuple[str, ...]
    published: Array
    tables: tuple[str, ...]


@dataclass(frozen=True)
class Estimates:
    """Seconds per image (or the anchors' unit), one for each network of the field.

    `low` and `high` bound a 90 % interval. `median_error` and `p90_error` are the anchors' own relative
    errors, each left out in turn; they say more about unusual networks than about ordinary ones, because
    anchors are chosen to be unlike each other. `left_out` names the anchors that contradict the others, each
    with how many times slower it is than they foretell; nothing is estimated from those.
    """

    names: tuple[str, ...]
    values: Array
    low: Array
    high: Array
    median_error: float
    p90_error: float
    left_out: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Learnt:
    """What the published tables of a field say of each network.

    `base` (networks,) is its expected logarithm without the level, and `imputed` (networks,) the variance
    that comes from filled-in cells. It lies along the tables' main components at `tastes` (networks,
    components), scaled by the prior, and at `scores` (networks, the first few components), in standard
    deviations.
    """

    base: Array
    tastes: Array
    scores: Array
    imputed: Array

    @classmethod
    def of(cls, field: Field) -> Learnt:
        import numpy as np

        counts = _standardised(field.counts)
        is_published: npt.NDArray[np.bool_] = np.any(~np.isnan(field.published), axis=1)
        tables = _filled(np.log(field.published), counts)
        base = tables.mean(axis=1)
        centred = tables - tables.mean(axis=0)
        components = centred @ _directions(centred, _COMPONENTS)
        spread = components.std(axis=0)
        scores = components / np.maximum(spread, 1e-9 * spread.max(initial=1e-9))
        tastes = components * _SPREAD / np.sqrt(tables.shape[1])
        imputed = np.where(is_published, 0.0, _imputation_variance(base, counts, is_published))
        return cls(base, tastes, scores[:, :_NEAR_COMPONENTS], imputed)

    def array(self) -> Array:
        """All of it as one array (networks, columns), for a file."""
        import numpy as np

        return np.column_stack([self.base, self.imputed, self.scores, self.tastes])

    @classmethod
    def restored(cls, array: Array) -> Learnt:
        """What `array` was made of."""
        first = 2 + _NEAR_COMPONENTS
        return cls(array[:, 0], array[:, first:], array[:, 2:first], array[:, 1])


@dataclass(frozen=True)
class Prior:
    """All that `Estimator.estimate` computes with, for another implementation of it: one row a network, and
    the `constants` by name."""

    names: tuple[str, ...]
    base: Array
    alone: Array
    features: Array
    near: Array
    families: npt.NDArray[np.intp]
    constants: Mapping[str, float]


class Estimator:
    """The prior over a machine's column. `learnt` is what the field's tables say, where that is known
    already: then they aren't looked at."""

    def __init__(self, field: Field, learnt: Learnt | None = None) -> None:
        learnt = Learnt.of(field) if learnt is None else learnt
        self.names = field.names
        self._index = {name: number for number, name in enumerate(field.names)}
        self._base = learnt.base
        self._kinship = _Kinship.of(_standardised(field.counts), learnt, field.families)
        self._alone = _ALONE**2 + learnt.imputed

    def prior(self) -> Prior:
        """What the estimates are computed with."""
        kin = self._kinship
        return Prior(
            self.names, self._base, self._alone, kin.features, kin.near, kin.families,
            {"local": _LOCAL, "family": _FAMILY, "half_width": _HALF_WIDTH, "trusted": _TRUSTED,
             "contradiction": _CONTRADICTION, "least_factor": _LEAST_FACTOR, "fewest": FEWEST_ANCHORS},
        )  # fmt: skip

    def choose(
        self, count: int = ANCHORS, *, among: Sequence[str] | None = None, known: Sequence[str] = ()
    ) -> list[str]:
        """`count` networks to measure next, the most informative first, given that `known` are measured.

        Each is the one that reduces the summed variance of all estimates most. If `among` is given, only its
        networks are taken.
        """
        import numpy as np

        remaining = self._kinship.among(range(len(self.names)))
        taken = [self._index[name] for name in known]
        for number in taken:
            remaining = self._without(remaining, number)
        allowed = np.zeros(len(self.names), dtype=bool)
        allowed[[self._index[name] for name in (self.names if among is None else among)]] = True
        allowed[taken] = False
        chosen: list[int] = []
        while len(chosen) < count and allowed.any():
            gain = (remaining**2).sum(axis=0) / (np.diag(remaining) + self._alone)
            best = int(np.argmax(np.where(allowed, gain, -1.0)))
            chosen.append(best)
            allowed[best] = False
            remaining = self._without(remaining, best)
        return [self.names[number] for number in chosen]

    def _without(self, covariance: Array, number: int) -> Array:
        """The covariance that remains after one network is measured."""
        import numpy as np

        column = covariance[:, number] / np.sqrt(covariance[number, number] + self._alone[number])
        return covariance - np.outer(column, column)

    def estimate(
        self, measured: Mapping[str, float], deviations: Mapping[str, float] | None = None
    ) -> Estimates:
        """Estimates of all networks, including the anchors, from the anchors' values.

        `deviations` are the standard deviations of their logarithms, by which they are weighted: an anchor
        that may be twice as fast says little. Raises InvalidInputError for fewer than `FEWEST_ANCHORS`,
        unknown names, or values of 0 and less.
        """
        import numpy as np

        every = self._anchors(measured)
        known = deviations or {}
        noise = np.array([known.get(self.names[number], 0.0) ** 2 for number in every])
        seen = np.log([measured[self.names[number]] for number in every]) - self._base[every]
        across = self._kinship.among(every)
        whole = across[every] + np.diag(self._alone[every] + noise)
        kept, contradicting = _agreeing(whole, seen)
        across, seen = across[:, kept], seen[kept]
        inverse = np.linalg.inv(whole[np.ix_(kept, kept)])
        logs = self._base + across @ (inverse @ seen)
        variance = self._kinship.own() - ((across @ inverse) * across).sum(axis=1)
        left_out = (inverse @ seen) / np.diag(inverse)
        surprise = _surprise(left_out * np.sqrt(np.diag(inverse)))
        half = _HALF_WIDTH * surprise * np.sqrt(np.maximum(variance, 0.0) + self._alone)
        errors = np.abs(np.expm1(-left_out))
        return Estimates(
            self.names, np.exp(logs), np.exp(logs - half), np.exp(logs + half),
            statistics.median(errors.tolist()), quantile(errors, 0.9),
            {self.names[every[place]]: float(np.exp(log)) for place, log in contradicting.items()},
        )  # fmt: skip

    def _anchors(self, measured: Mapping[str, float]) -> list[int]:
        if len(measured) < FEWEST_ANCHORS:
            raise InvalidInputError(
                f"{len(measured)} measured networks are too few to estimate others from; "
                f"at least {FEWEST_ANCHORS} are needed, and {ANCHORS} are good.",
                "measure more: vertebra survey",
            )
        for name, value in measured.items():
            if name not in self._index:
                raise InvalidInputError(f"{name} is measured, but its counts are not known.")
            if not value > 0:
                raise InvalidInputError(f"The value of {name} is {value}, but must be greater than 0.")
        return [self._index[name] for name in measured]

    @cached_property
    def known(self) -> frozenset[str]:
        """The names of the networks that can be estimated."""
        return frozenset(self.names)


def _agreeing(covariance: Array, seen: Array) -> tuple[list[int], dict[int, float]]:
    """The places of the anchors that agree with each other, and of those that don't, with the logarithm by
    which each is slower than the others foretell: the worst is left out until the others explain the next."""
    import numpy as np

    kept, contradicting = list(range(len(seen))), dict[int, float]()
    while len(kept) > FEWEST_ANCHORS:
        inverse = np.linalg.inv(covariance[np.ix_(kept, kept)])
        off = (inverse @ seen[kept]) / np.diag(inverse)
        standardised = off * np.sqrt(np.diag(inverse))
        worst = int(np.argmax(np.abs(standardised)))
        others = kept[:worst] + kept[worst + 1 :]
        left = np.linalg.inv(covariance[np.ix_(others, others)])
        usual = _surprise((left @ seen[others]) / np.sqrt(np.diag(left)))
        is_far = abs(off[worst]) > np.log(_LEAST_FACTOR)
        if not is_far or abs(standardised[worst]) <= _CONTRADICTION * usual:
            break
        contradicting[kept[worst]] = float(off[worst])
        kept = others
    return kept, contradicting


def _surprise(standardised: Array) -> float:
    """How much larger the anchors' errors are than the prior expects, drawn towards 1 for few anchors."""
    import numpy as np

    return float(np.sqrt((np.sum(standardised**2) + _TRUSTED) / (len(standardised) + _TRUSTED)))


def _standardised(counts: Array) -> Array:
    """The counts' logarithms, each in standard deviations from its mean."""
    import numpy as np

    logs = np.log(counts)
    standardised: Array = (logs - logs.mean(axis=0)) / np.maximum(logs.std(axis=0), 1e-9)
    return standardised


def _filled(logs: Array, counts: Array) -> Array:
    """`logs` with a low-rank guess for NaN; networks that are in no table are placed by their counts."""
    import numpy as np

    absent = np.isnan(logs)
    design = np.hstack([np.ones((len(counts), 1)), counts])
    filled = logs.copy()
    for table in range(logs.shape[1]):
        present = ~absent[:, table]
        weights, *_ = np.linalg.lstsq(design[present], logs[present, table], rcond=None)
        filled[~present, table] = design[~present] @ weights
    bare = absent.all(axis=1)
    for _ in range(_ROUNDS if absent.any() else 0):
        middle = filled[~bare].mean(axis=0)
        centred = filled[~bare] - middle
        kept = _directions(centred, _RANK)
        low_rank = centred @ kept @ kept.T + middle
        filled[~bare] = np.where(absent[~bare], low_rank, logs[~bare])
    return filled


def _directions(centred: Array, count: int) -> Array:
    """The first `count` principal directions (tables, count). There are far fewer tables than networks, so
    their covariance is decomposed instead of the whole table."""
    import numpy as np

    # einsum starts no threads; starting them takes longer than this small product
    _, directions = np.linalg.eigh(np.einsum("ij,ik->jk", centred, centred))
    first: Array = directions[:, ::-1][:, :count]
    return first


def _imputation_variance(base: Array, counts: Array, is_published: npt.NDArray[np.bool_]) -> float:
    """The variance of a network's level around what its counts alone predict, over those that the tables
    have."""
    import numpy as np

    design = np.hstack([np.ones((len(counts), 1)), counts])
    weights, *_ = np.linalg.lstsq(design[is_published], base[is_published], rcond=None)
    return float(np.var(base[is_published] - design[is_published] @ weights))


@dataclass(frozen=True)
class _Kinship:
    """How strongly the prior connects networks, as variances of logarithms; computed on demand."""

    features: Array
    near: Array
    families: npt.NDArray[np.intp]

    @classmethod
    def of(cls, counts: Array, learnt: Learnt, families: Sequence[str]) -> _Kinship:
        """From the standardised `counts`: each network's features, scaled by the prior, and its place among
        similar networks."""
        import numpy as np

        level = np.full((len(counts), 1), _LEVEL)
        features = np.hstack([level, learnt.tastes, counts * _TASTE])
        near = np.hstack([learnt.scores, counts]) / _NEAR
        numbers = {family: number for number, family in enumerate(dict.fromkeys(families))}
        return cls(features, near, np.array([numbers[family] for family in families]))

    def among(self, some: Sequence[int]) -> Array:
        """The covariance of all networks with `some` (networks, some)."""
        import numpy as np

        chosen = np.asarray(some)
        squares = (self.near**2).sum(axis=1)
        distances = squares[:, None] + squares[chosen] - 2 * self.near @ self.near[chosen].T
        covariance: Array = (
            self.features @ self.features[chosen].T
            + _LOCAL**2 * np.exp(-np.maximum(distances, 0.0) / 2)
            + _FAMILY**2 * (self.families[:, None] == self.families[chosen])
        )
        return covariance

    def own(self) -> Array:
        """Each network's own variance."""
        variance: Array = (self.features**2).sum(axis=1) + _LOCAL**2 + _FAMILY**2
        return variance
