"""How long `vertebra --help` and `vertebra list` take, as a ratio to the bare interpreter's start.

    python benchmarks/start_up.py [runs]

Runs the three commands in turn, bytecode compiled, and prints the median of each and of the ratios of
neighbouring runs. Asked for: at most 10. Exits with status 1 only where a command prints the wrong thing.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from statistics import median

import vertebra

VERTEBRA = str(Path(sysconfig.get_path("scripts")) / "vertebra")
BARE = (sys.executable, "-c", "pass")
COMMANDS = {"vertebra --help": (VERTEBRA, "--help"), "vertebra list": (VERTEBRA, "list")}
EXPECTED = {"vertebra --help": "survey", "vertebra list": "squeezenet1_1"}
ASKED = 10.0


def seconds(command: tuple[str, ...]) -> tuple[float, str]:
    """Wall time of one run, and what it printed."""
    start = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, run.stdout


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 31
    for command in (BARE, *COMMANDS.values()):
        seconds(command)  # compiles what isn't compiled yet
    bare: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        bare.append(seconds(BARE)[0])
        for name, command in COMMANDS.items():
            taken, printed = seconds(command)
            if EXPECTED[name] not in printed:
                print(f"{name} printed something else: {printed[:200]!r}")
                return 1
            times[name].append(taken)
    print(f"vertebra {vertebra.__version__}, Python {platform.python_version()}, {runs} runs in turn")
    print(f"{'python -c pass':>16}  {1e3 * median(bare):6.1f} ms")
    for name, taken_by in times.items():
        ratio = median(taken / base for taken, base in zip(taken_by, bare, strict=True))
        print(f"{name:>16}  {1e3 * median(taken_by):6.1f} ms   {ratio:4.1f}x  (asked: at most {ASKED:g}x)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
