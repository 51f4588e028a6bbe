"""`vertebra.check`: whether a locked choice still is the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import VertebraError
from vertebra.machine import files
from vertebra.measurements import Measurement, Table, WideRow
from vertebra.measurements.views import NEEDING_A_MACHINE
from vertebra.reading import lockfile
from vertebra.reading.choice import candidates, next_to_measure, standing
from vertebra.reading.choice.standing import Checked, Now
from vertebra.reading.lockfile import Lock
from vertebra.verbs import given, notebook
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.measuring.benchmarking import Case
    from vertebra.progress import Listener

#: Better networks that missed a limit by at most this much when the lock was made are measured again too.
_NEAR = 1.15
#: With less time for each case, it is measured in one process instead of three.
_THOROUGH_S = 40.0
#: An estimate isn't measured in less than this.
_LEAST_S = 10.0

#: Measures cases until a deadline (of `time.monotonic`), and returns their rows.
Bench = Callable[[Sequence["Case"], float], Sequence[Measurement]]


def check(
    path: str | Path = lockfile.NAME,
    *,
    budget: str | float = "1m",
    measure: bool = True,
    table: TableLike = None,
    progress: Listener | None = None,
) -> Checked:
    """Whether the choice in the lockfile at `path`, which `pick(..., lock=path)` wrote, still is the best.

    Measures again what the choice depends on for up to `budget`, a time: its own form, the networks that only
    missed a limit, and one that is better by an estimate. Their rows are appended to the table. Without
    `measure` the table's present rows are judged. A lock of another machine measures nothing: sizes, counts
    and accuracies are checked. The result's `outcome` is "holds", "broken", "outdone" or "not judged", its
    `status` the command's exit status. Raises InvalidInputError where there is no lockfile, or not one.
    """
    budget_s = given.seconds(budget)
    lock = lockfile.read(files.named(path))
    source = given.table(table, create=measure)
    return settled(lock, source, budget_s, _bench(source, notebook.listener(progress)) if measure else None)


def settled(lock: Lock, source: Table, budget_s: float, bench: Bench | None) -> Checked:
    """The judgement of the lock, after `bench` has measured what it depends on; without one, of the table's
    present rows."""
    from vertebra.machine.system import describe

    start, here = time.monotonic(), describe().id
    fresh: list[Measurement] = []
    measured: dict[tuple[Any, ...], str] = {}
    obstacles: tuple[str, ...] = ()
    is_here = lock.needs_machine and not standing.is_elsewhere(lock, here)
    if bench is not None and is_here:
        wanted, obstacles = _wanted(lock)
        if wanted:
            fresh += bench(wanted, start + budget_s)
            measured = {
                (case.model, case.engine, case.precision): f"{case.model} on {case.engine}" for case in wanted
            }
            obstacles = _of_own(lock, fresh)
    while True:
        told: list[str] = []
        known, _ = candidates.priced(candidates.candidates(source, lock.question, told), lock.question)
        rows = [row for row in known if not _failed(row, measured, lock)]
        notes = (*_failures(fresh, but=lock.network[0]), *told)
        now = Now(rows, here, _installed(lock), fresh, obstacles, tuple(measured.values()), notes)
        checked = standing.judge(lock, now)
        better = checked.better
        has_time = time.monotonic() < start + budget_s - _LEAST_S
        if bench is None or not is_here or better is None or checked.outcome != "not judged" or not has_time:
            return checked
        cases, why = _cases(better.model, better.conditions)
        if why is not None:
            return replace(checked, reasons=(*checked.reasons, why))
        measured[_way(better)] = _named(better)
        fresh += bench(cases, start + budget_s)


def _named(row: WideRow) -> str:
    """What was measured, in words."""
    return f"{row.model} on {row.conditions.get('engine')}"


def _way(row: WideRow) -> tuple[Any, ...]:
    return row.model, row.conditions.get("engine"), row.conditions.get("precision")


def _failed(row: WideRow, measured: Mapping[tuple[Any, ...], str], lock: Lock) -> bool:
    """Whether a network is still estimated although it was to be measured: it can't run here, or took too
    long."""
    return _way(row) in measured and next_to_measure.is_estimated(row, lock.question.asked)


# ------------------------------------------------------------------ what is measured


def _wanted(lock: Lock) -> tuple[list[Case], tuple[str, ...]]:
    """The cases that the choice depends on, its own first; or why that can't be measured."""
    wanted, why = _cases(lock.network[0], lock.form, is_file=lock.network[1] is not None)
    if why is not None:
        return [], (why,)
    near = [*(one for one in lock.better if _is_near(lock, one))]
    if lock.question.objective in NEEDING_A_MACHINE:
        near = [*lock.runners_up[:1], *near]
    for one in near[:2]:
        form = {**lock.form, "engine": one.get("engine"), "precision": one.get("precision")}
        form.pop("input_size", None)
        wanted += _cases(str(one["model"]), form)[0]
    return wanted, ()


