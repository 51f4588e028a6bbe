"""Plan cases, measure inside a budget what the table doesn't tell yet, and append each result at once.

Cases are measured side by side in groups, and a group is appended as soon as it is measured: an interruption
loses at most the group under way, and the same call goes on from there. Only a group's networks are exported
at a time, so the disk holds a few networks and not eleven.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import groupby, product
from pathlib import Path

from vertebra import benchmarking, engines, rows, system, units, zoo
from vertebra.benchmarking import Case, Limits, Result, plausibility, scenarios
from vertebra.benchmarking.runner import LEAST_S
from vertebra.bundle import Bundle
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, MeasurementError, UnknownNameError, UnsuitableNetworkError
from vertebra.exporting.process import Exporter
from vertebra.measurements import Measurement, Table
from vertebra.zoo import names

#: Untrained parameters are as fast as trained ones; the seed makes them the same in every process.
SEED = 0

#: Seconds that a case costs beside its samples (start, import, load, its part of the export), for the time
#: that is told to be left until some were seen.
_OVERHEAD_S = 5.0
#: For a guess at a process's memory: what a runtime holds, and bytes of activations by the work.
_RUNTIME_BYTES, _BYTES_PER_MAC = 600_000_000, 0.05
#: How many cases are measured side by side: an interruption loses those that are under way.
_GROUP, _QUICK_GROUP = 12, 6
#: Loads that serve as well as the best to this share are told apart by what they need.
_AS_GOOD = 0.02
#: Seconds of a case where none are given, and the most where all cases share a budget.
_SECONDS, _QUICK_S, _MOST_S = 30.0, 10.0, 60.0
#: Seconds between two looks at whether somebody else still measures.
_LOOK_S = 0.5
#: Counts of a network that isn't ours: those of a ResNet-50, rounded.
_ORDINARY = {"macs": 4_000_000_000, "params": 25_000_000, "input_size": 224}


@dataclass(frozen=True)
class Progress:
    """What is being done, `done` of `total` cases being behind, those under way in part; `left_s` is the time
    left, where it can be told."""

    done: float
    total: int
    text: str
    left_s: float | None = None


Watcher = Callable[[Progress], None]


@dataclass(frozen=True)
class Load:
    """How pictures come: `scenario` is one of `benchmarking.SCENARIOS`. A server's queries come at
    `arrival_rate` (the greatest that holds is searched, where it is None) and are to be answered within
    `latency_bound_s`; `streams` are the numbers of calls that may be under way at once. With `end_to_end`
    the way from a JPEG's bytes is timed too.

    Raises InvalidInputError where these contradict each other.
    """

    scenario: str = "single-stream"
    arrival_rate: float | None = None
    latency_bound_s: float | None = None
    streams: tuple[int, ...] = (1,)
    end_to_end: bool = False

    def __post_init__(self) -> None:
        if self.scenario not in benchmarking.SCENARIOS:
            raise UnknownNameError.of(
                "scenario", self.scenario, benchmarking.SCENARIOS, "vertebra bench --help"
            )
        is_server = self.scenario == "server"
        if is_server != (self.latency_bound_s is not None):
            raise InvalidInputError(
                "A server needs a bound for its latency." if is_server else _not_for(self, "a latency bound"),
                "for a server say, for example: --scenario server --latency-bound 50ms",
            )
        for what, value in (("arrival rate", self.arrival_rate), ("latency bound", self.latency_bound_s)):
            if value is not None and not (0 < value < math.inf):
                raise InvalidInputError(f"The {what} is {value:g}; it must be more than 0, and finite.")
        if not is_server and self.arrival_rate is not None:
            raise InvalidInputError(_not_for(self, "an arrival rate"), "say --scenario server")
        if self.scenario == "single-stream" and self.streams != (1,):
            raise InvalidInputError(_not_for(self, "several streams"), "say --scenario offline, or server")
        if self.end_to_end and self.scenario != "single-stream":
            raise InvalidInputError(_not_for(self, "--end-to-end"), "leave one of them out")


def _not_for(load: Load, what: str) -> str:
    return f"The scenario {load.scenario} doesn't go with {what}."


def cases(
    models: Sequence[str],
    chosen: Sequence[str] = (),
    *,
    batch_sizes: Sequence[int] = (1,),
    input_size: int | None = None,
    threads: int | None = None,
    precisions: Sequence[str] = ("float32",),
    device: str = "cpu",
    load: Load | None = None,
) -> list[Case]:
    """One case for each of `models` on each of the engines `chosen` (all that can run here, where none is),
    in each precision, at each batch size and number of streams.

    Raises UnknownNameError, MissingRuntimeError (a named engine that isn't installed) and
    InvalidInputError (an impossible size, batch, number of threads or load), before anything runs.
    """
    runners = [engines.require(name) for name in dict.fromkeys(chosen)] or found_here()
    threads, load = _threads(threads), load or Load()
    if "int8" in precisions:
        raise InvalidInputError(
            "A network is rounded to int8 with pictures, of which none are given here.",
            "measure a Bundle: vertebra export MODEL -o FOLDER --precision int8 --calibrate PICTURES, then "
            "vertebra bench FOLDER",
        )
    known = {found.name: found for found in map(zoo.find, models)}
    ways = _ways(runners, dict.fromkeys(precisions), device, load, named=bool(chosen))
    for model in known.values():
        _check_batches(model, batch_sizes)
    if load.end_to_end and (input_size is not None or tuple(batch_sizes) != (1,)):
        raise InvalidInputError(
            "From a JPEG's bytes, one picture at a time of the network's own size is timed.",
            "leave the batch size and the input size out, or --end-to-end",
        )
    return [
        replace(_case(model, input_size, threads, load), engine=engine, batch_size=batch_size, device=device,
                precision=precision, streams=streams)
        for model in known.values()
        for engine, precision, streams in ways
        if chosen or not model.is_file or engines.find(engine).reads == "bundle"
        for batch_size in dict.fromkeys(batch_sizes)
    ]  # fmt: skip


def bundle_cases(
    kept: Bundle,
    chosen: Sequence[str] = (),
    *,
    batch_sizes: Sequence[int] = (),
    input_size: int | None = None,
    threads: int | None = None,
    precisions: Sequence[str] = (),
    device: str = "cpu",
    load: Load | None = None,
) -> list[Case]:
    """Cases as `cases` makes them, of the network in a Bundle as it is: on the engines `chosen` (all here
    that open it, where none is), in its own precision and at its own batch size where it has one and no other
    is asked for. Raises InvalidInputError for what it can't be asked for."""
    opening = [name for name in engines.available() if kept.format in engines.find(name).formats]
    runners = [engines.require(name) for name in dict.fromkeys(chosen)] or opening
    threads, load = _threads(threads), load or Load()
    batches = tuple(dict.fromkeys(batch_sizes)) or (kept.batch_size or 1,)
    _check_bundle(kept, runners, precisions, batches, input_size)
    ways = _ways(runners, precisions or (kept.precision,), device, load, named=bool(chosen))
    record = None if kept.preprocess is None else asdict(kept.preprocess)
    if load.end_to_end and (record is None or batches != (1,)):
        raise InvalidInputError(
            f"From a JPEG's bytes one picture at a time is timed, whose way in {kept.folder} must tell.",
            "leave the batch size out, or --end-to-end",
        )
    return [
        Case(model=kept.model, engine=engine, subject=Subject(kept.model, bundle=str(kept.folder)),
             input_size=kept.input_size, batch_size=batch_size, num_classes=kept.num_classes,
             in_channels=kept.in_channels, precision=precision, threads=threads, device=device,
             weights=kept.weights, scenario=load.scenario, streams=streams, arrival_rate=load.arrival_rate,
             latency_bound_s=load.latency_bound_s, preprocess=record if load.end_to_end else None,
             operations=_operations(kept.model, kept.input_size) if kept.model in rows.models() else None)
        for engine, precision, streams in ways
        for batch_size in batches
    ]  # fmt: skip


def _check_bundle(
    kept: Bundle,
    runners: Sequence[str],
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
    input_size: int | None,
) -> None:
    """Raise InvalidInputError where a Bundle is asked for what its files don't hold."""
    strange = [name for name in runners if kept.format not in engines.find(name).formats]
    if strange:
        raise InvalidInputError(
            f'{kept.folder} is a Bundle of the format "{kept.format}", no file of {strange[0]}.',
            f"engines that do: {', '.join(kept.engines)}",
        )
    rounded = kept.precision if kept.precision.startswith("int8") else None
    for name, own, asked in (
        ("batch size", kept.batch_size, batch_sizes),
        ("input size", kept.input_size, [input_size or kept.input_size]),
        ("precision", rounded, precisions),
    ):
        others = [value for value in asked if value != own]
        if own is not None and others:
            raise InvalidInputError(
                f"The {name} of the Bundle {kept.folder} is {own}; {others[0]} was asked for.",
                "leave it out, or export the network again",
            )


def batches_of(scenario: str) -> tuple[int, ...]:
    """The batch sizes that are measured where none are named."""
    return scenarios.BATCH_SIZES if scenario == "offline" else (1,)


def streams_of(scenario: str, threads: int | None) -> tuple[int, ...]:
    """The numbers of streams that are measured where none are named."""
    return scenarios.stream_counts(_threads(threads)) if scenario == "offline" else (1,)


def best_loads(told: Iterable[Measurement]) -> list[Measurement]:
    """Of offline rows, the throughput of each network on each engine at the load that serves best: of those
    within 2 % of the most, the one with the fewest pictures under way."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for row in told:
        if (row.metric, row.scenario) == ("throughput", "offline"):
            groups.setdefault((row.model, row.engine, row.precision, row.device), []).append(row)
    return [_best_load(group) for group in groups.values()]


def _best_load(group: Sequence[Measurement]) -> Measurement:
    most = max(row.value for row in group)
    good = [row for row in group if row.value >= (1 - _AS_GOOD) * most]
    return min(good, key=lambda row: ((row.batch_size or 1) * (row.streams or 1), row.streams or 1))


def _case(model: names.Model, input_size: int | None, threads: int, load: Load) -> Case:
    """The network at batch size 1 on no engine yet."""
    size = native_or(model, input_size)
    return Case(
        model=model.name,
        engine="null",
        subject=Subject(
            model=model.name, builder="vertebra.zoo:build", arguments={"name": model.name, "seed": SEED}
        ),
        input_size=size,
        threads=threads,
        scenario=load.scenario,
        arrival_rate=load.arrival_rate,
        latency_bound_s=load.latency_bound_s,
        preprocess=asdict(zoo.facts(model.name).preprocess) if load.end_to_end else None,
        operations=_operations(model.name, size),
    )


def _operations(model: str, size: int) -> float | None:
    """Those of one image, scaled from the shipped count; None for a network that isn't ours."""
    if ":" in model:
        return None
    totals = rows.totals(model)
    return 2.0 * totals["macs"] * (size / totals["input_size"]) ** 2


def _ways(
    runners: Sequence[str], precisions: Iterable[str], device: str, load: Load, *, named: bool
) -> list[tuple[str, str, int]]:
    """Engine, precision and number of streams of each way to run. An engine that can't is refused where it
    was named, and left out where it wasn't."""
    ways = []
    for engine, precision, streams in product(runners, precisions, load.streams):
        info = engines.find(engine)
        lacks = _lacks(info, precision, device)
        if lacks is None:
            ways.append((engine, precision, streams))
        elif named:
            raise lacks
    if not ways:
        raise InvalidInputError(
            f"No engine here runs in {', '.join(precisions)} on {device}.",
            "what each offers: vertebra list engines",
        )
    if device == "cuda" and not system.cuda_cards():
        raise InvalidInputError(
            "No card that runs CUDA was found here: NVIDIA's driver is missing, or tells of none.",
            "leave the device out to measure on the processor",
        )
    return ways


def _lacks(info: engines.EngineInfo, precision: str, device: str) -> InvalidInputError | None:
    for condition, asked, offered in (
        ("precision", precision, info.precisions),
        ("device", device, info.devices),
    ):
        if asked not in offered:
            return InvalidInputError(
                f'The engine "{info.name}" has no {condition} "{asked}".',
                f"what it offers: {', '.join(offered)}",
            )
    return None


def _check_batches(model: names.Model, batch_sizes: Sequence[int]) -> None:
    """Raise InvalidInputError where the network's file takes one batch size only and another is asked for."""
    if not model.is_file:
        return
    from vertebra.zoo import adapters
    from vertebra.zoo.adapters import onnx

    fixed = onnx.signature(adapters.network_file(model.name).path).batch_size
    wrong = [batch_size for batch_size in batch_sizes if fixed not in (None, batch_size)]
    if wrong:
        raise InvalidInputError(
            f"The network in {model.name} takes batches of {fixed}; {wrong[0]} was asked for.",
            f"ask for --batch-size {fixed}, or export the network with a free batch size",
        )


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


def limits(
    number: int,
    *,
    processes: int | None = None,
    quick: bool = False,
    seconds: float | None = None,
    budget_s: float | None = None,
) -> Limits:
    """The limits of `number` cases that get `seconds` each, or share `budget_s`.

    Raises InvalidInputError where these contradict each other or are too little to measure anything.
    """
    if quick and processes not in (None, 1):
        raise InvalidInputError(f"The quick mode has one process, not {processes}.", "leave one of them out")
    if seconds is not None and budget_s is not None:
        raise InvalidInputError(
            "Both the time of each case and that of all together were given.",
            "give --seconds for each case, or --budget for all",
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
            f"{units.show(given, 's')} is too little for {what} in {count} processes each.",
            f"the least is {least:g}s, and good figures take more",
        )
    usual = _QUICK_S if count == 1 else _SECONDS
    return chosen(processes=count, seconds=seconds or (usual if budget_s is None else _MOST_S))


def found_here() -> list[str]:
    """The engines that can run here and are measured where none is named."""
    return [name for name in engines.available() if name != "null" and engines.find(name).usual]


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
        case.device,
        case.scenario,
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
        row.device,
        row.scenario,
        row.system,
    )


