"""Whether requests that are broken at random do a server any harm, and whether its counts are the client's.

    python benchmarks/serving_fuzz.py BUNDLE [--requests 10000] [--only http grpc brpc counts] [--seed 0]

Starts `vertebra serve BUNDLE` with all its protocols for each part; BUNDLE should be of a small network.

http, grpc, brpc   good requests that are changed in one to four places (bytes, values of the JSON, headers,
                   damaged pictures, compressed bodies). Each must be answered in time, or refused as the
                   protocol refuses; one whose frame is broken may end the connection. One in twenty is left
                   as it is and must have the right answer
counts             requests of all three protocols, of which some are wrong, late or refused by a full queue:
                   what the client counts, `/stats` and `/metrics` must agree exactly

At the end the server's process and that of its engine must be those of the beginning, its log must have no
traceback, and after the first tenth its memory must not have grown by more than 64 MiB. Prints the answers by
status; exits 1 if something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import gzip
import io
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

import serving_parts as parts
from vertebra.inference import loading
from vertebra.inference.serving import brpc, rpc
from vertebra.inference.serving.messages import open_inference
from vertebra.inference.serving.refusals import KINDS
from vertebra.machine import protobuf

MODEL = "fuzzed"
AT_ONCE = 16
#: Seconds in which every request must have its end, and a broken frame some answer.
PATIENCE_S, FRAME_S = 30.0, 0.2
GROWTH = 64 * 2**20
#: largest difference from the offline logits, relative to their spread
MOST = 1e-4
MESSAGES = open_inference()
#: values that a client may put anywhere
ODD = (
    None, True, -1, 0, 1, 2**31, 2**63, -(2**64), 10**400, 1e308, 0.5, "", "images", "x" * 3000, "\x00",
    "ü\ud800", [], {}, [[]], {"a": {}}, [1, "a"], [None], "FP32", "BYTES", "UINT8", "INT64", [1, 3, 0, 0],
    [10**9, 10**9, 3], [-1],
)  # fmt: skip
_JSON_STATUSES = {status for status, _ in KINDS.values()} - {500}
#: gRPC's own refusals beside those of the protocol
_CODES = {code for _, code in KINDS.values()} - {"INTERNAL"}


class Server:
    """`vertebra serve` with all protocols, and its log."""

    def __init__(self, bundle: Path, *options: str) -> None:
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115 - as long as the process
        ports = ("--port", "0", "--grpc-port", "0", "--brpc-port", "0")
        command = [sys.executable, "-m", "vertebra", "serve", f"{MODEL}={bundle}", *ports, *options]
        self._process = subprocess.Popen(command, stderr=self._log)
        for _ in range(600):
            found = re.search(r"ready at \S+:(\d+), gRPC at (\S+), bRPC at \S+:(\d+);", self.log())
            if found or self._process.poll() is not None:
                break
            time.sleep(0.1)
        assert found, f"the server isn't ready: {self.log()[-2000:]}"
        self.http, self.grpc, self.brpc = int(found[1]), found[2], int(found[3])
        self.main = psutil.Process(self._process.pid)
        self._engines = {child.pid for child in self.main.children()}
        self._memory = self.memory()

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def memory(self) -> int:
        return sum(one.memory_info().rss for one in (self.main, *self.main.children()))

    def warm(self) -> None:
        """What it takes from now on is growth."""
        self._memory = self.memory()

    def faults(self) -> list[str]:
        found = []
        if self._process.poll() is not None:
            return [f"the server ended: {self.log()[-1000:]}"]
        if {child.pid for child in self.main.children()} != self._engines:
            found.append("a process of the engine was lost")
        for word in ("Traceback", "failed", "lost"):
            found += [f"the log: {line}" for line in self.log().splitlines() if word in line][:3]
        grown = self.memory() - self._memory
        print(f"memory: {grown / 2**20:+.0f} MiB")
        return found + ([f"memory has grown by {grown / 2**20:.0f} MiB"] if grown > GROWTH else [])

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[Server]:
    server = Server(bundle, *options)
    try:
        yield server
    finally:
        server.close()


class Subject:
    """Good requests, and the right answer."""

    def __init__(self, bundle: Path, seed: int) -> None:
        self.random = random.Random(seed)
        with loading.load(bundle, threads=1) as loaded:
            self.size = loaded.settings.input_shape[-1]
            self.image = (
                np.random.default_rng(seed).normal(size=(1, 3, self.size, self.size)).astype(np.float32)
            )
            self.expected = loaded.logits(self.image)
        self.pictures = [
            _picture(kind, self.random) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
        ]

    def is_right(self, logits: bytes) -> bool:
        found = np.frombuffer(logits, "<f4").reshape(self.expected.shape)
        return bool(np.abs(found - self.expected).max() <= MOST * max(1e-6, float(self.expected.std())))

    def changed(self, content: bytes, most: int | None = None) -> bytes:
        """One to four bytes are others, are missing or are put in."""
        found = bytearray(content)
        for _ in range(self.random.randint(1, 4)):
            place = self.random.randrange(max(1, min(len(found), most or len(found))))
            how = self.random.random()
            if how < 0.7:
                found[place : place + 1] = bytes([self.random.randrange(256)])
            elif how < 0.85:
                del found[place : place + self.random.randint(1, 40)]
            else:
                found[place:place] = self.random.randbytes(self.random.randint(1, 40))
        return bytes(found)

    def odd(self, value: Any) -> Any:
        """The JSON with an odd value somewhere."""
        value = copy.deepcopy(value)
        spots = list(_spots(value))
        for _ in range(self.random.randint(1, 2)):
            inside, key = self.random.choice(spots)
            try:
                if self.random.random() < 0.2 and isinstance(inside, dict):
                    inside.pop(key, None)
                else:
                    inside[key] = copy.deepcopy(self.random.choice(ODD))
            except (IndexError, KeyError, TypeError):
                continue  # the other change took it away
        return value


def _picture(kind: str, drawn: random.Random) -> bytes:
    from PIL import Image

    pixels = np.frombuffer(drawn.randbytes(24 * 20 * 3), np.uint8).reshape(20, 24, 3)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def _spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value."""
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys)[:8]:
        yield value, key
        yield from _spots(value[key])


