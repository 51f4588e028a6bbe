"""`vertebra.report`: what the table holds of one machine, as a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from vertebra import metrics
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, Table, depends_on_machine, now
from vertebra.reading.choice import candidates, rule
from vertebra.verbs import given
from vertebra.verbs.given import TableLike
from vertebra.verbs.pick import pick

if TYPE_CHECKING:
    from vertebra.reading.reports.edition import Edition
    from vertebra.reading.reports.server import Server


#: Headings of the report's picks, and their limits.
_PICKS: dict[str, dict[str, Any]] = {
    "The most accurate": {},
    "At least 15 frames per second": {"fps": "15"},
    "Real time: at least 30 frames per second": {"fps": "30"},
    "At least 60 frames per second": {"fps": "60"},
    "At most 700 MB of memory": {"memory": "700MB"},
}


#: Where a live page is served.
PORT = 8000


@overload
def report(
    path: str | Path | None = None,
    *,
    page: bool = False,
    live: Literal[False] = False,
    system: str | None = None,
    among: str | None = None,
    engine: str | None = None,
    port: int | None = None,
    table: TableLike = None,
) -> Path: ...
@overload
def report(
    path: str | Path | None = None,
    *,
    page: bool = False,
    live: Literal[True],
    system: str | None = None,
    among: str | None = None,
    engine: str | None = None,
    port: int | None = None,
    table: TableLike = None,
) -> Server: ...
def report(
    path: str | Path | None = None,
    *,
    page: bool = False,
    live: bool = False,
    system: str | None = None,
    among: str | None = None,
    engine: str | None = None,
    port: int | None = None,
    table: TableLike = None,
) -> Path | Server:
    """Write what the table holds of one machine (this one, where none is named) as one HTML page, and return
    its path (vertebra-report.html, where none is given).

    With `among="catalogue"`, its explorer and its picks have every network whose accuracy is published,
    priced from those that were measured on that machine. The page needs no network.

    With `live` the page is served on the loopback address instead, at `port` (8000; 0 takes any that is
    free), and made anew when the table grows: `run` the server that is returned.

    With `page` it is PaddleClas's published page for the machine, as HTML or Markdown by the path's end
    (vertebra-page.html): its tables, with what was printed beside what was counted, evaluated and measured
    here. Latencies are those of `engine`, or of the one with the most figures. What is missing names the
    command that fills it.

    Raises InvalidInputError where options contradict each other, the table is empty, or the path or the port
    can't be had, and MissingRuntimeError where what draws the charts isn't installed.
    """
    _refuse("--page", page, {"--live": live or None, "--among": among})
    _refuse("--live", live, {"--output": path})
    _refuse("a report without --page", not page, {"--engine": engine})
    _refuse("a report without --live", not live, {"--port": port})
    source = given.table(table, create=False)
    if page:
        return _edition(source, system, engine).write(path or "vertebra-page.html")
    if live:
        return _served(source, system, among or "table", PORT if port is None else port)
    from vertebra.reading import reports

    return reports.write(path or "vertebra-report.html", **_reportable(source, system, among or "table"))


def _refuse(what: str, is_asked: bool, strangers: dict[str, Any]) -> None:
    """Refuse options that `what` takes no notice of."""
    for name, value in strangers.items():
        if is_asked and value is not None:
            raise InvalidInputError(f"{name} isn't of {what}.", "leave one of the two out; see --help")


def _served(source: Table, system: str | None, among: str, port: int) -> Server:
    from vertebra.reading import reports
    from vertebra.reading.reports.server import LivePage, Server

    def made(version: str) -> str:
        return reports.html(**_reportable(source, system, among), version=version)

    return Server(LivePage(made, source.path), port)


def _edition(source: Table, system: str | None, engine: str | None) -> Edition:
    from vertebra import engines
    from vertebra.reading.reports.edition import edition

    if engine is not None:
        engines.find(engine)
    chosen = system or candidates.this_system(source)
    rows = [row for row in source.latest() if candidates.is_of_imagenet(row)]
    described = source.systems().get(chosen or "")
    return edition(rows, chosen, system=described, engine=engine, made_at=now()[:10])


def _reportable(source: Table, system: str | None, among: str) -> dict[str, Any]:
    """What the report of one machine is made of, as `reports.html` takes it."""
    rows = [row for row in source.latest() if row.model != metrics.MACHINE]
    if not rows:
        raise InvalidInputError("The table is empty.", "fill it with: vertebra survey")
    chosen = system or candidates.this_system(source)
    filters = {"system": chosen}
    picks = [
        (heading, rule.sentences(pick(table=source, filters=filters, among=among, **limits)))
        for heading, limits in _PICKS.items()
    ]
    told = _reported(rows, chosen)
    return {
        "rows": candidates.with_catalogue(told) if among == "catalogue" else told,
        "system": source.systems().get(chosen or ""),
        "pick": picks,
        "made_at": now()[:10],
    }


def _reported(rows: Iterable[Measurement], system: str | None) -> list[Measurement]:
    """What a page of one machine tells: its own figures, what needs no machine, and what was published of the
    classics on others; the tens of thousands of published rates of the rest say nothing about this one."""
    from vertebra.zoo import names

    rows = [row for row in rows if candidates.is_of_imagenet(row)]
    told = [row for row in rows if not depends_on_machine(row)]
    run = [row for row in rows if depends_on_machine(row)]
    told += [row for row in run if row.origin == "published" and row.model in names.CLASSICS]
    return told + [row for row in run if row.origin != "published" and row.system == system]
