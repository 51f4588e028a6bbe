"""The candidates of a pick: rows of one load, from the table or from the whole catalogue."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from vertebra import metrics
from vertebra.errors import InvalidInputError, MissingRuntimeError, UnknownNameError
from vertebra.measurements import Measurement, Table, WideRow, pooling, spread, wide
from vertebra.measurements.subjects import SEEN, is_share, short, subject
from vertebra.measurements.views import FORM, NEEDING_A_MACHINE
from vertebra.reading.choice import field as the_field
from vertebra.reading.choice import next_to_measure, precisions, rule, terms
from vertebra.reading.choice.rule import Demand, Limit, Outlook, Pick
from vertebra.reading.choice.terms import licence
from vertebra.reading.choice.terms import licence_of as licence_of
from vertebra.zoo.graphs import store

#: The candidates of a pick: every network with a published accuracy, with estimates for those never run here,
#: or only the networks in the table.
AMONG = ("catalogue", "table")

#: Metrics of a candidate besides those asked for: they are shown, and others are computed from them.
_BASIC = (
    "top1",
    "top1_disagreement",
    "latency",
    "memory_total",
    "params",
    "macs",
    "operations",
    "weight_bytes",
    "energy_per_image",
)
#: The engine that measures the harness itself: its latencies are no network's.
_HARNESS = "null"
#: At most this many names are listed in a message.
_FEW = 20
#: How long a pick measures where nobody said how long.
BUDGET = "3m"


@dataclass(frozen=True)
class Question:
    """What is asked for. `filters` are conditions (column=value), and `dataset`, `probed` and `origin` for
    accuracies; `demands` are the required properties of a network."""

    objective: str = "top1"
    limits: tuple[Limit, ...] = ()
    demands: tuple[Demand, ...] = ()
    trust: str | None = None
    among: str = "catalogue"
    filters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def systems(self) -> tuple[str, ...]:
        """The machines that are compared, where several are: a candidate is then a form on one of them."""
        named = self.filters.get("system")
        return () if named is None or isinstance(named, str) else tuple(named)

    @property
    def asked(self) -> tuple[str, ...]:
        """The metrics that the answer depends on."""
        return (self.objective, *(limit.metric for limit in self.limits))


def ask(
    limits: Mapping[str, str | float],
    *,
    objective: str = "top1",
    licence: Sequence[str] = (),
    family: Sequence[str] = (),
    input_size: Sequence[int] = (),
    **more: Any,
) -> Question:
    """The question, with limits and the objective by their names."""
    wanted = {"licence": licence, "family": family, "input size": input_size}
    demands = tuple(
        Demand(name, tuple(str(one).lower() for one in several), _DEMANDS[name], _GROUPS.get(name, {}))
        for name, several in wanted.items() if several
    )  # fmt: skip
    named = rule.LIMITS.get(objective, objective)
    question = Question(named, tuple(rule.bounds(limits)), demands, **more)
    if question.among not in AMONG:
        raise InvalidInputError(
            f'There are no candidates "{question.among}".', f"use one of: {', '.join(AMONG)}"
        )
    return question


# ------------------------------------------------------------------ candidates


def comparable(
    source: Table,
    *,
    dataset: str | None = None,
    probed: str | None = None,
    origin: str | None = None,
    metric: Sequence[str] | None = None,
    told: list[str] | None = None,
    **load: Any,
) -> list[Measurement]:
    """The rows of one load: this machine at batch size 1, unless `load` has other values.

    The runs of a form are pooled, with the interval that an independent survey falls into; what the others
    contradict is left out, and said in `told`.

    Accuracies are from `dataset` (None: the whole of ImageNet's validation split) and `origin`, a probe's
    from the images `probed`. A name that several data sets share takes the beginning of a digest,
    `name@3fa2b1c4`; without one, InvalidInputError names them.
    """
    load = {"batch_size": 1, "system": this_system(source), **load}
    load = {name: value for name, value in load.items() if value is not None}
    load.setdefault("beside", (None, 0))  # nothing ran beside it, unless that is asked for
    found = [
        row for row in source.comparable(metric, **load)
        if _is_of(row, dataset, probed) and (origin is None or not _is_accuracy(row) or row.origin == origin)
    ]  # fmt: skip
    if dataset is not None:
        _check_one_content(found, dataset)
    return pooled(source, found, told)


def pooled(source: Table, rows: Iterable[Measurement], told: list[str] | None = None) -> list[Measurement]:
    """`rows` of the table, oldest first, with the runs of each form pooled; see `pooling.pool`."""
    every = list(rows)
    runs = {row.run for row in every if row.run is not None and pooling.is_pooled(row)}
    found = pooling.pool(every, spread.seen(source.store, runs))
    if told is not None:
        told += [one.why for one in found.aside]
    return list(found.rows)


def this_system(table: Table) -> str | None:
    """This machine, or the only machine with measurements if that is another one."""
    from vertebra.machine import system

    benched = table.benched_systems()
    here = system.describe().id
    return here if here in benched or len(benched) != 1 else benched.pop()


_ACCURACIES = frozenset(
    name for name, metric in metrics.METRICS.items()
    if "dataset" in metric.conditions and name not in ("probe_top1", "top1_disagreement")
)  # fmt: skip


def _is_accuracy(row: Measurement) -> bool:
    return row.metric in _ACCURACIES


def _is_of(row: Measurement, dataset: str | None, probed: str | None = None) -> bool:
    """Whether a row isn't an accuracy, or is one on the images compared: sets are never mixed."""
    if row.metric == "probe_top1":
        return probed is None or row.dataset == probed or str(row.dataset).rpartition("@")[0] == probed
    if not _is_accuracy(row):
        return True
    if row.split == SEEN or is_share(row):
        return False
    if dataset is not None:
        return row.dataset == dataset or _is_named(row, dataset)
    if row.origin != "evaluated":
        return row.dataset in (None, "imagenet-1k")
    return _is_default(row)


#: What chooses one of several data sets of a name: the beginning of its digest, or that it has none.
_MARKED = re.compile(r"(.+)@([0-9a-f]{4,64}|none)")


def _is_named(row: Measurement, dataset: str) -> bool:
    """Whether the row's data set is the one of its name that `dataset` chooses by a digest."""
    found = _MARKED.fullmatch(dataset)
    if found is None or row.dataset != found[1]:
        return False
    return row.origin == "published" or (row.dataset_sha256 or "none").startswith(found[2])


def _check_one_content(rows: Iterable[Measurement], dataset: str) -> None:
    """Raise InvalidInputError if networks were evaluated on several data sets that `dataset` names."""
    evaluated = [row for row in rows if _is_accuracy(row) and row.origin == "evaluated"]
    shown = _sets(evaluated)
    if len(shown) > 1:
        first = min(shown, key=lambda name: ("@" not in name, name.endswith("@none")))
        raise InvalidInputError(
            f"Networks were evaluated on {len(shown)} sets of images called {dataset}: {_listed(shown)}.",
            f"choose one: --dataset {first}",
        )


def _sets(rows: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """The rows of each set of images, by its name; with the beginning of its digest where several share it.

    Copies of ImageNet's whole validation split count as one: its name says what it holds.
    """
    every: dict[tuple[str, str], list[Measurement]] = {}
    for row in rows:
        digest = "" if _is_default(row) else row.dataset_sha256 or "none"
        every.setdefault((str(row.dataset), digest), []).append(row)
    count = Counter(name for name, _ in every)
    digests = [digest for _, digest in every]
    return {
        f"{name}@{short(digest, digests)}" if digest and count[name] > 1 else name: group
        for (name, digest), group in every.items()
    }


def _listed(sets: Mapping[str, Sequence[Measurement]]) -> str:
    """The sets, those that share their name with the numbers of images and of networks."""
    parts = []
    for name, group in sorted(sets.items()):
        if "@" not in name:
            parts.append(name)
            continue
        images = max(row.samples or 0 for row in group)
        networks = len({subject(row) for row in group})
        old = ", from before data sets had digests" if name.endswith("@none") else ""
        parts.append(
            f"{name} ({_splits(group)}{images} images, {networks} network{'s' * (networks > 1)}{old})"
        )
    return ", ".join(parts)


def _splits(group: Sequence[Measurement]) -> str:
    """The splits that the rows are of, where they name any: "split val, "."""
    found = sorted({row.split for row in group if row.split not in (None, "all")})
    return f"split {' and '.join(map(str, found))}, " if found else ""


def _is_default(row: Measurement) -> bool:
    return (row.dataset, row.split) == ("imagenet-1k", "val")


def is_of_imagenet(row: Measurement) -> bool:
    """Whether a row isn't an accuracy, or is one on the whole of ImageNet's validation split."""
    return _is_of(row, None)


def candidates(source: Table, question: Question, told: list[str] | None = None) -> list[WideRow]:
    """The wide rows of one load that the question is about: from the table, or from the whole field too, with
    estimates for those that never ran in its forms. Other metrics are left out. What was left out because
    other rows contradict it is said in `told`."""
    return _joined(_gathered(source, question, told), question, told)


def _gathered(source: Table, question: Question, told: list[str] | None = None) -> list[Measurement]:
    """The rows that candidates are made of, whichever networks and weights are wanted."""
    filters = _of_one_set(source, question.filters)
    kept = tuple(dict.fromkeys(_BASIC + question.asked))
    known = comparable(source, metric=kept, told=told, **filters)
    if question.among == "catalogue":
        known = [row for row in the_field.rows(known, kept, told) if _is_asked(row, filters)]
    return known


def _joined(rows: Sequence[Measurement], question: Question, told: list[str] | None = None) -> list[WideRow]:
    """The candidates that the gathered rows make; `told` is as in `candidates`."""
    known = list(with_wanted_weights(rows, question.demands))
    found = precisions.believed(wide(known), known, told)
    real = [row for row in found if row.conditions.get("engine") != _HARNESS]
    return found if question.filters.get("engine") is not None else real or found


def priced(rows: Sequence[WideRow], question: Question) -> tuple[list[WideRow], int]:
    """`rows` without the networks of the field of which nothing is known here that the answer depends on, and
    the number of those networks."""
    needed = NEEDING_A_MACHINE.intersection(question.asked)
    if question.among != "catalogue" or not needed:
        return list(rows), 0
    names = the_field.names()
    kept = [
        row for row in rows if row.model not in names or row.conditions or needed & row.figures.keys()
    ]  # fmt: skip
    return kept, len({row.model for row in rows} - {row.model for row in kept})


def is_short(source: Table, question: Question) -> bool:
    """Whether too little is measured here to estimate the networks of the field."""
    return priced(candidates(source, question), question)[1] > 0


def _of_one_set(source: Table, filters: Mapping[str, Any]) -> dict[str, Any]:
    """`filters`; if evaluations are asked for, with the only set of images that networks were evaluated on.

    Raises InvalidInputError if there are several.
    """
    named = dict(filters)
    if named.get("origin") == "evaluated" and named.get("dataset") is None:
        rows = source.rows(metric="top1", origin="evaluated")
        # a part of ImageNet is never used unasked
        found = _sets(row for row in rows if _may_be_used(row))
        sets = sorted(found)
        if len(sets) > 1:
            raise InvalidInputError(
                f"Networks were evaluated on {len(sets)} sets of images: {_listed(found)}.",
                "choose one: --dataset NAME",
            )
        named["dataset"] = sets[0] if sets and sets != ["imagenet-1k"] else None  # its whole split is used
    return named


def _may_be_used(row: Measurement) -> bool:
    """Whether an evaluation counts where no data set is named."""
    return row.split != SEEN and not is_share(row) and (row.dataset != "imagenet-1k" or _is_default(row))


def _is_asked(row: Measurement, filters: Mapping[str, Any]) -> bool:
    origin, dataset = filters.get("origin"), filters.get("dataset")
    if not _is_accuracy(row):
        return True
    return _is_of(row, dataset) and (origin is None or row.origin == origin)


# ------------------------------------------------------------------ required properties


#: The letters that a name begins with, and a version: "tf_mobilenetv3_large_100", "mobilenet_v3_large".
_FAMILY = re.compile(r"(?:tf_)?([a-z]+?_?v\d+(?![a-z0-9])|[a-z]+)")


def _family(row: WideRow) -> str:
    name = row.model.partition(":")[2] or row.model
    found = _FAMILY.match(name.lower())
    return found.group(1).replace("_", "") if found else name


def _input_size(row: WideRow) -> str | None:
    accuracy = row.figures.get("top1")
    size = row.conditions.get("input_size", None if accuracy is None else accuracy.input_size)
    return None if size is None else str(size)


_DEMANDS: dict[str, Callable[[WideRow], str | None]] = {
    "licence": licence,
    "family": _family,
    "input size": _input_size,
}
#: Words that stand for several values of a demand.
_GROUPS = {"licence": {"free": terms.FREE}}


def with_wanted_weights(rows: Sequence[Measurement], demands: Iterable[Demand]) -> Sequence[Measurement]:
    """`rows` without accuracies of weights under other licences, if the network has weights under a wanted
    one."""
    wanted = next((demand for demand in demands if demand.name == "licence"), None)
    if wanted is None:
        return rows
    right = {
        (row.model, row.weights) for row in rows
        if _is_accuracy(row) and wanted.takes(licence_of(row.model, row.weights))
    }  # fmt: skip
    models = {model for model, _ in right}
    return [
        row for row in rows
        if not _is_accuracy(row) or row.model not in models or (row.model, row.weights) in right
    ]  # fmt: skip


def _check_demands(rows: Sequence[WideRow], demands: Iterable[Demand]) -> None:
    """Raise UnknownNameError for what no candidate is: a slip of the pen, mostly."""
    for demand in demands:
        known = {value for value in map(demand.value_of, rows) if value is not None} | demand.groups.keys()
        for wanted in demand.wanted:
            if wanted not in known:
                all_ = ", ".join(sorted(known)) if len(known) <= _FEW else "vertebra list models"
                raise UnknownNameError.of(f"{demand.name} of a candidate", wanted, known, all_)


def _check_one_set(rows: Sequence[WideRow], asked: Iterable[str]) -> None:
    """Raise InvalidInputError if probes on several sets of images would be compared."""
    if "probe_top1" not in asked:
        return
    probes = [row.figures["probe_top1"] for row in rows if "probe_top1" in row.figures]
    probes += [other for row in rows for other in row.conflicts.get("probe_top1", ())]
    sets = sorted({str(row.dataset) for row in probes})
    if len(sets) > 1:
        raise InvalidInputError(
            f"{len(sets)} sets of images were probed: {', '.join(sets)}.", "choose one: --probed NAME"
        )


# ------------------------------------------------------------------ the choice


def pick(source: Table, question: Question) -> Pick:
    """The choice from the table's present rows."""
    contradicted: list[str] = []
    gathered = _gathered(source, question, contradicted)
    every = _joined(gathered, question, contradicted)
    _check_one_set(every, question.asked)
    rows, unpriced = priced(every, question)
    unstated = _without_batch_size(source, question)
    if unpriced and not any(question.objective in row.figures for row in rows):
        raise _nothing(source, question, unpriced)
    try:
        picked = _picked(rows, question)
    except InvalidInputError as error:
        if unstated and not any(question.objective in row.figures for row in rows):
            raise InvalidInputError(error.message, f"{_told(unstated)}; {_HOW}") from None
        raise
    shown = [row.model for row in (picked.choice, picked.runner_up) if row is not None]
    lacking = {
        one.row.model for one in picked.excluded
        if any(metric not in one.row.figures for metric in question.asked)
    }  # fmt: skip
    told = [f"{_told(unstated & lacking)}; {_HOW}"] if unstated & lacking else []
    notes = (*contradicted, *absences(shown, "can't run here"), *told)
    return with_prospects(replace(picked, notes=notes), source, question, rows, unpriced, gathered)


def _nothing(source: Table, question: Question, unpriced: int) -> InvalidInputError:
    """The error that nothing that the answer depends on is known of the machine, or of those named."""
    so = f"so none of {unpriced:,} networks can be compared."
    named = question.filters.get("system")
    if named is None or named == this_system(source):
        return InvalidInputError(
            f"Nothing that this depends on was measured on this machine, {so}",
            f"to measure here for up to 3 minutes, add --budget {BUDGET}; to measure more: vertebra survey",
        )
    several = question.systems or (named,)
    there = {row.metric for row in source.rows(system=several) if row.metric in NEEDING_A_MACHINE}
    wanted = sorted(NEEDING_A_MACHINE & set(question.asked))
    if not wanted or there >= set(wanted):
        hint = "they are of another load, precision or engine: name it, such as --batch-size or --precision"
    else:
        hint = f"known there: {', '.join(sorted(there)) or 'nothing'}; to choose by one: --by NAME"
    what = " and no ".join(wanted) or question.objective
    return InvalidInputError(f"No {what} in this form is known of {', '.join(several)}, {so}", hint)


def with_prospects(
    picked: Pick,
    source: Table,
    question: Question,
    rows: Sequence[WideRow],
    unpriced: int = 0,
    gathered: Sequence[Measurement] | None = None,
) -> Pick:
    """`picked` with the licence of the choice's weights, and what measuring could still change. `rows` are
    the candidates, `unpriced` the number of networks that can't be compared. `gathered` are the rows that
    candidates are made of; without them they are gathered if they are needed."""
    choice = picked.choice
    licensed = terms.licence(choice) if choice is not None and terms.is_public(choice) else None
    allowed = None if choice is None or not terms.is_public(choice) else terms.terms(licensed)
    free = None
    if allowed not in (None, "free"):
        free = _best_free(_gathered(source, question) if gathered is None else gathered, question)
    return replace(
        picked, licence=licensed, terms=allowed, free=free,
        outlook=_outlook(picked, question, rows, unpriced), gains=_gains(picked, source, question, rows),
    )  # fmt: skip


def _gains(
    picked: Pick, source: Table, question: Question, rows: Sequence[WideRow]
) -> tuple[precisions.Gain, ...]:
    """What other precisions would buy, where float32 was asked for and no other."""
    filters = question.filters
    if question.systems:
        return ()
    asked = filters.get("precision")
    if precisions.USUAL not in ((asked,) if isinstance(asked, str) else asked or ()):
        return ()
    load = {name: value for name, value in filters.items() if name in FORM}
    load = {"batch_size": 1, "system": this_system(source), **load}
    found = precisions.gains(
        source, rows, picked.choice, picked.objective, question.limits, question.demands, load
    )
    return tuple(found)


def _best_free(gathered: Sequence[Measurement], question: Question) -> WideRow | None:
    """The best network under the same limits with weights that are free for any use."""
    if any(demand.name == "licence" for demand in question.demands):
        return None
    wanted = Demand("licence", terms.FREE, licence)
    asked = replace(question, demands=(*question.demands, wanted))
    rows, _ = priced(_joined(gathered, asked), asked)
    known = [row for row in rows if row.value(asked.objective) is not None]
    return _judged(known, asked).choice if known else None


def _outlook(picked: Pick, question: Question, rows: Sequence[WideRow], unpriced: int) -> Outlook | None:
    if question.among != "catalogue" or question.systems:
        return None  # what is to be measured on other machines isn't measured from here
    open_ = next_to_measure.open_questions(
        [row for row in rows if _is_ahead(row, picked) and can_be_measured(row)], question.limits,
        question.objective, demands=question.demands, least_grade=question.trust,
    )  # fmt: skip
    return Outlook(tuple(open_), unpriced)


def _is_ahead(row: WideRow, picked: Pick) -> bool:
    """Whether `row` is the choice, or better by the objective."""
    choice, objective = picked.choice, picked.objective
    if choice is None or row is choice:
        return True
    own, best = row.value(objective), choice.figures[objective].value
    if own is None:
        return False
    is_better = own > best if metrics.find(objective).better == "higher" else own < best
    return is_better or (row.model == choice.model and row.conditions == choice.conditions)


def can_be_measured(row: WideRow) -> bool:
    """Whether a form can be measured for a pick: its network can be had here, and it isn't in int8, which
    needs pictures to calibrate with."""
    latency = row.figures.get("latency")
    is_estimate = latency is not None and latency.origin == "estimated"
    return is_here(row.model) and not (
        is_estimate and str(row.conditions.get("precision")).startswith("int8")
    )


def nearest_miss(picked: Pick) -> WideRow | None:
    """The nearest of the networks that miss the limits, if none meets them and it is only estimated: once
    measured, it says by how much they are missed."""
    wanted = next((one for one in picked.excluded if not one.unwanted), None)
    if picked.choice is not None or wanted is None or not can_be_measured(wanted.row):
        return None
    asked = (picked.objective, *(limit.metric for limit in picked.limits))
    return wanted.row if next_to_measure.is_estimated(wanted.row, asked) else None


def _without_batch_size(source: Table, question: Question) -> set[str]:
    """The networks with a figure that is asked for, on the machine asked for, at an unstated batch size."""
    filters = question.filters
    if filters.get("batch_size", 1) is None:
        return set()
    wanted = {"latency" if metric == "fps" else metric for metric in question.asked} & NEEDING_A_MACHINE
    system = filters["system"] if "system" in filters else this_system(source)
    rows = source.rows(metric=tuple(wanted), batch_size=None) if wanted else []
    return {row.model for row in rows if system is None or row.system in (question.systems or (system,))}


def _told(models: Iterable[str]) -> str:
    named = sorted(models)
    more = f" and {len(named) - _FEW} more" if len(named) > _FEW else ""
    return f"A figure of {', '.join(named[:_FEW])}{more} needs batch size 1, and its row states none"


_HOW = "if that is what it is of, cite it with --set batch_size=1"


def _picked(rows: Sequence[WideRow], question: Question) -> Pick:
    _check_demands(rows, question.demands)
    return _judged(rows, question)


def _judged(rows: Sequence[WideRow], question: Question) -> Pick:
    return rule.pick(
        rows, question.limits, question.objective, demands=question.demands, least_grade=question.trust,
        varying=("system",) if question.systems else (),
    )  # fmt: skip


def absences(models: Iterable[str], what: str) -> list[str]:
    """A sentence for each library that `models` come from and that isn't installed."""
    absent: dict[str, int] = {}
    for model in models:
        library = model.partition(":")[0]
        if not is_here(model):
            absent[library] = absent.get(library, 0) + 1
    notes = []
    for library, count in absent.items():
        networks = "1 network" if count == 1 else f"{count} networks"
        error = MissingRuntimeError.of(networks, library, "catalogue")
        notes.append(f"{networks} of {library} {what}: {library} is not installed; {error.hint}")
    return notes


def is_here(model: str) -> bool:
    """Whether the network can be run: its library is installed, or its graph ships."""
    return ":" not in model or model in store.names() or _is_installed(model.partition(":")[0])


@cache
def _is_installed(library: str) -> bool:
    return library == "onnx" or importlib.util.find_spec(library) is not None
