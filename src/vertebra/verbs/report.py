"""`vertebra.report`: what the table holds of one machine, as a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import choosing, metrics, recommendation
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, Table, depends_on_machine, now
from vertebra.verbs import given
from vertebra.verbs.given import TableLike
from vertebra.verbs.pick import pick

if TYPE_CHECKING:
    from vertebra.reports.server import Server


#: Headings of the report's picks, and their limits.
_PICKS: dict[str, dict[str, Any]] = {
    "The most accurate": {},
    "At least 15 frames per second": {"fps": "15"},
    "Real time: at least 30 frames per second": {"fps": "30"},
    "At least 60 frames per second": {"fps": "60"},
    "At most 700 MB of memory": {"memory": "700MB"},
}


def report(
    path: str | Path = "vertebra-report.html",
    *,
    system: str | None = None,
    table: TableLike = None,
    among: str = "table",
) -> Path:
    """Write what the table tells of one machine (this one, where none is named) as one HTML page.

    With `among="catalogue"`, its explorer and its picks have every network whose accuracy is published,
    priced from those that were measured on that machine. The page needs no network. Raises InvalidInputError
    where the table is empty or the path can't be written, and MissingRuntimeError where what draws its charts
    isn't installed.
    """
    from vertebra import reports

    return reports.write(path, **_reportable(given.table(table, create=False), system, among))


def live_report(
    *, port: int = 0, system: str | None = None, table: TableLike = None, among: str = "table"
) -> Server:
    """`report`'s page on the loopback address, made anew when the table grows; `run` the server that comes.

    Raises what `report` raises, and InvalidInputError where the port can't be had.
    """
    from vertebra import reports
    from vertebra.reports.server import LivePage, Server

    source = given.table(table, create=False)

    def made(version: str) -> str:
        return reports.html(**_reportable(source, system, among), version=version)

    return Server(LivePage(made, source.path), port)


def edition(
    path: str | Path = "vertebra-page.html",
    *,
    system: str | None = None,
    engine: str | None = None,
    table: TableLike = None,
) -> Path:
    """Write PaddleClas's published page for one machine (this one, where none is named): its tables, with
    what was printed beside what was counted, evaluated and measured here, as HTML or as Markdown by the
    path's end.

    Latencies are those of `engine`, or of the one that tells most. What is missing names the command that
    fills it. Raises InvalidInputError where the path can't be written, or ends in neither.
    """
    from vertebra import engines
    from vertebra.reports.edition import edition

    if engine is not None:
        engines.find(engine)
    source = given.table(table, create=False)
    chosen = system or choosing.this_system(source)
    told = [row for row in source.latest() if choosing.is_of_imagenet(row)]
    described = source.systems().get(chosen or "")
    return edition(told, chosen, system=described, engine=engine, made_at=now()[:10]).write(path)


def _reportable(source: Table, system: str | None, among: str) -> dict[str, Any]:
    """What the report of one machine is made of, as `reports.html` takes it."""
    rows = [row for row in source.latest() if row.model != metrics.MACHINE]
    if not rows:
        raise InvalidInputError("The table is empty.", "fill it with: vertebra survey")
    chosen = system or choosing.this_system(source)
    filters = {"system": chosen}
    picks = [
        (heading, recommendation.sentences(pick(table=source, filters=filters, among=among, **limits)))
        for heading, limits in _PICKS.items()
    ]
    told = _reported(rows, chosen)
    return {
        "rows": choosing.with_catalogue(told) if among == "catalogue" else told,
        "system": source.systems().get(chosen or ""),
        "pick": picks,
        "made_at": now()[:10],
    }


def _reported(rows: Iterable[Measurement], system: str | None) -> list[Measurement]:
    """What a page of one machine tells: its own figures, what needs no machine, and what was published of the
    classics on others; the tens of thousands of published rates of the rest say nothing about this one."""
    from vertebra.zoo import names

    rows = [row for row in rows if choosing.is_of_imagenet(row)]
    told = [row for row in rows if not depends_on_machine(row)]
    run = [row for row in rows if depends_on_machine(row)]
    told += [row for row in run if row.origin == "published" and row.model in names.CLASSICS]
    return told + [row for row in run if row.origin != "published" and row.system == system]
