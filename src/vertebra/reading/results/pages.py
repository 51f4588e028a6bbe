"""The pages of a results repository, in Markdown: one for each machine, and an index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vertebra import units
from vertebra.measurements import Measurement, Table, WideRow, display, wide
from vertebra.measurements.receiving import Received
from vertebra.measurements.views import NEEDING_A_MACHINE
from vertebra.metrics import METRICS
from vertebra.reading.charts.points import Point, front
from vertebra.reading.choice import candidates, field, precisions
from vertebra.reading.choice.rule import LOAD

#: How a page that was written begins.
MARK = "<!-- vertebra submit --repository writes this page. -->\n"
#: Figures of a form beside its accuracy, in the order of their columns.
_FIGURES = ("latency", "throughput", "memory_total", "energy_per_image")
_HOW = (
    "Latencies and throughputs are medians with 95 % intervals in which another survey of the machine "
    "is expected. Grades say how quiet the machine was: A, B or C. Top-1 accuracies are published or "
    "evaluated ones on the whole of ImageNet's validation split. ● marks the front: no other form here "
    "is both faster and more accurate."
)


def pages(table: Table, received: Sequence[Received]) -> dict[str, str]:
    """The pages by their paths. `table` holds what was `received`."""
    rows = candidates.pooled(table, table.rows())
    models = {row.model for row in rows}
    known = [*rows, *(row for row in field.published(("top1", "top5")) if row.model in models)]
    forms = [row for row in precisions.believed(wide(known), known) if row.conditions.get("system")]
    systems = {name: one for each in received for name, one in each.systems.items()}
    made = {
        f"systems/{name}.md": _page(name, systems[name], _of(forms, name), _rows_of(rows, name), received)
        for name in sorted(systems)
    }
    return {"index.md": _index(systems, forms, rows, received), **made}


def _of(forms: Iterable[WideRow], system: str) -> list[WideRow]:
    return [row for row in forms if row.conditions["system"] == system]


def _rows_of(rows: Iterable[Measurement], system: str) -> list[Measurement]:
    return [row for row in rows if row.system == system]


def _page(
    name: str,
    machine: Mapping[str, Any],
    forms: Sequence[WideRow],
    rows: Sequence[Measurement],
    received: Sequence[Received],
) -> str:
    groups: dict[tuple[Any, ...], list[WideRow]] = {}
    for row in forms:
        if NEEDING_A_MACHINE & row.figures.keys():
            groups.setdefault(tuple(row.conditions.get(one) for one in LOAD), []).append(row)
    parts = [f"# {name}", _table(_facts(machine)), _HOW]
    for key in sorted(groups, key=lambda one: [(value is None, str(value)) for value in one]):
        conditions = dict(zip(LOAD, key, strict=True))
        parts += [f"## {_load(conditions)}", _table(_lines(groups[key]))]
    versions = sorted({(library, version) for row in rows for library, version in row.versions.items()})
    by_library: dict[str, list[str]] = {}
    for library, version in versions:
        by_library.setdefault(library, []).append(version)
    parts += ["## Versions", _table([{"library": one, "versions": ", ".join(several)}
                                     for one, several in by_library.items()])]  # fmt: skip
    parts += ["## Archives", _table(_archives([one for one in received if name in one.systems], "../"))]
    return _whole(parts)


def _facts(machine: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is known of a machine, a line for each."""
    memory = machine["memory_bytes"]
    cards = ", ".join(f"{one['name']} (driver {one['driver']})" for one in machine["gpus"])
    told = {
        "processor": machine["cpu"], "architecture": machine["architecture"],
        "instructions": ", ".join(machine["features"]), "cores": machine["physical_cores"],
        "hardware threads": machine["logical_cores"], "quota in cores": machine["core_quota"],
        "memory": None if memory is None else units.show(memory, "B"), "cards": cards,
        "system": machine["os"], "kernel": machine["kernel"], "Python": machine["python"],
        "inside": machine["virtual"],
    }  # fmt: skip
    return [{"machine": what, "": value} for what, value in told.items() if value not in (None, "")]


def _load(conditions: Mapping[str, Any]) -> str:
    """A load in words."""
    parts = [conditions["scenario"] or "any load", conditions["device"] or "any device"]
    if conditions["batch_size"]:
        parts.append(f"batch size {conditions['batch_size']}")
    for name, unit in (
        ("streams", "streams"),
        ("arrival_rate", "requests/s"),
        ("beside", "threads beside it"),
    ):
        value = conditions[name]
        if value and (name, value) != ("streams", 1):
            parts.append(f"{value:g} {unit}")
    return ", ".join(map(str, parts))


