"""The application inside Ray Serve: the same that answers without Ray, on each node of a cluster."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vertebra._version import __version__
from vertebra.bundles.bundle import Bundle
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.inference.serving.choice import Choice
from vertebra.inference.serving.hosted import Hosted
from vertebra.inference.serving.models import Plan, Spec
from vertebra.inference.serving.server import Addresses, Settings
from vertebra.machine import cluster

_NAME = "vertebra"
#: Requests that a replica may hold: the application itself refuses those beyond its queue.
_MOST_REQUESTS = 10_000


class _Chosen:
    """Gives each model what was chosen where the command runs."""

    def __init__(self, choices: Mapping[Path, Choice]) -> None:
        self._choices = dict(choices)

    def __call__(self, kept: Bundle, engine: Any, folder: Path) -> Choice:
        return self._choices[folder]


class Deployed:
    """Serves `specs` on the cluster at `on`, one replica on each node, over HTTP at the head node. Raises
    VertebraError where something is wrong that can be seen here. Nothing is answered before `run`."""

    def __init__(
        self,
        specs: Sequence[Spec],
        plan: Plan,
        settings: Settings,
        *,
        on: str,
        certificate: tuple[str, str] | None,
    ) -> None:
        cluster.checked(on)
        cluster.require("serve")
        _refuse(settings)
        self.specs = tuple(replace(spec, folder=spec.folder.resolve()) for spec in specs)
        #: what each model gets of processes, threads and batch on each node, and why
        self.choices = Hosted(self.specs, plan, settings).choices
        chosen = _Chosen({spec.folder: choice for spec, choice in self.choices.items()})
        self._plan, self._settings = replace(plan, choose=chosen), settings
        self._on, self._certificate = on, certificate
        scheme = "https" if certificate else "http"
        self.addresses = Addresses(f"{scheme}://{settings.host}:{settings.port}")
        self._stop = threading.Event()

    def run(self, ready: Callable[[Addresses], None] | None = None) -> None:
        """Serve until SIGTERM, Ctrl-C or `stop`, then take the application down. `ready` is called when every
        model can answer. Raises InvalidInputError where no cluster answers, and MeasurementError where a node
        can't serve."""
        with cluster.connected(self._on, "serve") as ray:
            from ray import serve

            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            _check_free()
            with _signals(self._stop):
                try:
                    self._deploy(serve, len(cluster.processors(ray)))
                    if ready is not None:
                        ready(self.addresses)
                    while not self._stop.wait(0.2):
                        pass
                finally:
                    serve.shutdown()

    def stop(self) -> None:
        """End `run`, from another thread: as SIGTERM does."""
        self._stop.set()

    def close(self) -> None:
        """Nothing is held before `run`."""

    def _deploy(self, serve: Any, nodes: int) -> None:
        secured = {}
        if self._certificate is not None:
            secured = {"ssl_certfile": self._certificate[0], "ssl_keyfile": self._certificate[1]}
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": self._settings.host, "port": self._settings.port, **secured},
        )
        deployment = serve.deployment(serve.ingress(_builder(self.specs, self._plan, self._settings))())
        deployment = deployment.options(
            name=_NAME, num_replicas=nodes, max_replicas_per_node=1, ray_actor_options={"num_cpus": 1},
            max_ongoing_requests=_MOST_REQUESTS, graceful_shutdown_timeout_s=self._settings.drain_s,
        )  # fmt: skip
        try:
            serve.run(deployment.bind(), name=_NAME, route_prefix="/")
        except RuntimeError as error:
            raise MeasurementError(
                f"The Ray cluster can't serve: {_reason(serve, error)}.",
                "the Bundles and vertebra must be the same on all nodes",
            ) from error


def _builder(specs: Sequence[Spec], plan: Plan, settings: Settings) -> Callable[[], Hosted]:
    """What makes the application on a node; a function that Ray takes along by value."""
    version = __version__

    def build() -> Hosted:
        from vertebra._version import __version__ as here

        if here != version:
            raise InvalidInputError(
                f"A node of the Ray cluster has vertebra {here}; {version} was started.",
                "install the same version on all nodes",
            )
        return Hosted(specs, plan, settings)

    return build


def _refuse(settings: Settings) -> None:
    if settings.brpc_port is not None or settings.manages or settings.log != "text" or not settings.port:
        raise InvalidInputError(
            "--on ray serves over HTTP at a port that is named: --brpc-port, --manage, --log json and port 0 "
            "can't be combined with it.",
            "leave them out; loading a model would reach one node only, and the log is Ray's",
        )


def _check_free() -> None:
    """Raise InvalidInputError where Ray Serve runs already: its port and its applications are someone's."""
    from ray.serve import context

    if context._get_global_client(raise_if_no_controller_running=False) is not None:
        raise InvalidInputError(
            "Ray Serve runs on this cluster already.",
            "to end it: serve shutdown; or add vertebra.asgi to your own application (docs/fleet.md)",
        )


def _reason(serve: Any, error: RuntimeError) -> str:
    """What the application's status says of why it wasn't deployed."""
    for application in serve.status().applications.values():
        for one in application.deployments.values():
            lines = [line for line in one.message.splitlines() if "Error" in line]
            if lines:
                return str(lines[-1]).strip().rstrip(".")[:300]
    return cluster.last_line(error)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C set `stop`, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
