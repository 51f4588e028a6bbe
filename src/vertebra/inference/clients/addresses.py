"""A server's URL: how it is asked, where, and for which model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from vertebra.errors import InvalidInputError

#: Scheme -> its usual port in servers of this protocol, and whether it is over TLS.
_SCHEMES = {"http": (80, False), "https": (443, True), "grpc": (8001, False), "grpcs": (443, True)}
_HINT = "write it as http://localhost:8000/v2/models/NAME or grpc://localhost:8001/v2/models/NAME"
_MODEL = re.compile(r"(?P<prefix>.*)/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/?")


@dataclass(frozen=True)
class Address:
    """`prefix` is the path before `/v2`; `model` is None for the only one that the server has, and `version`
    for the one that the server chooses."""

    scheme: str
    host: str
    port: int
    prefix: str = ""
    model: str | None = None
    version: str | None = None

    @property
    def is_http(self) -> bool:
        return self.scheme.startswith("http")

    @property
    def is_tls(self) -> bool:
        return _SCHEMES[self.scheme][1]

    @property
    def authority(self) -> str:
        """Host and port as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def path_of(self, model: str, version: str | None) -> str:
        """Of a model."""
        named = f"/v2/models/{quote(model, safe='')}"
        return named + (f"/versions/{quote(version, safe='')}" if version else "")

    def shown(self, model: str) -> str:
        """The URL that names `model`, as rows state it."""
        return f"{self.scheme}://{self.authority}{self.prefix}{self.path_of(model, self.version)}"


def is_url(text: object) -> bool:
    """Whether it names a server and not a network or a Bundle."""
    return isinstance(text, str) and "://" in text


def parsed(url: str) -> Address:
    """Raises InvalidInputError for what isn't the URL of a server or a model of one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(f'"{_cut(url)}" is not a URL: {error}.', _HINT) from None
    if parts.scheme not in _SCHEMES:
        raise InvalidInputError(
            f"The URL of a server begins with {', '.join(f'{name}://' for name in _SCHEMES)}, not "
            f'"{_cut(parts.scheme)}://".',
            _HINT,
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError(
            "The URL of a server can't hold a password.", "pass it with --token-file FILE"
        )
    if not host or not url.isprintable() or " " in url:
        raise InvalidInputError(f'"{_cut(url)}" names no server.', _HINT)
    if parts.query or parts.fragment:
        raise InvalidInputError(f'The URL "{_cut(url)}" has more than an address and a model.', _HINT)
    found = _MODEL.fullmatch(parts.path)
    prefix = parts.path.rstrip("/").removesuffix("/v2") if found is None else found["prefix"]
    if "/v2/" in f"{prefix}/" or (prefix and not parts.scheme.startswith("http")):
        raise InvalidInputError(f'"{_cut(parts.path)}" isn\'t the path of a model.', _HINT)
    model = None if found is None else unquote(found["name"])
    version = None if found is None or found["version"] is None else unquote(found["version"])
    return Address(parts.scheme, host, port or _SCHEMES[parts.scheme][0], prefix, model, version)


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
