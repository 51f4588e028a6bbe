"""Search for the fastest form, heat by heat: what is cheap to try and promising comes first.

A heat measures forms side by side. The first has every engine's leading form; the next have those forms that
differ from a promising one in threads or layout. Those that are level with the fastest then meet again in a
final, and those that need a compiler come after it, one by one. The fastest so far runs again in each heat,
so that all heats are on one scale, even if the machine changed in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vertebra.campaigns.tuning.forms import Form, parent
from vertebra.measurements import Measurement

Verdict = Literal["fastest", "level", "slower", "failed", "untried"]

#: A form isn't tried if the one that leads its family takes more than this many times the fastest's time.
PROMISING = 2.0
NO_TIME = "no time left"


@dataclass(frozen=True)
class Finish:
    """The result of a form in one heat: seconds per image with their 95 % interval, or why there are none.
    `row` is its latency as stored in the table."""

    seconds: float = float("inf")
    low: float = float("inf")
    high: float = float("inf")
    failure: str | None = None
    row: Measurement | None = None

    def scaled(self, factor: float) -> Finish:
        low, high = self.low * factor, self.high * factor
        return Finish(self.seconds * factor, low, high, self.failure, self.row)


@dataclass(frozen=True)
class Trial:
    """The outcome of a form. `seconds` per image are on the first heat's scale, None if it has no figure.
    `latency` is the row of the heat that they come from."""

    form: Form
    verdict: Verdict
    reason: str = ""
    seconds: float | None = None
    latency: Measurement | None = None


#: Measures forms side by side; those missing in its answer had no time.
Heat = Callable[[Sequence[Form]], Mapping[Form, Finish]]


def search(forms: Sequence[Form], heat: Heat) -> list[Trial]:
    """A Trial for each of `forms`, the fastest first, then by their time, then those without a figure."""
    standing = _Standing(list(forms))
    while put_forward := standing.next_up():
        champion = standing.champion()
        standing.take(heat([*([] if champion is None else [champion]), *put_forward]), put_forward)
    return standing.trials()


@dataclass
class _Standing:
    """The forms that wait, and what is known about the others."""

    waiting: list[Form]
    finishes: dict[Form, Finish] = field(default_factory=dict)
    late: list[Form] = field(default_factory=list)
    had_final: bool = False

    def champion(self) -> Form | None:
        """The fastest so far."""
        ran = {form: one for form, one in self.finishes.items() if one.failure is None}
        return min(ran, key=lambda form: ran[form].seconds, default=None)

    def next_up(self) -> list[Form]:
        """Those that the champion meets in the next heat: all cheap new forms that are worth it, or else,
        once, those that are level with it, or else a costly new form; the most promising first, and among
        equals those that start sooner."""
        worth = [form for form in self.waiting if self._objection(form) is None]
        worth.sort(key=lambda form: (self._promise(form), not form.has_bundle))
        return [form for form in worth if not form.is_costly] or self._finalists() or worth[:1]

    def _finalists(self) -> list[Form]:
        """Those that are level with the champion, the first time that they are asked for."""
        champion = self.champion()
        if champion is None or self.had_final:
            return []
        self.had_final = True
        high = self.finishes[champion].high
        return [form for form, one in self.finishes.items() if form != champion and one.low <= high]

    def _promise(self, form: Form) -> float:
        """Seconds that the form takes if it is as fast as the one that leads its family."""
        leader = self._leader(form)
        return self.finishes[leader].seconds if leader in self.finishes else 0.0

    def _leader(self, form: Form) -> Form | None:
        return parent(form, [*self.finishes, *self.late, *self.waiting])

    def _objection(self, form: Form) -> str | None:
        """Why `form` isn't tried now."""
        leader = self._leader(form)
        if leader is None:
            return None
        if leader not in self.finishes:  # it is tried first, or was never measured
            return (self._objection(leader) if leader in self.waiting else None) or NO_TIME
        finish, champion = self.finishes[leader], self.champion()
        if finish.failure is not None:
            return None if leader.engine != form.engine else f"{leader} failed"
        assert champion is not None
        ratio = finish.seconds / self.finishes[champion].seconds
        if ratio > PROMISING:
            return f"not tried: {leader} takes {ratio:.2f}x the time of the fastest"
        return None

    def take(self, finishes: Mapping[Form, Finish], put_forward: Sequence[Form]) -> None:
        """Add a heat's results, brought to the first heat's scale by the champion's times in both. In a
        final, forms that had no time keep their results; a champion that fails is no longer champion."""
        champion = self.champion()
        again = None if champion is None else finishes.get(champion)
        factor = 1.0
        if champion is not None and again is not None:
            if again.failure is None:
                factor = self.finishes[champion].seconds / again.seconds
            else:
                self.finishes[champion] = again
        for form in put_forward:
            if form in self.waiting:
                self.waiting.remove(form)
            if form in finishes:
                self.finishes[form] = finishes[form].scaled(factor)
            elif form not in self.finishes:
                self.late.append(form)

    def trials(self) -> list[Trial]:
        ran = sorted(self._ran(), key=lambda trial: (trial.seconds or 0.0, str(trial.form)))
        failed = [
            Trial(form, "failed", one.failure)
            for form, one in self.finishes.items()
            if one.failure is not None
        ]
        late = [Trial(form, "untried", NO_TIME) for form in self.late]
        left = [Trial(form, "untried", self._objection(form) or NO_TIME) for form in self.waiting]
        return [*ran, *failed, *late, *left]

    def _ran(self) -> Iterator[Trial]:
        champion = self.champion()
        if champion is None:
            return
        fastest = self.finishes[champion]
        for form, one in self.finishes.items():
            if one.failure is not None:
                continue
            verdict: Verdict = "level" if one.low <= fastest.high else "slower"
            reason = f"{one.seconds / fastest.seconds:.2f}x the time of the fastest"
            if verdict == "level":
                reason += ", intervals overlap"
            if form == champion:
                verdict, reason = "fastest", ""
            yield Trial(form, verdict, reason, one.seconds, one.row)
