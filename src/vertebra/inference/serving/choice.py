"""Which engine serves a model, in how many processes, with how many threads, and how many images a call
takes: as asked for, else as measured on this machine, else by default. What is chosen is said with its
reason."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vertebra import units
from vertebra.bundles import Bundle
from vertebra.errors import TableError, warn
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, latest, loads
from vertebra.measurements.possible import trouble

MAX_BATCH = 8
#: a share by which an engine must be faster where its figures have no intervals, as those of offline
_UNSURE = 0.05
#: what a process takes without the network
_RUNTIME_BYTES = 100_000_000
#: names of networks that say nothing of what is in them
_FILES = ("onnx:", "paddle:")


@dataclass(frozen=True)
class Asked:
    """What was asked for; None: it is chosen. A batch must take less than half of `timeout_s`."""

    instances: int | None = None
    threads: int | None = None
    max_batch: int | None = None
    timeout_s: float = 30.0


@dataclass(frozen=True)
class Choice:
    """What a model gets, why, and the command that would measure what wasn't."""

    engine: str
    instances: int
    threads: int
    max_batch: int
    reason: str
    to_measure: str | None = None

    def __str__(self) -> str:
        processes = _counted(self.instances, "process", "es")
        each = " each" if self.instances > 1 else ""
        images = _counted(self.max_batch, "image", "s")
        threads = _counted(self.threads, "thread", "s")
        return f"{self.engine}, {processes} with {threads}{each}, calls of up to {images}: {self.reason}"


#: chooses for a Bundle that these engines open here, the usual one first, and that was found at a path
Chooser = Callable[[Bundle, Sequence[str], Path], Choice]


