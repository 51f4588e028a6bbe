"""The explorer: every network of the page in linked views, under limits that the reader moves.

Its data are in the page as columns, one per metric, with one cell per network if the figure is the same in
all of its forms. The script `explorer.js` draws them and picks by the rule of `rule.pick`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from vertebra import metrics, units
from vertebra.measurements import Measurement, WideRow, wide
from vertebra.measurements.display import plain
from vertebra.measurements.views import FORM, depends_on_machine
from vertebra.metrics import Metric
from vertebra.reading.charts.grid import BEST, FPS_CLASSES, MEMORY_CLASSES, classes
from vertebra.reading.charts.style import family
from vertebra.reading.choice import precisions
from vertebra.reading.choice.rule import LIMITS
from vertebra.reading.names import distinct
from vertebra.reading.reports import loads
from vertebra.reading.reports.loads import Load
from vertebra.reading.reports.markup import Html, section, tag

#: The metrics by which a network can be chosen.
_OBJECTIVES = (*LIMITS.values(), "accuracy_density", "throughput", "energy_per_image", "power")
#: The unit in which a bound is typed: (power of ten of the base unit, name, example) by unit.
_TYPED = {
    "s": (-3, "ms", "10ms"), "B": (6, "MB", "700MB"), "count": (6, "M", "25M"), "fraction": (-2, "%", "75%"),
    "1/s": (0, "", "30"), "J": (-3, "mJ", "50mJ"), "W": (0, "W", "15W"),
}  # fmt: skip
#: The limits that are always in sight; the others are folded.
_FIRST = ("latency", "fps", "memory", "top1")
#: The conditions of a form, without the network's own input size.
_OF_FORM = tuple(name for name in FORM if name != "input_size")
#: The conditions of a line along the batch size.
_OF_SWEEP = tuple(name for name in FORM if name != "batch_size")
_WORDS = {
    "input_size": "input",
    "batch_size": "batch",
    "threads": "threads",
    "streams": "streams",
    "arrival_rate": "arrival rate",
    "beside": "busy threads beside it:",
}
#: What an engine mostly has one value of.
_BY_ENGINE = ("provider", "layout")
_VIEWS = ("latency", "operations", "memory_total", "params")
_ACCURACIES = ("top1", "top5", "probe_top1")
#: The metrics drawn against the batch size, by the metric that they are computed from.
_BATCHED = {"latency": "latency_per_image", "memory_total": "memory_total"}
_TRUSTED = {
    "any": "any with an interval, as in vertebra pick",
    "A": "A only",
    "B": "B or better",
    "C": "any, even C without an interval",
}

Row = tuple[WideRow, int, int]


def explorer_section(
    rows: Sequence[Measurement],
    system: str | None = None,
    command: str = "vertebra pick",
    start: Mapping[str, str] | None = None,
) -> Html:
    """The explorer of `rows`, or nothing if no network has a metric to choose by.

    It opens on `system`, by default as `loads.main_system` finds it, under the limits `start`; `command`
    answers from the same rows."""
    return section_of({**data(rows, system, command), "start": dict(start or {})})


def section_of(contents: Mapping[str, Any], *, fills: bool = True) -> Html:
    """The explorer of `data` with "start"; `fills` says which commands would fill views that have no rows."""
    if not contents["metrics"]:
        return Html("")
    known = {entry["name"] for entry in contents["metrics"]}
    return section(
        "explorer",
        "Explorer",
        tag("p", _HOW_TO_READ),
        tag("noscript", tag("p", "The explorer needs JavaScript; the other parts of the page don't.")),
        tag("div", *_inside(contents, known, fills), id="explorer-body", hidden="hidden"),
        tag("script", Html(harmless(contents)), type="application/json", id="explorer-data"),
    )


_HOW_TO_READ = (
    "Move or type a limit: the pick, the views and the table follow. A network meets a limit when the slow "
    "end of its interval does; if the limit lies within the interval, the network is borderline and not "
    "chosen. The address keeps the whole state, so you can send it as a link."
)


def data(
    rows: Sequence[Measurement], system: str | None = None, command: str = "vertebra pick"
) -> dict[str, Any]:
    """The script's data: conditions, networks, and one column per metric; values in base units."""
    found = _rows(rows, system or loads.main_system(rows))
    models = distinct((row.model for row, _, _ in found.rows), plain)
    index = {model: place for place, model in enumerate(models)}
    names = _objectives([row for row, _, _ in found.rows])
    forms = [_form(row.conditions) for row, _, _ in found.rows]
    distinct_forms = list(dict.fromkeys(forms))
    sweeps = [_form(row.conditions, _OF_SWEEP) for row, _, _ in found.rows]
    distinct_sweeps = list(dict.fromkeys(sweeps))
    return {
        "metrics": [_metric(metrics.find(name)) for name in names],
        "batched": _batched([row for row, _, _ in found.rows], sweeps),
        "classes": {"memory_total": MEMORY_CLASSES, "fps": FPS_CLASSES},
        "cells": {
            name: classes(_at_one([row for row, _, _ in found.rows]), name)
            for name in ("memory_total", "fps")
        },
        "best": BEST,
        "loads": [vars(load) for load in found.loads],
        "command": command,
        "engines": found.engines,
        "models": list(models.values()),
        "order": _order(list(models)),
        "units": {name: _scales(name) for name in sorted({metrics.find(name).unit for name in names})},
        "options": list(LIMITS),
        "families": [family(model.partition(":")[2] or model) for model in models],
        "forms": distinct_forms,
        "parts": _parts(found.rows, forms),
        "sweeps": distinct_sweeps,
        "model": [index[row.model] for row, _, _ in found.rows],
        "load": [load for _, load, _ in found.rows],
        "engine": [engine for _, _, engine in found.rows],
        "form": [distinct_forms.index(form) for form in forms],
        "sweep": [distinct_sweeps.index(sweep) for sweep in sweeps],
        "columns": {name: _column(name, found.rows, index) for name in names},
    }


