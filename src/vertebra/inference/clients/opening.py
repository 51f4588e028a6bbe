"""The client for an address, whose library is loaded only when it is needed."""

from __future__ import annotations

from vertebra.errors import MissingRuntimeError
from vertebra.inference.clients.addresses import Address
from vertebra.inference.clients.client import Client


def client(address: Address, token: str | None) -> Client:
    """Of an address. Raises MissingRuntimeError if its library isn't installed."""
    try:
        if address.is_http:
            from vertebra.inference.clients.over_http import HttpClient

            return HttpClient(address, token)
        from vertebra.inference.clients.over_grpc import GrpcClient

        return GrpcClient(address, token)
    except ImportError as error:
        missing = str(error.name or "a library").partition(".")[0]
        raise MissingRuntimeError.of("Asking a server", missing, "serve") from error
