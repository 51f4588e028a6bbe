"""The page: its head, its sections in order, and its file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from vertebra import units
from vertebra._version import __version__
from vertebra.machine.files import write_whole
from vertebra.measurements import Measurement, WideRow, display, wide
from vertebra.measurements.history import History
from vertebra.reading.reports import loads
from vertebra.reading.reports.card import Answer, card_section
from vertebra.reading.reports.explorer import explorer_section
from vertebra.reading.reports.failures import failures_section
from vertebra.reading.reports.figures import charts_section
from vertebra.reading.reports.glossary import glossary_section
from vertebra.reading.reports.histories import history_section
from vertebra.reading.reports.markup import Html, details, folded_section, joined, section, tag
from vertebra.reading.reports.networks import forms, grade_section, networks_section
from vertebra.reading.reports.published import published_section

TITLE = "Which backbone suits this machine"

#: A heading and its paragraphs.
Passage = tuple[str, Sequence[str]]

#: Charts and tables show at most this many networks; the explorer has all.
_MOST = 150


def html(
    rows: Iterable[Measurement],
    *,
    title: str = TITLE,
    system: Mapping[str, Any] | None = None,
    answers: Sequence[Answer] = (),
    asked: bool = False,
    command: str = "vertebra pick",
    start: Mapping[str, str] | None = None,
    pick: Sequence[Passage] = (),
    made_at: str | None = None,
    version: str | None = None,
    histories: Sequence[History] = (),
) -> str:
    """`rows` as one HTML page that makes no network requests.

    `system` is a machine as `System.to_dict` describes it: the page is about it, else about this machine if
    `rows` have it, else about the one with the most measured rows. `answers` are picks for the card at the
    top, the main one first, with limits that were `asked` or the usual ones; `command` is what answers from
    the same rows, `start` the limits that the explorer opens with, by their options. `pick` is a choice and
    its reasons as headings with paragraphs (plain text), `made_at` the page's date. With a `version`, the
    page asks its server for a newer one (`reports.server`). `histories` are of forms that ran on several days
    or under several versions. Rows of several machines or forms have their own
    columns and charts. Raises MissingRuntimeError if vl-convert, which draws the charts, isn't installed.
    """
    rows = list(rows)
    compared = wide(rows)
    shown = _foremost(compared)
    left_out = len({row.model for row in compared} - shown)
    compared = [row for row in compared if row.model in shown]
    measured = forms(compared)
    machine = loads.main_system(rows, system)
    parts = [
        card_section(answers, machine, asked),
        _pick(pick),
        explorer_section(rows, machine, command, start),
        _left_out(left_out),
        charts_section(compared, measured),
        networks_section(compared, measured),
        history_section(histories),
        grade_section(measured),
        failures_section(rows),
        published_section(row for row in rows if row.model in shown),
        _machine(rows, {**system, "id": machine} if system else None),
        glossary_section(compared),
    ]
    return whole(title, _summary(rows, measured_systems(rows)), parts, made_at, version)


def _foremost(rows: Sequence[WideRow]) -> set[str]:
    """The networks for charts and tables: first those measured here, then the most accurate."""
    places: dict[str, tuple[bool, float]] = {}
    for row in rows:
        latency, top1 = row.figures.get("latency"), row.value("top1")
        place = latency is None or latency.origin != "benched", -(top1 or 0.0)
        places[row.model] = min(place, places.get(row.model, place))
    return set(sorted(places, key=places.__getitem__)[:_MOST])


def _left_out(networks: int) -> Html:
    if not networks:
        return Html("")
    text = (
        f"The parts below show {_MOST} networks: first those measured here, then the more accurate ones. The "
        f"explorer also has the other {networks:,}."
    )
    return tag("p", text, class_="note")


def write(path: str | Path, rows: Iterable[Measurement], **more: Any) -> Path:
    """Write `html` of the same arguments to `path`. Raises InvalidInputError if it can't be written."""
    write_whole(Path(path), html(rows, **more).encode())
    return Path(path)


def measured_systems(rows: Iterable[Measurement]) -> list[str]:
    """The names of the machines that were benched, in the order of the rows."""
    return list(dict.fromkeys(row.system for row in rows if row.origin == "benched" and row.system))


_NAV = {
    "answer": "Answer",
    "overview": "Overview",
    "accuracy": "Accuracy and counts",
    "speed": "Latency",
    "sources": "Sources",
    "pick": "Pick",
    "explorer": "Explorer",
    "charts": "Charts",
    "networks": "Networks",
    "history": "Over time",
    "grades": "Grades",
    "failures": "Failures",
    "published": "Published",
    "machine": "Machine",
    "glossary": "Glossary",
}


