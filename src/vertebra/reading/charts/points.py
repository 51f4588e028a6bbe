"""The points of a chart: wide rows that can be compared, and the front among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vertebra import metrics
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, WideRow
from vertebra.measurements.views import FORM
from vertebra.reading.charts.style import family
from vertebra.reading.names import short

#: Networks differ in their native size, so it only has to be the same within a network.
_OF_THE_NETWORK = ("input_size",)

#: More networks than this are counted, not named, under a title.
_NAMED = 4

_UNSTATED = "unstated"

ORIGIN_WORDS = {
    "published": "published", "estimated": "estimated", "profiled": "counted", "benched": "measured",
    "evaluated": "evaluated", "derived": "derived",
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One network and the figures that a chart needs, by metric."""

    model: str
    figures: dict[str, Measurement]

    @property
    def family(self) -> str:
        return family(self.model)

    def value(self, metric: str) -> float:
        return self.figures[metric].value

    @property
    def hollow(self) -> bool:
        """Whether one of its figures has grade C."""
        return any(figure.grade == "C" for figure in self.figures.values())

    @property
    def estimated(self) -> bool:
        """Whether one of its figures is an estimate: the network was not run."""
        return any(figure.origin == "estimated" for figure in self.figures.values())

    def record(self) -> dict[str, Any]:
        """The point as one row of a table, values in base units."""
        row: dict[str, Any] = {"model": self.model, "family": self.family}
        for metric, figure in self.figures.items():
            row[metric] = figure.value
            asides = {"low": figure.low, "high": figure.high, "grade": figure.grade, "origin": figure.origin}
            row.update({f"{metric}_{name}": value for name, value in asides.items() if value is not None})
        for figure in self.figures.values():
            row.update(_conditions(figure))
        return row


def points(
    rows: Iterable[WideRow], asked: Sequence[str], *, varying: Sequence[str] = (), logs: Sequence[str] = ()
) -> tuple[list[Point], dict[str, str]]:
    """One point per network that has all metrics of `asked`, and why the other networks have none.

    The conditions `varying` may differ, as batch sizes do along a line: there is a point for each. The
    metrics `logs` are drawn on logarithmic axes, so that a network with 0 has no point. Raises
    UnknownNameError for an unknown metric, and InvalidInputError if the rows have several forms of a network,
    forms that differ from network to network, or no network that has all metrics.
    """
    for metric in asked:
        metrics.find(metric)
    found: list[Point] = []
    missing: dict[str, str] = {}
    for row in rows:
        lacking = [metric for metric in asked if metric not in row.figures]
        if lacking:
            missing[row.model] = "no " + " and no ".join(metrics.find(name).label for name in lacking)
            continue
        absurd = [metric for metric in asked if not is_drawable(row.figures[metric].value, metric in logs)]
        if absurd:
            told = [f"{metrics.find(name).label} of {row.figures[name].value:g}" for name in absurd]
            missing[row.model] = f"impossible: {' and '.join(told)}"
            continue
        point = Point(row.model, {metric: row.figures[metric] for metric in asked})
        if point not in found:
            found.append(point)
    refuse_mixed_conditions(found, varying)
    if not found:
        labels = " and ".join(f"a figure of {metrics.find(name).label}" for name in asked)
        raise InvalidInputError(f"No network has {labels}.", "fill the table with: vertebra survey")
    drawn = {point.model for point in found}
    return found, {model: reason for model, reason in missing.items() if model not in drawn}


#: No figure of a network is beyond these powers of ten in base units; an axis can't hold such values.
_LEAST, _MOST = 1e-30, 1e30


def is_drawable(value: float, is_above_zero: bool = False) -> bool:
    """Whether an axis can hold `value`, in base units; a logarithmic one needs one above 0."""
    return _LEAST <= value <= _MOST or (value == 0 and not is_above_zero)


def interval(point: Point, metric: str) -> tuple[float, ...]:
    """The ends of a figure's 95 % interval; none if it has none, or one that can't be drawn."""
    figure = point.figures[metric]
    if figure.low is None or figure.high is None or not -_MOST <= figure.low <= figure.high <= _MOST:
        return ()
    return figure.low, figure.high


def refuse_mixed_conditions(found: Sequence[Point], varying: Sequence[str] = ()) -> None:
    """Raise InvalidInputError, naming what differs besides `varying`, if `found` can't be compared."""
    refuse_other_conditions(found, varying)
    seen = Counter((point.model, *_values(point, varying)) for point in found)
    twice = next((key for key, count in seen.items() if count > 1), None)
    if twice is not None:
        raise InvalidInputError(
            f"The rows have several figures of {twice[0]} under the same conditions.",
            "filter the rows by origin or source",
        )


def refuse_other_conditions(found: Sequence[Point], varying: Sequence[str] = ()) -> None:
    """Raise InvalidInputError, naming what differs besides `varying`, if figures of `found` differ in it."""
    differing = {name: values for name, values in _differing(found).items() if name not in varying}
    if differing:
        listed = "; ".join(f"{name} is {', '.join(values)}" for name, values in differing.items())
        raise InvalidInputError(
            f"The rows have figures under different conditions: {listed}.",
            _filter_by(*next(iter(differing.items()))),
        )


def _values(point: Point, varying: Sequence[str]) -> list[Any]:
    return [getattr(figure, name) for figure in point.figures.values() for name in varying]


def _filter_by(name: str, values: Sequence[str]) -> str:
    if name == "convention":
        return "count all networks by one rule with: vertebra profile"
    stated = next((value for value in values if value != _UNSTATED), values[0])
    return f"choose one, for example: --{name.replace('_', '-')} {stated}"