def measure(
    wanted: Iterable[Case],
    table: Table,
    *,
    limits: Limits | None = None,
    deadline: float | None = None,
    seed: int = 0,
    anew: bool = True,
    watcher: Watcher | None = None,
) -> list[Measurement]:
    """Measure `wanted`, light networks first, and append what a cohort gives to `table` at once; returns the
    rows.

    Where there is a `deadline` (of `time.monotonic`) the cases share the time until then. Unless `anew`, what
    somebody else has appended meanwhile isn't measured again. Only one process measures into a table at a
    time: two would disturb each other.
    """
    ordered = sorted(wanted, key=lambda case: (multiply_accumulates(case), case.model))
    limits = limits or Limits()
    pace = _Pace(len(ordered), limits, deadline)
    measured: list[Measurement] = []
    with Exporter() as exporter:
        for group in _groups(ordered, _QUICK_GROUP if limits.is_quick else _GROUP):
            with sole_use(table, lambda: _tell(watcher, pace, "waiting for another process to measure")):
                todo = group if anew else remaining(group, table.rows())
                pace.skip(len(group) - len(todo))
                with closing(_results(todo, exporter, limits, pace, seed, watcher)) as results:
                    for result in results:
                        told = plausibility.against_other_batches(result.rows, measured)
                        table.append(told, samples=result.samples, system=system.describe())
                        measured += told
                        pace.finish_one()
    return measured


