"""READ: two sides of a table, figure by figure: by how much they differ, and whether they really differ.

A side is a selection of rows: of one machine, one engine, one version, one day, one file. Like is compared
with like: two rows make a pair if they differ in nothing but what the sides select, and in what follows from
that (another machine has another number of cores). Everything that differs between them is named.

Latencies are compared by their blocks if the table has them, in pairs if they were measured interleaved.
Other figures are compared by their intervals. A figure with neither was measured once, and isn't judged.
A case that only one side has is named: what can't be compared must not pass for equal.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from vertebra import metrics, zoo
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, Table, display, exchange, latest, statistics, subjects
from vertebra.measurements.blocks import Block, unpack
from vertebra.measurements.database import is_address
from vertebra.measurements.measurement import CONDITIONS
from vertebra.measurements.store import FILTERS
from vertebra.measurements.views import newest, possible

Verdict = Literal["no detectable difference", "better", "worse", "different", "not judged", "failed", "fixed"]
Samples = Callable[[str], Mapping[str, Sequence[float]]]

_DATE = re.compile(r"\d{4}-\d\d(-\d\d(T[\d:.+-]*)?)?$")
_RUN = re.compile(r"[0-9a-f]{8,64}$")
_FILES: dict[str, Callable[[Path], list[Measurement]]] = {
    ".csv": exchange.read_csv, ".json": exchange.read_json, ".parquet": exchange.read_parquet,
}  # fmt: skip
_FORMS = "MODEL, MODEL@ENGINE, @ENGINE, column=value, library=version, a date, a run, a system, or a file"

#: What else may differ if the sides select different values of this.
FOLLOWS: dict[str, tuple[str, ...]] = {
    "model": ("network_sha256", "weights", "input_size"),
    "engine": ("provider", "layout", "streams", "device"),
    "device": ("provider", "layout", "streams", "threads"),
    "provider": ("device", "layout"),
    "precision": ("provider", "layout"),
    "system": ("threads", "streams", "device", "provider"),
    "scenario": ("streams", "arrival_rate"),
    "file": ("system", "threads", "streams", "device", "provider"),
    "run": ("system", "threads", "streams", "device", "provider"),
}
_SUBJECT = ("model", "network_sha256", "weights", "metric", "origin")
#: The reserved model of a machine's own figures.
_MACHINE = "machine"
#: Memory is measured once too, but repeats within this.
_LEAST_BYTES = 0.05
#: Half of a 95 % interval in standard errors.
_Z = 1.96
_ONCE = "measured once, no interval"


@dataclass(frozen=True)
class Side:
    """Selected rows, and the columns that the selection fixes. `samples` gives a run's samples, by name."""

    name: str
    rows: Sequence[Measurement]
    samples: Samples
    chosen: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Comparison(display.Shown):
    """One figure on both sides. `ratio` is the second divided by the first, with a 95 % interval if there is
    one; `differing` are the conditions and versions that differ, in words."""

    metric: str
    first: Measurement
    second: Measurement
    verdict: Verdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    paired: bool = False
    differing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """What is compared, and the verdict."""
        return " ".join(str(value) for value in self.line().values() if value)

    def line(self) -> display.Line:
        """The comparison in one line of a table."""
        sure = self.low is not None and self.high is not None
        return {
            "figure": f"{metrics.find(self.metric).label} of {self.second.model}",
            "first": display.quantity(self.first),
            "second": display.quantity(self.second),
            "ratio": None if self.ratio is None else f"{self.ratio:.3f}",
            "95 % interval": f"{self.low:.3f} to {self.high:.3f}" if sure else None,
            "verdict": self.verdict,
        }

    def is_regression(self, tolerance: float = 0.0) -> bool:
        """Whether the second is certainly worse, by more than `tolerance` (a share). A new failure always
        is."""
        return self.verdict == "failed" or (self.verdict == "worse" and self._is_beyond(tolerance))

    def is_suspect(self, tolerance: float = 0.0) -> bool:
        """Whether the second isn't judged, though all of its interval is worse by more than `tolerance`."""
        return self.verdict == "not judged" and self.low is not None and self._is_beyond(tolerance)

    @property
    def is_judgeable(self) -> bool:
        """Whether measuring better could judge it: a time that is taken once never has an interval."""
        return _ONCE not in self.notes

    def _is_beyond(self, tolerance: float) -> bool:
        better = metrics.find(self.metric).better
        if self.ratio is None:  # from or to zero: beyond any share
            return self.verdict == "worse"
        low = self.ratio if self.low is None else self.low
        high = self.ratio if self.high is None else self.high
        least = {"lower": low, "higher": 1 / high if high else math.inf, "neither": 0.0}[better]
        return least > 1 + tolerance


