"""Many cases measured within a budget, each result appended to the table at once.

Cases are measured side by side in groups, and a group is appended as soon as it is measured: an interruption
loses at most the current group, and the same call continues from there. Only one group's networks are
exported at a time, so the disk holds a few networks and not eleven.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import groupby

from vertebra import engines, units
from vertebra.campaigns.cases import expected_bytes, multiply_accumulates, remaining
from vertebra.campaigns.exports import has_room, prepared, scratch_folder, subject_of
from vertebra.errors import InvalidInputError, OutOfTimeError
from vertebra.exporting.process import TIMEOUT_S, Exporter
from vertebra.machine import files, system
from vertebra.measurements import Measurement, Table
from vertebra.measuring import benchmarking
from vertebra.measuring.benchmarking import Case, Limits, Result, plausibility
from vertebra.measuring.benchmarking.budget import LEAST_S
from vertebra.measuring.benchmarking.results import failed
from vertebra.progress import Listener, Progress, silent

#: Seconds that a case costs in addition to its samples (start, import, load, its part of the export); used to
#: estimate the time left until some cases are finished.
_OVERHEAD_S = 5.0
#: How many cases are measured side by side: an interruption loses the current ones.
_GROUP, _QUICK_GROUP = 12, 6
#: Seconds of a case if none are given, and the most if all cases share a budget.
_SECONDS, _QUICK_S, _MOST_S = 30.0, 10.0, 60.0
#: Seconds between two checks whether another process is still measuring.
LOOK_S = 0.5


def limits(
    number: int,
    *,
    processes: int | None = None,
    quick: bool = False,
    seconds: float | None = None,
    budget_s: float | None = None,
) -> Limits:
    """The limits of `number` cases that get `seconds` each, or share `budget_s`.

    Raises InvalidInputError if these contradict each other or are too small to measure anything.
    """
    if quick and processes not in (None, 1):
        raise InvalidInputError(
            f"The quick mode has one process, not {processes}.", "leave out --quick or --processes"
        )
    if seconds is not None and budget_s is not None:
        raise InvalidInputError(
            "Both a time for each case and a time for all cases were given.",
            "pass --seconds for each case, or --budget for all",
        )
    chosen = Limits.quick if quick or processes == 1 else Limits
    count = 1 if quick else (processes or Limits.processes)
    if count < 1:
        raise InvalidInputError(f"{count} processes were asked for; at least 1 is needed.")
    least = count * LEAST_S / 4 if budget_s is None else number * count * LEAST_S
    given = seconds if budget_s is None else budget_s
    if given is not None and given < least:
        what = "a case" if budget_s is None else f"{number} cases"
        raise InvalidInputError(
            f"{units.show(given, 's')} is too short for {what} in {count} processes each.",
            f"give at least {least:g}s; good figures need more",
        )
    usual = _QUICK_S if count == 1 else _SECONDS
    return chosen(processes=count, seconds=seconds or (usual if budget_s is None else _MOST_S))


def measure(
    wanted: Iterable[Case],
    table: Table,
    *,
    limits: Limits | None = None,
    deadline: float | None = None,
    seed: int = 0,
    again: bool = True,
    progress: Listener | None = None,
) -> list[Measurement]:
    """Measure `wanted`, light networks first, and append each cohort's rows to `table` at once; returns the
    rows.

    With a `deadline` (of `time.monotonic`) the cases share the time until then. What can't be finished by
    then isn't begun, and what hangs is stopped a few seconds later; neither leaves a row. Unless `again`,
    cases that another process has measured meanwhile are left out. Only one process measures into a table at
    a time: two would disturb each other.
    """
    ordered = sorted(
        wanted, key=lambda case: (multiply_accumulates(case), case.model, case.network_sha256 or "")
    )
    limits = limits or Limits()
    pace, listener = _Pace(len(ordered), limits, deadline), progress or silent
    measured: list[Measurement] = []
    known = recorded = 0
    with Exporter(_most_s(limits), end=deadline) as exporter, contextlib.suppress(OutOfTimeError):
        for group in _groups(ordered, _QUICK_GROUP if limits.is_quick else _GROUP):
            if pace.is_over():
                break
            with files.sole_use(
                table.lock,
                wait=lambda: listener(pace.event("waiting for another process to measure")),
                poll_s=LOOK_S,
                patience_s=None if deadline is None else max(0.0, deadline - time.monotonic()),
            ):
                todo = group if again else remaining(group, table.rows())
                known += len(group) - len(todo)
                pace.skip(len(group) - len(todo))
                with contextlib.closing(_results(todo, exporter, limits, pace, seed, listener)) as results:
                    for result in results:
                        rows = plausibility.against_other_batches(result.rows, measured)
                        table.append(rows, samples=result.samples, system=system.describe())
                        measured += rows
                        pace.finish_one()
                        recorded += 1
    missed = len(ordered) - known - recorded
    if deadline is not None and missed:
        listener(Progress(f"{missed} of {len(ordered)} cases weren't measured: the time was up"))
    return measured


def _most_s(limits: Limits) -> float:
    """Seconds after which an export counts as hung: few where an answer must come soon."""
    return TIMEOUT_S if limits.timeout_s >= Limits.timeout_s else 2 * limits.timeout_s


def _results(
    cases_: list[Case],
    exporter: Exporter,
    limits: Limits,
    pace: _Pace,
    seed: int,
    progress: Listener,
) -> Generator[Result, None, None]:
    """What the cases give, after the networks that they need as Bundles were exported."""
    here, deadline = system.describe().id, pace.deadline_of(len(cases_))
    with scratch_folder() as scratch:
        ready: list[Case] = []
        for case, obstacle in prepared(
            cases_, exporter, scratch, lambda event: progress(pace.event(event.text))
        ):
            if obstacle is None:
                ready.append(case)
            elif isinstance(obstacle, OutOfTimeError):
                pace.skip(1)
            else:
                info = engines.find(case.engine)
                yield failed(case, info, obstacle.message, hint=obstacle.hint, system=here)
        yield from benchmarking.measure_all(
            ready,
            limits,
            system=here,
            seed=seed,
            expected_bytes=expected_bytes,
            deadline=deadline,
            end=pace.end,
            progress=pace.counted_on(progress),
        )


def _groups(ordered: Sequence[Case], most: int) -> Iterator[list[Case]]:
    """Cases that are measured side by side: at most `most`, those of one network together if possible, and
    only as many as the scratch folder has room for."""
    group: list[Case] = []
    for _, found in groupby(ordered, key=subject_of):
        same = list(found)
        if group and (len(group) + len(same) > most or not has_room([*group, *same])):
            yield group
            group = []
        group += same
        while len(group) > most:
            yield group[:most]
            group = group[most:]
    if group:
        yield group


class _Pace:
    """How far the work has come, and how long the rest may take."""

    def __init__(self, total: int, limits: Limits, deadline: float | None) -> None:
        self.done, self.total, self._under_way = 0, total, 0.0
        self._limits, self.end = limits, deadline
        self._began = time.monotonic()
        self._measured = 0
        self._case_s = limits.seconds + limits.processes * _OVERHEAD_S

    def event(self, text: str) -> Progress:
        return Progress(text, self.done + self._under_way, self.total, "cases", self.left_s())

    def counted_on(self, progress: Listener) -> Listener:
        """A listener for events that count the next cases from 0: `progress` gets them counted from the start
        of all the work."""
        first = self.done

        def count(event: Progress) -> None:
            self._under_way = first + event.done - self.done
            progress(self.event(event.text))

        return count

    def is_over(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end

    def skip(self, cases_: int) -> None:
        """Count `cases_` that another process has measured, or that aren't begun any more."""
        self.done += cases_

    def finish_one(self) -> None:
        self.done, self._measured, self._under_way = self.done + 1, self._measured + 1, 0.0
        self._case_s = (time.monotonic() - self._began) / self._measured

    def deadline_of(self, cases_: int) -> float | None:
        """When a group of `cases_` of the remaining cases must be finished, each with an equal share of time.

        The lightest cases come first, so time that they don't use goes to the heavy ones.
        """
        if self.end is None:
            return None
        now = time.monotonic()
        return now + (self.end - now) * cases_ / max(1, self.total - self.done)

    def left_s(self) -> float:
        """Seconds until all is done: those until the deadline, or by what the cases so far took each (by what
        they may take, until one is done)."""
        left = self.total - self.done - self._under_way
        if self.end is None or left <= 0:
            return left * self._case_s
        least = self._limits.processes * (LEAST_S + _OVERHEAD_S)
        return max(self.end - time.monotonic(), left * least)