def _at_one(rows: Iterable[WideRow]) -> list[WideRow]:
    """The rows of the grid: those at batch size 1 with speed and memory."""
    asked = ("fps", "memory_total")
    return [row for row in rows if row.conditions.get("batch_size") == 1 and row.figures.keys() >= set(asked)]


def _order(models: Sequence[str]) -> list[int]:
    """Each network's place in the order of the names."""
    places = {model: place for place, model in enumerate(sorted(models))}
    return [places[model] for model in models]


def _scales(unit: str) -> dict[str, tuple[str, int]]:
    """By suffix, how many base units it is, exactly: a whole number and a power of ten."""
    return {suffix: _exact(scale) for suffix, scale in units.SUFFIXES[unit].items()}


def _exact(scale: float) -> tuple[str, int]:
    _, digits, exponent = Decimal(repr(scale)).normalize().as_tuple()
    assert isinstance(exponent, int)
    return "".join(map(str, digits)), exponent


def _first_of_each(rows: Sequence[Row], forms: Sequence[str]) -> list[dict[str, str]]:
    """The conditions of each distinct form in words, by their names."""
    found: dict[str, dict[str, str]] = {}
    for (row, _, _), form in zip(rows, forms, strict=True):
        stated = [name for name in _OF_FORM if name in row.conditions]
        found.setdefault(form, {name: _form(row.conditions, (name,)) for name in stated})
    return list(found.values())


def _parts(rows: Sequence[Row], forms: Sequence[str]) -> list[list[str]]:
    """The conditions of each distinct form in words, without those that follow from the engine."""
    values: dict[tuple[str, Any], set[Any]] = {}
    for row, _, _ in rows:
        for name in _BY_ENGINE:
            values.setdefault((name, row.conditions.get("engine")), set()).add(row.conditions.get(name))
    implied = {
        name for name in _BY_ENGINE
        if all(len(found) == 1 for (of, _), found in values.items() if of == name)
    }  # fmt: skip
    return [
        [
            text
            for name, text in form.items()
            if name not in implied and (name, text) != ("streams", "streams 1")
        ]
        for form in _first_of_each(rows, forms)
    ]


@dataclass(frozen=True)
class _Found:
    """Wide rows with the numbers of their load and engine; -1 for a network that never ran."""

    rows: list[Row]
    loads: list[Load]
    engines: list[str]


