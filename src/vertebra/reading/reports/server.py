"""One page, served to the browsers of this machine and made again when its file changes.

It listens on the loopback address only, answers GET for two paths, and refuses requests that name another
host, so that no other site's script can read the page through a name that resolves to this address.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Hashable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from vertebra.errors import InvalidInputError, VertebraError
from vertebra.measurements.display import plain

#: The largest share of time spent on making pages: it is taken from the measurements that run meanwhile.
SHARE = 0.1

#: The port of http, which browsers leave out.
_USUAL_PORT = 80

#: What differs once the file has changed, as its size and time of change; None if there is no file.
Stamp = Hashable


class LivePage:
    """The page that `make` returns for a version, made again when `file`, or what it returns, changes, in at
    most a `share` of the time."""

    def __init__(
        self, make: Callable[[str], str], file: Path | Callable[[], Stamp], share: float = SHARE
    ) -> None:
        """Makes the page once; raises what `make` raises."""
        self._make, self._file, self._share = make, file, share
        self._made_of: Stamp = None
        self._lock = Lock()
        self._remake(self._stamp())

    def text(self) -> str:
        """The current page. If it can't be made, the last one stays, and stderr says why."""
        with self._lock:
            stamp = self._stamp()
            if self._is_due(stamp):
                try:
                    self._remake(stamp)
                except VertebraError as error:
                    print(f"the page stays as it is: {plain(error.message)}", file=sys.stderr)
                    self._made_of = stamp
            return self._text

    def version(self) -> str:
        """The version of the current page, without making it."""
        with self._lock:
            stamp = self._stamp()
            return str(stamp if self._is_due(stamp) else self._made_of)

    def _is_due(self, stamp: Stamp) -> bool:
        return stamp != self._made_of and time.monotonic() >= self._next

    def _remake(self, stamp: Stamp) -> None:
        start = time.monotonic()
        self._text = self._make(str(stamp))
        end = time.monotonic()
        self._made_of, self._next = stamp, end + (end - start) * (1 / self._share - 1)

    def _stamp(self) -> Stamp:
        if not isinstance(self._file, Path):
            try:
                return self._file()
            except VertebraError as error:  # a server that is gone for a while: the page stays
                print(f"the page stays as it is: {plain(error.message)}", file=sys.stderr)
                return self._made_of
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return None
        return status.st_size, status.st_mtime_ns


class Server:
    """Serves `page` on the loopback address; `port` 0 takes any free port.

    Raises InvalidInputError if the port is taken or not allowed.
    """

    def __init__(self, page: LivePage, port: int = 0) -> None:
        try:
            self._http = _Http(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise InvalidInputError(
                f"Can't serve on port {port}: {_reason(error)}.",
                "choose another with --port; 0 takes any free port",
            ) from error
        self._http.page = page

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/"

    def run(self) -> None:
        """Answers until `stop`, or until Ctrl-C raises KeyboardInterrupt."""
        self._http.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """Ends `run`, which must be running in another thread."""
        self._http.shutdown()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.server_close()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "another program uses it"
    return (getattr(error, "strerror", None) or str(error)).lower()


class _Http(ThreadingHTTPServer):
    daemon_threads = True  # a browser that stays connected doesn't keep the program alive
    page: LivePage

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a browser that has gone is not an error
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    server_version, sys_version = "vertebra", ""
    timeout = 10  # seconds for a request to arrive

    def do_GET(self) -> None:
        port = self.server.server_port
        ends = (f":{port}", "") if port == _USUAL_PORT else (f":{port}",)
        hosts = [f"{name}{end}" for name in ("127.0.0.1", "localhost") for end in ends]
        if self.headers.get_all("Host", []) not in ([host] for host in hosts):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "This server answers this machine only.")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, self.server.page.text(), "html")
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, self.server.page.version())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "The only page is /")

    def _refuse(self) -> None:
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "This page is read-only.", Allow="GET")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def _answer(self, status: HTTPStatus, text: str, kind: str = "plain", **headers: str) -> None:
        body = b"" if self.command == "HEAD" else text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": f"text/{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: a page that asks for its version each second would fill the terminal."""
