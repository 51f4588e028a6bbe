"""Why a request gets no answer, with the status that each protocol has for it."""

from __future__ import annotations

#: kind -> HTTP's status and gRPC's code
KINDS: dict[str, tuple[int, str]] = {
    "invalid": (400, "INVALID_ARGUMENT"),
    "unsupported": (400, "UNIMPLEMENTED"),
    "unauthenticated": (401, "UNAUTHENTICATED"),
    "forbidden": (403, "PERMISSION_DENIED"),
    "unknown": (404, "NOT_FOUND"),
    "method": (405, "UNIMPLEMENTED"),
    "slow": (408, "DEADLINE_EXCEEDED"),
    "large": (413, "RESOURCE_EXHAUSTED"),
    "encoding": (415, "INVALID_ARGUMENT"),
    "host": (421, "PERMISSION_DENIED"),
    "full": (429, "RESOURCE_EXHAUSTED"),
    "cancelled": (499, "CANCELLED"),
    "internal": (500, "INTERNAL"),
    "unavailable": (503, "UNAVAILABLE"),
    "late": (504, "DEADLINE_EXCEEDED"),
}


class Refusal(Exception):
    """A request that isn't answered; `kind` is a key of KINDS. `retry_s`: when to ask again, in seconds."""

    def __init__(self, kind: str, message: str, *, retry_s: int | None = None) -> None:
        super().__init__(message)
        assert kind in KINDS
        self.kind, self.message, self.retry_s = kind, message, retry_s

    @property
    def status(self) -> int:
        """HTTP's status."""
        return KINDS[self.kind][0]

    @property
    def code(self) -> str:
        """The name of gRPC's status code."""
        return KINDS[self.kind][1]