def _results(
    cases_: list[Case],
    exporter: Exporter,
    limits: Limits,
    pace: _Pace,
    seed: int,
    watcher: Watcher | None,
) -> Generator[Result, None, None]:
    """What the cases give, after the networks that they need as Bundles were exported."""

    def tell(text: str, under_way: float = 0.0) -> None:
        pace.under_way = under_way
        _tell(watcher, pace, text)

    here, deadline = system.describe().id, pace.deadline_of(len(cases_))
    with scratch_folder() as scratch:
        ready: list[Case] = []
        for case, obstacle in _ready(cases_, exporter, scratch, tell):
            if obstacle is None:
                ready.append(case)
            else:
                yield Result(case, [_failure(case, obstacle, here)], {}, obstacle)
        yield from benchmarking.measure_all(
            ready,
            limits,
            system=here,
            seed=seed,
            expected_bytes=expected_bytes,
            deadline=deadline,
            watcher=tell,
        )


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for Bundles, gone at the end. Raises InvalidInputError where there is no room for one."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="vertebra-")
    except OSError as error:
        raise InvalidInputError(
            f"No scratch folder can be made in {tempfile.gettempdir()}: {error.strerror}.",
            "free some space, or name another folder with TMPDIR",
        ) from error
    with folder as path:
        yield Path(path)