def by_default(asked: Asked, kept: Bundle, engine: str, reason: str = "by default") -> Choice:
    """Without any rows: one process with all cores, batches of up to MAX_BATCH. A lone request is answered
    soonest so, and the network is in memory once."""
    instances = asked.instances or 1
    threads = asked.threads or max(1, system.default_threads() // instances)
    return Choice(engine, instances, threads, _most(asked, kept) or MAX_BATCH, reason)


def from_table(asked: Asked, table: Table, *, is_named: bool) -> Chooser:
    """Chooses from the table's rows. A table that wasn't named and can't be read is no reason not to
    serve."""

    def choose(kept: Bundle, engines: Sequence[str], folder: Path) -> Choice:
        if asked.instances and asked.threads and _most(asked, kept) and len(engines) == 1:
            return by_default(asked, kept, engines[0], "as asked")
        try:
            rows = [row for engine in engines for row in rows_of(kept, engine, table)]
        except TableError as error:
            if is_named:
                raise
            warn(f"processes and batches aren't chosen by measurements: {error.message}", error.hint)
            return by_default(asked, kept, engines[0])
        return choose_from(rows, asked, kept, engines, folder)

    return choose


def rows_of(kept: Bundle, engine: str, table: Table) -> list[Measurement]:
    """The latest throughputs of the Bundle's network in this engine and precision on this machine: its own,
    or those of other parameters of the same network of the catalogue."""
    found = table.rows(
        model=kept.model, metric="throughput", origin="benched", engine=engine, precision=kept.precision,
        input_size=kept.input_size, device="cpu", beside=None,
        system=table.system_id(system.describe().id),
    )  # fmt: skip
    known = [row for row in latest(found) if trouble(row) is None]
    own = [row for row in known if row.network_sha256 == kept.network_sha256]
    if own or kept.model.startswith(_FILES) or kept.precision.startswith("int8"):
        return own
    return known


def choose_from(
    rows: Sequence[Measurement], asked: Asked, kept: Bundle, engines: Sequence[str], folder: Path
) -> Choice:
    """The load of `rows` that gives the most images per second, in the first of `engines` or in one that was
    measured to be faster. Processes and threads are chosen if different ones were measured, and so is the
    batch. The Bundle is in `folder`, or an archive."""
    engine, told, unmeasured = _engine(rows, asked, kept, engines)
    if asked.instances and asked.threads and _most(asked, kept):
        return by_default(asked, kept, engine, f"as asked{told}")
    of_engine = [row for row in rows if row.engine == engine]
    found, is_known = _load_from(of_engine, asked, kept, engine)
    missing = [*([] if is_known else [engine]), *unmeasured]
    command = None
    if missing:
        named = " ".join(f"--engine {name}" for name in missing)
        command = f"vertebra bench {shlex.quote(str(folder))} {named} --scenario offline"
    return replace(found, reason=found.reason + told, to_measure=command)


def _engine(
    rows: Sequence[Measurement], asked: Asked, kept: Bundle, engines: Sequence[str]
) -> tuple[str, str, list[str]]:
    """The engine to run, what is said of the others, and those that can't be compared with it. Engines are
    compared by the loads of one scenario that both were measured with; another than the first must surely be
    faster in these, and have the greater throughput of all."""
    by_engine = {
        engine: [row for row in rows if row.engine == engine and _fits(row, asked, kept)]
        for engine in engines
    }  # fmt: skip
    chosen, *others = engines
    told, unmeasured = "", []
    for other in others:
        compared = _compared_engines(_in_time(by_engine[chosen], asked), _in_time(by_engine[other], asked))
        if compared is None:
            unmeasured.append(other)
            continue
        is_faster, mine, theirs = compared
        figures = f"{units.show(theirs.value, '1/s')} against {units.show(mine.value, '1/s')}"
        verdict = f"is faster here than {chosen}" if is_faster else "isn't faster here"
        told += f"; {other} {verdict} ({figures}, {mine.scenario})"
        chosen = other if is_faster else chosen
    return chosen, told, unmeasured


def _compared_engines(
    mine: Sequence[Measurement], theirs: Sequence[Measurement]
) -> tuple[bool, Measurement, Measurement] | None:
    """Whether the second engine is faster, and the rows that show it; None if no load of one scenario was
    measured of both."""
    by_scenario = {
        scenario: [[row for row in one if row.scenario == scenario] for one in (mine, theirs)]
        for scenario in sorted({row.scenario for row in mine}, key=lambda one: (one != "offline", str(one)))
    }
    shared = {
        scenario: {_load(row) for row in first} & {_load(row) for row in second}
        for scenario, (first, second) in by_scenario.items()
    }
    chosen = max(shared, key=lambda one: len(shared[one]), default=None)
    if not shared.get(chosen):
        return None
    both = by_scenario[chosen]
    first, second = (_most_images([row for row in one if _load(row) in shared[chosen]]) for one in both)
    if not _is_faster(second, first):
        return False, first, second
    first, second = (_most_images(one) for one in both)
    return _is_faster(second, first), first, second


def _most_images(rows: Sequence[Measurement]) -> Measurement:
    return max(rows, key=lambda row: row.value)


def _is_faster(one: Measurement, other: Measurement) -> bool:
    """Whether by more than what counts as equally good and beyond both intervals; without these by more than
    such figures differ from run to run."""
    margin = _UNSURE if one.low is None or other.high is None else loads.AS_GOOD
    low = one.value if one.low is None else one.low
    high = other.value if other.high is None else other.high
    return low > high and one.value * (1 - margin) > other.value


def _in_time(rows: Sequence[Measurement], asked: Asked) -> list[Measurement]:
    return [row for row in rows if _round_s(row) <= asked.timeout_s / 2]


def _load_from(rows: Sequence[Measurement], asked: Asked, kept: Bundle, engine: str) -> tuple[Choice, bool]:
    """The best load of an engine's rows, and whether they tell all that was to be chosen."""
    default = by_default(asked, kept, engine)
    compared = _compared(rows, asked, kept)
    loads_ = {_load(row) for row in compared}
    if len(loads_) < 2:
        counted = "only one load" if loads_ else "no load"
        is_narrow = bool(rows and (asked.instances or asked.threads or asked.max_batch))
        fitting = " that fits what was asked" if is_narrow else ""
        reason = (
            f"by default: the table has {counted}{fitting} of {kept.model} on {engine} in {kept.precision} "
            "measured on this machine"
        )
        return replace(default, reason=reason), False
    in_time = _in_time(compared, asked)
    best = loads.best(in_time) if in_time else min(compared, key=_round_s)
    instances, threads, batch = _load(best)
    missing = []
    if len({one[:2] for one in loads_}) < 2 and not (asked.instances and asked.threads):
        instances, threads = default.instances, default.threads
        missing.append("other processes and threads")
    if len({one[2] for one in loads_}) < 2 and not _most(asked, kept):
        batch = default.max_batch
        missing.append("other batch sizes")
    reason = _measured(best, len(loads_), kept)
    if missing:
        reason += f"; {' and '.join(missing)} weren't measured, so by default"
    return Choice(engine, instances, threads, _most(asked, kept) or batch, reason), not missing


def _compared(rows: Sequence[Measurement], asked: Asked, kept: Bundle) -> list[Measurement]:
    """The rows that fit what was asked and this machine's cores, of the scenario with the most loads: the
    figures of two scenarios aren't compared."""
    fitting = [row for row in rows if _fits(row, asked, kept)]
    fitting = [row for row in fitting if row.batch_size == asked.max_batch] or fitting
    scenarios: dict[str | None, list[Measurement]] = {"offline": []}
    for row in fitting:
        scenarios.setdefault(row.scenario, []).append(row)
    return max(scenarios.values(), key=lambda one: len({_load(row) for row in one}))


def _fits(row: Measurement, asked: Asked, kept: Bundle) -> bool:
    if row.batch_size is None or row.threads is None or row.scenario == "server":
        return False
    instances, threads, batch = _load(row)
    if asked.instances is None and instances > _most_processes(kept):
        return False
    return (
        row.threads <= system.describe().usable_cores
        and asked.instances in (None, instances)
        and asked.threads in (None, threads)
        and (batch == kept.batch_size if kept.batch_size else batch <= (asked.max_batch or batch))
    )


def _most_processes(kept: Bundle) -> int:
    """How many processes half of this machine's memory surely holds, by an estimate of what each takes."""
    memory = system.describe().memory_bytes
    each = 2 * kept.file_bytes + _RUNTIME_BYTES
    return system.describe().usable_cores if memory is None else max(1, memory // 2 // each)


def _round_s(row: Measurement) -> float:
    """How long one call of each process takes."""
    instances, _, batch = _load(row)
    return instances * batch / row.value


def _load(row: Measurement) -> tuple[int, int, int]:
    """Processes, threads of each and images of a call, as a row's streams, threads and batch are."""
    streams = row.streams or 1
    return streams, max(1, (row.threads or 1) // streams), row.batch_size or 1


def _most(asked: Asked, kept: Bundle) -> int | None:
    return kept.batch_size or asked.max_batch


def _measured(best: Measurement, count: int, kept: Bundle) -> str:
    grade = f", grade {best.grade}" if best.grade else ""
    day = f", {best.measured_at[:10]}" if best.measured_at else ""
    others = "" if best.network_sha256 == kept.network_sha256 else " with other parameters"
    return (
        f"the best of {count} loads measured here{others} ({units.show(best.value, '1/s')} "
        f"{best.scenario}{grade}{day})"
    )


def _counted(count: int, what: str, more: str) -> str:
    return f"{count} {what}{'' if count == 1 else more}"
