"""What the two papers claimed about networks, tested on these rows: each function gives a sentence, or None
if the rows can't test the claim.

The rows are those of one chart: one machine, engine, precision and batch size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from vertebra import metrics, units
from vertebra.measurements import WideRow
from vertebra.reading.charts import fits
from vertebra.reading.charts.points import Point, front, points


def claims(rows: Iterable[WideRow]) -> list[str]:
    """Every claim that the rows can test, in a sentence each. Raises InvalidInputError if the rows were
    measured under different conditions."""
    all_rows = list(rows)
    tested = (operations_predict_time(all_rows), memory_follows_size(all_rows), power_is_constant(all_rows),
              density_is_of_the_small(all_rows), speed_costs_accuracy(all_rows))  # fmt: skip
    return [sentence for sentence in tested if sentence is not None]


def operations_predict_time(rows: Iterable[WideRow]) -> str | None:
    """Canziani et al.: the number of operations is a reliable estimate of the inference time."""
    found = _of(rows, ("operations", "latency"))
    line = fits.fit("power", *_columns(found, "operations", "latency"))
    if line is None:
        return None
    pairs = [
        (one, two)
        for one, two in combinations(found, 2)
        if one.value("operations") != two.value("operations") and one.value("latency") != two.value("latency")
    ]
    rising = sum(
        (one.value("operations") < two.value("operations")) == (one.value("latency") < two.value("latency"))
        for one, two in pairs
    )
    return (
        f"“Operations predict time”: of two networks the one with more operations is the slower in "
        f"{rising / len(pairs):.1%} of {len(pairs)} pairs; time grows with operations to the power "
        f"{line.slope:.2f}, {line.quality()} ({len(found)} networks)."
    )


def memory_follows_size(rows: Iterable[WideRow]) -> str | None:
    """Bianco et al.: memory grows linearly with the size of the weights, from a minimum that all need."""
    found = _of(rows, ("weight_bytes", "memory_total"))
    line = fits.fit("linear", *_columns(found, "weight_bytes", "memory_total"))
    if line is None:
        return None
    least = min(found, key=lambda point: point.value("memory_total"))
    return (
        f"“Memory grows in a line with the size of the weights”: {line.slope:.2f} bytes for each byte "
        f"of weights, {line.quality()} ({len(found)} networks); none needs less than "
        f"{units.show(least.value('memory_total'), 'B')} ({least.model})."
    )


def power_is_constant(rows: Iterable[WideRow]) -> str | None:
    """Canziani et al.: power is independent of batch size and architecture. None without figures of power."""
    found = _of(rows, ("power",))
    watts = [point.value("power") for point in found]
    if len(watts) < fits.FEWEST or not min(watts):
        return None
    return (
        f"“Power does not depend on the network”: it lies between {units.show(min(watts), 'W')} and "
        f"{units.show(max(watts), 'W')}, {max(watts) / min(watts):.2f} times as much ({len(watts)} networks)."
    )


def density_is_of_the_small(rows: Iterable[WideRow]) -> str | None:
    """Both papers: networks use their parameters differently well, the most accurate not the best."""
    from scipy import stats

    found = _of(rows, ("accuracy_density", "top1"))
    densities, accuracies = _columns(found, "accuracy_density", "top1")
    if len(found) < fits.FEWEST or len(set(densities)) == 1 or len(set(accuracies)) == 1:
        return None
    densest = max(found, key=lambda point: point.value("accuracy_density"))
    best = max(found, key=lambda point: point.value("top1"))
    spearman = float(stats.spearmanr(densities, accuracies).statistic)
    return (
        f"“The most accurate networks don't use their parameters best”: {densest.model} has the "
        f"highest accuracy density, {_density(densest)}; the most accurate, "
        f"{best.model}, has {_density(best)}. Spearman of density and top-1 accuracy {spearman:.3f} "
        f"({len(found)} networks)."
    )


def speed_costs_accuracy(rows: Iterable[WideRow]) -> str | None:
    """Both papers: accuracy and speed have an upper bound, along which a little accuracy costs much time."""
    found = _of(rows, ("fps", "top1"))
    best = front(found, "fps", "top1")
    bound = fits.upper_bound(*_columns(best, "fps", "top1"))
    if bound is None:
        return None
    by_accuracy = sorted(best, key=lambda point: -point.value("top1"))
    dearest, next_one = by_accuracy[:2]
    gained, slower = (
        100 * (dearest.value("top1") - next_one.value("top1")),
        next_one.value("fps") / dearest.value("fps"),
    )
    fall, start = abs(100 * bound.slope), units.show(bound.intercept, "fraction")
    return (
        f"“Speed costs accuracy”: the upper bound falls by {fall:.2g} points for each image per second and "
        f"begins at {start}; {len(best)} of {len(found)} networks are on the front, whose last {gained:.2g} "
        f"points ({dearest.model} after {next_one.model}) take {slower:.2f} times the time."
    )


def _of(rows: Iterable[WideRow], asked: Sequence[str]) -> list[Point]:
    """The points that have all of `asked`; none if no row does."""
    complete = [row for row in rows if all(metric in row.figures for metric in asked)]
    return points(complete, asked)[0] if complete else []


def _columns(found: Sequence[Point], x: str, y: str) -> tuple[list[float], list[float]]:
    return [point.value(x) for point in found], [point.value(y) for point in found]


def _density(point: Point) -> str:
    shown = units.show(point.value("accuracy_density"), metrics.find("accuracy_density").unit)
    return f"{shown} per million parameters"