def _rows(measured: Sequence[Measurement], system: str | None) -> _Found:
    """Each network in every form, and once without a form: used for loads under which it didn't run."""
    static = [row for row in measured if not depends_on_machine(row)]
    every = precisions.believed(wide(measured), measured)
    ran = [row for row in every if "system" in row.conditions or "engine" in row.conditions]
    named = loads.loads(ran, system)
    engines = list(dict.fromkeys(str(row.conditions["engine"]) for row in ran if "engine" in row.conditions))
    known = {load: place for place, load in enumerate(named)}
    rows = [
        (
            row,
            known[loads.key(row)],
            engines.index(row.conditions["engine"]) if "engine" in row.conditions else -1,
        )
        for row in ran
    ]
    rows += [(row, -1, -1) for row in wide(static)]
    return _Found(rows, list(named.values()), engines)


def _batched(rows: Sequence[WideRow], sweeps: Sequence[str]) -> list[dict[str, Any]]:
    """The metrics that some network has at several batch sizes, with everything else equal."""
    batches: dict[tuple[str, str, str], set[int]] = {}
    stated = [(row, sweep) for row, sweep in zip(rows, sweeps, strict=True) if "batch_size" in row.conditions]
    for row, sweep in stated:
        for name in _BATCHED.keys() & row.figures.keys():
            batches.setdefault((name, row.model, sweep), set()).add(row.conditions["batch_size"])
    several = {name for (name, _, _), found in batches.items() if len(found) > 1}
    return [
        {"name": drawn, "label": metrics.find(drawn).label, "unit": metrics.find(drawn).unit, "lower": True}
        for name, drawn in _BATCHED.items() if name in several
    ]  # fmt: skip


def _form(conditions: Mapping[str, Any], names: Sequence[str] = _OF_FORM) -> str:
    stated = [(name, conditions[name]) for name in names if name in conditions]
    return ", ".join(f"{_WORDS[name]} {value}" if name in _WORDS else str(value) for name, value in stated)


def _objectives(rows: Iterable[WideRow]) -> list[str]:
    """The metrics that the rows have and pick knows; a probe only if it is of one data set."""
    datasets: dict[str, set[str | None]] = {}
    for row in rows:
        for name, figure in row.figures.items():
            datasets.setdefault(name, set()).add(figure.dataset)
    return [
        name for name in dict.fromkeys(_OBJECTIVES)
        if name in datasets and not (name == "probe_top1" and len(datasets[name]) > 1)
    ]  # fmt: skip


def _metric(metric: Metric) -> dict[str, Any]:
    options = {bounded: option for option, bounded in LIMITS.items()}
    power, unit, example = _TYPED[metric.unit]
    if metric.name in ("macs", "operations"):
        power, unit, example = 9, "G", "1.5G"
    return {
        "name": metric.name, "label": metric.label, "unit": metric.unit, "lower": metric.better == "lower",
        "option": options.get(metric.name), "power": power, "typed": unit, "example": example,
    }  # fmt: skip


def _column(name: str, rows: Sequence[Row], index: Mapping[str, int]) -> dict[str, Any]:
    """The cells of a metric: one per network if all its forms have the same figure, else one per row."""
    cells = [_cell(row.figures.get(name)) for row, _, _ in rows]
    by_model: list[_Cell] = [_NONE] * len(index)
    for (row, _, _), cell in zip(rows, cells, strict=True):
        by_model[index[row.model]] = cell
    same = all(
        by_model[index[row.model]] == cell for (row, _, _), cell in zip(rows, cells, strict=True)
    )  # fmt: skip
    return {"by": "model" if same else "row", **_packed(by_model if same else cells)}


_Cell = tuple[float | None, float | None, float | None, str, str, str]
_NONE: _Cell = (None, None, None, "-", "-", "")


def _cell(figure: Measurement | None) -> _Cell:
    if figure is None or not math.isfinite(figure.value):
        return _NONE
    reason = next(iter(figure.grade_reasons), "")
    origin = _LETTERS[figure.origin]
    return figure.value, figure.low, figure.high, figure.grade or "-", origin, reason


#: The letter of an origin in the data; the script shows it as a word.
_LETTERS = {"published": "p", "estimated": "e", "profiled": "c", "benched": "m", "evaluated": "v",
            "derived": "d"}  # fmt: skip


