"""The search on this machine: the Bundles that the forms need are made, then heats are measured.

Both share one budget of seconds. The measurements are stored in the table as quick rows.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from vertebra import engines, units
from vertebra.campaigns import campaign, exports
from vertebra.campaigns.cases import expected_bytes
from vertebra.campaigns.exports import NeededBundle, needed_bundle
from vertebra.campaigns.tuning import race
from vertebra.campaigns.tuning.forms import Form, form_of
from vertebra.campaigns.tuning.search import NO_TIME, Finish, Trial, search
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.exporting.process import Exporter
from vertebra.machine import files, system
from vertebra.measurements import Measurement, Table, display, latest
from vertebra.measurements.blocks import Block, unpack
from vertebra.measurements.views import FORM
from vertebra.measuring import benchmarking
from vertebra.measuring.benchmarking import Case, Limits, Result
from vertebra.progress import Listener, Progress, silent

#: The least budget.
LEAST_S = 5.0
#: The part of the budget after which no export begins and exports with a compiler are stopped; and the part
#: after which all are stopped.
_EXPORTS, _LAST_EXPORTS = 0.5, 0.75
#: The part of the budget after which nothing is measured: the rest is for ending the processes.
_MEASURING = 0.96
#: Exports at a time: most of one runs on a single core.
_EXPORTERS = 2
#: Seconds that a form is assumed to take until its first block, before one has run: cheap and costly forms.
_START_S, _COSTLY_S = 3.0, 20.0
#: Seconds of a form's part of a turn; every form that starts must have time to run until the first look.
_TURN_S = 0.4
#: Seconds of warm-up and blocks for one form: this part of the budget, within these bounds.
_PART, _LEAST_PART_S, _MOST_PART_S = 1 / 20, 1.0, 5.0


@dataclass(frozen=True, repr=False)
class Found(display.Shown):
    """The answer: a Trial for each form, the fastest first; the measurements, and the seconds it took.
    `bundle` is the folder of the best form that could be exported, if that was asked for. `notes` name
    engines that were left out. `shares` has for each trial the part of its latency that the machine's
    roofline explains, if known."""

    model: str
    trials: list[Trial]
    rows: list[Measurement]
    seconds: float
    bundle: Path | None = None
    notes: tuple[str, ...] = ()
    shares: tuple[float | None, ...] = ()

    def summary(self) -> str:
        """The fastest form and its latency."""
        best = self.fastest
        latency = None if best.latency is None else display.quantity(best.latency)
        forms = display.count(len(self.trials), "form")
        return f"{self.model} is fastest on {best.form}: {latency or 'not timed'} ({forms})"

    def tables(self) -> Iterable[list[display.Line]]:
        """The forms that were timed."""
        yield [{"form": str(one.form), **display.readable(one.latency)} for one in self.trials if one.latency]

    @property
    def fastest(self) -> Trial:
        return self.trials[0]

    def to_eager(self, trial: Trial) -> float | None:
        """The form's time divided by that of PyTorch's eager mode in float32, on all cores and with the same
        batch size; None if either has no figure."""
        eager = [
            other for other in self.trials
            if (other.form.engine, other.form.precision) == ("eager", "float32")
            and other.form.layout != "NHWC" and other.form.batch_size == trial.form.batch_size
        ]  # fmt: skip
        base = max(eager, key=lambda other: other.form.threads, default=None)
        if base is None or not base.seconds or trial.seconds is None:
            return None
        return trial.seconds / base.seconds

    def rows_of(self, trial: Trial) -> list[Measurement]:
        """The latest figures of the trial's form."""
        latency = trial.latency
        return [
            row for row in latest(self.rows)
            if latency is not None and all(getattr(row, name) == getattr(latency, name) for name in FORM)
        ]  # fmt: skip

    def to_ship(self) -> Trial | None:
        """The fastest form that a Bundle can hold."""
        return next((one for one in self.trials if one.seconds and one.form.has_bundle), None)


