"""Which of several measured loads is best: streams and batch sizes that serve the most images."""

from __future__ import annotations

from collections.abc import Sequence

from vertebra.measurements.measurement import Measurement

#: Loads within this share of the best count as equally good; then the one that needs less is chosen.
AS_GOOD = 0.02


def best(rows: Sequence[Measurement]) -> Measurement:
    """Of rows of throughput, those within 2 % of the greatest, the one with the fewest pictures at once."""
    most = max(row.value for row in rows)
    good = [row for row in rows if row.value >= (1 - AS_GOOD) * most]
    return min(good, key=lambda row: ((row.batch_size or 1) * (row.streams or 1), row.streams or 1))
