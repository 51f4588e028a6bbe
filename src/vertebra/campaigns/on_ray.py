"""Cases measured on the nodes of a Ray cluster, which is somebody else's engine and is only asked.

A task is the cases of one network, and takes a node's `bench_slot`, so that a node measures one thing at a
time. The timed part runs in fresh processes, as everywhere. A task whose node dies runs again on another;
rows come with the task's end, so none is lost with the node, and none comes twice.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from vertebra._version import __version__
from vertebra.campaigns import campaign, cases
from vertebra.campaigns.exports import subject_of
from vertebra.errors import InvalidInputError, MeasurementError, VertebraError
from vertebra.machine import cluster, system
from vertebra.machine.cluster import checked
from vertebra.measurements import Measurement, Table, display, kept_runs
from vertebra.measurements.record import row_of
from vertebra.measurements.run import Run
from vertebra.measuring.benchmarking import Case, Limits
from vertebra.progress import Listener, Progress, silent

__all__ = ["SLOT", "Measured", "checked", "measure"]

#: The resource of a node that measures: `ray start --resources '{"bench_slot": 1}'`.
SLOT = "bench_slot"
#: How often a task is run again whose node died.
_RETRIES = 5
_LOOK_S = 1.0
_START = f"""ray start --address HOST:6379 --resources '{{"{SLOT}": 1}}'"""


class Measured(NamedTuple):
    """The rows that were measured, and the numbers of cases that were known and that weren't finished."""

    rows: list[Measurement]
    known: int
    left: int


@dataclass(frozen=True)
class _Order:
    """What a node is asked to do: the cases of one network, and the rows of them that are known."""

    cases: tuple[Case, ...]
    limits: Limits
    seed: int
    known: tuple[Measurement, ...]
    threads: str | None


@dataclass(frozen=True)
class _Done:
    """What a node did: its runs, how many cases it knew, the descriptions of its systems, and the version
    that it runs."""

    runs: tuple[Run, ...]
    known: int
    systems: Mapping[str, Mapping[str, Any]]
    version: str


def measure(
    wanted: Iterable[Case],
    table: Table,
    *,
    on: str,
    limits: Limits | None = None,
    deadline: float | None = None,
    seed: int = 0,
    again: bool = True,
    progress: Listener | None = None,
) -> Measured:
    """As `campaign.measure`, with the cases of each network on one node of the cluster at `on` ("ray" or
    "ray://HOST:PORT"). What isn't finished by the `deadline` is stopped and leaves no row.

    Raises MissingRuntimeError without Ray, and InvalidInputError where the cluster doesn't answer, has no
    node that measures, or runs another version of vertebra.
    """
    ordered = sorted(
        wanted, key=lambda case: (cases.multiply_accumulates(case), case.model, case.network_sha256 or "")
    )
    limits, listener = limits or Limits(), progress or silent
    rows = () if again else table.rows()
    groups = [tuple(group) for _, group in groupby(ordered, key=subject_of)]
    measured: list[Measurement] = []
    done = known_there = 0
    with _cluster(on) as ray:
        task = _task(ray)
        waiting = {}
        for group in groups:
            known = tuple(row for row in rows if any(row.model == case.model for case in group))
            order = _Order(group, limits, seed, known, os.environ.get("OMP_NUM_THREADS"))
            cards = 1 if any(case.device == "cuda" for case in group) else 0
            waiting[task.options(num_gpus=cards).remote(order)] = group
        try:
            while waiting and (deadline is None or time.monotonic() < deadline):
                listener(Progress(_saying(_slots(ray)), done, len(ordered), "cases"))
                ready, _ = ray.wait(list(waiting), timeout=_LOOK_S)
                for one in ready:
                    found = _result(ray, one)
                    measured += _kept(table, found)
                    known_there += found.known
                    done += len(waiting.pop(one))
        finally:
            for one in waiting:
                ray.cancel(one, force=True)
    if waiting:
        missed = len(ordered) - done
        listener(Progress(f"{missed} of {len(ordered)} cases weren't measured: the time was up"))
    return Measured(measured, known_there, len(ordered) - done)


def _saying(slots: int) -> str:
    if slots == 0:
        return f"waiting for a node of the Ray cluster with the resource {SLOT}"
    return f"measuring on {display.count(slots, 'node')} of the Ray cluster"


def _task(ray: Any) -> Any:
    return ray.remote(resources={SLOT: 1}, num_cpus=0, max_retries=_RETRIES, retry_exceptions=False)(
        _measured
    )


def _measured(order: _Order) -> _Done:
    """Measure on this node, into a table of its own that ends with the task."""
    cluster.threads_as(order.threads)
    todo = cases.remaining(order.cases, order.known) if order.known else list(order.cases)
    with tempfile.TemporaryDirectory(prefix="vertebra-ray-") as folder:
        table = Table(Path(folder) / "table.sqlite")
        campaign.measure(todo, table, limits=order.limits, seed=order.seed)
        known = len(order.cases) - len(todo)
        return _Done(tuple(table.runs()), known, {**table.systems(), **_here()}, __version__)


def _here() -> dict[str, Mapping[str, Any]]:
    found = system.describe()
    return {found.id: found.to_dict()}


def _result(ray: Any, reference: Any) -> _Done:
    """What a task returned. Raises its VertebraError, or MeasurementError where its nodes kept dying."""
    try:
        done: _Done = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VertebraError):
            raise error.cause from None
        raise MeasurementError(f"A node of the Ray cluster failed: {cluster.last_line(error)}.") from error
    except ray.exceptions.RayError as error:
        raise MeasurementError(
            f"The Ray cluster gave a task up: {cluster.last_line(error)}.",
            "what was measured before is in the table; the same command continues",
        ) from error
    if done.version != __version__:
        raise InvalidInputError(
            f"A node of the Ray cluster has vertebra {done.version}; this is {__version__}.",
            "install the same version on all nodes",
        )
    return done


def _kept(table: Table, done: _Done) -> list[Measurement]:
    """Append a node's runs, and give their rows."""

    def write(connection: Any) -> None:
        kept_runs.add_systems(connection, done.systems)
        for run in done.runs:
            kept_runs.add(connection, run)

    table.store.write(write)
    return [row_of(record) for run in done.runs for record in run.records]


def _slots(ray: Any) -> int:
    return int(ray.cluster_resources().get(SLOT, 0))


@contextmanager
def _cluster(on: str) -> Iterator[Any]:
    """Ray, connected to a cluster that has nodes which measure."""
    with cluster.connected(on, start=f"ray start --head --resources '{{\"{SLOT}\": 1}}'") as ray:
        if not _slots(ray):
            raise InvalidInputError(
                f"No node of the Ray cluster has the resource {SLOT}, so none measures.",
                f"start those that measure with: {_START}",
            )
        yield ray