def whole(
    title: str, summary: str, parts: Sequence[Html], made_at: str | None, version: str | None = None
) -> str:
    """A self-contained page of these sections; with a `version`, it follows its server."""
    there = "".join(part.partition(">")[0] for part in parts)
    links = [tag("a", word, href=f"#{name}") for name, word in _NAV.items() if f'id="{name}"' in there]
    made = f"Made by vertebra {__version__}" + (f" on {made_at}" if made_at else "") + "."
    body = joined([
        tag("header", tag("h1", title), tag("p", summary, class_="summary"),
            *([tag("p", "", id="live", role="status", class_="note")] if version else [])),
        tag("nav", *links, aria_label="Sections"),
        tag("main", *parts),
        tag("footer", tag("p", made)),
    ])  # fmt: skip
    style = Html(asset("page.css") + asset("explorer.css"))
    names = [
        "page.js",
        *(["explorer"] if 'id="explorer"' in there else []),
        *(["live.js"] if version else []),
    ]
    scripts = [Html(explorer_script() if name == "explorer" else asset(name)) for name in names]
    head = joined([
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, scripts, version)}">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", style),
    ])  # fmt: skip
    code = joined(tag("script", script, type="module") for script in scripts)
    page = tag("html", Html("\n"), tag("head", head), Html("\n"), tag("body", body, code), Html("\n"),
               lang="en", data_version=version)  # fmt: skip
    return f"<!DOCTYPE html>\n{page}\n"


def _policy(style: str, scripts: Sequence[str], version: str | None) -> str:
    """What the browser may do for this page: use the page's own scripts and style, and make no requests,
    except to the page's own server if it follows one."""
    hashes = " ".join(map(hash_of, scripts))
    applied = f"script-src {hashes}; style-src {hash_of(style)}"
    asked = "connect-src 'self'; " if version else ""
    return f"default-src 'none'; {applied}; {asked}base-uri 'none'; form-action 'none'"


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


#: The parts of the explorer's script, in the order in which they run.
_EXPLORER = ("figures", "units", "pick", "state", "answer", "tables", "views", "start")


def explorer_script() -> str:
    return "\n".join(asset(f"explorer-{part}.js") for part in _EXPLORER)


def asset(name: str) -> str:
    return files("vertebra.reading.reports").joinpath(name).read_text(encoding="utf-8")


def _summary(rows: Sequence[Measurement], systems: Sequence[str]) -> str:
    models = {row.model for row in rows}
    measured = [row for row in rows if row.origin == "benched" and row.metric == "latency"]
    engines = sorted({row.engine for row in measured if row.engine})
    if not engines:
        return f"{display.count(len(models), 'network')}; nothing has been measured yet."
    timed = {row.model for row in measured}
    estimated = {row.model for row in rows if row.origin == "estimated"} - timed
    parts = [
        f"{display.count(len(timed), 'network')} measured with {', '.join(engines)} on {', '.join(systems)}"
        f"{_when(rows)}",
        *([f"{len(estimated):,} others estimated"] if estimated else []),
    ]
    return f"{'; '.join(parts)}."


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
    facts = [part for name, value in entries for part in (tag("dt", name), tag("dd", value))]
    return folded_section("machine", "The machine", tag("dl", *facts, class_="facts"))


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
    """The libraries that the figures were measured with; several versions of one library in one entry."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.origin == "benched":
            for name, version in row.versions.items():
                found.setdefault(name, {}).setdefault(version)
    return [(name, " and ".join(versions)) for name, versions in sorted(found.items())]


#: The most characters of a paragraph that isn't folded.
_LONGEST = 400


def _paragraph(text: str) -> Html:
    """A paragraph; a long list is folded, with its beginning in sight."""
    if len(text) <= _LONGEST:
        return tag("p", text)
    begin = text[:_LONGEST].rpartition(" ")[0][: _LONGEST // 2]
    return details(f"{begin} …", tag("div", tag("p", text), class_="scroll long", tabindex=0))


def _pick(passages: Sequence[Passage]) -> Html:
    if not passages:
        return Html("")
    parts = [tag("div", tag("h3", heading), *map(_paragraph, paragraphs)) for heading, paragraphs in passages]
    return section("pick", "The pick", tag("div", *parts, class_="pick"))
