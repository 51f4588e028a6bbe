"""The Open Inference Protocol over gRPC: the same answers as over HTTP, and its own errors."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import tiny_bundle
import vertebra
from serving_client import Client, images, picture, png, serving, until, waiting
from vertebra.errors import InvalidInputError
from vertebra.inference.serving import rpc
from vertebra.inference.serving.messages import open_inference

MESSAGES = open_inference()
TOKEN = "a-token-of-many-characters"


class Stub:
    """A client by hand: each method by its name."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def call(self, name: str, /, *, metadata: Any = None, timeout: float = 30, **values: Any) -> Any:
        asked, given = MESSAGES.methods[rpc.SERVICE][name]
        path = f"/{rpc.SERVICE}/{name}"
        method = self.channel.unary_unary(path, asked.SerializeToString, given.FromString)
        request = values.pop("request", None) or asked(**values)
        return method(request, timeout=timeout, metadata=metadata)

    def refused(self, name: str, /, **values: Any) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(name, **values)
        return caught.value.code().name, caught.value.details()


def request(
    values: np.ndarray | list[bytes], datatype: str = "FP32", *, raw: bool = True, **more: Any
) -> Any:
    made = MESSAGES["ModelInferRequest"](model_name="tiny", **more)
    if isinstance(values, list):
        given = made.inputs.add(name="images", datatype="BYTES", shape=[len(values)])
        given.contents.bytes_contents.extend(values)
        return made
    given = made.inputs.add(name="images", datatype=datatype, shape=values.shape)
    if raw:
        made.raw_input_contents.append(values.tobytes())
    elif datatype == "FP32":
        given.contents.fp32_contents.extend(values.ravel().tolist())
    elif datatype == "UINT8":
        given.contents.uint_contents.extend(values.ravel().tolist())
    return made


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[Client]:
    with serving(bundle, grpc=True, grpc_port=0, max_body="1MB", queue=40) as one:
        yield one


@pytest.fixture
def stub(client: Client) -> Iterator[Stub]:
    with grpc.insecure_channel(client.server.addresses.grpc) as channel:
        yield Stub(channel)


def test_what_is_there_is_the_same_as_over_http(stub: Stub, client: Client) -> None:
    from google.protobuf import json_format

    assert stub.call("ServerLive").live
    assert stub.call("ServerReady").ready
    assert stub.call("ModelReady", name="tiny").ready
    for name, path, values in (
        ("ServerMetadata", "/v2", {}),
        ("ModelMetadata", "/v2/models/tiny", {"name": "tiny"}),
        ("ModelStatistics", "/v2/models/tiny/stats", {"name": "tiny", "version": "1"}),
    ):
        told = stub.call(name, **values)
        assert told == json_format.ParseDict(client.get(path), type(told)())
    config = stub.call("ModelConfig", name="tiny").config
    assert config == json_format.ParseDict(client.get("/v2/models/tiny/config"), type(config)())
    assert [(one.name, one.state) for one in stub.call("RepositoryIndex").models] == [("tiny", "READY")]


@pytest.mark.parametrize("raw", [True, False])
def test_tensors_are_answered(stub: Stub, raw: bool) -> None:
    values = images(3)
    answer = stub.call("ModelInfer", request=request(values, raw=raw, id="seven"))
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "seven")
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [
        ("probabilities", "FP32", [3, 4]), ("logits", "FP32", [3, 4]),
    ]  # fmt: skip
    found = np.frombuffer(answer.raw_output_contents[1], "<f4").reshape(3, 4)
    np.testing.assert_allclose(found, tiny_bundle.logits(values), atol=2e-6)


def test_pictures_are_answered_as_predict_answers_them(stub: Stub, bundle: Path) -> None:
    encoded = [png(picture(seed)) for seed in range(3)]
    asked = request(encoded)
    asked.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    answer = stub.call("ModelInfer", request=asked)
    assert list(answer.outputs[0].shape) == [3, 2]
    lines = rpc.tensors._elements(answer.raw_output_contents[0])
    found = [(int(index), name) for _, index, name in (line.decode().split(":", 2) for line in lines)]
    expected = vertebra.predict(*encoded, model=bundle, top=2)
    assert found == [(one.index, one.name) for each in expected for one in each.top]
    pixels = picture(5)[None]
    for raw in (True, False):
        answer = stub.call("ModelInfer", request=request(pixels, "UINT8", raw=raw))
        (expected_one,) = vertebra.predict(pixels[0], model=bundle, top=1)
        shares = np.frombuffer(answer.raw_output_contents[0], "<f4")
        assert abs(float(shares.max()) - expected_one.top[0].probability) < 1e-6


