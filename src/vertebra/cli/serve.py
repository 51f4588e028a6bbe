"""`vertebra serve`: Bundles that answer over the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra.cli.output import table_option
from vertebra.cli.subject import given
from vertebra.cli.terminal import line, say

if TYPE_CHECKING:
    from vertebra.inference.serving.server import Addresses


@click.command("serve")
@click.argument("served", nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes any free."
)
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="Port of gRPC."
)
@click.option("--grpc/--no-grpc", default=True, show_default=True, help="Serve over gRPC too.")
@click.option(
    "--brpc-port", type=click.IntRange(0, 65535), help="Port of Paddle Serving's bRPC. [default: none]"
)
@click.option(
    "--brpc-insecure", is_flag=True, help="Allow bRPC beside tokens, TLS or other hosts: it has neither."
)
@click.option("--engine", help="Engine to run. [default: as measured, or the first that opens it]")
@click.option(
    "--instances", type=click.IntRange(min=1), help="Processes of each model. [default: as measured, or 1]"
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of each process. [default: as measured, or cores]"
)
@click.option(
    "--max-batch", type=click.IntRange(min=1), metavar="N",
    help="Images in one call of the engine. [default: as measured, or 8]",
)  # fmt: skip
@click.option(
    "--delay", metavar="TIME", default="0", show_default=True,
    help="How long a free engine waits for more images.",
)  # fmt: skip
@click.option(
    "--queue", type=click.IntRange(min=1), metavar="N", show_default="64, of 24 MiB together",
    help="Images that may wait, and the most in one request.",
)  # fmt: skip
@click.option("--timeout", metavar="TIME", default="30s", show_default=True, help="Deadline of a request.")
@click.option(
    "--hang", metavar="TIME", default="60s", show_default=True,
    help="Replace a process that is silent for this long.",
)  # fmt: skip
@click.option(
    "--drain", metavar="TIME", default="30s", show_default=True, help="Time for requests at the end."
)
@click.option(
    "--max-body", metavar="SIZE", default="64MB", show_default=True, help="Largest body, once decompressed."
)
@click.option(
    "--max-pixels", type=click.IntRange(min=1), metavar="N", default=2**26, show_default=True,
    help="Decode pictures of up to N pixels.",
)  # fmt: skip
@click.option(
    "--token-file", metavar="FILE", help="File of bearer tokens, one a line; requests must have one."
)
@click.option("--tls-cert", metavar="FILE", help="Certificate (PEM): serve with TLS.")
@click.option("--tls-key", metavar="FILE", help="Private key of the certificate (PEM).")
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="Another name of this server; * for any. Repeatable."
)
@click.option("--manage", is_flag=True, help="Let clients load and unload the models.")
@click.option(
    "--log", type=click.Choice(("text", "json")), default="text", show_default=True,
    help="Style of the log; json has a line for each request.",
)  # fmt: skip
@click.option(
    "--on", metavar="ray[://HOST:PORT]", help="Serve inside Ray Serve, on each node of this cluster."
)
@table_option
def command(served: tuple[str, ...], **options: Any) -> None:
    """Serve each BUNDLE (FOLDER, NAME=FOLDER or NAME:VERSION=FOLDER) over the Open Inference Protocol.

    \b
      vertebra serve flowers
      vertebra serve flowers:1=old flowers:2=new --port 9000
      curl localhost:8000/v2/models/flowers
    """
    tell = _json_teller() if options["log"] == "json" else _text
    server = vertebra.serve(*served, **given(options))
    names = list(dict.fromkeys(spec.name for spec in server.specs))
    tell(f"loading {', '.join(names)}", "loading", models=names)
    for spec, choice in server.choices.items():
        called = spec.name if len(names) == len(server.specs) else f"{spec.name}:{spec.version}"
        tell(
            f"{called}: {choice}", "chosen", model=spec.name, version=spec.version,
            engine=choice.engine,
            processes=choice.instances, threads=choice.threads, images=choice.max_batch, reason=choice.reason,
        )  # fmt: skip
        if choice.to_measure is not None:
            tell(f"to measure: {choice.to_measure}", "to measure", command=choice.to_measure)
    server.run(lambda at: tell(_ready(at), "ready", http=at.http, grpc=at.grpc, brpc=at.brpc))
    tell("stopped", "stopped")


def _text(text: str, event: str, **fields: Any) -> None:
    say(line(text), err=True)


def _json_teller() -> Callable[..., None]:
    """Says everything as JSON, warnings too: programs read each line."""
    import logging

    from vertebra.inference.serving import logs

    logs.prepare("json")
    warnings = logging.getLogger("vertebra")
    warnings.handlers[:], warnings.propagate = logs.LOGGER.handlers, False

    def tell(text: str, event: str, **fields: Any) -> None:
        logs.event(event, **{name: value for name, value in fields.items() if value is not None})

    return tell


def _ready(at: Addresses) -> str:
    grpc = "" if at.grpc is None else f", gRPC at {at.grpc}"
    brpc = "" if at.brpc is None else f", bRPC at {at.brpc}"
    return f"ready at {at.http}{grpc}{brpc}; press Ctrl-C to stop"
