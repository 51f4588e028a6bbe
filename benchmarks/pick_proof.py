"""Check that a pick that measures little gives the same answer as one that measured everything.

    python benchmarks/pick_proof.py TABLE --measure 60 [--budget 30m] [--engine onnxruntime --engine openvino]
    python benchmarks/pick_proof.py TABLE [--questions 20] [--no-noise]

The first measures 60 light networks of the catalogue into TABLE, taking every library and family in turn;
networks in the table aren't measured again. `--csv FILE` (.csv.gz) writes the measurements to a file.

The second (with a table, or such a file) asks 20 random questions twice: from the whole table, and from
anchors, estimates and a few measurements, which are looked up in the table. Prints both answers and the share
of candidates that was measured beyond the anchors. Then it asks 100 questions of a machine on which none,
half or all of the measurements are disturbed, as the kept repeats were (benchmarks/repeats.json.gz: one
neighbour, eight others), and counts the answers. Wrong is a network that doesn't meet the limits, or a better
one that does and was measured and left out as surely too slow. Exits with status 1 on a wrong answer only.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Literal, get_args

import vertebra
from vertebra import units
from vertebra.campaigns import campaign, cases
from vertebra.measurements import Measurement, Table, WideRow, exchange, pooling, shipped, wide
from vertebra.measurements.blocks import unpack
from vertebra.measurements.record import row_of
from vertebra.measurements.spread import Seen, seen_of, slowed
from vertebra.measuring import citations, estimation
from vertebra.reading.choice import next_to_measure, rule
from vertebra.reading.choice.candidates import is_here
from vertebra.reading.choice.rule import Limit, Pick

#: The networks' most MACs, and the goal for the share that is measured beyond the anchors.
MOST_MACS, MOST_MEASURED = 1.5e9, 0.15
QUESTIONS, ANCHORS = 20, estimation.ANCHORS
#: Questions asked of a disturbed machine, the shares of disturbed measurements, and the goal for the share of
#: questions that has no sure answer with a calm half.
DISTURBED_QUESTIONS, DISTURBED, MOST_OPEN = 100, (0.0, 0.5, 1.0), 0.05
REPEATS = Path(__file__).parent / "repeats.json.gz"
MEASURED = ("latency", "memory_total")
#: How many cases are measured at a time; an interruption loses no more.
_GROUP = 6


@dataclass(frozen=True)
class Question:
    limits: tuple[Limit, ...]
    objective: str

    def __str__(self) -> str:
        return f"best {self.objective}, {', '.join(map(str, self.limits))}"


@dataclass(frozen=True)
class Answer:
    """`share` is the share of the candidates that were measured beyond the anchors."""

    question: Question
    found: WideRow | None
    right: WideRow | None
    measured: int
    share: float

    @property
    def is_right(self) -> bool:
        """The same network, or one with an objective that overlaps the right one's."""
        if self.found is None or self.right is None:
            return self.found is self.right
        if self.found.model == self.right.model:
            return True
        one, other = (row.figures[self.question.objective] for row in (self.found, self.right))
        return _low(one) <= _high(other) and _low(other) <= _high(one)


def _low(figure: Measurement) -> float:
    return figure.value if figure.low is None else figure.low


def _high(figure: Measurement) -> float:
    return figure.value if figure.high is None else figure.high


# ------------------------------------------------------------------ everything measured


def networks(count: int, seed: int = 0) -> list[str]:
    """`count` light networks with a published accuracy, drawn from all libraries and families in turn."""
    accurate = {row.model for row in shipped_rows() if row.metric == "top1"}
    families: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, one in shipped.counts().items():
        library = name.partition(":")[0] if ":" in name else "vertebra"
        toy = name.startswith("timm:test_")  # of a few thousand parameters, for timm's own tests
        if one.macs <= MOST_MACS and name in accurate and is_here(name) and not toy:
            families[library, estimation.pricing.family(name)].append(name)
    draw = random.Random(seed)
    for names in families.values():
        draw.shuffle(names)
    libraries: dict[str, list[list[str]]] = defaultdict(list)
    for library, _ in families:
        libraries[library] = [names for (of, _), names in families.items() if of == library]
    in_turn = [_in_turn(several) for several in libraries.values()]
    return _in_turn(in_turn)[:count]


def _in_turn(several: Sequence[Sequence[str]]) -> list[str]:
    return [name for round_ in zip_longest(*several) for name in round_ if name is not None]


