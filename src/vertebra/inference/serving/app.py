"""The Open Inference Protocol over HTTP: one ASGI application, which can also run inside another server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from vertebra._version import __version__
from vertebra.inference.serving import management, metrics, paddle, protocol, tracing
from vertebra.inference.serving.access import Access
from vertebra.inference.serving.door import Door, error_of, path_of
from vertebra.inference.serving.models import Model, Repository, now_ns
from vertebra.inference.serving.pages import pages
from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.tensors import Question

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Seconds in which a body must arrive.
BODY_S = 30.0
_UNSUPPORTED = {
    "systemsharedmemory": "shared memory", "cudasharedmemory": "shared memory", "trace": "trace settings",
    "logging": "log settings",
}  # fmt: skip
_INFER = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass
class Site:
    """What the application serves and how. `manages`: clients may load and unload models. `max_held` bytes of
    bodies are held at a time. `paddle` is the model that answers Paddle Serving's REST, or None."""

    repository: Repository
    access: Access = field(default_factory=Access)
    manages: bool = False
    max_body: int = 64 * 2**20
    max_held: int = 256 * 2**20
    paddle: str | None = None
    held: int = 0

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Bytes that the block takes, piece by piece, count against what all requests may hold together; more
        is refused."""
        taken = 0

        def hold(size: int) -> None:
            nonlocal taken
            if self.held + size > self.max_held:
                raise Refusal("full", "other requests hold all the memory that bodies may take", retry_s=1)
            self.held += size
            taken += size

        try:
            yield hold
        finally:
            self.held -= taken


def app(site: Site) -> ASGIApp:
    """The application for `site`."""
    oip = _Protocol(site)
    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    gets: dict[str, Endpoint] = {
        "/v2": oip.server,
        "/v2/health/live": oip.live,
        "/v2/health/ready": oip.ready,
        "/v2/models/stats": oip.all_statistics,
        "/metrics": oip.metrics,
        **pages(),
    }
    posts: dict[str, Endpoint] = {
        f"{model}/infer": oip.infer,  # `_Application` answers; these refuse other methods
        f"{version}/infer": oip.infer,
        "/v2/repository/index": oip.index,
        "/v2/repository/models/{name}/load": oip.load,
        "/v2/repository/models/{name}/unload": oip.unload,
    }
    for path in (model, version):
        gets |= {
            path: oip.model, f"{path}/ready": oip.model_ready, f"{path}/config": oip.config,
            f"{path}/stats": oip.statistics,
        }  # fmt: skip
    if site.paddle is not None:
        posts["/GeneralModelService/inference"] = oip.paddle
    routes = [Route(path, end, methods=["POST"]) for path, end in posts.items()]
    routes += [Route(path, end, methods=["GET"]) for path, end in gets.items()]
    for prefix in _UNSUPPORTED:
        routes.append(Route(f"/v2/{prefix}{{rest:path}}", oip.unsupported, methods=["GET", "POST"]))
        routes.append(Route(f"{model}/{prefix}{{rest:path}}", oip.unsupported, methods=["GET", "POST"]))
    inner = _Application(
        oip,
        routes=routes,
        exception_handlers={HTTPException: _not_found, Refusal: _refused, Exception: _failed},
    )
    inner.router.redirect_slashes = False  # the protocol has no redirects: what isn't there is its error
    return Door(inner, site.access)


class _Application(Starlette):
    """Answers inference, which is asked most often, without a router's work."""

    def __init__(self, oip: _Protocol, **given: Any) -> None:
        super().__init__(**given)
        self._oip = oip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _INFER.fullmatch(path_of(scope)) if scope.get("method") == "POST" else None
        if found is None:
            await super().__call__(scope, receive, send)
            return
        scope["path_params"] = {name: value for name, value in found.groupdict().items() if value is not None}
        response = await self._oip.infer(Request(scope, receive))
        await response(scope, receive, send)


