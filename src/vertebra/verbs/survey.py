"""`vertebra.survey`: measure the classics on this machine and write a report."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import zoo
from vertebra._version import __version__
from vertebra.errors import InvalidInputError, warn
from vertebra.measurements import Measurement, Table, WideRow, display, shipped
from vertebra.progress import Listener, Progress, silent
from vertebra.verbs import given, notebook, picking
from vertebra.verbs.chart import chart, compared
from vertebra.verbs.cite import cite
from vertebra.verbs.given import TableLike
from vertebra.verbs.profile import profile
from vertebra.verbs.report import report
from vertebra.zoo import names

if TYPE_CHECKING:
    from vertebra.measuring.benchmarking import Case


@dataclass(frozen=True, repr=False)
class Survey(display.Shown):
    """The result of a survey: the numbers of cases measured now, known before, failed among both, and left
    for lack of time. `fastest` has the fastest form of each network that ran, the fastest network first."""

    measured: int
    known: int
    failed: int
    report: Path
    seconds: float
    fastest: list[WideRow]
    left: int = 0

    def summary(self) -> str:
        """What was measured, and where the report is."""
        left = f", {self.left} left" if self.left else ""
        counts = f"{self.measured} cases measured, {self.known} known before, {self.failed} failed{left}"
        return f"{counts} in {self.seconds:.0f} s; report: {self.report}"

    def tables(self) -> Iterable[list[display.Line]]:
        """The fastest form of each network."""
        yield [display.glance(row) for row in self.fastest]


def survey(
    *,
    model: str | Sequence[str] = (),
    engine: str | Sequence[str] = (),
    budget: str | float = "6m",
    output: str | Path = "vertebra-survey",
    again: bool = False,
    seed: int = 0,
    shard: str | None = None,
    on: str | None = None,
    table: TableLike = None,
    progress: Listener | None = None,
    models: Sequence[str] | None = None,
    engines: Sequence[str] | None = None,
) -> Survey:
    """Cite, profile and bench the classics on the installed engines, and write a report into `output`.

    This is the quick mode: one process for each case, no grade above B. Cases that the table has for this
    machine and these versions aren't measured again, unless `again`. If no `model` is named, a few light
    networks follow in the last third of the time, from which `pick` estimates all others. Where others use a
    fifth of the processors or more, it says so and waits, for up to a minute. `budget` limits the waiting and
    measuring; if it is short, rows have fewer samples and say so, and what doesn't fit isn't begun. `shard`
    ("3/8") leaves all cases but those of that share to other machines (`campaigns.shares`); the light
    networks are in no share. `on` ("ray" or "ray://HOST:PORT") measures on the nodes of a Ray cluster
    (`campaigns.on_ray`), without the light networks. `models` and `engines` are earlier names. Raises
    InvalidInputError if the budget is too short for any.
    """
    from vertebra.campaigns import campaign, cases, on_ray, shares

    start, budget_s = time.monotonic(), given.seconds(budget)
    progress = notebook.listener(progress)
    models = given.several(given.renamed(model, models, ()))
    engines = given.several(given.renamed(engine, engines, ()))
    chosen = [zoo.find(model).name for model in models or names.CLASSICS]
    if on is not None:
        on_ray.checked(on)
    wanted = shares.of_cases(cases.cases(chosen, engines), shard, progress)
    into, folder = given.table(table), Path(output)
    page = folder / "report.html"
    known = into.rows()
    todo = wanted if again or on else cases.remaining(wanted, known)  # each node knows what it lacks
    limits = campaign.limits(len(todo), quick=True, budget_s=budget_s).brief()
    if todo:
        limits = replace(limits, seconds=min(limits.seconds, budget_s * _MOST_OF_A_SHARE / len(todo)))
    measured: list[Measurement] = []
    there: on_ray.Measured | None = None
    if todo or not page.exists():
        _check_before(todo, folder)
        cite(table=into)
        _count(chosen, known, into, len(todo), progress or silent)
        asked: dict[str, Any] = {"limits": limits, "seed": seed, "again": again, "progress": progress}
        if on is not None:
            there = on_ray.measure(todo, into, on=on, deadline=start + budget_s, **asked)
            measured = there.rows
        else:
            if todo:
                _wait_for_quiet(budget_s)
            share = 1.0 if models or shard else _SHARE
            measured = campaign.measure(todo, into, deadline=start + share * budget_s, **asked)
    count, more = _answers(measured), 0
    if not models and shard is None and on is None:
        before = len(into)
        # the harness's own engine runs nothing, so nothing can be estimated from it
        runners = [name for name in dict.fromkeys(case.engine for case in wanted) if name != "null"]
        if runners:
            picking.fill_field(into, runners, start + budget_s - time.monotonic(), progress)
        more = _answers(into.rows()[before:])
    if count or more or not page.exists():
        _draw(folder, into)
    left = len(cases.remaining(wanted, into.rows()))
    failed = len(cases.remaining(wanted, into.rows(metric="latency"))) - left
    known_before = len(wanted) - len(todo) if not again else 0
    if there is not None:
        known_before, left = there.known, there.left
        failed = sum(row.metric == "failure" for row in measured)
    seconds = time.monotonic() - start
    return Survey(count + more, known_before, failed, page, seconds, _fastest_forms(into), left)


def _wait_for_quiet(budget_s: float) -> None:
    """Say how busy others keep the processors, and wait for a part of the time if that is too much."""
    from vertebra.measuring.benchmarking import quiet

    waited = str(quiet.wait(min(quiet.LONGEST_S, budget_s * _WAITED), warn))
    if waited:
        warn(f"{waited}.")


#: The part of the time that may be spent waiting until others leave the processors.
_WAITED = 1 / 4
#: What warm-up and blocks of one case take at most, in equal shares of the time: a case whose samples never
#: agree would otherwise take all that others leave.
_MOST_OF_A_SHARE = 1 / 2
#: The part of the time that the classics get.
_SHARE = 2 / 3


def _answers(rows: Iterable[Measurement]) -> int:
    """How many cases the rows are of."""
    return sum(row.metric in ("latency", "failure") for row in rows)


def _check_before(todo: Sequence[Case], folder: Path) -> None:
    """Raise now what would otherwise fail after minutes of measuring."""
    from vertebra.campaigns import exports
    from vertebra.reading import charts

    charts.require()
    exports.check_room(todo)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"Can't create the folder {folder}: {error.strerror}.", "name another folder with --output"
        ) from error


def _count(
    chosen: Sequence[str], known: Sequence[Measurement], into: Table, cases: int, progress: Listener
) -> None:
    """Append our counts of the classics and of `chosen`, at their own input sizes: those that ship, and of
    other networks those that this version hasn't counted yet, if torch is there to build them.

    All classics are counted, surveyed or not, because a chart doesn't mix published counts with ours.
    """
    from vertebra.measuring.citations import libraries

    wanted = dict.fromkeys([*names.CLASSICS, *chosen])
    into.append(libraries.counts(models=wanted))
    counted = {
        row.model for row in known if row.metric == "macs" and row.versions.get("vertebra") == __version__
    }
    missing = [model for model in wanted if model not in shipped.counts() and model not in counted]
    if missing and importlib.util.find_spec("torch") is not None:
        progress(Progress("counting parameters and operations", 0, cases, "cases"))
        profile(*missing, table=into)


def _draw(folder: Path, table: Table) -> None:
    """Write the report, a chart of operations, and a chart of each engine's latency."""
    report(folder / "report.html", table=table)
    engines = {row.conditions.get("engine") for row in _timed(table)}
    drawn = {"operations": chart(table=table)}
    drawn.update({f"latency-{name}": chart(x="latency", engine=name, table=table) for name in engines})
    for name, picture in drawn.items():
        picture.save(folder / f"{name}.svg")
        picture.save(folder / f"{name}.png")


def _timed(table: Table) -> list[WideRow]:
    return [row for row in compared(table=table) if "latency" in row.figures]


def _fastest_forms(table: Table) -> list[WideRow]:
    """The form with the lowest latency of each network, the fastest network first."""
    best: dict[str, WideRow] = {}
    for row in sorted(_timed(table), key=lambda row: row.figures["latency"].value):
        best.setdefault(row.model, row)
    return list(best.values())