@contextmanager
def sole_use(table: Table, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the right to measure into `table`; `wait` is called where somebody else has it."""
    import filelock

    lock = filelock.FileLock(table.path.with_name(f"{table.path.name}.lock"), poll_interval=_LOOK_S)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _groups(ordered: Sequence[Case], most: int) -> Iterator[list[Case]]:
    """Cases that are measured side by side: at most so many, and those of one network together where it fits,
    as far as the scratch folder has room for their Bundles."""
    group: list[Case] = []
    for _, found in groupby(ordered, key=lambda case: (case.model, case.input_size)):
        same = list(found)
        if group and (len(group) + len(same) > most or not _has_room([*group, *same])):
            yield group
            group = []
        group += same
        while len(group) > most:
            yield group[:most]
            group = group[most:]
    if group:
        yield group


def _has_room(cases_: Iterable[Case]) -> bool:
    return shutil.disk_usage(tempfile.gettempdir()).free >= _bundles_bytes(cases_)


def _bundles_bytes(cases_: Iterable[Case]) -> float:
    """What the scratch folder must hold for the cases' Bundles, with some room to write them."""
    forms = {(case.model, bundle_form(case)) for case in cases_ if _is_to_export(case)}
    return 1.2 * sum(4 * _totals(model)["params"] for model, _ in forms)


def multiply_accumulates(case: Case) -> float:
    """About how many the case's forward pass takes: the shipped count, scaled to its size and batch."""
    totals = _totals(case.model)
    return case.batch_size * totals["macs"] * (case.input_size / totals["input_size"]) ** 2


def _totals(model: str) -> Mapping[str, int]:
    """The shipped counts, or an ordinary network's where none ship, as of a file: only guesses of the room
    that is needed hang on them."""
    shipped = model in rows.models() or rows.catalogue.find(model) is not None
    return rows.totals(model) if shipped else _ORDINARY


def expected_bytes(case: Case) -> float:
    """About what the case's process holds: the runtime, the weights as read and as the engine lays them out,
    and activations in proportion to the work."""
    totals = _totals(case.model)
    return _RUNTIME_BYTES + 12 * totals["params"] + _BYTES_PER_MAC * multiply_accumulates(case)


def _tell(watcher: Watcher | None, pace: _Pace, text: str) -> None:
    if watcher is not None:
        watcher(Progress(pace.done + pace.under_way, pace.total, text, pace.left_s()))


class _Pace:
    """How far the work has come, and how long the rest may take; `under_way` is what is behind of the cases
    whose results haven't come yet, in cases."""

    def __init__(self, total: int, limits: Limits, deadline: float | None) -> None:
        self.done, self.total, self.under_way = 0, total, 0.0
        self._limits, self._deadline = limits, deadline
        self._began = time.monotonic()
        self._measured = 0
        self._case_s = limits.seconds + limits.processes * _OVERHEAD_S

    def skip(self, cases_: int) -> None:
        """So many were measured by somebody else."""
        self.done += cases_

    def finish_one(self) -> None:
        self.done, self._measured, self.under_way = self.done + 1, self._measured + 1, 0.0
        self._case_s = (time.monotonic() - self._began) / self._measured

    def deadline_of(self, cases_: int) -> float | None:
        """When a group of so many of the cases left must be done: they get an equal part of the time.

        Cases come lightest first, so what the light ones leave goes to the heavy ones.
        """
        if self._deadline is None:
            return None
        now = time.monotonic()
        return now + (self._deadline - now) * cases_ / max(1, self.total - self.done)

    def left_s(self) -> float:
        """Seconds until all is done: those until the deadline, or by what the cases so far took each (by what
        they may take, until one is done)."""
        left = self.total - self.done - self.under_way
        if self._deadline is None:
            return left * self._case_s
        least = self._limits.processes * (LEAST_S + _OVERHEAD_S)
        return max(self._deadline - time.monotonic(), left * least)


def _ready(
    cases_: Iterable[Case], exporter: Exporter, scratch: Path, tell: Callable[[str], None]
) -> Iterator[tuple[Case, str | None]]:
    """Each case, ready to run, with what stands in its way or None.

    Where one of a network's engines reads Bundles, the network is exported, and all its engines are
    compared with that Bundle's reference.
    """
    for number, (_, group) in enumerate(groupby(cases_, key=lambda case: (case.model, case.input_size))):
        here = list(group)
        yield from ((case, None) for case in here if case.subject.bundle is not None)
        same = [case for case in here if case.subject.bundle is None]
        if not same:
            continue
        if all(reads(case) != "bundle" for case in same):
            obstacle = _unsuitable(exporter, same)
            yield from ((case, obstacle) for case in same)
            continue
        tell(f"exporting {same[0].model}")
        forms = dict.fromkeys(bundle_form(case) for case in same if reads(case) == "bundle")
        made = {form: scratch / f"bundle-{number}-{index}" for index, form in enumerate(forms)}
        met = {form: obstacle_of(exporter, same[0], folder, form) for form, folder in made.items()}
        for case in same:
            form = bundle_form(case) if reads(case) == "bundle" else next(iter(made))
            yield with_bundle(case, made[form], met[form])


#: The engine that a Bundle is for, the precision, and the only batch size that it must take, or None.
BundleForm = tuple[str, str, int | None]


def bundle_form(case: Case) -> BundleForm:
    """The Bundle that the case's engine opens: the one in ONNX, which several share, where it can."""
    return bundle_of(case.engine, case.precision, case.batch_size)


def bundle_of(engine: str, precision: str, batch_size: int) -> BundleForm:
    """The Bundle that an engine opens for these conditions. One whose own format is ONNX shortens the types
    of the float32 network itself."""
    formats = engines.find(engine).formats
    shared = precision == "float32" or (formats[:1] == ("onnx",) and not precision.startswith("int"))
    if "onnx" in formats and shared:
        return "onnxruntime", "float32", None
    return engine, precision, batch_size


def _is_to_export(case: Case) -> bool:
    return reads(case) == "bundle" and case.subject.bundle is None


def reads(case: Case) -> str:
    return engines.find(case.engine).reads


def _unsuitable(exporter: Exporter, same: Sequence[Case]) -> str | None:
    """Why no engine should run the network that the cases share with these parameters; None where all may."""
    case = next((case for case in same if reads(case) == "builder"), None)
    if case is None:
        return None
    try:
        exporter.check(case.subject, input_size=case.input_size, in_channels=case.in_channels)
    except UnsuitableNetworkError as error:
        return error.message
    except MeasurementError:
        return None  # whatever else is wrong with the network, its own process will tell
    return None


def obstacle_of(exporter: Exporter, case: Case, folder: Path, form: BundleForm) -> MeasurementError | None:
    """Why the case's network can't be exported into `folder`; None once it is there."""
    engine, precision, batch_size = form
    try:
        exporter.export(
            case.subject, folder, input_size=case.input_size, in_channels=case.in_channels, engine=engine,
            precision=precision, batch_size=batch_size,
        )  # fmt: skip
    except MeasurementError as error:
        return error
    return None


def with_bundle(case: Case, folder: Path, obstacle: MeasurementError | None) -> tuple[Case, str | None]:
    """The case, whose network's export met `obstacle`: only one that lies in the network itself stands in the
    way of engines that need no Bundle."""
    reason = None if obstacle is None else obstacle.message
    if reads(case) == "bundle":
        return replace(case, subject=Subject(model=case.model, bundle=str(folder))), reason
    if obstacle is None:
        return replace(case, reference=str(folder)), None
    return case, reason if isinstance(obstacle, UnsuitableNetworkError) else None


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
    needed = max((_bundles_bytes([case]) for case in wanted), default=0)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        told = units.show(free, "B"), units.show(needed, "B")
        raise InvalidInputError(
            f"The folder {tempfile.gettempdir()} has room for {told[0]}; an export needs {told[1]}.",
            "free some space, or name another folder with TMPDIR",
        )
