"""The server as a whole: what is checked before a port is bound, start, drain and stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.inference.serving import logs
from vertebra.inference.serving.access import Access, Certificate, is_loopback
from vertebra.inference.serving.models import Kept, Plan, Repository, Spec

if TYPE_CHECKING:
    from vertebra.inference.serving.app import Site

_BACKLOG = 512


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where and to whom it answers."""

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    brpc_port: int | None = None
    brpc_insecure: bool = False
    access: Access = field(default_factory=Access)
    certificate: Certificate | None = None
    manages: bool = False
    drain_s: float = 30.0
    log: str = "text"


@dataclass(frozen=True)
class Addresses:
    """Where the server answers."""

    http: str
    grpc: str | None = None
    brpc: str | None = None


class Server:
    """Serves `specs`. Raises VertebraError where something is wrong that can be seen before the port is
    bound; then binds it, so that a port in use is an error here too. Nothing is answered before `run`."""

    def __init__(self, specs: Sequence[Spec], plan: Plan, settings: Settings) -> None:
        _check_ports(settings)
        if settings.brpc_port is not None:
            _check_brpc(specs, settings)
        #: what each model gets of processes, threads and batch, and why
        self.choices = {spec: plan.choice(Kept.read(spec.folder, plan.engine)) for spec in specs}
        self.specs, self._plan, self._settings = tuple(specs), plan, settings
        with contextlib.ExitStack() as bound:
            self._socket = bound.enter_context(_bound(settings.host, settings.port))
            self._brpc: socket.socket | None = None
            self.port, self.grpc_port, self.brpc_port = _port(self._socket), settings.grpc_port, None
            if settings.grpc_port is not None:  # gRPC binds it itself: this says in time whether it can
                with _bound(settings.host, settings.grpc_port, "--grpc-port") as probe:
                    self.grpc_port = _port(probe)
            if settings.brpc_port is not None:
                self._brpc = bound.enter_context(_bound(settings.host, settings.brpc_port, "--brpc-port"))
                self.brpc_port = _port(self._brpc)
            self._bound = bound.pop_all()
        host, tls = _bracketed(settings.host), settings.certificate is not None
        self.addresses = Addresses(
            f"{'https' if tls else 'http'}://{host}:{self.port}",
            None if self.grpc_port is None else f"{host}:{self.grpc_port}",
            None if self.brpc_port is None else f"{host}:{self.brpc_port}",
        )
        self.repository = Repository(specs, plan)
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, ready: Callable[[Addresses], None] | None = None) -> None:
        """Serve until SIGTERM, Ctrl-C or `stop`, then answer what waits and end. `ready` is called when every
        model can answer. Raises VertebraError if a model can't be loaded."""
        logs.prepare(self._settings.log)
        with self._bound:
            _run(self._serve(ready))

    def close(self) -> None:
        """Give the ports back, if it isn't run."""
        self._bound.close()

    def stop(self) -> None:
        """End `run`, from another thread: as SIGTERM does."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self, ready: Callable[[Addresses], None] | None) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        repository = self.repository
        with _signals(self._loop, self._stop):
            try:
                loads = asyncio.create_task(repository.load_all())
                libraries = asyncio.create_task(asyncio.to_thread(self._import))  # while the models load
                if not await _unless(self._stop, loads):
                    return
                await libraries
                await self._answer(repository, ready)
            finally:
                await repository.end(0)

    def _import(self) -> None:
        """What answers, which takes as long to import as a small network takes to load."""
        from importlib import import_module

        names = ["app", "connections", *(["rpc"] if self.addresses.grpc else [])]
        for name in ("uvicorn", *(f"vertebra.inference.serving.{name}" for name in names)):
            import_module(name)

    async def _answer(self, repository: Repository, ready: Callable[[Addresses], None] | None) -> None:
        assert self._stop is not None
        site = self._site(repository)
        http = self._http(site)
        rpc, brpc = await self._rpc(site), await self._brpc_server(site)
        serving = asyncio.create_task(http.serve(sockets=[self._socket]))
        try:
            while not http.started and not serving.done():
                await asyncio.sleep(0.001)
            if ready is not None:
                ready(self.addresses)
            stop = asyncio.create_task(self._stop.wait())
            await asyncio.wait({stop, serving}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            logs.event("stopping", waiting=sum(_waiting(repository)))
            await repository.drain(self._settings.drain_s)
        finally:
            http.should_exit = True
            if rpc is not None:
                await rpc.stop(1)
            if brpc is not None:
                await brpc.stop()
            await serving

    async def _rpc(self, site: Site) -> Any:
        """The gRPC server, started, if it was asked for."""
        at = self.addresses.grpc
        if at is None:
            return None
        from vertebra.inference.serving import rpc

        made = rpc.server(
            rpc.Service(site), at, self._settings.certificate, max_body=self._plan.max_body,
            most_calls=4 * self._plan.queue_images + 64,
        )  # fmt: skip
        await made.start()
        return made

    async def _brpc_server(self, site: Site) -> Any:
        """The bRPC server, started, if it was asked for."""
        if self._brpc is None or site.paddle is None:
            return None
        from vertebra.inference.serving import brpc

        made = brpc.Server(site, site.paddle)
        await made.start(self._brpc)
        return made

    def _site(self, repository: Repository) -> Site:
        from vertebra.inference.serving.app import Site

        settings = self._settings
        return Site(
            repository, settings.access, settings.manages, self._plan.max_body,
            max_held=max_held(self._plan.max_body),
            paddle=None if self._brpc is None else self.specs[0].name,
        )  # fmt: skip

    def _http(self, site: Site) -> Any:
        import uvicorn

        from vertebra.inference.serving.app import app
        from vertebra.inference.serving.connections import Patient

        settings = self._settings
        config = uvicorn.Config(
            app(site), http=Patient, ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=75,
            timeout_graceful_shutdown=5, h11_max_incomplete_event_size=2**16, backlog=_BACKLOG,
        )  # fmt: skip
        config.load()
        if settings.certificate is not None:
            config.ssl = settings.certificate.context()

        class Http(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # they are ours

        return Http(config)


def max_held(max_body: int) -> int:
    """Bytes of bodies that all requests may hold together."""
    return max(256 * 2**20, 2 * max_body)


def require_libraries(*names: str) -> None:
    """Raises MissingRuntimeError if a library of the extra isn't installed."""
    import importlib.util

    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingRuntimeError.of("The server", name, "serve")