# ------------------------------------------------------------------ transports


class Http:
    """Each request over a connection of its own, since a broken one ends it."""

    def __init__(self, server: Server, subject: Subject) -> None:
        self._port, self._subject = server.http, subject
        content = subject.image.tobytes()
        self._good = parts.inference(MODEL, content, subject.image.shape, "FP32")

    async def close(self) -> None:
        pass

    async def good(self) -> bool:
        status, fields, body = await self._asked(self._good)
        return status == "200" and self._subject.is_right(
            body[int(fields["inference-header-content-length"]) :]
        )

    async def broken(self) -> str:
        """What came; raises AssertionError where it may not."""
        drawn, is_framed = self._subject.random, True
        kind = drawn.randrange(7)
        if kind == 0:
            body = self._json()
            whole = parts.request(self._path(), self._subject.changed(body), Content_Type="application/json")
        elif kind == 1:
            value = self._subject.odd(json.loads(self._json()))
            whole = parts.request(self._path(), json.dumps(value).encode())
        elif kind == 2:
            head, _, body = self._good.partition(b"\r\n\r\n")
            length = drawn.choice(("-1", "0", "7", "x", "99999999999", "1" * 5000, str(drawn.randrange(400))))
            head = re.sub(rb"(?i)(inference-header-content-length): \d+", rb"\1: " + length.encode(), head)
            whole = head + b"\r\n\r\n" + body
        elif kind == 3:
            encoded = self._subject.changed(drawn.choice(self._subject.pictures))
            whole = parts.picture(MODEL, encoded)
        elif kind == 4:
            packed = gzip.compress(self._json(), 1)
            packed = self._subject.changed(packed) if drawn.random() < 0.7 else packed
            how = drawn.choice(("gzip", "deflate", "br", "gzip, gzip", ""))
            whole = parts.request(self._path(), packed, Content_Encoding=how)
        elif kind == 5:
            path = drawn.choice(
                ("/v2/repository/index", "/v2/models/%00/infer", f"/v2/models/{MODEL}", "/v2/%", "/")
            )
            whole = parts.request(path, drawn.randbytes(drawn.randrange(60)))
        else:
            is_framed = False
            place = self._good.index(b"\r\n\r\n") + 4
            whole = self._subject.changed(self._good, place)
        try:
            status, fields, body = await asyncio.wait_for(
                self._asked(whole), PATIENCE_S if is_framed else FRAME_S
            )
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            if is_framed:
                raise AssertionError(f"{type(error).__name__} after {whole[:2000]!r}") from error
            return "ended"
        told = f"{status} {body[:300]!r} after {whole[:2000]!r}"
        assert int(status) in _JSON_STATUSES | {200, 204}, told
        assert b"Traceback" not in body, told
        if "application/json" in fields.get("content-type", ""):
            json.loads(body, parse_constant=lambda text: (_ for _ in ()).throw(AssertionError(told)))
        return status

    async def _asked(self, whole: bytes) -> tuple[str, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(whole)
            return await parts.response(reader)
        finally:
            writer.close()

    def _path(self) -> str:
        return self._subject.random.choice((f"/v2/models/{MODEL}/infer", "/GeneralModelService/inference"))

    def _json(self) -> bytes:
        values = self._subject.image.round(1)
        given = {"name": "images", "shape": list(values.shape), "datatype": "FP32", "data": values.tolist()}
        wanted = [{"name": "probabilities", "parameters": {"classification": 2}}, {"name": "logits"}]
        oip = {"id": "7", "inputs": [given], "outputs": wanted, "parameters": {"timeout": 10**7}}
        tensor = {
            "name": "images",
            "elem_type": 5,
            "shape": list(values.shape),
            "float_data": values.ravel().tolist(),
        }
        other = {"tensor": [tensor], "fetch_var_names": ["logits"], "log_id": 3}
        return json.dumps(self._subject.random.choice((oip, other))).encode()


class Grpc:
    """Bytes to every method."""

    def __init__(self, server: Server, subject: Subject) -> None:
        self._subject = subject
        self._channel = grpc.aio.insecure_channel(server.grpc)
        self._calls = {
            name: self._channel.unary_unary(f"/{rpc.SERVICE}/{name}")
            for name in MESSAGES.methods[rpc.SERVICE]
        }
        made = MESSAGES["ModelInferRequest"](model_name=MODEL)
        made.inputs.add(name="images", datatype="FP32", shape=subject.image.shape)
        made.raw_input_contents.append(subject.image.tobytes())
        made.outputs.add(name="logits")
        self._good = made.SerializeToString()
        typed = MESSAGES["ModelInferRequest"](model_name=MODEL)
        given = typed.inputs.add(name="images", datatype="FP32", shape=subject.image.shape)
        given.contents.fp32_contents.extend(subject.image.ravel().tolist())
        self._typed = typed.SerializeToString()

    async def close(self) -> None:
        await self._channel.close()

    async def good(self) -> bool:
        answer = MESSAGES["ModelInferResponse"].FromString(
            await self._calls["ModelInfer"](self._good, timeout=PATIENCE_S)
        )
        return self._subject.is_right(answer.raw_output_contents[0])

    async def broken(self) -> str:
        drawn = self._subject.random
        name = "ModelInfer"
        kind = drawn.randrange(4)
        if kind == 0:
            content = self._subject.changed(self._good, 120)
        elif kind == 1:
            content = self._subject.changed(self._typed)
        elif kind == 2:
            made = MESSAGES["ModelInferRequest"](model_name=MODEL)
            made.inputs.add(name="images", datatype="BYTES", shape=[1])
            encoded = self._subject.changed(drawn.choice(self._subject.pictures))
            made.raw_input_contents.append(len(encoded).to_bytes(4, "little") + encoded)
            content = made.SerializeToString()
        else:
            name = drawn.choice([name for name in self._calls if "Unregister" not in name])
            content = drawn.choice(
                (b"", drawn.randbytes(drawn.randrange(60)), self._subject.changed(self._good, 60))
            )
        metadata = (
            ("x-request-id", drawn.choice(("", "a", "z" * 500))),
            ("traceparent", drawn.choice(("", "00-x"))),
        )
        try:
            await self._calls[name](content, timeout=PATIENCE_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code().name not in _CODES or "Traceback" in str(error.details()):
                told = f"{error.code()} {error.details()} after {name} {content[:300]!r}"
                raise AssertionError(told) from error
            return str(error.code().name)
        return "OK"


class Brpc:
    """Frames over connections of their own."""

    def __init__(self, server: Server, subject: Subject) -> None:
        self._port, self._subject = server.brpc, subject
        self._good = frame(subject.image)

    async def close(self) -> None:
        pass

    async def good(self) -> bool:
        body = await self._asked(self._good)
        return self._subject.is_right(floats_of(body))

    async def broken(self) -> str:
        is_framed = self._subject.random.random() < 0.6
        if is_framed:  # the length of the frame stays right
            meta = int.from_bytes(self._good[8:12], "big")
            payload = self._subject.changed(self._good[12 + meta :], 80)
            whole = b"PRPC" + (meta + len(payload)).to_bytes(4, "big") + self._good[8 : 12 + meta] + payload
        else:
            whole = self._subject.changed(self._good, 120)
        try:
            body = await asyncio.wait_for(self._asked(whole), PATIENCE_S if is_framed else FRAME_S)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            if is_framed:
                raise AssertionError(f"{type(error).__name__} after {whole[:300]!r}") from error
            return "ended"
        code = code_of(body)
        assert code != brpc_internal(), f"{code} {body[:300]!r} after {whole[:300]!r}"
        assert b"Traceback" not in body
        return f"code {code}"

    async def _asked(self, whole: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(whole)
            head = await reader.readexactly(12)
            assert head.startswith(b"PRPC"), head
            return head[8:12] + await reader.readexactly(int.from_bytes(head[4:8], "big"))
        finally:
            writer.close()


def frame(image: Any, *, timeout_ms: int = 0, name: str = "images") -> bytes:
    """A request as Paddle Serving's clients send it."""
    shape = b"".join(protobuf.number(11, size) for size in image.shape)
    tensor = protobuf.message(2, image.tobytes()) + protobuf.number(10, 1) + shape + protobuf.text(13, name)
    named = protobuf.text(1, brpc.SERVICE) + protobuf.text(2, brpc.METHOD)
    asked = named + (protobuf.number(8, timeout_ms) if timeout_ms else b"")
    meta = protobuf.message(1, asked) + protobuf.number(4, 1)
    return brpc.frame(meta, protobuf.message(1, tensor) + protobuf.text(2, "logits"))


def code_of(body: bytes) -> int:
    """The error code of an answer, which follows its meta's length."""
    meta = dict(protobuf.fields(body, 4, 4 + int.from_bytes(body[:4], "big")))
    return dict(protobuf.fields(body, *meta[2])).get(1, 0)


def floats_of(body: bytes) -> bytes:
    """The one tensor's values."""
    begin = 4 + int.from_bytes(body[:4], "big")
    outputs = dict(protobuf.fields(body, begin, len(body)))[1]
    tensor = dict(protobuf.fields(body, *dict(protobuf.fields(body, *outputs))[1]))
    return body[slice(*tensor[2])]


def brpc_internal() -> int:
    return 2001  # brpc's EINTERNAL


async def fuzzed(transport: Any, requests: int, drawn: random.Random) -> tuple[Counter[str], list[str]]:
    """The answers by status, and what is wrong."""
    found, faults, left = Counter[str](), [], requests

    async def one() -> None:
        nonlocal left
        while left > 0 and len(faults) < 20:
            left -= 1
            try:
                if left % 20 == 0:
                    is_right = await asyncio.wait_for(transport.good(), PATIENCE_S)
                    found["good" if is_right else "wrong"] += 1
                    if not is_right:
                        faults.append("a good request had a wrong answer")
                else:
                    found[await transport.broken()] += 1
            except Exception as error:
                faults.append(f"{type(error).__name__}: {error}"[:3000])

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    await transport.close()
    return found, faults


# ------------------------------------------------------------------ counts


class Counting:
    """What a client counts, by the server's own reasons."""

    def __init__(self, server: Server, subject: Subject) -> None:
        self._server, self._subject = server, subject
        self.success, self.images, self.refused, self.other = 0, 0, Counter[str](), 0
        shape, content = subject.image.shape, subject.image.tobytes()
        self._client = parts.Client(server.http, b"")
        self._bodies = {
            "good": (parts.inference(MODEL, content, shape, "FP32"), 1),
            "three": (parts.inference(MODEL, 3 * content, (3, *shape[1:]), "FP32"), 3),
            "late": (parts.inference(MODEL, content, shape, "FP32", timeout=1), 1),
            "wrong": (parts.inference(MODEL, content[:-4], shape, "FP32"), 0),
            "unsupported": (parts.inference(MODEL, content, shape, "FP32", sequence_id=3), 0),
            "unknown": (parts.inference("nobody", content, shape, "FP32"), 0),
        }

    async def run(self, requests: int) -> None:
        """Send them; the server's memory may no longer grow after the first tenth."""
        channel = grpc.aio.insecure_channel(self._server.grpc)
        self._infer = channel.unary_unary(f"/{rpc.SERVICE}/ModelInfer")
        await self._send(requests // 10)
        self._server.warm()
        await self._send(requests - requests // 10)
        await channel.close()

    async def _send(self, left: int) -> None:
        async def one() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                how = self._subject.random.random()
                await (self._http() if how < 0.6 else self._grpc() if how < 0.8 else self._brpc())

        await asyncio.gather(*(one() for _ in range(24)))

    async def _http(self) -> None:
        name = self._subject.random.choice(("good", "good", "three", *self._bodies))
        whole, images = self._bodies[name]
        status, body = await self._client.answer(whole)
        self._note(name, status == "200", images, {status, self._told(body)})

    async def _grpc(self) -> None:
        made = MESSAGES["ModelInferRequest"](model_name=MODEL)
        made.inputs.add(name="images", datatype="FP32", shape=self._subject.image.shape)
        name = self._subject.random.choice(("good", "good", "late", "wrong"))
        made.raw_input_contents.append(self._subject.image.tobytes()[4 if name == "wrong" else 0 :])
        if name == "late":
            made.parameters["timeout"].int64_param = 1
        try:
            await self._infer(made.SerializeToString())
        except grpc.aio.AioRpcError as error:
            self._note(name, False, 1, {error.code().name, str(error.details())})
        else:
            self._note(name, True, 1, set())

    async def _brpc(self) -> None:
        name = self._subject.random.choice(("good", "good", "wrong"))
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.brpc)
        writer.write(frame(self._subject.image, name="images" if name == "good" else "pictures"))
        head = await reader.readexactly(12)
        body = head[8:12] + await reader.readexactly(int.from_bytes(head[4:8], "big"))
        writer.close()
        self._note(name, code_of(body) == 0, 1, {f"brpc {code_of(body)}"})

    def _told(self, body: bytes) -> str:
        return str(json.loads(body).get("error")) if body.startswith(b'{"error') else ""

    def _note(self, name: str, is_answered: bool, images: int, told: set[str]) -> None:
        if is_answered:
            self.success += 1
            self.images += images
        elif name == "unknown":
            self.other += 1
        else:
            self.refused[_kind(told)] += 1

    def against(self) -> list[str]:
        """What the server counts otherwise."""
        at = f"http://127.0.0.1:{self._server.http}"
        with urllib.request.urlopen(f"{at}/v2/models/{MODEL}/stats") as answer:
            (stats,) = json.load(answer)["model_stats"]
        with urllib.request.urlopen(f"{at}/metrics") as answer:
            metrics = answer.read().decode()
        inference = stats["inference_stats"]
        label = f'{{model="{MODEL}",version="1"'
        reasons = re.findall(
            rf'vertebra_requests_failure_total{re.escape(label)},reason="(\w+)"}} (\d+)', metrics
        )
        executed = sum(one["batch_size"] * one["compute_infer"]["count"] for one in stats["batch_stats"])
        calls = sum(one["compute_infer"]["count"] for one in stats["batch_stats"])

        def metric(name: str) -> int:
            found = re.search(rf"^vertebra_{name}{re.escape(label)}}} (\d+)", metrics, re.M)
            return int(found[1]) if found else -1

        mine = (self.success, self.refused.total(), self.images)
        theirs = (inference["success"]["count"], inference["fail"]["count"], stats["inference_count"])
        told = (
            metric("requests_success_total"), sum(int(count) for _, count in reasons), metric("images_total")
        )  # fmt: skip
        print(f"client: {mine[0]} answered, {mine[1]} refused, {mine[2]} images; {dict(self.refused)}")
        print(f"/stats: {theirs}; /metrics: {told}, {dict(reasons)}; {self.other} named no model")
        faults = [] if mine == theirs == told else [f"the counts differ: {mine}, {theirs}, {told}"]
        if {name: int(count) for name, count in reasons} != dict(self.refused):
            faults.append("the reasons differ")
        if (metric("batch_images_sum"), metric("batch_images_count")) != (executed, calls):
            faults.append("the batches of /stats and /metrics differ")
        if calls != stats["execution_count"] or executed < self.images:
            faults.append(f"{calls} calls of {executed} images; {stats['execution_count']}, {self.images}")
        stages = ("queue", "compute_input", "compute_infer", "compute_output")
        if sum(inference[stage]["ns"] for stage in stages) != inference["success"]["ns"]:
            faults.append("the stages' times don't sum to the whole")
        return faults


def _kind(told: set[str]) -> str:
    """The server's reason, from what each protocol says of it."""
    whole = " ".join(told)
    for kind, words in {
        "late": ("504", "DEADLINE_EXCEEDED", "brpc 1008"),
        "full": ("429", "RESOURCE_EXHAUSTED", "brpc 2004", "brpc 2001"),
        "unsupported": ("this server has no",),
        "invalid": ("400", "INVALID_ARGUMENT", "brpc 1003"),
    }.items():
        if any(word in whole for word in words):
            return kind
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--only", nargs="+", choices=(*TRANSPORTS, "counts"), default=(*TRANSPORTS, "counts"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    subject, wrong = Subject(asked.bundle, asked.seed), 0
    for name in asked.only:
        begin = time.monotonic()
        options = ("--threads", "1", "--instances", "1", "--max-body", "4MB", "--max-pixels", "1000000")
        with serving(asked.bundle, *options, *(("--queue", "16") if name == "counts" else ())) as server:
            if name == "counts":
                counting = Counting(server, subject)
                asyncio.run(counting.run(asked.requests))
                faults = counting.against()
            else:
                faults = []
                for requests in (asked.requests // 10, asked.requests - asked.requests // 10):
                    found, more = asyncio.run(_over(name, server, subject, requests))
                    faults += more
                    if requests == asked.requests // 10:
                        server.warm()
                    print(f"{name}: {dict(sorted(found.items()))}")
            faults += server.faults()
        for fault in faults:
            print(f"{name}: fault: {fault}")
        print(
            f"{name}: {asked.requests} requests, {len(faults)} faults, {time.monotonic() - begin:.0f} s",
            flush=True,
        )
        wrong += len(faults)
    return 1 if wrong else 0


TRANSPORTS: dict[str, Callable[[Server, Subject], Any]] = {"http": Http, "grpc": Grpc, "brpc": Brpc}


async def _over(name: str, server: Server, subject: Subject, requests: int) -> tuple[Counter[str], list[str]]:
    work: Awaitable[tuple[Counter[str], list[str]]] = fuzzed(
        TRANSPORTS[name](server, subject), requests, subject.random
    )
    return await work


if __name__ == "__main__":
    raise SystemExit(main())