def two_inputs() -> Any:
    made = request(images(1))
    made.inputs.add(name="more")
    return made


def with_parameter(name: str, value: int) -> Any:
    made = request(images(1))
    made.parameters[name].int64_param = value
    return made


def with_both() -> Any:
    made = request(images(1))
    made.inputs[0].contents.fp32_contents.append(1)
    return made


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda: MESSAGES["ModelInferRequest"](model_name="none"), "NOT_FOUND", "unknown model"),
        (lambda: MESSAGES["ModelInferRequest"](model_name="tiny"), "INVALID_ARGUMENT", "got 0"),
        (two_inputs, "INVALID_ARGUMENT", "expected 1 input, 'images', but got 2"),
        (with_both, "INVALID_ARGUMENT", "no contents"),
        (lambda: request(images(1)[:, :, :4]), "INVALID_ARGUMENT", "got [1, 3, 4, 16]"),
        (lambda: request(images(1).astype("f2"), "FP16", raw=False), "INVALID_ARGUMENT", "raw_input"),
        (lambda: request(np.full((1, 3, 16, 16), 256), "UINT8", raw=False), "INVALID_ARGUMENT", "0 to 255"),
        (lambda: request([b"no picture"]), "INVALID_ARGUMENT", "not a JPEG"),
        (lambda: request([bytes(1_100_000)]), "RESOURCE_EXHAUSTED", "larger than max"),
        (lambda: with_parameter("sequence_id", 3), "UNIMPLEMENTED", "no sequences"),
        (lambda: with_parameter("timeout", 1), "DEADLINE_EXCEEDED", "deadline of 1e-06 s"),
    ],
)  # fmt: skip
def test_a_request_that_can_t_be_answered_is_refused_with_the_reason(
    stub: Stub, make: Any, code: str, message: str
) -> None:
    found, said = stub.refused("ModelInfer", request=make())
    assert (found, message in said) == (code, True), said
    stub.call("ModelInfer", request=request(images(1)))


def test_requests_changed_at_random_get_the_protocol_s_answers(stub: Stub) -> None:
    random = np.random.default_rng(5)
    method = stub.channel.unary_unary(f"/{rpc.SERVICE}/ModelInfer")
    seeds = [
        request(images(1)).SerializeToString(), request([png(picture(1))]).SerializeToString(),
        request(picture(1)[None], "UINT8", raw=False).SerializeToString(),
    ]  # fmt: skip
    codes = set()
    for number in range(300):
        changed = bytearray(seeds[number % 3])
        for _ in range(int(random.integers(1, 4))):
            place, kind = int(random.integers(min(len(changed), 80))), int(random.integers(3))
            if kind == 0:
                changed[place] = int(random.integers(256))
            elif kind == 1:
                del changed[place : place + int(random.integers(1, 10))]
            else:
                changed[place:place] = bytes(random.integers(0, 256, 3, np.uint8))
        call = method.future(bytes(changed), timeout=30)
        codes.add(call.code().name)
    assert codes == {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}


def test_other_extensions_are_refused(stub: Stub) -> None:
    for name, what in rpc._UNSUPPORTED.items():
        path = f"/{rpc.SERVICE}/{name}"
        if "Stream" in name:
            answer = stub.channel.stream_stream(path)(iter([b""]), timeout=30)
        else:
            answer = stub.channel.unary_unary(path).future(b"", timeout=30)
        said = (answer.code().name, answer.details())
        assert said == ("UNIMPLEMENTED", f"this server has no {what}")
    code, _ = stub.refused("RepositoryModelLoad", model_name="tiny")
    assert code == "PERMISSION_DENIED"