class Compared(display.Shown, list[Comparison]):
    """The figures that both sides have. `missing` are rows of the first side whose case the second side
    lacks, and `new` the reverse; a case is one network under one set of conditions."""

    def __init__(
        self,
        figures: Iterable[Comparison] = (),
        missing: Iterable[Measurement] = (),
        new: Iterable[Measurement] = (),
    ) -> None:
        super().__init__(figures)
        self.missing = tuple(missing)
        self.new = tuple(new)

    def summary(self) -> str:
        """How many figures have which verdict."""
        kinds = Counter(one.verdict for one in self)
        counts = [f"{count} {kind}" for kind, count in kinds.items()]
        gone = [f"{len(self.missing)} missing", f"{len(self.new)} new"]
        return ", ".join([display.count(len(self), "figure"), *counts, *gone])

    def tables(self) -> Iterable[list[display.Line]]:
        """The figures."""
        yield [one.line() for one in self]

    @property
    def judgeable(self) -> list[Comparison]:
        """The figures that aren't single measurements."""
        return [one for one in self if one.is_judgeable]

    @property
    def judged(self) -> list[Comparison]:
        """The figures with a verdict."""
        return [one for one in self if one.verdict != "not judged"]

    @property
    def judged_share(self) -> float:
        """The share of `judgeable` that is judged, from 0 to 1; 0 if there are none."""
        return len(self.judged) / len(self.judgeable) if self.judgeable else 0.0

    def regressions(self, tolerance: float = 0.0) -> list[Comparison]:
        """The figures that are certainly worse by more than `tolerance` (a share), and new failures."""
        return [one for one in self if one.is_regression(tolerance)]


def compare(
    first: Side,
    second: Side,
    *,
    metric: Collection[str] = (),
    floor: float = statistics.LEAST_DIFFERENCE,
    trust: str = "B",
) -> Compared:
    """The figures that both sides have, in the order of the first's rows, then cases that failed on one side
    only; of `metric` only, where given.

    `floor` is the smallest difference that can be detected on the machine. A figure with a grade worse than
    `trust` on either side isn't judged.
    """
    varied = _varied(first, second)
    left, right = (_of_metrics(side.rows, metric) for side in (first, second))
    judged = [_judged(*pair, first, second, floor, trust) for pair in _pairs(left, right, varied)]
    figures = [*judged, *_failures(first.rows, second.rows, varied)]
    return Compared(figures, _missing(left, right, varied), _missing(right, left, varied))


def _of_metrics(rows: Iterable[Measurement], names: Collection[str]) -> list[Measurement]:
    return [row for row in rows if not names or row.metric in (*names, "failure")]


def _varied(first: Side, second: Side) -> set[str]:
    """Columns that may differ: those in which the sides' selections differ, and what follows from them."""
    names = {*first.chosen, *second.chosen}
    varied = {name for name in names if first.chosen.get(name) != second.chosen.get(name)}
    return varied | {follower for name in varied for follower in FOLLOWS.get(name, ())}


def _key(row: Measurement, varied: set[str], metric: str | None = None) -> tuple[Any, ...]:
    same = [getattr(row, name) for name in (*_SUBJECT, *CONDITIONS) if name not in (*varied, "metric")]
    return (metric or row.metric, *same)


def _pairs(
    first: Iterable[Measurement], second: Iterable[Measurement], varied: set[str]
) -> Iterator[tuple[Measurement, Measurement]]:
    """Rows of the same key; if the second has several, the one that differs least."""
    others: dict[tuple[Any, ...], list[Measurement]] = {}
    for row in filter(_is_compared, second):
        others.setdefault(_key(row, varied), []).append(row)
    for row in filter(_is_compared, first):
        found = others.get(_key(row, varied))
        if found:
            yield row, min(found, key=lambda other: len(_conditions_apart(row, other)))


