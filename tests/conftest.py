"""What holds for every test."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import postgres as postgres_server

if TYPE_CHECKING:
    from serving_client import Client

#: What a child process imports at its start to be without torch; in this process it would be without it, too.
collect_ignore = ["without_torch"]

# A shell that starts a job in the background has it ignore Ctrl-C, and so would every process that a test
# starts and interrupts; a handler of our own is put back to the default in children, an ignored signal isn't.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tables are as wide as they are, unless a test sets a width. The C library's environment may have readline's.
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")

#: Why a test may be skipped in CI too: for what that kind of machine can't have. Anything else that is
#: skipped there is a part that nobody tested, such as a package that wasn't installed.
_EXPECTED = re.compile(
    "root may read everything|no permissions of this kind|shown to another user|cuda.bindings|tensorrt|"
    "needs PaddlePaddle|this kernel does|there is a card"
)


@pytest.fixture(autouse=True)
def warnings_go_where_they_went() -> Iterator[None]:
    """A command of this process that says everything as JSON leaves the next test's warnings alone."""
    logger = logging.getLogger("vertebra")
    handlers, propagate = logger.handlers[:], logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """A PostgreSQL server of this process; in CI it must be installed."""
    server = postgres_server.Server()
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No test waits until others leave the processors."""
    if request.path.name != "test_quiet.py":
        monkeypatch.setattr("vertebra.measuring.benchmarking.quiet.others_now", lambda *_: 0.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Bundle, for the tests of the server; those that change it make their own."""
    import tiny_bundle

    tiny_bundle.make(folder := tmp_path_factory.mktemp("serving") / "tiny")
    return folder


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[Client]:
    """A client of a server of several models with narrow limits."""
    from serving_client import serving

    with serving(
        bundle, f"tiny:2={bundle}", f"other={bundle}", max_body="1MB", max_pixels=10_000, queue=40
    ) as one:
        yield one


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, fail a run that skipped what it should have tested."""
    if os.environ.get("CI") != "true" or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reasons = {str(report.longrepr[2]) for report in reporter.stats.get("skipped", ())}
    strange = sorted(reason for reason in reasons if not _EXPECTED.search(reason))
    for reason in strange:
        reporter.write_line(f"skipped, which CI doesn't allow: {reason}")
    if strange and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
