"""Files from the network, fetched once: resumed, checked, and complete in the cache or not there at all.

`fetch(url)` gives the path of the file in the user's cache; `addresses` says which addresses are allowed.
Proxies are read from the environment (`HTTPS_PROXY`, `NO_PROXY`); VERTEBRA_OFFLINE=1 forbids the network, and
VERTEBRA_CACHE sets another folder for the cache.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import IO, Any

from vertebra._version import __version__
from vertebra.errors import DownloadError, InvalidInputError
from vertebra.machine import addresses, files, pacing
from vertebra.machine.files import cache_folder as cache_folder
from vertebra.machine.pacing import Pace, TooSlowError
from vertebra.progress import Listener, Progress, silent

CHUNK_BYTES = 2**18
ENOUGH_BYTES = 2**20  # after this much in one attempt, the count of failures starts again
LONGEST_PAUSE_S = 60.0
SPARE_BYTES = 2**24  # left free on the disk

_MOST_DIGITS = 18  # of a size in bytes
_SPAN = rf"bytes ([0-9]{{1,{_MOST_DIGITS}}})-[0-9]+/([0-9]{{1,{_MOST_DIGITS}}}|\*)"
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_DIGESTS = {"sha256": 64, "md5": 32}
_FORBIDDEN: ContextVar[bool] = ContextVar("forbidden", default=False)
_BY_HAND = "or download the file another way and pass its path"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file at a URL, and what is known about it in advance.

    `sha256` may be the first digits only, eight or more; `md5` guards against accidents, not against malice.
    """

    url: str
    sha256: str | None = None
    md5: str | None = None
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.hashes:
            least = 8 if name == "sha256" else _DIGESTS[name]
            if not re.fullmatch(f"[0-9a-f]{{{least},{_DIGESTS[name]}}}", value):
                raise DownloadError(
                    f'"{value}" is not a {name} digest.',
                    f"pass {least} to {_DIGESTS[name]} hexadecimal digits",
                )

    @property
    def hashes(self) -> list[tuple[str, str]]:
        given = [("sha256", self.sha256), ("md5", self.md5)]
        return [(name, value.lower()) for name, value in given if value is not None]


class _Broken(Exception):
    """The transfer failed in a way that another attempt may fix."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


def offline() -> bool:
    """Whether VERTEBRA_OFFLINE, or `without_network`, forbids the network."""
    return _FORBIDDEN.get() or os.environ.get("VERTEBRA_OFFLINE", "").strip().lower() not in (
        "",
        "0",
        "no",
        "false",
        "off",
    )


def reachable(url: str, *, timeout_s: float = 5.0) -> bool:
    """Whether the server of `url` answers, in whatever way; never where the network is forbidden."""
    if offline():
        return False
    address = addresses.sent(url)
    request = urllib.request.Request(
        address, method="HEAD", headers={"User-Agent": f"vertebra/{__version__}"}
    )
    try:
        with urllib.request.build_opener(_SafeRedirects(address)).open(request, timeout=timeout_s):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except (OSError, http.client.HTTPException, ValueError, DownloadError):
        return False


@contextmanager
def without_network() -> Iterator[None]:
    """In this block nothing is downloaded: what isn't in the cache raises DownloadError at once."""
    token = _FORBIDDEN.set(True)
    try:
        yield
    finally:
        _FORBIDDEN.reset(token)


def location(url: str, folder: Path | None = None) -> Path:
    """Where the file of `url` is, or would be, in the cache: two URLs never share a path."""
    base = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1])
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", base).lstrip(".")[-100:] or "file"
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    return (folder or cache_folder() / "downloads") / key / safe