def _is_compared(row: Measurement) -> bool:
    is_own = row.origin != "published" and row.model != _MACHINE
    return is_own and row.metric != "failure"


def _failures(
    first: Sequence[Measurement], second: Sequence[Measurement], varied: set[str]
) -> Iterator[Comparison]:
    """Cases that have a latency on one side and failed on the other, by the newest row of each side."""
    sides = [_outcomes(rows, varied) for rows in (first, second)]
    for key, before in sides[0].items():
        after = sides[1].get(key)
        if after is not None and (before.metric == "failure") != (after.metric == "failure"):
            verdict: Verdict = "failed" if after.metric == "failure" else "fixed"
            reasons = (after if verdict == "failed" else before).grade_reasons
            yield Comparison("failure", before, after, verdict, notes=reasons)


def _outcomes(rows: Iterable[Measurement], varied: set[str]) -> dict[tuple[Any, ...], Measurement]:
    """The newest outcome of each case: its latency, or its failure, which has no provider or layout."""

    def key(row: Measurement) -> tuple[Any, ...]:
        return _outcome_key(row, varied)

    told = [row for row in rows if row.metric in ("latency", "failure")]
    return {key(row): row for row in newest(told, key)}


def _missing(
    first: Iterable[Measurement], second: Iterable[Measurement], varied: set[str]
) -> list[Measurement]:
    """The rows of `first` whose case has no figure in `second`, nor a failure there."""
    second = list(second)
    cases = {_case(row, varied) for row in second if _is_compared(row)}
    failed = {_outcome_key(row, varied) for row in second if row.metric == "failure"}
    return [
        row for row in first
        if _is_compared(row) and _case(row, varied) not in cases and _outcome_key(row, varied) not in failed
    ]  # fmt: skip


def _case(row: Measurement, varied: set[str]) -> tuple[Any, ...]:
    return _key(row, varied, "case")


def _outcome_key(row: Measurement, varied: set[str]) -> tuple[Any, ...]:
    """A failure has no provider or layout."""
    return _key(row, varied | {"provider", "layout", "streams"}, "outcome")


# ------------------------------------------------------------------ sides


def side(choice: str | Path | Mapping[str, Any], table: Table) -> Side:
    """The newest row of each figure that `choice` selects from `table`, or those of a file.

    A choice in text is MODEL, MODEL@ENGINE, @ENGINE, `column=value` and `library=version` (several with
    commas between), a date, the beginning of a run's id, a system's name, or a file: rows or a table.
    Versions and dates match by their beginning. Raises InvalidInputError if it is none of these or selects
    no row.
    """
    if not isinstance(choice, Mapping):
        if is_address(choice):
            return _side_of_table(Table(choice, create=False))
        file = Path(choice).expanduser()
        if file.suffix in (".sqlite", *_FILES):
            return _side_of_file(file, table)
    every = table.rows()
    named = choice if isinstance(choice, Mapping) else table.system_id(str(choice))
    chosen = dict(named) if isinstance(named, Mapping) else _parse(named, every)
    if isinstance(chosen.get("system"), str):
        chosen["system"] = table.system_id(chosen["system"])
    rows = [row for row in every if all(_has(row, name, value) for name, value in chosen.items())]
    name = _named(chosen) if isinstance(choice, Mapping) else str(choice)
    if not rows:
        raise InvalidInputError(
            f'No row of the table matches "{name}".', "list the rows with: vertebra table"
        )
    return Side(name, latest(possible(rows)), cache(table.samples), chosen)


def narrowed(side: Side, filters: Mapping[str, Any]) -> Side:
    """The side's rows that match `filters` (column=value, or several values); None as a value means no
    filter. A row is kept if it has no value in a column that its metric doesn't depend on.
    """
    wanted = {name: value for name, value in filters.items() if value is not None}
    rows = [row for row in side.rows if all(_matches(row, name, value) for name, value in wanted.items())]
    return replace(side, rows=rows)


def _matches(row: Measurement, name: str, wanted: Any) -> bool:
    several = wanted if isinstance(wanted, list | tuple | set) else (wanted,)
    if name == "model":
        return any(subjects.is_called(row, one) for one in several)
    value = getattr(row, name)
    return value in several or (value is None and name not in metrics.find(row.metric).conditions)


