"""`vertebra.report`: the results of one machine as a page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from vertebra import metrics
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, Table, depends_on_machine, latest, now, subjects, wide
from vertebra.measurements.views import possible
from vertebra.reading.choice import candidates, field, precisions, rule
from vertebra.reading.choice.candidates import Question
from vertebra.reading.choice.rule import Pick
from vertebra.reading.histories import histories
from vertebra.reading.reports import loads
from vertebra.reading.reports.card import Answer
from vertebra.verbs import first_answer as first_answers
from vertebra.verbs import given
from vertebra.verbs.given import TableLike
from vertebra.verbs.next_command import next_command

if TYPE_CHECKING:
    from vertebra.reading.reports.edition import Edition
    from vertebra.reading.reports.server import Server


#: The limits of the report's answers where none are given, by their headings; the first is the main one.
_USUAL: dict[tuple[str, str], dict[str, Any]] = {
    ("Real time: at least 30 frames per second", "30 fps"): {"fps": "30"},
    ("At least 15 frames per second", "15 fps"): {"fps": "15"},
    ("At least 60 frames per second", "60 fps"): {"fps": "60"},
    ("At most 700 MB of memory", "700 MB"): {"memory": "700MB"},
    ("The most accurate, without a limit", "no limit"): {},
}
#: How long measuring is proposed for, where the answer is an estimate.
_BUDGET = "3m"


#: Where a live page is served.
PORT = 8000


@overload
def report(
    path: str | Path | None = None,
    *,
    page: bool = False,
    live: Literal[False] = False,
    first_answer: bool = False,
    system: str | None = None,
    among: str | None = None,
    engine: str | None = None,
    port: int | None = None,
    runtime: str | Path | None = None,
    table: TableLike = None,
    **limits: Any,
) -> Path: ...
@overload
def report(
    path: str | Path | None = None,
    *,
    page: bool = False,
    live: Literal[True],
    first_answer: bool = False,
    system: str | None = None,
    among: str | None = None,
    engine: str | None = None,
    port: int | None = None,
    runtime: str | Path | None = None,
    table: TableLike = None,
    **limits: Any,
) -> Server: ...
def report(
    path: str | Path | None = None,
    *,
    page: bool = False,
    live: bool = False,
    first_answer: bool = False,
    system: str | None = None,
    among: str | None = None,
    engine: str | None = None,
    port: int | None = None,
    runtime: str | Path | None = None,
    table: TableLike = None,
    **limits: Any,
) -> Path | Server:
    """Write the results of one machine (by default this one) as one HTML page, and return its path (by
    default vertebra-report.html). The page works offline.

    The page begins with the answer under `limits`, such as fps="30", memory="700MB", spelled as in `pick`; if
    none are given, under the usual ones: 30 frames per second, then others.

    Its explorer and its answers have every network with a published accuracy, with figures estimated from the
    networks that were measured on that machine; with `among="table"`, or if too few were measured for
    estimates, those of the table.

    With `live` the page is served on the loopback address instead, at `port` (8000; 0 takes any free one),
    and updated when the table grows: call `run` of the server that is returned.

    With `page` it is PaddleClas's published page for the machine, as HTML or Markdown by the path's suffix
    (by default vertebra-page.html): its tables with the printed figures next to those counted, evaluated and
    measured here. Latencies are those of `engine`, by default of the one with the most figures. In place of a
    missing figure is the command that measures it.

    With `first_answer` it is a folder (by default vertebra-first-answer) for any static host: a page that
    runs a few small networks in the browser of whoever opens it, estimates all the others on that device, and
    opens the explorer, under `limits`. `runtime` is the npm package onnxruntime-web, as npm's archive or
    unpacked; by default npm fetches it.

    Raises InvalidInputError if options contradict each other, the table is empty, or the path or the port
    can't be used, and MissingRuntimeError if the library that draws the charts isn't installed.
    """
    if first_answer:
        others: dict[str, Any] = {
            "--page": page or None,
            "--live": live or None,
            "--system": system,
            "--among": among,
        }
        others |= {"--engine": engine, "--port": port, "--table": table}
        _refuse("can't be combined with --first-answer", others)
        typed = {name: _typed(name, one) for name, one in limits.items() if one is not None}
        return first_answers.write(path, runtime=runtime, limits=typed)
    _refuse("needs --first-answer", {"--runtime": runtime})
    if page:
        limited = {f"--{name}": value for name, value in limits.items()}
        _refuse("can't be combined with --page", {"--live": live or None, "--among": among, **limited})
    if live:
        _refuse("can't be combined with --live", {"--output": path})
    if not page:
        _refuse("needs --page", {"--engine": engine})
    if not live:
        _refuse("needs --live", {"--port": port})
    source = given.table(table, create=False)
    named = None if table is None or isinstance(table, Table) else source.shown
    asked = _Asked(
        source, system, among, {name: one for name, one in limits.items() if one is not None}, named
    )
    if page:
        return _edition(source, system, engine).write(path or "vertebra-page.html")
    if live:
        return _served(asked, PORT if port is None else port)
    from vertebra.reading import reports

    return reports.write(path or "vertebra-report.html", **_reportable(asked))


def _refuse(why: str, options: dict[str, Any]) -> None:
    """Raise InvalidInputError for the first of the options that was given."""
    for name, value in options.items():
        if value is not None:
            raise InvalidInputError(f"{name} {why}.", "see: vertebra report --help")


@dataclass(frozen=True)
class _Asked:
    """What the page is asked to show: `named` is the table's path, if it isn't the user's own."""

    source: Table
    system: str | None
    among: str | None
    limits: Mapping[str, Any]
    named: str | None

    def __post_init__(self) -> None:
        candidates.ask(self.limits, among=self.among or "table")  # a misspelled limit is told before the work


