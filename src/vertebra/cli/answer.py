"""What `vertebra pick` prints: the choice first, its figures beside the limits, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vertebra import units
from vertebra.cli import ladder
from vertebra.cli.output import columns, quantity
from vertebra.cli.tables import listed
from vertebra.cli.terminal import breadth, line, painted, room
from vertebra.measurements import display
from vertebra.measurements.views import NEEDING_A_MACHINE
from vertebra.metrics import METRICS
from vertebra.reading.choice import terms
from vertebra.reading.choice.candidates import BUDGET, nearest_miss
from vertebra.reading.choice.precisions import FEWEST_PICTURES
from vertebra.reading.choice.rule import Demand
from vertebra.reading.choice.terms import TOLD
from vertebra.verbs.next_command import folder, next_command, with_weights

if TYPE_CHECKING:
    from vertebra.measurements import Measurement, WideRow
    from vertebra.reading.choice.precisions import Gain
    from vertebra.reading.choice.rule import Exclusion, Limit, Outlook, Pick, Relaxation

#: --why lists at most this number of excluded networks, and of networks on the front.
_MOST_SHOWN = 12
#: How many measurements are named after the answer; the others are counted.
_FEW_NAMED = 6
#: How the origin of a figure is called beside it.
_ORIGINS = {"benched": "measured", "profiled": "counted", "derived": "from float32's"}


# ------------------------------------------------------------------ for programs


def records(picked: Pick, top: int) -> list[dict[str, Any]]:
    """One record in base units for each network: those that meet the limits (the first ones and the front),
    the excluded ones, then those that relaxing one limit would give."""
    front = {row.model for row in picked.front}
    first = {row.model for row in picked.ranked[: max(top, 2)]}
    met = [
        {**_record(row, picked, "met"), "front": row.model in front}
        for row in picked.ranked if row.model in first | front
    ]  # fmt: skip
    out = [
        _record(item.row, picked, "borderline" if item.borderline else "excluded", "; ".join(item.reasons))
        for item in picked.excluded
    ]
    relaxed = [
        {**_record(one.row, picked, "if relaxed", _relaxed(one)), "limit": _name(one.limit),
         "relaxed_to": one.to, "gain": one.gain}
        for one in picked.relaxations
    ]  # fmt: skip
    shown = {(one["model"], one["engine"], one["precision"]) for one in met + out}
    contenders = [row for row in _contenders(picked) if _way(row) not in shown]
    rungs = ladder.records(picked.ladder) if picked.ladder is not None and _is_priced(picked) else []
    found = met + out + relaxed + [_record(row, picked, "contender") for row in contenders]
    heads = dict.fromkeys(head for one in (*found, *rungs) for head in one)
    return [{**dict.fromkeys(heads), **one} for one in (*found, *rungs)]


def _contenders(picked: Pick) -> tuple[WideRow, ...]:
    return () if picked.outlook is None else picked.outlook.contenders


def _way(row: WideRow) -> tuple[str, Any, Any]:
    return row.model, row.conditions.get("engine"), row.conditions.get("precision")


def _name(limit: Limit | Demand) -> str:
    return limit.name if isinstance(limit, Demand) else limit.metric


def _record(row: WideRow, picked: Pick, verdict: str, reasons: str = "") -> dict[str, Any]:
    shown = dict.fromkeys((*display.GLANCE, *_asked(picked)))
    found = {name: row.figures.get(name) for name in shown}
    return {
        "model": row.model,
        "verdict": verdict,
        "engine": row.conditions.get("engine"),
        "precision": row.conditions.get("precision"),
        "system": row.conditions.get("system"),
        **{name: _number(one, "value") for name, one in found.items()},
        **{f"{name}_low": _number(one, "low") for name, one in found.items()},
        **{f"{name}_high": _number(one, "high") for name, one in found.items()},
        **{f"{name}_origin": one.origin if one else None for name, one in found.items()},
        "top1_basis": _basis(found["top1"]),
        "weights": found["top1"].weights if found["top1"] else None,
        "licence": terms.licence(row),
        "licence_terms": terms.terms(terms.licence(row)) if terms.is_public(row) else None,
        "could_change": _way(row) in set(map(_way, _contenders(picked))),
        "front": False,
        "limit": None,
        "relaxed_to": None,
        "gain": None,
        "reasons": reasons,
    }


def _basis(row: Measurement | None) -> str | None:
    """How an accuracy is known that was published for float32 only; None for any other."""
    return None if row is None or row.origin != "derived" else "; ".join(row.grade_reasons)


def _number(row: Measurement | None, column: str) -> float | int | None:
    """A value of one type for each metric: counts are whole."""
    value = None if row is None else getattr(row, column)
    if row is None or value is None:
        return None
    return round(value) if METRICS[row.metric].unit in ("count", "B") else float(value)


def _asked(picked: Pick) -> tuple[str, ...]:
    return (picked.objective, *(limit.metric for limit in picked.limits))


# ------------------------------------------------------------------ for people


def text(picked: Pick, top: int = 1, *, why: bool = False, asked: str = "vertebra pick") -> str:
    """The answer for people; `why` adds the better networks, the front and each figure's origin. `asked` is
    the command that was typed, to which a time for measuring can be added."""
    named = _NAMED_SYSTEMS.set(bool(picked.systems))
    try:
        return _text(picked, top, why, asked)
    finally:
        _NAMED_SYSTEMS.reset(named)


#: Whether networks are named with their systems, as where several are compared.
_NAMED_SYSTEMS = ContextVar("named_systems", default=False)


def _is_priced(picked: Pick) -> bool:
    """Whether what a point costs is printed unasked."""
    return bool(picked.systems) or (picked.ladder is not None and picked.ladder.currency is not None)


def _text(picked: Pick, top: int, why: bool, asked: str) -> str:
    choice = picked.choice
    if choice is None:
        blocks = [_nothing(picked, top), _relaxations(picked)]
    else:
        blocks = [_card(choice, picked), _beside(picked, top)]
        blocks += [_excluded(picked), _front(picked)] if why else []
        blocks += [_relaxations(picked), _origin(choice, picked) if why else _counts(picked)]
        blocks += [_derived(choice), _estimated(choice, picked)]
        if picked.ladder is not None and (why or _is_priced(picked)):
            blocks += [ladder.text(picked.ladder, systems=bool(picked.systems))]
    blocks += [[line(note) for note in picked.notes], _in_other_precisions(picked), _ending(picked)]
    blocks += [_open(picked, asked), _next(picked, asked)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _open(picked: Pick, asked: str) -> list[str]:
    """What measuring could still change, and the command that measures it."""
    outlook = picked.outlook
    if outlook is None or picked.ended == "settled":
        return []
    command = f"{asked} --budget {BUDGET}"
    lines = []
    if outlook.unpriced:
        how = "" if picked.ended == "too few" else f" To measure: {command}"  # what failed fails again
        lines += [
            f"Not compared: {_networks(outlook.unpriced)}, because too few are measured here to estimate the "
            f"others.{how}"
        ]
    if outlook.contenders:
        lines += [f"{_could_change(picked, outlook)} To measure: {command}"]
    elif nearest_miss(picked) is not None:
        lines += [f"The nearest miss is an estimate. To measure it: {command}"]
    elif not outlook.unpriced and _depends_on_a_machine(picked):
        lines += ["No network that wasn't measured has a chance of 5 % or more to change this answer."]
    return lines


def _could_change(picked: Pick, outlook: Outlook) -> str:
    """Which networks without a measurement could change the answer."""
    choice = picked.choice
    others = [row for row in outlook.contenders if choice is None or row.model != choice.model]
    is_estimate = len(others) < len(outlook.contenders)
    said = "The choice is an estimate." if is_estimate else ""
    if others:
        count = _networks(len({row.model for row in others}))
        first = _described(others[0], *_asked(picked))
        said += f" {count} not measured yet could be better: first {first}."
    return said.strip()


def _in_other_precisions(picked: Pick) -> list[str]:
    """What other precisions would buy, and the command that proves it."""
    return [line(_gain(one, picked)) for one in picked.gains]


def _gain(one: Gain, picked: Pick) -> str:
    best = one.row.figures[picked.objective].value
    more = "" if picked.choice is None else best - picked.choice.figures[picked.objective].value
    points = f", {100 * more:.1f} points more" if isinstance(more, float) else ""
    latency = one.row.figures["latency"].value * one.share
    model = shlex.quote(with_weights(one.row))
    way = f"--engine {one.engine} --precision {one.precision}"
    compared = f"vertebra eval {model} PICTURES {way} --against float32"
    command = f"vertebra bench {model} {way} && {compared}"
    if one.precision.startswith("int8"):
        bundle = f"{folder(one.row.model)}-{one.precision}"
        on = f"--engine {one.engine}"
        command = (
            f"vertebra export {model} {way} --calibrate PICTURES -o {bundle} && "
            f"vertebra bench ./{bundle} {on} && vertebra eval ./{bundle} PICTURES {on} --against float32"
        )
    return (
        f"In {one.precision}, about {one.share:.2f} of float32's time ({one.basis}): {_called(one.row)} "
        f"could meet the limits with ~{units.show(latency, 's')}, {100 * best:.1f} % in float32{points}. "
        f"To prove it with {FEWEST_PICTURES} pictures or more, without labels: {command}; then pick with "
        "--precision any"
    )


def _depends_on_a_machine(picked: Pick) -> bool:
    return not NEEDING_A_MACHINE.isdisjoint(_asked(picked))


def _next(picked: Pick, asked: str) -> list[str]:
    """The last line: what to type next."""
    if picked.choice is not None:
        command = next_command(picked.choice)
    else:
        is_open = _contenders(picked) or nearest_miss(picked) is not None
        command = f"{asked} --budget {BUDGET}" if is_open and picked.ended is None else None
    return [f"{painted('next:', 'cyan')} {command}"] if command else []


def _nothing(picked: Pick, top: int) -> list[str]:
    asked = ", ".join(map(str, (*picked.limits, *picked.demands))) or "no limits"
    misses = [f"  {_described(item.row)}: {_why(item, picked)}" for item in picked.excluded[: max(top, 3)]]
    return [f"No network meets these limits with certainty: {line(asked)}.", "", "Nearest misses:", *misses]


# ------------------------------------------------------------------ the choice


def _card(row: WideRow, picked: Pick) -> list[str]:
    """The network, its weights and their licence, and its figures beside the limits."""
    grade = row.figures["latency"].grade if "latency" in row.figures else None
    title = painted(_called(row), "bold")
    colour = {"A": "green", "C": "red"}.get(grade or "", "")
    lines = [f"{title}   {painted(f'grade {grade}', colour)}" if grade else title]
    figures = _figures(row, picked)
    widest = room()
    if widest is not None and max(map(breadth, figures)) > widest:
        figures = _figures(row, picked, short=True)
    lines += figures
    others = [name for name in display.GLANCE if name in row.figures and name not in _main(row, picked)]
    size = ", ".join(f"{METRICS[name].label} {quantity(row, name)}" for name in others)
    lines += [f"  {size}"] if size else []
    return [lines[0], *_licence(picked), *lines[1:]]


def _licence(picked: Pick) -> list[str]:
    """The weights that the accuracy is of, and their licence; beside one that isn't free the best that is."""
    choice = picked.choice
    if choice is None or picked.terms is None:
        return []
    weights = choice.figures["top1"].weights
    told = picked.licence or ""
    if picked.terms != "free":
        told = painted(": ".join(filter(None, [told, TOLD[picked.terms]])), "yellow")
    lines = [f"  weights {line(weights or 'unnamed')}, licence {told}"]
    if picked.terms != "free":
        free = picked.free
        beside = "none meets the limits" if free is None else _described(free, *_asked(picked), "latency")
        named = "" if free is None else f", {terms.licence(free)}"
        lines += [f"  best under a free licence: {beside}{named}"]
    return lines


