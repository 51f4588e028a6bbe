"""The answer card at the top of the page: one network, its figures beside the limits, how sure it is, what to
type next; then the answers under other limits, and the better networks that they exclude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vertebra import metrics, units
from vertebra.measurements import Measurement, WideRow, display
from vertebra.reading.choice import terms
from vertebra.reading.choice.next_to_measure import chance
from vertebra.reading.choice.rule import Exclusion, Limit, Pick
from vertebra.reading.reports.markup import Cell, Column, Html, joined, section, table, tag, text

_ORIGINS = {"benched": "measured", "profiled": "counted", "derived": "from float32's"}
#: The figures of every card, besides those of its limits.
_SHOWN = ("top1", "latency", "memory_total")
#: At most this many better networks are listed for the main answer, and for each of the others.
_MOST, _EACH = 6, 2


@dataclass(frozen=True)
class Answer:
    """A pick with its heading ("At least 30 frames per second") and a `short` one ("30 fps"), the `command`
    that gives it, and the `next` one to type, where there is one."""

    heading: str
    short: str
    pick: Pick
    command: str
    next: str | None = None


def card_section(answers: Sequence[Answer], machine: str | None, asked: bool) -> Html:
    """The card of the first answer, and tables of all of them. `asked` says whether its limits were given, or
    are the usual ones; `machine` is the one that was measured."""
    if not answers:
        return Html("")
    tables = [_others(answers[1:]), _better(answers)]
    return section(
        "answer", "The answer", _card(answers[0], machine, asked), tag("div", *tables, class_="beside"),
    )  # fmt: skip


# ------------------------------------------------------------------ the card


def _card(answer: Answer, machine: str | None, asked: bool) -> Html:
    picked = answer.pick
    on = f" on {machine}" if machine else ""
    told = f"{answer.heading}, batch size 1{on}."
    if not asked:
        usual = f"{_lower(answer.heading)}, batch size 1{on}"
        told = f"No limits were given, so this is for usual ones: {usual}. Move them in the explorer below."
    parts = []
    if picked.choice is None:
        parts.append(_nothing(picked))
    else:
        parts += [_title(picked.choice), _figures(picked.choice, picked)]
    facts = _facts(answer)
    listed = [part for name, value in facts for part in (tag("dt", name), tag("dd", value))]
    return tag(
        "div", tag("p", told, class_="note"), tag("div", *parts), tag("dl", *listed, class_="facts"),
        class_="pick answer",
    )  # fmt: skip


def _lower(heading: str) -> str:
    return heading[:1].lower() + heading[1:]


def _title(row: WideRow) -> Html:
    engine = row.conditions.get("engine")
    return tag("h3", row.model, *([tag("span", f" on {engine}")] if engine else []))


def _nothing(picked: Pick) -> Html:
    if not picked.excluded:
        return tag("p", tag("strong", "No network has the figures that this needs."))
    nearest = picked.excluded[0]
    named = tag("strong", "No network certainly meets this.")
    return tag("p", named, f" The nearest: {_called(nearest.row)}: {nearest.why}.")


def _called(row: WideRow) -> str:
    engine = row.conditions.get("engine")
    return f"{row.model} on {engine}" if engine else row.model


def _figures(row: WideRow, picked: Pick) -> Html:
    """A line for each figure: its value with its interval, its limit, whether it is met, its origin."""
    limits = {limit.metric: limit for limit in picked.limits}
    names = dict.fromkeys((picked.objective, *limits, *_SHOWN))
    lines = [_line(row, name, limits.get(name)) for name in names if name in row.figures]
    return tag("table", tag("tbody", *lines))


def _line(row: WideRow, name: str, limit: Limit | None) -> Html:
    figure, metric = row.figures[name], metrics.find(name)
    value = tag(
        "td", *_value(figure), class_="figure estimated" if figure.origin == "estimated" else "figure"
    )
    bound = margin = ""
    if limit is not None:
        bound = (
            f"{'at most' if limit.is_ceiling else 'at least'} {units.show_bound(limit.bound, metric.unit)}"
        )
        margin = f"✓ {limit.margin(row)}".rstrip()
    return tag(
        "tr", tag("th", _capital(metric.label), scope="row"), value,
        tag("td", bound),
        tag("td", margin, class_="met") if limit else tag("td"),
        tag("td", _ORIGINS.get(figure.origin, figure.origin), class_="note"),
    )  # fmt: skip


def _value(figure: Measurement) -> list[Html]:
    """The value, marked with ~ if it is estimated, its grade, and its interval."""
    shown = units.show(figure.value, metrics.find(figure.metric).unit)
    parts = [tag("span", f"{display.mark(figure)}{shown}")]
    if figure.grade is not None:
        parts.append(tag("span", figure.grade, class_=f"grade grade-{figure.grade.lower()}",
                         title=f"grade {figure.grade}"))  # fmt: skip
    ends = display.interval(figure)
    return [*parts, *([tag("small", ends)] if ends else [])]


def _capital(label: str) -> str:
    return label[:1].upper() + label[1:]


# ------------------------------------------------------------------ how sure, and what next


def _facts(answer: Answer) -> list[tuple[str, str]]:
    picked = answer.pick
    facts: list[tuple[str, str]] = []
    if picked.choice is not None:
        facts.append(("How sure", _sure(picked)))
        facts.append(("Licence (weights)", _licence(picked)))
    if picked.runner_up is not None:
        asked = dict.fromkeys((picked.objective, *(limit.metric for limit in picked.limits), "latency"))
        shown = [
            display.quantity(picked.runner_up.figures[name])
            for name in asked
            if name in picked.runner_up.figures
        ]
        facts.append(("Runner-up", f"{_called(picked.runner_up)}: {', '.join(shown)}"))
    facts += [("Note", note) for note in picked.notes]
    if answer.next:
        facts.append(("Next", tag("code", answer.next)))
    if answer.command != answer.next:
        facts.append(("Command", tag("code", answer.command)))
    return facts


def _sure(picked: Pick) -> str:
    """What the figures that the answer depends on are, and what could still change it."""
    row = picked.choice
    assert row is not None
    asked = dict.fromkeys((picked.objective, *(limit.metric for limit in picked.limits)))
    figures = [row.figures[name] for name in asked if name in row.figures]
    estimated = [one for one in figures if one.origin == "estimated"]
    parts = []
    parts += _reasons([one for one in figures if one.origin == "derived"])
    if estimated:
        parts += [
            "Not measured here yet",
            *_reasons(estimated),
            "The slow end of each interval meets its limit",
        ]
    elif picked.limits:
        parts.append("The slow end of each interval meets its limit" + _grades(figures))
    else:
        parts.append("No limit that a figure could miss")
    doubtful = sum(one.borderline and chance(one.row, picked) > 0 for one in picked.excluded)
    if doubtful:
        networks = "1 better network is" if doubtful == 1 else f"{doubtful} better networks are"
        parts.append(f"{networks} borderline: measuring could change the answer")
    elif any(one.borderline for one in picked.excluded):
        parts.append("No better network has a chance of 5 % or more to change this answer")
    return ". ".join(parts) + "."


def _reasons(estimated: Sequence[Measurement]) -> list[str]:
    """How each metric was estimated."""
    found: dict[str, list[str]] = {}
    for one in estimated:
        found.setdefault("; ".join(one.grade_reasons) or "estimated", []).append(
            metrics.find(one.metric).label
        )
    return [f"{_capital(' and '.join(labels))}: {reason}" for reason, labels in found.items()]


def _grades(figures: Sequence[Measurement]) -> str:
    """The worst grade of them, with its reason."""
    graded = [one for one in figures if one.grade is not None]
    if not graded:
        return ""
    worst = max(graded, key=lambda one: one.grade or "")
    why = f": {'; '.join(worst.grade_reasons[:2])}" if worst.grade_reasons else ""
    return f"; measured with grade {worst.grade}{why}"


def _licence(picked: Pick) -> str:
    """The licence of the choice's weights; if it isn't a free one, the best network with such a one."""
    row = picked.choice
    assert row is not None
    if not terms.is_public(row):
        return "your own weights"
    named = terms.licence(row)
    allowed = terms.terms(named)
    if allowed == "free":
        return str(named)
    told = f"{named}: {terms.TOLD[allowed]}" if named is not None else terms.TOLD[allowed]
    free = picked.free or next((one for one in picked.ranked if terms.licence(one) in terms.FREE), None)
    if free is None:
        return told
    value = display.quantity(free.figures.get(picked.objective))
    return f"{told}. The best with free weights: {_called(free)} ({value}, {terms.licence(free)})"


# ------------------------------------------------------------------ the tables


def _others(answers: Sequence[Answer]) -> Html:
    if not answers:
        return Html("")
    columns = [Column("Limit", number=False), Column("Network", number=False), Column("Top-1"),
               Column("Latency"), Column("Memory")]  # fmt: skip
    lines = [[text(one.short), *_choice(one.pick)] for one in answers]
    return table("Under other limits", columns, lines, sortable=False)


def _choice(picked: Pick) -> list[Cell]:
    if picked.choice is None:
        return [Cell("none certainly", kind="prose"), Cell(""), Cell(""), Cell("")]
    return [Cell(_named(picked.choice), kind="prose"), *(_cell(picked.choice, name) for name in _SHOWN)]


def _named(row: WideRow) -> Html:
    """A network, with its engine below it."""
    engine = row.conditions.get("engine")
    return joined([row.model, *([tag("small", f"on {engine}")] if engine else [])])


def _cell(row: WideRow, name: str) -> Cell:
    figure = row.figures.get(name)
    return Cell("") if figure is None else Cell(joined(_value(figure)), figure.value)


def _better(answers: Sequence[Answer]) -> Html:
    """The networks that would be better than some answer, the nearest to its limits first, in one table."""
    out: dict[str, dict[str, Exclusion]] = {}
    near: dict[str, WideRow] = {}
    for answer in answers:
        for one in answer.pick.excluded:
            out.setdefault(one.row.model, {})[answer.short] = one
        ordered = sorted(answer.pick.excluded, key=lambda one: (not one.borderline, _miss(one, answer.pick)))
        for one in ordered[: _EACH if near else _MOST]:
            near.setdefault(one.row.model, one.row)
    if not out:
        return Html("")
    shown = list(near.values())
    names = [name for name in ("top1", "fps", "memory_total") if any(name in row.figures for row in shown)]
    columns = [Column("Network", number=False), Column("Misses", number=False),
               *(Column(_HEADINGS[name]) for name in names)]  # fmt: skip
    lines = [
        [
            Cell(_named(row)),
            Cell(_missed(out[row.model]), kind="prose"),
            *(_cell(row, name) for name in names),
        ]
        for row in shown
    ]
    caption = f"Better, but excluded: {len(out)}" if len(shown) == len(out) else (
        f"Better, but excluded: the nearest {len(shown)} of {len(out)}"
    )  # fmt: skip
    return table(caption, columns, lines, sortable=False)


_HEADINGS = {"top1": "Top-1", "fps": "FPS", "memory_total": "Memory"}


def _miss(one: Exclusion, picked: Pick) -> float:
    return max((limit.miss(one.row) for limit in picked.limits), default=1.0)


def _missed(out: dict[str, Exclusion]) -> str:
    """The answers that exclude a network: those that it only might miss, or by a doubtful figure, say so."""
    missed = [short + (" (its grade)" if any("is graded" in why for why in one.reasons) else "")
              for short, one in out.items() if not one.borderline]  # fmt: skip
    near = [short for short, one in out.items() if one.borderline]
    parts = [", ".join(missed)] if missed else []
    return "; ".join([*parts, *([f"borderline: {', '.join(near)}"] if near else [])])