def shipped_rows() -> list[Measurement]:
    """Accuracies and counts of every network."""
    return [row for name in ("paddleclas", "imagenet", "catalogue") for row in citations.find(name).read()
            if row.metric in ("top1", "params", "macs", "weight_bytes")]  # fmt: skip


def measure(table: Table, count: int, engines: Sequence[str], budget_s: float, seed: int) -> None:
    """Measure what is missing in `table` of `count` networks, until the budget is spent."""
    deadline = time.monotonic() + budget_s
    wanted = cases.cases(networks(count, seed), engines)
    todo = cases.remaining(wanted, table.rows(metric=("latency", "failure")))
    for first in range(0, len(todo), _GROUP):
        if time.monotonic() >= deadline:
            print(f"the time is up: {len(todo) - first} of {len(wanted)} cases are left")
            return
        group = todo[first : first + _GROUP]
        rows_ = campaign.measure(group, table, limits=campaign.limits(len(group), quick=True, seconds=4))
        for row in rows_:
            if row.metric in ("latency", "failure"):
                value = units.show(row.value, "s") if row.metric == "latency" else row.grade_reasons[0]
                print(f"{row.model} on {row.engine}: {value}", flush=True)


def write(found: Sequence[Measurement], file: Path) -> None:
    """`found` as CSV, compressed."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "rows.csv"
        exchange.write_csv(sorted(found, key=lambda row: (row.model, str(row.engine), row.metric)), plain)
        file.write_bytes(gzip.compress(plain.read_bytes(), 9, mtime=0))


def read(file: Path) -> list[Measurement]:
    """The measurements: the rows of a table, or of a file that `write` wrote."""
    if file.suffix != ".gz":
        return [row for row in Table(file, create=False).latest(metric=MEASURED) if row.origin == "benched"]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "rows.csv"
        plain.write_bytes(gzip.decompress(file.read_bytes()))
        return exchange.read_csv(plain)


# ------------------------------------------------------------------ the same questions, answered with few


def replay(found: Sequence[Measurement], seed: int = 0, questions: int = QUESTIONS) -> list[Answer]:
    """Random questions, each answered from all of `found`, and from anchors, estimates and a few rows."""
    complete = _complete(found)
    known = [row for row in shipped_rows() if row.model in complete]
    anchors = set(estimation.anchors(min(ANCHORS, max(len(complete) // 3, 5)), among=sorted(complete)))
    draw = random.Random(seed)
    everything = wide([*known, *(row for one in complete.values() for row in one)])
    return [_answer(_question(everything, draw), known, complete, anchors) for _ in range(questions)]


def _complete(found: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """The rows of each network whose every metric was measured on every engine."""
    by_model: dict[str, list[Measurement]] = defaultdict(list)
    for row in found:
        by_model[row.model].append(row)
    most = max(map(len, by_model.values()), default=0)
    return {model: found for model, found in by_model.items() if len(found) == most}


def _question(everything: Sequence[WideRow], draw: random.Random) -> Question:
    """Limits at random places among the candidates' own figures."""
    bounded = ["latency"]
    bounded += [metric for metric in ("memory_total", "weight_bytes", "params") if draw.random() < 0.4]
    limits = []
    for metric in bounded:
        values = sorted(row.figures[metric].value for row in everything if metric in row.figures)
        limits.append(Limit(metric, values[int(draw.uniform(0.1, 0.95) * (len(values) - 1))]))
    return Question(tuple(limits), draw.choice(["top1", "top1", "accuracy_density"]))


def _answer(
    question: Question, known: list[Measurement], complete: dict[str, list[Measurement]], anchors: set[str]
) -> Answer:
    ways = {(row.model, row.engine) for rows_ in complete.values() for row in rows_}
    seen = {(model, engine) for model, engine in ways if model in anchors}
    beyond = 0

    def candidates() -> list[WideRow]:
        measured = [row for rows_ in complete.values() for row in rows_ if (row.model, row.engine) in seen]
        priced = [row for row in estimation.price_forms(measured) if (row.model, row.engine) in ways - seen]
        return wide([*known, *measured, *priced])

    def look_up(row: WideRow) -> list[Measurement]:
        nonlocal beyond
        way = row.model, row.conditions["engine"]
        beyond += way not in seen  # measured again, it would be the same row
        seen.add(way)
        return []

    found = next_to_measure.settle(
        candidates, look_up, question.limits, question.objective, least_grade="C"
    ).pick
    everything = wide([*known, *(row for rows_ in complete.values() for row in rows_)])
    right: Pick = rule.pick(everything, question.limits, question.objective, least_grade="C")
    return Answer(question, found.choice, right.choice, beyond, beyond / len(ways))


