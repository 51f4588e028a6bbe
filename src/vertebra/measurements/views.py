"""Views of rows: the newest of each figure, and one wide row per network and way of running it.

Only what can be compared is joined: a wide row holds the figures of one model under one set of runtime
conditions, and next to them what does not depend on the machine (parameters, operations, accuracy).
Nothing is averaged; where two sources disagree, `conflicts` holds the other rows.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from vertebra import metrics
from vertebra.measurements import display, stored
from vertebra.measurements.measurement import CONDITIONS, Measurement
from vertebra.measurements.possible import SLACK_S, instant, trouble
from vertebra.measurements.subjects import Subject, is_of_catalogue, is_share, names, subject

#: Conditions that make one way of running a network, in the order in which they are shown.
FORM = (
    "system", "device", "engine", "provider", "precision", "batch_size", "input_size", "threads", "streams",
    "layout", "scenario", "arrival_rate", "protocol", "beside",
)  # fmt: skip

#: Metrics whose values mean nothing without the machine that they were measured on.
NEEDING_A_MACHINE = frozenset(
    name for name, metric in metrics.METRICS.items() if "system" in metric.conditions
)

#: Metrics that differ between floats and int8, on any machine.
_OF_NUMBERS = frozenset(
    name
    for name, metric in metrics.METRICS.items()
    if name not in NEEDING_A_MACHINE and {"dataset", "precision"} & set(metric.conditions)
)

#: Which origin is used first where several have the same machine-independent metric of a network.
_TRUST = {"profiled": 0, "evaluated": 0, "benched": 0, "published": 1, "derived": 1, "estimated": 2}


@dataclass(frozen=True)
class WideRow:
    """One network under one set of runtime conditions; `conditions` is empty where nothing was run.

    `model` is what the network is called, with the beginning of its digest where others share its name.
    `figures` maps a metric's name to the row with its value, `conflicts` a metric's name to the
    rows with other values under the same conditions.
    """

    model: str
    conditions: Mapping[str, Any]
    figures: Mapping[str, Measurement]
    conflicts: Mapping[str, tuple[Measurement, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        line = display.glance(self)
        shown = (f"{name} {value}" for name, value in line.items() if name != "model" and value is not None)
        return f"<WideRow: {display.plain(', '.join([self.model, *shown]))}>"

    def value(self, metric: str) -> float | None:
        """The value of `metric` in its base unit, or None where no row has it."""
        figure = self.figures.get(metric)
        return None if figure is None else figure.value


def latest(rows: Iterable[Measurement]) -> list[Measurement]:
    """The newest row of each figure; what differs in subject, condition, origin or source is another figure.

    `rows` come oldest first, as `Table.rows` gives them; of two with the same date the later one wins. Dates
    are compared as instants, and one that can't be is that of the row's coming into the table (`stored`), so
    that a clock that was once wrong doesn't rule what is measured later.
    """
    every = list(rows)
    keys = list(map(_partly, every))
    if len(count := Counter(keys)) == len(every):
        return every
    figures: dict[Hashable, list[Measurement]] = {}
    for row, key in zip(every, keys, strict=True):
        if count[key] == 1:
            figures[key] = [row]
        else:
            figures.setdefault(identity(row), []).append(row)
    return _each_newest(figures)


def newest(rows: Iterable[Measurement], key: Callable[[Measurement], Hashable]) -> list[Measurement]:
    """As `latest`, with rows of one figure known by an equal `key`."""
    figures: dict[Hashable, list[Measurement]] = defaultdict(list)
    for row in rows:
        figures[key(row)].append(row)
    return _each_newest(figures)


def _each_newest(figures: Mapping[Hashable, Sequence[Measurement]]) -> list[Measurement]:
    return [own[0] if len(own) == 1 else _newest_of(own) for own in figures.values()]


def _newest_of(rows: Sequence[Measurement]) -> Measurement:
    """The newest of the rows of one figure; of equally new ones the last."""
    found, known = rows[0], -math.inf
    for row in rows:
        moment = _moment(row, known)
        if moment >= known:
            found, known = row, moment
    return found


def _moment(row: Measurement, known: float) -> float:
    """When a row was measured. In a file a date that can't be is no older than what stands before it."""
    if row.moment is not None:
        return row.moment
    if row.measured_at is None:
        return -math.inf
    moment = instant(row.measured_at)
    return known if moment is None or moment > time.time() + SLACK_S else moment


