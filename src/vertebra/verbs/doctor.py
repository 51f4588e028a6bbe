"""`vertebra.doctor`: this machine, what disturbs it and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from vertebra.errors import InvalidInputError
from vertebra.measurements import Table
from vertebra.verbs import given, notebook
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.campaigns.diagnosis import Diagnosis
    from vertebra.measurements.calibration import Calibration
    from vertebra.progress import Listener


@overload
def doctor(
    *, quick: bool = False, calibration: Literal[False] = False, table: TableLike = None,
    progress: Listener | None = None,
) -> Diagnosis: ...  # fmt: skip
@overload
def doctor(
    *, quick: bool = False, calibration: Literal[True], table: TableLike = None,
    progress: Listener | None = None,
) -> Calibration: ...  # fmt: skip
@overload
def doctor(
    *, quick: bool = False, calibration: bool, table: TableLike = None, progress: Listener | None = None
) -> Diagnosis | Calibration: ...
def doctor(
    *,
    quick: bool = False,
    calibration: bool = False,
    table: TableLike = None,
    progress: Listener | None = None,
) -> Diagnosis | Calibration:
    """Check this machine: its hardware, what disturbs it now and what is missing; its peak arithmetic rate
    and memory bandwidth; and the smallest difference between two latencies that can be detected.

    The figures are appended under the model `machine`, which is left out of comparisons of networks. `quick`
    takes less time and is less precise. With `calibration` nothing is measured: the answer is how often the
    interval of one run in the table holds the value of another of the same form. Raises InvalidInputError
    where no form was measured twice.
    """
    if calibration:
        return _calibration(given.table(table, create=False))
    from vertebra.campaigns import diagnosis
    from vertebra.machine import system

    into = given.table(table)
    found = diagnosis.examine(quick=quick, progress=notebook.listener(progress))
    if found.rows:
        into.append(found.rows, samples=found.samples, system=system.describe())
    return found


def _calibration(source: Table) -> Calibration:
    from vertebra.measurements import calibration, spread

    rows = source.rows(metric=spread.METRIC, origin="benched")
    found = calibration.examine(rows, spread.seen(source.store, {row.run for row in rows if row.run}))
    if not found.forms:
        raise InvalidInputError(
            "No form in the table was measured twice, so how well its intervals hold isn't known.",
            "measure again: vertebra bench MODEL --engine ENGINE",
        )
    return found