# ------------------------------------------------------------------ on a machine that others use


@dataclass(frozen=True)
class Disturbance:
    """What a kept run measured, and the ends of its interval, as factors of its case's quiet value."""

    value: float
    low: float
    high: float
    grade: str
    seen: Seen

    def of(self, row: Measurement, run: int) -> Measurement:
        """`row` as it would have been measured, on another day for each `run`."""
        day = f"2026-{1 + run // 28 % 12:02}-{1 + run % 28:02}T12:00:00+00:00"
        return replace(
            row, value=self.value * row.value, low=self.low * row.value, high=self.high * row.value,
            grade=self.grade, grade_reasons=("drawn",), run=f"run {run}", measured_at=day,
        )  # fmt: skip


def disturbances() -> tuple[list[Disturbance], list[Disturbance]]:
    """Those of the kept runs that nothing disturbed, and of those that others did."""
    stored = json.loads(gzip.decompress(REPEATS.read_bytes()))
    runs = [(row_of(one["row"]), seen_of(unpack(one["samples"]))) for one in stored]
    quiet: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for row, seen in runs:
        if not slowed(seen):
            quiet[row.model, row.engine].append(math.log(row.value))
    found: tuple[list[Disturbance], list[Disturbance]] = ([], [])
    for row, seen in runs:
        known = quiet[row.model, row.engine]
        usual = math.exp(math.fsum(known) / len(known))
        assert row.low is not None
        assert row.high is not None
        assert row.grade is not None
        one = Disturbance(row.value / usual, row.low / usual, row.high / usual, row.grade, seen)
        found[bool(slowed(seen))].append(one)
    return found


Kind = Literal["right", "open", "can't tell", "WRONG"]


@dataclass(frozen=True)
class Judged:
    """An answer on a disturbed machine: `right` where nothing better meets the limits; `open` where something
    better does and the answer lists it as borderline or estimated; `can't tell` where it has no sure choice
    although a network meets the limits."""

    question: Question
    found: WideRow | None
    kind: Kind
    why: str = ""