def _called(row: WideRow) -> str:
    engine = row.conditions.get("engine")
    system = row.conditions.get("system") if _NAMED_SYSTEMS.get() else None
    return line(" on ".join(str(one) for one in (row.model, engine, system) if one))


def _main(row: WideRow, picked: Pick) -> list[str]:
    """The metrics of the card: the asked ones, latency and memory."""
    wanted = dict.fromkeys((*_asked(picked), "latency", "memory_total"))
    return [name for name in wanted if name in row.figures]


def _figures(row: WideRow, picked: Pick, *, short: bool = False) -> list[str]:
    """A line for each figure: the value, the limit, how far it is met, and the origin."""
    limits = {limit.metric: limit for limit in picked.limits}
    lines = [
        [METRICS[name].label, _valued(one, short=short),
         *(_margin(limits[name], row) if name in limits else ("", "")), "" if short else _from(one)]
        for name, one in ((name, row.figures[name]) for name in _main(row, picked))
    ]  # fmt: skip
    lines += [[demand.name, line(demand.value_of(row) or ""), "", "✓", ""] for demand in picked.demands]
    widths = [max(breadth(cells[place]) for cells in lines) for place in range(5)]
    return [f"  {'  '.join(map(_padded, cells, widths))}".rstrip() for cells in lines]


