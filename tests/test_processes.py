"""The supervisor of child processes, with real children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from vertebra.machine import processes
from vertebra.machine.processes import Child, HungError, JunkError, LostError

#: Answers each line with what it asks for; `processes` and `answers` are there, as in any real child.
SERVER = """
    import ctypes, json, os, subprocess, sys, threading, time
    from vertebra.machine import processes

    answers = processes.answers()

    def say(**values):
        print(json.dumps(values), file=answers, flush=True)

    for line in sys.stdin:
        request = json.loads(line)
        exec(request["do"])
"""
SLEEPER = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"


def child(program: str = SERVER, **more: Any) -> Child:
    environment = {**os.environ, "PYTHONPATH": processes.import_path()} | more.pop("env", {})
    return Child([sys.executable, "-c", textwrap.dedent(program)], env=environment, **more)


def ask(asked: Child, code: str, silence_s: float | None = 60.0) -> dict[str, Any]:
    return asked.ask({"do": code}, silence_s)


def wait_for_the_end(pid: int) -> None:
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    """No process, dead or alive, no open file and no thread."""
    files, threads = sorted(os.listdir("/dev/fd")), threading.active_count()
    yield
    assert psutil.Process().children(recursive=True) == []
    assert sorted(os.listdir("/dev/fd")) == files
    assert threading.active_count() == threads


def test_answers_come_in_the_order_of_the_questions() -> None:
    with child() as asked:
        for number in range(3):
            assert ask(asked, f"say(number={number})") == {"number": number}
        for number in range(100):
            asked.send({"do": f"say(number={number})"})
        assert [asked.receive(60)["number"] for _ in range(100)] == list(range(100))


def test_one_question_may_have_several_answers_and_any_time() -> None:
    with child() as asked:
        assert ask(asked, "say(part=1); time.sleep(0.2); say(part=2)", None) == {"part": 1}
        assert asked.receive(None) == {"part": 2}


def test_questions_and_answers_larger_than_a_pipe_pass_each_other() -> None:
    with child() as asked:
        large = "x" * 1_000_000
        for _ in range(3):
            asked.send({"do": "say(text=request['text'])", "text": large})
        assert [asked.receive(60)["text"] == large for _ in range(3)] == [True] * 3


def test_what_else_a_child_prints_disturbs_nothing() -> None:
    with child() as asked:
        printing = "os.write(1, b'{}\\n' * 100_000); print('{}', flush=True); say(done=True)"
        assert ask(asked, printing) == {"done": True}


def test_silence_beyond_the_limit_ends_it_with_its_last_words() -> None:
    with child() as asked:
        with pytest.raises(HungError) as error:
            ask(asked, "print('waiting', file=sys.stderr, flush=True); time.sleep(600)", 1.5)
        assert error.value.message == 'hung for 1.5 s; its last line: "waiting"'
        assert not psutil.pid_exists(asked.pid)


def test_the_limit_is_on_each_silence_and_not_on_the_whole() -> None:
    with child() as asked:
        ask(asked, "say(ready=True)")
        asked.send({"do": "[(time.sleep(0.3), say(part=part)) for part in range(6)]"})
        assert [asked.receive(1.5)["part"] for _ in range(6)] == list(range(6))


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("sys.exit(3)", "ended with exit code 3 and no result"),
        ("os._exit(0)", "ended with exit code 0 and no result"),
        ("os.kill(os.getpid(), 11)", "crashed with signal 11 (Segmentation fault)"),
        ("os.kill(os.getpid(), 9)", "killed (SIGKILL), as the system does when memory runs out"),
        ("raise SystemExit('not today')", 'ended with exit code 1 and no result; its last line: "not today"'),
        ("1 / 0", 'ended with exit code 1 and no result; its last line: "ZeroDivisionError: '
                  'division by zero"'),
    ],
)  # fmt: skip
def test_a_crash_says_how_with_the_last_words(code: str, how: str) -> None:
    with child() as asked:
        for _ in range(2):  # and so does every further question
            with pytest.raises(LostError) as error:
                ask(asked, code)
            assert error.value.message == how


def test_last_words_are_found_after_a_flood_and_cut() -> None:
    with child() as asked, pytest.raises(LostError) as error:
        ask(asked, "os.write(2, b'noise\\n' * 100_000 + b'y' * 1000 + b'\\n \\n'); os._exit(1)")
    assert error.value.message == f'ended with exit code 1 and no result; its last line: "{"y" * 200}"'


@pytest.mark.parametrize("line", ["hello", "5"])
def test_junk_is_named(line: str) -> None:
    with child(f"print('{line}', flush=True); input()") as asked, pytest.raises(JunkError) as error:
        ask(asked, "")
    assert error.value.message == f"the process sent b'{line}', which is not a JSON object"


def test_a_command_that_cannot_start_is_lost_too(tmp_path: Path) -> None:
    with pytest.raises(LostError, match="no process could be started"):
        Child(["/no/such/program"], scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_end_takes_all_that_it_started() -> None:
    with child() as asked:
        told = ask(asked, f"say(grandchild={SLEEPER}.pid)")
        grandchild = told["grandchild"]
        assert psutil.pid_exists(grandchild)
    wait_for_the_end(grandchild)
    asked.end()  # once more changes nothing


def test_what_it_started_goes_too_where_it_crashes() -> None:
    with child() as asked:
        grandchild = ask(asked, f"say(grandchild={SLEEPER}.pid)")["grandchild"]
        with pytest.raises(LostError, match="exit code 3"):
            ask(asked, "os._exit(3)")
        wait_for_the_end(grandchild)


def test_it_can_be_cancelled_from_another_thread() -> None:
    with child() as asked:
        ask(asked, "say(ready=True)")
        timer = threading.Timer(0.3, asked.cancel)
        timer.start()
        with pytest.raises(LostError, match="cancelled"):
            ask(asked, "time.sleep(600)", None)
        timer.join()
        with pytest.raises(LostError, match="cancelled"):
            ask(asked, "say(ready=True)", None)
    asked.cancel()  # has nothing left to kill


def test_an_interrupt_goes_on_up_and_ends_it() -> None:
    def interrupted() -> None:
        with child() as asked:
            ask(asked, "say(ready=True)")
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            ask(asked, "time.sleep(600)", None)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


def test_its_scratch_folder_and_its_environment_are_its_own(tmp_path: Path) -> None:
    with child(scratch=tmp_path, env={"WHO": "me"}) as asked:
        told = ask(asked, "import tempfile; tempfile.mkdtemp(); say(at=tempfile.gettempdir(), **os.environ)")
        assert (Path(told["at"]).parent, told["WHO"]) == (tmp_path, "me")
        assert len(list(tmp_path.glob("*/*"))) == 1
    assert list(tmp_path.iterdir()) == []


#: Starts a child that starts another, says the numbers of both, and has the child do what is asked.
PARENT = """
    import os, sys, time
    from vertebra.machine.processes import Child

    with Child([sys.executable, "-c", os.environ["SERVER"]]) as child:
        told = child.ask({"do": os.environ["FIRST"]}, 60)
        child.send({"do": os.environ["THEN"]})
        print(*told.values(), flush=True)
        time.sleep(600)
