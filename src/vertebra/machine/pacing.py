"""How long a download may take: a connection that sends a byte now and then never times out by itself."""

from __future__ import annotations

import http.client
import io
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

from vertebra.errors import DownloadError

#: A connection that is slower than this is worth no wait.
LEAST_BYTES_PER_S = 1000


class TooSlowError(TimeoutError):
    """Data arrived, but too slowly."""


class Pace:
    """The time that was waited for data, and what came: raises TooSlowError where less than
    LEAST_BYTES_PER_S came over `over_s` seconds, or where all waiting together took `whole_s`."""

    def __init__(self, *, over_s: float, whole_s: float | None = None) -> None:
        self._over_s, self._whole_s = over_s, whole_s
        self._all_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Another connection: its speed is its own."""
        self._waited_s, self._count = 0.0, 0

    def add(self, count: int, waited_s: float) -> None:
        """`count` bytes came after `waited_s`."""
        self._waited_s += waited_s
        self._all_s += waited_s
        self._count += count
        if self._is_over():
            raise TooSlowError(self._over())
        if self._waited_s < self._over_s:
            return
        if self._count < LEAST_BYTES_PER_S * self._waited_s:
            raise TooSlowError(f"only {self._count:,} bytes came in {self._waited_s:.3g} s")
        self.begin()

    def check_whole(self, url: str) -> None:
        """Raise DownloadError if there is no time for another attempt."""
        if self._is_over():
            raise DownloadError(f"Downloading {url} was given up: {self._over()}.", "try again later")

    def _is_over(self) -> bool:
        return self._whole_s is not None and self._all_s >= self._whole_s

    def _over(self) -> str:
        return f"it took more than {self._whole_s:g} s"


def handlers(pace: Pace) -> list[urllib.request.BaseHandler]:
    """urllib's handlers for http and https, in which every byte of an answer counts, its headers' too."""
    return [_Http(pace), _Https(pace)]


class _Paced(urllib.request.AbstractHTTPHandler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def do_open(self, http_class: Any, req: urllib.request.Request, **more: Any) -> Any:
        return super().do_open(partial(self._connection, http_class), req, **more)

    def _connection(self, kind: Callable[..., http.client.HTTPConnection], host: str, **more: Any) -> Any:
        connection = kind(host, **more)
        connection.response_class = partial(_Response, self._pace)  # type: ignore[assignment]
        return connection


class _Http(_Paced, urllib.request.HTTPHandler):
    pass


class _Https(_Paced, urllib.request.HTTPSHandler):
    pass


class _Response(http.client.HTTPResponse):
    def __init__(self, pace: Pace, sock: Any, *rest: Any, **more: Any) -> None:
        super().__init__(sock, *rest, **more)
        raw = sock.makefile("rb", buffering=0)
        self.fp.close()
        self.fp = io.BufferedReader(_Watched(raw, pace))


class _Watched(io.RawIOBase):
    def __init__(self, raw: Any, pace: Pace) -> None:
        self._raw, self._pace = raw, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        start = time.monotonic()
        count: int | None = self._raw.readinto(buffer)
        if count:
            self._pace.add(count, time.monotonic() - start)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