def fastest(
    cases: Sequence[Case],
    table: Table,
    *,
    budget_s: float,
    seed: int = 0,
    progress: Listener | None = None,
) -> Found:
    """The fastest form of one network among `cases`, searched for `budget_s`; what is measured is appended to
    `table`. Every form's outputs are compared with eager float32's before it is timed.

    Raises InvalidInputError if the budget is too short for a search, and MeasurementError, with the outcome
    of each form, if none gave a figure.
    """
    if budget_s < LEAST_S:
        raise InvalidInputError(
            f"{units.show(budget_s, 's')} is too short for a search.", f"give at least {LEAST_S:g}s"
        )
    exports.check_room(cases)
    listener, start = progress or silent, Progress("", 0, len(cases), "cases")
    with (
        files.sole_use(
            table.lock,
            wait=lambda: listener(replace(start, text="waiting for another process to measure")),
            poll_s=campaign.LOOK_S,
        ),
        exports.scratch_folder() as scratch,
    ):
        began = time.monotonic()
        listener(replace(start, text=f"exporting {cases[0].model}"))
        made = _made(cases, scratch, began + _EXPORTS * budget_s, began + _LAST_EXPORTS * budget_s)
        track = _Track(cases, made, table, began + _MEASURING * budget_s, budget_s, seed, listener)
        trials = search(track.entered(), track.heat)
        seconds = time.monotonic() - began
    trials += track.without_bundle()
    if trials[0].seconds is None:
        reasons = "; ".join(f"{trial.form}: {trial.reason}" for trial in trials)
        raise MeasurementError(
            f"No form of {cases[0].model} gave a figure in {units.show(budget_s, 's')}: {reasons}.",
            "give it more time, for example: --budget 2m",
        )
    return Found(cases[0].model, trials, track.rows, seconds)


# ------------------------------------------------------------------ Bundles


@dataclass(frozen=True)
class _Made:
    """A Bundle, or why it couldn't be made: `is_late` if only the time was missing."""

    folder: Path
    obstacle: MeasurementError | None = None
    is_late: bool = False


def _made(
    cases: Sequence[Case], scratch: Path, deadline: float, last_deadline: float
) -> dict[NeededBundle, _Made]:
    """The Bundles that `cases` need, the one with the reference first and those that need a compiler last.
    After the `deadline` none is begun, and only those without a compiler continue until `last_deadline`."""
    asked = dict.fromkeys(needed_bundle(case) for case in cases if exports.reads(case) == "bundle")
    needed = list({exports.reference_for(cases[0]): None, **asked})
    workers = _exporters(cases[0], len(needed))
    ordered = sorted(needed, key=_is_costly)
    folders = {one: scratch / f"bundle-{number}" for number, one in enumerate(ordered)}
    queue = deque(ordered)
    exporters = [Exporter(scratch=scratch) for _ in range(workers)]
    met: dict[NeededBundle, MeasurementError | None] = {}
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(_export, each, queue, folders, cases[0], met, deadline) for each in exporters]
        try:
            _, busy = wait(jobs, timeout=max(0.0, deadline - time.monotonic()))
            begun = [one for one in ordered if one not in queue and not _is_costly(one)]
            while busy and not met.keys() >= set(begun) and time.monotonic() < last_deadline:
                _, busy = wait(busy, timeout=0.1)
            done = dict(met)
        finally:  # after Ctrl-C too
            queue.clear()
            for exporter in exporters:
                exporter.cancel()
    for job in jobs:
        job.result()
    late = MeasurementError(f"{NO_TIME}: its export wasn't finished")
    return {
        one: _Made(folder, done[one]) if one in done else _Made(folder, late, is_late=True)
        for one, folder in folders.items()
    }


def _is_costly(one: NeededBundle) -> bool:
    return engines.find(one.engine).needs_compiler


def _exporters(case: Case, number: int) -> int:
    """How many are made at a time: as many as the cores and half of the memory allow."""
    memory = system.describe().memory_bytes
    fitting = _EXPORTERS if memory is None else int(memory / 2 / expected_bytes(case))
    return max(1, min(_EXPORTERS, system.default_threads(), fitting, number))


def _export(
    exporter: Exporter,
    queue: deque[NeededBundle],
    folders: Mapping[NeededBundle, Path],
    case: Case,
    met: dict[NeededBundle, MeasurementError | None],
    deadline: float,
) -> None:
    """Make one Bundle of the queue after the other, and record in `met` each one's error or None."""
    with exporter:
        while time.monotonic() < deadline:
            try:
                one = queue.popleft()
            except IndexError:  # the other exporter took the last one
                return
            met[one] = exports.obstacle_of(exporter, case, folders[one], one)


# ------------------------------------------------------------------ heats


