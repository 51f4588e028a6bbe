"""Faults that hurt users of other servers, one test each: none may be ours.

What stands elsewhere: a process killed in a batch, overload, and a hung one (test_workers), the delay that
isn't the deadline, and the bound of the queue (test_batching), a long soak (test_workers).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import selectors
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

import tiny_bundle
import vertebra
from serving_client import (
    BINARY,
    GOOD,
    Client,
    binary,
    images,
    outputs,
    picture,
    png,
    serving,
    tensor,
    until,
    waiting,
)
from vertebra.inference.serving import batching, models, rpc
from vertebra.inference.serving.batching import Batcher, Item, Outcome
from vertebra.inference.serving.messages import open_inference
from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.tensors import READY, Row

# ------------------------------------------------------------------ deadlines, minute after minute


class Virtual(asyncio.SelectorEventLoop):
    """An event loop whose time passes only by waiting: ten minutes take as long as their work."""

    def __init__(self) -> None:
        self.now = 0.0
        loop = self

        class Jump(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                loop.now += timeout or 0.0
                return super().select(0)

        super().__init__(Jump())

    def time(self) -> float:
        return self.now


class Engine:
    """A runner that takes a set time for each call and each image."""

    def __init__(self, batcher: Batcher, loop: Virtual) -> None:
        self._batcher, self._loop = batcher, loop
        batcher.join(self)

    def run(self, batch: Sequence[Item]) -> None:
        ones = np.ones((len(batch), 1), np.float32)
        outcome = Outcome(ones, ones, ran=len(batch))
        self._loop.call_later(0.02 + 0.02 * len(batch), self._batcher.finished, self, outcome)

    def skip(self, place: int) -> None: ...


def test_ten_minutes_of_expiring_deadlines_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 70 % of what the engine can do, a fifth of the requests have no chance. Every minute is alike."""
    loop = Virtual()
    clock = SimpleNamespace(monotonic_ns=lambda: round(loop.now * 1e9))
    monkeypatch.setattr(batching, "time", clock)
    drawn = random.Random(1)
    minute = [(drawn.uniform(0, 59), drawn.random() < 0.2) for _ in range(1800)]
    found: list[Counter[str]] = [Counter() for _ in range(10)]

    async def ask(number: int, batcher: Batcher, is_hopeless: bool) -> None:
        begin = loop.now
        try:
            await batcher.answer([Row(READY, b"")], 0.03 if is_hopeless else 10, clock.monotonic_ns())
            found[number]["answered"] += 1
            found[number]["ms"] += round(1000 * (loop.now - begin))
        except Refusal as refusal:
            found[number][refusal.kind] += 1

    async def all_minutes() -> None:
        batcher = Batcher(most_images=8, most_bytes=100, delay_s=0.005, queue_images=64, ran=lambda *_: None)
        Engine(batcher, loop)
        for number in range(10):
            begin, tasks = 60.0 * number, []
            for due, is_hopeless in sorted(minute):
                await asyncio.sleep(begin + due - loop.now)
                tasks.append(loop.create_task(ask(number, batcher, is_hopeless)))
            await asyncio.gather(*tasks)
        await batcher.drained()
        assert (batcher.waiting, batcher.running, len(batcher._tickets)) == (0, 0, 0)

    loop.run_until_complete(all_minutes())
    loop.close()
    hopeless = sum(is_hopeless for _, is_hopeless in minute)
    assert found[0]["late"] == hopeless
    assert found[0]["answered"] == 1800 - hopeless
    assert all(abs(one["ms"] - found[0]["ms"]) < 0.01 * found[0]["ms"] for one in found)
    assert all((one["late"], one["answered"]) == (hopeless, 1800 - hopeless) for one in found)


# ------------------------------------------------------------------ clients that leave


