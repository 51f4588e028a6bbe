"""How many rows a second each of several writers appends to one table, in a file and on a PostgreSQL server.

    python benchmarks/store_appends.py                  both, the server a new one in a temporary folder
    python benchmarks/store_appends.py --table postgresql://me@host/measurements?schema=trial
    python benchmarks/store_appends.py --rows 1         a run of one row each, the most that a commit can cost

Each writer is a process that appends runs as a survey does: the rows of one case, its samples and its
system, one transaction a run. The rows of the seconds in which all of them wrote are counted. The server is
started with its own settings: what it has confirmed is on the disk. Rows that are lost or doubled end the
program.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vertebra.machine import system
from vertebra.measurements import Measurement, Table

#: The least rate that is asked for, in rows a second of each writer.
LEAST = 200


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", help="a table's file or address; it is filled with made-up rows")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--rows", type=int, default=12, help="rows of a run; a survey's have about 12")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--write", metavar="NAME", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write is not None:
        write(asked.table, asked.write, asked.rows)
        return 0
    print(f"{asked.writers} writers, {asked.rows} rows a run, {asked.seconds:g} s, on {system.describe().id}")
    if asked.table is not None:
        return 0 if measure(asked.table, asked) >= LEAST else 1
    with tempfile.TemporaryDirectory() as folder:
        measure(str(Path(folder) / "table.sqlite"), asked)
    with server() as address:
        return 0 if measure(address, asked) >= LEAST else 1


def measure(table: str, asked: argparse.Namespace) -> float:
    """Let the writers write, check what is there, and print the rates; returns the least one."""
    into = Table(table)
    before = len(into)
    command = [sys.executable, __file__, "--table", table, "--rows", str(asked.rows), "--write"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, f"writer{number}"], **pipes) for number in range(asked.writers)]
    for writer in writers:
        writer.stdout.readline()  # it is ready
    until = time.time() + asked.seconds
    for writer in writers:
        writer.stdin.write(f"{until}\n")
        writer.stdin.flush()
    times = [[float(line) for line in writer.stdout] for writer in writers]
    assert not any([writer.wait() for writer in writers])
    began, ended = max(one[0] for one in times), min(one[-1] for one in times)
    appended = sum(len(one) - 1 for one in times) * asked.rows
    there = len(into) - before
    assert there == appended, f"{appended} rows were appended and {there} are there"
    rates = [
        sum(began < moment <= ended for moment in one[1:]) * asked.rows / (ended - began) for one in times
    ]
    kind = "server" if "://" in table else "file"
    print(
        f"{kind}: {min(rates):.0f} to {max(rates):.0f} rows/s of each writer, median "
        f"{statistics.median(rates):.0f}, {sum(rates):.0f} together; {there} rows, none lost, none doubled"
    )
    return min(rates)


def write(table: str, name: str, rows: int) -> None:
    """Append runs until the time that standard input names, and print when the first began and when each was
    there."""
    into, here = Table(table, create=False), system.describe()
    len(into)
    print("ready", flush=True)
    until = float(sys.stdin.readline())
    print(time.time(), flush=True)
    number = 0
    while time.time() < until:
        number += 1
        case = [
            Measurement(
                model=f"{name}-{os.getpid()}-{number}", metric="params", value=place, origin="profiled",
                system=here.id, versions={"torch": "2.9.0"}, measured_at="2026-01-01T00:00:00Z",
            )
            for place in range(rows)
        ]  # fmt: skip
        into.append(case, samples={"latency": [0.001 * place for place in range(100)]}, system=here)
        print(time.time(), flush=True)
    into.close()


@contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL server with its own settings, on the loopback address; gives a table's address."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    run: list[str] = []
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        run = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    data, quiet = folder / "data", {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(
        [*run, programs / "initdb", "-D", data, "-U", "owner", "-E", "UTF8", "-A", "trust"], **quiet
    )
    options = f"-c listen_addresses= -c unix_socket_directories={folder}"
    control = [*run, programs / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], **quiet)
    try:
        yield f"postgresql://owner@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "fast", "stop"], **quiet)
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
