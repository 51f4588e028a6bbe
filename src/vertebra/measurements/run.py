"""A run: rows that were measured together, their raw samples, and the system that they ran on.

A run's id is the hash of its content. The same content has the same id on every machine, so
appending it twice, or merging tables in any order, adds nothing twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vertebra.errors import InvalidInputError, TableError
from vertebra.measurements.measurement import Measurement
from vertebra.measurements.possible import check
from vertebra.measurements.record import Record, number, record_of, text_of


@dataclass(frozen=True)
class Run:
    """`created_at` is when the run was first put into a table (ISO 8601, UTC); it is not part of the id."""

    id: str
    records: tuple[Record, ...]
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    system: str | None = None
    created_at: str = ""

    @classmethod
    def of(
        cls,
        rows: Iterable[Measurement],
        samples: Mapping[str, Sequence[float]] | None = None,
        system: str | None = None,
    ) -> Run:
        """The run of these rows. Raises InvalidInputError where there are none, or a value isn't a number."""
        rows = tuple(rows)
        records = tuple(record_of(row) for row in rows)
        for row in rows:
            check(row)
        if not records:
            raise InvalidInputError("No rows to append.", "a run holds at least one row")
        plain = {name: _numbers(name, values) for name, values in (samples or {}).items()}
        return cls(_digest(records, plain, system), records, plain, system)

    def is_whole(self) -> bool:
        """Whether these are the very rows and samples that were appended under this id.

        A run from a file of chosen rows, or without its samples, is a part.
        """
        return self.id == _digest(self.records, self.samples, self.system)

    def joined(self, other: Run) -> Run:
        """The run with what the two hold of it; the same in either order.

        Raises TableError where one is whole and the other holds rows that it lacks.
        """
        earlier = min(self.created_at, other.created_at)
        for whole, part in ((self, other), (other, self)):
            if whole.is_whole():
                part._check_within(whole)
                return replace(whole, created_at=earlier)
        extra = other._beyond(self)
        samples = {**other.samples, **self.samples}
        return replace(
            self,
            records=(*self.records, *extra),
            samples=samples,
            system=self.system or other.system,
            created_at=earlier,
        )

    def _check_within(self, whole: Run) -> None:
        extra = self._beyond(whole)
        if extra:
            raise TableError(
                f"A row names run {self.id} as its own, but that run doesn't contain it: "
                f"{extra[0]['metric']} {extra[0]['value']} of {extra[0]['model']}.",
                "if you edited the row, leave its `run` empty to append it as a new one",
            )

    def _beyond(self, other: Run) -> list[Record]:
        """The records that `other` lacks, in order, each as often as it lacks it."""
        known = Counter(text_of(record) for record in other.records)
        extra = []
        for record in self.records:
            text = text_of(record)
            if known[text] > 0:
                known[text] -= 1
            else:
                extra.append(record)
        return extra


def _digest(records: Sequence[Record], samples: Mapping[str, Sequence[float]], system: str | None) -> str:
    content = {"rows": list(records), "samples": dict(samples), "system": system}
    return hashlib.sha256(text_of(content).encode("ascii")).hexdigest()


def _numbers(name: str, values: Sequence[float]) -> list[float]:
    try:
        return [number(value) for value in values]
    except (TypeError, ValueError):
        raise InvalidInputError(
            f'The samples "{name}" contain a value that is not a finite number.', "pass lists of numbers"
        ) from None