def _check_ports(settings: Settings) -> None:
    """Raises InvalidInputError if two protocols were to have one port."""
    ports = {
        "--port": settings.port, "--grpc-port": settings.grpc_port, "--brpc-port": settings.brpc_port,
    }  # fmt: skip
    found: dict[int, str] = {}
    for option, port in ports.items():
        if port and (other := found.setdefault(port, option)) != option:
            raise InvalidInputError(
                f"{other} and {option} are both {port}.",
                f"choose another for {option}; 0 takes any free port",
            )


def _check_brpc(specs: Sequence[Spec], settings: Settings) -> None:
    """Raises InvalidInputError where bRPC, which has neither tokens nor TLS, would open what they close, and
    where it is not clear which model it asks."""
    names = list(dict.fromkeys(spec.name for spec in specs))
    if len(names) > 1:
        raise InvalidInputError(
            f"bRPC asks for no model by name, and {len(names)} are served: {', '.join(names)}.",
            "serve one model, or leave --brpc-port out",
        )
    reasons = {
        "--token-file": bool(settings.access.tokens), "--tls-cert": settings.certificate is not None,
        f"--host {settings.host}": not is_loopback(settings.host),
    }  # fmt: skip
    asked = next((name for name, given in reasons.items() if given), None)
    if asked is not None and not settings.brpc_insecure:
        raise InvalidInputError(
            f"bRPC has neither tokens nor TLS, and would be open beside {asked}.",
            "leave --brpc-port out; or, if everyone who reaches the port may ask, add --brpc-insecure",
        )


def _port(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


def _bound(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that is bound and doesn't listen yet. Raises InvalidInputError if the port can't be taken."""
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, OverflowError) as error:
        raise _not_here(host, error) from error
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # Linux lets two sockets that don't listen yet share a port
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _not_here(host, error) from error
        in_use = error.errno == errno.EADDRINUSE
        reason = "another program uses it" if in_use else (error.strerror or str(error)).lower()
        raise InvalidInputError(
            f"Can't serve on {_bracketed(host)}:{port}: {reason}.",
            f"choose another with {option}; 0 takes any free port",
        ) from error
    bound.setblocking(False)
    return bound


def _not_here(host: str, error: Exception) -> InvalidInputError:
    return InvalidInputError(
        f"{host} isn't an address of this machine: {getattr(error, 'strerror', None) or error}.",
        "pass --host 127.0.0.1, or an address that this machine has",
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _waiting(repository: Repository) -> Iterator[int]:
    for entry in repository.entries():
        if entry.model is not None:
            yield entry.model.batcher.waiting + entry.model.batcher.running


def is_open(settings: Settings) -> bool:
    """Whether other machines reach the server and need no token."""
    return not is_loopback(settings.host) and not settings.access.tokens


async def _unless(stop: asyncio.Event, work: asyncio.Future[Any]) -> bool:
    """Whether `work` ended before `stop` was set; it is cancelled otherwise."""
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            return True
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        return False
    finally:
        stopped.cancel()


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Iterator[None]:
    """The first signal drains; a second Ctrl-C ends at once, as any command does."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def ask(number: int) -> None:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        stop.set()

    before = {}
    try:
        for number in numbers:
            handler = signal.getsignal(number)
            loop.add_signal_handler(number, ask, number)
            before[number] = handler
    except (ValueError, RuntimeError):  # not the main thread: signals are another's
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _run(work: Any) -> None:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
