"""`vertebra.doctor`: the machine itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vertebra.verbs import given
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.campaigns.diagnosis import Diagnosis
    from vertebra.progress import Listener


def doctor(*, quick: bool = False, table: TableLike = None, progress: Listener | None = None) -> Diagnosis:
    """Examine this machine: what it is, what disturbs it now and what is missing; its peak arithmetic rate
    and memory bandwidth; and the smallest difference between two latencies that it can show.

    What is measured is appended under the model `machine`, which no comparison of networks contains. `quick`
    takes less time, and shows less.
    """
    from vertebra.campaigns import diagnosis
    from vertebra.machine import system

    into = given.table(table)
    told = diagnosis.examine(quick=quick, progress=progress)
    if told.rows:
        into.append(told.rows, samples=told.samples, system=system.describe())
    return told
