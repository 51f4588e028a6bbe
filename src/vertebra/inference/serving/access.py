"""Who may ask: bearer tokens, the names that this server answers to, and its certificate."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
import ssl
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vertebra.errors import InvalidInputError
from vertebra.inference.serving.refusals import Refusal

_LEAST_TOKEN = 16
ANY = "*"


@dataclass(frozen=True)
class Access:
    """`tokens`: any of them opens every door; none: all are open. `hosts`: names beside addresses, localhost
    and this machine's own name under which the server may be asked; "*": any."""

    tokens: tuple[bytes, ...] = ()
    hosts: frozenset[str] = frozenset()

    def check_token(self, authorization: str | None) -> None:
        """Raises Refusal unless the header holds one of the tokens."""
        if not self.tokens:
            return
        scheme, _, token = (authorization or "").partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        # all are compared: the time says nothing of which one nearly fits
        fits = [hmac.compare_digest(given, known) for known in self.tokens]
        if scheme.lower() != "bearer" or not any(fits):
            raise Refusal("unauthenticated", "a bearer token is needed: Authorization: Bearer TOKEN")

    def check_host(self, host: str | None) -> None:
        """Raises Refusal for a name that isn't this server's: a page of another site may have been given this
        machine's address under its own name. A page can't do so with an address."""
        name = _name_of(host or "")
        if ANY in self.hosts or name in self.hosts or name in _OWN or _is_address(name):
            return
        raise Refusal("host", f"this server isn't called {name[:100]!r}; it can be named with --allow-host")

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """Raises Refusal for a request that a page of another site sends."""
        if origin is not None and origin.partition("://")[2].lower() != (host or "").lower():
            raise Refusal("forbidden", "requests from pages of other sites are refused")


#: names under which every machine knows itself
_OWN = frozenset({"localhost", socket.gethostname().lower()})


def _name_of(host: str) -> str:
    """The host without its port, and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def access(token_file: Path | None, hosts: Iterable[str]) -> Access:
    """Raises InvalidInputError if the tokens can't be read, or others can read them."""
    tokens = () if token_file is None else _tokens(token_file)
    return Access(tokens, frozenset(host.lower() for host in hosts))


def _tokens(path: Path) -> tuple[bytes, ...]:
    """One on each line; empty lines and those that begin with # are left out."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(2**20)
    except OSError as error:
        raise InvalidInputError(
            f"The token file {path} can't be read: {error.strerror}.", "check its path and permissions"
        ) from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise InvalidInputError(
            f"Others can use the token file {path}: its mode is {stat.S_IMODE(mode):o}.", f"chmod 600 {path}"
        )
    lines = [line.strip() for line in content.splitlines()]
    tokens = tuple(line for line in lines if line and not line.startswith(b"#"))
    short = [line for line in tokens if len(line) < _LEAST_TOKEN]
    if not tokens or short:
        fault = f"has a token of {len(short[0])} characters" if short else "has no token"
        raise InvalidInputError(
            f"The token file {path} {fault}; at least {_LEAST_TOKEN} characters on a line were expected.",
            f"make one: openssl rand -hex 32 > {path}",
        )
    return tokens


def token_in(path: Path) -> str:
    """The first token of a file, for a client. Raises InvalidInputError as `access` does."""
    return _tokens(path)[0].decode("latin-1")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files in PEM."""

    chain: Path
    key: Path

    @classmethod
    def read(cls, chain: Path | None, key: Path | None) -> Certificate | None:
        """None if there is none. Raises InvalidInputError if one of them is missing, can't be read, or the
        certificate doesn't fit the key."""
        if chain is None and key is None:
            return None
        if chain is None or key is None:
            given, other = ("--tls-key", "--tls-cert") if chain is None else ("--tls-cert", "--tls-key")
            raise InvalidInputError(f"{given} was given without {other}.", f"give both, or leave {given} out")
        pair = cls(chain, key)
        pair.context()
        return pair

    def context(self) -> ssl.SSLContext:
        """What a server needs for TLS 1.2 and later."""
        for path in (self.chain, self.key):
            if not os.access(path, os.R_OK):
                raise InvalidInputError(
                    f"{path} can't be read, or doesn't exist.", "check its path and permissions"
                )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # a key with a passphrase would ask for it at the terminal
            context.load_cert_chain(self.chain, self.key, password=lambda: b"")
        except (ssl.SSLError, ValueError) as error:
            fits_not = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
            reason = "doesn't fit the key" if fits_not else "can't be used with the key"
            raise InvalidInputError(
                f"The certificate {self.chain} {reason} {self.key}.",
                "pass a certificate and the key that it was made for, both in PEM, without a passphrase",
            ) from error
        return context