def _served(asked: _Asked, port: int) -> Server:
    from vertebra.reading import reports
    from vertebra.reading.reports.server import LivePage, Server

    def made(version: str) -> str:
        return reports.html(**_reportable(asked), version=version)

    return Server(LivePage(made, asked.source.stamp), port)


def _edition(source: Table, system: str | None, engine: str | None) -> Edition:
    from vertebra import engines
    from vertebra.reading.reports.edition import edition

    if engine is not None:
        engines.find(engine)
    chosen = source.system_id(system) if system else candidates.this_system(source)
    known = latest(possible(candidates.pooled(source, source.rows())))
    rows = [row for row in known if candidates.is_of_imagenet(row) and subjects.is_of_catalogue(row)]
    described = source.system(chosen or "")
    return edition(rows, chosen, system=described, engine=engine, made_at=now()[:10])


def _reportable(asked: _Asked) -> dict[str, Any]:
    """The arguments of `reports.html` for one machine."""
    source = asked.source
    known = latest(possible(candidates.pooled(source, source.rows())))
    rows = [row for row in known if row.model != metrics.MACHINE]
    if not rows:
        raise InvalidInputError("The table is empty.", "fill it with: vertebra survey")
    usual = candidates.this_system(source)
    chosen = source.system_id(asked.system) if asked.system else usual
    shown = _reported(rows, chosen)
    among = asked.among
    if among != "table":
        priced = field.rows(shown)
        can_price = any(row.origin == "estimated" for row in priced)
        among = among or ("catalogue" if can_price else "table")
        shown = priced if among == "catalogue" else shown
    command = ["vertebra pick", f"--among {among}"]
    command += [f"--system {shlex.quote(str(chosen))}"] if chosen != usual else []
    command += [f"--table {shlex.quote(asked.named)}"] if asked.named else []
    is_usual = all(row.precision in (None, precisions.USUAL) for row in shown)
    command += [] if is_usual else [f"--precision {precisions.ANY}"]
    answers, limits = _answers(asked, among, chosen, " ".join(command), shown)
    return {
        "rows": shown,
        "system": source.system(chosen or ""),
        "answers": answers,
        "start": {name: _typed(name, one) for name, one in limits.items()},
        "asked": bool(asked.limits),
        "command": " ".join(command),
        "made_at": now()[:10],
        "histories": histories(source, system=chosen, batch_size=None),
    }


