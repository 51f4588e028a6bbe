"""READ: whether a locked choice still is the best, by the rule that made it and today's rows.

Four outcomes: it holds; it surely misses what was asked; another network is surely better; or it couldn't be
judged, which is said with the reason. What is surely so is decided by `rule.pick`, on today's figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vertebra import units
from vertebra.measurements import Measurement, WideRow, display, shipped, wide
from vertebra.measurements.subjects import subject
from vertebra.measurements.views import FORM, NEEDING_A_MACHINE
from vertebra.metrics import METRICS
from vertebra.reading.choice import next_to_measure, rule
from vertebra.reading.choice.candidates import Question
from vertebra.reading.choice.rule import Demand, Limit
from vertebra.reading.lockfile import Lock
from vertebra.reading.regression import cells, escaped

Outcome = Literal["holds", "broken", "outdone", "not judged"]

#: outcome -> exit status of the command; 2 is left to misuse and errors.
STATUS: dict[Outcome, int] = {"holds": 0, "broken": 1, "outdone": 1, "not judged": 3}
#: What an engine chooses by itself, which may differ from one version to the next.
_CHOSEN_BY_ENGINE = ("layout", "provider")
#: Libraries of every engine: they are named as changed only where nothing else is.
_COMMON = ("numpy", "python", "vertebra")


@dataclass(frozen=True)
class Line:
    """A figure when the lock was made, and now; `limit` bounds it, if any does."""

    metric: str
    then: Measurement | None
    now: Measurement | None
    limit: Limit | None
    verdict: str


@dataclass(frozen=True, repr=False)
class Checked(display.Shown):
    """Whether a lock holds. `says` is the answer in one line, `reasons` why it couldn't be judged,
    `figures` the choice's figures then and now, `better` the network that is better now, `changes` the
    versions that changed ("onnxruntime 1.31 → 1.33"), `notes` what else must be said, and `measured` what was
    measured for the answer ("vgg16 on openvino")."""

    lock: Lock
    outcome: Outcome
    says: str
    reasons: tuple[str, ...] = ()
    figures: tuple[Line, ...] = ()
    better: WideRow | None = None
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The exit status: 0 holds, 1 surely broken or outdone, 3 couldn't be judged."""
        return STATUS[self.outcome]

    def summary(self) -> str:
        return self.says

    def tables(self) -> Iterable[list[display.Line]]:
        """The choice's figures, then and now."""
        yield self.lines()

    def lines(self) -> list[display.Line]:
        """A line for each figure, as text."""
        return [
            {"figure": METRICS[one.metric].label, "in the lock": _shown(one.then), "now": _shown(one.now),
             "limit": None if one.limit is None else _bound(one.limit), "verdict": one.verdict}
            for one in self.figures
        ]  # fmt: skip

    def details(self) -> list[str]:
        """What else must be said, a sentence each."""
        versions = [f"Versions changed: {', '.join(self.changes)}."] if self.changes else []
        measured = [f"Measured for this answer: {', '.join(self.measured)}."] if self.measured else []
        return [*self.reasons, *versions, *self.notes, *measured]

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain data, figures in base units."""
        return {
            "outcome": self.outcome, "status": self.status, "says": self.says, "model": self.lock.model,
            "engine": self.lock.form.get("engine"), "reasons": list(self.reasons),
            "changes": list(self.changes), "better": self.better.model if self.better else None,
            "notes": list(self.notes), "measured": list(self.measured),
            "figures": [
                {"metric": one.metric, "then": _ends(one.then), "now": _ends(one.now),
                 "limit": one.limit.bound if one.limit else None, "verdict": one.verdict}
                for one in self.figures
            ],
        }  # fmt: skip

    def markdown(self) -> str:
        """The answer for a build's page or a pull request's comment."""
        lines = [f"### vertebra check: {self.outcome}", "", f"**{escaped(self.says)}**"]
        table = self.lines()
        if table:
            heads = list(table[0])
            lines += ["", cells(heads), cells(["---"] * len(heads))]
            lines += [cells(str(line[head] or "") for head in heads) for line in table]
        details = [f"- {escaped(one)}" for one in self.details()]
        return "\n".join([*lines, *(["", *details] if details else [])]) + "\n"


def _ends(one: Measurement | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"value": one.value, "low": one.low, "high": one.high, "origin": one.origin, "grade": one.grade}


def _shown(one: Measurement | None) -> str | None:
    if one is None:
        return None
    ends = display.interval(one)
    return (
        display.quantity(one)
        if ends is None or one.origin == "estimated"
        else f"{display.quantity(one)} ({ends})"
    )


def _bound(limit: Limit) -> str:
    sign = "≤" if limit.is_ceiling else "≥"
    return f"{sign} {units.show_bound(limit.bound, METRICS[limit.metric].unit)}"


# ------------------------------------------------------------------ the judgement


@dataclass(frozen=True)
class Now:
    """Today: the `rows` of all candidates, the machine `here`, the `installed` versions of the choice's
    engine, the rows measured just now (`fresh`), why the choice couldn't be measured (`obstacles`), and which
    others failed (`failures`)."""

    rows: Sequence[WideRow]
    here: str
    installed: Mapping[str, str]
    fresh: Sequence[Measurement] = ()
    obstacles: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def judge(lock: Lock, now: Now) -> Checked:
    """Whether the lock holds today."""
    own = own_row(lock, now.rows)
    judged = _judged(lock, own, now.rows)
    checked = Checked(
        lock, "not judged", "", figures=_lines(lock, judged), changes=_changes(lock, judged, now.installed),
        notes=(*_of_catalogue(lock, now.rows), *now.failures), measured=now.measured,
    )  # fmt: skip
    if is_elsewhere(lock, now.here):
        return replace(checked, says=_elsewhere(lock), reasons=_checked_elsewhere(lock, judged), changes=())
    question = lock.question
    broken = [limit for limit in question.limits if limit.verdict(judged) == "broken"]
    unwanted = [demand for demand in question.demands if not demand.holds(judged)]
    doubts = (*_unmeasured(lock, own, now), *_contradicted(lock, judged, now.fresh))
    if (broken or unwanted) and not doubts:
        doubts = rule.doubts(judged, question.limits, question.objective, least_grade=question.trust)
        if not doubts:
            return replace(checked, outcome="broken", says=_no_longer(checked, broken, unwanted, judged))
    alone = None if judged.value(question.objective) is None else _pick([judged], question)
    if alone is None or alone.choice is None or doubts:
        missed = () if alone is None or alone.choice is not None else alone.excluded[0].reasons
        reasons = tuple(map(_sentence, doubts or missed))
        return replace(checked, says=f"Couldn't be judged: {_called(lock)}.", reasons=reasons)
    return _beside_others(checked, judged, now, question)


def is_elsewhere(lock: Lock, here: str) -> bool:
    """Whether the answer depends on another machine than this."""
    return lock.needs_machine and lock.machine is not None and lock.machine["id"] != here


def own_row(lock: Lock, rows: Iterable[WideRow]) -> WideRow | None:
    """The row of the locked network in its form; what the engine chooses by itself may differ."""
    same = [row for row in rows if _is_network(row, lock)]
    for names in (FORM, [name for name in FORM if name not in _CHOSEN_BY_ENGINE]):
        for row in same:
            if all(row.conditions.get(name) == lock.form.get(name) for name in names):
                return row
    return None


def _is_network(row: WideRow, lock: Lock) -> bool:
    return any(subject(one) == lock.network for one in row.figures.values())


def _judged(lock: Lock, own: WideRow | None, rows: Iterable[WideRow]) -> WideRow:
    """The locked network with today's figures. What needs no machine and isn't known here is the lock's."""
    known = own or next((row for row in rows if _is_network(row, lock)), None)
    figures = {name: one for name, one in lock.row.figures.items() if name not in NEEDING_A_MACHINE}
    if known is not None:
        figures |= {
            name: one
            for name, one in known.figures.items()
            if own is not None or name not in NEEDING_A_MACHINE
        }
    return WideRow(lock.model, dict(lock.form), figures)


