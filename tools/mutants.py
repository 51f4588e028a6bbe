"""Put small faults into the parts that decide answers, one at a time, and see whether their tests notice.

    pip install -e '.[dev]' cosmic-ray
    python tools/mutants.py --count 300 --work mutants

Mutants are drawn by seed over `TESTS`, every file by its share of all mutants. Each runs against its file's
own tests, for at most 60 s. What is known is kept in the work folder, so that an interrupted run goes on; a
changed file is drawn and run again. A survivor needs a test, or a line in tests/equivalent_mutants.txt that
says why no test could notice it. The exit status is 1 if there is one without either.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/vertebra"
EQUIVALENT = ROOT / "tests/equivalent_mutants.txt"
TIMEOUT_S = 60.0

#: file -> its own tests
TESTS = {
    "reading/choice/rule.py": "test_rule",
    "reading/choice/candidates.py": "test_candidates",
    "reading/comparison.py": "test_comparison test_regression",
    "reading/regression.py": "test_regression",
    "measuring/evaluation/tally.py": "test_evaluation",
    "measuring/evaluation/results.py": "test_evaluation",
    "measuring/evaluation/matching.py": "test_evaluation",
    "measuring/evaluation/statistics.py": "test_evaluation",
    "measurements/statistics.py": "test_statistics",
    "measurements/views.py": "test_views test_rule",
    "measuring/benchmarking/grading.py": "test_grading",
    "measuring/benchmarking/steadiness.py": "test_steadiness test_grading",
    "data/preprocess/record.py": "test_preprocess",
    "data/preprocess/resize.py": "test_preprocess",
    "data/preprocess/pipeline.py": "test_preprocess",
    "data/preprocess/protocols.py": "test_preprocess",
    "data/preprocess/decode.py": "test_decode test_preprocess",
}
#: Tests that take too long to be run for each mutant.
_SLOW = (
    "test_evaluation.py::test_the_command_evaluates_prints_and_appends",
    "test_evaluation.py::test_fashion_mnist_is_evaluated_from_its_package",
    "test_evaluation.py::test_fashion_mnist_is_evaluated_by_the_command_with_a_network",
    "test_preprocess.py::test_torchvisions_own_output_is_met_to_the_bit",
    "test_preprocess.py::test_timms_own_output_is_met",
    "test_evaluation.py::test_memory_does_not_grow_with_the_number_of_images",
    "test_evaluation.py::test_the_command_evaluates_prints_and_appends",
    "test_evaluation.py::test_fashion_mnist_is_evaluated_from_its_package",
    "test_evaluation.py::test_fashion_mnist_is_evaluated_by_the_command_with_a_network",
    "test_candidates.py::test_networks_are_measured_together_with_their_engine",
    "test_candidates.py::test_the_command_measures_for_a_budget_also_by_its_former_name",
    "test_candidates.py::test_an_interruption_keeps_what_was_measured_and_answers_from_it",
    "test_candidates.py::test_networks_of_a_missing_library_are_left_out_by_name_and_the_rest_goes_on",
)
#: Operators whose mutants say little: types in annotations, and eleven replacements for each arithmetic sign.
_LEFT_OUT = ("BitOr", "BitAnd", "BitXor", "RShift", "LShift", "Pow", "Mod", "FloorDiv", "RemoveDecorator",
             "ExceptionReplacer")  # fmt: skip


class Mutant(NamedTuple):
    """One fault: the `occurrence`th place of an operator in a file, as a line before and after."""

    file: str
    operator: str
    occurrence: int
    number: int
    before: str
    after: str

    @property
    def text(self) -> str:
        return f"{self.file}: {self.before} => {self.after}"


def places(file: str) -> list[tuple[str, int]]:
    """Where a file can be changed: every operator with each of its occurrences."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast((SOURCE / file).read_text(encoding="utf-8"))))
    found = []
    for name in sorted(plugins.operator_names()):
        operator = plugins.get_operator(name)
        if not any(word in name for word in _LEFT_OUT) and not operator.arguments():
            count = sum(len(list(operator().mutation_positions(node))) for node in nodes)
            found += [(name, occurrence) for occurrence in range(count)]
    return found


def _mutant(file: str, operator: str, occurrence: int) -> Mutant:
    text = (SOURCE / file).read_text(encoding="utf-8")
    lines, changed = text.splitlines(), mutated(text, operator, occurrence).splitlines()
    for tag, first, last, other, end in difflib.SequenceMatcher(None, lines, changed, False).get_opcodes():
        if tag != "equal":
            before, after = (
                " ".join(" ".join(part).split()) for part in (lines[first:last], changed[other:end])
            )
            return Mutant(file, operator, occurrence, first + 1, before, after)
    return Mutant(file, operator, occurrence, 0, "nothing", "nothing")


def mutated(text: str, operator: str, occurrence: int) -> str:
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    return str(mutate_code(text, plugins.get_operator(operator)(), occurrence) or text)


def _compiles(text: str) -> bool:
    """A star that parts a function's parameters is taken for a product, too."""
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def drawn(count: int, seed: int, files: list[str]) -> list[Mutant]:
    """The mutants of `files` among `count` of all: from each file by its share, whatever the others are."""
    every = {file: places(file) for file in TESTS}
    total = sum(map(len, every.values()))
    chosen = []
    for file in files:
        draw = random.Random(f"{seed} {file}")
        found = every[file]
        share = math.ceil(count * len(found) / total)
        chosen += [_mutant(file, *place) for place in draw.sample(found, min(len(found), share))]
    random.Random(seed).shuffle(chosen)
    print(f"{len(chosen)} of {total} mutants in {len(files)} files, drawn with seed {seed}", flush=True)
    return chosen


