"""What one more point of accuracy costs: the front from the cheapest network to the most accurate.

A rung is a network in a form, on a system where several were asked for. Its costs are those of one image:
seconds, peak memory, watt-hours where a counter told them, and money where the system has a price. The price
of one more point is what a cost grows by from the rung below, divided by the points that are gained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vertebra.errors import InvalidInputError
from vertebra.measurements import WideRow
from vertebra.measurements.prices import Given, Price, parsed, read

#: Cost of an image -> the metrics that it can follow from, the first that is known.
COSTS = {
    "money": ("latency", "throughput"), "latency": ("latency", "throughput"), "memory": ("memory_total",),
    "energy": ("energy_per_image",),
}  # fmt: skip
#: Accuracies that have points.
ACCURACIES = ("top1", "top5", "probe_top1")
_HOUR = 3600


@dataclass(frozen=True)
class Prices:
    """What an hour of each system costs, all in one currency."""

    per_hour: Mapping[str, float] = field(default_factory=dict)
    currency: str | None = None


@dataclass(frozen=True)
class Rung:
    """A network of the front. `costs` are of one image: seconds, bytes, watt-hours, money; `per_point` is
    what each grew by for one more point since the rung `below` (the lowest has none)."""

    row: WideRow
    accuracy: float
    costs: Mapping[str, float]
    points: float | None = None
    per_point: Mapping[str, float] = field(default_factory=dict)
    is_knee: bool = False
    below: Rung | None = field(default=None, repr=False)

    def is_estimated(self, cost: str) -> bool:
        """Whether a cost follows from an estimate."""
        figure = next(self.row.figures[name] for name in COSTS[cost] if name in self.row.figures)
        return figure.origin == "estimated"

    def is_estimated_per_point(self, cost: str) -> bool:
        """Whether what a point costs follows from an estimate, of this rung or of the one below."""
        return self.is_estimated(cost) or (self.below is not None and self.below.is_estimated(cost))

    def above(self, below: Rung | None) -> Rung:
        """The same rung with another one below it."""
        return replace(_rung(self.row, self.accuracy, self.costs, below), is_knee=self.is_knee)


@dataclass(frozen=True)
class Ladder:
    """The front of `accuracy` against the cost `against`, the cheapest first; `per_hour` are the prices of
    systems, in `currency`."""

    accuracy: str
    against: str
    rungs: tuple[Rung, ...]
    currency: str | None = None
    per_hour: Mapping[str, float] = field(default_factory=dict)

    @property
    def knee(self) -> Rung | None:
        """The rung above which a point costs more than before: furthest above the straight line from the
        first to the last, both axes from 0 to 1; None where none lies above it."""
        return next((one for one in self.rungs if one.is_knee), None)


def prices(given: Given, systems: Sequence[str | None], kept: Mapping[str, Price]) -> Prices:
    """The prices of `systems` for an hour: those given now, such as "box=0.34USD", before those that are
    `kept`. Raises InvalidInputError for what can't be read, a system that isn't asked about, and several
    currencies."""
    said = {name: read(name, text) for name, text in parsed(given).items()}
    for name in said:
        if name not in systems:
            asked = ", ".join(str(one) for one in systems if one is not None) or "none"
            raise InvalidInputError(f"{name} has a price, but isn't asked about.", f"systems asked: {asked}")
    known = {**kept, **said}
    found = {name: known[name] for name in systems if name is not None and name in known}
    currencies = list(dict.fromkeys(one.currency for one in found.values()))
    if len(currencies) > 1:
        from_table = "" if len(said) == len(found) else " (the table keeps: " + _listed(kept, found) + ")"
        raise InvalidInputError(
            f"The prices are in several currencies: {', '.join(currencies)}{from_table}.",
            "convert them into one",
        )
    return Prices({name: one.per_hour for name, one in found.items()}, next(iter(currencies), None))


def _listed(kept: Mapping[str, Price], found: Mapping[str, Price]) -> str:
    return ", ".join(f"{name}={one}" for name, one in kept.items() if found.get(name) == one)


def ladder(rows: Iterable[WideRow], objective: str, known: Prices) -> Ladder | None:
    """The front of the accuracy (the objective if it is one, else top-1) against what an image costs: in
    money if each system has a price, else in time. None where fewer than two rungs are known."""
    accuracy = objective if objective in ACCURACIES else "top1"
    every = [(row, costs(row, known)) for row in rows if accuracy in row.figures]
    timed = [(row, found) for row, found in every if "latency" in found]
    against = "money" if timed and all("money" in found for _, found in timed) else "latency"
    timed.sort(key=lambda one: (one[1][against], -one[0].figures[accuracy].value, one[0].model))
    rungs: list[Rung] = []
    for row, found in timed:
        value = row.figures[accuracy].value
        if rungs and value <= rungs[-1].accuracy:
            continue
        rungs.append(_rung(row, value, found, rungs[-1] if rungs else None))
    if len(rungs) < 2:
        return None
    return Ladder(accuracy, against, _with_knee(rungs, against), known.currency, known.per_hour)


def costs(row: WideRow, known: Prices) -> dict[str, float]:
    """What one image costs, as far as it is known."""
    found: dict[str, float] = {}
    latency, throughput = row.figures.get("latency"), row.figures.get("throughput")
    if latency is not None and latency.batch_size:
        found["latency"] = latency.value / latency.batch_size
    elif latency is None and throughput is not None and throughput.value:
        found["latency"] = 1 / throughput.value
    if "latency" in found:
        price = known.per_hour.get(str(row.conditions.get("system")))
        if price is not None:
            found["money"] = price * found["latency"] / _HOUR
    memory, energy = row.figures.get("memory_total"), row.figures.get("energy_per_image")
    if memory is not None:
        found["memory"] = memory.value
    if energy is not None:
        found["energy"] = energy.value / _HOUR
    return found


def _rung(row: WideRow, accuracy: float, found: Mapping[str, float], below: Rung | None) -> Rung:
    if below is None:
        return Rung(row, accuracy, found)
    points = 100 * (accuracy - below.accuracy)
    grown = {name: (found[name] - below.costs[name]) / points for name in found if name in below.costs}
    return Rung(row, accuracy, found, points, grown, below=below)


def _with_knee(rungs: Sequence[Rung], against: str) -> tuple[Rung, ...]:
    """The rungs, the knee among them marked."""
    first, last = rungs[0], rungs[-1]
    wide, high = last.costs[against] - first.costs[against], last.accuracy - first.accuracy
    if len(rungs) < 3 or wide <= 0:
        return tuple(rungs)

    def above(one: Rung) -> float:
        return (one.accuracy - first.accuracy) / high - (one.costs[against] - first.costs[against]) / wide

    best = max(rungs, key=above)
    return tuple(replace(one, is_knee=one is best and above(one) > 0) for one in rungs)