def _differing(found: Sequence[Point]) -> dict[str, list[str]]:
    """The conditions that have several values, each with its values."""
    values: dict[str, dict[str, None]] = {}
    for metric in found[0].figures if found else ():
        for name in _conditions_of(metric):
            for group in _groups(found, metric, name):
                if len(group) > 1:
                    values.setdefault(name, {}).update(dict.fromkeys(group))
    return {name: list(several) for name, several in values.items()}


def _groups(found: Sequence[Point], metric: str, name: str) -> list[list[str]]:
    """The values of a condition, all together or, for those that belong to a network, network by network."""
    groups: dict[str, dict[str, None]] = {}
    for point in found:
        value = getattr(point.figures[metric], name)
        if value is None and name in ("dataset", "split", "input_size"):
            continue  # a published figure may lack it
        key = point.model if name in _OF_THE_NETWORK else ""
        groups.setdefault(key, {})[_UNSTATED if value is None else str(value)] = None
    return [list(group) for group in groups.values()]


def _conditions_of(metric: str) -> tuple[str, ...]:
    if _is_run(metric):
        return FORM
    return (*metrics.find(metric).conditions, "convention")


def _is_run(metric: str) -> bool:
    return "system" in metrics.find(metric).conditions


def _conditions(figure: Measurement) -> dict[str, Any]:
    stated = {name: getattr(figure, name) for name in _conditions_of(figure.metric) if name != "convention"}
    return {name: value for name, value in stated.items() if value is not None}


def front(found: Iterable[Point], x: str, y: str) -> list[Point]:
    """The points that no other beats in both metrics, the cheapest by `x` first.

    Empty if a metric has no better direction.
    """
    directions = metrics.find(x).better, metrics.find(y).better
    if "neither" in directions:
        return []
    x_sign, y_sign = (1 if better == "lower" else -1 for better in directions)
    kept: list[Point] = []
    best = float("inf")
    for point in sorted(found, key=lambda point: (x_sign * point.value(x), y_sign * point.value(y))):
        cost = y_sign * point.value(y)
        if cost < best:
            kept.append(point)
            best = cost
    return kept


def condition_lines(found: Sequence[Point], asked: Sequence[str]) -> list[list[str]]:
    """The lines under a chart's title, a list of parts for each of `asked`; runtime conditions only once."""
    lines: list[list[str]] = []
    for metric in asked:
        figures = [point.figures[metric] for point in found]
        parts = _form_parts(figures) if _is_run(metric) else _static_parts(figures)
        label = metrics.find(metric).label
        parts[0] = f"{label[:1].upper()}{label[1:]}: {parts[0]}"
        if parts not in lines:
            lines.append(parts)
    return lines


def _form_parts(figures: Sequence[Measurement]) -> list[str]:
    first = figures[0]
    engine = first.engine or "engine not stated"
    versions = {figure.versions[engine] for figure in figures if engine in figure.versions}
    parts = [_origins(figures), first.system or "system not stated", " ".join([engine, *sorted(versions)])]
    batches = {figure.batch_size for figure in figures}
    parts += [first.device or "", first.precision or ""]
    parts += [_counted("batch", first.batch_size) if len(batches) == 1 else ""]
    parts += [f"threads {first.threads}" if first.threads else "", _sizes(figures), _dates(figures)]
    return [part for part in parts if part]


def _static_parts(figures: Sequence[Measurement]) -> list[str]:
    datasets = {" ".join(filter(None, [figure.dataset, figure.split])) for figure in figures}
    precisions = {figure.precision for figure in figures if figure.precision}
    parts = [_origins(figures), *sorted(datasets), *sorted(precisions), _sizes(figures)]
    if any(figure.origin != "published" for figure in figures):
        parts.append(_dates(figures))
    return [part for part in parts if part]


def left_out(missing: Mapping[str, str]) -> list[str]:
    """Which networks aren't drawn and why, in parts; if they are many, how many for each reason."""
    if len(missing) > _NAMED:
        reasons = Counter(missing.values())
        parts = [f"{count} networks ({reason})" for reason, count in reasons.most_common()]
    else:
        parts = [f"{short(model)} ({reason})" for model, reason in missing.items()]
    return [f"Not drawn: {parts[0]}", *parts[1:]] if parts else []


def _counted(word: str, number: int | None) -> str:
    return "" if number is None else f"{word} {number}"


def _origins(figures: Sequence[Measurement]) -> str:
    return " and ".join(dict.fromkeys(ORIGIN_WORDS[figure.origin] for figure in figures))


def _dates(figures: Sequence[Measurement]) -> str:
    days = sorted({figure.measured_at[:10] for figure in figures if figure.measured_at})
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""


def _sizes(figures: Sequence[Measurement]) -> str:
    """The input sizes: the most common one, and the networks with another one."""
    sizes = [figure.input_size for figure in figures if figure.input_size is not None]
    if not sizes:
        return ""
    common = max(dict.fromkeys(sizes), key=sizes.count)
    others = {row.model: row.input_size for row in figures if row.input_size not in (common, None)}
    if len(others) > _NAMED:
        least, most = min(filter(None, others.values())), max(filter(None, others.values()))
        return f"input {common} ({len(others)} networks {least} to {most})"
    listed = ", ".join(f"{short(model)} {size}" for model, size in others.items())
    return f"input {common}" + (f" ({listed})" if listed else "")
