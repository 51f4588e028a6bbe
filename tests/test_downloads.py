"""Downloads, from a server on this machine that cuts, stalls, lies and comes back."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vertebra.errors import DownloadError
from vertebra.machine import downloads
from vertebra.machine.downloads import Wanted, fetch
from vertebra.progress import Progress

CONTENT = bytes(range(256)) * 12_000  # 3 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; `script` holds what to do with each request in turn, then it serves honestly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"v1"'
        self.script: list[Callable[[Handler], None]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files/weights.pdparams"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        action = self.server.script.pop(0) if self.server.script else serve()
        action(self)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def serve(
    *, upto: int | None = None, ranges: bool = True, stall_s: float = 0, length: bool = True, skew: int = 0
) -> Callable[[Handler], None]:
    """Serve the file, or `upto` bytes of it before hanging up; `skew` resumes at another place than asked."""

    def action(handler: Handler) -> None:
        content, etag = handler.server.content, handler.server.etag
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if ranges and asked and handler.headers.get("If-Range") in (None, etag):
            start = int(asked[1]) + skew
            if start >= len(content):
                handler.send_error(416)
                return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if etag:
            handler.send_header("ETag", etag)
        if length:
            handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start : len(content) if upto is None else start + upto])
        handler.wfile.flush()
        time.sleep(stall_s)
        handler.close_connection = True

    return action


def answer(code: int, **headers: str) -> Callable[[Handler], None]:
    def action(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return action


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "VERTEBRA_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", lambda seconds: pauses.append(seconds) if seconds else None)
    pauses.clear()
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


pauses: list[float] = []
EVERYTHING = {"sha256": SHA256, "md5": MD5, "size_bytes": len(CONTENT)}


def left_over(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()} - {path.name + ".lock", path.name + ".json"}


def ranges(server: Server) -> list[str | None]:
    return [headers.get("Range") for _, headers in server.requests]


def test_a_file_comes_whole_and_once(server):
    path = fetch(Wanted(url=server.url, **EVERYTHING))
    assert path.read_bytes() == CONTENT
    assert path.name == "weights.pdparams"
    assert left_over(path) == {"weights.pdparams"}
    assert fetch(Wanted(url=server.url, **EVERYTHING)) == path
    assert len(server.requests) == 1


def test_addresses_never_share_a_place(server):
    other = server.url.replace("/files/", "/others/")
    assert fetch(server.url) != fetch(other)


def test_progress_goes_up_to_the_whole(server):
    events: list[Progress] = []
    fetch(server.url, progress=events.append)
    done = [event.done for event in events]
    assert (done[0], done[-1]) == (0, len(CONTENT))
    assert done == sorted(done)
    assert {(event.total, event.unit) for event in events} == {(len(CONTENT), "B")}


def test_a_broken_transfer_is_taken_up_where_it_stopped(server):
    server.script = [serve(upto=1_000_000), serve(upto=500_000)]
    assert fetch(Wanted(url=server.url, **EVERYTHING)).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_takes_up_what_an_earlier_one_left(server):
    server.script = [serve(upto=1_000_000), *[answer(503)] * 4]
    with pytest.raises(DownloadError, match="5 times in a row") as caught:
        fetch(server.url)
    assert "what was downloaded is kept" in str(caught.value.hint)
    server.requests.clear()
    assert fetch(server.url).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=1000000-"]


def test_a_server_that_ignores_ranges_gives_the_whole_anew(server):
    server.script = [serve(upto=1_000_000), serve(ranges=False)]
    assert fetch(Wanted(url=server.url, **EVERYTHING)).read_bytes() == CONTENT


def test_a_server_that_resumes_elsewhere_is_asked_for_the_whole(server):
    server.script = [serve(upto=1_000_000), serve(skew=1)]
    assert fetch(server.url).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-", None]


def test_two_versions_of_a_file_are_never_joined(server):
    server.script = [serve(upto=1_000_000), *[answer(503)] * 4]
    with pytest.raises(DownloadError):
        fetch(server.url)
    server.content, server.etag = CONTENT[::-1], '"v2"'
    assert fetch(server.url).read_bytes() == CONTENT[::-1]


def test_without_a_validator_only_a_digest_allows_to_resume(server):
    server.etag = None
    server.script = [serve(upto=1_000_000)]
    assert fetch(server.url).read_bytes() == CONTENT
    assert ranges(server) == [None, None]
    server.requests.clear()
    server.script = [serve(upto=1_000_000)]
    other = server.url + "2"
    assert fetch(Wanted(url=other, sha256=SHA256)).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-"]


def test_a_joined_file_that_fails_its_digest_is_fetched_whole_once_more(server):
    server.etag = None
    server.content = b"x" * len(CONTENT)
    server.script = [serve(upto=1_000_000), *[answer(503)] * 4]
    wanted = Wanted(url=server.url, sha256=SHA256)
    with pytest.raises(DownloadError):
        fetch(wanted)
    server.content = CONTENT
    assert fetch(wanted).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(server):
    server.script = [serve(upto=2_000_000), *[answer(503)] * 4]
    with pytest.raises(DownloadError):
        fetch(server.url)
    server.content = b"short"
    assert fetch(server.url).read_bytes() == b"short"


def test_a_stall_ends_after_its_time_and_is_resumed(server, monkeypatch):
    hold = threading.Event()

    def stall(handler: Handler) -> None:
        serve(upto=1_000_000)(handler)
        hold.wait(20)

    server.script = [stall]
    assert fetch(Wanted(url=server.url, **EVERYTHING), timeout_s=0.3).read_bytes() == CONTENT
    hold.set()
    assert ranges(server) == [None, "bytes=1000000-"]


def test_a_server_that_only_stalls_is_given_up(server):
    hold = threading.Event()
    server.script = [lambda handler: (hold.wait(20), None)[1]] * 2
    with pytest.raises(DownloadError, match=r"2 times in a row: no data arrived for 0\.2 s"):
        fetch(server.url, timeout_s=0.2, attempts=2)
    hold.set()


def test_errors_that_pass_are_waited_out_with_growing_pauses(server):
    server.script = [answer(500), answer(503), answer(429, Retry_After="7"), answer(502)]
    assert fetch(server.url).read_bytes() == CONTENT
    assert pauses == [0.5, 1, 7, 4]


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_errors_that_stay_are_told_at_once(server, code):
    server.script = [answer(code)]
    with pytest.raises(DownloadError, match=f"answered {code}"):
        fetch(server.url)
    assert len(server.requests) == 1
    assert not downloads.location(server.url).exists()


LIES = {
    "sha256": {"sha256": "0" * 64},
    "a prefix of the sha256": {"sha256": "00000000"},
    "md5": {"md5": "0" * 32},
    "size": {"size_bytes": 5},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_is_not_the_one_expected_is_removed(server, lie):
    with pytest.raises(DownloadError, match="is not the expected"):
        fetch(Wanted(url=server.url, **LIES[lie]))
    assert left_over(downloads.location(server.url)) == set()


def test_the_first_digits_of_a_digest_are_enough(server):
    assert fetch(Wanted(url=server.url, sha256=SHA256[:8].upper())).read_bytes() == CONTENT


@pytest.mark.parametrize("digest", [{"sha256": "1234567"}, {"sha256": "z" * 64}, {"md5": "0" * 8}])
def test_what_is_no_digest_is_refused(digest):
    with pytest.raises(DownloadError, match="is no"):
        Wanted(url="https://example.org/x", **digest)


def test_a_copy_that_changed_in_the_cache_is_fetched_anew(server):
    path = fetch(server.url)
    path.write_bytes(b"damaged")
    assert fetch(server.url).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_file_trusted_on_first_use_must_stay_the_same(server):
    path = fetch(server.url)
    assert downloads.known_sha256(server.url) == SHA256
    path.unlink()
    server.content = b"another"
    with pytest.raises(DownloadError, match=f"expected {SHA256}") as caught:
        fetch(server.url)
    assert str(path.parent) in str(caught.value.hint)
    other = hashlib.sha256(b"another").hexdigest()
    assert fetch(Wanted(url=server.url, sha256=other)).read_bytes() == b"another"


def test_offline_only_the_cache_answers(server, monkeypatch):
    path = fetch(server.url)
    monkeypatch.setenv("VERTEBRA_OFFLINE", "1")
    assert fetch(server.url) == path
    with pytest.raises(DownloadError, match="VERTEBRA_OFFLINE"):
        fetch(server.url + "2")
    path.write_bytes(b"damaged")
    with pytest.raises(DownloadError, match="is not the expected"):
        fetch(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_what_offline_means(monkeypatch, value, expected):
    monkeypatch.setenv("VERTEBRA_OFFLINE", value)
    assert downloads.offline() is expected


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://127.evil.org/x",
        "https://",
        "x",
    ],
)
def test_only_https_is_spoken_but_to_this_machine(url):
    with pytest.raises(DownloadError, match="only https"):
        fetch(url)


def test_a_redirect_is_followed_but_never_out_of_https(server):
    server.script = [answer(302, Location="/moved/weights.pdparams")]
    assert fetch(server.url).read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/files/weights.pdparams", "/moved/weights.pdparams"]
    server.script = [answer(302, Location="http://example.org/weights.pdparams")]
    with pytest.raises(DownloadError, match="only https"):
        fetch(server.url + "2")


def test_proxies_of_the_environment_are_asked(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_address[1]}")
    assert fetch("http://localhost:9/weights.pdparams").read_bytes() == CONTENT
    assert server.requests[0][0] == "http://localhost:9/weights.pdparams"


def test_no_connection_is_told_with_what_to_do(server):
    with pytest.raises(DownloadError, match="there was no connection") as caught:
        fetch("http://127.0.0.1:9/x", attempts=2)
    assert "HTTPS_PROXY" in str(caught.value.hint)


def test_more_than_the_limit_is_not_taken(server):
    with pytest.raises(DownloadError, match="at most 1,000"):
        fetch(server.url, limit_bytes=1000)
    server.script = [serve(length=False)]
    with pytest.raises(DownloadError, match="at most 1,000,000"):
        fetch(server.url, limit_bytes=1_000_000)
    assert left_over(downloads.location(server.url)) == set()


def test_a_full_disk_is_told_before_anything_is_written(server, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(DownloadError, match="needs 3,072,000 bytes"):
        fetch(server.url)


def test_a_disk_that_fills_up_on_the_way_is_told(server, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DownloadError, match="no space left"):
        fetch(server.url)
    assert not downloads.location(server.url).exists()


def test_a_cache_that_is_no_folder_is_told(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="Can't write") as caught:
        fetch(server.url)
    assert "VERTEBRA_CACHE" in str(caught.value.hint)


def test_without_a_lock_a_cached_file_is_used_and_a_missing_one_is_refused(server):
    path = downloads.location(server.url)
    lock = path.with_name(path.name + ".lock")
    lock.mkdir(parents=True)  # opening it fails, as in a folder that may only be read
    with pytest.raises(DownloadError, match="can't be written") as caught:
        fetch(server.url)
    assert "VERTEBRA_CACHE" in str(caught.value.hint)
    lock.rmdir()
    fetch(server.url)
    lock.unlink(missing_ok=True)
    lock.mkdir()
    assert fetch(server.url) == path


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://e.org/a/..%2f..%2fetc%2fpasswd", "_.._etc_passwd"),
        ("https://e.org/", "file"),
        ("https://e.org/x%00y", "x_y"),
        ("https://e.org/" + "n" * 500, "n" * 100),
    ],
)
def test_names_in_the_cache_are_harmless(tmp_path, url, name):
    place = downloads.location(url, tmp_path)
    assert place.name == name
    assert place.parent.parent == tmp_path


def test_a_spoiled_note_counts_as_none(server):
    path = fetch(server.url)
    for text in ("", "{", "[]", '{"sha256": 5}', json.dumps({"sha256": "short"})):
        path.with_name(path.name + ".json").write_text(text)
        assert downloads.known_sha256(server.url) is None


def test_two_processes_that_want_one_file_fetch_it_once(server):
    both_run = threading.Event()

    def slow(handler: Handler) -> None:
        both_run.wait(60)
        serve()(handler)

    server.script = [slow]
    program = (
        "from vertebra.machine.downloads import digest, fetch; print('here', flush=True); "
        f"print(digest(fetch({server.url!r})))"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "here\n"
    both_run.set()
    assert {worker.communicate(timeout=60)[0].strip() for worker in workers} == {SHA256}
    assert len(server.requests) == 1


def test_a_killed_process_holds_nobody_up_and_its_beginning_is_used(server):
    started, hold = threading.Event(), threading.Event()

    def half(handler: Handler) -> None:
        serve(upto=1_500_000)(handler)
        started.set()
        hold.wait(60)

    server.script = [half]
    program = f"from vertebra.machine.downloads import fetch; fetch({server.url!r})"
    worker = subprocess.Popen([sys.executable, "-c", program])
    assert started.wait(60)
    part = downloads.location(server.url).with_name("weights.pdparams.part")
    while not part.exists() or part.stat().st_size < 1_000_000:
        assert worker.poll() is None
    worker.kill()
    worker.wait()
    hold.set()
    assert fetch(server.url).read_bytes() == CONTENT
    assert ranges(server)[-1] is not None


@pytest.mark.parametrize(
    "other",
    [{"etag": '"v2"'}, {"etag": None}, {"etag": None, "modified": "Tue, 01 Jan 2030 00:00:00 GMT"}],
    ids=["another", "none", "another kind"],
)
def test_a_server_that_resumes_with_another_version_is_asked_for_the_whole(server, other):
    """It ignores If-Range; no digest is known that would tell that two versions were joined."""

    def resume(handler: Handler) -> None:
        start = int(handler.headers["Range"][6:-1])
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        if other["etag"]:
            handler.send_header("ETag", other["etag"])
        if "modified" in other:
            handler.send_header("Last-Modified", other["modified"])
        handler.end_headers()
        handler.wfile.write(CONTENT[::-1][start:])

    server.script = [serve(upto=1_000_000), resume]
    assert fetch(server.url).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-", None]


def dripped(where: str) -> Callable[[Handler], None]:
    """An answer of which a byte comes now and then, so that no read is ever late."""

    def action(handler: Handler) -> None:
        head = b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        start = 0 if where == "headers" else len(head)
        handler.wfile.write(head[:start])
        handler.wfile.flush()
        for byte in head[start:] + b"x" * 1_000_000:
            if over.wait(0.02):
                break
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()

    over = threading.Event()
    action.over = over  # type: ignore[attr-defined]
    return action


@pytest.mark.parametrize("where", ["headers", "body"])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"timeout_s": 0.3, "attempts": 2}, r"2 times in a row: only \d+ bytes came in 0\.3"),
        ({"timeout_s": 20, "whole_s": 0.3, "attempts": 5}, r"given up: it took more than 0\.3 s"),
    ],
    ids=["too slow", "too long in all"],
)
def test_a_server_that_drips_is_given_up(server, where, given, told):
    drip = dripped(where)
    server.script = [drip] * 5
    start = time.monotonic()
    with pytest.raises(DownloadError, match=told):
        fetch(server.url, **given)
    drip.over.set()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("code", [201, 204, 205])
def test_an_answer_that_is_no_file_is_told(server, code):
    server.script = [answer(code)]
    with pytest.raises(DownloadError, match=f"answered {code} .* instead of a file"):
        fetch(server.url)
    assert not downloads.location(server.url).exists()


def test_an_empty_file_is_told_unless_it_is_wanted(server):
    server.content = b""
    with pytest.raises(DownloadError, match="an empty file"):
        fetch(server.url)
    assert left_over(downloads.location(server.url)) == set()
    assert fetch(Wanted(url=server.url, size_bytes=0)).read_bytes() == b""


def test_nobody_else_may_write_what_is_cached(server, tmp_path):
    mask = os.umask(0)
    try:
        path = fetch(server.url)
    finally:
        os.umask(mask)
    places = [path, path.with_name(path.name + ".json"), *path.relative_to(tmp_path).parents]
    modes = {str(place): (tmp_path / place).stat().st_mode & 0o022 for place in places[:-1]}
    assert modes == dict.fromkeys(modes, 0)


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("/ü.jpg", "/%C3%BC.jpg"),
        ("/a b.jpg?q=ä b", "/a%20b.jpg?q=%C3%A4%20b"),
        ("/100%.jpg", "/100%25.jpg"),
        ("/%C3%BC%20.jpg#part", "/%C3%BC%20.jpg"),
    ],
)
def test_an_address_is_asked_for_as_people_write_it(server, written, asked):
    host = f"http://127.0.0.1:{server.server_address[1]}"
    assert fetch(host + written).read_bytes() == CONTENT
    assert fetch(host.replace("http", "HTTP", 1) + written + "x").read_bytes() == CONTENT
    assert server.requests[0][0] == asked


@pytest.mark.parametrize(
    "url",
    [
        "https://a..b/",
        "https://" + "a" * 64 + ".org/",
        "https://\ud800.org/",
        "https://[::1/",
        "https://e.org:99999/",
        "https://e.org:x/",
        "https://me:secret@e.org/",
        "https://e%2eorg/",
        "https://e.org/a\nb",
        "https://e.org/\x1b[2J",
    ],
)
def test_what_is_no_address_is_told_at_once(url):
    with pytest.raises(DownloadError, match="is not an address") as caught:
        fetch(url)
    assert "secret" not in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "place", ["https://a..b/", "http://[::1/", "https://" + "a" * 64 + ".org/", "ftp://e.org/"]
)
def test_a_redirect_to_no_address_is_told(server, place):
    server.script = [answer(302, Location=place)]
    with pytest.raises(DownloadError):
        fetch(server.url, attempts=1)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "place", ["127.0.0.1", "localhost", "127.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_a_foreign_address_cannot_send_on_to_this_machine(place):
    handler = downloads._SafeRedirects("https://e.org/x")
    for scheme in ("http", "https"):
        with pytest.raises(DownloadError):
            handler.redirect_request(None, None, 302, "", {}, f"{scheme}://{place}:9/x")


@pytest.mark.parametrize("header", ["Content-Length", "Content-Range"])
def test_a_size_of_thousands_of_digits_is_told(server, header):
    def huge(handler: Handler) -> None:
        size = "9" * 5000
        handler.send_response(206 if header == "Content-Range" else 200)
        handler.send_header(header, f"bytes 0-9/{size}" if header == "Content-Range" else size)
        handler.end_headers()

    server.script = [huge] * 2
    with pytest.raises(DownloadError, match=r"5,000 digits|another position"):
        fetch(server.url, attempts=2)


@pytest.mark.parametrize("note", ["[" * 100_000, '{"sha256": ' * 50_000, "9" * 5000])
def test_a_note_that_nests_too_deeply_counts_as_none(server, note):
    path = fetch(server.url)
    path.with_name(path.name + ".json").write_text(note)
    assert downloads.known_sha256(server.url) is None
    assert fetch(server.url) == path


def test_a_server_is_reachable_if_it_answers_at_all(monkeypatch):
    monkeypatch.delenv("VERTEBRA_OFFLINE", raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        assert not downloads.reachable(address)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # it answers 501
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/"
        assert downloads.reachable(address)
        with downloads.without_network():
            assert not downloads.reachable(address)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
