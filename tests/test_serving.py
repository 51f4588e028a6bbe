"""The server as a whole: who may ask, what it counts, its start and its end."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

import tiny_bundle
import vertebra
from serving_client import (
    GOOD,
    Client,
    certificate,
    images,
    serving,
    tensor,
)
from vertebra import bundles
from vertebra.errors import BundleError, InvalidInputError, MissingRuntimeError, VertebraError

TOKEN = "a-token-of-many-characters"


# ------------------------------------------------------------------ who may ask


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421), ({"Host": "127.0.0.1"}, 200), ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8000"}, 200), ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:5", "Host": "localhost:5"}, 200),
    ],
)  # fmt: skip
def test_pages_of_other_sites_get_nothing(client: Client, headers: dict[str, str], status: int) -> None:
    assert client.ask("GET", "/v2", **headers)[0] == status


def test_tokens_hold_for_every_path_but_health(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# two\n{TOKEN}\nanother-long-token-123\n")
    file.chmod(0o600)
    with serving(bundle, token_file=file) as client:
        assert client.ask("GET", "/v2/health/ready")[0] == 200
        for path in ("/v2", "/metrics", "/v2/models/tiny", "/v2/models/none", "/nothing"):
            status, headers, _ = client.ask("GET", path)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
        for given in (TOKEN[:-1], TOKEN + "x", ""):
            assert client.ask("GET", "/v2", Authorization=f"Bearer {given}")[0] == 401
        assert client.ask("GET", "/v2", Authorization=f"bearer {TOKEN}")[0] == 200
        assert client.refused({"inputs": [GOOD]})[0] == 401
        client.infer({"inputs": [GOOD]}, Authorization="Bearer another-long-token-123")


# ------------------------------------------------------------------ counts


def test_statistics_metrics_and_the_client_count_the_same(bundle: Path) -> None:
    with serving(bundle, max_batch=4) as client:
        for count in (1, 3, 4, 9):
            client.infer({"inputs": [tensor(images(count))]})
        for _ in range(3):
            client.refused({"inputs": [GOOD | {"name": "x"}]})
        (stats,) = client.get("/v2/models/tiny/stats")["model_stats"]
        told = stats["inference_stats"]
        assert (told["success"]["count"], told["fail"]["count"], stats["inference_count"]) == (4, 3, 17)
        stages = ("queue", "compute_input", "compute_infer", "compute_output")
        assert {told[stage]["count"] for stage in stages} == {4}
        assert sum(told[stage]["ns"] for stage in stages) == told["success"]["ns"]
        sizes = {one["batch_size"]: one["compute_infer"]["count"] for one in stats["batch_stats"]}
        assert stats["execution_count"] == sum(sizes.values())
        assert sum(size * count for size, count in sizes.items()) == 17
        assert max(sizes) == 4
        text = client.ask("GET", "/metrics")[2].decode()
        model = '{model="tiny",version="1"'
        for line in (
            f"vertebra_requests_success_total{model}}} 4",
            f'vertebra_requests_failure_total{model},reason="invalid"}} 3',
            f"vertebra_images_total{model}}} 17",
            f"vertebra_batch_images_sum{model}}} 17",
            f"vertebra_request_seconds_count{model}}} 4",
            f"vertebra_queue_seconds_count{model}}} 4",
            f"vertebra_model_ready{model}}} 1.0",
        ):
            assert f"{line}\n" in text


def test_a_request_s_number_and_trace_come_back(client: Client) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    _, headers, _ = client.ask("GET", "/v2", X_Request_ID="abc-1", traceparent=trace)
    assert (headers["x-request-id"], headers["traceparent"]) == ("abc-1", trace)
    _, headers, _ = client.ask("GET", "/v2", X_Request_ID="a b", traceparent="00-" + "0" * 32)
    assert headers["x-request-id"] != "a b"
    assert "traceparent" not in headers


def test_what_is_assumed_or_untrained_is_said_with_every_answer(bundle: Path, tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path / "bare", weights=None, assumed=("labels",))
    with serving(bundle, tmp_path / "bare") as client:
        assert "parameters" not in client.infer({"inputs": [GOOD]})
        remarks = client.infer({"inputs": [GOOD]}, model="bare")["parameters"]
        assert remarks == {
            "untrained": "the network is untrained: its answers mean nothing",
            "assumed": "not stated by its maker, and assumed: labels",
        }
        assert client.get("/v2/models/bare/config")["parameters"]["assumed"] == {"string_value": "labels"}


# ------------------------------------------------------------------ start and end


def test_sigterm_answers_what_waits_and_ends_well(bundle: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "vertebra",
        "serve",
        str(bundle),
        "--port",
        "0",
        "--grpc-port",
        "0",
        "--log",
        "json",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        said = {}
        while "ready" not in said:
            one = json.loads(next(lines))
            said[one["event"]] = one
        assert said["loading"]["models"] == ["tiny"]
        assert (said["chosen"]["model"], said["chosen"]["processes"]) == ("tiny", 1)
        assert said["ready"]["grpc"].startswith("127.0.0.1:")
        port = int(said["ready"]["http"].rpartition(":")[2])
        (worker,) = [
            one
            for one in psutil.Process(process.pid).children()
            if "serving.worker" in " ".join(one.cmdline())
        ]
        worker.send_signal(signal.SIGSTOP)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(
            "POST", "/v2/models/tiny/infer", json.dumps({"inputs": [GOOD]}), {"X-Request-ID": "last"}
        )
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        stopping = json.loads(next(lines))
        assert (stopping["event"], stopping["waiting"]) == ("stopping", 1)
        worker.send_signal(signal.SIGCONT)
        assert connection.getresponse().status == 200
        connection.close()
        request, stopped = map(json.loads, lines)  # every line is JSON
        assert (request["request_id"], request["status"], request["images"]) == ("last", 200, 1)
        assert stopped["event"] == "stopped"
        assert process.wait(30) == 0
    assert not psutil.pid_exists(worker.pid)


def test_what_can_t_be_served_is_one_error_before_the_port_is_bound(bundle: Path, tmp_path: Path) -> None:
    wide = tmp_path / "tokens"
    wide.write_text(TOKEN)
    wide.chmod(0o640)
    short = tmp_path / "short"
    short.write_text("abc")
    short.chmod(0o600)
    tiny_bundle.make(tmp_path / "bare", preprocess=None)
    keys = [certificate(tmp_path, name) for name in ("one", "two")]
    cases: list[tuple[tuple[Any, ...], dict[str, Any], type[VertebraError], str]] = [
        ((), {}, InvalidInputError, "No Bundle was named"),
        ((tmp_path / "none",), {}, BundleError, "doesn't exist"),
        (("squeezenet1_1",), {}, BundleError, "is the name of a network, and no folder here"),
        ((bundle, f"tiny={bundle}"), {}, InvalidInputError, 'Two models have the name "tiny"'),
        ((f"a b={bundle}",), {}, InvalidInputError, "can't be the name of a model"),
        ((tmp_path / "bare",), {}, InvalidInputError, "doesn't record a preprocessing"),
        ((bundle,), {"engine": "mnn"}, VertebraError, "mnn"),
        ((bundle,), {"engine": "tensorrt"}, MissingRuntimeError, "needs"),
        ((bundle,), {"token_file": wide}, InvalidInputError, "its mode is 640"),
        ((bundle,), {"token_file": short}, InvalidInputError, "token of 3 characters"),
        ((bundle,), {"token_file": tmp_path / "gone"}, InvalidInputError, "can't be read"),
        ((bundle,), {"tls_cert": keys[0][0]}, InvalidInputError, "without --tls-key"),
        ((bundle,), {"tls_cert": keys[0][0], "tls_key": keys[1][1]}, InvalidInputError, "fit the key"),
        ((bundle,), {"tls_cert": wide, "tls_key": wide}, InvalidInputError, "can't be used with"),
        ((bundle,), {"max_batch": 0}, InvalidInputError, "max_batch is 0"),
        ((bundle,), {"timeout": "0"}, InvalidInputError, "timeout is 0"),
        ((bundle,), {"port": 8000, "brpc_port": 8000}, InvalidInputError, "--port and --brpc-port are both"),
        ((bundle,), {"host": "203.0.113.1"}, InvalidInputError, "203.0.113.1 isn't an address"),
    ]  # fmt: skip
    for served, options, kind, message in cases:
        with pytest.raises(kind, match=message):
            vertebra.serve(*served, **{"port": 0, "grpc": False, **options})
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InvalidInputError, match="another pr"),
    ):
        vertebra.serve(bundle, port=taken.getsockname()[1])


def test_native_code_is_never_served(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = replace(bundles.read(bundle), format="aotinductor")
    monkeypatch.setattr(bundles, "read", lambda folder, **_: native)
    for make in (vertebra.serve, vertebra.asgi):
        with pytest.raises(BundleError, match="holds native code"):
            make(bundle)


def test_tls(bundle: Path, tmp_path: Path) -> None:
    import ssl

    chain, key = certificate(tmp_path, "server")
    with serving(bundle, grpc=True, grpc_port=0, tls_cert=chain, tls_key=key) as client:
        trusted = grpc.ssl_channel_credentials(chain.read_bytes())
        with grpc.secure_channel(f"localhost:{client.server.grpc_port}", trusted) as channel:
            assert (
                channel.unary_unary("/inference.GRPCInferenceService/ServerReady")(b"", timeout=30)
                == b"\x08\x01"
            )
        context = ssl.create_default_context(cafile=str(chain))
        connection = http.client.HTTPSConnection("localhost", client.port, context=context, timeout=30)
        connection.request("POST", "/v2/models/tiny/infer", json.dumps({"inputs": [GOOD]}))
        assert connection.getresponse().status == 200
        connection.close()
        assert client.server.addresses.http == f"https://127.0.0.1:{client.port}"


def test_a_bundle_that_was_changed_isn_t_served(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path / "tiny")
    network = tmp_path / "tiny" / "model.onnx"
    content = bytearray(network.read_bytes())
    content[-3] ^= 1
    network.write_bytes(content)
    with pytest.raises(VertebraError, match="was changed after"), serving(tmp_path / "tiny"):
        pass
    assert os.listdir("/dev/shm") == [
        one for one in os.listdir("/dev/shm") if not one.startswith("vertebra-")
    ]


def test_a_missing_library_is_named_with_the_line_that_installs_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    with pytest.raises(MissingRuntimeError, match="needs uvicorn") as caught:
        vertebra.serve(bundle, port=0)
    assert caught.value.hint == 'install it with: pip install "vertebra[serve]"'


def test_a_server_that_isn_t_run_gives_its_ports_back(bundle: Path) -> None:
    server = vertebra.serve(bundle, port=0, grpc=False)
    server.close()
    vertebra.serve(bundle, port=server.port, grpc=False).close()
