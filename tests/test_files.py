"""One process at a time: who holds a file's lock, who waits, and what ends a hold."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vertebra.errors import InvalidInputError, OutOfTimeError
from vertebra.machine import files

_HOLDER = """
import pathlib, sys, time
from vertebra.machine import files
with files.sole_use(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "thing"


def test_a_free_lock_is_held_without_a_wait(path):
    with files.sole_use(path, wait=lambda: pytest.fail("nobody else holds it")):
        assert path.with_name("thing.lock").is_file()
    with files.sole_use(path, wait=lambda: pytest.fail("it was let go")):
        pass


def test_a_missing_folder_is_made(tmp_path):
    with files.sole_use(tmp_path / "some" / "where" / "thing"):
        assert (tmp_path / "some" / "where").is_dir()


def test_who_comes_second_waits_once_until_the_first_is_through(path):
    waits, order, waiting = [], [], threading.Event()

    def second() -> None:
        def wait() -> None:
            waits.append(1)
            waiting.set()

        with files.sole_use(path, wait=wait, poll_s=0.01):
            order.append("second")

    thread = threading.Thread(target=second)
    with files.sole_use(path):
        thread.start()
        assert waiting.wait(30)
        thread.join(0.1)  # several polls
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert len(waits) == 1


def test_a_killed_processs_hold_ends_with_it(path):
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        with files.sole_use(path, wait=holder.kill, poll_s=0.01):
            assert holder.wait(30) != 0


def test_a_wait_that_fails_holds_nothing(path):
    def fail() -> None:
        raise BrokenPipeError

    with files.sole_use(path), pytest.raises(BrokenPipeError), files.sole_use(path, wait=fail):
        pytest.fail("somebody else holds it")
    with files.sole_use(path, wait=lambda: pytest.fail("it is still held")):
        pass


def test_a_wait_without_patience_ends_by_itself(path):
    waits = []
    second = files.sole_use(path, wait=lambda: waits.append(1), poll_s=0.01, patience_s=0.03)
    refused = pytest.raises(OutOfTimeError, match="thing is still used by another process")
    with files.sole_use(path), refused, second:
        pytest.fail("somebody else holds it")
    assert waits == [1]
    with files.sole_use(path, wait=lambda: pytest.fail("it is still held")):
        pass


def test_a_failure_inside_lets_go(path):
    with pytest.raises(ZeroDivisionError), files.sole_use(path):
        raise ZeroDivisionError
    with files.sole_use(path, wait=lambda: pytest.fail("it is still held")):
        pass


def test_a_folder_that_cannot_be_written_is_an_error_with_the_callers_hint(tmp_path):
    (tmp_path / "file").write_text("no folder")
    hint = "name another folder with THIS_VARIABLE"
    with (
        pytest.raises(InvalidInputError, match="can't be written") as caught,
        files.sole_use(tmp_path / "file" / "thing", hint=hint),
    ):
        pytest.fail("the lock can't be held")
    assert caught.value.hint == hint
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_or_device_is_written_into_and_stays_what_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_whole(pipe, b"content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