def _is_near(lock: Lock, one: Mapping[str, Any]) -> bool:
    """Whether a better network missed by little, when the lock was made, what can be measured."""
    figures = one.get("figures")
    for limit in lock.question.limits:
        figure = figures.get(limit.metric) if isinstance(figures, dict) else None
        value = figure.get("value") if isinstance(figure, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            return False
        most = _NEAR if limit.metric in NEEDING_A_MACHINE else 1.0
        if (value / limit.bound if limit.is_ceiling else limit.bound / value) > most:
            return False
    return True


def _cases(model: str, form: Mapping[str, Any], *, is_file: bool = False) -> tuple[list[Case], str | None]:
    """The case of a network in a form; or none, and why it can't be measured here."""
    from vertebra.campaigns import cases
    from vertebra.campaigns.load import Load

    if is_file:
        return [], (
            f"{model} comes from a file, which the lock doesn't hold. Measure it with vertebra bench FOLDER, "
            "then run vertebra check --no-measure."
        )
    if form.get("scenario", "single-stream") == "server":
        return [], f"{model} was measured as a server, which vertebra check can't repeat; use vertebra bench."
    try:
        load = Load(
            form.get("scenario", "single-stream"),
            streams=(int(form.get("streams") or 1),),
            beside=form.get("beside"),
        )
        found = cases.cases(
            [model], [str(form["engine"])], batch_sizes=[int(form.get("batch_size") or 1)],
            input_size=form.get("input_size"), threads=form.get("threads"),
            precisions=[str(form.get("precision") or "float32")], device=str(form.get("device") or "cpu"),
            load=load,
        )  # fmt: skip
    except VertebraError as error:
        return (
            [],
            f"{error.message} {error.hint[:1].upper()}{error.hint[1:]}." if error.hint else error.message,
        )
    return found, None


def _of_own(lock: Lock, fresh: Sequence[Measurement]) -> tuple[str, ...]:
    """Why the choice itself wasn't measured just now, or nothing."""
    model, engine = lock.network[0], lock.form.get("engine")
    own = [row for row in fresh if (row.model, row.engine) == (model, engine)]
    failures = list(_failures(own))
    if failures:
        return (failures[0],)
    if not any(row.metric in NEEDING_A_MACHINE for row in own):
        return (f"There was no time to measure {model} on {engine}; allow more with --budget.",)
    return ()


def _failures(rows: Sequence[Measurement], but: str | None = None) -> Iterator[str]:
    for row in rows:
        if row.metric == "failure" and row.model != but:
            yield f"Measuring {row.model} on {row.engine} failed: {'; '.join(row.grade_reasons)}."


def _installed(lock: Lock) -> Mapping[str, str]:
    """The installed versions of what the choice's engine is."""
    from vertebra import engines
    from vertebra.machine import system

    try:
        info = engines.find(str(lock.form.get("engine")))
    except VertebraError:  # an engine that this version doesn't know has no version either
        return {}
    return system.library_versions(info.distributions)


def _bench(source: Table, progress: Listener | None) -> Bench:
    """A function that measures cases into the table: thoroughly where the time allows it."""

    def bench(wanted: Sequence[Case], deadline: float) -> Sequence[Measurement]:
        from vertebra.campaigns import campaign

        left_s = deadline - time.monotonic()
        limits = campaign.limits(len(wanted), quick=left_s < _THOROUGH_S * len(wanted))
        return campaign.measure(wanted, source, limits=limits, deadline=deadline, progress=progress)

    return bench