def moment_of(row: Measurement) -> float:
    """When a row was measured, in seconds since 1970; before everything where it doesn't say."""
    return _moment(row, -math.inf)


#: What distinguishes two figures.
_IDENTITY = ("model", "network_sha256", "weights", "metric", *CONDITIONS, "origin", "source", "convention")
_columns = attrgetter(*_IDENTITY)
#: Columns that tell most figures apart, so that the others are looked at only where these are equal.
_partly = attrgetter("model", "metric", "engine", "weights", "input_size")
_OF_THE_SET = _IDENTITY.index("dataset_sha256")
_form = attrgetter(*FORM)


def identity(row: Measurement) -> tuple[Any, ...]:
    """What is equal in rows of one figure, whenever they were measured."""
    key: tuple[Any, ...] = _columns(row)
    if row.metric == "probe_top1":  # its dataset names the pictures' content, in older rows too
        key = (*key[:_OF_THE_SET], None, *key[_OF_THE_SET + 1 :])
    return key


def wide(rows: Iterable[Measurement]) -> list[WideRow]:
    """One wide row per subject and form, models and forms in the order of their first row.

    Figures of the machine itself belong to no network and are left out. So are those that can't be, such as a
    latency of 0 s in a table of an earlier version, with a warning: nothing is computed from them or chosen.
    So are evaluations of a share of the pictures (`subjects.is_share`).
    """
    static: dict[Subject, list[Measurement]] = defaultdict(list)
    forms: dict[tuple[Subject, tuple[Any, ...]], list[Measurement]] = {}
    models: dict[str, None] = {}
    shown = latest(possible(row for row in rows if row.model != metrics.MACHINE and not is_share(row)))
    for row in shown:
        models.setdefault(row.model)
        if depends_on_machine(row):
            forms.setdefault((subject(row), _form(row)), []).append(row)
        else:
            static[subject(row)].append(row)
    called = names(shown)
    run = {one for one, _ in forms}
    run |= {(one[0], None) for (one, _), own in forms.items() if is_of_catalogue(own[0])}
    found = [(one, dict(zip(FORM, form, strict=True)), own) for (one, form), own in forms.items()]
    found += [(one, dict[str, Any](), list[Measurement]()) for one in called if one not in run]
    order = {model: place for place, model in enumerate(models)}
    found.sort(key=lambda entry: order[entry[0][0]])
    known: dict[tuple[int, ...], Measurement] = {}
    return [
        _wide_row(called[one], form, own, _known_of(one, [*own, *static[one]], static), known)
        for one, form, own in found
    ]


#: What is counted from a network's layers, however its parameters are rounded.
_COUNTS = frozenset({"params", "buffers", "macs", "operations", "activations"})


def _known_of(
    one: Subject, own: Sequence[Measurement], static: Mapping[Subject, Sequence[Measurement]]
) -> list[Measurement]:
    """The figures of a subject that need no machine. A network of the catalogue in int8 has the counts of its
    floats."""
    known = list(static.get(one, ()))
    if one[1] is not None and own and all(map(is_of_catalogue, own)):
        known += [row for row in static.get((one[0], None), ()) if row.metric in _COUNTS]
    return known


def possible(rows: Iterable[Measurement]) -> list[Measurement]:
    """`rows` without those whose numbers can't be, of which it warns.

    Only what comes out of a table's file is looked at: everything else was checked when it was made.
    """
    kept, strange = [], []
    for row in rows:
        why = None if row.moment is None else trouble(row)
        if why is None:
            kept.append(row)
        else:
            strange.append(stored.Strange(row.run, why))
    stored.name(strange, "impossible numbers")
    return kept


def depends_on_machine(row: Measurement) -> bool:
    """Whether the row's metric means nothing without the machine it was measured on."""
    return row.metric in NEEDING_A_MACHINE


def _wide_row(
    model: str,
    form: dict[str, Any],
    own: list[Measurement],
    static: list[Measurement],
    known_derived: dict[tuple[int, ...], Measurement],
) -> WideRow:
    conditions = {name: value for name, value in form.items() if value is not None}
    asked = conditions or _one_size(static)
    figures: dict[str, Measurement] = {}
    conflicts: dict[str, tuple[Measurement, ...]] = {}
    groups = _by_metric([*own, *_fitting(static, asked)])
    if "top5" in groups:  # after top1
        groups["top5"] = groups.pop("top5")
    for metric, known in groups.items():
        if len(known) > 1:
            known = _by_belief(known)
        if metric == "top5" and "top1" in figures:  # of the same weights, or of none
            known = [row for row in known if _weighed(row) == _weighed(figures["top1"])]
            if not known:
                continue
        figures[metric] = known[0]
        if len(known) > 1 and (others := [row for row in known[1:] if _contradicts(row, known[0])]):
            conflicts[metric] = tuple(others)
    figures.update(_derived(figures, known_derived))
    return WideRow(model, conditions, figures, conflicts)


