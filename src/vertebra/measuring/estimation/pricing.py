"""From rows to rows: estimates of latency and memory for all networks, from those of some measured ones."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, latest, now, pooling, shipped
from vertebra.measurements.shipped import published
from vertebra.measurements.subjects import is_of_catalogue
from vertebra.measurements.views import FORM, possible
from vertebra.measuring.estimation import kept
from vertebra.measuring.estimation.fewest import FEWEST_ANCHORS
from vertebra.measuring.estimation.kept import Prices

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.measuring.estimation.estimator import Estimator, Field

#: The metrics that can be estimated.
METRICS = ("latency", "memory_total")


#: What timm's tables say of every network (`Learnt.array`); `python tools/learnt.py` makes it again.
LEARNT = "learnt.npy"


def field() -> Field:
    """Every network with shipped counts, at its native size, with the seconds per image of timm's tables."""
    every = _networks()
    sizes = [one.input_size for one in shipped.counts().values()]
    tables, seconds = _published(list(zip(every.names, sizes, strict=True)))
    return replace(every, published=seconds, tables=tables)


def _networks() -> Field:
    """Every network with shipped counts, at its native size, without any table."""
    import numpy as np

    from vertebra.measuring.estimation.estimator import Field

    every = list(shipped.counts().values())
    counts = [(one.macs, one.activations, one.params, one.input_size) for one in every]
    names = tuple(one.model for one in every)
    return Field(
        names, np.maximum(np.array(counts, dtype=np.float64), 1.0), tuple(map(family, names)),
        published=np.empty((len(names), 0)), tables=(),
    )  # fmt: skip


def family(model: str) -> str:
    """The family of a network: the letters that its name begins with, without the library's prefix.

    >>> family("timm:resnet50"), family("torchvision:resnet18"), family("vgg16")
    ('resnet', 'resnet', 'vgg')
    """
    found = re.match(r"[a-z]+", model.partition(":")[2] or model)
    return found.group() if found else model


def _published(wanted: Sequence[tuple[str, int]]) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """The tables' names, and seconds per image (networks, tables); NaN if a table lacks a network at that
    size."""
    import numpy as np

    names, rates = published.rates({key: number for number, key in enumerate(wanted)})
    return names, 1 / np.array(rates, dtype=np.float64)


@cache
def whole_estimator() -> Estimator:
    """The estimator of every network with shipped counts."""
    import numpy as np

    from vertebra.measuring.estimation.estimator import Estimator, Learnt

    return Estimator(_networks(), Learnt.restored(np.load(Path(__file__).with_name(LEARNT))))


def anchors(count: int, *, among: Sequence[str] | None = None, known: Sequence[str] = ()) -> list[str]:
    """The networks to measure next, the most informative first; `known` ones are measured already."""
    priceable = whole_estimator().known
    allowed = None if among is None else [name for name in among if name in priceable]
    return whole_estimator().choose(count, among=allowed, known=[name for name in known if name in priceable])


def price(measured: Iterable[Measurement], metric: str = "latency") -> list[Measurement]:
    """Estimated rows of `metric` for every network that is not in `measured`, under the same conditions.

    `measured` are benched rows of `metric` at native size, of one form: machine, engine, precision, batch
    size. The bounds are of a 90 % interval. Raises InvalidInputError if the forms differ or the rows are too
    few.
    """
    return _priced(measured, metric)[0]


@dataclass(frozen=True)
class Priced:
    """The estimated rows; the `measured` ones without those that contradict the other anchors and that no
    independent run agrees with; and what is said of the anchors that were left out."""

    rows: list[Measurement]
    measured: list[Measurement]
    told: tuple[str, ...]


def _priced(
    measured: Iterable[Measurement], metric: str, *, keep: bool = False
) -> tuple[list[Measurement], dict[str, str], list[str]]:
    """The estimated rows; the anchors that were left out, each with what is said of it; and of those the ones
    whose own rows don't count."""
    known = latest(possible(_usable(measured, metric)))
    _refuse_mixed_forms(known)
    values = {row.model: row.value for row in known}
    found = _kept_prices(known, metric) if keep else _prices(known, metric)
    left_out = found.left_out
    told = {
        name: _left_out(name, times, len(known) - len(left_out), known[0]) for name, times in left_out.items()
    }
    doubted = [row.model for row in known if row.model in left_out and not pooling.stands(row)]
    note = "; ".join((found.note, *told.values()))
    shared = replace(
        known[0], weights=None, origin="estimated", metric=metric, samples=len(known), grade=None,
        grade_reasons=(note,), run=None, source=None,
        measured_at=now(),
    )  # fmt: skip
    counts = shipped.counts()
    rows = [
        shared.like(model=model, value=value, low=low, high=high, input_size=counts[model].input_size)
        for model, (value, low, high) in found.values.items() if model not in values or model in doubted
    ]  # fmt: skip
    return rows, told, doubted