def _side_of_file(file: Path, known: Table) -> Side:
    if not file.is_file():
        raise InvalidInputError(
            f"There is no file {file}.", "name a table (.sqlite), or rows written by vertebra table --write"
        )
    if file.suffix in _FILES:
        rows = known.with_present_ids(_FILES[file.suffix](file))
        return Side(str(file), latest(rows), lambda _: {}, {"file": file})
    return _side_of_table(Table(file, create=False))


def _side_of_table(table: Table) -> Side:
    return Side(table.shown, table.latest(), cache(table.samples), {"file": table.shown})


def _parse(text: str, rows: Iterable[Measurement]) -> dict[str, Any]:
    """The columns, and libraries' versions, that a choice in text fixes."""
    if "=" in text:
        parts = [part.partition("=") for part in text.split(",")]
        return {name.strip(): _resolved(name.strip(), value.strip()) for name, _, value in parts}
    if _DATE.match(text):
        return {"measured_at": text}
    known = list(rows)
    if any(row.system == text for row in known):
        return {"system": text}
    if _RUN.match(text) and any((row.run or "").startswith(text) for row in known):
        return {"run": text}
    model, at, engine = text.rpartition("@") if "@" in text else (text, "", "")
    if not model and not engine:
        raise InvalidInputError(f'"{text}" is not a side.', f"a side is {_FORMS}")
    return {**(_network(model, known) if model else {}), **({"engine": engine} if at else {})}


def _network(name: str, rows: Sequence[Measurement]) -> dict[str, Any]:
    """The columns that a network's name fixes; with the beginning of a digest, its digest too."""
    digests = subjects.by_model({subjects.subject(row) for row in rows})
    model, digest = (name, None) if name in digests else subjects.parted(name)
    model = model if model in digests else _model(model)
    if digest is None:
        return {"model": model}
    return {"model": model, "network_sha256": subjects.chosen(digest, model, digests.get(model, ()))}


def _resolved(name: str, value: str) -> str:
    if not name or not value:
        raise InvalidInputError(f'"{name}={value}" selects nothing.', f"a side is {_FORMS}")
    return _model(value) if name == "model" else value


def _model(name: str) -> str:
    try:
        return zoo.canonical(name)
    except UnknownNameError as error:
        raise UnknownNameError(error.message, f"{error.hint}; a side is {_FORMS}") from None


def _has(row: Measurement, name: str, value: Any) -> bool:
    """Whether `row` matches a choice: equal in a column, or its version, date or run begins with it."""
    if name in ("run", "measured_at"):
        return str(getattr(row, name) or "").startswith(str(value))
    if name in FILTERS:
        return str(getattr(row, name)) == str(value)
    version = row.versions.get(name, "")
    return version == value or version.startswith((f"{value}.", f"{value}+"))


def _named(chosen: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in chosen.items())


# ------------------------------------------------------------------ one pair


def _judged(
    left: Measurement, right: Measurement, first: Side, second: Side, floor: float, trust: str
) -> Comparison:
    blocks = [_blocks(row, side) for row, side in ((left, first), (right, second))]
    found = _by_blocks(left, right, blocks, floor) if all(blocks) else _by_figures(left, right, floor)
    doubts = _doubts(left, right, trust)
    return replace(
        found,
        verdict="not judged" if doubts else found.verdict,
        differing=tuple([*_conditions_apart(left, right), *_versions_apart(left, right)]),
        notes=(*doubts, *found.notes),
    )


def _blocks(row: Measurement, side: Side) -> list[Block]:
    if row.metric not in ("latency", "throughput") or row.run is None or row.scenario != "single-stream":
        return []
    return unpack(side.samples(row.run))


def _by_blocks(
    left: Measurement, right: Measurement, blocks: Sequence[Sequence[Block]], floor: float
) -> Comparison:
    found = statistics.compare(*blocks, floor=floor)
    ratios = found.ratio, found.low, found.high
    if left.metric == "throughput":
        ratios = 1 / found.ratio, 1 / found.high, 1 / found.low
    verdict = _verdict(left.metric, ratios[0], found.detected)
    notes = () if found.paired else ("measured at separate times",)
    return Comparison(
        left.metric, left, right, verdict, *ratios, found.p_value, found.paired, notes=notes
    )  # fmt: skip