class _Track:
    """Runs heats. It knows the case of each form, and how long a form takes to start."""

    def __init__(
        self,
        cases: Sequence[Case],
        made: Mapping[NeededBundle, _Made],
        table: Table,
        deadline: float,
        budget_s: float,
        seed: int,
        progress: Listener,
    ) -> None:
        self._table, self._deadline, self._seed, self._progress = table, deadline, seed, progress
        self._part_s = min(max(_PART * budget_s, _LEAST_PART_S), _MOST_PART_S)
        self._starts = _Starts()
        self._heats, self._judged, self._total = 0, set[Form](), len(cases)
        self.rows: list[Measurement] = []
        self._cases: dict[Form, Case] = {}
        self._obstacles: dict[Form, str] = {}
        self._late: list[Trial] = []
        reference = next(
            (one for one in made.values() if one.obstacle is None), made[exports.reference_for(cases[0])]
        )
        for case in cases:
            own = made[needed_bundle(case)] if exports.reads(case) == "bundle" else reference
            self._enter(case, own)

    def _enter(self, case: Case, own: _Made) -> None:
        form = form_of(case)
        ready, obstacle = exports.with_bundle(case, own.folder, own.obstacle)
        if obstacle is None and ready.reference is None and not _is_reference(ready):
            self._late.append(Trial(form, "untried", "nothing to compare its outputs with"))
            return
        if obstacle is not None and own.is_late:
            self._late.append(Trial(form, "untried", obstacle.message))
            return
        self._cases[form] = ready
        if obstacle is not None:
            self._obstacles[form] = obstacle.message

    def entered(self) -> list[Form]:
        """The forms that can run, or are known to fail."""
        return list(self._cases)

    def without_bundle(self) -> list[Trial]:
        """Those whose Bundle wasn't made in time."""
        return self._late

    def heat(self, forms: Sequence[Form]) -> dict[Form, Finish]:
        """Measure `forms` side by side."""
        finishes = {form: Finish(failure=self._obstacles[form]) for form in forms if form in self._obstacles}
        self._judged -= set(forms)
        left_s = self._deadline - time.monotonic()
        running = [self._cases[form] for form in forms if form not in finishes]
        if left_s > 0 and running:
            for result in self._results(running, left_s):
                finish = self._finish(result)
                if finish is not None:
                    finishes[form_of(result.case)] = finish
        self._heats += 1
        self._judged |= set(forms)
        return finishes

    def _results(self, running: list[Case], left_s: float) -> Iterable[Result]:
        limits = Limits.quick(
            seconds=self._part_s, block_s=0.2, block_least=2, warm_up_runs=3, warm_up_least_s=0.25,
            warm_up_most_s=2.0, timeout_s=max(LEAST_S, left_s),
        )  # fmt: skip
        return benchmarking.measure_all(
            running,
            limits,
            system=system.describe().id,
            seed=self._seed + self._heats,
            expected_bytes=expected_bytes,
            progress=self._count,
            race=_Race(self._deadline, self._starts),
        )

    def _count(self, event: Progress) -> None:
        """Pass an event of a heat on, counted among all forms."""
        self._progress(replace(event, done=len(self._judged) + event.done, total=self._total))

    def _finish(self, result: Result) -> Finish | None:
        """The result as a Finish, its rows appended; None if it failed after the time was up."""
        if result.failure is not None and time.monotonic() >= self._deadline:
            return None
        self._table.append(result.rows, samples=result.samples, system=system.describe())
        self.rows += result.rows
        if result.failure is not None:
            return Finish(failure=result.failure)
        pace = race.pace(unpack(result.samples), result.case.batch_size)
        row = next(row for row in result.rows if row.metric == "latency")
        return Finish(pace.seconds, pace.low, pace.high, row=row)


def _is_reference(case: Case) -> bool:
    """Whether a case needs no reference: a Bundle contains one, and eager's float32 is what the others are
    compared with."""
    return case.subject.bundle is not None or (case.engine, case.precision) == ("eager", "float32")


@dataclass
class _Starts:
    """How many seconds forms took to start, by whether they are costly."""

    seen: dict[bool, list[float]] = field(default_factory=lambda: {False: [_START_S], True: [_COSTLY_S]})

    def add(self, is_costly: bool, seconds: float) -> None:
        self.seen[is_costly].append(seconds)

    def expected_s(self, is_costly: bool) -> float:
        """The mean of those measured, or a guess."""
        seen = self.seen[is_costly]
        return sum(seen[1:]) / len(seen[1:]) if len(seen) > 1 else seen[0]


class _Race:
    """A `runner.Race` that ends with the deadline. No form starts that couldn't run before it."""

    def __init__(self, deadline: float, starts: _Starts, clock: Callable[[], float] = time.monotonic) -> None:
        self._deadline, self._starts, self._clock = deadline, starts, clock
        self._last: tuple[bool, float] | None = None

    def may_start(self, case: Case, running: int) -> bool:
        self._note()
        is_costly = form_of(case).is_costly
        ends = self._clock() + self._starts.expected_s(is_costly) + race.FIRST_LOOK * _TURN_S * (running + 1)
        if ends > self._deadline:
            return False
        self._last = is_costly, self._clock()
        return True

    def stay(self, rivals: Sequence[tuple[Case, Sequence[Block]]]) -> list[bool]:
        self._note(turn_s=_TURN_S * len(rivals))
        if self._clock() >= self._deadline:
            return [False] * len(rivals)
        return race.stay([(blocks, case.batch_size) for case, blocks in rivals])

    def _note(self, turn_s: float = 0.0) -> None:
        """Record how long the last start took, less a turn of `turn_s` after it."""
        if self._last is not None:
            is_costly, began = self._last
            self._starts.add(is_costly, max(0.0, self._clock() - began - turn_s))
            self._last = None
