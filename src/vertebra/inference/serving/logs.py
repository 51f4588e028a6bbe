"""What the server says of itself on standard error: as lines for people, or as JSON with every request."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

LOGGER = logging.getLogger("vertebra.serve")
STYLES = ("text", "json")
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def prepare(style: str) -> None:
    """Write events to standard error in this style, one of STYLES."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(logging.DEBUG if style == "json" else logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "grpc", "grpc._cython.cygrpc"):
        other = logging.getLogger(name)
        other.handlers[:], other.propagate = [handler], False
        other.setLevel(logging.ERROR)


def event(message: str, *, level: str = "info", **fields: Any) -> None:
    """One event, with its values by name."""
    LOGGER.log(_LEVELS[level], message, extra={"fields": fields})


def request(**fields: Any) -> None:
    """One request, which only JSON has."""
    if LOGGER.isEnabledFor(logging.DEBUG):
        LOGGER.debug("request", extra={"fields": fields})


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        seconds = record.created
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(seconds % 1 * 1000):03d}Z",
            "level": "info" if record.levelno == logging.DEBUG else record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        values = "".join(f" {name}={_shown(value)}" for name, value in fields.items())
        cause = f" {record.exc_info[1]!r}" if record.exc_info else ""
        return f"{record.levelname.lower()}: {_shown(record.getMessage())}{values}{cause}"


def _shown(value: object) -> str:
    """In one line, harmless on a terminal."""
    text = str(value)
    return text if text.isprintable() else ascii(text)[1:-1]