# ------------------------------------------------------------------ running


class Copy:
    """A copy of what the tests need, in which one mutant at a time lives."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        shutil.rmtree(self.root, ignore_errors=True)
        for name in ("src", "tests", "docs", "tools", "benchmarks", "cpp"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for file in [*ROOT.glob("*.toml"), *ROOT.glob("*.md"), *ROOT.glob("*.txt")]:
            shutil.copy(file, self.root)
        shared = ROOT.parent / "shared"
        if shared.exists() and not (folder / "shared").exists():
            (folder / "shared").symlink_to(shared)

    def run(self, file: str, text: str) -> str:
        """`killed`, `survived` or `timeout`, with `text` in the place of the file."""
        place = self.root / "src/vertebra" / file
        original = place.read_text(encoding="utf-8")
        place.write_text(text, encoding="utf-8")
        try:
            return self._tested(TESTS[file].split())
        finally:
            place.write_text(original, encoding="utf-8")

    def _tested(self, names: list[str]) -> str:
        paths = [f"tests/{name}.py" for name in names]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *paths]
        command += [f"--deselect=tests/{name}" for name in _SLOW]
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(command, cwd=self.root, env=environment, start_new_session=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
            try:
                return "killed" if process.wait(TIMEOUT_S) else "survived"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return "timeout"


class Results:
    """What is known of mutants, a line each; of another version of a file nothing is known."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.known: dict[str, str] = dict(json.loads(line) for line in lines)

    def add(self, name: str, outcome: str) -> None:
        with self._lock:
            self.known[name] = outcome
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, outcome]) + "\n")


def key(mutant: Mutant) -> str:
    """The fault, the file as it is and its tests as they are."""
    names = [ROOT / f"tests/{name}.py" for name in TESTS[mutant.file].split()]
    content = b"".join(path.read_bytes() for path in (SOURCE / mutant.file, *names))
    return f"{hashlib.sha256(content).hexdigest()[:16]} {mutant.operator} {mutant.occurrence} {mutant.file}"


def run(keys: dict[Mutant, str], work: Path, jobs: int, deadline: float) -> dict[str, str]:
    """What is known of the mutants with these keys, old and new."""
    work.mkdir(parents=True, exist_ok=True)
    results = Results(work / "results.jsonl")
    # As they are now: whoever goes on working on files and tests doesn't change what this run says.
    texts = {mutant.file: (SOURCE / mutant.file).read_text(encoding="utf-8") for mutant in keys}
    copies: SimpleQueue[Copy] = SimpleQueue()
    for number in range(jobs):
        copies.put(Copy(work / str(number)))
    for file in sorted(texts):
        copy = copies.get()
        began = time.monotonic()
        outcome = copy.run(file, texts[file])
        copies.put(copy)
        if outcome != "survived":
            sys.exit(f"{file}: its tests don't pass unchanged within {TIMEOUT_S:.0f} s ({outcome})")
        print(f"{time.monotonic() - began:5.1f} s  {file}: {TESTS[file]}", flush=True)

    def one(mutant: Mutant) -> None:
        if keys[mutant] in results.known or time.monotonic() > deadline:
            return
        text = mutated(texts[mutant.file], mutant.operator, mutant.occurrence)
        copy = copies.get()
        try:
            results.add(keys[mutant], copy.run(mutant.file, text) if _compiles(text) else "no program")
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, keys))
    return results.known


def explained() -> dict[str, str]:
    """mutant -> why no test could notice it."""
    lines = EQUIVALENT.read_text(encoding="utf-8").splitlines() if EQUIVALENT.exists() else []
    pairs = (line.rpartition(" # ") for line in lines if line and not line.startswith("#"))
    return {text: why for text, _, why in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=ROOT / "mutants")
    parser.add_argument("--minutes", type=float, default=55.0, help="stop after this time, to go on later")
    parser.add_argument("--only", action="append", default=[], help="a part of a file's path; repeatable")
    asked = parser.parse_args()
    deadline = time.monotonic() + 60 * asked.minutes
    files = [file for file in TESTS if not asked.only or any(part in file for part in asked.only)]
    chosen = drawn(asked.count, asked.seed, files)
    keys = {mutant: key(mutant) for mutant in chosen}
    known, reasons = run(keys, asked.work, asked.jobs, deadline), explained()
    outcomes = Counter(known.get(keys[mutant], "not run") for mutant in chosen)
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    alive = [mutant for mutant in chosen if known.get(keys[mutant]) == "survived"]
    unexplained = [mutant for mutant in alive if mutant.text not in reasons]
    for mutant in sorted(unexplained):
        print(f"survived, line {mutant.number}: {mutant.text}")
    print(f"{len(alive)} survived, {len(alive) - len(unexplained)} of them equivalent and explained")
    if outcomes["not run"]:
        print(f"run the same command again for the {outcomes['not run']} that are left")
    sys.exit(bool(unexplained) or bool(outcomes["not run"]))


if __name__ == "__main__":
    main()
