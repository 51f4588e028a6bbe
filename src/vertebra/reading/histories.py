"""READ: what was measured of each form, day by day and version by version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vertebra.measurements import Measurement, Table, pooling, spread
from vertebra.measurements.history import History, history
from vertebra.measurements.views import possible
from vertebra.reading.choice.candidates import this_system

#: What is asked for where nothing else is: as for a chart, except that `None` leaves a condition open.
_USUAL: Mapping[str, Any] = {"batch_size": 1, "beside": (None, 0)}


def histories(source: Table, chosen: Mapping[str, Any] | None = None, **load: Any) -> list[History]:
    """The history of each form of one load (by default this machine's, at batch size 1), those of the rows
    with columns equal to `chosen`; how widely the machine spreads is learnt from all of its rows.

    Forms whose runs have no date are left out.
    """
    load = {**_USUAL, "system": this_system(source), **load}
    load = {name: value for name, value in load.items() if value is not None}
    rows = possible(source.rows(metric=spread.METRIC, origin="benched", **load))
    runs = {row.run for row in rows if row.run is not None}
    forms = pooling.forms(rows, spread.seen(source.store, runs))
    machines = pooling.learnt_from(forms.values())
    found = []
    for own in forms.values():
        if _is_chosen(own[0][0], chosen or {}):
            one = history(own, machines[own[0][0].system])
            found += [one] if one.moments else []
    return found


def _is_chosen(row: Measurement, chosen: Mapping[str, Any]) -> bool:
    return all(getattr(row, name) == value for name, value in chosen.items())
