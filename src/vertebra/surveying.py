"""Plan cases, measure inside a budget what the table doesn't tell yet, and append each result at once.

A case is appended as soon as it is measured, so an interruption loses at most the case under way, and
the same call goes on from there. Networks are exported one at a time and a Bundle is deleted when its
last engine is done, so the disk holds one network and not eleven.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from vertebra import benchmarking, engines, rows, system, units, zoo
from vertebra.benchmarking import Case, Limits
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.exporting.process import Exporter
from vertebra.measurements import Measurement, Table
from vertebra.zoo import names

#: Untrained parameters are as fast as trained ones; the seed makes them the same in every process.
SEED = 0

#: Seconds that a case costs beside its samples (start, import, load, its part of the export), and
#: multiply-accumulates per second, until some were seen. Only shares of the budget hang on them.
_OVERHEAD_S, _RATE = 5.0, 1.2e10
#: Counts of a network that isn't ours: those of a ResNet-50, rounded.
_ORDINARY = {"macs": 4_000_000_000, "params": 25_000_000, "input_size": 224}
#: Bounds of one case's share.
_LEAST_S, _MOST_S = 1.0, 20.0


@dataclass(frozen=True)
class Progress:
    """What is being done, as step `done + 1` of `total`; `left_s` is the time left, where it can be told."""

    done: int
    total: int
    text: str
    left_s: float | None = None


Watcher = Callable[[Progress], None]


def cases(
    models: Sequence[str],
    chosen: Sequence[str] = (),
    *,
    batch_size: int = 1,
    input_size: int | None = None,
    threads: int | None = None,
) -> list[Case]:
    """One case for each of `models` on each of the engines `chosen` (all that can run here, where none is).

    Raises UnknownNameError, MissingRuntimeError (a named engine that isn't installed) and
    InvalidInputError (an impossible size, batch or number of threads), before anything runs.
    """
    runners = [engines.require(name) for name in dict.fromkeys(chosen)] or _found_here()
    threads = _threads(threads)
    known = {found.name: found for found in map(zoo.find, models)}
    return [
        Case(
            model=model.name,
            engine=engine,
            subject=Subject(
                model=model.name, builder="vertebra.zoo:build", arguments={"name": model.name, "seed": SEED}
            ),
            input_size=native_or(model, input_size),
            batch_size=batch_size,
            threads=threads,
        )
        for model in known.values()
        for engine in runners
        if chosen or model.source != "onnx" or engines.find(engine).reads == "bundle"
    ]


def native_or(model: names.Model, input_size: int | None) -> int:
    """`input_size`, or the model's own. Raises InvalidInputError where the network can't take it."""
    if input_size is not None and model.fixed_size and input_size != model.input_size:
        raise InvalidInputError(
            f"{model.name} can't take images of {input_size}x{input_size} pixels.",
            f"{model.input_size}x{model.input_size} is the only size that works",
        )
    if input_size is not None and input_size < model.min_size:
        raise InvalidInputError(
            f"{model.name} can't take images of {input_size}x{input_size} pixels.",
            f"the smallest that works is {model.min_size}; its own size is {model.input_size}",
        )
    return model.input_size if input_size is None else input_size


def _found_here() -> list[str]:
    return [name for name in engines.available() if name != "null"]


def _threads(threads: int | None) -> int:
    most = system.describe().usable_cores
    if threads is not None and not 1 <= threads <= most:
        raise InvalidInputError(
            f"{threads} threads were asked for; this process may use 1 to {most}.",
            "leave the number of threads out to use every physical core",
        )
    return system.default_threads() if threads is None else threads


def remaining(wanted: Iterable[Case], told: Iterable[Measurement]) -> list[Case]:
    """The cases that no row tells yet for this machine and the runtime's version that is installed now."""
    here = system.describe().id
    known = {_told(row) for row in told if row.metric in ("latency", "failure")}
    return [case for case in wanted if _asked(case, here) not in known]


def _asked(case: Case, here: str) -> tuple[object, ...]:
    runtime = engines.version(case.engine)
    return (
        case.model,
        case.engine,
        runtime,
        case.batch_size,
        case.input_size,
        case.precision,
        case.threads,
        here,
    )


def _told(row: Measurement) -> tuple[object, ...]:
    packages = engines.ENGINES[row.engine].distributions if row.engine in engines.ENGINES else ()
    runtime = next((row.versions[name] for name in packages if name in row.versions), None)
    return (
        row.model,
        row.engine,
        runtime,
        row.batch_size,
        row.input_size,
        row.precision,
        row.threads,
        row.system,
    )


def measure(
    wanted: Iterable[Case],
    table: Table,
    *,
    seconds: float | None = None,
    deadline: float | None = None,
    watcher: Watcher | None = None,
) -> list[Measurement]:
    """Measure `wanted`, light networks first, and append each result to `table` at once; returns the rows.

    A case gets `seconds` of samples, or its share of what is left until `deadline` (of
    `time.monotonic`) by what it is likely to cost.
    """
    ordered = sorted(wanted, key=lambda case: (multiply_accumulates(case), case.model))
    pace = _Pace(ordered, seconds, deadline)
    described = system.describe()
    measured: list[Measurement] = []
    with closing(_ready(ordered, lambda text: _tell(watcher, pace, text))) as ready:
        for case, obstacle in ready:
            _tell(watcher, pace, f"{case.model} on {case.engine}")
            if obstacle is None:
                result = benchmarking.measure(case, Limits(seconds=pace.share()), system=described.id)
                found, samples = result.rows, result.samples
            else:
                found, samples = [_failure(case, obstacle, described.id)], {}
            table.append(found, samples=samples, system=described)
            measured += found
            pace.advance(sum(samples.get("latency", ())))
    return measured


def multiply_accumulates(case: Case) -> float:
    """About how many the case's forward pass takes: the shipped count, scaled to its size and batch."""
    totals = _totals(case.model)
    return case.batch_size * totals["macs"] * (case.input_size / totals["input_size"]) ** 2


def _totals(model: str) -> Mapping[str, int]:
    """The shipped counts, or an ordinary network's for another library's: only shares of the budget and the
    room for an export hang on them."""
    return rows.totals(model) if ":" not in model else _ORDINARY


def _need_s(case: Case) -> float:
    """Seconds in which the case can be warmed up and sampled well, by the work that it is."""
    return min(_MOST_S, 1.0 + 90 * multiply_accumulates(case) / _RATE)


def _tell(watcher: Watcher | None, pace: _Pace, text: str) -> None:
    if watcher is not None:
        watcher(Progress(pace.done, pace.total, text, pace.left_s()))


class _Pace:
    """How far the work has come, and how many seconds of samples the next case gets."""

    def __init__(self, ordered: Sequence[Case], seconds: float | None, deadline: float | None) -> None:
        self.done, self.total = 0, len(ordered)
        self._needs = [_need_s(case) for case in ordered]
        self._seconds, self._deadline = seconds, deadline
        self._overheads: list[float] = []
        self._mark = time.monotonic()

    def share(self) -> float:
        """Seconds for the next case: an equal part of what the overheads to come leave, or what it needs.

        Cases come lightest first, so what the light ones leave goes to the heavy ones.
        """
        if self._deadline is None:
            return self._seconds or _MOST_S
        cases_left = self.total - self.done
        left = self._deadline - time.monotonic() - self._overhead_s() * cases_left
        return max(_LEAST_S, min(self._needs[self.done], left / cases_left))

    def left_s(self) -> float:
        """Seconds until all is done, by what the cases so far cost."""
        needs = [self._seconds or need for need in self._needs[self.done :]]
        expected = sum(needs) + self._overhead_s() * len(needs)
        if self._deadline is None:
            return expected
        least = (_LEAST_S + self._overhead_s()) * len(needs)
        return min(expected, max(least, self._deadline - time.monotonic()))

    def advance(self, sampled_s: float) -> None:
        """One case is done, `sampled_s` of it in samples; the rest is what a case costs beside them."""
        now = time.monotonic()
        self._overheads.append(max(0.0, now - self._mark - sampled_s))
        self._mark = now
        self.done += 1

    def _overhead_s(self) -> float:
        return sum(self._overheads) / len(self._overheads) if self._overheads else _OVERHEAD_S


def _ready(
    ordered: Iterable[Case], tell: Callable[[str], None]
) -> Generator[tuple[Case, str | None], None, None]:
    """Each case, ready to run, with what stands in its way or None.

    Where one of a network's engines reads Bundles, the network is exported, and all its engines are
    compared with that Bundle's reference.
    """
    with Exporter() as exporter:
        for model, group in groupby(ordered, key=lambda case: case.model):
            cases_ = list(group)
            if all(_reads(case) != "bundle" for case in cases_):
                yield from ((case, None) for case in cases_)
                continue
            tell(f"exporting {model}")
            with tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
                folder = Path(scratch) / "bundle"
                yield from _with_bundle(cases_, folder, _obstacle(exporter, cases_[0], folder))


def _reads(case: Case) -> str:
    return engines.find(case.engine).reads


def _obstacle(exporter: Exporter, case: Case, folder: Path) -> str | None:
    """Why the case's network can't be exported into `folder`; None once it is there."""
    try:
        exporter.export(case.subject, folder, input_size=case.input_size, in_channels=case.in_channels)
    except MeasurementError as error:
        return error.message
    return None


def _with_bundle(cases_: list[Case], folder: Path, obstacle: str | None) -> Iterator[tuple[Case, str | None]]:
    for case in cases_:
        if _reads(case) == "bundle":
            yield replace(case, subject=Subject(model=case.model, bundle=str(folder))), obstacle
        else:
            yield (case if obstacle else replace(case, reference=str(folder))), None


def _failure(case: Case, reason: str, here: str) -> Measurement:
    runtime = engines.version(case.engine)
    package = engines.find(case.engine).distributions[0]
    return Measurement(
        model=case.model, metric="failure", value=1.0, origin="benched", grade_reasons=(reason,),
        engine=case.engine, precision=case.precision, device=case.device, threads=case.threads,
        batch_size=case.batch_size, input_size=case.input_size, scenario="single-stream", system=here,
        versions={package: runtime} if runtime else {},
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def check_room(wanted: Iterable[Case]) -> None:
    """Raise InvalidInputError where the scratch folder can't hold the largest Bundle that is needed."""
    sizes = [4 * _totals(case.model)["params"] for case in wanted if _reads(case) == "bundle"]
    needed = 1.2 * max(sizes, default=0)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        told = units.show(free, "B"), units.show(needed, "B")
        raise InvalidInputError(
            f"The folder {tempfile.gettempdir()} has room for {told[0]}; an export needs {told[1]}.",
            "free some space, or name another folder with TMPDIR",
        )
