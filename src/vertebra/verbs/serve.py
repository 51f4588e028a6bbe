"""`vertebra.serve`: Bundles that answer over the network; `vertebra.asgi`: the same inside another server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra import units
from vertebra.errors import InvalidInputError, warn
from vertebra.verbs import given
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.inference.serving.hosted import Hosted
    from vertebra.inference.serving.models import Plan
    from vertebra.inference.serving.on_ray import Deployed
    from vertebra.inference.serving.server import Server, Settings

HOST, PORT, GRPC_PORT = "127.0.0.1", 8000, 8001


def serve(
    *served: str | Path,
    host: str = HOST,
    port: int = PORT,
    grpc_port: int = GRPC_PORT,
    grpc: bool = True,
    brpc_port: int | None = None,
    brpc_insecure: bool = False,
    engine: str | None = None,
    instances: int | None = None,
    threads: int | None = None,
    max_batch: int | None = None,
    delay: str | float = 0.0,
    queue: int | None = None,
    timeout: str | float = 30.0,
    hang: str | float = 60.0,
    drain: str | float = 30.0,
    max_body: str | int = 64_000_000,
    max_pixels: int = 2**26,
    token_file: str | Path | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    allow_host: Sequence[str] = (),
    manage: bool = False,
    log: str = "text",
    on: str | None = None,
    table: TableLike = None,
) -> Server | Deployed:
    """A server of Bundles over the Open Inference Protocol (KServe v2), by HTTP at `port` and by gRPC at
    `grpc_port` unless `grpc` is false; 0 takes any free port. `run` serves until SIGTERM, Ctrl-C or, from
    another thread, `stop`.

        vertebra.serve("flowers").run()

    Each of `served` is a Bundle's folder, whose name is the model's; or "NAME=FOLDER", or
    "NAME:VERSION=FOLDER". A model runs in `engine`, in `instances` processes with `threads` each. Up to
    `max_batch` images, of one or several requests, are one call of the engine. What of these four isn't given
    is chosen from the `table`'s rows of the network on this machine, as `bench` with the scenario "offline"
    measures them; without rows it is the first engine that opens the Bundle, 1 process, all cores divided
    among the processes, and 8 images. `Server.choices` has what was chosen, and why.

    A call waits up to `delay` for more images if it could begin. Up to `queue` images wait; then requests are
    refused (429). By default 64 may, of 24 MiB together, or of two full batches for each process. A request
    has its answer within `timeout` or is refused (504). A process that is silent for `hang` is replaced. At
    the end, requests under way have `drain` to end. Times are in seconds, or "5ms".

    A body may have `max_body` bytes, compressed or not, a picture `max_pixels`. `token_file` has tokens of
    which a request must have one; `tls_cert` and `tls_key` are files in PEM. The server answers to addresses,
    localhost, this machine's name and `allow_host` ("*": any name). With `manage` clients may load and unload
    the models. `log` is "text", or "json" with a line for each request.

    With a `brpc_port` one model also answers as Paddle Serving's GeneralModelService, by bRPC (baidu_std)
    there and by REST at `port`. bRPC has neither tokens nor TLS: beside either, or where other machines reach
    it, it is refused without `brpc_insecure`.

    `on` ("ray" or "ray://HOST:PORT") serves inside Ray Serve: one replica of the application on each node of
    the cluster, each with what is said here of processes and threads, by HTTP at the head node's `host` and
    `port`. The Bundles must be on all nodes, under the same paths.

    Raises InvalidInputError, BundleError, UnknownNameError, and MissingRuntimeError if an engine or a library
    of the extra "serve" isn't installed.
    """
    from vertebra.inference.serving import server
    from vertebra.inference.serving.access import Certificate, access
    from vertebra.inference.serving.models import specified

    server.require_libraries("starlette", "uvicorn", "httptools", "grpc")
    plan = _plan(
        engine=engine, instances=instances, threads=threads, max_batch=max_batch, delay=delay, queue=queue,
        timeout=timeout, hang=hang, max_body=max_body, max_pixels=max_pixels, table=table,
    )  # fmt: skip
    settings = server.Settings(
        host=host, port=port, grpc_port=grpc_port if grpc else None,
        brpc_port=brpc_port, brpc_insecure=brpc_insecure,
        manages=manage, drain_s=_seconds("drain", drain, zero=True), log=log,
        access=access(_path(token_file), allow_host),
        certificate=Certificate.read(_path(tls_cert), _path(tls_key)),
    )  # fmt: skip
    if on is not None:
        made: Server | Deployed = _deployed(served, plan, settings, on, grpc_port, tls_cert, tls_key)
    else:
        made = server.Server(specified(served), plan, settings)
    if server.is_open(settings):
        warn(
            f"other machines can reach {made.addresses.http}, and it asks for no token.",
            "pass --token-file FILE, or --host 127.0.0.1 for this machine only",
        )
    return made


def asgi(
    *served: str | Path,
    engine: str | None = None,
    instances: int | None = None,
    threads: int | None = None,
    max_batch: int | None = None,
    delay: str | float = 0.0,
    queue: int | None = None,
    timeout: str | float = 30.0,
    hang: str | float = 60.0,
    drain: str | float = 30.0,
    max_body: str | int = 64_000_000,
    max_pixels: int = 2**26,
    token_file: str | Path | None = None,
    allow_host: Sequence[str] = (),
    manage: bool = False,
    table: TableLike = None,
) -> Hosted:
    """What `serve` answers over HTTP, as an application for another ASGI server. Arguments as for `serve`.

        models = vertebra.asgi("flowers")
        app = Starlette(routes=[Mount("/vision", models)], lifespan=models.lifespan)

    By itself it runs as `uvicorn module:models`. The models are loaded when the server starts, in each of its
    processes. Ports, TLS and the log are that server's; gRPC isn't part of it.
    """
    from vertebra.inference.serving import server
    from vertebra.inference.serving.access import access
    from vertebra.inference.serving.models import specified

    server.require_libraries("starlette")
    from vertebra.inference.serving.hosted import Hosted

    plan = _plan(
        engine=engine, instances=instances, threads=threads, max_batch=max_batch, delay=delay, queue=queue,
        timeout=timeout, hang=hang, max_body=max_body, max_pixels=max_pixels, table=table,
    )  # fmt: skip
    settings = server.Settings(
        manages=manage, drain_s=_seconds("drain", drain, zero=True),
        access=access(_path(token_file), allow_host),
    )  # fmt: skip
    return Hosted(specified(served), plan, settings)


def _plan(
    *,
    engine: str | None,
    instances: int | None,
    threads: int | None,
    max_batch: int | None,
    delay: str | float,
    queue: int | None,
    timeout: str | float,
    hang: str | float,
    max_body: str | int,
    max_pixels: int,
    table: TableLike,
) -> Plan:
    """How each model is served. Raises InvalidInputError."""
    from vertebra.inference.serving import choice, models

    counts = {
        "instances": instances, "threads": threads, "max_batch": max_batch, "queue": queue,
        "max_pixels": max_pixels,
    }  # fmt: skip
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InvalidInputError(f"{name} is {count}, but must be at least 1.")
    timeout_s = _seconds("timeout", timeout)
    asked = choice.Asked(instances, threads, max_batch, timeout_s)
    return models.Plan(
        engine=engine, asked=asked, queue_images=queue or models.QUEUE_IMAGES,
        queue_bytes=math.inf if queue else models.QUEUE_BYTES,
        choose=choice.from_table(asked, given.table(table, create=False), is_named=table is not None),
        delay_s=_seconds("delay", delay, zero=True), timeout_s=timeout_s,
        hang_s=_seconds("hang", hang), max_body=_bytes(max_body), max_pixels=max_pixels,
    )  # fmt: skip


def _deployed(
    served: Sequence[str | Path], plan: Plan, settings: Settings, on: str, grpc_port: int,
    tls_cert: str | Path | None, tls_key: str | Path | None,
) -> Deployed:  # fmt: skip
    from vertebra.inference.serving.models import specified
    from vertebra.inference.serving.on_ray import Deployed

    if settings.grpc_port is not None:
        if grpc_port != GRPC_PORT:
            raise InvalidInputError("--on ray serves no gRPC.", "leave --grpc-port out")
        warn("gRPC isn't served with --on ray.", "pass --no-grpc to say so")
    pair = None if tls_cert is None else (str(Path(tls_cert).resolve()), str(Path(str(tls_key)).resolve()))
    return Deployed(specified(served), plan, settings, on=on, certificate=pair)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _seconds(name: str, given: str | float, *, zero: bool = False) -> float:
    seconds = units.parse(given, "s") if isinstance(given, str) and given != "0" else float(given)
    if not 0 <= seconds <= 86400 or (seconds == 0 and not zero):
        raise InvalidInputError(f"{name} is {given}; a time of up to a day was expected, such as 5ms.")
    return seconds


def _bytes(given: str | int) -> int:
    size = int(units.parse(given, "B")) if isinstance(given, str) else given
    if not 1 <= size <= 2**31:
        raise InvalidInputError(f"max_body is {given}; a size of 1 byte to 2 GB was expected, such as 64MB.")
    return size
