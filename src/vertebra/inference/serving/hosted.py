"""The application with its models, for another ASGI server: it loads them when that server starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, VertebraError
from vertebra.inference.serving.app import Site, app
from vertebra.inference.serving.door import error_of
from vertebra.inference.serving.models import Kept, Plan, Repository, Spec
from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.server import Settings, max_held

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class Hosted:
    """An ASGI application. Its models live as long as its `lifespan`, which a server that runs the
    application by itself enters, and which must be passed on where it is mounted in another one:

        models = vertebra.asgi("flowers")
        app = Starlette(routes=[Mount("/vision", models)], lifespan=models.lifespan)

    Raises VertebraError where something is wrong with a Bundle that can be seen before it is loaded.
    """

    def __init__(self, specs: Sequence[Spec], plan: Plan, settings: Settings) -> None:
        self.choices = {spec: plan.choice(Kept.read(spec.folder, plan.engine)) for spec in specs}
        self._specs, self._plan, self._settings = tuple(specs), plan, settings
        self._app: ASGIApp | None = None

    @asynccontextmanager
    async def lifespan(self, host: object = None) -> AsyncIterator[None]:
        """The models are loaded, and at the end answer what waits. `host` is the application around, which
        isn't used. Raises VertebraError if a model can't be loaded."""
        if self._app is not None:
            raise InvalidInputError(
                "This application runs already.", "make one for each server: vertebra.asgi"
            )
        settings, repository = self._settings, Repository(self._specs, self._plan)
        site = Site(
            repository, settings.access, settings.manages, self._plan.max_body, max_held(self._plan.max_body)
        )
        self._app = app(site)
        try:
            await repository.load_all()
            yield
            await repository.drain(settings.drain_s)
        finally:
            self._app = None
            await repository.end(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            why = "the models aren't loaded: the server around must run this application's lifespan"
            await error_of(Refusal("unavailable", why))(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """ASGI's lifespan, as a server speaks it to an application that it runs by itself."""
        await receive()
        stage = "startup"
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
                stage = "shutdown"
        except VertebraError as error:
            await send({"type": f"lifespan.{stage}.failed", "message": _told(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})


def _told(error: VertebraError) -> Any:
    return error.message if error.hint is None else f"{error.message}\nhint: {error.hint}"
