"""The cases that failed, and why."""

from __future__ import annotations

from collections.abc import Iterable

from vertebra.measurements import Measurement, latest
from vertebra.reading.reports.markup import Cell, Column, Html, folded_section, prose, table, tag, text

_COLUMNS = (
    Column("Network", number=False), Column("Engine", number=False), Column("Precision", number=False),
    Column("Batch"), Column("Input"), Column("Reason", number=False), Column("When", number=False),
)  # fmt: skip


def failures_section(rows: Iterable[Measurement]) -> Html:
    """A table of the failures, or a sentence if there are none."""
    failed = [row for row in latest(rows) if row.metric == "failure"]
    body = [
        [text(row.model), text(row.engine), text(row.precision), Cell(str(row.batch_size), row.batch_size),
         Cell(str(row.input_size), row.input_size), prose("; ".join(row.grade_reasons) or "not recorded"),
         text((row.measured_at or "")[:10])]
        for row in failed
    ]  # fmt: skip
    content = table("Cases that failed", _COLUMNS, body) if body else tag("p", "No case failed.")
    return folded_section("failures", "What did not run", content, note=f"{len(body) or 'no'} cases")