def _packed(cells: Sequence[_Cell]) -> dict[str, Any]:
    """Cells as columns, without those that are empty."""
    values, lows, highs, grades, origins, reasons = zip(*cells, strict=True)
    packed: dict[str, Any] = {"value": list(map(_whole, values)), "origin": "".join(origins)}
    for name, column in (("low", lows), ("high", highs)):
        if any(value is not None for value in column):
            packed[name] = list(map(_whole, column))
    if any(grade != "-" for grade in grades):
        packed["grade"] = "".join(grades)
    packed["reasons"] = {str(place): reason for place, reason in enumerate(reasons) if reason}
    return packed


def _whole(value: float | None) -> float | int | None:
    """A count without its ".0", to save thousands of them."""
    return int(value) if value is not None and float(value).is_integer() and abs(value) < 2**53 else value


def harmless(contents: Mapping[str, Any]) -> str:
    """JSON that can't end the element that contains it."""
    text = json.dumps(contents, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return plain(text.replace("<", "\\u003c"))


def _inside(contents: Mapping[str, Any], known: set[str], fills: bool) -> list[Html]:
    options = [entry for entry in contents["metrics"] if entry["option"]]
    limits = [_limit(entry) for entry in options if entry["option"] in _FIRST]
    others = [_limit(entry) for entry in options if entry["option"] not in _FIRST]
    views = [name for name in _VIEWS if name in known]
    chosen = [_view("")] if len(_across(contents)) > 1 else []
    return [
        tag("div", tag("p", "", id="explorer-choice"),
            tag("p", tag("span", "", id="explorer-meeting"), " ", tag("span", "", id="explorer-where")),
            class_="pick now", role="region", aria_label="The pick", tabindex=0),
        tag("p", "", id="explorer-spoken", class_="unseen", role="status", aria_live="polite"),
        tag("div",
            tag("form",
                tag("p", "", id="explorer-dropped", role="alert"),
                tag("fieldset", tag("legend", "Limits"), tag("div", *limits, class_="limits"),
                    *_more(others)),
                tag("fieldset", tag("legend", "Choice"), tag("div", *_choices(contents), class_="choices")),
                id="explorer-form"),
            tag("div",
                tag("div", id="explorer-answer", role="region", aria_label="More about the pick"),
                tag("div", *_axes(contents), class_="choices axes", role="group",
                    aria_label="Axes of the charts"),
                tag("div", *map(_view, views), *(_batch_view(entry) for entry in contents["batched"]),
                    *chosen, class_="views"),
                tag("div", id="explorer-legend", class_="legend"),
                class_="found"),
            class_="work"),
        *_tables(contents, known, fills),
        tag("div", id="explorer-tip", class_="tip", hidden="hidden", aria_hidden="true"),
    ]  # fmt: skip


def _tables(contents: Mapping[str, Any], known: set[str], fills: bool) -> list[Html]:
    return [
        tag("p", tag("label", "Search for a network", for_="explorer-search"), " ",
            tag("input", id="explorer-search", type="search", autocomplete="off", spellcheck="false"), " ",
            tag("span", id="explorer-count", role="status")),
        tag("p", "", id="explorer-shared", class_="note"),
        tag("div",
            tag("table", tag("caption", _CAPTION), tag("thead"), tag("tbody"),
                id="explorer-table"),
            class_="scroll", tabindex=0, role="region", aria_label="The networks under these limits"),
        tag("p", tag("button", "Show all", type="button", id="explorer-all", hidden="hidden")),
        *([_folded("grid", _GRID)] if _has_grid(known) else []),
        *(_folded(entry["name"], f"{_capital(entry['label'])} by batch size")
          for entry in contents["batched"]),
        *(_missing(contents, known) if fills else []),
    ]  # fmt: skip


def _more(limits: Sequence[Html]) -> list[Html]:
    """Limits that few need."""
    inside = tag("div", *limits, class_="limits")
    return [tag("details", tag("summary", "More limits"), inside, id="explorer-more")] if limits else []


def _limit(entry: Mapping[str, Any]) -> Html:
    name, side = entry["option"], "at most" if entry["lower"] else "at least"
    label = _capital(entry["label"])
    unit = f" ({entry['typed']})" if entry["typed"] else ""
    return tag(
        "div",
        tag("label", f"{label}, {side}{unit}", for_=f"limit-{name}"),
        tag("input", id=f"limit-{name}", type="text", inputmode="decimal", placeholder="no limit",
            autocomplete="off", spellcheck="false"),
        tag("input", id=f"slide-{name}", type="range", min="0", max="1000", step="1", autocomplete="off",
            aria_label=f"{label}, {side}, as a slider"),
    )  # fmt: skip


def _choices(contents: Mapping[str, Any]) -> list[Html]:
    best = [(entry["name"], entry["label"]) for entry in contents["metrics"]]
    machines = [(str(place), load["label"]) for place, load in enumerate(contents["loads"])]
    engines = [("", "any"), *((engine, engine) for engine in contents["engines"])]
    return [
        *([_select("load", "Machine and load", machines)] if len(machines) > 1 else []),
        *([_select("engine", "Engine", engines)] if len(engines) > 2 else []),
        _select("by", "Best by", best),
        _select("trust", "Grades that count", list(_TRUSTED.items())),
        tag("div", tag("button", "Reset", type="button", id="explorer-reset"), " ",
            tag("a", "Link to this state", href="#explorer", id="explorer-link")),
    ]  # fmt: skip


def _axes(contents: Mapping[str, Any]) -> list[Html]:
    """What the charts show."""
    best = [(entry["name"], entry["label"]) for entry in contents["metrics"]]
    upwards = sorted(best, key=lambda entry: entry[0] not in _ACCURACIES)
    across = _across(contents)
    return [
        _select("up", "Vertical axis", upwards),
        *([_select("across", "Horizontal axis of the last chart", across)] if len(across) > 1 else []),
        tag("div", tag("input", type="checkbox", id="explorer-log", checked="checked", autocomplete="off"),
            " ", tag("label", "Logarithmic axes", for_="explorer-log")),
    ]  # fmt: skip


def _across(contents: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The metrics for the last view's horizontal axis, first those that no other view has."""
    known = [(entry["name"], entry["label"]) for entry in contents["metrics"]]
    return sorted(known, key=lambda entry: entry[0] in (*_VIEWS, *_ACCURACIES))


def _select(name: str, label: str, entries: Sequence[tuple[str, str]]) -> Html:
    options = [tag("option", text, value=value) for value, text in entries]
    return tag(
        "div",
        tag("label", label, for_=f"explorer-{name}"),
        tag("select", *options, id=f"explorer-{name}", autocomplete="off"),
    )


def _view(name: str) -> Html:
    label = metrics.find(name).label if name else "the chosen metric"
    return tag(
        "figure",
        tag("figcaption", f"Against {label}"),
        tag("canvas", role="img", data_metric=name, aria_label=f"Networks against {label}"),
    )


def _batch_view(entry: Mapping[str, Any]) -> Html:
    """A metric against the batch size, independent of the other views' vertical axis."""
    title = f"{_capital(entry['label'])} against batch size"
    canvas = tag("canvas", role="img", data_metric="batch_size", data_up=entry["name"], aria_label=title)
    return tag("figure", tag("figcaption", title), canvas)


_CAPTION = "The networks under these limits, the best first"
_GRID = "The best networks for each class of memory and of speed"


def _has_grid(known: set[str]) -> bool:
    return {"fps", "memory_total"} <= known


def _folded(name: str, summary: str) -> Html:
    """A table that the script fills when it is opened."""
    whole = tag("table", tag("caption"), tag("thead"), tag("tbody"))
    region = tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=summary)
    return tag("details", tag("summary", summary), region, id=f"explorer-{name}", data_table=name)


def _missing(contents: Mapping[str, Any], known: set[str]) -> list[Html]:
    """For each view without rows, the command that fills it."""
    batched = {entry["name"] for entry in contents["batched"]}
    lacking = [metrics.find(drawn).label for drawn in _BATCHED.values() if drawn not in batched]
    notes = []
    if lacking:
        notes.append((f"No {' and no '.join(lacking)} at several batch sizes yet. To measure it, run ",
                      "vertebra bench --batch-sizes 1..16", "."))  # fmt: skip
    if not _has_grid(known):
        notes.append(("No speed and memory for the grid of the best networks yet. To measure them, run ",
                      "vertebra survey", "."))  # fmt: skip
    if "power" not in known:
        notes.append(("No power yet. ", "vertebra bench", " measures it on machines with energy counters."))
    return [tag("p", before, tag("code", line), after, class_="note") for before, line, after in notes]


def _capital(label: str) -> str:
    return label[:1].upper() + label[1:]