def _by_figures(left: Measurement, right: Measurement, floor: float) -> Comparison:
    """By the two values and their intervals, as if the errors were normal."""
    if left.value <= 0 or right.value <= 0:
        return _without_ratio(left, right)
    middle = math.log(right.value / left.value)
    errors = [_error(left), _error(right)]
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return _without_interval(left, right, middle)
    reach = _Z * math.hypot(*known)
    margin = max(floor, statistics.LEAST_DIFFERENCE_APART) if left.origin == "benched" else 0.0
    apart = abs(middle) - reach > math.log1p(margin)
    ratio, low, high = (math.exp(value) for value in (middle, middle - reach, middle + reach))
    return Comparison(left.metric, left, right, _verdict(left.metric, ratio, apart), ratio, low, high)


def _without_ratio(left: Measurement, right: Measurement) -> Comparison:
    """From or to zero: counts are exact, and intervals that don't overlap are apart."""
    if left.value == right.value:
        return Comparison(left.metric, left, right, "no detectable difference")
    if None in (left.low, left.high, right.low, right.high):
        is_exact = metrics.find(left.metric).unit == "count"
        verdict = _verdict(left.metric, _direction(left, right), True) if is_exact else "not judged"
        return Comparison(left.metric, left, right, verdict, notes=() if is_exact else (_ONCE,))
    apart = left.high < right.low or right.high < left.low  # type: ignore[operator]
    return Comparison(left.metric, left, right, _verdict(left.metric, _direction(left, right), apart))


def _direction(left: Measurement, right: Measurement) -> float:
    return math.inf if right.value > left.value else 0.0


def _error(row: Measurement) -> float | None:
    """The standard error of the value's logarithm, by its interval."""
    if row.low is None or row.high is None or row.low <= 0:
        return None
    return math.log(row.high / row.low) / (2 * _Z)


def _without_interval(left: Measurement, right: Measurement, middle: float) -> Comparison:
    """Counts are exact; memory repeats closely; a time that was measured once can't be judged."""
    unit = metrics.find(left.metric).unit
    if left.origin == "benched" and unit != "B":
        return Comparison(
            left.metric, left, right, "not judged", math.exp(middle), notes=(_ONCE,)
        )  # fmt: skip
    margin = _LEAST_BYTES if left.origin == "benched" else 0.0
    verdict = _verdict(left.metric, math.exp(middle), abs(middle) > math.log1p(margin))
    return Comparison(left.metric, left, right, verdict, math.exp(middle))


def _verdict(metric: str, ratio: float, apart: bool) -> Verdict:
    better = metrics.find(metric).better
    if not apart:
        return "no detectable difference"
    if better == "neither":
        return "different"
    return "better" if (ratio < 1) == (better == "lower") else "worse"


def _doubts(left: Measurement, right: Measurement, trust: str) -> tuple[str, ...]:
    """Why one of the two can't be believed."""
    graded = {"first": left, "second": right}
    return tuple(
        f"the {name} is graded {row.grade}: {'; '.join(row.grade_reasons[:1]) or 'no reason recorded'}"
        for name, row in graded.items()
        if row.grade is not None and row.grade > trust
    )


def _conditions_apart(left: Measurement, right: Measurement) -> list[str]:
    names = ("model", "network_sha256", "weights", *CONDITIONS)
    pairs = [(name, _shown(name, left), _shown(name, right)) for name in names]
    if None not in (left.exclusive, right.exclusive):
        pairs.append(("exclusive", left.exclusive, right.exclusive))
    return [f"{name} {one} → {other}" for name, one, other in pairs if one != other]


def _shown(name: str, row: Measurement) -> Any:
    """The value of a column; of a digest its beginning."""
    value = getattr(row, name)
    return value[:8] if value is not None and name.endswith("_sha256") else value


def _versions_apart(left: Measurement, right: Measurement) -> list[str]:
    names = sorted({*left.versions, *right.versions})
    pairs = [(name, left.versions.get(name), right.versions.get(name)) for name in names]
    return [f"{name} {one or 'none'} → {other or 'none'}" for name, one, other in pairs if one != other]