def _padded(cell: str, width: int) -> str:
    space = " " * (width - breadth(cell))
    return (painted(cell, "green") if cell.startswith("✓") else cell) + space


def _valued(one: Measurement, *, short: bool = False) -> str:
    """A figure with its interval; if `short`, a measured one has its origin instead."""
    bounds = display.interval(one)
    if one.origin == "estimated":
        return display.quantity(one)
    if short:
        return f"{display.quantity(one)}, {_from(one)}"
    return f"{display.quantity(one)} ({bounds})" if bounds else display.quantity(one)


def _from(one: Measurement) -> str:
    return _ORIGINS.get(one.origin, one.origin)


def _margin(limit: Limit, row: WideRow) -> tuple[str, str]:
    """A limit, and how far it is met: "5.3 times" what is asked for, or "65 %" of what is allowed."""
    unit = METRICS[limit.metric].unit
    sign = "≤" if limit.is_ceiling else "≥"
    return f"{sign} {units.show_bound(limit.bound, unit)}", f"✓ {limit.margin(row)}".rstrip()


# ------------------------------------------------------------------ the others


def _described(row: WideRow, *names: str) -> str:
    """A network in words: "vgg16 on openvino (top-1 accuracy 72.0 %, latency ~81.2 ms (70 to 93 ms))"."""
    parts = [
        f"{METRICS[name].label} {display.quantity(row.figures[name])}"
        for name in dict.fromkeys(names) if name in row.figures
    ]  # fmt: skip
    return f"{_called(row)} ({', '.join(parts)})" if parts else _called(row)