def test_calls_that_are_cancelled_or_late_leave_nothing(bundle: Path) -> None:
    with serving(bundle, grpc=True, grpc_port=0, max_batch=1) as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        with grpc.insecure_channel(client.server.addresses.grpc) as channel:
            stub = Stub(channel)
            asked, given = MESSAGES.methods[rpc.SERVICE]["ModelInfer"]
            method = channel.unary_unary(
                f"/{rpc.SERVICE}/ModelInfer", asked.SerializeToString, given.FromString
            )
            calls = [method.future(request(images(1))) for _ in range(3)]
            until(lambda: waiting(client) == 3)
            for call in calls:
                call.cancel()
            until(lambda: waiting(client) == 1)
            assert (
                stub.refused("ModelInfer", request=request(images(1)), timeout=0.2)[0] == "DEADLINE_EXCEEDED"
            )
            until(lambda: waiting(client) == 1)
            worker.send_signal(signal.SIGCONT)
            until(lambda: waiting(client) == 0)
            stub.call("ModelInfer", request=request(images(1)))
            (stats,) = stub.call("ModelStatistics", name="tiny").model_stats
            assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (1, 4)


def test_compressed_messages_are_answered_and_bounded_as_they_are_inflated(client: Client) -> None:
    address = client.server.addresses.grpc
    with grpc.insecure_channel(address, compression=grpc.Compression.Gzip) as channel:
        stub = Stub(channel)
        answer = stub.call("ModelInfer", request=request(images(2)))
        found = np.frombuffer(answer.raw_output_contents[1], "<f4").reshape(2, 4)
        np.testing.assert_allclose(found, tiny_bundle.logits(images(2)), atol=2e-6)
        bomb = request([bytes(50_000_000)])  # 50 kB on the wire
        assert stub.refused("ModelInfer", request=bomb)[0] == "RESOURCE_EXHAUSTED"


def test_a_full_server_says_when_to_ask_again(bundle: Path) -> None:
    with serving(bundle, grpc=True, grpc_port=0, max_batch=1, queue=1) as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        with grpc.insecure_channel(client.server.addresses.grpc) as channel:
            asked, given = MESSAGES.methods[rpc.SERVICE]["ModelInfer"]
            path = f"/{rpc.SERVICE}/ModelInfer"
            method = channel.unary_unary(path, asked.SerializeToString, given.FromString)
            calls = []
            for number in range(2):  # one runs, one waits
                calls.append(method.future(request(images(1)), timeout=30))
                until(lambda number=number: waiting(client) == number + 1)
            refused = method.future(request(images(1)), timeout=30)
            assert refused.code().name == "RESOURCE_EXHAUSTED"
            said = dict(refused.trailing_metadata())
            assert (said["retry-after"], said["grpc-retry-pushback-ms"]) == ("1", "1000")
            assert len(said["x-request-id"]) == 16
            worker.send_signal(signal.SIGCONT)
            assert [call.result().model_name for call in calls] == ["tiny", "tiny"]


def test_what_requests_hold_together_is_bounded(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vertebra.inference.serving.server.max_held", lambda _: 10_000)
    with (
        serving(bundle, grpc=True, grpc_port=0) as client,
        grpc.insecure_channel(client.server.addresses.grpc) as channel,
    ):
        stub = Stub(channel)
        code, said = stub.refused("ModelInfer", request=request(images(4)))
        assert (code, "all the memory that bodies may take" in said) == ("RESOURCE_EXHAUSTED", True)
        for _ in range(5):  # what was held is given back
            stub.call("ModelInfer", request=request(images(2)))


def test_tokens_hold_for_every_method_but_health(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    file.chmod(0o600)
    with (
        serving(bundle, grpc=True, grpc_port=0, token_file=file) as client,
        grpc.insecure_channel(client.server.addresses.grpc) as channel,
    ):
        stub = Stub(channel)
        assert stub.call("ServerReady").ready
        for name in set(MESSAGES.methods[rpc.SERVICE]) - {"ServerLive", "ServerReady"}:
            assert stub.refused(name)[0] == "UNAUTHENTICATED"
        known = [("authorization", f"Bearer {TOKEN}"), ("x-request-id", "abc")]
        assert stub.call("ModelReady", name="tiny", metadata=known).ready


def test_a_taken_port_is_said_at_once(bundle: Path, client: Client) -> None:
    with pytest.raises(InvalidInputError, match="another program uses it") as caught:
        vertebra.serve(bundle, port=0, grpc_port=client.server.grpc_port)
    assert "--grpc-port" in str(caught.value.hint)