def known_sha256(url: str, folder: Path | None = None) -> str | None:
    """The digest that the file of `url` had when it was first downloaded; None if it never was."""
    try:
        digest = json.loads(_note(location(url, folder)).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else None


def fetch(
    wanted: Wanted | str,
    *,
    folder: Path | None = None,
    progress: Listener | None = None,
    timeout_s: float = 30.0,
    attempts: int = 5,
    limit_bytes: int | None = None,
    whole_s: float | None = None,
) -> Path:
    """The path of the wanted file in the cache, downloaded if it isn't there.

    A copy in the cache is checked each time: against the digest given, and against the one that it had when
    first downloaded. A transfer that breaks, stalls for `timeout_s` or is slower than 1 kB/s for that long is
    resumed where it stopped, also by a later process; `attempts` in a row without a mebibyte of progress end
    it, and so does waiting for `whole_s` in all. Two processes that need the same file download it once.
    Raises DownloadError.
    """
    wanted = Wanted(url=wanted) if isinstance(wanted, str) else wanted
    address = addresses.sent(wanted.url)
    path = location(wanted.url, folder)
    wanted = _as_first_fetched(wanted, folder)
    if not offline():
        _make_folder(path.parent)
    elif not path.is_file():
        raise DownloadError(
            f"{wanted.url} is not in the cache, and VERTEBRA_OFFLINE forbids downloading it.",
            f"unset VERTEBRA_OFFLINE, {_BY_HAND}",
        )
    with _sole_use(path):
        if path.is_file() and not _faults(path, wanted):
            return path
        if offline():
            raise DownloadError(
                f"{path} is not the expected file, and VERTEBRA_OFFLINE forbids downloading it again.",
                f"unset VERTEBRA_OFFLINE, {_BY_HAND}",
            )
        pace = Pace(over_s=timeout_s, whole_s=whole_s)
        _Transfer(wanted, address, path, progress, timeout_s, limit_bytes, pace).complete(attempts)
    return path


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _make_folder(folder: Path) -> None:
    try:
        files.make_folder(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> DownloadError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"There is no space left for {path}.", "free some, or set VERTEBRA_CACHE to another folder"
        )
    return DownloadError(
        f"Can't write to {path}: {error.strerror or error}.",
        "set VERTEBRA_CACHE to a writable folder",
    )


@contextmanager
def _sole_use(path: Path) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(files.sole_use(path, hint="name another folder with VERTEBRA_CACHE"))
        except InvalidInputError as error:
            if not path.is_file():  # a read-only cache can still be used
                raise DownloadError(error.message, error.hint) from error
        yield


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _write_note(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_name(path.name + ".new")
    with open(draft, "w", encoding="utf-8", opener=files.unshared) as stream:
        json.dump(content, stream, indent=1)
    os.replace(draft, path)


def _as_first_fetched(wanted: Wanted, folder: Path | None) -> Wanted:
    """The file wanted, with the digest that it had when first downloaded, unless another one is given."""
    known = known_sha256(wanted.url, folder)
    if known is None or not known.startswith((wanted.sha256 or "").lower()):
        return wanted
    return replace(wanted, sha256=known)


def _faults(path: Path, wanted: Wanted) -> list[str]:
    """How the file differs from the one expected, in words."""
    faults = []
    size = path.stat().st_size
    if wanted.size_bytes is not None and size != wanted.size_bytes:
        faults.append(f"it has {size} bytes, expected {wanted.size_bytes}")
    for algorithm, expected in wanted.hashes:
        found = digest(path, algorithm)
        if not found.startswith(expected):
            faults.append(f"its {algorithm} is {found}, expected {expected}")
    return faults


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects to allowed addresses; to this machine only from this machine, or a foreign page could ask
    what runs here."""

    def __init__(self, address: str) -> None:
        self._address = address

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        address = addresses.sent(newurl)
        if addresses.is_here(address) and not addresses.is_here(self._address):
            raise DownloadError(
                f"{self._address} sends on to {address}, an address of this machine.",
                "only an address of this machine may do so; look for the file elsewhere",
            )
        return super().redirect_request(req, fp, code, msg, headers, address)  # type: ignore[arg-type]


class _Transfer:
    """One file in transfer: `path` appears when it is complete; until then the bytes are in `part`."""

    def __init__(
        self,
        wanted: Wanted,
        address: str,
        path: Path,
        progress: Listener | None,
        timeout_s: float,
        limit_bytes: int | None,
        pace: Pace,
    ) -> None:
        self.wanted = wanted
        self.address = address
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.progress = progress or silent
        self.timeout_s = timeout_s
        self.limit_bytes = limit_bytes
        self.pace = pace
        self.opener = urllib.request.build_opener(_SafeRedirects(address), *pacing.handlers(pace))
        self.resumed = False

    def complete(self, attempts: int) -> None:
        """Download the whole file, check it, and give it its name."""
        try:
            self._persist(attempts)
            faults = _faults(self.part, self.wanted)
            if faults and self.resumed:  # the beginning kept from before may be of another version
                self._forget()
                self._persist(attempts)
                faults = _faults(self.part, self.wanted)
            if faults:
                self._forget()
                raise DownloadError(
                    f"The file from {self.wanted.url} is not the expected one: {'; '.join(faults)}. "
                    "It was removed.",
                    "try again later; if this persists, the published file has changed: find out why before "
                    f"you use it, then pass its sha256 or delete {self.path.parent}",
                )
            self._finish()
        except OSError as error:  # network errors are caught where they arise: this is the disk
            raise _unwritable(self.part, error) from error

    def _persist(self, attempts: int) -> None:
        failures = 0
        while True:
            before = self._have()
            try:
                self._attempt()
                return
            except _Broken as error:
                self.pace.check_whole(self.wanted.url)
                failures = 1 if self._have() - before >= ENOUGH_BYTES else failures + 1
                if failures >= attempts:
                    raise DownloadError(
                        f"Downloading {self.wanted.url} failed {failures} times in a row: {error}.",
                        "check the connection and HTTPS_PROXY and try again (what was downloaded is kept), "
                        + _BY_HAND,
                    ) from error
                time.sleep(min(error.pause_s or 0.5 * 2 ** (failures - 1), LONGEST_PAUSE_S))

    def _attempt(self) -> None:
        self.pace.begin()
        with self._open() as response:
            start, total = self._start(response)
            if self.limit_bytes is not None and (total or 0) > self.limit_bytes:
                raise self._too_large(total or 0)
            if total is not None:
                self._check_room(total - start)
            self._receive(response, start, total)

    def _open(self) -> http.client.HTTPResponse:
        with self._network():
            response: http.client.HTTPResponse = self.opener.open(self._request(), timeout=self.timeout_s)
            return response

    @contextmanager
    def _network(self) -> Iterator[None]:
        """Turns network errors into `_Broken` where another attempt may help, else into DownloadError."""
        try:
            yield
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DownloadError(
                    f"The certificate of {self.wanted.url} can't be verified: {error.reason.verify_message}.",
                    "if your proxy signs its own certificates, set SSL_CERT_FILE to them",
                ) from error
            raise _Broken(f"there was no connection ({error.reason})") from error
        except TooSlowError as error:
            raise _Broken(str(error)) from error
        except TimeoutError as error:
            raise _Broken(f"no data arrived for {self.timeout_s:g} s") from error
        except (http.client.HTTPException, OSError) as error:
            raise _Broken(f"the connection broke ({type(error).__name__})") from error
        except ValueError as error:  # an address to go on to that urllib can't even take apart
            raise DownloadError(
                f"The answer of {self.wanted.url} can't be understood: {error}.", "check the address"
            ) from error

    def _request(self) -> urllib.request.Request:
        headers = {"User-Agent": f"vertebra/{__version__}", "Accept-Encoding": "identity"}
        have, validator = self._have(), self._validator()
        # Without a validator and a digest, it would go unnoticed that two versions were joined.
        if have and (validator or self.wanted.sha256 or self.wanted.md5):
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        return urllib.request.Request(self.address, headers=headers)

    def _refused(self, error: urllib.error.HTTPError) -> None:
        if error.code == 416:  # the part kept is not a beginning of the file there
            self._forget()
            raise _Broken("the server could not resume") from error
        if error.code in _TRANSIENT:
            pause = error.headers.get("Retry-After", "")
            pause_s = float(pause) if pause.isdecimal() else None
            raise _Broken(f"the server answered {error.code} ({error.reason})", pause_s) from error
        raise DownloadError(
            f"{self.wanted.url} answered {error.code} ({error.reason}).",
            "the file has moved or is not public: look for it on its publisher's site and pass its path",
        ) from error

    def _start(self, response: http.client.HTTPResponse) -> tuple[int, int | None]:
        """The position of the answer's first byte, and the size of the whole."""
        if response.status not in (200, 203, 206):
            raise DownloadError(
                f"{self.wanted.url} answered {response.status} ({response.reason}) instead of a file.",
                "check the address",
            )
        rest = self._number(response.headers.get("Content-Length", ""))
        etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        if response.status == 206:
            have, noted = self._have(), self._validator()
            span = re.fullmatch(_SPAN, response.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != have:
                self._forget()
                raise _Broken("the server resumed at another position than asked")
            if noted is not None and noted not in (etag, modified):
                self._forget()
                raise _Broken("the server resumed with another version of the file")
            self.resumed = True
            return have, int(span[2]) if span[2] != "*" else None if rest is None else have + rest
        validator = etag or modified
        strong = validator if validator and not validator.startswith("W/") else None
        self._forget()
        self.resumed = False
        _write_note(self._part_note(), {"url": self.wanted.url, "validator": strong})
        return 0, rest

    def _number(self, text: str) -> int | None:
        if not re.fullmatch("[0-9]+", text):
            return None
        if len(text) > _MOST_DIGITS:
            raise DownloadError(
                f"{self.wanted.url} announces a size of {len(text):,} digits.", "check the address"
            )
        return int(text)

    def _report(self, done: int, total: int | None) -> None:
        self.progress(Progress(f"downloading {self.path.name}", done, total, "B"))

    def _receive(self, response: http.client.HTTPResponse, start: int, total: int | None) -> None:
        done = start
        with open(self.part, "ab" if start else "wb", opener=files.unshared) as stream:
            self._report(done, total)
            while chunk := self._read(response):
                done += len(chunk)
                if self.limit_bytes is not None and done > self.limit_bytes:
                    raise self._too_large(done)
                stream.write(chunk)
                self._report(done, total)
            stream.flush()
            os.fsync(stream.fileno())
        if total is not None and done < total:
            raise _Broken(f"the connection ended after {done} of {total} bytes")
        if done == 0 and self.wanted.size_bytes != 0:
            self._forget()
            raise DownloadError(f"{self.wanted.url} answered with an empty file.", "check the address")

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        with self._network():
            return response.read1(CHUNK_BYTES)

    def _check_room(self, size: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < size + SPARE_BYTES:
            raise DownloadError(
                f"{self.wanted.url} needs {size:,} bytes in {self.path.parent}, but {free:,} are free.",
                "free some, or set VERTEBRA_CACHE to another folder",
            )

    def _too_large(self, size: int) -> DownloadError:
        self._forget()
        return DownloadError(
            f"{self.wanted.url} has {size:,} bytes or more; at most {self.limit_bytes:,} were expected.",
            "check the address",
        )

    def _finish(self) -> None:
        _write_note(_note(self.path), {"url": self.wanted.url, "sha256": digest(self.part)})
        os.replace(self.part, self.path)
        self._part_note().unlink(missing_ok=True)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _part_note(self) -> Path:
        return _note(self.part)

    def _validator(self) -> str | None:
        try:
            noted = json.loads(self._part_note().read_text(encoding="utf-8"))["validator"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return noted if isinstance(noted, str) and noted.isprintable() else None

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self._part_note().unlink(missing_ok=True)