def _beside(picked: Pick, top: int) -> list[str]:
    """The runner-up, or a table of the best."""
    if top > 1 and len(picked.ranked) > 1:
        shown = picked.ranked[:top]
        return [f"The best {len(shown)}:", "", columns([_glance(row, picked) for row in shown])]
    if picked.runner_up is None:
        return []
    return [f"Runner-up: {_described(picked.runner_up, picked.objective, 'latency')}"]


def _glance(row: WideRow, picked: Pick) -> dict[str, Any]:
    """One network in one line, with the metrics of the limits and of the objective."""
    asked = dict.fromkeys(_asked(picked))
    more = {METRICS[name].label: quantity(row, name) for name in asked if name not in display.GLANCE}
    where = {"system": row.conditions.get("system")} if picked.systems else {}
    return {**where, **display.glance(row), **more}


def _counts(picked: Pick) -> list[str]:
    """How many better networks miss a limit, and how many are on the front."""
    lines = []
    if picked.excluded:
        near = sum(item.borderline for item in picked.excluded)
        aside = f", {near} borderline" if near else ""
        lines.append(f"Missed: {_networks(len(picked.excluded))} would be better{aside}")
    if len(picked.front) > 2:
        lines.append(f"{_front_title(picked)}: {_networks(len(picked.front))}")
    return [f"{text} (--why)" for text in lines]