"""
#: Native code that never lets another thread of the interpreter run.
DEAF = "ctypes.PyDLL(None).sleep(600)"


@pytest.mark.parametrize(
    "then",
    [
        "time.sleep(0)",
        "time.sleep(600)",
        pytest.param(DEAF, marks=pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's kernel")),
    ],
    ids=["waiting", "busy", "deaf"],
)
def test_it_ends_with_a_parent_that_is_killed_and_so_does_what_it_started(then: str) -> None:
    environment = {
        **os.environ, "PYTHONPATH": processes.import_path(), "SERVER": textwrap.dedent(SERVER),
        "FIRST": f"say(pid=os.getpid(), grandchild={SLEEPER}.pid)", "THEN": then,
    }  # fmt: skip
    command = [sys.executable, "-c", textwrap.dedent(PARENT)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        numbers = [int(word) for word in parent.stdout.readline().split()]
        assert len(numbers) == 2
        time.sleep(0.3)
        assert [psutil.pid_exists(pid) for pid in numbers] == [True, True]
        parent.kill()
    for pid in numbers:
        wait_for_the_end(pid)


def test_it_ends_with_a_parent_that_is_killed_before_it_listens() -> None:
    slow = "import time; time.sleep(1.0)\n" + textwrap.dedent(SERVER)
    program = """
        import os, sys, time
        from vertebra.machine.processes import Child

        child = Child([sys.executable, "-c", os.environ["SERVER"]])
        print(child.pid, flush=True)
        time.sleep(600)
    """
    environment = {**os.environ, "PYTHONPATH": processes.import_path(), "SERVER": slow}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert psutil.pid_exists(pid)
    wait_for_the_end(pid)
