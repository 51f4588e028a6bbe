"""baidu_std and Paddle Serving's GeneralModelService, by frames worked out by hand."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_bundle
import vertebra
from serving_client import Client, images, picture, png, serving, until, waiting
from vertebra.errors import InvalidInputError
from vertebra.inference.serving import brpc, paddle
from vertebra.inference.serving.batching import Answer, Stages
from vertebra.inference.serving.brpc import FrameError, Meta
from vertebra.inference.serving.tensors import Question, Wanted
from vertebra.machine import protobuf

SERVICE = brpc.SERVICE.encode()
#: request{service_name, method_name, log_id 7, timeout_ms 30000}, correlation_id 300
META = (
    b"\x0a" + bytes([2 + len(SERVICE) + 2 + 9 + 2 + 4]) + b"\x0a" + bytes([len(SERVICE)]) + SERVICE
    + b"\x12\x09inference" + b"\x18\x07" + b"\x40\xb0\xea\x01" + b"\x20\xac\x02"
)  # fmt: skip


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[Client]:
    with serving(bundle, brpc_port=0, max_body="1MB", queue=40) as one:
        yield one


class Connection:
    """One connection, with frames by hand."""

    def __init__(self, client: Client) -> None:
        self.socket = socket.create_connection(("127.0.0.1", client.server.brpc_port), timeout=30)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, payload: bytes, meta: bytes = META) -> None:
        head = b"PRPC" + struct.pack(">II", len(meta) + len(payload), len(meta))
        self.socket.sendall(head + meta + payload)

    def receive(self) -> tuple[int, str, int, bytes]:
        """Error code, error text, correlation id, payload."""
        magic, size, meta_size = struct.unpack(">4sII", self._exactly(12))
        assert magic == b"PRPC"
        body = self._exactly(size)
        meta = dict(protobuf.fields(body, 0, meta_size))
        response = dict(protobuf.fields(body, *meta[2]))
        text = protobuf.text_of(body, response[2]) if 2 in response else ""
        return response[1], text, meta.get(4, 0), body[meta_size:]

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self.socket.recv(count - len(found))
            assert part, "the connection was closed"
            found += part
        return found


def request(*fields: bytes, fetch: tuple[str, ...] = (), log_id: int = 0) -> bytes:
    """A Request with one tensor of these fields."""
    wanted = b"".join(protobuf.text(2, name) for name in fetch)
    return protobuf.message(1, *fields) + wanted + (protobuf.number(4, log_id) if log_id else b"")


def shape(*sizes: int) -> bytes:
    return protobuf.message(11, *(protobuf.number(1, size)[1:] for size in sizes))


NAME = protobuf.text(13, "images")
FLOATS = protobuf.number(10, 1)


def floats(values: np.ndarray) -> bytes:
    content = protobuf.message(2, values.tobytes())
    return request(NAME, FLOATS, shape(*values.shape), content, fetch=("logits",))


def answered(payload: bytes) -> tuple[dict[str, np.ndarray], int]:
    """The tensors of a Response, by name, and its log id."""
    response = dict(protobuf.fields(payload, 0, len(payload)))
    found = {}
    for number, tensor in protobuf.fields(payload, *response[1]):
        if number == 1:
            fields = dict(protobuf.fields(payload, *tensor))
            name = protobuf.text_of(payload, fields[13])
            assert (fields[10], protobuf.text_of(payload, fields[14])) == (1, name)
            values = np.frombuffer(payload[slice(*fields[2])], "<f4")
            found[name] = values.reshape([payload[place] for place in range(*fields[11])])
    return found, response.get(4, 0)


# ------------------------------------------------------------------ frames


def test_a_frame_of_the_specification_is_read_and_written() -> None:
    assert brpc.meta_of(META) == Meta(brpc.SERVICE, "inference", 30000, 0, 300, 0, is_request=True)
    made = brpc.reply(300, b"xyz")
    assert made == b"PRPC" + struct.pack(">II", 7 + 3, 7) + b"\x12\x02\x08\x00\x20\xac\x02" + b"xyz"
    made = brpc.reply(1, code=1003, text="no")
    assert made == b"PRPC" + struct.pack(">II", 11, 11) + b"\x12\x07\x08\xeb\x07\x12\x02no" + b"\x20\x01"
    with pytest.raises(FrameError):
        brpc.meta_of(b"\x0a\xff")


def test_a_response_of_the_service_is_written() -> None:
    values = np.array([[1.0, -2.0]], np.float32)
    answer = Answer(values, values, Stages(0, 0, 0, 0))
    found = paddle.response(Question("", [], [Wanted("logits")]), answer, 5, "e")
    name = b"\x06logits"
    tensor = (
        b"\x12\x08" + values.tobytes() + b"\x50\x01" + b"\x5a\x02\x01\x02" + b"\x6a" + name + b"\x72" + name
    )
    model = b"\x0a" + bytes([len(tensor)]) + tensor + b"\x12\x01e"
    assert found == b"\x0a" + bytes([len(model)]) + model + b"\x20\x05"


@pytest.mark.parametrize(
    ("values", "varints"),
    [([], b""), ([0, 127], b"\0\x7f"), ([128, 255, 3], b"\x80\x01\xff\x01\x03"), ([200], b"\xc8\x01")],
)
def test_pixels_are_read_from_varints(values: list[int], varints: bytes) -> None:
    assert list(paddle._pixels(varints)) == values


@pytest.mark.parametrize("varints", [b"\x80\x02", b"\x80\x80\x01", b"\x80", b"\x01\x80"])
def test_other_whole_numbers_are_no_pixels(varints: bytes) -> None:
    with pytest.raises(paddle.Refusal, match="must be 0 to 255"):
        paddle._pixels(varints)


# ------------------------------------------------------------------ the service


def test_tensors_are_answered(client: Client) -> None:
    values = images(3)
    half = values.astype("<f2")
    unpacked = b"".join(b"\x15" + struct.pack("<f", value) for value in values[:1].ravel())
    content, halves = protobuf.message(15, values.tobytes()), protobuf.message(15, half.tobytes())
    sizes, of_half = shape(*values.shape), protobuf.number(10, 5)
    with Connection(client) as connection:
        for payload, logits in (
            (floats(values), tiny_bundle.logits(values)),
            (request(NAME, FLOATS, shape(1, 3, 16, 16), unpacked), tiny_bundle.logits(values[:1])),
            (request(NAME, FLOATS, sizes, content), tiny_bundle.logits(values)),
            (request(NAME, of_half, sizes, halves), tiny_bundle.logits(half.astype(np.float32))),
        ):
            connection.send(payload)
            code, text, correlation, body = connection.receive()
            assert (code, text, correlation) == (0, "", 300)
            np.testing.assert_allclose(answered(body)[0]["logits"], logits, atol=2e-6)


def test_pictures_are_answered_as_predict_answers_them(client: Client, bundle: Path) -> None:
    pixels = picture(2)[None]
    encoded = png(pixels[0])
    (expected,) = vertebra.predict(pixels[0], model=bundle, top=4)
    shares = [next(one.probability for one in expected.top if one.index == index) for index in range(4)]
    varints = b"".join(protobuf.number(1, int(level))[1:] for level in pixels.ravel())
    sizes, alias = shape(*pixels.shape), protobuf.text(14, "images")
    with Connection(client) as connection:
        for fields in (
            (protobuf.number(10, 7), sizes, protobuf.message(15, pixels.tobytes())),
            (sizes, protobuf.message(1, varints)),
            (protobuf.number(10, 2), sizes, protobuf.message(3, varints)),
            (protobuf.number(10, 20), shape(1), protobuf.message(9, encoded)),
            (protobuf.number(10, 20), shape(1), protobuf.message(9, base64.b64encode(encoded))),
        ):
            connection.send(request(alias, *fields, fetch=("probabilities",), log_id=9))
            found, log_id = answered(connection.receive()[3])
            assert (list(found), log_id) == (["probabilities"], 9)
            np.testing.assert_allclose(found["probabilities"][0], shares, atol=1e-6)


def meta(service: bytes = SERVICE, method: bytes = b"inference", *more: bytes, ms: int = 30000) -> bytes:
    asked = protobuf.message(1, service), protobuf.message(2, method), protobuf.number(8, ms)
    return protobuf.message(1, *asked) + protobuf.number(4, 1) + b"".join(more)


@pytest.mark.parametrize(
    ("payload", "sent", "code", "message"),
    [
        (b"", meta(b"Other"), 1001, "unknown service 'Other'"),
        (b"", meta(method=b"debug"), 1002, "unknown method 'debug'"),
        (b"", meta(SERVICE, b"inference", protobuf.number(3, 1)), 1003, "compress_type 1"),
        (b"", meta(SERVICE, b"inference", protobuf.number(5, 4)), 1003, "attachments"),
        (b"", protobuf.number(4, 1), 1003, "holds no request"),
        (b"\xff\xff", META, 1003, "isn't a GeneralModelService.Request"),
        (b"\x0a\x7f", META, 1003, "isn't a GeneralModelService.Request"),
        (b"", META, 1003, "expected 1 tensor, 'images', but got 0"),
        (request(protobuf.text(13, "x")), META, 1003, "unexpected tensor 'x'"),
        (request(NAME, protobuf.number(10, 3)), META, 1003, "elem_type is 3"),
        (request(NAME, FLOATS, shape(1, 3, 4, 4)), META, 1003, "got [1, 3, 4, 4]"),
        (request(NAME, FLOATS, shape(1, 3, 16, 16)), META, 1003, "has 0 bytes; 3072 were expected"),
        (request(NAME, FLOATS, protobuf.number(11, 2**64 - 1)), META, 1003, "whole numbers from 0 up"),
        (request(NAME, fetch=("boxes",)), META, 1003, "unknown output 'boxes'"),
        (request(NAME, protobuf.number(10, 20), protobuf.message(9, b"AAAA")), META, 1003, "not a JPEG"),
        (bytes(1_000_001), META, 2004, "larger than 1000000 bytes"),
    ],
)
def test_what_can_t_be_answered_is_brpc_s_error_and_the_connection_goes_on(
    client: Client, payload: bytes, sent: bytes, code: int, message: str
) -> None:
    with Connection(client) as connection:
        connection.send(payload, sent)
        found, text, _, body = connection.receive()
        assert (found, message in text, body) == (code, True, b""), text
        connection.send(floats(images(1)))
        assert connection.receive()[0] == 0


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRPC" + struct.pack(">II", 3, 9) + b"abc",
        b"PRPC" + b"\xff" * 8,
        b"PRPC" + struct.pack(">II", 2**31, 2) + b"\x20\x01",
        b"PRPC" + struct.pack(">II", 2, 2) + b"\x0a\xff",
    ],
)
def test_what_is_no_frame_ends_the_connection(client: Client, content: bytes) -> None:
    with Connection(client) as connection:
        connection.socket.sendall(content)
        with contextlib.suppress(ConnectionResetError):  # it had sent more than was read
            assert connection.socket.recv(100) == b""
    with Connection(client) as connection:
        connection.send(floats(images(1)))
        assert connection.receive()[0] == 0


def test_requests_changed_at_random_get_answers_or_an_end(client: Client) -> None:
    random = np.random.default_rng(4)
    payload = floats(images(1))
    good = b"PRPC" + struct.pack(">II", len(META) + len(payload), len(META)) + META + payload
    for _ in range(200):
        changed = bytearray(good)
        for _ in range(int(random.integers(1, 4))):
            changed[int(random.integers(160))] = int(random.integers(256))
        with Connection(client) as connection:
            try:
                connection.socket.sendall(changed)
                connection.socket.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda one=connection.socket: one.recv(65536), b""))
            except ConnectionError:
                continue
            assert answer == b"" or answer.startswith(b"PRPC")
    with Connection(client) as connection:
        connection.send(payload)
        assert connection.receive()[0] == 0


def test_many_requests_share_a_connection_and_deadlines_and_leaving_count(bundle: Path) -> None:
    with serving(bundle, brpc_port=0, max_batch=1) as client:
        (worker,) = client.workers()
        worker.send_signal(signal.SIGSTOP)
        with Connection(client) as connection:
            asked = protobuf.message(1, protobuf.message(1, SERVICE), protobuf.text(2, "inference"))
            for number in range(3):
                connection.send(floats(images(1, number)), asked + protobuf.number(4, number))
            until(lambda: waiting(client) == 3)
            connection.send(floats(images(1)), meta(ms=50))
            assert connection.receive()[:2] == (1008, "no answer within the deadline of 0.05 s")
            with Connection(client) as leaving:
                leaving.send(floats(images(1)))
                until(lambda: waiting(client) == 4)
            until(lambda: waiting(client) == 3)
            worker.send_signal(signal.SIGCONT)
            found = dict(connection.receive()[2:] for _ in range(3))
        assert sorted(found) == [0, 1, 2]
        for number, body in found.items():
            logits = tiny_bundle.logits(images(1, number))
            np.testing.assert_allclose(answered(body)[0]["logits"], logits, atol=2e-6)
        (stats,) = client.get("/v2/models/tiny/stats")["model_stats"]
        assert [stats["inference_stats"][name]["count"] for name in ("success", "fail")] == [3, 2]


def test_rest_of_the_same_service(client: Client) -> None:
    values = images(2)
    tensor = {"name": "images", "elem_type": 1, "shape": [2, 3, 16, 16]}
    tensor["float_data"] = values.ravel().tolist()
    asked = {"tensor": [tensor], "fetch_var_names": ["logits"], "log_id": 8}
    status, _, body = client.ask("POST", "/GeneralModelService/inference", asked)
    answer = json.loads(body)
    assert (status, answer["log_id"], answer["err_no"]) == (200, 8, 0)
    (found,) = answer["outputs"][0]["tensor"]
    np.testing.assert_allclose(
        np.reshape(found.pop("float_data"), (2, 4)), tiny_bundle.logits(values), atol=2e-6
    )
    assert found == {"name": "logits", "alias_name": "logits", "elem_type": 1, "shape": [2, 4]}
    pixels = picture(1)[None]
    tensor = {
        "name": "images",
        "elem_type": 0,
        "shape": list(pixels.shape),
        "int64_data": pixels.ravel().tolist(),
    }
    assert client.ask("POST", "/GeneralModelService/inference", {"tensor": [tensor]})[0] == 200
    wrong: list[Any] = [
        {},
        b'{"tensor": [{"elem_type": 1e999}]}',
        {"tensor": [{"float_data": [10**400]}]},
        {"tensor": 3},
        {"tensor": [{"shape": ["a"]}]},
        {"tensor": [{"tensor_content": "!"}]},
    ]
    for one in wrong:
        status, _, body = client.ask("POST", "/GeneralModelService/inference", one)
        assert (status, "in JSON" in json.loads(body)["error"]) == (400, True)


def test_the_protocol_is_off_and_never_open_beside_what_it_lacks(bundle: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-many-characters")
    token.chmod(0o600)
    usual: dict[str, Any] = {"port": 0, "grpc": False, "brpc_port": 0}
    with pytest.raises(InvalidInputError, match="open beside --token-file"):
        vertebra.serve(bundle, token_file=token, **usual)
    with pytest.raises(InvalidInputError, match=r"open beside --host 0\.0\.0\.0"):
        vertebra.serve(bundle, host="0.0.0.0", **usual)
    with pytest.raises(InvalidInputError, match="2 are served: tiny, other"):
        vertebra.serve(bundle, f"other={bundle}", **usual)
    with serving(bundle) as client:
        assert client.ask("POST", "/GeneralModelService/inference", {})[0] == 404
    with (
        serving(bundle, brpc_port=0, token_file=token, brpc_insecure=True) as client,
        Connection(client) as one,
    ):
        one.send(floats(images(1)))
        assert one.receive()[0] == 0
