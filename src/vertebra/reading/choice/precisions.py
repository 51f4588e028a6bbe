"""Other precisions than float32: which accuracy a form in one has, and what one would buy."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vertebra import metrics
from vertebra.measurements import Measurement, Table, WideRow
from vertebra.reading.choice.rule import Demand, Limit

#: The precision whose accuracy is published.
USUAL = "float32"
#: Asked for, it lets every precision be chosen.
ANY = "any"

#: What is said of trained weights in one precision.
_OF_WEIGHTS = ("top1", "top5", "accuracy_density")

#: Precision -> the processor's feature that makes it fast, and the share of float32's time that it takes with
#: it: the median of four networks at batch size 1 on OpenVINO, on a Xeon with AMX.
_BY_FEATURE = {"bfloat16": ("amx_bf16", 0.46), "int8": ("amx_int8", 0.24)}
_ENGINE = "openvino"
#: Networks measured in both precisions from which a share is taken.
_FEWEST = 3
#: The limits that a faster form meets sooner.
_OF_TIME = ("latency", "fps")


def believed(rows: Iterable[WideRow]) -> list[WideRow]:
    """`rows` without published accuracies beside another precision than float32: nobody published those."""
    return [row if row.conditions.get("precision", USUAL) == USUAL else _own(row) for row in rows]


def _own(row: WideRow) -> WideRow:
    kept = {
        name: figure for name, figure in row.figures.items()
        if name not in _OF_WEIGHTS or figure.origin != "published"
    }  # fmt: skip
    return row if len(kept) == len(row.figures) else replace(row, figures=kept)


@dataclass(frozen=True)
class Gain:
    """What a precision would buy: `row` (in float32) could meet the limits in it, as it takes `share` of the
    time of float32 on `engine`. `basis` says where the share is from."""

    precision: str
    engine: str
    share: float
    basis: str
    row: WideRow


def gains(
    source: Table,
    rows: Sequence[WideRow],
    choice: WideRow | None,
    objective: str,
    limits: Sequence[Limit],
    demands: Sequence[Demand],
    load: Mapping[str, Any],
) -> list[Gain]:
    """What other precisions would buy over `choice` among the float32 `rows` of one load, where this machine
    or the table says how fast they are; only where a limit on the time is asked for, and accuracy is the
    objective."""
    if objective != "top1" or not any(limit.metric in _OF_TIME for limit in limits):
        return []
    found = []
    best_first = sorted(
        (row for row in rows if row.value(objective) is not None),
        key=lambda row: (-row.figures[objective].value, row.value("latency") or 0.0, row.model),
    )
    bar = 0.0 if choice is None else choice.figures[objective].value
    for precision, (engine, share, basis) in _shares(source, load).items():
        for row in best_first:
            if row.figures[objective].value <= bar:
                break
            if row.conditions.get("engine") == engine and _would_meet(row, share, limits, demands):
                found.append(Gain(precision, engine, share, basis, row))
                break
    return found


def _would_meet(row: WideRow, share: float, limits: Iterable[Limit], demands: Iterable[Demand]) -> bool:
    return all(demand.holds(row) for demand in demands) and all(
        limit.verdict(_faster(row, limit, share)) == "met" for limit in limits
    )


def _faster(row: WideRow, limit: Limit, share: float) -> WideRow:
    """`row` with the figure of `limit` as it would be in that share of the time."""
    figure = row.figures.get(limit.metric)
    if limit.metric not in _OF_TIME or figure is None:
        return row
    factor = share if metrics.find(limit.metric).better == "lower" else 1 / share
    ends = {
        name: end * factor for name in ("value", "low", "high") if (end := getattr(figure, name)) is not None
    }
    return replace(row, figures={limit.metric: Measurement.restored({**vars(figure), **ends})})


def _shares(source: Table, load: Mapping[str, Any]) -> dict[str, tuple[str, float, str]]:
    """Precision -> the engine, the share of float32's time, and where that is from: from networks that were
    measured in both, else from this processor's features."""
    found = _measured_shares(source, load)
    for precision, (feature, share) in _BY_FEATURE.items():
        if precision not in found and feature in _features(load):
            basis = f"estimated from this processor's {feature}"
            found[precision] = (_ENGINE, share, basis)
    return found


def _features(load: Mapping[str, Any]) -> Sequence[str]:
    """The features of this machine's processor, if the question is about it and the engine is installed."""
    from vertebra import engines
    from vertebra.machine import system

    here = system.describe()
    asked = load.get("engine")
    is_asked = asked is None or _ENGINE in ((asked,) if isinstance(asked, str) else asked)
    is_here = load.get("system") in (None, here.id) and load.get("device") in (None, "cpu")
    return here.features if is_here and is_asked and engines.missing(_ENGINE) is None else ()


def _measured_shares(source: Table, load: Mapping[str, Any]) -> dict[str, tuple[str, float, str]]:
    asked = {name: value for name, value in load.items() if name != "precision" and value is not None}
    times: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in source.comparable(("latency",), **asked):
        if row.metric == "latency" and row.origin == "benched" and row.precision is not None:
            times[str(row.engine), row.precision][row.model] = row.value
    found: dict[str, tuple[str, float, str]] = {}
    for (engine, precision), own in sorted(times.items()):
        usual = times.get((engine, USUAL), {})
        both = [own[model] / usual[model] for model in own if usual.get(model)]
        if precision == USUAL or len(both) < _FEWEST:
            continue
        share = statistics.median(both)
        if share < min(1.0, found[precision][1] if precision in found else 1.0):
            basis = f"the median of {len(both)} networks measured in both"
            found[precision] = (engine, share, basis)
    return found
