"""`vertebra.pick`: the best network within limits, with reasons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, warn
from vertebra.measurements import Table
from vertebra.measurements.views import FORM, NEEDING_A_MACHINE
from vertebra.reading.choice import candidates, ladder, next_to_measure, precisions
from vertebra.reading.choice.rule import Pick
from vertebra.verbs import given, notebook
from vertebra.verbs.conditions import check, check_measured
from vertebra.verbs.conditions import systems as checked_systems
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.progress import Listener
    from vertebra.reading.choice.candidates import Question

#: Keywords that choose the rows; the others are limits.
_CONDITIONS = (*FORM, "dataset", "probed", "origin")


def pick(
    *,
    by: str = "top1",
    table: TableLike = None,
    filters: Mapping[str, Any] | None = None,
    trust: str | None = None,
    among: str | None = None,
    budget: str | float | None = None,
    licence: str | Sequence[str] = (),
    family: str | Sequence[str] = (),
    input_size: int | Sequence[int] = (),
    lock: str | Path | None = None,
    systems: str | Sequence[str] = (),
    price: Mapping[str, str] | str | Sequence[str] = (),
    progress: Listener | None = None,
    objective: str | None = None,
    **limits: Any,
) -> Pick:
    """Choose a network under `limits`, such as latency="10ms", memory="700MB", top1="75%".

    The names of limits are the keys of `rule.LIMITS`; text has a unit, a number is in base units. `by` is the
    metric to optimise, or such a key (`objective` was its name earlier). `licence` (of the weights,
    "apache-2.0", or "free" for any use), `family` and `input_size` restrict the candidates. Conditions such
    as engine="openvino" are keywords too, or in `filters`; dataset="folder" and probed="folder" name the
    images of the accuracies (dataset="folder@3fa2b1c4" one of several folders of that name, by its digest),
    origin="evaluated" takes only accuracies measured here. Forms are in float32, unless `precision` names
    others or is "any". With `trust`, no network is chosen by a figure with a worse grade; without it the
    figures' intervals alone decide.


    Every network with a published accuracy is a candidate: what wasn't measured on this machine is estimated
    from what was. With `among="table"` (else "catalogue"), only networks in the table are. With `budget`, a
    time, the candidates that could change the answer are measured first, the most promising one first, until
    none is left or the time is up; with "auto", for up to 3 minutes, and only if too little is measured here
    to estimate the others. Their rows are appended to the table; the Pick lists them and says why it ended.

    With `systems`, names of machines of the table ("a,b" or several), hardware and network are chosen
    together: a candidate is a network in a form on one of them, and all else stays equal. `price` is what an
    hour of a machine costs, {"a": "0.34USD"}. The Pick's `ladder` says what one more point of accuracy costs.

    With `lock`, the choice and what it depends on are written to that file, for `vertebra.check`; where
    nothing is chosen there is a warning and no file.
    Raises InvalidInputError for conditions that can't be measured here, and if nothing was measured that the
    answer depends on.
    """
    place = _place(lock)
    compared = _several(systems)
    if compared:
        _refuse_for_systems(budget, lock, filters, limits)
        source = given.table(table, create=False)
        compared = checked_systems(source, compared)
        limits["system"] = compared
        budget = None
    conditions = {**(filters or {})}
    conditions |= {name: limits.pop(name) for name in _CONDITIONS if name in limits}
    conditions["precision"] = _precisions(conditions.get("precision"))
    question = candidates.ask(
        limits, objective=given.renamed(by, objective, "top1"), licence=given.several(licence),
        family=given.several(family), input_size=given.several(input_size), trust=trust,
        among=among or "catalogue", filters={**conditions, "precision": _in(conditions["precision"])},
    )  # fmt: skip
    spend_s = _seconds(budget)
    if budget == AUTO:
        spend_s = given.seconds(candidates.BUDGET) if _is_worth_it(question, table) else 0.0
    if spend_s == 0:
        source = given.table(table, create=False)
        named = (
            conditions if conditions["precision"] != (precisions.ANY,) else {**conditions, "precision": None}
        )
        check(source, named)
        if not NEEDING_A_MACHINE.isdisjoint(question.asked):
            check_measured(source, named)
        picked = _with_ladder(candidates.pick(source, question), question, source, price)
        return _locked(picked, question, source, place)
    _refuse_contradictions(question)
    source = given.table(table)
    picked = _settled(question, source, spend_s, notebook.listener(progress))
    return _locked(_with_ladder(picked, question, source, price), question, source, place)


def _several(systems: str | Sequence[str]) -> tuple[str, ...]:
    named = systems.split(",") if isinstance(systems, str) else systems
    return tuple(one.strip() for one in named if one.strip())


def _refuse_for_systems(
    budget: str | float | None,
    lock: str | Path | None,
    filters: Mapping[str, Any] | None,
    limits: Mapping[str, Any],
) -> None:
    """Raise InvalidInputError for what can't be done for several machines at once."""
    refused = {
        "system": (filters or {}).get("system", limits.get("system")),
        "lock": lock, "budget": None if budget == AUTO else budget,
    }  # fmt: skip
    for name, value in refused.items():
        if value is not None:
            raise InvalidInputError(
                f"--systems chooses among several machines, so --{name} can't be set.",
                f"choose a machine first, then: vertebra pick --system NAME{_THEN[name]}",
            )


