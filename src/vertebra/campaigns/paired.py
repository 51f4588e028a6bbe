"""Two cases compared where it matters which is faster: with interleaved blocks, both meet the same machine.

What two separate runs say differs by what the machine did between them; a ratio of interleaved blocks
doesn't.
"""

from __future__ import annotations

from dataclasses import dataclass

from vertebra.campaigns import campaign
from vertebra.measurements import Measurement, Table, statistics
from vertebra.measurements.blocks import unpack
from vertebra.measurements.statistics import Difference
from vertebra.measuring.benchmarking import Case, Limits
from vertebra.progress import Listener

#: Rounds, each with a fresh process of both, and seconds for each case.
ROUNDS, SECONDS = 3, 6.0


@dataclass(frozen=True)
class Pair:
    """The rows of both cases, which are in the table, and how many times the first one's latency the second's
    is; None where one of them failed, or had too few samples."""

    rows: tuple[Measurement, ...]
    difference: Difference | None


def measure(
    first: Case,
    second: Case,
    table: Table,
    *,
    limits: Limits | None = None,
    deadline: float | None = None,
    progress: Listener | None = None,
) -> Pair:
    """Measure both in interleaved blocks, and append their rows. `deadline` is one of `time.monotonic`."""
    limits = limits or campaign.limits(2, processes=ROUNDS, seconds=SECONDS)
    rows = campaign.measure([first, second], table, limits=limits, deadline=deadline, progress=progress)
    runs = [_run_of(case, rows, table) for case in (first, second)]
    if None in runs:
        return Pair(tuple(rows), None)
    blocks = [unpack(table.samples(run or "")) for run in runs]
    has_both = all(blocks)
    return Pair(tuple(rows), statistics.compare(*blocks) if has_both else None)


def _run_of(case: Case, rows: list[Measurement], table: Table) -> str | None:
    """The run of a case's latency: that of the newest such row in the table."""
    found = [row for row in rows if (row.metric, row.model, row.engine, row.precision) == (
        "latency", case.model, case.engine, case.precision)]  # fmt: skip
    if not found:
        return None
    stored = table.rows(
        metric="latency", model=case.model, engine=case.engine, precision=case.precision,
        measured_at=found[-1].measured_at,
    )  # fmt: skip
    return stored[-1].run if stored else None