def _pick(rows: Sequence[WideRow], question: Question) -> rule.Pick:
    return rule.pick(
        rows, question.limits, question.objective, demands=question.demands, least_grade=question.trust
    )


def _beside_others(checked: Checked, judged: WideRow, now: Now, question: Question) -> Checked:
    """The outcome for a choice that meets all that was asked: whether another does so and is better."""
    lock = checked.lock
    others = [row for row in now.rows if row.model != lock.model and not _is_network(row, lock)]
    sure = [row for row in others if not next_to_measure.is_estimated(row, question.asked)]
    for rows, outcome in ((sure, "outdone"), (others, "not judged")):
        best = _pick([*rows, judged], question).choice
        if best is None or best.model == lock.model or not _is_surely_better(best, judged, question):
            continue
        if outcome == "outdone":
            return replace(checked, outcome="outdone", says=_has_better(checked, best, judged), better=best)
        told = f"{_has_better(checked, best, judged)} This is by estimates, which don't break a lock."
        return replace(checked, says=f"Couldn't be judged: {_called(lock)}.", reasons=(told,), better=best)
    asked = [*map(_in_words, question.limits), *map(str, question.demands)]
    meets = f"; it meets {', '.join(asked)}" if asked else ""
    unmeasured = _open(lock, judged, now.rows, question)
    praise = "Still the best that was measured" if unmeasured else "Still the best"
    return replace(
        checked, outcome="holds", says=f"{praise}: {_called(lock)}{meets}.",
        notes=(*checked.notes, *unmeasured),
    )  # fmt: skip