def _networks(count: int) -> str:
    return "1 network" if count == 1 else f"{count:,} networks"


def _front_title(picked: Pick) -> str:
    return f"Pareto front of {METRICS[picked.objective].label} against {METRICS[picked.against].label}"


def _front(picked: Pick) -> list[str]:
    """The networks that no other beats in both the objective and the metric that is traded for it."""
    if len(picked.front) < 3:
        return []
    lines = [f"  {_described(row, picked.objective, picked.against)}" for row in picked.front[:_MOST_SHOWN]]
    more = len(picked.front) - len(lines)
    lines += [f"  and {more} more (list them with --json)"] if more > 0 else []
    return [f"{_front_title(picked)}:", *lines]


def _excluded(picked: Pick) -> list[str]:
    """The better networks and why they were excluded, in their order; if there are many, the nearest to the
    limits. Those that a demand excludes are only counted."""
    wanted = [item for item in picked.excluded if not item.unwanted]
    near = sorted(wanted, key=lambda item: max((limit.miss(item.row) for limit in picked.limits), default=1))
    shown = {id(item) for item in near[:_MOST_SHOWN]}
    lines = [f"  {_described(item.row)}: {_why(item, picked)}" for item in wanted if id(item) in shown]
    more = len(wanted) - len(lines)
    lines += [f"  and {more} more that miss by more (list them with --json)"] if more else []
    for demand in picked.demands:
        count = sum(demand in item.unwanted for item in picked.excluded)
        lines += [f"  {count} with another or an unknown {demand.name}"] if count else []
    return ["Better, but excluded:", *lines] if lines else []


def _why(item: Exclusion, picked: Pick) -> str:
    """The reasons in one line, with the limits as they were typed and estimates marked."""
    ours = {limit.reason(item.row): _reason(limit, item.row) for limit in picked.limits}
    reasons = "; ".join(ours.get(one, one) for one in item.reasons)
    return line(f"borderline: {reasons}" if item.borderline else reasons)


def _reason(limit: Limit, row: WideRow) -> str:
    one = row.figures.get(limit.metric)
    if one is None:
        return limit.reason(row)
    label, unit = METRICS[limit.metric].label, METRICS[limit.metric].unit
    return f"{label} {_valued(one)}, limit {units.show_bound(limit.bound, unit)}"


def _relaxations(picked: Pick) -> list[str]:
    """What relaxing each limit would gain; if no single one is enough, the limits that the nearest miss
    needs."""
    if picked.relaxations:
        lines = [
            f"  {line(_relaxed(one))}: {_described(one.row, picked.objective)}{_gained(one, picked)}"
            for one in picked.relaxations
        ]
        return ["What relaxing one limit would gain:", *lines]
    if picked.choice is not None or not picked.excluded:
        return []
    nearest = picked.excluded[0].row
    unmet = [limit for limit in picked.limits if limit.verdict(nearest) != "met"]
    needed = [(limit, limit.needed(nearest)) for limit in unmet]
    bounds = [str(replace(limit, bound=to)) for limit, to in needed if to is not None]
    if picked.excluded[0].unwanted or len(bounds) < max(len(unmet), 1):
        return ["Relaxing one limit is not enough."]
    return [f"Relaxing one limit is not enough; {line(nearest.model)} needs {' and '.join(bounds)}."]