def test_clients_that_leave_at_any_moment_cost_the_others_nothing(bundle: Path) -> None:
    body, headers = binary(images(1), "FP32")
    lines = (
        "POST /v2/models/tiny/infer HTTP/1.1", "Host: localhost", f"{BINARY}: {headers[BINARY]}",
        f"Content-Length: {len(body)}", "", "",
    )  # fmt: skip
    whole = "\r\n".join(lines).encode() + body
    drawn = random.Random(2)
    with serving(bundle) as client:
        files = psutil.Process().num_fds()
        for _ in range(150):
            with socket.create_connection(("127.0.0.1", client.port), timeout=20) as one:
                one.sendall(whole[: drawn.choice((len(whole), len(whole), drawn.randrange(len(whole))))])
                if drawn.random() < 0.7:
                    time.sleep(drawn.uniform(0, 0.003))
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        for _ in range(50):  # and then every honest request is answered
            connection.request("POST", "/v2/models/tiny/infer", body, headers)
            answer = connection.getresponse()
            assert (answer.status, len(answer.read()) > 0) == (200, True)
        connection.close()
        until(lambda: waiting(client) == 0)
        until(lambda: psutil.Process().num_fds() <= files)
        (stats,) = client.get("/v2/models/tiny/stats")["model_stats"]
        counts = {name: stats["inference_stats"][name]["count"] for name in ("success", "fail")}
        assert 50 <= counts["success"] <= sum(counts.values()) <= 200


def test_calls_that_are_cancelled_at_any_moment_cost_the_others_nothing(bundle: Path) -> None:
    messages, drawn = open_inference(), random.Random(3)
    asked, given = messages.methods[rpc.SERVICE]["ModelInfer"]
    request = asked(model_name="tiny")
    request.inputs.add(name="images", datatype="FP32", shape=[1, 3, tiny_bundle.SIZE, tiny_bundle.SIZE])
    request.raw_input_contents.append(images(1).tobytes())
    with (
        serving(bundle, grpc=True, grpc_port=0) as client,
        grpc.insecure_channel(client.server.addresses.grpc) as channel,
    ):
        path = f"/{rpc.SERVICE}/ModelInfer"
        method = channel.unary_unary(path, asked.SerializeToString, given.FromString)
        calls = []
        for _ in range(200):
            calls.append(method.future(request, timeout=30))
            if drawn.random() < 0.3:
                time.sleep(drawn.uniform(0, 0.003))
                calls[-1].cancel()
        codes = Counter(call.code().name for call in calls)
        assert set(codes) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}
        assert codes["OK"] > 0
        until(lambda: waiting(client) == 0)
        assert method(request, timeout=30).model_name == "tiny"
        (stats,) = client.get("/v2/models/tiny/stats")["model_stats"]
        success, fail = (stats["inference_stats"][name]["count"] for name in ("success", "fail"))
        # one that was cancelled may have been answered, or have never arrived
        assert codes["OK"] + 1 <= success <= codes["OK"] + codes["CANCELLED"] + 1
        assert success + fail <= 201


@pytest.mark.parametrize("sent", ["nothing", "a part", "a whole request"])
def test_a_half_closed_connection_counts_as_left_and_leaves_nothing(bundle: Path, sent: str) -> None:
    body, headers = binary(images(1), "FP32")
    head = f"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: localhost\r\n{BINARY}: {headers[BINARY]}\r\n"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    content = {"nothing": b"", "a part": whole[:-9], "a whole request": whole}[sent]
    with serving(bundle) as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        files = psutil.Process().num_fds()
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as half:
            half.sendall(content)
            until(lambda: waiting(client) == (sent == "a whole request"))
            half.shutdown(socket.SHUT_WR)
            assert half.recv(65536) == b""
        worker.send_signal(signal.SIGCONT)
        until(lambda: waiting(client) == 0)
        until(lambda: psutil.Process().num_fds() <= files)
        client.infer({"inputs": [GOOD]})


# ------------------------------------------------------------------ what shares a batch


def together(client: Client, *bodies: tuple[bytes, dict[str, str]]) -> list[tuple[int, Any]]:
    """The answers to requests that wait together behind another one, in their order."""
    (worker,) = client.workers()
    worker.send_signal(signal.SIGSTOP)
    found: dict[int, tuple[int, Any]] = {}

    def ask(number: int, body: bytes, headers: dict[str, str]) -> None:
        status, _, answer = client.ask("POST", "/v2/models/tiny/infer", body, **headers)
        found[number] = (status, json.loads(answer))

    first = (json.dumps({"inputs": [GOOD]}).encode(), dict[str, str]())
    asking = []
    ((entry),) = client.server.repository.entries()
    assert entry.model is not None
    requests = entry.model.batcher._tickets
    try:
        for number, (body, headers) in enumerate((first, *bodies)):
            asking.append(threading.Thread(target=ask, args=(number, body, headers)))
            asking[-1].start()
            until(lambda number=number: len(requests) == number + 1)
    finally:
        worker.send_signal(signal.SIGCONT)
    for thread in asking:
        thread.join(60)
    return [found[number] for number in range(1, len(asking))]


