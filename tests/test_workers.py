"""The processes that hold an engine: killed, hung, overloaded, reloaded; each request is answered once."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import tiny_bundle
from serving_client import (
    BINARY,
    GOOD,
    binary,
    images,
    outputs,
    serving,
    tensor,
    until,
    waiting,
)
from vertebra.inference import loading
from vertebra.inference.serving.worker import Engine


def test_a_killed_process_is_replaced_and_its_request_answered(bundle: Path) -> None:
    with serving(bundle) as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        answers: list[Any] = []
        asking = [
            threading.Thread(
                target=lambda n=n: answers.append((n, client.infer({"inputs": [tensor(images(1, n))]})))
            )
            for n in range(6)
        ]
        for thread in asking:
            thread.start()
        until(lambda: waiting(client) == 6)
        worker.kill()
        for thread in asking:
            thread.join(60)
        assert sorted(number for number, _ in answers) == list(range(6))
        for number, answer in answers:
            np.testing.assert_allclose(
                outputs(answer)["logits"], tiny_bundle.logits(images(1, number)), atol=2e-6
            )
        (successor,) = client.workers()
        assert successor.pid != worker.pid
        assert (
            'vertebra_workers_lost_total{model="tiny",version="1"} 1\n'
            in client.ask("GET", "/metrics")[2].decode()
        )


def test_a_hung_process_is_replaced_and_its_request_answered(bundle: Path) -> None:
    with serving(bundle, hang="0.5s") as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        client.infer({"inputs": [GOOD]})  # by its successor
        assert client.ask("GET", "/v2/health/ready")[0] == 200
        assert not psutil.pid_exists(worker.pid)


def test_a_free_process_that_fails_its_canary_is_replaced(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vertebra.inference.serving import models

    monkeypatch.setattr(models, "CANARY_S", 0.1)
    with serving(bundle, hang="0.3s") as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        until(lambda: client.ask("GET", "/v2/models/tiny/ready")[0] == 400)
        until(lambda: client.ask("GET", "/v2/models/tiny/ready")[0] == 200)
        assert not psutil.pid_exists(worker.pid)
        client.infer({"inputs": [GOOD]})


def test_a_full_queue_refuses_with_retry_after_and_recovers(bundle: Path) -> None:
    with serving(bundle, queue=2, max_batch=1) as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(client.ask("POST", "/v2/models/tiny/infer", {"inputs": [GOOD]})[0])

        asking = [threading.Thread(target=ask) for _ in range(5)]
        for number, thread in enumerate(asking, 1):
            thread.start()
            until(lambda number=number: waiting(client) + len(statuses) == number)
        status, headers, _ = client.ask("POST", "/v2/models/tiny/infer", {"inputs": [GOOD]})
        assert (status, headers["retry-after"]) == (429, "1")
        worker.send_signal(signal.SIGCONT)
        for thread in asking:
            thread.join(60)
        assert sorted(statuses) == [200, 200, 200, 429, 429]
        client.infer({"inputs": [GOOD]})


def test_a_deadline_ends_a_request_in_the_queue_and_in_the_process(bundle: Path) -> None:
    with serving(bundle, timeout="0.2s") as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        assert client.refused({"inputs": [GOOD]})[0] == 504
        sooner = {"inputs": [GOOD], "parameters": {"timeout": 1000}}
        assert client.refused(sooner) == (504, "no answer within the deadline of 0.001 s")
        assert waiting(client) == 1  # what the process has; nothing waits
        worker.send_signal(signal.SIGCONT)
        until(lambda: waiting(client) == 0)
        client.infer({"inputs": [GOOD]})


def test_a_client_that_leaves_leaves_nothing(bundle: Path) -> None:
    with serving(bundle, max_batch=1) as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        body, headers = binary(images(1), "FP32")
        lines = (
            "POST /v2/models/tiny/infer HTTP/1.1", "Host: localhost", f"{BINARY}: {headers[BINARY]}",
            f"Content-Length: {len(body)}", "", "",
        )  # fmt: skip
        sockets = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(4)]
        for one in sockets:
            one.sendall("\r\n".join(lines).encode() + body)
        until(lambda: waiting(client) == 4)
        for one in sockets:
            one.close()
        until(lambda: waiting(client) == 1)
        worker.send_signal(signal.SIGCONT)
        until(lambda: waiting(client) == 0)
        client.infer({"inputs": [GOOD]})
        (stats,) = client.get("/v2/models/tiny/stats")["model_stats"]
        assert (stats["inference_stats"]["fail"]["count"], stats["inference_count"]) == (4, 1)


def test_models_are_unloaded_and_loaded_without_losing_a_request(bundle: Path) -> None:
    with serving(bundle, manage=True) as client:
        (before,) = client.workers()
        stop, failures = threading.Event(), []

        def ask() -> None:
            while not stop.is_set():
                status, _, body = client.ask("POST", "/v2/models/tiny/infer", {"inputs": [GOOD]})
                if status != 200:
                    failures.append((status, body))

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        assert client.ask("POST", "/v2/repository/models/tiny/load")[::2] == (200, b"{}")
        stop.set()
        for thread in asking:
            thread.join()
        assert failures == []
        until(lambda: not psutil.pid_exists(before.pid))
        assert (
            client.ask(
                "POST", "/v2/repository/models/tiny/unload", {"parameters": {"unload_dependents": True}}
            )[0]
            == 200
        )
        index = [{"name": "tiny", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}]
        assert json.loads(client.ask("POST", "/v2/repository/index")[2]) == index
        assert json.loads(client.ask("POST", "/v2/repository/index", {"ready": True})[2]) == []
        assert client.refused({"inputs": [GOOD]})[0] == 503
        assert client.ask("GET", "/v2/health/ready")[0] == 400
        status, _, body = client.ask(
            "POST", "/v2/repository/models/tiny/load", {"parameters": {"file:1/model.onnx": "AAAA"}}
        )
        assert (status, "takes no 'file:1/model.onnx'" in json.loads(body)["error"]) == (400, True)
        assert client.ask("POST", "/v2/repository/models/tiny/load")[0] == 200
        client.infer({"inputs": [GOOD]})


def test_a_reload_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    tiny_bundle.make(folder)
    with serving(folder, manage=True) as client:
        network = folder / "model.onnx"
        content = network.read_bytes()
        network.write_bytes(content[:-3] + bytes(3))
        status, _, body = client.ask("POST", "/v2/repository/models/tiny/load")
        assert (status, "the server's log says why" in json.loads(body)["error"]) == (400, True)
        client.infer({"inputs": [GOOD]})
        assert client.ask("GET", "/v2/health/ready")[0] == 200
        network.write_bytes(content)
        assert client.ask("POST", "/v2/repository/models/tiny/load")[0] == 200


def test_without_batching_answers_are_those_of_the_engine_to_the_bit(bundle: Path) -> None:
    values = images(6)
    with loading.load(bundle, threads=1) as loaded:
        expected = np.concatenate([loaded.logits(one[None]) for one in values])
    with serving(bundle, max_batch=1, threads=1) as client:
        body, headers = binary(values, "FP32", parameters={"binary_data_output": True})
        _, found, answer = client.ask("POST", "/v2/models/tiny/infer", body, **headers)
        logits = np.frombuffer(answer[int(found[BINARY.lower()]) :], "<f4").reshape(2, 6, 4)[1]
    assert np.array_equal(logits, expected)


def test_a_process_that_can_t_be_made_again_is_tried_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    tiny_bundle.make(folder)
    with serving(folder) as client:
        (worker,) = client.workers()
        network = folder / "model.onnx"
        content = network.read_bytes()
        network.write_bytes(content[:-3] + bytes(3))
        worker.kill()
        # a process that is free is looked at from time to time; a request finds at once that it is lost
        short = {"inputs": [GOOD], "parameters": {"timeout": 500_000}}
        assert client.refused(short)[0] == 504
        until(lambda: client.ask("GET", "/v2/health/ready")[0] == 400)
        network.write_bytes(content)
        until(lambda: client.ask("GET", "/v2/health/ready")[0] == 200)
        client.infer({"inputs": [GOOD]})


def test_images_that_can_t_be_passed_on_are_an_error_and_the_process_goes_on(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(bundle) as client:
        with monkeypatch.context() as broken:
            broken.setattr("vertebra.inference.serving.workers.aligned", lambda size: 1 / 0)
            assert client.refused({"inputs": [GOOD]})[0] == 500
        client.infer({"inputs": [GOOD]})


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_that_wait_leave_the_cores_to_others(
    bundle: Path, given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    with serving(bundle) as client:
        (worker,) = client.workers()
        assert worker.environ()["OMP_WAIT_POLICY"] == (given or "PASSIVE")


def test_the_engine_s_threads_don_t_spin_in_a_process(bundle: Path) -> None:
    engine = Engine(str(bundle), engine="onnxruntime", threads=2, most_images=2)
    assert engine.loaded.settings.spins is False


def test_an_engine_of_one_batch_size_has_a_network_for_each_of_a_few(bundle: Path) -> None:
    with serving(bundle, engine="openvino", max_batch=5) as client:
        for count in (1, 3, 5, 7):
            found = outputs(client.infer({"inputs": [tensor(images(count))]}))["logits"]
            np.testing.assert_allclose(found, tiny_bundle.logits(images(count)), atol=2e-6)


def test_a_bundle_of_one_batch_size_is_served_too(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path / "three", batch=3)
    with serving(tmp_path / "three") as client:
        assert client.get("/v2/models/three/config")["max_batch_size"] == 3
        values = images(4)
        found = outputs(client.infer({"inputs": [tensor(values)]}, model="three"))["logits"]
        np.testing.assert_allclose(found, tiny_bundle.logits(values), atol=2e-6)


# ------------------------------------------------------------------ clients


def test_a_body_or_a_head_that_doesn_t_arrive_ends_in_time(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vertebra.inference.serving.app.BODY_S", 0.3)
    monkeypatch.setattr("vertebra.inference.serving.connections.HEAD_S", 0.3)
    with serving(bundle) as client:
        address = ("127.0.0.1", client.port)
        head = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
        with socket.create_connection(address, timeout=20) as slow:
            slow.sendall(head)
            assert slow.recv(65536).startswith(b"HTTP/1.1 408")
        with socket.create_connection(address, timeout=20) as wide:
            with contextlib.suppress(ConnectionError):
                for _ in range(2000):
                    wide.sendall(b"POST /v2 HTTP/1.1\r\n" + b"a: b\r\n" * 1000)
            with contextlib.suppress(ConnectionError):
                assert b"200" not in wide.recv(65536)
        for content in (b"", head[:30]):
            with socket.create_connection(address, timeout=20) as slow:
                slow.sendall(content)
                assert slow.recv(65536) == b""
        with socket.create_connection(address, timeout=20) as kept:  # idle between two requests: stays open
            for _ in range(2):
                kept.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert kept.recv(65536).startswith(b"HTTP/1.1 200")
                time.sleep(0.5)


@pytest.mark.parametrize(("host", "status"), [("a.b", b"421"), ("localhost", b"413")])
def test_a_refused_body_isn_t_read(bundle: Path, host: str, status: bytes) -> None:
    lines = ("POST /v2/models/tiny/infer HTTP/1.1", f"Host: {host}", "Content-Length: 9999999999", "", "")
    with serving(bundle) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as wide:
            wide.sendall("\r\n".join(lines).encode())
            assert wide.recv(65536).startswith(b"HTTP/1.1 " + status)
        client.infer({"inputs": [GOOD]})


def test_a_soak_loses_doubles_and_spoils_nothing(bundle: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "serving_soak.py"
    command = [sys.executable, str(script), str(bundle), "--requests", "1500", "--kills", "3"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    counts = {
        name: int(count) for name, _, count in (line.partition(": ") for line in ran.stdout.splitlines())
    }
    assert counts["killed"] == 3
    assert counts["success"] + counts["fail"] <= 1500
    assert counts["right"] + counts["left"] == 1500


@pytest.mark.slow
@pytest.mark.parametrize("part", ["http", "grpc", "brpc", "counts"])
def test_broken_requests_do_no_harm_and_counts_agree(bundle: Path, part: str) -> None:
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "serving_fuzz.py"
    command = [sys.executable, str(script), str(bundle), "--requests", "1000", "--only", part]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{part}: 1000 requests, 0 faults" in ran.stdout
