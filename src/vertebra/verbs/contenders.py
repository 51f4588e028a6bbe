"""The networks between which `fit` chooses: they may meet the limits here, and their weights can be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vertebra import zoo
from vertebra.campaigns import campaign, cases
from vertebra.errors import DownloadError, InvalidInputError, MissingRuntimeError, VertebraError
from vertebra.measurements import Table, display
from vertebra.progress import Listener, Progress, silent
from vertebra.reading.choice import candidates
from vertebra.reading.choice.candidates import Question
from vertebra.reading.choice.contender import Contender
from vertebra.zoo.graphs import store

#: Seconds of each network's measurement: it is measured again with its new head before it ships.
_CASE_S = 4.0
#: Seconds for what the estimates of the field need, where too little is measured here.
_FILL_S = 90.0
#: How many downloads may fail one after the other before no more are tried.
_PATIENCE = 2


@dataclass
class Field:
    """The contenders, the fastest first, and the networks that were left out, each with the reason."""

    contenders: list[Contender] = field(default_factory=list)
    failures: dict[str, VertebraError] = field(default_factory=dict)

    def leave_out(self, name: str, error: VertebraError, progress: Listener | None) -> None:
        """Note why a network isn't compared, and say it at once."""
        self.failures[name] = error
        (progress or silent)(Progress(f"left out: {name}: {error.message}"))


def named(
    models: Sequence[str], weights: Mapping[str, str | Path], question: Question, table: Table,
    engines: Sequence[str], checks: Mapping[str, Any], progress: Listener | None = None,
) -> Field:  # fmt: skip
    """The networks that were named, with their weights; each is measured here unless it was."""
    found = Field()
    ready = {}
    for name in dict.fromkeys((*models, *weights)):
        source = None if name not in weights else str(weights[name])
        try:
            ready[_checked(name, source, checks, progress)] = source
        except VertebraError as error:
            found.leave_out(name, error, progress)
    if ready:
        _measure(list(ready), table, engines, progress)
    for name, source in ready.items():
        _add(found, name, source, question, table, engines, checks, progress)
    return _sorted(found)


def of_the_field(
    count: int, question: Question, table: Table, engines: Sequence[str], checks: Mapping[str, Any],
    progress: Listener | None = None,
) -> Field:  # fmt: skip
    """Up to `count` networks of the field, those with the highest published accuracy first, that may meet the
    limits as measured or estimated here, and whose published weights are at hand or can be fetched."""
    if candidates.is_short(table, question):
        from vertebra.verbs import picking

        picking.fill_field(table, engines, _FILL_S, progress)
    found, refused = Field(), 0
    for name in _promising(question, table):
        if len(found.contenders) == count or refused == _PATIENCE:
            break
        try:
            _checked(name, None, checks, progress)
        except VertebraError as error:
            found.leave_out(name, error, progress)
            refused += isinstance(error, DownloadError)
            continue
        refused = 0
        _measure([name], table, engines, progress)
        _add(found, name, None, question, table, engines, checks, progress)
    return _sorted(found)


def runners(asked: Sequence[str]) -> list[str]:
    """The engines that features are computed on and that the networks are measured on: those asked for, else
    all here that open what is made from a graph."""
    from vertebra import engines
    from vertebra.exporting import filled

    able = [info.name for info in engines.known() if info.formats and filled.makes(info.formats[0])]
    able += ["onnxruntime"] * ("onnxruntime" not in able)
    for name in asked:
        if engines.require(name) not in able:
            raise InvalidInputError(f"fit doesn't run on {name}.", f"use one of: {', '.join(able)}")
    here = list(asked) or [name for name in ("onnxruntime", "openvino") if name in cases.found_here()]
    if not here:
        raise MissingRuntimeError.of("Fitting", "onnxruntime", "survey")
    return here


def _checked(name: str, source: str | None, checks: Mapping[str, Any], progress: Listener | None) -> str:
    """The network's name in rows, after its weights were found, or fetched."""
    from vertebra.inference import resolving

    model = zoo.find(name)
    if model.is_file or model.name not in store.names():
        raise InvalidInputError(
            f"No graph of {name} ships, and fit makes its Bundle from one.",
            f"{len(store.names())} networks have one: vertebra list models",
        )
    found = resolving.resolve(name, weights=source, progress=progress, **checks)
    # The labels don't matter: the new head has its own.
    card = replace(found.card, assumed=tuple(one for one in found.card.assumed if one != "labels"))
    assumed = resolving.assumptions(name, card)
    if assumed is not None:
        (progress or silent)(Progress(assumed.partition("; to change it")[0]))
    return zoo.name_in_rows(model)


def _measure(names: Sequence[str], table: Table, engines: Sequence[str], progress: Listener | None) -> None:
    """Measure the networks on each engine, unless they were."""
    wanted = cases.remaining(cases.cases(list(names), engines), table.rows())
    if not wanted:
        return
    (progress or silent)(Progress(f"measuring {display.count(len(names), 'network')} here"))
    campaign.measure(
        wanted, table, limits=campaign.limits(len(wanted), quick=True, seconds=_CASE_S), progress=progress
    )


def _add(
    found: Field,
    name: str,
    source: str | None,
    question: Question,
    table: Table,
    engines: Sequence[str],
    checks: Mapping[str, Any],
    progress: Listener | None,
) -> None:
    """Add the network in its fastest form, or why it has none that may meet the limits."""
    rows = [row for row in candidates.candidates(table, question)
            if row.model == name and row.conditions.get("engine") in engines and "latency" in row.figures
            and row.figures["latency"].origin == "benched"]  # fmt: skip
    if not rows:
        failed = [row for row in table.rows(metric="failure", model=name) if row.engine in engines]
        why = "; ".join(failed[-1].grade_reasons) if failed else "it wasn't measured"
        found.leave_out(name, InvalidInputError(f"{name} has no latency here: {why}."), progress)
        return
    able = [row for row in rows if not any(limit.verdict(row) == "broken" for limit in question.limits)]
    if not able:
        nearest = min(rows, key=lambda row: max(limit.miss(row) for limit in question.limits))
        reasons = [one.reason(nearest) for one in question.limits if one.verdict(nearest) == "broken"]
        error = InvalidInputError(f"{name} misses the limits: {'; '.join(reasons)}.")
        found.leave_out(name, error, progress)
        return
    best = min(able, key=lambda row: row.figures["latency"].value)
    unsure = tuple(limit for limit in question.limits if limit.verdict(best) != "met")
    found.contenders.append(Contender(name, source, best, checks, unsure))


def _sorted(found: Field) -> Field:
    found.contenders.sort(key=lambda one: one.latency_s)
    return found


def _promising(question: Question, table: Table) -> Iterator[str]:
    """The networks of the field with a graph and published weights that may meet limits and demands, the most
    accurate first."""
    rows = [row for row in candidates.candidates(table, question)
            if row.model in store.names() and "top1" in row.figures
            and all(demand.holds(row) for demand in question.demands)
            and all(limit.verdict(row) in ("met", "borderline") for limit in question.limits)]  # fmt: skip
    rows.sort(key=lambda row: -row.figures["top1"].value)
    yield from dict.fromkeys(row.model for row in rows)
