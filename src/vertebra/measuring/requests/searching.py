"""The greatest rate of requests at which a server keeps a bound.

The rate is doubled from a low one until the bound isn't kept, then the range is halved, in proportions, until
its ends are near each other. What was found in one run must hold in others, whose requests arrive at other
moments; where it doesn't, a lower rate is tried. So the answer is a rate that was kept in every one of them.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from vertebra.measuring.requests.offering import Offered

#: Offers a rate, in images a second, with the seed of its moments.
Trial = Callable[[float, int], Awaitable[Offered]]
#: Why a search ended: by itself, or before it was done.
Ended = Literal["found", "interrupted", "the time was up"]

#: The ends of the range when it is narrow enough, as a ratio.
WITHIN = 1.05
#: The first rate is halved at most this often, and doubled at most this often.
_HALVINGS, _DOUBLINGS = 6, 24


@dataclass
class Search:
    """The runs of a search so far, in order, each of one rate. `runs` is in how many runs a rate must be
    kept."""

    runs: int = 1
    trials: list[Offered] = field(default_factory=list)
    ended: Ended = "interrupted"
    _confirmed_rate: float | None = None

    async def find(self, trial: Trial, first: float) -> None:
        """Search upwards or downwards from the rate `first`. Raises what `trial` raises; what was found until
        then is kept."""
        low = await self._first_kept(trial, first)
        while low is not None:
            low, high = await self._narrowed(trial, low)
            self._confirmed_rate = low = await self._confirmed(trial, low, first)
            if low is None or not self._is_late(high) or not await self._keeps(trial, high):
                break
            low = high  # the generator was late by chance, and the server keeps it
        self.ended = "found"

    async def _first_kept(self, trial: Trial, first: float) -> float | None:
        """The rate `first`, or the first of its halves that is kept, or None."""
        for halvings in range(_HALVINGS + 1):
            rate: float = first / 2**halvings
            if await self._keeps(trial, rate):
                return rate
        return None

    async def _narrowed(self, trial: Trial, low: float) -> tuple[float, float]:
        """The greatest rate from `low` up that is kept, and the lowest that isn't."""
        high = min(self._not_kept_above(low), default=math.inf)
        while high > low * WITHIN:
            middle = 2 * low if math.isinf(high) else math.sqrt(low * high)
            low, high = (middle, high) if await self._keeps(trial, middle) else (low, middle)
        return low, high

    def _not_kept_above(self, low: float) -> list[float]:
        rates = {one.rate for one in self.trials if one.rate > low}
        return [rate for rate in rates if any(one.verdict != "kept" for one in self.at(rate))]

    async def _confirmed(self, trial: Trial, rate: float, first: float) -> float | None:
        """The greatest rate from `rate` down that is kept in all runs, or None."""
        failures = 0
        while rate > first / 2 ** (_HALVINGS + 1):
            if await self._keeps_always(trial, rate):
                return rate
            failures += 1
            rate /= WITHIN**failures
        return None

    async def _keeps_always(self, trial: Trial, rate: float) -> bool:
        """Runs that were made already aren't repeated."""
        made = {one.seed: one.verdict for one in self.at(rate)}
        for seed in range(self.runs):
            if made.get(seed, "kept") != "kept":
                return False
            if seed not in made and not await self._keeps(trial, rate, seed):
                return False
        return True

    async def _keeps(self, trial: Trial, rate: float, seed: int = 0) -> bool:
        found = await trial(rate, seed)
        self.trials.append(found)
        return found.verdict == "kept"

    def _is_late(self, rate: float) -> bool:
        return any(one.verdict == "late" for one in self.at(rate))

    # -------------------------------------------------------------- what was found

    def at(self, rate: float) -> list[Offered]:
        """The runs of a rate, of each seed the last."""
        return list({one.seed: one for one in self.trials if one.rate == rate}.values())

    @property
    def rate(self) -> float | None:
        """The greatest rate that was kept in all runs, or None; in those so far before the search is done."""
        if self.ended == "found":
            return self._confirmed_rate
        rates = {one.rate for one in self.trials}
        good = [rate for rate in rates if all(one.verdict == "kept" for one in self.at(rate))]
        return max(good, default=None)

    @property
    def broken(self) -> float | None:
        """The lowest rate above the found one that was shown not to be kept, or None."""
        found = self.rate or 0.0
        rates = [one.rate for one in self.trials if one.verdict == "broken" and one.rate > found]
        return min(rates, default=None)

    @property
    def late(self) -> Offered | None:
        """The run in which the generator was late, if it is what bounds the rate, and not the server."""
        above = self._not_kept_above(self.rate or 0.0)
        nearest = self.at(min(above)) if above else []
        return next((one for one in nearest if one.verdict == "late"), None)