def disturbed_replay(
    found: Sequence[Measurement], share: float, seed: int = 0, questions: int = DISTURBED_QUESTIONS
) -> list[Judged]:
    """Random questions, answered where this `share` of the measurements is disturbed."""
    complete = _complete(found)
    known = [row for row in shipped_rows() if row.model in complete]
    anchors = set(estimation.anchors(min(ANCHORS, max(len(complete) // 3, 5)), among=sorted(complete)))
    draw = random.Random(seed)
    truth = wide([*known, *(_exact(row) for one in complete.values() for row in one)])
    everything = wide([*known, *(row for one in complete.values() for row in one)])
    return [
        _judged(_question(everything, draw), known, complete, anchors, truth, Noise(share, draw))
        for _ in range(questions)
    ]


def _exact(row: Measurement) -> Measurement:
    return replace(row, low=None, high=None, grade=None, grade_reasons=())


class Noise:
    """Measures: the rows of a network and engine as a disturbed machine shows them."""

    def __init__(self, share: float, draw: random.Random) -> None:
        self._share, self._draw, self._kept = share, draw, disturbances()
        self.rows: list[Measurement] = []
        self.seen: dict[str, Seen] = {}

    def measure(self, rows_: Sequence[Measurement]) -> None:
        one = self._draw.choice(self._kept[self._draw.random() < self._share])
        run = len(self.seen)
        self.seen[f"run {run}"] = one.seen
        self.rows += [one.of(row, run) if row.metric == "latency" else row for row in rows_]


def _judged(
    question: Question, known: list[Measurement], complete: dict[str, list[Measurement]], anchors: set[str],
    truth: Sequence[WideRow], noise: Noise,
) -> Judged:  # fmt: skip
    ways: dict[tuple[str, str | None], list[Measurement]] = defaultdict(list)
    for rows_ in complete.values():
        for row in rows_:
            ways[row.model, row.engine].append(row)
    for (model, _), rows_ in ways.items():
        if model in anchors:
            noise.measure(rows_)

    def candidates() -> list[WideRow]:
        priced = estimation.price_measured(pooling.pool(noise.rows, noise.seen).rows)
        has = {(row.metric, row.model, row.engine) for row in priced.measured}
        lacking = [row for row in priced.rows if (row.model, row.engine) in ways
                   and (row.metric, row.model, row.engine) not in has]  # fmt: skip
        return wide([*known, *priced.measured, *lacking])

    def look_up(row: WideRow) -> list[Measurement]:
        noise.measure(ways[row.model, row.conditions["engine"]])
        return []

    picked = next_to_measure.settle(candidates, look_up, question.limits, question.objective).pick
    return judge(question, picked, candidates(), truth)


def judge(question: Question, picked: Pick, rows_: Sequence[WideRow], truth: Sequence[WideRow]) -> Judged:
    """The answer against the truth."""
    real = {(row.model, row.conditions.get("engine")): row for row in truth}
    said = {(row.model, row.conditions.get("engine")): row for row in rows_}
    choice = next((row for row in picked.ranked if rule.is_sure(row, picked)), None)
    if choice is not None:
        of_choice = real[choice.model, choice.conditions.get("engine")]
        broken = [limit.reason(of_choice) for limit in question.limits if limit.verdict(of_choice) != "met"]
        if broken:
            return Judged(question, choice, "WRONG", f"{choice.model} in truth: {'; '.join(broken)}")
    best = rule.pick(truth, question.limits, question.objective).choice
    better = [
        way for way, row in real.items()
        if question.objective in row.figures and all(limit.verdict(row) == "met" for limit in question.limits)
        and (choice is None or _is_better(row, choice, question.objective))
    ]  # fmt: skip
    for way in better:
        row = said[way]
        measured = rule.is_sure(row, picked)
        if measured and any(limit.verdict(row) == "broken" for limit in question.limits):
            reasons = "; ".join(
                limit.reason(row) for limit in question.limits if limit.verdict(row) == "broken"
            )
            return Judged(question, choice, "WRONG", f"{way[0]} on {way[1]} was ruled out: {reasons}")
    if choice is None:
        return Judged(question, None, "can't tell" if best is not None else "right")
    return Judged(question, choice, "open" if better else "right")


def _is_better(row: WideRow, choice: WideRow, objective: str) -> bool:
    if row.model == choice.model:
        return False
    one, other = row.figures[objective].value, choice.figures[objective].value
    return one < other if Limit(objective, other).is_ceiling else one > other


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, metavar="TABLE")
    parser.add_argument("--measure", type=int, default=0, metavar="N")
    parser.add_argument(
        "--engine", action="append", help="engine to measure with; may be repeated [default: onnxruntime]"
    )
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--no-noise", action="store_true", help="leave out the disturbed machine")
    options = parser.parse_args()
    if options.measure:
        engines = options.engine or ["onnxruntime"]
        measure(
            Table(options.table), options.measure, engines, units.parse(options.budget, "s"), options.seed
        )
    found = read(options.table)
    if options.csv:
        write(found, options.csv)
    status = _report(replay(found, options.seed, options.questions), found)
    for share in () if options.no_noise else DISTURBED:
        status |= _report_disturbed(disturbed_replay(found, share, options.seed), share)
    sys.exit(status)


def _report_disturbed(answers: Sequence[Judged], share: float) -> int:
    counts = Counter(answer.kind for answer in answers)
    shown = ", ".join(f"{counts[kind]} {kind}" for kind in get_args(Kind))
    print(f"{share:.0%} of the measurements disturbed, {len(answers)} questions: {shown}")
    for answer in answers:
        if answer.kind == "WRONG":
            print(f"  WRONG: {answer.question}: {answer.why}")
    if share == 0.5:
        goal = "met" if counts["can't tell"] <= MOST_OPEN * len(answers) else "missed"
        print(f"  goal: at most {MOST_OPEN:.0%} can't tell with a calm half: {goal}")
    return int(counts["WRONG"] > 0)


def _report(answers: Sequence[Answer], found: Sequence[Measurement]) -> int:
    print(f"vertebra {vertebra.__version__}: {len(_complete(found))} networks measured")
    for answer in answers:
        names = [row.model if row else "none" for row in (answer.found, answer.right)]
        verdict = "right" if answer.is_right else "WRONG"
        everything = f"everything measured: {names[1]}"
        print(f"{verdict}: {answer.question}: {names[0]} ({everything}), {answer.measured} measured")
    shares = sorted(answer.share for answer in answers)
    print(f"measured beyond the anchors: {shares[len(shares) // 2]:.1%} (median), {shares[-1]:.1%} (most)")
    more = sum(share > MOST_MEASURED for share in shares)
    print(f"goal: at most {MOST_MEASURED:.0%}; {more} of {len(shares)} questions needed more")
    return int(not all(answer.is_right for answer in answers))


if __name__ == "__main__":
    main()
