"""How long `vertebra --help` and `vertebra list` take to start.

    python benchmarks/start_up.py [--runs N] [--against SOURCE]

Runs the commands in turn, bytecode compiled, and prints the median time of each and the median of its ratio
to the bare interpreter's start, over neighbouring runs. Goal: at most 10. With --against, the folder
`src` of another checkout, each command is also run from there in the same turn, and the ratio of this one to
that one is printed, with the number of modules that `import vertebra` loads in each. Exits with status 1 only
if a command prints the wrong text.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import vertebra

HERE = Path(vertebra.__file__).resolve().parents[1]
BARE = ("-c", "pass")
#: command -> its arguments, and a word that it must print
COMMANDS = {
    "vertebra --help": (("-m", "vertebra", "--help"), "survey"),
    "vertebra list": (("-m", "vertebra", "list"), "squeezenet1_1"),
}
ASKED = 10.0


def run(arguments: tuple[str, ...], source: Path) -> tuple[float, str]:
    """Wall time in seconds of one run with the package in `source`, and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # stale bytecode would be compiled in every run
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return time.perf_counter() - start, done.stdout


def modules(source: Path) -> int:
    """How many modules `import vertebra` loads from `source`."""
    program = "import sys; before = len(sys.modules); import vertebra; print(len(sys.modules) - before)"
    return int(run(("-c", program), source)[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=31, metavar="N")
    parser.add_argument("--against", type=Path, metavar="SOURCE")
    asked = parser.parse_args()
    sources = [HERE] if asked.against is None else [HERE, asked.against.resolve()]
    for source in sources:
        for arguments, _ in COMMANDS.values():
            run(arguments, source)  # compiles what isn't compiled yet
    bare: list[float] = []
    cases = [(name, source) for name in COMMANDS for source in sources]
    times: dict[tuple[str, Path], list[float]] = {case: [] for case in cases}
    for _ in range(asked.runs):
        bare.append(run(BARE, HERE)[0])
        for name, source in cases:
            arguments, expected = COMMANDS[name]
            taken, printed = run(arguments, source)
            if expected not in printed:
                print(f"{name} printed the wrong text: {printed[:200]!r}")
                return 1
            times[name, source].append(taken)
    print(f"vertebra {vertebra.__version__}, Python {platform.python_version()}, {asked.runs} runs in turn")
    print(f"{'python -c pass':>16}  {1e3 * median(bare):6.1f} ms")
    for name in COMMANDS:
        here = times[name, HERE]
        line = f"{name:>16}  {1e3 * median(here):6.1f} ms   {ratio(here, bare):4.1f}x"
        line += f"  (goal: at most {ASKED:g}x)"
        if asked.against is not None:
            line += f"   {ratio(here, times[name, sources[1]]):.3f} of {asked.against}'s"
        print(line)
    if asked.against is not None:
        print(f"modules that import vertebra loads: {modules(HERE)}, {asked.against}: {modules(sources[1])}")
    return 0


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of neighbouring runs."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    sys.exit(main())
