"""The networks between which `fit` chooses: they may meet the limits here, and their weights can be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vertebra import zoo
from vertebra.campaigns import campaign, cases
from vertebra.errors import DownloadError, InvalidInputError, MissingRuntimeError, VertebraError
from vertebra.machine import downloads, files
from vertebra.measurements import Table, display
from vertebra.progress import Listener, Progress, silent
from vertebra.reading.choice import candidates
from vertebra.reading.choice.candidates import Question
from vertebra.reading.choice.contender import Contender, MissedLimitError
from vertebra.zoo.graphs import store

#: Seconds of each network's measurement: it is measured again with its new head before it ships.
_CASE_S = 4.0
#: Where weights are published: if none of them answers, nothing can be fetched.
_PUBLISHERS = ("https://huggingface.co", "https://download.pytorch.org", "https://github.com")
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
    if weights and any(demand.name == "licence" for demand in question.demands):
        raise InvalidInputError(
            "A licence was asked for, and files of your own state none.", "leave the licence or --weights out"
        )
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
    progress: Listener | None = None, *, only: Sequence[str] | None = None,
) -> Field:  # fmt: skip
    """Up to `count` networks of the field, those with the highest published accuracy first, that may meet the
    limits as measured or estimated here, and whose published weights are at hand or can be fetched; of `only`
    these, if given."""
    if candidates.is_short(table, question):
        from vertebra.verbs import picking

        picking.fill_field(table, engines, _FILL_S, progress)
    found, refused = Field(), 0
    for name in _promising(question, table):
        if only is not None and name not in only:
            continue
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


def check(models: Sequence[str], weights: Mapping[str, str | Path]) -> None:
    """Raise if none of the networks named can be fitted, as far as a glance tells: its name is unknown, no
    graph of it ships, or the file of its weights isn't there."""
    errors = []
    for name in dict.fromkeys((*models, *weights)):
        try:
            _known(name)
            _check_source(str(weights[name]) if name in weights else None)
            return
        except VertebraError as error:
            errors.append(error)
    if errors:
        more = f" (and {len(errors) - 1} more can't be fitted)" if errors[1:] else ""
        raise InvalidInputError(f"{errors[0].message}{more}", errors[0].hint) from errors[0]


def at_hand(checks: Mapping[str, Any]) -> list[str] | None:
    """The networks whose published weights are in the cache, where nothing can be fetched; None where it can.

    Raises InvalidInputError where there are none."""
    if any(map(downloads.reachable, _PUBLISHERS)):
        return None
    found = []
    with downloads.without_network():
        for name in store.names():
            try:
                _checked(name, None, checks, None)
            except VertebraError:  # it has no weights in the cache, and that is what was asked
                continue
            found.append(name)
    if not found:
        why = "VERTEBRA_OFFLINE forbids the network" if downloads.offline() else "There is no connection"
        raise InvalidInputError(
            f"{why}, and the cache has no published weights to choose from.",
            "pass files of your own, --weights MODEL=FILE, or connect once: what is fetched is kept",
        )
    return found


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

    model = _known(name)
    found = resolving.resolve(name, weights=source, progress=progress, **checks)
    # The labels don't matter: the new head has its own.
    card = replace(found.card, assumed=tuple(one for one in found.card.assumed if one != "labels"))
    assumed = resolving.assumptions(name, card)
    if assumed is not None:
        (progress or silent)(Progress(assumed.partition("; to change it")[0]))
    return zoo.name_in_rows(model)


def _known(name: str) -> zoo.Model:
    model = zoo.find(name)
    if model.is_file or model.name not in store.names():
        raise InvalidInputError(
            f"No graph of {name} ships, and fit makes its Bundle from one.",
            f"{len(store.names())} networks have one: vertebra list models",
        )
    return model


def _check_source(source: str | None) -> None:
    """Raise if weights look like a path, and there is nothing."""
    if source is None or source.startswith(("hf:", "https://", "http://")):
        return
    if Path(source).suffix and ("/" in source or "\\" in source) and not files.named(source).exists():
        raise InvalidInputError(
            f"There is no file {source}.", "pass a checkpoint's path: --weights MODEL=FILE"
        )


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
        found.leave_out(name, MissedLimitError("; ".join(reasons)), progress)
        return
    best = min(able, key=lambda row: row.figures["latency"].value)
    unwanted = [one.reason(best) for one in question.demands if not one.holds(best)]
    if unwanted:
        found.leave_out(name, InvalidInputError(f"{name}: {'; '.join(unwanted)}."), progress)
        return
    found.contenders.append(Contender(name, source, best, checks))


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
