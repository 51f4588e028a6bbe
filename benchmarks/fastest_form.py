"""Check that the form that the search finds is as fast as the fastest of all, and is found in time.

    python benchmarks/fastest_form.py [--budget 60s] [--engine NAME ...] [--threads N ...] [NETWORK ...]

For each network `vertebra.fastest` runs as users run it. Then every form that can run here is measured, and
the four fastest of them again together with the chosen one, in interleaved blocks of three fresh processes
each: the exhaustive answer. Goal on 2 cores: at most 60 s, and a chosen form with a median within 3 % of the
best one's. Prints both. Exits with status 1 only if a result is wrong: outputs that differ from the
reference's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import vertebra
from vertebra import units
from vertebra.campaigns import campaign, tuning
from vertebra.campaigns.tuning import Form, Found, form_of
from vertebra.machine import system
from vertebra.measurements import Measurement, Table
from vertebra.measuring.benchmarking import Case, Limits

NETWORKS = ("squeezenet1_1", "alexnet", "resnet18_acnet_deploy")
ASKED_S, ASKED_RATIO = 60.0, 1.03
#: Seconds of each form in the first measurement of all forms, and how many of the fastest are measured again.
LOOK_S, NEAREST = 4.0, 4


def exhaustive(model: str, asked: argparse.Namespace, table: Table) -> tuple[dict[Form, float], list[str]]:
    """The median of each form that runs, and the failures of the others."""
    cases = tuning.cases(model, asked.engine, threads=asked.threads)
    rows = campaign.measure(cases, table, limits=Limits.quick(seconds=LOOK_S))
    failures = [f"{row.engine}: {row.grade_reasons[0]}" for row in rows if row.metric == "failure"]
    return medians_of(cases, rows), failures


def rematch(model: str, forms: Sequence[Form], asked: argparse.Namespace, table: Table) -> dict[Form, float]:
    """The medians of `forms`, measured side by side."""
    cases = [
        case for case in tuning.cases(model, asked.engine, threads=asked.threads) if form_of(case) in forms
    ]
    rows = campaign.measure(cases, table, limits=Limits(seconds=units.parse(asked.seconds, "s")))
    return medians_of(cases, rows)


def medians_of(cases: Sequence[Case], rows: Sequence[Measurement]) -> dict[Form, float]:
    return {form_of(case): row.value for case in cases for row in rows if is_of(row, form_of(case))}


def is_of(row: Measurement, form: Form) -> bool:
    layouts = (None, row.layout) if form.layout is None else (row.layout,)
    conditions = (row.engine, row.precision, row.threads, row.batch_size)
    return (
        row.metric == "latency"
        and conditions == (form.engine, form.precision, form.threads, form.batch_size)
        and form.layout in layouts
    )


def report(model: str, found: Found, medians: dict[Form, float]) -> str:
    chosen = found.fastest.form
    best = min(medians, key=lambda form: medians[form])
    if chosen not in medians:
        return f"{model}: the search chose {chosen}, which has no figure in the exhaustive measurement"
    ratio = medians[chosen] / medians[best]
    ran = sum(trial.seconds is not None for trial in found.trials)
    return (
        f"{model}: {found.seconds:.1f} s ({found.seconds / ASKED_S:.2f} of the goal of {ASKED_S:g} s), "
        f"{ran} of {len(found.trials)} forms measured\n"
        f"  chosen:     {chosen}, {units.show(medians[chosen], 's')}\n"
        f"  exhaustive: {best}, {units.show(medians[best], 's')}\n"
        f"  ratio {ratio:.3f}, {'within' if ratio <= ASKED_RATIO else 'NOT within'} the goal, {ASKED_RATIO:g}"
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--budget", default=f"{ASKED_S:g}s", help="time of the search")
    parser.add_argument("--seconds", default="12s", help="time of each form in the last measurement")
    parser.add_argument("--engine", action="append", default=[])
    parser.add_argument("--threads", action="append", type=int, default=[])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    asked = parse(arguments)
    print(f"{system.describe().id}, vertebra {vertebra.__version__}")
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in asked.networks:
            table = Table(Path(scratch) / f"{model}.sqlite")
            found = vertebra.fastest(
                model, engine=asked.engine, threads=asked.threads, budget=asked.budget, table=table
            )
            for trial in found.trials:
                print(f"  {trial.verdict:8} {trial.form}: {trial.reason or trial.seconds}")
            medians, failures = exhaustive(model, asked, table)
            for form, median in sorted(medians.items(), key=lambda one: one[1]):
                print(f"  {units.show(median, 's'):>9} {form}")
            near = sorted(medians, key=lambda form: medians[form])[:NEAREST]
            again = rematch(model, [found.fastest.form, *near], asked, table)
            print(report(model, found, again), flush=True)
            failures += [trial.reason for trial in found.trials if trial.verdict == "failed"]
            wrong += [f"{model}: {reason}" for reason in failures if "Wrong outputs" in reason]
    for problem in wrong:
        print(f"wrong: {problem}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
