"""One row, one value: the columns of a measurement, and which it needs to be understood by itself.

A row states what was measured (subject), the value and how certain it is, under which conditions, and
where it is from (provenance).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from vertebra import metrics
from vertebra.errors import InvalidInputError
from vertebra.measurements.possible import check

#: `derived` figures are computed from others for an answer, and never stored in a table.
ORIGINS = ("published", "estimated", "profiled", "benched", "evaluated", "derived")
GRADES = ("A", "B", "C")

#: The columns that distinguish two values of a metric for the same subject.
CONDITIONS = (
    "dataset", "dataset_sha256", "split", "protocol", "input_size", "batch_size", "precision", "engine",
    "provider", "device", "layout", "threads", "streams", "scenario", "arrival_rate", "beside",
    "system",
)  # fmt: skip


def now(precision: Literal["seconds", "microseconds"] = "seconds") -> str:
    """The time as rows record it: ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec=precision)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One value of one metric for one subject, with all that is needed to understand it by itself.

    Values are in the metric's base unit (seconds, bytes, counts, fractions of 1). `low` and `high`
    bound a 95 % interval. A condition is None where the metric does not depend on it or a
    published source does not state it. `versions` maps library names to versions. `measured_at`
    is an ISO 8601 date or time in UTC. `convention` states how an imported count was counted, and
    `disputed` why a published value is doubted; both are text, and the value stays as printed.

    `exclusive` says whether nothing else could use the machine meanwhile, None if that is unknown. It is no
    condition: a newer row takes the place of an older one whatever both say.

    `network_sha256` is the content of a network that comes from a file, and None for one whose names say
    which it is; `dataset_sha256` is what the data set holds: its pictures' base names, labels and sizes.

    Raises InvalidInputError where the row could not be understood by itself, or holds what can't be: a
    value outside of its metric's range, an interval without its value, a batch size of 0, text that can't be
    printed.
    """

    model: str
    metric: str
    value: float
    origin: str
    weights: str | None = None
    network_sha256: str | None = None
    low: float | None = None
    high: float | None = None
    samples: int | None = None
    grade: str | None = None
    grade_reasons: tuple[str, ...] = ()
    dataset: str | None = None
    dataset_sha256: str | None = None
    split: str | None = None
    protocol: str | None = None
    input_size: int | None = None
    batch_size: int | None = None
    precision: str | None = None
    engine: str | None = None
    provider: str | None = None
    device: str | None = None
    layout: str | None = None
    threads: int | None = None
    streams: int | None = None
    scenario: str | None = None
    arrival_rate: float | None = None
    beside: int | None = None
    exclusive: bool | None = None
    system: str | None = None
    source: str | None = None
    convention: str | None = None
    disputed: str | None = None
    run: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    measured_at: str | None = None

    def __repr__(self) -> str:
        """The columns that have a value."""
        known = [(name, getattr(self, name)) for name in COLUMNS]
        shown = (f"{name}={value!r}" for name, value in known if value not in (None, (), {}))
        return f"Measurement({', '.join(shown)})"

    #: When it was measured, as the table tells that has it (`stored`); None for a row from elsewhere.
    moment: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        metric = metrics.find(self.metric)
        if self.origin not in ORIGINS:
            raise InvalidInputError(
                f'Unknown origin "{self.origin}" of a measurement of {self.model}.',
                f"origins: {', '.join(ORIGINS)}",
            )
        if self.grade is not None and self.grade not in GRADES:
            raise InvalidInputError(f'Unknown grade "{self.grade}".', f"grades: {', '.join(GRADES)}")
        check(self)
        if self.origin == "published":
            return
        missing = [name for name in metric.conditions if getattr(self, name) is None]
        if missing:
            raise InvalidInputError(
                f"A {self.origin} {metric.label} of {self.model} must state {', '.join(missing)}.",
                f"conditions of {metric.name}: {', '.join(metric.conditions)}",
            )

    @classmethod
    def restored(cls, values: Mapping[str, Any], moment: float | None = None) -> Measurement:
        """The row that holds `values`, one for every column, unchecked: for values that were checked before.
        `moment` is when it was measured, as far as the table can tell (seconds since 1970).

        Raises UnknownNameError for a metric that isn't known any more, or not yet.
        """
        metrics.find(values["metric"])
        row = object.__new__(cls)
        row.__dict__.update(
            values
        )  # a frozen dataclass sets one attribute at a time, which costs ten times this
        if moment is not None:
            row.__dict__["moment"] = moment
        return row

    def like(self, **columns: Any) -> Measurement:
        """This row with other `columns`, unchecked and many times quicker than `dataclasses.replace`: for
        values that follow from checked ones, or that the package's tests check."""
        row = object.__new__(type(self))
        row.__dict__.update(self.__dict__)
        row.__dict__.update(columns)
        return row

    def conditions(self) -> dict[str, str | int | float]:
        """The conditions that are known, in the table's order."""
        known = {name: getattr(self, name) for name in CONDITIONS}
        return {name: value for name, value in known.items() if value is not None}


COLUMNS = tuple(column.name for column in fields(Measurement))
