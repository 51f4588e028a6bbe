"""A real server of Bundles in a thread, and a client of the standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

import tiny_bundle
import vertebra
from vertebra.inference.serving.server import Server

BINARY = "Inference-Header-Content-Length"


class Client:
    """What a client sees of a server."""

    def __init__(self, server: Server) -> None:
        self.server, self.port = server, server.port

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            content = json.dumps(body).encode() if isinstance(body, dict) else body
            connection.request(
                method, path, content, {name.replace("_", "-"): one for name, one in headers.items()}
            )
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()

    def get(self, path: str) -> Any:
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def infer(self, body: Any, model: str = "tiny", **headers: str) -> Any:
        status, _, answer = self.ask("POST", f"/v2/models/{model}/infer", body, **headers)
        assert status == 200, answer
        return json.loads(answer)

    def refused(self, body: Any, model: str = "tiny", **headers: str) -> tuple[int, str]:
        status, _, answer = self.ask("POST", f"/v2/models/{model}/infer", body, **headers)
        return status, json.loads(answer)["error"]

    def workers(self) -> list[psutil.Process]:
        pids = [worker.pid for entry in self.server.repository.entries() for worker in entry.model.workers]
        return [psutil.Process(pid) for pid in pids if pid is not None]


@contextlib.contextmanager
def serving(*served: Any, **options: Any) -> Iterator[Client]:
    server = vertebra.serve(*served, port=0, **({"grpc": False} | options))
    ready = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            server.run(lambda _: ready.set())
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(60)
        if failed:
            raise failed[0]
        yield Client(server)
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    chain, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", chain],
        check=True, capture_output=True,
    )  # fmt: skip
    return chain, key


def images(count: int, seed: int = 0) -> np.ndarray:
    return (
        np.random.default_rng(seed)
        .normal(size=(count, 3, tiny_bundle.SIZE, tiny_bundle.SIZE))
        .astype(np.float32)
    )


def tensor(values: np.ndarray, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    data = {"data": values.tolist()} if "parameters" not in more else {}
    return {"name": "images", "shape": list(values.shape), "datatype": datatype, **data, **more}


def binary(values: np.ndarray | list[bytes], datatype: str, **request: Any) -> tuple[bytes, dict[str, str]]:
    """A request's body with a binary tensor, and its headers."""
    if isinstance(values, list):
        content = b"".join(struct.pack("<I", len(one)) + one for one in values)
        shape = [len(values)]
    else:
        content, shape = values.tobytes(), list(values.shape)
    given = {
        "name": "images",
        "shape": shape,
        "datatype": datatype,
        "parameters": {"binary_data_size": len(content)},
    }
    head = json.dumps({"inputs": [given], **request}).encode()
    return head + content, {BINARY: str(len(head))}


def outputs(answer: dict[str, Any]) -> dict[str, np.ndarray]:
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer["outputs"]}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def picture(seed: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def until(holds: Any) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it didn't come about")


def waiting(client: Client) -> int:
    batchers = [entry.model.batcher for entry in client.server.repository.entries()]
    return sum(one.waiting + one.running for one in batchers)


ONE = images(1)
GOOD = tensor(ONE)
