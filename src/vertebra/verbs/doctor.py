"""`vertebra.doctor`: this machine, what disturbs it and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vertebra.verbs import given, notebook
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.campaigns.diagnosis import Diagnosis
    from vertebra.progress import Listener


def doctor(*, quick: bool = False, table: TableLike = None, progress: Listener | None = None) -> Diagnosis:
    """Check this machine: its hardware, what disturbs it now and what is missing; its peak arithmetic rate
    and memory bandwidth; and the smallest difference between two latencies that can be detected.

    The figures are appended under the model `machine`, which is left out of comparisons of networks. `quick`
    takes less time and is less precise.
    """
    from vertebra.campaigns import diagnosis
    from vertebra.machine import system

    into = given.table(table)
    found = diagnosis.examine(quick=quick, progress=notebook.listener(progress))
    if found.rows:
        into.append(found.rows, samples=found.samples, system=system.describe())
    return found
