"""`vertebra.pick`: the best network under limits, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError
from vertebra.measurements import Table
from vertebra.measurements.views import FORM
from vertebra.reading.choice import candidates
from vertebra.reading.choice.rule import Pick
from vertebra.verbs import given
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.progress import Listener
    from vertebra.reading.choice.candidates import Question

#: What says which rows count; the other keywords are limits.
_CONDITIONS = (*FORM, "dataset", "probed", "origin")


def pick(
    *,
    objective: str = "top1",
    table: TableLike = None,
    filters: Mapping[str, Any] | None = None,
    trust: str = "B",
    among: str | None = None,
    budget: str | float | None = None,
    licence: str | Sequence[str] = (),
    family: str | Sequence[str] = (),
    input_size: int | Sequence[int] = (),
    progress: Listener | None = None,
    **limits: Any,
) -> Pick:
    """Choose a network under `limits`, such as latency="10ms", memory="700MB", top1="75%".

    Limits are named as the keys of `recommendation.LIMITS`; text is read with its unit, a number is in base
    units. `objective` is a metric or such a key. `licence` (of the weights, "apache-2.0"), `family` and
    `input_size` say which may be chosen. Conditions stand beside the limits, or in `filters`: engine="eager";
    dataset="folder" and probed="folder" say which images the accuracies are of, origin="evaluated" who found
    them out. A network isn't chosen by a figure graded worse than `trust`.

    With `among="catalogue"` (else "table"), every network whose accuracy is published is a candidate, priced
    from those that were measured on this machine. With `budget`, a time, those of the catalogue that could
    change the answer are measured first, best promise first, until none is left or the time is up; what is
    measured is appended to the table, and the Pick says what it was and why it ended. Raises
    InvalidInputError for conditions that can't be measured here.
    """
    conditions = {**(filters or {})}
    conditions |= {name: limits.pop(name) for name in _CONDITIONS if name in limits}
    question = candidates.ask(
        limits, objective=objective, licence=given.several(licence), family=given.several(family),
        input_size=given.several(input_size), trust=trust,
        among=among or ("table" if budget is None else "catalogue"), filters=conditions,
    )  # fmt: skip
    if budget is None:
        return candidates.pick(given.table(table, create=False), question)
    _refuse_contradictions(question)
    return _settled(question, given.table(table), given.seconds(budget), progress)


#: Conditions under which networks are measured for a pick, so that they can't be chosen.
_MEASURED_UNDER = {"batch_size": 1, "device": "cpu", "scenario": "single-stream", "streams": 1}


def _refuse_contradictions(question: Question) -> None:
    """Networks are measured here, one image at a time, and priced for that."""
    if question.among != "catalogue":
        raise InvalidInputError(
            "--budget measures networks of the catalogue, and the candidates are those of the table.",
            "add --among catalogue",
        )
    for name in (*_MEASURED_UNDER, "system", "probed"):
        if question.filters.get(name) not in (None, _MEASURED_UNDER.get(name)):
            option = name.replace("_", "-")
            raise InvalidInputError(
                f"--budget measures on this machine at batch size 1, so --{option} can't be."
            )


def _settled(question: Question, table: Table, budget_s: float, progress: Listener | None) -> Pick:
    conditions = dict(question.filters)
    engine = conditions.pop("engine", None)
    engines = () if engine is None else given.several(engine)
    question = replace(question, filters=conditions)
    from vertebra.verbs import picking

    found = picking.verified(table, question, budget_s, engines=engines, progress=progress)
    return replace(found.pick, measured=found.measured, ended=found.ended)
