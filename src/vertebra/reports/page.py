"""The page: its head, its sections in order, and its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from vertebra import __version__, units
from vertebra.files import write_whole
from vertebra.measurements import Measurement, wide
from vertebra.reports.failures import failures_section
from vertebra.reports.figures import charts_section
from vertebra.reports.glossary import glossary_section
from vertebra.reports.markup import Html, joined, section, tag
from vertebra.reports.networks import forms, grade_section, networks_section
from vertebra.reports.published import published_section

TITLE = "Which backbone suits this machine"

#: A heading and its paragraphs.
Passage = tuple[str, Sequence[str]]


def html(
    rows: Iterable[Measurement],
    *,
    title: str = TITLE,
    system: Mapping[str, Any] | None = None,
    pick: Sequence[Passage] = (),
    made_at: str | None = None,
) -> str:
    """`rows` as one HTML page that asks nothing of any network.

    `system` is a machine as `System.to_dict` describes it, `pick` what was chosen and why, as
    headings with paragraphs (plain text), `made_at` the page's date. Rows of several machines or
    forms stand in columns and charts of their own. Raises MissingRuntimeError where vl-convert,
    which draws the charts, isn't installed.
    """
    rows = list(rows)
    compared = wide(rows)
    measured = forms(compared)
    parts = [
        _machine(rows, system),
        _pick(pick),
        charts_section(compared, measured),
        networks_section(compared, measured),
        grade_section(measured),
        failures_section(rows),
        published_section(rows),
        glossary_section(compared),
    ]
    return _whole(title, _summary(rows, measured_systems(rows)), parts, made_at)


def write(
    path: str | Path,
    rows: Iterable[Measurement],
    *,
    title: str = TITLE,
    system: Mapping[str, Any] | None = None,
    pick: Sequence[Passage] = (),
    made_at: str | None = None,
) -> Path:
    """Write `html` of the same arguments whole to `path`. Raises InvalidInputError where it can't."""
    page = html(rows, title=title, system=system, pick=pick, made_at=made_at)
    write_whole(Path(path), page.encode())
    return Path(path)


def measured_systems(rows: Iterable[Measurement]) -> list[str]:
    """The names of the machines that were benched, in the order of the rows."""
    return list(dict.fromkeys(row.system for row in rows if row.origin == "benched" and row.system))


_NAV = {
    "machine": "Machine",
    "pick": "Pick",
    "charts": "Charts",
    "networks": "Networks",
    "grades": "Grades",
    "failures": "Failures",
    "published": "Published",
    "glossary": "Glossary",
}


def _whole(title: str, summary: str, parts: Sequence[Html], made_at: str | None) -> str:
    there = "".join(part.partition(">")[0] for part in parts)
    links = [tag("a", word, href=f"#{name}") for name, word in _NAV.items() if f'id="{name}"' in there]
    made = f"Made by vertebra {__version__}" + (f" on {made_at}" if made_at else "") + "."
    body = joined([
        tag("header", tag("h1", title), tag("p", summary, class_="summary"),
            tag("nav", *links, aria_label="Sections")),
        tag("main", *parts),
        tag("footer", tag("p", made)),
    ])  # fmt: skip
    head = joined([
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(_asset("page.css"))),
    ])  # fmt: skip
    script = tag("script", Html(_asset("page.js")))
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}{script}</body>\n</html>\n'


def _asset(name: str) -> str:
    return files("vertebra.reports").joinpath(name).read_text(encoding="utf-8")


def _summary(rows: Sequence[Measurement], systems: Sequence[str]) -> str:
    networks = len({row.model for row in rows})
    measured = [row for row in rows if row.origin == "benched" and row.metric == "latency"]
    engines = sorted({row.engine for row in measured if row.engine})
    told = f"{networks} network{'' if networks == 1 else 's'}"
    if not engines:
        return f"{told}; nothing has been measured yet."
    return f"{told} on {', '.join(engines)}, measured on {', '.join(systems)}{_when(rows)}."


def _when(rows: Iterable[Measurement]) -> str:
    days = sorted({row.measured_at[:10] for row in rows if row.origin == "benched" and row.measured_at})
    if not days:
        return ""
    return f", {days[0]}" if days[0] == days[-1] else f", {days[0]} to {days[-1]}"


def _machine(rows: Sequence[Measurement], system: Mapping[str, Any] | None) -> Html:
    entries = _described(system) if system else []
    versions = _versions(rows)
    entries += (
        [("Software", ", ".join(f"{name} {version}" for name, version in versions))] if versions else []
    )
    if not entries:
        return Html("")
    told = [part for name, value in entries for part in (tag("dt", name), tag("dd", value))]
    return section("machine", "The machine", tag("dl", *told, class_="facts"))


def _described(system: Mapping[str, Any]) -> list[tuple[str, str]]:
    memory = system.get("memory_bytes")
    entries = [
        ("Name", system.get("id")),
        ("Processor", system.get("cpu") or system.get("architecture")),
        ("Cores", _cores(system)),
        ("Instruction sets", ", ".join(system.get("features") or ())),
        ("Memory", units.show(memory, "B") if memory else None),
        ("Graphics", ", ".join(str(gpu["name"]) for gpu in system.get("gpus") or ())),
        ("System", " ".join(str(system[name]) for name in ("os", "kernel") if system.get(name))),
        ("Virtual", system.get("virtual")),
    ]
    return [(name, str(value)) for name, value in entries if value]


def _cores(system: Mapping[str, Any]) -> str:
    words = (("physical_cores", "physical"), ("logical_cores", "logical"), ("usable_cores", "usable"))
    return ", ".join(f"{system[name]} {word}" for name, word in words if system.get(name))


def _versions(rows: Iterable[Measurement]) -> list[tuple[str, str]]:
    """What was between the figures and the hardware; several versions of one library in one entry."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.origin == "benched":
            for name, version in row.versions.items():
                found.setdefault(name, {}).setdefault(version)
    return [(name, " and ".join(versions)) for name, versions in sorted(found.items())]


def _pick(passages: Sequence[Passage]) -> Html:
    if not passages:
        return Html("")
    told = [
        tag("div", tag("h3", heading), *(tag("p", paragraph) for paragraph in paragraphs))
        for heading, paragraphs in passages
    ]
    return section("pick", "The pick", tag("div", *told, class_="pick"))
