"""How `vertebra pick` prints what one more point of accuracy costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vertebra import units
from vertebra.cli.output import columns
from vertebra.cli.terminal import line
from vertebra.metrics import METRICS

if TYPE_CHECKING:
    from vertebra.reading.choice.ladder import Ladder, Rung

#: Rungs that are printed; --json has all.
_MOST = 12
_HEADS = {"latency": "time", "memory": "memory", "energy": "energy", "money": "money"}
#: Images for which money and watt-hours are printed.
_IMAGES = {"money": 1_000_000, "energy": 1_000}


def text(found: Ladder, *, systems: bool) -> list[str]:
    """The rungs as a table, and the knee in a sentence; `systems` says that each is named with its system."""
    shown = _shown(found)
    lines = [f"The price of one more point of {METRICS[found.accuracy].label} ({_WHAT[found.against]}):"]
    lines += ["", columns([_line(one, found, systems) for one in shown]), ""]
    more = len(found.rungs) - len(shown)
    lines += [f"{more} more rungs between these: list them with --json. Here, what a point costs is counted "
              "from the line above."] if more else []  # fmt: skip
    return [*lines, _knee(found, systems), *_legend(found, shown)]


_WHAT = {"latency": "along the front against time", "money": "along the front against money"}


def _shown(found: Ladder) -> list[Rung]:
    """The first and the last rungs, some between them, and the knee: each above the one that is shown
    before it."""
    if len(found.rungs) <= _MOST:
        return [*found.rungs]
    step = (len(found.rungs) - 1) / (_MOST - 1)
    places = {round(place * step) for place in range(_MOST)}
    shown: list[Rung] = []
    for place, one in enumerate(found.rungs):
        if place in places or one.is_knee:
            shown.append(one.above(shown[-1] if shown else None))
    return shown


def _line(one: Rung, found: Ladder, systems: bool) -> dict[str, Any]:
    cells: dict[str, Any] = {"network": line(one.row.model), "engine": one.row.conditions.get("engine")}
    cells |= {"system": one.row.conditions.get("system")} if systems else {}
    cells[METRICS[found.accuracy].label] = units.show(one.accuracy, "fraction")
    for cost in _HEADS:
        if any(cost in rung.costs for rung in found.rungs):
            cells[_head(cost, found)] = _amount(one, cost, one.costs.get(cost))
    for cost in _HEADS:
        if any(cost in rung.per_point for rung in found.rungs):
            cells[f"{_HEADS[cost]} for a point"] = _amount(one, cost, one.per_point.get(cost), per_point=True)
    return {**cells, "": "knee" if one.is_knee else None}


def _head(cost: str, found: Ladder) -> str:
    if cost == "money":
        return f"{found.currency} for 1,000,000 images"
    return "energy for 1,000 images" if cost == "energy" else _HEADS[cost]


def _amount(one: Rung, cost: str, value: float | None, *, per_point: bool = False) -> str | None:
    """A cost, or what it grew by, with the mark of estimates."""
    if value is None:
        return None
    sign = "-" if value < 0 else "+" if per_point else ""
    size = abs(value)
    if cost in _IMAGES:
        shown = f"{size * _IMAGES[cost]:.3g}" + (" Wh" if cost == "energy" else "")
    else:
        shown = units.show(size, METRICS["latency" if cost == "latency" else "memory_total"].unit)
    estimated = one.is_estimated_per_point(cost) if per_point else one.is_estimated(cost)
    return f"{'~' if estimated else ''}{sign}{shown}"


def _knee(found: Ladder, systems: bool) -> str:
    one = found.knee
    if one is None:
        return "No knee: no rung lies above the straight line from the cheapest to the most accurate."
    where = f" on {one.row.conditions.get('system')}" if systems else ""
    place = found.rungs.index(one)
    told = f"{_price(one, found)} up to it, " if one.below is not None else ""
    among = f" among all {len(found.rungs)} rungs" if len(found.rungs) > _MOST else ""
    above = _price(found.rungs[place + 1], found)
    return line(
        f"Knee{among}: {one.row.model}{where}: a point costs {told}{above} above it"
        + (f" ({_head('money', found)})." if found.against == "money" else ".")
    )


def _price(one: Rung, found: Ladder) -> str:
    """What a point costs on a rung, without the sign of a growth."""
    told = _amount(one, found.against, one.per_point.get(found.against), per_point=True)
    return (told or "").replace("+", "")


def _legend(found: Ladder, shown: list[Rung]) -> list[str]:
    """What the marks mean, and what money assumes."""
    lines = []
    if any(one.is_estimated(cost) for one in shown for cost in one.costs):
        lines.append("~ estimated from the networks that were measured on that system.")
    if any("money" in one.costs for one in found.rungs):
        if any("latency" not in one.row.figures for one in shown):
            lines.append("Time: of one image, from the throughput.")
        hours = ", ".join(f"{name} {value:.12g}" for name, value in found.per_hour.items())
        lines.append(
            f"Money: an hour's price ({hours} {found.currency}) for the time of an image, one after the "
            "other, never idle."
        )
    return lines


def records(found: Ladder) -> list[dict[str, Any]]:
    """A record for each rung, the cheapest first: costs of one image and for one more point, in base units
    (energy in watt-hours)."""
    return [
        {
            "model": one.row.model,
            "verdict": "rung",
            "engine": one.row.conditions.get("engine"),
            "precision": one.row.conditions.get("precision"),
            "system": one.row.conditions.get("system"),
            found.accuracy: one.accuracy,
            **{f"{cost}_per_image": one.costs.get(cost) for cost in ("latency", "energy", "money")},
            "memory_total": one.costs.get("memory"),
            "points": one.points,
            **{f"{cost}_per_point": one.per_point.get(cost) for cost in _HEADS},
            "estimated": ", ".join(cost for cost in one.costs if one.is_estimated(cost)),
            "estimated_per_point": ", ".join(
                cost for cost in one.per_point if one.is_estimated_per_point(cost)
            ),
            "currency": found.currency,
            "price_per_hour": found.per_hour.get(str(one.row.conditions.get("system"))),
            "knee": one.is_knee,
        }
        for one in found.rungs
    ]