def test_one_poisoned_request_among_good_ones_harms_only_itself(bundle: Path) -> None:
    with serving(bundle) as client:
        (worker,) = client.workers()
        bad = [b"no picture", b"", png(picture(1))[:60]]
        good = [binary(images(1, seed), "FP32") for seed in (1, 2)]
        answers = together(client, good[0], *(binary([one], "BYTES") for one in bad), good[1])
        assert [status for status, _ in answers] == [200, 400, 400, 400, 200]
        for seed, (_, answer) in ((1, answers[0]), (2, answers[-1])):
            expected = tiny_bundle.logits(images(1, seed))
            np.testing.assert_allclose(outputs(answer)["logits"], expected, atol=2e-6)
        assert client.workers() == [worker]


def test_pictures_of_different_shapes_share_a_batch_and_are_never_mixed(bundle: Path) -> None:
    sizes = [(20, 30), (64, 17), (16, 16), (300, 40)]
    pixels = [picture(number, *size) for number, size in enumerate(sizes)]
    with serving(bundle) as client:
        bodies = [binary(one[None], "UINT8") for one in pixels]
        answers = together(client, *bodies, binary([png(pixels[0])], "BYTES"), binary(images(1), "FP32"))
        found = [outputs(answer) for _, answer in answers]
        expected = vertebra.predict(*pixels, pixels[0], model=bundle, top=4)
        for one, known in zip(found, expected, strict=False):
            shares = [one["probabilities"][0][entry.index] for entry in known.top]
            np.testing.assert_allclose(shares, [entry.probability for entry in known.top], atol=1e-6)
        np.testing.assert_allclose(found[-1]["logits"], tiny_bundle.logits(images(1)), atol=2e-6)
        (stats,) = client.get("/v2/models/tiny/stats")["model_stats"]
        assert [one["batch_size"] for one in stats["batch_stats"]] == [1, 6]


def test_no_call_of_the_engine_has_more_images_than_allowed_whatever_requests_have(bundle: Path) -> None:
    with serving(bundle, max_batch=5) as client:
        counts = [1, 40, 3, 7, 12]
        answers = together(client, *(binary(images(count, count), "FP32") for count in counts))
        for count, (status, answer) in zip(counts, answers, strict=True):
            assert status == 200
            expected = tiny_bundle.logits(images(count, count))
            np.testing.assert_allclose(outputs(answer)["logits"], expected, atol=2e-6)
        (stats,) = client.get("/v2/models/tiny/stats")["model_stats"]
        sizes = {one["batch_size"]: one["compute_infer"]["count"] for one in stats["batch_stats"]}
        assert (max(sizes), sum(size * calls for size, calls in sizes.items())) == (5, sum(counts) + 1)


# ------------------------------------------------------------------ readiness


def test_ready_turns_false_while_the_engine_answers_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundle.make(tmp_path / "tiny")
    monkeypatch.setattr(models, "CANARY_S", 0.1)
    with serving(tmp_path / "tiny") as client:

        def ready() -> bool:
            return client.ask("GET", "/v2/health/ready")[0] == 200

        assert ready()
        reference = tmp_path / "tiny" / "reference.npz"
        content = reference.read_bytes()
        with np.load(reference) as kept:
            np.savez(reference, logits=kept["logits"] + 1)
        until(lambda: not ready())
        assert client.ask("GET", "/v2/health/live")[0] == 200
        index = json.loads(client.ask("POST", "/v2/repository/index")[2])
        assert [one["state"] for one in index] == ["UNAVAILABLE"]
        short = {"inputs": [tensor(images(1))], "parameters": {"timeout": 100_000}}
        assert client.refused(short)[0] == 504
        reference.write_bytes(content)
        until(ready)
        client.infer({"inputs": [GOOD]})
