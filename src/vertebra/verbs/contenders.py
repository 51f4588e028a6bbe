"""The networks between which `fit` chooses: they may meet the limits here, and their weights can be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vertebra import zoo
from vertebra.campaigns import campaign, cases
from vertebra.data.preprocess import Preprocess
from vertebra.errors import DownloadError, InvalidInputError, MissingRuntimeError, VertebraError
from vertebra.machine import downloads, files
from vertebra.measurements import Table, display
from vertebra.progress import Listener, Progress, silent
from vertebra.reading.choice import candidates
from vertebra.reading.choice.candidates import Question
from vertebra.reading.choice.contender import Contender, MissedLimitError
from vertebra.reading.choice.rule import Limit
from vertebra.zoo.graphs import store

#: Seconds of each network's measurement: it is measured again with its new head before it ships.
_CASE_S = 4.0
#: Where weights are published: if none of them answers, nothing can be fetched.
_PUBLISHERS = ("https://huggingface.co", "https://download.pytorch.org", "https://github.com")
#: Seconds for what the estimates of the field need, where too little is measured here.
_FILL_S = 90.0
#: How many downloads may fail one after the other before no more are tried.
_PATIENCE = 2
#: What fewer bits a number improve.
_SMALLER = ("latency", "fps", "memory_total", "weight_bytes")


@dataclass(frozen=True)
class Search:
    """What contenders must be, and how they are found: by the limits and demands of `question`, as measured
    on `engines` into `table`, with published weights that are held to `checks`. Of the limits on what a
    smaller form improves, a network may miss up to `slack` times the bound: it ships in that form. Pictures
    are prepared as `preprocess` says, or as for each network's weights."""

    question: Question
    table: Table
    engines: tuple[str, ...]
    checks: Mapping[str, Any] = field(default_factory=dict)
    slack: float = 1.0
    preprocess: str | Preprocess | None = None
    progress: Listener | None = None

    def say(self, text: str) -> None:
        """Tell what happens."""
        (self.progress or silent)(Progress(text))

    def bounds(self) -> Iterator[tuple[Limit, Limit]]:
        """Each limit, and what a contender is held to."""
        for limit in self.question.limits:
            times = self.slack if limit.metric in _SMALLER else 1.0
            eased = limit.bound * times if limit.is_ceiling else limit.bound / times
            yield limit, replace(limit, bound=eased)


@dataclass
class Field:
    """The contenders, the fastest first, and the networks that were left out, each with the reason."""

    contenders: list[Contender] = field(default_factory=list)
    failures: dict[str, VertebraError] = field(default_factory=dict)

    def leave_out(self, name: str, error: VertebraError, search: Search) -> None:
        """Note why a network isn't compared, and say it at once."""
        self.failures[name] = error
        search.say(f"left out: {name}: {error.message}")


def named(models: Sequence[str], weights: Mapping[str, str | Path], search: Search) -> Field:
    """The networks that were named, with their weights; each is measured here unless it was."""
    if weights and any(demand.name == "licence" for demand in search.question.demands):
        raise InvalidInputError(
            "A licence was asked for, and files of your own state none.", "leave the licence or --weights out"
        )
    found = Field()
    ready = {}
    for name in dict.fromkeys((*models, *weights)):
        source = None if name not in weights else str(weights[name])
        try:
            ready[_checked(name, source, search)] = source
        except VertebraError as error:
            found.leave_out(name, error, search)
    if ready:
        _measure(list(ready), search)
    for name, source in ready.items():
        _add(found, name, source, search)
    return _sorted(found)


def of_the_field(count: int, search: Search, *, only: Sequence[str] | None = None) -> Field:
    """Up to `count` networks of the field, those with the highest published accuracy first, that may meet the
    limits as measured or estimated here, and whose published weights are at hand or can be fetched; of `only`
    these, if given."""
    if candidates.is_short(search.table, search.question):
        from vertebra.verbs import picking

        picking.fill_field(search.table, search.engines, _FILL_S, search.progress)
    found, refused = Field(), 0
    for name in _promising(search):
        if only is not None and name not in only:
            continue
        if len(found.contenders) == count or refused == _PATIENCE:
            break
        try:
            _checked(name, None, search)
        except VertebraError as error:
            found.leave_out(name, error, search)
            refused += isinstance(error, DownloadError)
            continue
        refused = 0
        _measure([name], search)
        _add(found, name, None, search)
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


