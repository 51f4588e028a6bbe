"""`vertebra.report`: the results of one machine as a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from vertebra import metrics
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, Table, depends_on_machine, latest, now, subjects
from vertebra.measurements.views import possible
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
    """Write the results of one machine (by default this one) as one HTML page, and return its path (by
    default vertebra-report.html). The page works offline.

    With `among="catalogue"`, its explorer and its picks have every network with a published accuracy, with
    figures estimated from the networks that were measured on that machine.

    With `live` the page is served on the loopback address instead, at `port` (8000; 0 takes any free one),
    and updated when the table grows: call `run` of the server that is returned.

    With `page` it is PaddleClas's published page for the machine, as HTML or Markdown by the path's suffix
    (by default vertebra-page.html): its tables with the printed figures next to those counted, evaluated and
    measured here. Latencies are those of `engine`, by default of the one with the most figures. In place of a
    missing figure is the command that measures it.

    Raises InvalidInputError if options contradict each other, the table is empty, or the path or the port
    can't be used, and MissingRuntimeError if the library that draws the charts isn't installed.
    """
    if page:
        _refuse("can't be combined with --page", {"--live": live or None, "--among": among})
    if live:
        _refuse("can't be combined with --live", {"--output": path})
    if not page:
        _refuse("needs --page", {"--engine": engine})
    if not live:
        _refuse("needs --live", {"--port": port})
    source = given.table(table, create=False)
    if page:
        return _edition(source, system, engine).write(path or "vertebra-page.html")
    if live:
        return _served(source, system, among or "table", PORT if port is None else port)
    from vertebra.reading import reports

    return reports.write(path or "vertebra-report.html", **_reportable(source, system, among or "table"))


def _refuse(why: str, options: dict[str, Any]) -> None:
    """Raise InvalidInputError for the first of the options that was given."""
    for name, value in options.items():
        if value is not None:
            raise InvalidInputError(f"{name} {why}.", "see: vertebra report --help")


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
    chosen = source.system_id(system) if system else candidates.this_system(source)
    rows = [
        row for row in source.latest() if candidates.is_of_imagenet(row) and subjects.is_of_catalogue(row)
    ]
    described = source.system(chosen or "")
    return edition(rows, chosen, system=described, engine=engine, made_at=now()[:10])


def _reportable(source: Table, system: str | None, among: str) -> dict[str, Any]:
    """The arguments of `reports.html` for one machine."""
    known = latest(possible(candidates.pooled(source, source.rows())))
    rows = [row for row in known if row.model != metrics.MACHINE]
    if not rows:
        raise InvalidInputError("The table is empty.", "fill it with: vertebra survey")
    chosen = source.system_id(system) if system else candidates.this_system(source)
    filters = {"system": chosen}
    picks = [
        (heading, rule.sentences(pick(table=source, filters=filters, among=among, **limits)))
        for heading, limits in _PICKS.items()
    ]
    shown = _reported(rows, chosen)
    return {
        "rows": candidates.with_catalogue(shown) if among == "catalogue" else shown,
        "system": source.system(chosen or ""),
        "pick": picks,
        "made_at": now()[:10],
    }


def _reported(rows: Iterable[Measurement], system: str | None) -> list[Measurement]:
    """The rows for a page of one machine: its own figures, those that need no machine, and the published ones
    of the classics. The tens of thousands of published rates of other networks are left out."""
    from vertebra.zoo import names

    rows = [row for row in rows if candidates.is_of_imagenet(row)]
    shown = [row for row in rows if not depends_on_machine(row)]
    run = [row for row in rows if depends_on_machine(row)]
    shown += [row for row in run if row.origin == "published" and row.model in names.CLASSICS]
    return shown + [row for row in run if row.origin != "published" and row.system == system]