def _relaxed(one: Relaxation) -> str:
    """The relaxed limit and the present one: "latency ≤ 61.3 ms instead of 50 ms"."""
    if isinstance(one.limit, Demand):
        return f"also {one.limit.name} {one.to}"
    unit = METRICS[one.limit.metric].unit
    return f"{replace(one.limit, bound=float(one.to))} instead of {units.show_bound(one.limit.bound, unit)}"


def _gained(one: Relaxation, picked: Pick) -> str:
    if one.gain is None:
        return ""
    unit = METRICS[picked.objective].unit
    more = "more" if one.gain > 0 else "less"
    shown = units.show(abs(one.gain), unit)
    return f", {shown.replace('%', 'points')} {more}"


# ------------------------------------------------------------------ where it is from


def _derived(row: WideRow) -> list[str]:
    """How an accuracy is known that was published for float32 only."""
    basis = _basis(row.figures.get("top1"))
    return [painted(line(f"≥ {METRICS['top1'].label}: {basis}."), "dim")] if basis else []


def _estimated(row: WideRow, picked: Pick) -> list[str]:
    """What the mark of estimates means, and how far they can be trusted."""
    reasons: dict[str, list[str]] = {}
    for name in _main(row, picked):
        one = row.figures[name]
        if one.origin == "estimated":
            reasons.setdefault("; ".join(one.grade_reasons[:1]), []).append(METRICS[name].label)
    return [
        painted(line(f"~ {', '.join(labels)}: {why or 'estimated'}; the interval holds 90 %."), "dim")
        for why, labels in reasons.items()
    ]


def _origin(row: WideRow, picked: Pick) -> list[str]:
    """The origin of each of the choice's figures, and its conditions."""
    names = dict.fromkeys(("top1", "probe_top1", "latency", "memory_total", "params", *_asked(picked)))
    origins = [
        f"{METRICS[name].label} {_origin_of(row.figures[name])}" for name in names if name in row.figures
    ]
    conditions = listed(row.conditions)
    lines = [f"Origin: {', '.join(origins)}.", *([f"Measured with: {conditions}."] if conditions else [])]
    latency = row.figures.get("latency")
    if latency is not None and latency.origin == "benched" and latency.low is not None:
        lines.append(
            "Intervals of measured latencies are those of an independent survey; a run's own are narrower "
            f"(vertebra table --model {row.model})."
        )
    return list(map(line, lines))


def _origin_of(one: Measurement) -> str:
    """The origin of a figure, in words."""
    weights = f" for the weights {one.weights}" if one.weights else ""
    if one.origin == "benched":
        return "measured in this form"
    if one.origin == "derived":
        return f"{'; '.join(one.grade_reasons)}{weights}"
    if one.origin == "estimated":
        return "; ".join(("estimated", *one.grade_reasons[:1])).replace("estimated; estimated", "estimated")
    images = f" on {one.dataset}" if one.origin == "evaluated" else ""
    return f"{one.origin}{images}{weights}"


def _ending(picked: Pick) -> list[str]:
    """What was measured for the answer, and whether the answer is final."""
    if picked.ended is None:
        return []
    is_short = picked.outlook is not None and picked.outlook.unpriced > 0
    late = "the others could be estimated" if is_short else "every estimate that could change it was measured"
    last = {
        "settled": "Each remaining estimate has a chance of less than 5 % to change the answer.",
        "interrupted": "Interrupted: this is the answer so far, and the measurements are in the table.",
        "budget": f"This is the answer so far: the time was up before {late}.",
        "too few": "The rest failed: vertebra table --metric failure",
    }
    return [f"Measured for this answer: {_several(picked.measured)}. {last[picked.ended]}"]


def _several(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW_NAMED} more" if len(names) > _FEW_NAMED else ""
    return line(", ".join(names[:_FEW_NAMED]) or "nothing") + more
