"""What a killed process leaves is removed by the next one, and nothing else is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vertebra.machine import files, leftovers

_KILLED = """
import os, pathlib, sys, tempfile
from vertebra.machine import files, leftovers
place = pathlib.Path(sys.argv[1])
tempfile.mkdtemp(prefix=leftovers.prefix(), dir=place)
tempfile.mkstemp(prefix=leftovers.hidden("page.html"), dir=place)
with files.whole_folder(place / "net", lambda _: True) as draft:
    (draft / "new").touch()
    (place / "net").rename(files._old(draft))
    print("ready", flush=True)
    sys.stdin.read() if len(sys.argv) > 2 else os.kill(os.getpid(), 9)
"""


def run(place: Path, *more: str) -> subprocess.Popen[str]:
    (place / "net").mkdir()
    (place / "net" / "mine").touch()
    command = [sys.executable, "-c", _KILLED, str(place), *more]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_it_moved_is_put_back(tmp_path: Path) -> None:
    run(tmp_path).communicate()
    assert len(names(tmp_path)) == 4
    leftovers.sweep(tmp_path)
    assert names(tmp_path) == ["net"]
    assert names(tmp_path / "net") == ["mine"]


def test_a_new_draft_next_to_it_removes_it_too(tmp_path: Path) -> None:
    run(tmp_path).communicate()
    with files.whole_folder(tmp_path / "other", lambda _: False):
        pass
    assert names(tmp_path) == ["net", "other"]


def test_what_a_running_process_has_stays(tmp_path: Path) -> None:
    process = run(tmp_path, "wait")
    before = names(tmp_path)
    leftovers.sweep(tmp_path)
    assert names(tmp_path) == before
    assert len(before) == 4
    process.communicate("")


def mark(**changed: str) -> str:
    """A mark of a process that is gone, unless its machine is another one."""
    found = leftovers._MARK.fullmatch(leftovers.prefix() + "abcd_123")
    assert found is not None
    parts = {**found.groupdict(), "start": "7", **changed}
    return "{host}{boot}{space}-{pid}-{start}-abcd_123".format(**parts)


@pytest.mark.parametrize("start", ["vertebra-", ".net."])
@pytest.mark.parametrize(
    ("changed", "age_s", "stays"),
    [
        ({}, 0, False),
        ({"host": "0" * 6}, 10**7, True),
        ({"space": "0" * 6}, 10**7, True),
        ({"boot": "0" * 6}, 60, True),
        ({"boot": "0" * 6}, 10**5, False),
    ],
    ids=["gone", "another machine", "another container", "after a restart", "long after a restart"],
)
def test_only_a_process_that_is_surely_gone_loses_its_things(
    tmp_path: Path, start: str, changed: dict[str, str], age_s: float, stays: bool
) -> None:
    path = tmp_path / (start + mark(**changed))
    path.mkdir()
    os.utime(path, (time.time() - age_s,) * 2)
    leftovers.sweep(tmp_path)
    assert path.exists() is stays


def test_other_things_stay(tmp_path: Path) -> None:
    others = ["vertebra-survey", "vertebra-abcdefgh", ".net.0123456789abcdef0123456789abcdef", mark(), ".net"]
    for name in others:
        (tmp_path / name).mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / f"vertebra-{mark()}").symlink_to(outside)
    before = names(tmp_path)
    leftovers.sweep(tmp_path)
    assert names(tmp_path) == before


def test_a_long_name_leaves_room_for_the_mark(tmp_path: Path) -> None:
    name = "ü" * 127
    files.write_whole(tmp_path / name, b"text")
    with files.whole_folder(tmp_path / ("f" * 240), lambda _: False):
        pass
    assert names(tmp_path) == ["f" * 240, name]
    assert re.fullmatch(r"\.ü{75}\.[0-9a-f]{18}-\d+-\d+-", leftovers.hidden(name))


def test_a_folder_of_the_cache_can_be_written_by_its_owner_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with files.whole_folder(tmp_path / "cache" / "net", lambda _: False, is_own=True) as draft:
            assert draft.stat().st_mode & 0o777 == 0o700
            (draft / "file").touch()
    finally:
        os.umask(mask)
    places = [tmp_path / "cache", tmp_path / "cache" / "net", tmp_path / "cache" / "net" / "file"]
    assert [place.stat().st_mode & 0o777 for place in places] == [0o755, 0o755, 0o644]


def test_a_system_without_numbers_of_users_trusts_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path.lstat()
    assert leftovers.is_users(about)
    monkeypatch.setattr(os, "geteuid", lambda: about.st_uid + 1)
    assert not leftovers.is_users(about)
    monkeypatch.delattr(os, "geteuid")
    assert leftovers.is_users(about)