def _is_surely_better(row: WideRow, than: WideRow, question: Question) -> bool:
    """Whether `row` is better in the objective by the whole of both intervals."""
    first, second = row.figures[question.objective], than.figures[question.objective]
    if METRICS[question.objective].better == "higher":
        return _low(first) > _high(second)
    return _high(first) < _low(second)


def _low(one: Measurement) -> float:
    return one.value if one.low is None else one.low


def _high(one: Measurement) -> float:
    return one.value if one.high is None else one.high


# ------------------------------------------------------------------ doubts


def _unmeasured(lock: Lock, own: WideRow | None, now: Now) -> tuple[str, ...]:
    """Why today's figures of a machine aren't known."""
    needed = [metric for metric in lock.question.asked if metric in NEEDING_A_MACHINE]
    if not needed:
        return ()
    if now.obstacles:
        return now.obstacles
    found = [None if own is None else own.figures.get(metric) for metric in needed]
    if any(one is None or one.origin == "estimated" for one in found):
        return (f"The table has no measurement of {_called(lock)} in its form.",)
    known = {name: version for one in found if one is not None for name, version in one.versions.items()}
    old = [name for name, version in now.installed.items() if name in known and known[name] != version]
    return tuple(
        f"The newest measurement is of {name} {known[name]}, and {now.installed[name]} is installed."
        for name in old
    )


def _contradicted(lock: Lock, judged: WideRow, fresh: Sequence[Measurement]) -> tuple[str, ...]:
    """Limits that what was just measured surely meets and the table as a whole misses, or the other way."""
    row = own_row(lock, wide(fresh))
    if row is None:
        return ()
    found = []
    for limit in lock.question.limits:
        both = {limit.verdict(row), limit.verdict(judged)}
        if both == {"met", "broken"}:
            found.append(
                f"{METRICS[limit.metric].label} was {_shown(row.figures[limit.metric])} just now, but is "
                f"{_shown(judged.figures[limit.metric])} by all measurements of the table."
            )
    return tuple(found)


# ------------------------------------------------------------------ words


def _called(lock: Lock) -> str:
    engine = lock.form.get("engine")
    return f"{lock.model} on {engine}" if engine else lock.model


def _in_words(limit: Limit) -> str:
    return f"{limit.bound:.6g} fps" if limit.metric == "fps" else str(limit)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _lines(lock: Lock, judged: WideRow) -> tuple[Line, ...]:
    question, then = lock.question, lock.row
    limits = {limit.metric: limit for limit in question.limits}
    names = dict.fromkeys((*question.asked, *display.GLANCE))
    return tuple(
        Line(name, then.figures.get(name), judged.figures.get(name), limits.get(name),
             limits[name].verdict(judged) if name in limits else "")
        for name in names if name in then.figures or name in judged.figures
    )  # fmt: skip


def _changes(lock: Lock, judged: WideRow, installed: Mapping[str, str]) -> tuple[str, ...]:
    """The versions that differ, the engine's first; Python's and vertebra's own only where no other does."""
    now: dict[str, str] = {}
    for name, one in judged.figures.items():
        if name in NEEDING_A_MACHINE:
            now |= one.versions
    now = now or dict(installed)
    then = lock.versions
    names = [name for name in sorted(then) if name in now and then[name] != now[name]]
    first = [name for name in names if name not in _COMMON]
    return tuple(f"{name} {_told(then[name], now[name])}" for name in first or names)


def _told(then: str, now: str) -> str:
    """Both versions, as far as they are needed to see the difference: "1.31 → 1.33"."""
    first, second = (re.split(r"(?<=\d)\.", version) for version in (then, now))
    pairs = enumerate(zip([*first, None], [*second, None], strict=False))
    needed = max(2, 1 + next(place for place, (one, other) in pairs if one != other))
    return f"{'.'.join(first[:needed])} → {'.'.join(second[:needed])}"


def _no_longer(checked: Checked, limits: Sequence[Limit], unwanted: Sequence[Demand], judged: WideRow) -> str:
    lock = checked.lock
    missed = [*map(_in_words, limits), *map(str, unwanted)]
    then = [lock.row.figures.get(limit.metric) for limit in limits]
    if limits and all(one is not None and one.origin == "estimated" for one in then):
        return f"{_called(lock)} doesn't meet {' and '.join(missed)}: the lock had only an estimate."
    why = ", ".join(checked.changes) or "no version has changed"
    if not any(limit.metric in NEEDING_A_MACHINE for limit in limits):
        told = [limit.reason(judged) for limit in limits] + [demand.reason(judged) for demand in unwanted]
        why = "; ".join(told)
    return f"{_called(lock)} no longer meets {' and '.join(missed)}: {why}."


