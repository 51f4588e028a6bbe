"""Published figures next to our own counts: counts, latencies and their sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vertebra import metrics
from vertebra.measurements import Measurement, latest
from vertebra.reading.reports.markup import (
    Cell,
    Column,
    Html,
    details,
    folded_section,
    items,
    joined,
    prose,
    table,
    tag,
    text,
)
from vertebra.reading.reports.networks import show

_COUNTS = ("params", "operations", "macs")
_SAME_RULE = {"params": "model_stat_params", "operations": "model_stat_operations"}


def published_section(rows: Iterable[Measurement]) -> Html:
    """Published counts against our own, published latencies, conventions and sources."""
    rows = latest(rows)
    published = [row for row in rows if row.origin == "published"]
    if not published:
        return Html("")
    sources = numbered(row.source for row in published)
    return folded_section(
        "published",
        "Published against counted",
        _counts([row for row in published if row.metric in _COUNTS], _profiled(rows), sources),
        _latencies([row for row in published if row.metric == "latency"], sources),
        tag("h3", "Sources"),
        items(sources, ordered=True),
    )


def numbered(texts: Iterable[str | None]) -> dict[str, int]:
    """Each distinct text with its number, from 1."""
    distinct = dict.fromkeys(text for text in texts if text)
    return {text: number for number, text in enumerate(distinct, 1)}


def _profiled(rows: Iterable[Measurement]) -> dict[tuple[str, str, int | None], float]:
    """Our own counts, by network, metric and input size (None: any size)."""
    counted: dict[tuple[str, str, int | None], float] = {}
    for row in rows:
        if row.origin == "profiled":
            counted.setdefault((row.model, row.metric, None), row.value)
            counted[row.model, row.metric, row.input_size] = row.value
            if row.metric == "macs":
                counted.setdefault((row.model, "operations", None), 2 * row.value)
                counted[row.model, "operations", row.input_size] = 2 * row.value
    return counted


def _counts(
    printed: Sequence[Measurement],
    counted: Mapping[tuple[str, str, int | None], float],
    sources: Mapping[str, int],
) -> Html:
    if not printed:
        return Html("")
    conventions = numbered(row.convention for row in printed)
    columns = [
        Column("Network", number=False), Column("Figure", number=False), Column("As printed"),
        Column("Counted by its rule"), Column("True count"), Column("Off by"),
        Column("Rule", number=False), Column("What is wrong with it", number=False),
        Column("Source", number=False),
    ]  # fmt: skip
    body = [_count(group, counted, conventions, sources) for group in _alike(printed)]
    rules = [
        tag("p", "The rules by which the printed figures were counted:"),
        items(conventions, ordered=True),
    ]
    return joined([
        tag("p", "Figures are shown as printed. If they differ from the true count, the reason is the rule "
                 "by which they were counted, or a mistake in it."),
        table("Published parameters and operations next to the true counts", columns, body),
        *(rules if conventions else []),
    ])  # fmt: skip


def _alike(rows: Iterable[Measurement]) -> list[list[Measurement]]:
    """Rows grouped so that equal figures from several sources are together."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for row in rows:
        key = row.model, row.metric, row.value, row.convention, row.disputed, row.conditions().items()
        groups.setdefault((*key[:-1], tuple(key[-1])), []).append(row)
    return list(groups.values())


def _count(
    group: Sequence[Measurement],
    counted: Mapping[tuple[str, str, int | None], float],
    conventions: Mapping[str, int],
    sources: Mapping[str, int],
) -> list[Cell]:
    row = group[0]
    true = _found(counted, row, row.metric)
    by_rule = _found(counted, row, _SAME_RULE.get(row.metric, "")) if row.convention else None
    off = None if not true else row.value / true - 1
    return [
        text(row.model),
        text(metrics.find(row.metric).label),
        _exact(row.value),
        _exact(by_rule),
        _exact(true),
        Cell("" if off is None else f"{100 * off:+.2f} %", off),
        text(f"rule {conventions[row.convention]}" if row.convention else ""),
        prose(row.disputed),
        text(_cited(group, sources)),
    ]


def _found(
    counted: Mapping[tuple[str, str, int | None], float], row: Measurement, metric: str
) -> float | None:
    return counted.get((row.model, metric, row.input_size), counted.get((row.model, metric, None)))


def _exact(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(f"{value:,.0f}", value)


def _cited(group: Sequence[Measurement], sources: Mapping[str, int]) -> str:
    numbers = sorted({sources[row.source] for row in group if row.source})
    return ", ".join(f"[{number}]" for number in numbers)


def _latencies(rows: Sequence[Measurement], sources: Mapping[str, int]) -> Html:
    if not rows:
        return Html("")
    columns = [
        Column("Network", number=False), Column("Latency"), Column("System", number=False),
        Column("Engine", number=False), Column("Precision", number=False), Column("Batch"), Column("Input"),
        Column("Doubt", number=False), Column("Source", number=False),
    ]  # fmt: skip
    body = [_latency(group, sources) for group in _alike(rows)]
    return joined([
        tag("h3", "Published latencies"),
        tag("p", "These are from other machines and say nothing about this one. The same card with another "
                 "version of an engine counts as another machine."),
        details(f"{len(body)} published latencies", table("Published latencies", columns, body)),
    ])  # fmt: skip


def _latency(group: Sequence[Measurement], sources: Mapping[str, int]) -> list[Cell]:
    row = group[0]
    batch, size = row.batch_size, row.input_size
    return [
        text(row.model), Cell(show(row), row.value), text(row.system), text(row.engine), text(row.precision),
        Cell("" if batch is None else str(batch), batch), Cell("" if size is None else str(size), size),
        prose(row.disputed), text(_cited(group, sources)),
    ]  # fmt: skip
