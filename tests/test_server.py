"""The live report: one page for this machine's browsers, made anew when the table grows."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vertebra
from classic_rows import known, timed
from test_explorer import browser, needs_browser, opened, until  # noqa: F401
from vertebra.errors import InvalidInputError, TableError
from vertebra.measurements import Measurement, Table
from vertebra.reading import reports
from vertebra.reading.reports.server import LivePage, Server


@contextlib.contextmanager
def serving(page: LivePage) -> Iterator[Server]:
    with Server(page) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def ask(
    server: Server, path: str = "/", method: str = "GET", **headers: str
) -> tuple[int, str, dict[str, str]]:
    port = int(server.address.split(":")[2].strip("/"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "table"
    path.write_text("one")
    return path


def of(file: Path, share: float = 1.0) -> LivePage:
    return LivePage(lambda version: f"<p>{file.read_text()} {version}</p>", file, share)


def test_the_page_is_made_anew_only_when_its_file_has_changed(file):
    made = []
    page = LivePage(lambda version: made.append(version) or file.read_text(), file, share=1.0)
    first = page.version()
    assert [page.text(), page.text(), page.version()] == ["one", "one", first]
    assert made == [first]
    file.write_text("another")
    assert page.version() != first
    assert made == [first]  # to ask is not to make
    assert page.text() == "another"
    assert made == [first, page.version()]


def test_making_pages_takes_no_more_than_its_share_of_the_time(file, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("vertebra.reading.reports.server.time.monotonic", lambda: clock[0])

    def slow(version: str) -> str:
        clock[0] += 2.0
        return file.read_text()

    page = LivePage(slow, file, share=0.1)
    first = page.version()
    file.write_text("another")
    clock[0] += 17.9
    assert (page.text(), page.version()) == ("one", first)
    clock[0] += 0.2
    assert page.version() != first
    assert page.text() == "another"


def test_a_page_that_can_not_be_made_any_more_stays_and_the_reason_is_told(file, capsys):
    def make(version: str) -> str:
        if file.read_text() != "one":
            raise TableError("The table is broken.")
        return "whole"

    page = LivePage(make, file, share=1.0)
    file.write_text("broken")
    assert [page.text(), page.text()] == ["whole", "whole"]
    assert capsys.readouterr().err == "the page stays as it is: The table is broken.\n"


def test_one_page_and_its_version_are_all_that_is_served(file):
    with serving(of(file)) as server:
        status, text, headers = ask(server)
        assert (status, text.startswith("<p>one ")) == (200, True)
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
        status, version, _ = ask(server, "/version")
        assert status == 200
        assert version in text
        for path in ("/../table", "/table", "/..%2ftable", "/?x", "/version/", f"/{file}", "*"):
            assert ask(server, path)[0] == 404, path


def test_it_can_only_be_read(file):
    with serving(of(file)) as server:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
            status, _, headers = ask(server, method=method)
            assert (status, headers["Allow"]) == (405, "GET"), method
        assert ask(server, method="BREW")[0] == 501


def test_a_request_that_names_another_host_is_refused(file):
    with serving(of(file)) as server:
        port = server.address.split(":")[2].strip("/")
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1",
            f"127.0.0.1:{port}.evil.example",
            "",
        ):
            status, text, _ = ask(server, "/version", Host=host)
            assert (status, "one" in text) == (421, False), host
        assert ask(server, Host=f"localhost:{port}")[0] == 200


def test_the_port_of_http_may_be_left_out_of_the_host_as_browsers_do(file, monkeypatch):
    with serving(of(file)) as server:
        assert ask(server, Host="localhost")[0] == 421
        monkeypatch.setattr(server._http, "server_port", 80)
        for host in ("localhost", "127.0.0.1", "localhost:80"):
            connection = http.client.HTTPConnection(*server._http.server_address, timeout=20)
            connection.request("GET", "/", headers={"Host": host})
            assert connection.getresponse().status == 200
            connection.close()


def test_it_listens_on_the_loopback_address_alone(file):
    with serving(of(file)) as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert server._http.socket.getsockname()[0] == "127.0.0.1"


def test_a_browser_that_says_nothing_keeps_no_other_waiting(file):
    with serving(of(file)) as server:
        port = int(server.address.split(":")[2].strip("/"))
        with socket.create_connection(("127.0.0.1", port)):
            assert ask(server)[0] == 200


def test_a_port_that_is_taken_is_one_clear_error(file):
    with Server(of(file)) as server:
        port = int(server.address.split(":")[2].strip("/"))
        with pytest.raises(InvalidInputError, match=f"port {port}: another program uses it") as caught:
            Server(of(file), port)
        assert "--port" in (caught.value.hint or "")


def test_ctrl_c_ends_the_command_cleanly(tmp_path):
    pytest.importorskip("vl_convert")
    path = tmp_path / "table.sqlite"
    Table(path).append([*known(), *timed()])
    command = [sys.executable, "-m", "vertebra", "report", "--live", "--port", "0", "--table", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("live at http://127.0.0.1:")
        os.kill(process.pid, signal.SIGINT)
        out, rest = process.communicate(timeout=30)
    assert (process.returncode, out, rest) == (0, "", "stopped\n")


def test_an_empty_table_is_refused_before_anything_is_served(tmp_path):
    Table(tmp_path / "table.sqlite")
    with pytest.raises(InvalidInputError, match="empty"):
        vertebra.report(live=True, port=0, table=tmp_path / "table.sqlite")


@needs_browser
def test_a_new_row_appears_by_itself_and_the_state_stays(browser, tmp_path):  # noqa: F811
    pytest.importorskip("vl_convert")
    table = Table(tmp_path / "table.sqlite")
    table.append([*known(), *timed()])
    live = LivePage(lambda version: reports.html(table.latest(), version=version), table.path, share=1.0)
    with serving(live) as server:
        page = opened(browser, f"{server.address}#explorer?params=200M")
        page.focus("#limit-latency")
        page.keyboard.type("300")
        until(page, lambda: "latency=300ms" in page.evaluate("location.hash"))
        assert "newcomer" not in page.text_content("#explorer-table")
        table.append([newcomer(row) for row in (*known(), *timed()) if row.model == "squeezenet1_1"])
        patiently(page, lambda: "newcomer" in (page.text_content("#explorer-table") or ""))
        assert page.input_value("#limit-latency") == "300"
        assert page.evaluate("document.activeElement.id") == "limit-latency"
        patiently(page, lambda: page.text_content("#live") == "Live: this page follows the table.")
        assert {url.partition("#")[0].rpartition("/")[0] + "/" for url in page.asked} == {server.address}
        assert page.said == []
    patiently(page, lambda: "No longer live" in (page.text_content("#live") or ""))
    page.close()


def newcomer(row: Measurement) -> Measurement:
    return replace(row, model="newcomer", value=row.value)


def patiently(page: object, holds: Callable[[], bool]) -> None:
    """The page asks once a second, and is made anew meanwhile."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(Exception):  # in the middle of loading there is no page to ask
            if holds():
                return
        page.wait_for_timeout(100)  # type: ignore[attr-defined]
    raise AssertionError("it never held")
