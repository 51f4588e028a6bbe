"""Addresses of files in the network: which are allowed, and how they are sent.

Only https is allowed, and http to this machine. People write addresses as they see them, with umlauts and
blanks; `sent` gives what a server understands.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import urllib.parse

from vertebra.errors import DownloadError

#: What stays as it is in a path or a query; a percent sign only before two hexadecimal digits.
_KEPT = "!$%&'()*+,/:;=?@[]~"
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253})")
_HINT = "pass an https address or a file"


def is_address(source: str) -> bool:
    """Whether `source` is meant as an address, in any case."""
    return source[:8].lower().startswith(("https://", "http://"))


def sent(url: str) -> str:
    """The address as it is sent: in ASCII, without its fragment. Raises DownloadError if it isn't one, or not
    one that is allowed."""
    if not url.isprintable():
        raise _wrong(ascii(url), "it holds characters that can't be printed")
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
        ascii_host = _ascii(host)
        path, query = (_quoted(text) for text in (parts.path, parts.query))
    except ValueError as error:
        raise _wrong(url, str(error)) from error
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        raise DownloadError(
            f"Can't download {url}: only https is allowed, and http from this machine.", _HINT
        )
    if parts.username is not None:
        raise _wrong(f"{parts.scheme}://…@{host}{parts.path}", "it holds a user's name, which is never sent")
    place = ascii_host if port is None else f"{ascii_host}:{port}"
    return urllib.parse.urlunsplit((parts.scheme, place, path, query, ""))


def is_here(url: str) -> bool:
    """Whether a checked address is one of this machine, however it is written."""
    host = (urllib.parse.urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        number = ipaddress.ip_address(socket.inet_aton(host)) if ":" not in host else _unmapped(host)
    except (OSError, ValueError):
        return False
    return number.is_loopback or number.is_unspecified


def _unmapped(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.IPv6Address(host)
    return address.ipv4_mapped or address


def _wrong(url: str, reason: str) -> DownloadError:
    return DownloadError(f"{url} is not an address: {reason}.", _HINT)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _ascii(host: str) -> str:
    """Raises ValueError (UnicodeError is one) if no name server could know it."""
    if ":" in host:
        return f"[{ipaddress.IPv6Address(host)}]"
    found = host.encode("idna").decode("ascii")
    if found and not _HOST.fullmatch(found):
        raise ValueError(f'"{host}" can\'t be the name of a machine')
    return found


def _quoted(text: str) -> str:
    quoted = urllib.parse.quote(text, safe=_KEPT)
    return re.sub("%(?![0-9A-Fa-f]{2})", "%25", quoted)