def _left_out(name: str, times: float, others: int, row: Measurement) -> str:
    away = f"{times:.2g} times slower" if times > 1 else f"{1 / times:.2g} times faster"
    return f"{name} on {row.engine} is {away} than the other {others} foretell; left out"


def price_forms(measured: Iterable[Measurement]) -> list[Measurement]:
    """Estimated rows of all `METRICS` for each form in which enough networks were measured."""
    return price_measured(measured).rows


def price_measured(measured: Iterable[Measurement], *, keep: bool = False) -> Priced:
    """As `price_forms`, with the measured rows that count beside the estimates. With `keep`, the prices are
    those that were computed from the same rows before, and stay in the user's cache for the next time.

    An anchor that contradicts the others is left out of the estimates. Its own row doesn't count either, and
    is estimated like any other, where it is of grade C and no run of another day agrees with it.
    """
    every = list(measured)
    forms: dict[tuple[object, ...], list[Measurement]] = defaultdict(list)
    for row in every:
        if row.metric in METRICS:
            key = (row.metric, *(getattr(row, name) for name in FORM if name != "input_size"))
            forms[key].append(row)
    rows, told, dropped = [], list[str](), set[int]()
    for own in forms.values():
        metric = own[0].metric
        if len({row.model for row in _usable(own, metric)}) < FEWEST_ANCHORS:
            continue
        estimated, left_out, doubted = _priced(own, metric, keep=keep)
        rows += estimated
        told += left_out.values()
        dropped |= {id(row) for row in _usable(own, metric) if row.model in doubted}
    return Priced(rows, [row for row in every if id(row) not in dropped], tuple(told))


def _usable(measured: Iterable[Measurement], metric: str) -> list[Measurement]:
    if metric not in METRICS:
        raise InvalidInputError(f"{metric} can't be estimated.", f"metrics that can be: {', '.join(METRICS)}")
    counts = shipped.counts()
    return [
        row for row in measured
        if row.metric == metric and row.origin == "benched" and row.model in counts and is_of_catalogue(row)
        and row.input_size == counts[row.model].input_size
    ]  # fmt: skip


def _refuse_mixed_forms(known: Sequence[Measurement]) -> None:
    for name in FORM:
        found = {getattr(row, name) for row in known}
        if name != "input_size" and len(found) > 1:
            raise InvalidInputError(
                f"Estimates need rows of one form, but {name} is {', '.join(sorted(map(str, found)))}.",
                f"choose one {name}",
            )


def _prices(known: Sequence[Measurement], metric: str) -> Prices:
    return (_latencies if metric == "latency" else _memories)(known)


def _kept_prices(known: Sequence[Measurement], metric: str) -> Prices:
    anchors = [(row.model, row.value, _deviation(row)) for row in known]
    return kept.prices(metric, anchors, lambda: _prices(known, metric))


def _latencies(known: Sequence[Measurement]) -> Prices:
    values = {row.model: row.value for row in known}
    found = whole_estimator().estimate(values, {row.model: _deviation(row) for row in known})
    count = len(values) - len(found.left_out)
    note = (
        f"estimated from {count} measured networks; each left out in turn, their errors are "
        f"{100 * found.median_error:.0f} % (median) and {100 * found.p90_error:.0f} % (90th percentile)"
    )
    prices = zip(found.values.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    return Prices(dict(zip(found.names, prices, strict=True)), note, found.left_out)


def _deviation(row: Measurement) -> float:
    """The standard deviation of an anchor's logarithm, by the longer side of its interval."""
    ends = [end for end in (row.low, row.high) if end is not None and end > 0]
    return max((abs(math.log(end / row.value)) for end in ends), default=0.0) / 2


def _memories(known: Sequence[Measurement]) -> Prices:
    from vertebra.measuring.estimation.memory import MemoryModel

    values = {row.model: row.value for row in known}
    counts = {
        name: (float(one.weight_bytes), float(one.activations)) for name, one in shipped.counts().items()
    }
    model = MemoryModel.fit(counts, values)
    note = (
        f"estimated from {len(values)} measured networks; each left out in turn, nine in ten are within "
        f"{100 * model.left_out_error:.0f} %"
    )
    prices = zip(*model.prices(list(counts.values())), strict=True)
    return Prices(dict(zip(counts, prices, strict=True)), note, {})