def _lines(forms: Sequence[WideRow]) -> list[dict[str, Any]]:
    """The forms of one load, the fastest first, and those on the front marked."""
    ordered = sorted(forms, key=_place)
    points = [Point(row.model, dict(row.figures)) for row in ordered]
    both = [one for one in points if {"latency", "top1"} <= one.figures.keys()]
    best = {id(one) for one in front(both, "latency", "top1")}
    return [_line(row, id(point) in best) for row, point in zip(ordered, points, strict=True)]


def _place(row: WideRow) -> tuple[Any, ...]:
    latency, throughput = row.value("latency"), row.value("throughput")
    form = tuple(str(row.conditions.get(name)) for name in sorted(row.conditions))
    return latency is None, latency or 0.0, -(throughput or 0.0), row.model, form


def _line(row: WideRow, is_best: bool) -> dict[str, Any]:
    conditions, top1 = row.conditions, row.figures.get("top1")
    measured = [one for name, one in row.figures.items() if name in NEEDING_A_MACHINE]
    first = next((row.figures[name] for name in _FIGURES if name in row.figures), measured[0])
    engine = str(conditions.get("engine") or "")
    version = first.versions.get(engine)
    line: dict[str, Any] = {
        "network": row.model, "front": "●" if is_best else "", "top-1": display.quantity(top1),
        "weights": None if top1 is None else top1.weights,
        "accuracy is": None if top1 is None else top1.origin,
    }  # fmt: skip
    for name in _FIGURES:
        figure = row.figures.get(name)
        line[METRICS[name].label] = display.quantity(figure)
        if name in ("latency", "throughput"):
            line[f"{METRICS[name].label}: 95 %"] = None if figure is None else display.interval(figure)
    return {
        **line, "grade": first.grade, "samples": first.samples, "engine": f"{engine} {version or ''}".strip(),
        "precision": conditions.get("precision"), "threads": conditions.get("threads"),
        "input": conditions.get("input_size"), "layout": conditions.get("layout"),
        "provider": conditions.get("provider"), "measured": (first.measured_at or "")[:10],
    }  # fmt: skip


def _index(
    systems: Mapping[str, Mapping[str, Any]],
    forms: Sequence[WideRow],
    rows: Sequence[Measurement],
    received: Sequence[Received],
) -> str:
    lines = []
    for name in sorted(systems):
        own = _rows_of(rows, name)
        dates = [row.measured_at[:10] for row in own if row.measured_at]
        lines.append({
            "machine": f"[{name}](systems/{name}.md)", "processor": systems[name]["cpu"],
            "cards": ", ".join(one["name"] for one in systems[name]["gpus"]),
            "system": systems[name]["os"],
            "networks": len({row.model for row in _of(forms, name)}), "rows": len(own),
            "first": min(dates, default=None), "last": max(dates, default=None),
        })  # fmt: skip
    parts = ["# Results", _table(lines) if lines else "No archive has been submitted yet."]
    if accuracies := [row for row in rows if row.origin == "evaluated" and row.system is None]:
        parts += ["## Accuracies that were evaluated", _table(_accuracies(accuracies))]
    if received:
        parts += ["## Archives", _table(_archives(received, ""))]
    return _whole(parts)


def _accuracies(rows: Iterable[Measurement]) -> list[dict[str, Any]]:
    lines = [
        {
            "network": row.model, "weights": row.weights, "figure": METRICS[row.metric].label,
            "value": display.quantity(row), "95 %": display.interval(row), "images": row.samples,
            "data": f"{row.dataset} {row.split}", "preprocessing": row.protocol, "engine": row.engine,
            "precision": row.precision, "measured": (row.measured_at or "")[:10],
        }
        for row in rows
    ]  # fmt: skip
    return sorted(lines, key=lambda line: [str(value) for value in line.values()])


def _archives(received: Iterable[Received], up: str) -> list[dict[str, Any]]:
    return [
        {"archive": f"[{one.path.name}]({up}archives/{one.path.name})", "runs": len(one.runs),
         "rows": one.rows, "digest (SHA-256 of its content)": f"`{one.digest}`"}
        for one in received
    ]  # fmt: skip


def _table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The lines as a table in Markdown; columns without a value are left out."""
    heads = (
        [head for head in lines[0] if any(line[head] not in (None, "") for line in lines)] if lines else []
    )
    body = [[_cell(line[head]) for head in heads] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *body])


def _cell(value: Any) -> str:
    return "" if value is None else display.plain(str(value)).replace("|", "\\|")


def _whole(parts: Iterable[str]) -> str:
    return MARK + "\n" + "\n\n".join(part for part in parts if part) + "\n"
