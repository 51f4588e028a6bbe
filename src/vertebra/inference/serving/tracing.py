"""A request's number and its W3C trace context, passed through and logged."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

_KEY = "vertebra.trace"
#: numbers of requests are no secrets, and the system's own source costs a call each time
_RANDOM = random.Random()
if hasattr(os, "register_at_fork"):  # a server around may fork its processes after the import
    os.register_at_fork(after_in_child=_RANDOM.seed)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/=+@-]{1,128}")
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?"
)


@dataclass
class Trace:
    """`request_id` is the client's, or a new one; `traceparent` is the client's, or None; `size_bytes` is the
    message's size, if it came in one piece."""

    request_id: str
    traceparent: str | None = None
    size_bytes: int = 0
    noted: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, headers: Mapping[str, str], size_bytes: int = 0) -> Trace:
        """From a request's headers; what isn't well formed counts as absent."""
        given = headers.get("x-request-id", "")
        traceparent = headers.get("traceparent", "")
        return cls(
            given if _REQUEST_ID.fullmatch(given) else f"{_RANDOM.getrandbits(64):016x}",
            traceparent if _TRACEPARENT.fullmatch(traceparent) else None,
            size_bytes,
        )

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the response says of them."""
        found = [(b"x-request-id", self.request_id.encode())]
        if self.traceparent is not None:
            found.append((b"traceparent", self.traceparent.encode()))
        return found

    def fields(self) -> dict[str, Any]:
        """What the log says of the request."""
        fields: dict[str, Any] = {"request_id": self.request_id, **self.noted}
        if self.traceparent is not None:
            _, fields["trace_id"], fields["parent_id"], *_ = self.traceparent.split("-")
        return fields


def begin(scope: MutableMapping[str, Any], headers: Mapping[str, str]) -> Trace:
    """The trace of an ASGI request, which `note` adds to."""
    trace = scope[_KEY] = Trace.of(headers)
    return trace


def note(scope: Mapping[str, Any], **values: Any) -> None:
    """Values for the request's line in the log."""
    if (trace := scope.get(_KEY)) is not None:
        trace.noted.update({name: value for name, value in values.items() if value not in (None, "")})
