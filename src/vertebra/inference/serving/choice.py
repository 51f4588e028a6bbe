"""How many processes a model gets, with how many threads, and how many images a call of the engine takes: as
asked for, else as measured on this machine, else by default. What is chosen is said with its reason."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vertebra import units
from vertebra.bundles import Bundle
from vertebra.errors import TableError, warn
from vertebra.machine import system
from vertebra.measurements import Measurement, Table, latest, loads
from vertebra.measurements.possible import trouble

MAX_BATCH = 8
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

    instances: int
    threads: int
    max_batch: int
    reason: str
    to_measure: str | None = None

    def __str__(self) -> str:
        processes = _counted(self.instances, "process", "es")
        each = " each" if self.instances > 1 else ""
        images = _counted(self.max_batch, "image", "s")
        return (
            f"{processes} with {_counted(self.threads, 'thread', 's')}{each}, calls of up to {images}: "
            f"{self.reason}"
        )


#: chooses for a Bundle in an engine, which was found at a path
Chooser = Callable[[Bundle, str, Path], Choice]


def by_default(asked: Asked, kept: Bundle, reason: str = "by default") -> Choice:
    """Without any rows: one process with all cores, batches of up to MAX_BATCH."""
    instances = asked.instances or 1
    threads = asked.threads or max(1, system.default_threads() // instances)
    return Choice(instances, threads, _most(asked, kept) or MAX_BATCH, reason)


def from_table(asked: Asked, table: Table, *, is_named: bool) -> Chooser:
    """Chooses from the table's rows. A table that wasn't named and can't be read is no reason not to
    serve."""

    def choose(kept: Bundle, engine: str, folder: Path) -> Choice:
        if asked.instances and asked.threads and _most(asked, kept):
            return by_default(asked, kept, "as asked")
        try:
            rows = rows_of(kept, engine, table)
        except TableError as error:
            if is_named:
                raise
            warn(f"processes and batches aren't chosen by measurements: {error.message}", error.hint)
            return by_default(asked, kept)
        return choose_from(rows, asked, kept, engine, folder)

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


def choose_from(rows: Sequence[Measurement], asked: Asked, kept: Bundle, engine: str, folder: Path) -> Choice:
    """The load of `rows` that gives the most images per second. Processes and threads are chosen if different
    ones were measured, and so is the batch. The Bundle is in `folder`, or an archive."""
    default = by_default(asked, kept)
    command = f"vertebra bench {shlex.quote(str(folder))} --engine {engine} --scenario offline"
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
        return Choice(default.instances, default.threads, default.max_batch, reason, command)
    in_time = [row for row in compared if _round_s(row) <= asked.timeout_s / 2]
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
    chosen = _most(asked, kept) or batch
    return Choice(instances, threads, chosen, reason, command if missing else None)


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