# ------------------------------------------------------------------ answers


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(value).encode()
    return Response(body, status, headers, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error_of(error)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        refused = error_of(Refusal("method", f"{request.method} isn't possible here{_allowed(error)}"))
        refused.headers.update(error.headers or {})  # Allow
        return refused
    return error_of(Refusal("unknown", "there is nothing at this address"))


def _allowed(error: HTTPException) -> str:
    """The methods that are, as the answer's header Allow has them."""
    named = [one for one in (error.headers or {}).get("Allow", "").split(", ") if one not in ("", "HEAD")]
    return f"; {' or '.join(named)} is" if named else ""


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of ours, which the door logs."""
    return error_of(Refusal("internal", "internal error; the server's log says more"))


# ------------------------------------------------------------------ the protocol


class _Protocol:
    """The protocol's endpoints."""

    def __init__(self, site: Site) -> None:
        self._site, self._repository = site, site.repository

    async def server(self, request: Request) -> Response:
        return _json({"name": "vertebra", "version": __version__, "extensions": list(management.EXTENSIONS)})

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        is_ready = self._repository.is_ready
        return _json({"ready": is_ready}, 200 if is_ready else 400)

    async def model(self, request: Request) -> Response:
        model = self._model(request)
        return _json(model.metadata(self._repository.versions(model.spec.name)))

    async def model_ready(self, request: Request) -> Response:
        name, version = _named(request)
        is_ready = management.is_ready(self._repository, name, version)
        return _json({"name": name, "ready": is_ready}, 200 if is_ready else 400)

    async def config(self, request: Request) -> Response:
        return _json(self._model(request).config())

    async def statistics(self, request: Request) -> Response:
        return self._statistics(*_named(request))

    async def all_statistics(self, request: Request) -> Response:
        return self._statistics()

    def _statistics(self, name: str | None = None, version: str | None = None) -> Response:
        return _json({"model_stats": management.statistics(self._repository, name, version)})

    async def metrics(self, request: Request) -> Response:
        text = metrics.text(self._repository)
        return Response(text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def unsupported(self, request: Request) -> Response:
        part = next(part for part in request.url.path.split("/") if part in _UNSUPPORTED)
        raise Refusal("unsupported", f"this server has no {_UNSUPPORTED[part]}")

    def _model(self, request: Request) -> Model:
        return self._repository.model(*_named(request))

    # -------------------------------------------------------------- the repository

    async def index(self, request: Request) -> Response:
        ready = (await self._asked(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise Refusal("invalid", "ready must be true or false")
        return _json(self._repository.index(ready=ready))

    async def load(self, request: Request) -> Response:
        await self._manage(request)
        await management.load(self._repository, request.path_params["name"])
        return _json({})

    async def unload(self, request: Request) -> Response:
        await self._manage(request)
        await management.unload(self._repository, request.path_params["name"])
        return _json({})

    async def _manage(self, request: Request) -> None:
        management.check(protocol.parameters_of(await self._asked(request)), self._site.manages)

    async def _asked(self, request: Request) -> dict[str, Any]:
        with self._site.holding() as hold:
            return protocol.parsed(await _body(request, 2**16, hold, lambda *_: None))

    # -------------------------------------------------------------- inference

    async def infer(self, request: Request) -> Response:
        arrived_ns = now_ns()
        model = self._model(request)
        with management.counted(self._repository, model, arrived_ns) as count:
            with self._site.holding() as hold:
                content = await _body(request, self._site.max_body, hold, model.batcher.check_room)
                asked = protocol.question(content, request.headers.get(protocol.HEADER_LENGTH), model.limits)
                tracing.note(request.scope, request=asked.id, images=len(asked.rows))
                async with _watched(request) as gone:
                    answer = await model.answer(asked, arrived_ns, gone)
            response = _inferred(request, model, asked, answer)
            count(len(asked.rows), answer.stages)
        return response

    async def paddle(self, request: Request) -> Response:
        arrived_ns = now_ns()
        assert self._site.paddle is not None
        model = self._repository.model(self._site.paddle)
        with management.counted(self._repository, model, arrived_ns) as count:
            with self._site.holding() as hold:
                content = await _body(request, self._site.max_body, hold, model.batcher.check_room)
                value = protocol.parsed(content)
                asked = paddle.from_json(value)
                question = paddle.question(asked, model.limits)
                async with _watched(request) as gone:
                    answer = await model.answer(question, arrived_ns, gone)
            found = paddle.to_json(question, answer, asked.log_id, model.spec.name)
            count(len(question.rows), answer.stages)
        return _json(found)


def _inferred(request: Request, model: Model, asked: Question, answer: Any) -> Response:
    about: dict[str, Any] = {"model_name": model.spec.name, "model_version": model.spec.version}
    if model.remarks:
        about["parameters"] = model.remarks
    body, header_length = protocol.response(asked, answer, model.kept.names, about)
    body, encoding = protocol.deflated(body, request.headers.get("accept-encoding", ""))
    headers = {"Content-Type": "application/json"}
    if header_length is not None:
        headers = {"Content-Type": "application/octet-stream", protocol.HEADER_LENGTH: str(header_length)}
    if encoding is not None:
        headers |= {"Content-Encoding": encoding, "Vary": "Accept-Encoding"}
    return Response(body, headers=headers)


def _named(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


@asynccontextmanager
async def _watched(request: Request) -> AsyncIterator[asyncio.Future[None]]:
    """What is done when the client leaves."""
    gone = asyncio.ensure_future(_until_gone(request))
    try:
        yield gone
    finally:
        gone.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(
    request: Request, max_bytes: int, hold: Callable[[int], None], check_room: Callable[[int, int], None]
) -> bytes:
    """The whole body, inflated. Raises Refusal if it is too large, too slow or damaged, and as soon as there
    is no room for it any more."""
    length = protocol.length_of(request.headers.get("content-length", ""))
    if length is not None and length > max_bytes:
        raise protocol.too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > max_bytes:
                    raise protocol.too_large(max_bytes)
                check_room(1, length or size)
                hold(len(part))
                parts.append(part)
    except ClientDisconnect:
        raise Refusal("cancelled", "the client has left") from None
    except TimeoutError:
        raise Refusal("slow", f"the body didn't arrive within {BODY_S:g} s") from None
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    encoding = request.headers.get("content-encoding", "")
    if encoding:
        content = protocol.inflated(content, encoding, max_bytes)
        hold(max(0, len(content) - size))
    return content