def _has_better(checked: Checked, best: WideRow, judged: WideRow) -> str:
    """That another network is better, and since when it can be known."""
    lock, by = checked.lock, checked.lock.question.objective
    engine = best.conditions.get("engine")
    name = f"{best.model} on {engine}" if engine else best.model
    known = {one.get("model") for one in (*lock.runners_up, *lock.better, *lock.contenders)}
    is_new = lock.catalogue != shipped.digest() and best.model not in known
    has = f"The catalogue that ships now has {name}," if is_new else f"{name} is now"
    return f"{has} {_gain(by, best.figures[by].value, judged.figures[by].value)} under your limits."


def _gain(metric: str, better: float, worse: float) -> str:
    if METRICS[metric].unit == "fraction":
        return f"{100 * abs(better - worse):.2g} points better"
    label = METRICS[metric].label
    if worse <= 0 or better <= 0:
        return f"better in {label}"
    return f"{100 * abs(better / worse - 1):.3g} % better in {label}"


def _of_catalogue(lock: Lock, rows: Sequence[WideRow]) -> tuple[str, ...]:
    if lock.catalogue == shipped.digest():
        return ()
    there = any(_is_network(row, lock) or row.model == lock.model for row in rows)
    gone = "" if there or lock.network[1] else f" It has no {lock.model} any more."
    return (f"The catalogue has changed since the lock was made with vertebra {lock.vertebra}.{gone}",)


def _open(lock: Lock, judged: WideRow, rows: Sequence[WideRow], question: Question) -> tuple[str, ...]:
    """The likeliest contender that was never measured here."""
    if question.among != "catalogue":
        return ()
    own = [row for row in rows if not _is_network(row, lock)]
    found = next_to_measure.open_question(
        [*own, judged], question.limits, question.objective, demands=question.demands,
        least_grade=question.trust,
    )  # fmt: skip
    if found is None:
        return ()
    is_known = found.model in {one.get("model") for one in lock.contenders}
    return (
        f"{rule.described(found, *question.asked)} {'is still' if is_known else 'is'} not measured here and "
        f"could be better{', as the lock says' if is_known else ''}; "
        f"to measure it: {lock.command()} --budget 3m",
    )


# ------------------------------------------------------------------ elsewhere


def _elsewhere(lock: Lock) -> str:
    return (
        f"Couldn't be judged: the lock was made on another machine, {machine_in_words(lock.machine or {})}."
    )


def machine_in_words(machine: Mapping[str, Any]) -> str:
    """A machine by its name and what is known of it."""
    cores, memory, gpus = (machine.get(name) for name in ("physical_cores", "memory_bytes", "gpus"))
    parts = [
        str(machine["cpu"]) if machine.get("cpu") else None,
        f"{cores} cores" if isinstance(cores, int) else None,
        units.show(memory, "B") if isinstance(memory, int | float) else None,
        *(
            str(gpu.get("name"))
            for gpu in (gpus if isinstance(gpus, list | tuple) else ())
            if isinstance(gpu, dict)
        ),
        str(machine["os"]) if machine.get("os") else None,
    ]
    known = ", ".join(filter(None, parts))
    return f"{machine.get('id')} ({known})" if known else str(machine.get("id"))


def _checked_elsewhere(lock: Lock, judged: WideRow) -> tuple[str, ...]:
    """What needs no machine: sizes, counts, accuracies, licences."""
    question = lock.question
    fixed = [limit for limit in question.limits if limit.metric not in NEEDING_A_MACHINE]
    lines = [
        f"Checked here: {_in_words(limit)} is {limit.verdict(judged)}: {limit.reason(judged)}."
        for limit in fixed
    ]
    lines += [
        f"Checked here: {demand} {'holds' if demand.holds(judged) else 'is broken'}."
        for demand in question.demands
    ]
    then, now = lock.row.figures.get(question.objective), judged.figures.get(question.objective)
    if then is not None and now is not None and question.objective not in NEEDING_A_MACHINE:
        is_same = then.value == now.value
        told = f"is unchanged, {_shown(now)}" if is_same else f"is now {_shown(now)}; it was {_shown(then)}"
        lines.append(f"Checked here: {METRICS[question.objective].label} {told}.")
    lines.append(f"To choose for this machine: {lock.command()}")
    return tuple(lines)
