"""What one table brings into another: the runs that it lacks, and the marks of forgotten ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, TableError, VertebraError
from vertebra.measurements import forgetting, kept_runs, prices
from vertebra.measurements.record import row_of
from vertebra.measurements.run import Run

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from vertebra.measurements.database import Store


@dataclass(frozen=True)
class Refused:
    """A run that stays behind, and why."""

    run: str
    why: str


@dataclass(frozen=True)
class Brought:
    """What one source brought: `rows` in new `runs` or in those that it completed; the rows and runs that
    were `there`; the runs that are `forgotten` now because they are in the source; and what was refused.

    `prices` counts the machines whose price came, being newer than the one that was there. `left_out` counts
    runs with impossible rows that are forgotten in the source: they stay there.
    """

    source: str
    runs: int = 0
    rows: int = 0
    there_runs: int = 0
    there_rows: int = 0
    forgotten: int = 0
    left_out: int = 0
    refused: tuple[Refused, ...] = ()
    prices: int = 0


@dataclass
class _Held:
    """All that a table holds, in one view of it."""

    runs: list[Run] = field(default_factory=list)
    broken: dict[str, TableError] = field(default_factory=dict)
    systems: dict[str, dict[str, Any]] = field(default_factory=dict)
    marks: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    said: dict[str, prices.Said] = field(default_factory=dict)


def _held(store: Store) -> _Held:
    def read(connection: Connection) -> _Held:
        runs, broken = kept_runs.read(connection)
        return _Held(
            runs, broken, kept_runs.systems(connection), forgetting.marks_in(connection),
            prices.said_in(connection),
        )  # fmt: skip

    return store.read(read) or _Held()


def bring(into: Store, source: Store, *, strict: bool = False) -> Brought:
    """Add to `into` what `source` holds and it lacks, in one transaction. Doing it again adds nothing, and
    the order of sources makes no difference.

    What is forgotten in one of them is forgotten in both. A run with a row that can't be, and one that isn't
    what its id was made of, is refused, and the others come; if `strict`, the first such run is raised and
    nothing comes.
    """
    held = _held(source)
    refused: list[tuple[str, VertebraError]] = []
    left_out = 0
    ids = [run.id for run in held.runs]
    known, broken = into.read(lambda connection: kept_runs.read(connection, ids)) or ([], {})
    there = {run.id: run for run in known}
    wanted: list[Run] = []
    for run_id, error in held.broken.items():
        if run_id in held.marks:
            left_out += 1
        else:
            refused.append((run_id, error))
    for run in held.runs:
        why = broken.get(run.id) or _obstacle(run, there.get(run.id), source.shown)
        if why is None:
            wanted.append(run)
        elif run.id in held.marks and isinstance(why, InvalidInputError):
            left_out += 1
        else:
            refused.append((run.id, why))
    if strict and refused:
        raise refused[0][1]
    new = [run for run in wanted if run.id not in there or there[run.id].joined(run) != there[run.id]]
    rows, forgotten, priced = _written(into, held, wanted, new)
    return Brought(
        source.shown,
        runs=sum(run.id not in there for run in new),
        rows=rows,
        there_runs=sum(run.id in there for run in wanted),
        there_rows=kept_runs.rows_of(wanted) - rows,
        forgotten=forgotten,
        prices=priced,
        left_out=left_out,
        refused=tuple(Refused(run_id, why.message) for run_id, why in refused),
    )


def _written(into: Store, held: _Held, wanted: list[Run], new: list[Run]) -> tuple[int, int, int]:
    """Write the new runs, the marks of those that are there then, and the prices that are newer; how many
    rows, marks and prices came."""
    came = {run.id for run in wanted}
    ours = {run for (run,) in into.select("SELECT id FROM runs")} if held.marks else set()
    marks = {run: mark for run, mark in held.marks.items() if run in came or run in ours}
    marks = {run: mark for run, mark in marks.items() if run not in forgetting.marks(into)} if marks else {}
    known = {system for (system,) in into.select("SELECT id FROM systems")} if held.systems else set()
    systems = {name: one for name, one in held.systems.items() if name not in known}
    ours_said = (into.read(prices.said_in) or {}) if held.said else {}
    said = {
        name: one for name, one in held.said.items() if name not in ours_said or ours_said[name].at < one.at
    }
    if not new and not marks and not systems and not said:
        return 0, 0, 0

    def write(connection: Connection) -> tuple[int, int]:
        kept_runs.add_systems(connection, systems)
        added = sum(kept_runs.add(connection, run) for run in new)
        forgetting.mark(connection, marks)
        return added, prices.say(connection, said)

    rows, priced = into.write(write)
    return rows, len(marks), priced


def _obstacle(run: Run, there: Run | None, shown: str) -> VertebraError | None:
    """Why a run can't come: it isn't the one that is `there` under its id, or a row of it can't be."""
    if there is not None:
        try:
            there.joined(run)
        except TableError as error:
            return error
        return None
    return _impossible(run, shown)


def _impossible(run: Run, shown: str) -> VertebraError | None:
    for place, record in enumerate(run.records):
        try:
            row_of(record)
        except VertebraError as error:
            return InvalidInputError(
                f"{shown}, run {run.id[:8]}, row {place}: {error.message}",
                f"leave the run out: vertebra table --forget {run.id[:8]} --table {shown}",
            )
    return None
