"""SIGKILL at any instant: what a run loses is the time since its last checkpoint, and not one bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import toys
from vertebra.bundles import runs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
#: One of each kind.
EACH = [("write", 2), ("before", 1), ("log", 3), ("after", 2), ("write", 1)]


@pytest.fixture(scope="module")
def processes() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Processes that begin with torch imported."""
    context = multiprocessing.get_context("forkserver")
    tests = str(Path(__file__).parent)
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [tests, before]))
    context.set_forkserver_preload(["toys", "timm"])
    yield context
    os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.photos(tmp_path_factory.mktemp("toys") / "photos")


@pytest.fixture(scope="module")
def whole(place: Path, processes: multiprocessing.context.ForkServerContext) -> str:
    """The content of a run that was never killed."""
    folder = place.parent / "whole"
    assert ended(processes, place, folder, 1, None) == 0
    return toys.content(folder)


def ended(
    processes: multiprocessing.context.ForkServerContext, place: Path, folder: Path, workers: int,
    instant: tuple[str, float] | None,
) -> int | None:  # fmt: skip
    child = processes.Process(
        target=toys.train_until_killed, args=(str(place), str(folder), workers, instant)
    )
    child.start()
    child.join(300)
    return child.exitcode


def test_a_run_that_is_killed_again_and_again_ends_the_same(
    place: Path, whole: str, tmp_path: Path, processes: multiprocessing.context.ForkServerContext
) -> None:
    for instant in EACH:
        assert ended(processes, place, tmp_path / "run", 1, instant) == -9
    assert ended(processes, place, tmp_path / "run", 1, None) == 0
    assert toys.content(tmp_path / "run") == whole
    assert not [one for one in (tmp_path / "run").iterdir() if one.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_twenty_random_instants(
    place: Path,
    whole: str,
    tmp_path: Path,
    processes: multiprocessing.context.ForkServerContext,
    workers: int,
) -> None:
    chance, kills, tries = random.Random(workers), 0, 0
    while kills < 20:
        folder = tmp_path / f"run{tries}"
        tries += 1
        while True:
            kind = chance.choice(["write", "before", "after", "log", "time", "time"])
            when = chance.uniform(0.0, 4.0) if kind == "time" else chance.randint(1, 3)
            code = ended(processes, place, folder, workers, (kind, when))
            if code == 0:
                break
            assert code == -9
            kills += 1
            if kills >= 20:
                assert ended(processes, place, folder, workers, None) == 0
                break
        assert toys.content(folder) == whole


@pytest.mark.slow
def test_a_full_disk_of_20_mb(
    place: Path, whole: str, tmp_path: Path, processes: multiprocessing.context.ForkServerContext
) -> None:
    """The second checkpoint doesn't fit beside the first and a stranger's 5 MB; on a larger disk the run goes
    on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    try:
        (disk / "others").write_bytes(bytes(5_000_000))
        assert ended(processes, place, disk / "run", 1, None) == 1
        there = [one.name for one in (disk / "run").iterdir()]
        assert runs.CHECKPOINT in there
        assert not [name for name in there if name.startswith(".last")]
        shutil.copytree(disk / "run", tmp_path / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert ended(processes, place, tmp_path / "run", 1, None) == 0
    assert toys.content(tmp_path / "run") == whole
