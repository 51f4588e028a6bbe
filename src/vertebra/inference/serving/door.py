"""What stands before every request over HTTP: who asks, its number, its line in the log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from vertebra.inference.serving import logs, tracing
from vertebra.inference.serving.access import Access
from vertebra.inference.serving.refusals import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: paths that are open without a token
_OPEN = ("/v2/health/live", "/v2/health/ready")
#: Seconds in which what a refused client still sends is read and dropped. A connection that is closed with
#: unread bytes is reset, and the client may lose the answer.
_LINGER_S = 2.0
_SAFE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


def error_of(refusal: Refusal) -> Response:
    """A refusal as the protocol says it over HTTP."""
    headers = {}
    if refusal.retry_s is not None:
        headers["Retry-After"] = str(refusal.retry_s)
    if refusal.kind == "unauthenticated":
        headers["WWW-Authenticate"] = "Bearer"
    body = json.dumps({"error": refusal.message}).encode()
    return Response(body, refusal.status, headers, media_type="application/json")


def path_of(scope: Scope) -> str:
    """The path of a request here: in an application around, it begins with where this one is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class Door:
    """Before and after every request: who asks, its number, its line in the log, and no traceback to
    anyone."""

    def __init__(self, inner: ASGIApp, access: Access) -> None:
        self._inner, self._access = inner, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        began = time.perf_counter()
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        trace = tracing.begin(scope, headers)
        status = 0
        is_whole = "expect" in headers  # then nothing is sent before it is asked for

        async def heard() -> Message:
            nonlocal is_whole
            message = await receive()
            is_whole = is_whole or not message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *trace.headers(), *_SAFE]
            elif status >= 400 and not is_whole and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await linger()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        async def linger() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    while not is_whole:
                        await heard()

        try:
            self._check(scope, headers)
            await self._inner(scope, heard, answer)
        except Refusal as refusal:
            await error_of(refusal)(scope, heard, answer)
        except ClientDisconnect:
            status = 499
        except Exception:
            logs.LOGGER.exception("a request failed", extra={"fields": {"request_id": trace.request_id}})
            if not status:
                failure = Refusal("internal", f"internal error; the log has it as request {trace.request_id}")
                await error_of(failure)(scope, heard, answer)
        finally:
            logs.request(
                method=scope["method"], path=scope["path"], status=status,
                ms=round((time.perf_counter() - began) * 1e3, 3), **trace.fields(),
            )  # fmt: skip

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        if path_of(scope).rstrip("/") in _OPEN:  # an orchestrator's probe asks an address, by whatever name
            return
        self._access.check_host(headers.get("host"))
        self._access.check_origin(headers.get("origin"), headers.get("host"))
        self._access.check_token(headers.get("authorization"))