def at_hand(search: Search) -> list[str] | None:
    """The networks whose published weights are in the cache, where nothing can be fetched; None where it can.

    Raises InvalidInputError where there are none."""
    if any(map(downloads.reachable, _PUBLISHERS)):
        return None
    found = []
    with downloads.without_network():
        for name in store.names():
            try:
                _checked(name, None, replace(search, progress=None))
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


def runners(asked: Sequence[str]) -> tuple[str, ...]:
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
    return tuple(here)


def _checked(name: str, source: str | None, search: Search) -> str:
    """The network's name in rows, after its weights were found, or fetched."""
    from vertebra.inference import resolving

    model = _known(name)
    found = resolving.resolve(
        name, weights=source, preprocess=search.preprocess, progress=search.progress, **search.checks
    )
    if isinstance(search.preprocess, Preprocess):
        own = resolving.resolve(name, weights=source, **search.checks).input_size
        if found.input_size != own:
            raise InvalidInputError(
                f"The preprocessing gives {found.input_size}x{found.input_size} pixels; {name} takes "
                f"{own}x{own} with these weights.",
                "pass a preprocessing of that size, or one that keeps each network's: --preprocess whole",
            )
    # The labels don't matter: the new head has its own.
    card = replace(found.card, assumed=tuple(one for one in found.card.assumed if one != "labels"))
    assumed = resolving.assumptions(name, card)
    if assumed is not None:
        search.say(assumed.partition("; to change it")[0])
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


def _measure(names: Sequence[str], search: Search) -> None:
    """Measure the networks on each engine, unless they were."""
    wanted = cases.remaining(cases.cases(list(names), search.engines), search.table.rows())
    if not wanted:
        return
    search.say(f"measuring {display.count(len(names), 'network')} here")
    limits = campaign.limits(len(wanted), quick=True, seconds=_CASE_S)
    campaign.measure(wanted, search.table, limits=limits, progress=search.progress)


def _add(found: Field, name: str, source: str | None, search: Search) -> None:
    """Add the network in its fastest form, or why it has none that may meet the limits."""
    rows = [row for row in candidates.candidates(search.table, search.question)
            if row.model == name and row.conditions.get("engine") in search.engines
            and "latency" in row.figures and row.figures["latency"].origin == "benched"]  # fmt: skip
    if not rows:
        failed = [row for row in search.table.rows(metric="failure", model=name)
                  if row.engine in search.engines]  # fmt: skip
        why = "; ".join(failed[-1].grade_reasons) if failed else "it wasn't measured"
        found.leave_out(name, InvalidInputError(f"{name} has no latency here: {why}."), search)
        return
    bounds = list(search.bounds())
    able = [row for row in rows if not any(eased.verdict(row) == "broken" for _, eased in bounds)]
    if not able:
        nearest = min(rows, key=lambda row: max(limit.miss(row) for limit, _ in bounds))
        reasons = [limit.reason(nearest) for limit, eased in bounds if eased.verdict(nearest) == "broken"]
        most = f" in float32, more than {search.slack:g} times" if search.slack > 1 else ""
        found.leave_out(name, MissedLimitError("; ".join(reasons) + most), search)
        return
    best = min(able, key=lambda row: row.figures["latency"].value)
    unwanted = [one.reason(best) for one in search.question.demands if not one.holds(best)]
    if unwanted:
        found.leave_out(name, InvalidInputError(f"{name}: {'; '.join(unwanted)}."), search)
        return
    found.contenders.append(Contender(name, source, best, search.checks, search.preprocess))


def _sorted(found: Field) -> Field:
    found.contenders.sort(key=lambda one: one.latency_s)
    return found


def _promising(search: Search) -> Iterator[str]:
    """The networks of the field with a graph and published weights that may meet limits and demands, the most
    accurate first."""
    bounds = [eased for _, eased in search.bounds()]
    rows = [row for row in candidates.candidates(search.table, search.question)
            if row.model in store.names() and "top1" in row.figures
            and all(demand.holds(row) for demand in search.question.demands)
            and all(limit.verdict(row) in ("met", "borderline") for limit in bounds)]  # fmt: skip
    rows.sort(key=lambda row: -row.figures["top1"].value)
    yield from dict.fromkeys(row.model for row in rows)
