"""The Open Inference Protocol over HTTP, against answers worked out by hand and by `vertebra predict`."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import io
import json
import re
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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
    tensor,
)
from vertebra.inference import prediction
from vertebra.inference.serving import door, protocol

# ------------------------------------------------------------------ what is there


def test_health_and_metadata(client: Client) -> None:
    for path, said in {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/tiny/ready": {"name": "tiny", "ready": True},
        "/v2/models/tiny/versions/2/ready": {"name": "tiny", "ready": True},
    }.items():
        assert client.get(path) == said
    about = client.get("/v2")
    assert (about["name"], about["version"]) == ("vertebra", vertebra.__version__)
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(about["extensions"])
    size = tiny_bundle.SIZE
    assert client.get("/v2/models/tiny") == {
        "name": "tiny", "versions": ["1", "2"], "platform": "onnx_onnxruntime",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 3, size, size]}],
        "outputs": [
            {"name": name, "datatype": "FP32", "shape": [-1, 4]} for name in ("probabilities", "logits")
        ],
    }  # fmt: skip
    config = client.get("/v2/models/tiny/versions/1/config")
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (8, [3, size, size])
    assert config["input"][0]["data_type"] == "TYPE_FP32"


# ------------------------------------------------------------------ inference


def test_every_way_to_send_a_tensor_gives_the_same_answer(client: Client) -> None:
    values = images(3)
    expected = tiny_bundle.logits(values)
    half = values.astype(np.float16)
    flat = {**tensor(values), "data": values.ravel().tolist()}
    found = [
        (client.infer({"inputs": [tensor(values)]}), expected),
        (client.infer({"inputs": [flat]}), expected),
        (client.infer(binary(values, "FP32")[0], **binary(values, "FP32")[1]), expected),
        (client.infer({"inputs": [tensor(half, "FP16")]}), tiny_bundle.logits(half.astype(np.float32))),
        (
            client.infer(binary(half, "FP16")[0], **binary(half, "FP16")[1]),
            tiny_bundle.logits(half.astype(np.float32)),
        ),
    ]
    for answer, logits in found:
        given = outputs(answer)
        np.testing.assert_allclose(given["logits"], logits, atol=2e-6)
        np.testing.assert_allclose(
            given["probabilities"], prediction.probabilities(given["logits"]), atol=1e-7
        )
        assert (answer["model_name"], answer["model_version"]) == ("tiny", "2")


def test_an_answer_may_be_binary_and_has_the_request_s_id(client: Client) -> None:
    values = images(2)
    body, headers = binary(
        values, "FP32", id="seven", outputs=[{"name": "logits", "parameters": {"binary_data": True}}]
    )
    status, found, answer = client.ask("POST", "/v2/models/tiny/versions/1/infer", body, **headers)
    length = int(found[BINARY.lower()])
    head = json.loads(answer[:length])
    assert (status, head["id"], head["model_version"]) == (200, "seven", "1")
    assert head["outputs"] == [
        {"name": "logits", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": 32}}
    ]
    np.testing.assert_allclose(
        np.frombuffer(answer[length:], "<f4").reshape(2, 4), tiny_bundle.logits(values), atol=2e-6
    )
    body, headers = binary(values, "FP32", parameters={"binary_data_output": True})
    status, found, answer = client.ask("POST", "/v2/models/tiny/infer", body, **headers)
    assert len(answer) == int(found[BINARY.lower()]) + 2 * 32


def test_pictures_are_answered_as_predict_answers_them(client: Client, bundle: Path) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(9, 40, 24)).save(turned, "jpeg", exif=exif)
    encoded = [png(picture(seed)) for seed in range(4)] + [turned.getvalue()]
    body, headers = binary(
        encoded, "BYTES", outputs=[{"name": "probabilities", "parameters": {"classification": 4}}]
    )
    answer = client.infer(body, **headers)["outputs"][0]
    assert (answer["datatype"], answer["shape"]) == ("BYTES", [5, 4])
    lines = [line.split(":", 2) for line in answer["data"]]
    expected = [one for found in vertebra.predict(*encoded, model=bundle) for one in found.top]
    assert [(int(index), name) for _, index, name in lines] == [(one.index, one.name) for one in expected]
    np.testing.assert_allclose(
        [float(value) for value, *_ in lines], [one.probability for one in expected], atol=1e-6
    )
    in_json = {**tensor(np.zeros(5), "BYTES"), "data": [base64.b64encode(one).decode() for one in encoded]}
    again = client.infer(
        {"inputs": [in_json], "outputs": [{"name": "probabilities", "parameters": {"classification": 4}}]}
    )
    assert again["outputs"][0]["data"] == answer["data"]


def test_a_tensor_that_gives_no_numbers_is_answered_where_the_answer_can_say_so(client: Client) -> None:
    values = images(2)
    values[1, 0, 0, 0] = np.nan
    body, headers = binary(values, "FP32", parameters={"binary_data_output": True})
    _, found, answer = client.ask("POST", "/v2/models/tiny/infer", body, **headers)
    logits = np.frombuffer(answer[int(found[BINARY.lower()]) :], "<f4").reshape(2, 2, 4)[1]
    np.testing.assert_allclose(logits[0], tiny_bundle.logits(values[:1])[0], atol=2e-6)
    assert np.isnan(logits[1]).all()
    status, error = client.refused(binary(values, "FP32")[0], **binary(values, "FP32")[1])
    assert (status, "JSON can't hold" in error) == (400, True)
    best = [{"name": "logits", "parameters": {"classification": 1}}]
    body, headers = binary(values, "FP32", outputs=best)
    assert "an order can't hold" in client.refused(body, **headers)[1]


def test_pixels_are_preprocessed_or_only_normalised(client: Client, bundle: Path) -> None:
    pixels = picture(3)[None]
    body, headers = binary(pixels, "UINT8")
    found = outputs(client.infer(body, **headers))["probabilities"][0]
    (expected,) = vertebra.predict(pixels[0], model=bundle, top=4)
    np.testing.assert_allclose(
        [found[one.index] for one in expected.top], [one.probability for one in expected.top], atol=1e-6
    )
    planes = picture(4, tiny_bundle.SIZE, tiny_bundle.SIZE).transpose(2, 0, 1)[None]
    mean, std = (np.reshape(one, (3, 1, 1)) for one in (tiny_bundle.RECORD.mean, tiny_bundle.RECORD.std))
    logits = tiny_bundle.logits(((planes / 255 - mean) / std).astype(np.float32))
    found = outputs(client.infer({"inputs": [tensor(planes, "UINT8")]}))["logits"]
    np.testing.assert_allclose(found, logits, atol=1e-5)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("x-gzip", lambda one: gzip.compress(one[:99]) + gzip.compress(one[99:])),
    ],
)
def test_bodies_may_be_compressed_both_ways(client: Client, encoding: str, pack: Any) -> None:
    values = images(40)
    body, headers = binary(values, "FP32")
    status, found, answer = client.ask(
        "POST",
        "/v2/models/tiny/infer",
        pack(body),
        Content_Encoding=encoding,
        Accept_Encoding="gzip",
        **headers,
    )
    assert (status, found["content-encoding"]) == (200, "gzip")
    answered = outputs(json.loads(gzip.decompress(answer)))
    np.testing.assert_allclose(answered["logits"], tiny_bundle.logits(values), atol=2e-6)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "failed to parse"),
        (b"[1]", 400, "must be a JSON object"),
        (b"\xff\xfe", 400, "failed to parse the request's JSON: it isn't text in UTF-8"),
        (b"\xff\xd8\xff\xe0 a JPEG", 400, "it is a picture; send it as an element"),
        ({"inputs": [GOOD], "parameters": {"timeout": "soon"}}, 400, "microseconds"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"inputs": [NaN]}', 400, "NaN isn't a number"),
        ({}, 400, "inputs must be a list"),
        ({"inputs": [GOOD, GOOD]}, 400, "expected 1 input, 'images', but got 2"),
        ({"inputs": [GOOD | {"name": "x"}]}, 400, "unexpected inference input 'x'"),
        ({"inputs": [GOOD | {"datatype": "FP64"}]}, 400, "takes FP32, FP16, UINT8, BYTES"),
        ({"inputs": [GOOD | {"shape": [1, 3, 4, 4]}]}, 400, "got [1, 3, 4, 4], expected [N,3,16,16]"),
        ({"inputs": [GOOD | {"shape": [2, 3, 16, 16]}]}, 400, "has 768 numbers; its shape [2, 3"),
        ({"inputs": [GOOD | {"shape": [True, 3, 16, 16]}]}, 400, "list of 1 to 8 whole numbers"),
        ({"inputs": [GOOD | {"shape": [10**12, 3, 16, 16]}]}, 400, "list of 1 to 8 whole numbers"),
        ({"inputs": [GOOD | {"shape": [41, 3, 16, 16]}]}, 400, "may have 40 at most"),
        ({"inputs": [GOOD | {"shape": [0, 3, 16, 16]}]}, 400, "has no images"),
        ({"inputs": [GOOD | {"data": [["a"]]}]}, 400, "must be numbers"),
        ({"inputs": [GOOD | {"data": [[1, 2], [3]]}]}, 400, "ragged"),
        ({"inputs": [GOOD | {"data": 3}]}, 400, "data of input 'images' must be a list"),
        ({"inputs": [tensor(np.full((1, 3, 16, 16), 256), "UINT8")]}, 400, "whole numbers, 0 to 255"),
        ({"inputs": [tensor(np.zeros((1, 101, 100, 3)), "UINT8", data=[0])]}, 400, "image of 10100 pixels"),
        ({"inputs": [tensor(np.zeros(1), "BYTES", data=["no base64!"])]}, 400, "base64"),
        ({"inputs": [tensor(np.zeros(1), "BYTES", data=["AAAA"])]}, 400, "not a JPEG, PNG"),
        ({"inputs": [tensor(np.zeros(2), "BYTES", data=["AAAA"])]}, 400, "has 1 elements; its shape says 2"),
        ({"inputs": [GOOD], "outputs": [{"name": "boxes"}]}, 400, "unknown output 'boxes'"),
        ({"inputs": [GOOD], "outputs": [{"name": "logits"}] * 2}, 400, "named twice"),
        ({"inputs": [GOOD], "outputs": [{"name": "logits", "parameters": {"classification": 0}}]}, 400,
         "from 1 up"),
        ({"inputs": [GOOD], "id": 3}, 400, "id must be a text"),
        ({"inputs": [GOOD], "parameters": {"sequence_id": 7}}, 400, "no sequences"),
        ({"inputs": [GOOD | {"parameters": {"shared_memory_region": "a"}}]}, 400, "no shared memory"),
        ({"inputs": [GOOD | {"parameters": {"binary_data_size": 4}}]}, 400, "both data and binary_data_size"),
        ({"inputs": [GOOD], "parameters": {"timeout": -1}}, 400, "microseconds"),
        (b" " * 1_000_001, 413, "larger than 1000000 bytes"),
    ],
)  # fmt: skip
def test_a_request_that_can_t_be_answered_is_refused_with_the_reason(
    client: Client, body: Any, status: int, message: str
) -> None:
    found, error = client.refused(body)
    assert found == status
    assert message in error
    assert "Traceback" not in error
    client.infer({"inputs": [GOOD]})


def test_a_deadline_beyond_all_numbers_of_seconds_is_the_server_s(client: Client) -> None:
    client.infer({"inputs": [GOOD], "parameters": {"timeout": 10**400}})


@pytest.mark.parametrize("path", ["/v2/", "/v2/models/tiny/infer/", "/docs/", "//v2"])
def test_an_address_with_a_slash_too_many_is_the_protocol_s_error(client: Client, path: str) -> None:
    status, _, body = client.ask("GET", path)
    assert (status, json.loads(body)) == (404, {"error": "there is nothing at this address"})


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip;q=0.5, br", "gzip"), ("gzip;q=0", None), ("GZIP ; q=0.00, deflate;q=0.1", "deflate"),
        ("br", None), ("", None),
    ],
)  # fmt: skip
def test_an_answer_is_encoded_as_the_client_takes_it(accepted: str, encoding: str | None) -> None:
    assert protocol.deflated(b"x" * 2000, accepted)[1] == encoding


def test_what_a_path_takes_is_said(client: Client) -> None:
    status, headers, body = client.ask("GET", "/v2/models/tiny/infer")
    assert (status, headers["allow"]) == (405, "POST")
    assert json.loads(body) == {"error": "GET isn't possible here; POST is"}


@pytest.mark.parametrize(
    ("content", "length", "message"),
    [
        (b"\x01\0\0\0", 4, "cut off: 0 of 1 bytes"),
        (b"\x01\0", 2, "ends within the length"),
        (struct.pack("<I", 2**32 - 1) + b"abc", 7, "cut off: 3 of 4294967295 bytes"),
        (b"abc", 2, "binary_data_size is 2, but 3 bytes follow"),
        (b"", "x", "binary_data_size is x"),
    ],
)
def test_binary_data_that_is_none_is_refused(
    client: Client, content: bytes, length: Any, message: str
) -> None:
    given = {"name": "images", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": length}}
    head = json.dumps({"inputs": [given]}).encode()
    assert message in client.refused(head + content, **{BINARY: str(len(head))})[1]


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{}", {BINARY: "99"}, 400, "up to the body's length"),
        (b"{}", {BINARY: "-1"}, 400, "up to the body's length"),
        (b"{}", {BINARY: "1" * 5000}, 400, "up to the body's length"),
        (b"{}", {"Content_Encoding": "br"}, 415, "gzip and deflate are"),
        (b"{}", {"Content_Encoding": "gzip"}, 400, "isn't gzip, or is damaged"),
        (gzip.compress(b"{}", mtime=0)[:-9], {"Content_Encoding": "gzip"}, 400, "cut off"),
        (gzip.compress(bytes(10**8)), {"Content_Encoding": "gzip"}, 413, "larger than 1000000"),
    ],
)  # fmt: skip
def test_a_body_that_isn_t_what_its_headers_say_is_refused(
    client: Client, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    found, error = client.refused(body, **headers)
    assert (found, message in error) == (status, True), error


def test_image_bombs_are_refused_by_their_headers(client: Client) -> None:
    bomb = png(np.zeros((101, 100, 3), np.uint8))
    body, headers = binary([bomb], "BYTES")
    assert "has 100 × 101 pixels, more than" in client.refused(body, **headers)[1]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v2/models/none", 404, "unknown model: 'none'"),
        ("GET", "/v2/models/tiny/versions/9", 404, "unknown version 9"),
        ("POST", "/v2/models/none/infer", 404, "unknown model"),
        ("GET", "/v2/nothing", 404, "nothing at this address"),
        ("GET", "/v2/models/tiny/infer", 405, "GET isn't possible"),
        ("GET", "/v2/systemsharedmemory/status", 400, "no shared memory"),
        ("POST", "/v2/cudasharedmemory/region/a/register", 400, "no shared memory"),
        ("GET", "/v2/models/tiny/trace/setting", 400, "no trace settings"),
        ("POST", "/v2/repository/models/tiny/load", 403, "--manage"),
        ("POST", "/v2/repository/models/tiny/unload", 403, "--manage"),
    ],
)  # fmt: skip
def test_what_isn_t_there_is_said_in_the_protocol_s_way(
    client: Client, method: str, path: str, status: int, message: str
) -> None:
    found, headers, body = client.ask(method, path)
    assert (found, headers["content-type"]) == (status, "application/json")
    assert message in json.loads(body)["error"]


def test_requests_changed_at_random_get_the_protocol_s_answers(client: Client) -> None:
    random = np.random.default_rng(7)
    seeds = [
        binary(images(2), "FP32"), binary([png(picture(1))], "BYTES"), binary(picture(2)[None], "UINT8"),
        (json.dumps({"inputs": [GOOD], "outputs": [{"name": "logits"}]}).encode(), {}),
    ]  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    found: set[int] = set()
    for number in range(400):
        body, headers = seeds[number % len(seeds)]
        changed = bytearray(body)
        for _ in range(int(random.integers(1, 4))):
            # mostly in the JSON, which comes first
            place = int(random.integers(min(len(changed), 200 if random.random() < 0.8 else len(changed))))
            kind = int(random.integers(4))
            if kind == 0:
                changed[place] = int(random.integers(256))
            elif kind == 1:
                del changed[place : place + int(random.integers(1, 30))]
            elif kind == 2:
                changed[place:place] = bytes(random.integers(0, 256, 5, np.uint8))
            else:
                changed[place : place + 1] = b'[]{}",:0123456789-'[number % 18 :][:1]
        if random.random() < 0.2:
            headers = {BINARY: str(int(random.integers(len(changed) + 2)))}
        connection.request("POST", "/v2/models/tiny/infer", bytes(changed), headers)
        answer = connection.getresponse()
        content = answer.read()
        found.add(answer.status)
        if answer.status != 200:
            assert set(json.loads(content)) == {"error"}, content
    connection.close()
    assert found == {200, 400}
    client.infer({"inputs": [GOOD]})


@pytest.mark.parametrize(
    "content",
    [b"\0\1\2\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /v2 HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
     b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 20_000,
     b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
)  # fmt: skip
def test_what_isn_t_http_gets_no_answer_or_an_error_and_harms_nobody(client: Client, content: bytes) -> None:
    address = ("127.0.0.1", client.port)
    with socket.create_connection(address, timeout=10) as raw, contextlib.suppress(ConnectionError):
        raw.sendall(content)
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))
        assert b"Traceback" not in answer
    client.infer({"inputs": [GOOD]})


def test_a_refused_client_that_is_still_sending_gets_its_answer_and_keeps_its_connection(
    client: Client,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    for _ in range(5):  # a connection that is closed with unread bytes is reset, but not always at once
        connection.request("POST", "/v2/models/none/infer", bytes(8 * 2**20))
        answer = connection.getresponse()
        assert (answer.status, set(json.loads(answer.read()))) == (404, {"error"})
        assert answer.getheader("Connection") != "close"
        if connection.sock is None:
            raise AssertionError("the connection was closed")
    connection.close()


def test_a_refused_client_that_never_ends_its_body_gets_its_answer_at_once_and_then_its_end(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_LINGER_S", 0.2)
    head = b"POST /v2/models/none/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc"
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as raw:
        raw.sendall(head)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.endswith(b"}")


def test_a_fault_of_the_server_s_own_is_the_protocol_s_error_and_no_traceback(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise TypeError("a secret")

    monkeypatch.setattr("vertebra.inference.serving.protocol.response", fail)
    status, error = client.refused({"inputs": [GOOD]})
    assert status == 500
    assert re.fullmatch("internal error; the log has it as request [0-9a-f-]+", error)
    (stats,) = client.get("/v2/models/tiny/versions/2/stats")["model_stats"]
    assert stats["inference_stats"]["fail"]["count"] >= 1


@pytest.mark.parametrize("body", [{"ready": 3}, b"[]", {"ready": {}}])
def test_an_index_that_isn_t_asked_for_rightly_is_refused(client: Client, body: Any) -> None:
    assert client.ask("POST", "/v2/repository/index", body)[0] == 400


def test_another_method_names_those_that_are_possible(client: Client) -> None:
    status, headers, _ = client.ask("DELETE", "/v2/models/tiny")
    assert (status, set(headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
