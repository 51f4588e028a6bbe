"""How many sets of limits does one survey answer surely, and does a later survey of the machine agree?

    python benchmarks/limit_sets.py FIRST SECOND [--sets 100] [--seed 0] [--show]
    python benchmarks/limit_sets.py FIRST --kept

FIRST and SECOND are tables (.sqlite, or rows as .csv) of two surveys of one machine, made one after the other
into tables of their own. Each set has a limit on the latency or the frames per second, and often others: on
memory, parameters, size of the weights. FIRST answers with the most accurate network that it measured;
SECOND judges. An answer is sure if a network surely meets the limits and every better one surely doesn't, or
if surely none does; else it can't tell, which is no fault. A sure answer is wrong if SECOND is as sure of the
opposite: that the network breaks a limit, or that a better one meets them all.

With `--kept` the judge is made up: FIRST with each latency moved as the kept repeats of one machine differ
(benchmarks/repeats.json.gz, quiet runs of one form). It says whether the intervals are wide enough, where no
second survey was made. Exits with status 1 on a wrong answer only.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Literal

from vertebra.measurements import Measurement, Table, WideRow
from vertebra.measurements.record import row_of
from vertebra.reading.choice import candidates, rule
from vertebra.reading.choice.rule import Limit

SETS, ASKED = 100, 0.90
REPEATS = Path(__file__).parent / "repeats.json.gz"
OBJECTIVE = "top1"
#: Of these one is always limited, and each of those mostly isn't.
_TIMES, _OTHERS, _SHARE = ("latency", "fps"), ("memory_total", "params", "weight_bytes"), 0.4
#: Bounds have two digits, as people give them.
_DIGITS = 2

Verdict = Literal["sure", "wrong", "can't tell"]


@dataclass(frozen=True)
class Judged:
    """What the first survey said of one set, and what is held against it."""

    limits: tuple[Limit, ...]
    answer: str
    verdict: Verdict
    why: str = ""

    def __str__(self) -> str:
        asked = ", ".join(map(str, self.limits))
        return f"{self.verdict}: {asked}: {self.answer}{self.why and f' ({self.why})'}"


# ------------------------------------------------------------------ surveys


def survey(path: Path) -> list[WideRow]:
    """The networks that the survey measured, with the intervals of an independent one."""
    if path.suffix == ".sqlite":
        return measured(Table(path, create=False))
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder) / "table.sqlite")
        table.read_csv(path)
        return measured(table)


def measured(table: Table) -> list[WideRow]:
    question = candidates.ask({}, among="table", filters={"precision": ("float32", None)})
    rows = candidates.candidates(table, replace(question, limits=_LIMITED))
    return [row for row in rows if OBJECTIVE in row.figures and "latency" in row.figures]


#: So that the rows have every metric that may be limited.
_LIMITED = tuple(Limit(metric, 1.0) for metric in (*_TIMES, *_OTHERS))


def moved(rows: Sequence[WideRow], seed: int) -> list[WideRow]:
    """`rows` as another survey might find them: each latency moved as one kept repeat is from another."""
    draw, steps = random.Random(seed), _steps()
    return [_moved(row, math.exp(draw.choice(steps))) for row in rows]


def _moved(row: WideRow, factor: float) -> WideRow:
    figures = dict(row.figures)
    for metric, times in (("latency", factor), ("fps", 1 / factor)):
        if metric in figures:
            figures[metric] = _times(figures[metric], times)
    return replace(row, figures=figures)


def _times(row: Measurement, factor: float) -> Measurement:
    ends = {name: end * factor for name in ("low", "high") if (end := getattr(row, name)) is not None}
    return row.like(value=row.value * factor, **ends)


def _steps() -> list[float]:
    """The differences between the logarithms of the quiet kept runs of each form, both ways."""
    kept = json.loads(gzip.decompress(REPEATS.read_bytes()))
    forms: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for one in kept:
        row = row_of(one["row"])
        if one["table"].startswith(("calm", "quiet", "survey")):
            forms[row.model, row.engine].append(math.log(row.value))
    return [one - other for logs in forms.values() for one, other in permutations(logs, 2)]


# ------------------------------------------------------------------ questions and answers


def drawn(
    rows: Sequence[WideRow], number: int, seed: int, others: Sequence[str] = _OTHERS
) -> list[tuple[Limit, ...]]:
    """`number` sets of limits, their bounds spread evenly (by their logarithms) over what was measured."""
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        chosen = [draw.choice(_TIMES), *(metric for metric in others if draw.random() < _SHARE)]
        found.append(tuple(_limit(rows, metric, draw) for metric in chosen))
    return found


def _limit(rows: Sequence[WideRow], metric: str, draw: random.Random) -> Limit:
    values = [row.figures[metric].value for row in rows if metric in row.figures]
    bound = math.exp(draw.uniform(math.log(min(values)), math.log(max(values))))
    return Limit(metric, float(f"{bound:.{_DIGITS}g}"))


def judged(limits: tuple[Limit, ...], first: Sequence[WideRow], second: Sequence[WideRow]) -> Judged:
    """What the survey `first` says of the limits, as `second` sees it."""
    choice = rule.pick(first, limits, OBJECTIVE).choice
    answer = "no network" if choice is None else rule.described(choice, OBJECTIVE, "latency")
    open_ = [row for row in first if _is_better(row, choice) and _is_open(row, limits)]
    if open_:
        return Judged(limits, answer, "can't tell", f"{rule.described(open_[0], OBJECTIVE, 'latency')} may")
    if choice is not None:
        same = [row for row in second if row.model == choice.model and row.conditions == choice.conditions]
        broken = [row for row in same if _breaks(row, limits)]
        if broken:
            return Judged(limits, answer, "wrong", f"then {rule.described(broken[0], OBJECTIVE, 'latency')}")
    met = [row for row in second if _is_better(row, choice) and _meets(row, limits)]
    if met:
        return Judged(limits, answer, "wrong", f"{rule.described(met[0], OBJECTIVE, 'latency')} does")
    return Judged(limits, answer, "sure")


def _is_better(row: WideRow, choice: WideRow | None) -> bool:
    return choice is None or row.figures[OBJECTIVE].value > choice.figures[OBJECTIVE].value


def _meets(row: WideRow, limits: Sequence[Limit]) -> bool:
    return all(limit.verdict(row) == "met" for limit in limits) and not rule.doubts(row, limits, OBJECTIVE)


def _breaks(row: WideRow, limits: Sequence[Limit]) -> bool:
    return any(limit.verdict(row) == "broken" for limit in limits)


def _is_open(row: WideRow, limits: Sequence[Limit]) -> bool:
    return not _breaks(row, limits) and not _meets(row, limits)


# ------------------------------------------------------------------ report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path, nargs="?")
    parser.add_argument("--kept", action="store_true", help="make the judge up from the kept repeats")
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print every set that isn't surely right")
    asked = parser.parse_args()
    if asked.kept == (asked.second is not None):
        parser.error("name a second survey, or pass --kept")
    first = survey(asked.first)
    second = moved(first, asked.seed) if asked.kept else survey(asked.second)
    every = [judged(limits, first, second) for limits in drawn(first, asked.sets, asked.seed)]
    if asked.show:
        print(*(one for one in every if one.verdict != "sure"), sep="\n")
    return report(every, first, second)


def report(every: Sequence[Judged], first: Sequence[WideRow], second: Sequence[WideRow]) -> int:
    """Print the counts; 1 if an answer is wrong."""
    count = Counter(one.verdict for one in every)
    both = {(row.model, row.conditions.get("engine")) for row in first} & {
        (row.model, row.conditions.get("engine")) for row in second
    }
    networks = len({row.model for row in first})
    print(f"{networks} networks in {len(first)} forms, {len(both)} of them in both surveys")
    sure, unsure = count["sure"] + count["wrong"], count["can't tell"]
    print(
        f"{len(every)} sets of limits: {sure} surely answered, {unsure} can't tell, "
        f"{count['wrong']} wrong (asked: at least {100 * ASKED:.0f} % sure, none wrong)"
    )
    print(*(one for one in every if one.verdict == "wrong"), sep="\n", end="\n" if count["wrong"] else "")
    return int(count["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
