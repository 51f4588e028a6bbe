"""The application inside another server: mounted in one that others wrote, and run by uvicorn itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import tiny_bundle
import vertebra
from serving_client import GOOD, ONE, Client, outputs, until
from vertebra.errors import BundleError, InvalidInputError, VertebraError

TOKEN = "a-token-of-many-characters"


@contextlib.contextmanager
def run(application: Any) -> Iterator[tuple[Client, uvicorn.Server]]:
    """The application in uvicorn, as its own users start it."""
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", lifespan="on"))

    def serve() -> None:
        with contextlib.suppress(SystemExit):  # how uvicorn says that it couldn't start
            server.run()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1] if server.started else 0
        yield Client(SimpleNamespace(port=port)), server  # type: ignore[arg-type]
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    tiny_bundle.make(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_mounted_in_another_application_it_answers_below_its_path(bundle: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    tokens.chmod(0o600)
    models = vertebra.asgi(bundle, token_file=tokens, max_batch=4)

    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    routes = [Mount("/vision", models), Route("/", hello)]
    known = {"Authorization": f"Bearer {TOKEN}"}
    with run(Starlette(routes=routes, lifespan=models.lifespan)) as (client, _):
        assert client.ask("GET", "/")[::2] == (200, b"hello")
        assert client.ask("GET", "/vision/v2/health/ready")[0] == 200
        assert client.ask("GET", "/vision/v2/models/tiny")[0] == 401
        assert client.ask("GET", "/v2/health/ready")[0] == 404
        status, headers, body = client.ask(
            "POST", "/vision/v2/models/tiny/infer", {"inputs": [GOOD]}, **known
        )
        assert (status, len(headers["x-request-id"])) == (200, 16)
        np.testing.assert_allclose(outputs(json.loads(body))["logits"], tiny_bundle.logits(ONE), atol=2e-6)
        page = client.ask("GET", "/vision/", **known)[2].decode()
        assert 'src="site/drop.mjs"' in page
        assert client.ask("GET", "/vision/site/drop.mjs", **known)[0] == 200
        config = json.loads(client.ask("GET", "/vision/v2/models/tiny/config", **known)[2])
        assert config["max_batch_size"] == 4


@pytest.mark.parametrize(
    ("asked", "images", "size_bytes"), [({}, 64, 24 * 2**20), ({"queue": 200}, 200, math.inf)]
)
def test_bytes_that_wait_are_bounded_unless_the_user_says_how_many_images_may(
    bundle: Path, asked: dict[str, int], images: int, size_bytes: float
) -> None:
    plan = vertebra.asgi(bundle, **asked)._plan
    assert (plan.queue_images, plan.queue_bytes) == (images, size_bytes)


def test_by_itself_it_is_an_application_that_loads_and_ends_its_models(bundle: Path) -> None:
    models = vertebra.asgi(bundle)
    for _ in range(2):  # a server may be started again
        with run(models) as (client, _):
            client.infer({"inputs": [GOOD]})
            (stats,) = client.get("/v2/models/tiny/stats")["model_stats"]
            assert stats["inference_count"] == 1


def test_without_its_lifespan_it_says_that_it_is_not_loaded(bundle: Path) -> None:
    with run(Starlette(routes=[Mount("/", vertebra.asgi(bundle))])) as (client, _):
        status, _, body = client.ask("GET", "/v2/models/tiny")
    assert (status, "must run this application's lifespan" in json.loads(body)["error"]) == (503, True)


def test_a_model_that_can_t_be_loaded_stops_the_server_s_start(bundle: Path, tmp_path: Path) -> None:
    models = vertebra.asgi(bundle)
    network = bundle / "model.onnx"
    network.write_bytes(network.read_bytes()[:-3] + bytes(3))
    with run(models) as (_, server):
        assert not server.started
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(models({"type": "lifespan"}, receive, send))
    ((message),) = sent
    assert message["type"] == "lifespan.startup.failed"
    assert "was changed after" in message["message"]
    with pytest.raises(BundleError):
        vertebra.asgi(tmp_path / "none")


def test_where_one_of_two_models_can_t_be_loaded_no_process_stays(bundle: Path, tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path / "broken")
    models = vertebra.asgi(bundle, tmp_path / "broken")
    network = tmp_path / "broken" / "model.onnx"
    network.write_bytes(network.read_bytes()[:-3] + bytes(3))

    async def start() -> list[psutil.Process]:
        with pytest.raises(VertebraError, match="was changed after"):
            async with models.lifespan():
                pass
        await asyncio.sleep(1)
        return [one for one in psutil.Process().children() if "serving.worker" in " ".join(one.cmdline())]

    assert asyncio.run(start()) == []


def test_one_application_is_of_one_server(bundle: Path) -> None:
    models = vertebra.asgi(bundle)

    async def twice() -> None:
        async with models.lifespan(), models.lifespan():
            pass

    with pytest.raises(InvalidInputError, match="runs already"):
        asyncio.run(twice())