def _answers(
    asked: _Asked, among: str, system: str | None, command: str, rows: Sequence[Measurement]
) -> tuple[list[Answer], Mapping[str, Any]]:
    """The picks of the page, of the load that its explorer opens on; and the limits of the first."""
    conditions = _of_first_load(rows, system)
    filters = {"system": system, **conditions}
    command = " ".join([command, *(f"--{name} {shlex.quote(value)}" for name, value in conditions.items())])
    every: dict[tuple[str, str], Mapping[str, Any]] = (
        {_in_words(asked.limits): asked.limits} if asked.limits else {}
    )
    every |= _USUAL
    bounds = {heading: tuple(rule.bounds(limits)) for heading, limits in every.items()}
    union = tuple({limit.metric: limit for several in bounds.values() for limit in several}.values())
    main = candidates.pick(
        asked.source, Question(limits=next(iter(bounds.values())), among=among, filters=filters)
    )
    found = candidates.candidates(asked.source, Question(limits=union, among=among, filters=filters))
    made: list[tuple[Answer, Mapping[str, Any]]] = []
    for (heading, short), limits in every.items():
        picked = rule.pick(found, bounds[heading, short]) if made else main
        typed = " ".join(
            [command, *(f"--{name} {shlex.quote(_typed(name, one))}" for name, one in limits.items())]
        )
        made.append((Answer(heading, short, picked, typed, _next(picked, typed, among)), limits))
    # the usual limit may have no answer, as before a first measurement
    first = next((one for one in made if one[0].pick.choice is not None or asked.limits), made[0])
    return [first[0], *(one for one, _ in made if one is not first[0])], first[1]


def _of_first_load(rows: Sequence[Measurement], system: str | None) -> dict[str, str]:
    """What tells the first load of the machine from its others, as options of `vertebra pick`."""
    ran = [row for row in rows if row.system is not None and row.system == system]
    if not ran:
        return {}
    first = next(iter(loads.loads(wide(ran), system).values()))
    words = shlex.split(first.options)
    return {name.lstrip("-"): value for name, value in zip(words[::2], words[1::2], strict=True)}


def _typed(name: str, bound: Any) -> str:
    """A limit as the command takes it; a number is in base units."""
    if isinstance(bound, str):
        return bound
    unit = metrics.find(rule.LIMITS[name]).unit
    return repr(float(bound)).removesuffix(".0") + _BASE.get(unit, "")


#: How a base unit is typed.
_BASE = {"s": "s", "B": "B"}


def _in_words(limits: Mapping[str, Any]) -> tuple[str, str]:
    told = ", ".join(map(str, rule.bounds(limits)))
    return told[:1].upper() + told[1:], "your limits"


def _next(picked: Pick, typed: str, among: str) -> str | None:
    """What to type next: measure an estimate, else what follows from the choice."""
    row = picked.choice
    if row is None:
        return None
    asked = (picked.objective, *(limit.metric for limit in picked.limits))
    if any(row.figures[name].origin == "estimated" for name in asked if name in row.figures):
        return f"{typed} --budget {_BUDGET}" if among == "catalogue" and "--system" not in typed else None
    return next_command(row)


def _reported(rows: Iterable[Measurement], system: str | None) -> list[Measurement]:
    """The rows for a page of one machine: its own figures, those that need no machine, and the published ones
    of the classics. The tens of thousands of published rates of other networks are left out."""
    from vertebra.zoo import names

    rows = [row for row in rows if candidates.is_of_imagenet(row)]
    shown = [row for row in rows if not depends_on_machine(row)]
    run = [row for row in rows if depends_on_machine(row)]
    shown += [row for row in run if row.origin == "published" and row.model in names.CLASSICS]
    return shown + [row for row in run if row.origin != "published" and row.system == system]