def _by_belief(known: list[Measurement]) -> list[Measurement]:
    """By origin; of several published weights the most accurate first, otherwise in the given order."""
    published = [row for row in known if row.metric == "top1" and row.origin == "published" and row.weights]
    best = max(published, key=lambda row: row.value).weights if published else None
    return sorted(known, key=lambda row: (_TRUST[row.origin], best is not None and row.weights != best))


def _one_size(static: Iterable[Measurement]) -> dict[str, int]:
    """The one input size that a network is shown at where it never ran: that of our own count where an
    accuracy is known at it, else that of the first accuracy; none where no accuracy states one."""
    sizes = [row.input_size for row in static if row.metric == "top1" and row.input_size is not None]
    counted = [row.input_size for row in static if row.metric == "macs" and row.origin == "profiled"]
    shared = next((size for size in counted if size in sizes), None)
    size = sizes[0] if sizes and shared is None else shared
    return {} if size is None else {"input_size": size}


#: Whose accuracy: the trained parameters, and the page or the run that it is from.
_weighed = attrgetter("weights", "input_size", "protocol", "source", "engine", "precision")


def _contradicts(row: Measurement, believed: Measurement) -> bool:
    """Whether another figure of the same weights and the same trust has another value."""
    same = row.weights == believed.weights and _TRUST[row.origin] == _TRUST[believed.origin]
    return same and row.value != believed.value


def _fitting(rows: Iterable[Measurement], conditions: Mapping[str, Any]) -> list[Measurement]:
    """The figures that don't depend on a machine and belong to this form: they have its input size and, if
    they were evaluated, its engine and precision. A float's accuracy or size is never used for int8, nor the
    other way round; one that states no precision is a float's."""
    size, precision = conditions.get("input_size"), conditions.get("precision")
    return [
        row for row in rows
        if (size is None or row.input_size is None or row.input_size == size)
        and (row.origin != "evaluated" or _ran_so(row, conditions))
        and (precision is None or row.metric not in _OF_NUMBERS
             or _numbers(row.precision) == _numbers(precision))
    ]  # fmt: skip


def _ran_so(row: Measurement, conditions: Mapping[str, Any]) -> bool:
    """Whether an evaluated row states no other engine and no other precision."""
    named = ("engine", "precision")
    return all(getattr(row, name) in (None, conditions.get(name, getattr(row, name))) for name in named)


def _numbers(precision: str | None) -> str:
    return precision if precision is not None and precision.startswith("int8") else "floats"


def _by_metric(rows: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    groups: dict[str, list[Measurement]] = defaultdict(list)
    for row in rows:
        groups[row.metric].append(row)
    return groups


def _derived(
    figures: Mapping[str, Measurement], known: dict[tuple[int, ...], Measurement]
) -> dict[str, Measurement]:
    """What is computed from stored figures, with the interval and the provenance of its source. The forms of
    a network share what needs no machine, which is `known` by the rows that it is from."""
    derived: dict[str, Measurement] = {}
    macs, latency = figures.get("macs"), figures.get("latency")
    top1, params = figures.get("top1"), figures.get("params")
    if macs is not None:
        key: tuple[int, ...] = (id(macs),)
        if key not in known:
            known[key] = macs.like(metric="operations", value=2 * macs.value)
        derived["operations"] = known[key]
    if latency is not None and latency.batch_size == 1 and latency.value > 0:
        derived["fps"] = _inverse(latency)
    millions = 0.0 if params is None else params.value / 1e6
    if top1 is not None and millions > 0:
        key = (id(top1), id(params))
        if key not in known:
            density = top1.value / millions
            known[key] = top1.like(metric="accuracy_density", value=density, low=None, high=None)
        derived["accuracy_density"] = known[key]
    return derived


def _inverse(latency: Measurement) -> Measurement:
    low, high = (1 / end if end else None for end in (latency.high, latency.low))
    return latency.like(metric="fps", value=1 / latency.value, low=low, high=high)
