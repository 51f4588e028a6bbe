"""Evaluations of shares of a data set's pictures, and the evaluation that they make together.

Shares are counted in whole numbers, so their sum is exactly what one run over all pictures counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from vertebra.measurements import Measurement
from vertebra.measurements.measurement import CONDITIONS
from vertebra.measurements.subjects import share_in
from vertebra.measurements.views import moment_of
from vertebra.measuring.evaluation.results import Evaluation
from vertebra.measuring.evaluation.statistics import wilson
from vertebra.measuring.evaluation.tally import ONE, error_of

if TYPE_CHECKING:
    from vertebra.measurements import Table

#: The lists of a share's samples: of each bin of confidence the right answers, and the sum of confidences in
#: whole numbers and in steps of 2^-40, both of which a float holds exactly.
_RIGHT, _WHOLE, _STEPS = "calibration.right", "calibration.confidence", "calibration.steps"
_ACCURACIES = ("top1", "top5")
#: What is equal in the shares of one evaluation, beside their versions and the split that they are of.
_SAME = ("model", "weights", "network_sha256", *(name for name in CONDITIONS if name != "split"))
_same = attrgetter(*_SAME)


@dataclass(frozen=True)
class Joined:
    """What the table has of an evaluation in `of` shares: the numbers of those that are `missing`, and if
    none is, the `rows` of the whole, of which `added` are new in the table. `otherwise` are missing shares
    that are there with other versions."""

    model: str
    weights: str | None
    dataset: str | None
    split: str
    of: int
    missing: tuple[int, ...]
    otherwise: tuple[int, ...] = ()
    rows: tuple[Measurement, ...] = ()
    added: int = 0

    def __str__(self) -> str:
        what = f"{self.model} ({self.weights}) on {self.dataset}, split {self.split}"
        if not self.missing:
            return f"{what}: all {self.of} shares are there and joined"
        named = ", ".join(map(str, self.missing[:_NAMED])) + (", …" if len(self.missing) > _NAMED else "")
        text = f"{what}: {len(self.missing)} of {self.of} shares missing: {named}"
        if self.otherwise:
            other = ", ".join(map(str, self.otherwise[:_NAMED]))
            text += f" ({other}: evaluated with other versions, which aren't joined)"
        return text


#: How many missing shares are named.
_NAMED = 20


def samples(found: Evaluation) -> dict[str, list[float]]:
    """What the table keeps beside the rows of a share, so that its calibration error can be joined."""
    assert found.bins is not None
    return {
        _RIGHT: [float(one) for one in found.bins.right],
        _WHOLE: [float(one // ONE) for one in found.bins.confidence],
        _STEPS: [float(one % ONE) for one in found.bins.confidence],
    }


def join(table: Table, of: Measurement | None = None) -> list[Joined]:
    """Append to `table` the rows of each evaluation of which it has all shares, and say of the others which
    shares are missing; of the evaluation that the row `of` is of alone, if it is given. Doing it again adds
    nothing."""
    named: dict[str, Any] = {} if of is None else {"model": of.model}
    runs: dict[str, list[Measurement]] = defaultdict(list)
    for row in table.rows(origin="evaluated", **named):
        if share_in(row.split) is not None:
            runs[str(row.run)].append(row)
    groups: dict[tuple[Any, ...], dict[int, list[Measurement]]] = defaultdict(dict)
    # Of a share that was evaluated several times, the newest run counts.
    for rows in sorted(runs.values(), key=lambda own: moment_of(own[0])):
        groups[_key(rows[0])][_share(rows[0])[1]] = rows
    return [
        _joined(table, shares, _others(groups, key))
        for key, shares in groups.items() if of is None or key == _key(of)
    ]  # fmt: skip


def _key(row: Measurement) -> tuple[Any, ...]:
    """What is equal in the shares of one evaluation."""
    split, _, of = _share(row)
    return _same(row), split, of, tuple(sorted(row.versions.items()))


def _share(row: Measurement) -> tuple[str, int, int]:
    found = share_in(row.split)
    assert found is not None
    return found


def _others(groups: Mapping[tuple[Any, ...], Mapping[int, Any]], key: tuple[Any, ...]) -> set[int]:
    """The shares of the same evaluation that were evaluated with other versions."""
    alike = (shares for one, shares in groups.items() if one[:3] == key[:3] and one[3] != key[3])
    return {number for shares in alike for number in shares}


def _joined(table: Table, shares: Mapping[int, list[Measurement]], others: set[int]) -> Joined:
    first = next(iter(shares.values()))[0]
    split, _, of = _share(first)
    missing = tuple(number for number in range(1, of + 1) if number not in shares)
    found = Joined(
        first.model, first.weights, first.dataset, split, of, missing, tuple(sorted(others & set(missing)))
    )  # fmt: skip
    if missing:
        return found
    ordered = [shares[number] for number in range(1, of + 1)]
    whole = whole_of(ordered, [table.samples(str(rows[0].run)) for rows in ordered])
    before = len(table)
    table.append(whole)
    return Joined(
        first.model, first.weights, first.dataset, split, of, (), rows=tuple(whole), added=len(table) - before
    )  # fmt: skip


def whole_of(
    shares: Sequence[Sequence[Measurement]], samples: Sequence[Mapping[str, Sequence[float]]]
) -> list[Measurement]:
    """The rows that one run over the pictures of all `shares` gives: rows and samples of each, in order."""
    newest = max((rows[0] for rows in shares), key=moment_of)
    total = sum(rows[0].samples or 0 for rows in shares)
    reasons = dict.fromkeys(reason for rows in shares for reason in rows[0].grade_reasons)
    common = {"split": _share(newest)[0], "samples": total, "measured_at": newest.measured_at, "run": None,
              "grade_reasons": (*reasons, f"joined from {len(shares)} shares")}  # fmt: skip
    made = []
    for first in shares[0]:
        every = [row for rows in shares for row in rows if row.metric == first.metric]
        if len(every) < len(shares):
            continue
        if first.metric in _ACCURACIES:
            right = sum(round(row.value * (row.samples or 0)) for row in every)
            low, high = wilson(right, total)
            values: dict[str, Any] = {"value": right / total, "low": low, "high": high}
        elif first.metric == "calibration_error":
            if not all(_RIGHT in one and _WHOLE in one and _STEPS in one for one in samples):
                continue  # from a file of rows without their samples
            values = {"value": _calibration_error(samples, total)}
        else:
            values = {"value": sum(row.value for row in every)}
        made.append(first.like(**common, **values))
    return made


def _calibration_error(samples: Iterable[Mapping[str, Sequence[float]]], total: int) -> float:
    every = list(samples)
    right = [sum(map(int, bin_)) for bin_ in zip(*(one[_RIGHT] for one in every), strict=True)]
    whole = [sum(map(int, bin_)) for bin_ in zip(*(one[_WHOLE] for one in every), strict=True)]
    steps = [sum(map(int, bin_)) for bin_ in zip(*(one[_STEPS] for one in every), strict=True)]
    confidence = [one * ONE + more for one, more in zip(whole, steps, strict=True)]
    return min(1.0, error_of(right, confidence, total))
