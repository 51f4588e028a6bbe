"""Time the first `vertebra survey` on a new table, and a second one, which has nothing left to do.

    python benchmarks/survey_time.py [budget [folder]]

Runs `vertebra survey` twice on a new table, in `folder`, which is kept, or in a scratch folder. Goal on 2
cores: the first, with its exports, within 8 minutes, and the second within 1 second. Exits with status 1 only
if a result is wrong: a case that failed, a missing report, or a second run that measured something.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import vertebra
from vertebra import engines
from vertebra.machine import system
from vertebra.zoo import CLASSICS

VERTEBRA = str(Path(sysconfig.get_path("scripts")) / "vertebra")
ASKED_FIRST_S, ASKED_SECOND_S = 480.0, 1.0


def survey(folder: Path, budget: str) -> tuple[float, str]:
    """Wall time of one survey in `folder`, and what it printed."""
    environment = {**os.environ, "VERTEBRA_TABLE": str(folder / "table.sqlite")}
    start = time.perf_counter()
    command = [VERTEBRA, "survey", "--budget", budget]
    run = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - start, run.stdout


def wrong(folder: Path, second: str, cases: int) -> str | None:
    """What is wrong with the two surveys' result, or None."""
    table = vertebra.Table(folder / "table.sqlite")
    failures = table.rows(metric="failure")
    latencies = {(row.model, row.engine) for row in table.rows(metric="latency", origin="benched")}
    if failures:
        return "; ".join(f"{row.model} on {row.engine}: {row.grade_reasons[0]}" for row in failures)
    if len(latencies) != cases:
        return f"{len(latencies)} cases were measured, not {cases}"
    if not (folder / "vertebra-survey" / "report.html").stat().st_size:
        return "the report is empty"
    if "Nothing left to measure" not in second:
        return f"the second survey printed {second[:200]!r}"
    return None


def main() -> int:
    budget = sys.argv[1] if len(sys.argv) > 1 else "6m"
    found = [name for name in engines.available() if name != "null" and engines.find(name).usual]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else scratch)
        folder.mkdir(parents=True, exist_ok=True)
        first_s, printed = survey(folder, budget)
        second_s, second = survey(folder, budget)
        print(printed)
        print(f"{system.describe().id}, vertebra {vertebra.__version__}, engines {', '.join(found)}")
        for name, taken, asked in (("first", first_s, ASKED_FIRST_S), ("second", second_s, ASKED_SECOND_S)):
            print(f"{name} survey: {taken:.2f} s, {taken / asked:.2f} of the goal of {asked:g} s")
        problem = wrong(folder, second, len(CLASSICS) * len(found))
    if problem:
        print(f"wrong: {problem}")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