_THEN = {"system": "", "lock": " --lock FILE", "budget": ", and --budget on that machine"}


def _with_ladder(
    picked: Pick, question: Question, source: Table, price: Mapping[str, str] | str | Sequence[str]
) -> Pick:
    """`picked` with what one more point costs, and what must be said of several machines."""
    one = question.filters["system"] if "system" in question.filters else candidates.this_system(source)
    known = ladder.prices(price, question.systems or (one,), source.prices())
    found = ladder.ladder(picked.meeting, picked.objective, known)
    notes = list(picked.notes)
    lacking = [name for name in question.systems if known.per_hour and name not in known.per_hour]
    if lacking:
        notes.append(f"No price is given for {', '.join(lacking)}, so money isn't compared.")
    choice = picked.choice
    if question.systems and choice is not None and next_to_measure.is_estimated(choice, question.asked):
        where = choice.conditions.get("system")
        notes.append(
            f"{choice.model} never ran in this form on {where}: its figures are estimated from the networks "
            f"that did. To measure it, on that machine: vertebra bench {choice.model}"
        )
    return replace(picked, systems=question.systems, ladder=found, notes=tuple(notes))


def _place(lock: str | Path | None) -> Path | None:
    """Where the lock is to be written, checked before anything is measured."""
    if lock is None:
        return None
    from vertebra.machine import files
    from vertebra.reading import lockfile

    place = files.named(lock)
    lockfile.check_place(place)
    return place


def _locked(picked: Pick, question: Question, source: Table, place: Path | None) -> Pick:
    """`picked`, which is written to `place`."""
    if place is None:
        return picked
    from vertebra.reading import lockfile

    if picked.choice is None:
        kept = " The one that is there stays as it is." if place.exists() else ""
        warn(f"No network surely meets the limits, so {place.name} isn't written.{kept}")
    else:
        lockfile.write(lockfile.of(picked, question, source), place)
        if next_to_measure.is_estimated(picked.choice, question.asked):
            warn(
                f"The choice in {place.name} depends on estimates.",
                f"to measure it: vertebra check {place.name}",
            )
    return picked


#: The budget that is spent only where it is needed.
AUTO = "auto"


def _precisions(asked: Any) -> tuple[str, ...] | None:
    """Those named; None if none is, and no other than "any" may be beside it."""
    named = tuple(one for one in given.several(asked) if one is not None)
    if precisions.ANY in named and len(named) > 1:
        raise InvalidInputError('The precision "any" includes all others.', "leave the others out")
    return named or None


def _in(named: tuple[str, ...] | None) -> tuple[str | None, ...] | None:
    """The condition on the rows: float32, stated or not, unless others are named; None for any."""
    return None if named == (precisions.ANY,) else named or (precisions.USUAL, None)


def _seconds(budget: str | float | None) -> float:
    if budget is None or budget == AUTO:
        return 0.0
    found = given.seconds(budget)
    if found < 0 or not math.isfinite(found):
        raise InvalidInputError(f"The budget is {budget}.", "give a time such as 3m; 0s measures nothing")
    return found


def _is_worth_it(question: Question, table: TableLike) -> bool:
    """Whether measuring can be done under the conditions asked for, and is needed to estimate the field."""
    if _contradiction(question) is not None or NEEDING_A_MACHINE.isdisjoint(question.asked):
        return False
    if not isinstance(table, Table) and table is not None and not Path(table).expanduser().exists():
        return True
    return candidates.is_short(given.table(table, create=False), question)


#: Conditions under which networks are measured for a pick; others can't be asked for.
_MEASURED_UNDER = {"batch_size": 1, "device": "cpu", "scenario": "single-stream", "streams": 1}


def _refuse_contradictions(question: Question) -> None:
    """Networks are measured and estimated on this machine, one image at a time."""
    refusal = _contradiction(question)
    if refusal is not None:
        raise refusal


def _contradiction(question: Question) -> InvalidInputError | None:
    if question.among != "catalogue":
        return InvalidInputError(
            "--budget measures networks of the catalogue, but --among table takes only those of the table.",
            "leave --among out",
        )
    for name in (*_MEASURED_UNDER, "system", "probed"):
        if question.filters.get(name) not in (None, _MEASURED_UNDER.get(name)):
            option = name.replace("_", "-")
            return InvalidInputError(
                f"--budget measures on this machine at batch size 1, so --{option} can't be set."
            )
    beside = question.filters.get("beside")
    if beside is not None and not isinstance(beside, int):
        return InvalidInputError(
            "--budget measures beside one number of busy threads, and several were given.", "pass only one"
        )
    return None


def _settled(question: Question, table: Table, budget_s: float, progress: Listener | None) -> Pick:
    conditions = dict(question.filters)
    engine = conditions.pop("engine", None)
    engines = () if engine is None else given.several(engine)
    question = replace(question, filters=conditions)
    from vertebra.verbs import picking

    found = picking.settled(table, question, budget_s, engines=engines, progress=progress)
    return replace(found.pick, measured=found.measured, ended=found.ended)
