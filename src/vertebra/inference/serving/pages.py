"""What the server shows in a browser: a page to drop a picture on, and the protocol."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from vertebra.inference.serving import openapi

_FOLDER = Path(__file__).with_name("site")
#: A page loads from this server only, and nobody else may frame it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def pages() -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """Path -> what answers there."""
    return {
        "/": _answering(_file("index.html"), "text/html; charset=utf-8"),
        "/site/style.css": _answering(_file("style.css"), "text/css; charset=utf-8"),
        "/site/drop.mjs": _answering(_file("drop.mjs"), "text/javascript; charset=utf-8"),
        "/docs": _answering(openapi.page, "text/html; charset=utf-8"),
        "/openapi.json": _answering(openapi.document, "application/json"),
    }


def _file(name: str) -> Callable[[], bytes]:
    return functools.cache((_FOLDER / name).read_bytes)


def _answering(content: Callable[[], bytes], kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(content(), headers={"Content-Type": kind, "Content-Security-Policy": _POLICY})

    return answer
