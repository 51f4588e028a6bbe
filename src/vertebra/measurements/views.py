"""Views of rows: the newest of each figure, and one wide row per network and way of running it.

Like stands only with like: a wide row holds the figures of one model under one set of runtime
conditions, and beside them what does not depend on the machine (parameters, operations, accuracy).
Nothing is averaged; where two sources disagree, the wide row says so in `conflicts`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vertebra import metrics
from vertebra.measurements.measurement import CONDITIONS, Measurement

#: Conditions that make one way of running a network, in the order in which they are told.
FORM = (
    "system", "device", "engine", "provider", "precision", "batch_size", "input_size", "threads", "streams",
    "layout", "scenario", "arrival_rate",
)  # fmt: skip

#: Which origin is believed where several tell one machine-independent figure of one network.
_TRUST = {"profiled": 0, "evaluated": 0, "benched": 0, "published": 1, "estimated": 2}


@dataclass(frozen=True)
class WideRow:
    """One network under one set of runtime conditions; `conditions` is empty where nothing was run.

    `figures` maps a metric's name to the row that tells it, `conflicts` a metric's name to the
    rows that tell it otherwise under the same conditions.
    """

    model: str
    conditions: Mapping[str, Any]
    figures: Mapping[str, Measurement]
    conflicts: Mapping[str, tuple[Measurement, ...]] = field(default_factory=dict)

    def value(self, metric: str) -> float | None:
        """The value of `metric` in its base unit, or None where no row tells it."""
        figure = self.figures.get(metric)
        return None if figure is None else figure.value


def latest(rows: Iterable[Measurement]) -> list[Measurement]:
    """The newest row of each figure; what differs in subject, condition, origin or source is another figure.

    `rows` come oldest first, as `Table.rows` gives them; of two with the same date the later one wins.
    """
    newest: dict[tuple[Any, ...], Measurement] = {}
    for row in rows:
        key = _identity(row)
        known = newest.get(key)
        if known is None or (row.measured_at or "") >= (known.measured_at or ""):
            newest[key] = row
    return list(newest.values())


def _identity(row: Measurement) -> tuple[Any, ...]:
    where = tuple(getattr(row, name) for name in CONDITIONS)
    return (row.model, row.weights, row.metric, *where, row.origin, row.source, row.convention)


def wide(rows: Iterable[Measurement]) -> list[WideRow]:
    """One wide row per model and form, models and forms in the order of their first row."""
    static: dict[str, list[Measurement]] = defaultdict(list)
    forms: dict[tuple[str, tuple[Any, ...]], list[Measurement]] = {}
    models: dict[str, None] = {}
    for row in latest(rows):
        models.setdefault(row.model)
        if depends_on_machine(row):
            forms.setdefault((row.model, tuple(getattr(row, name) for name in FORM)), []).append(row)
        else:
            static[row.model].append(row)
    run = {model for model, _ in forms}
    wide_rows = [_wide_row(model, dict(zip(FORM, form, strict=True)), own, static[model])
                 for (model, form), own in forms.items()]  # fmt: skip
    wide_rows += [_wide_row(model, {}, [], static[model]) for model in models if model not in run]
    order = list(models)
    return sorted(wide_rows, key=lambda row: order.index(row.model))


def depends_on_machine(row: Measurement) -> bool:
    """Whether the row's metric means nothing without the machine it was taken on."""
    return "system" in metrics.find(row.metric).conditions


def _wide_row(model: str, form: dict[str, Any], own: list[Measurement], static: list[Measurement]) -> WideRow:
    conditions = {name: value for name, value in form.items() if value is not None}
    fitting = [row for row in static if _fits(row, conditions)]
    figures: dict[str, Measurement] = {}
    conflicts: dict[str, tuple[Measurement, ...]] = {}
    for metric, told in _by_metric([*own, *fitting]).items():
        told.sort(key=lambda row: _TRUST[row.origin])
        figures[metric] = told[0]
        rivals = [row for row in told[1:] if _TRUST[row.origin] == _TRUST[told[0].origin]]
        others = tuple(row for row in rivals if row.value != told[0].value)
        if others:
            conflicts[metric] = others
    figures.update(_derived(figures))
    return WideRow(model, conditions, figures, conflicts)


def _fits(row: Measurement, conditions: Mapping[str, Any]) -> bool:
    """Whether a figure that needs no machine is of this form: of its input size; an evaluation, which is of
    one engine in one precision, of these too."""
    told = ("input_size", "engine", "precision") if row.origin == "evaluated" else ("input_size",)
    return all(name not in conditions or getattr(row, name) in (None, conditions[name]) for name in told)


def _by_metric(rows: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    groups: dict[str, list[Measurement]] = defaultdict(list)
    for row in rows:
        groups[row.metric].append(row)
    return groups


def _derived(figures: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """What is computed from stored figures, with the interval and the provenance of its source."""
    derived: dict[str, Measurement] = {}
    macs, latency = figures.get("macs"), figures.get("latency")
    top1, params = figures.get("top1"), figures.get("params")
    if macs is not None:
        derived["operations"] = replace(macs, metric="operations", value=2 * macs.value)
    if latency is not None and latency.batch_size == 1:
        derived["fps"] = _inverse(latency)
    if top1 is not None and params is not None:
        density = top1.value / (params.value / 1e6)
        derived["accuracy_density"] = replace(
            top1, metric="accuracy_density", value=density, low=None, high=None
        )
    return derived


def _inverse(latency: Measurement) -> Measurement:
    low = None if latency.high is None else 1 / latency.high
    high = None if latency.low is None else 1 / latency.low
    return replace(latency, metric="fps", value=1 / latency.value, low=low, high=high)
