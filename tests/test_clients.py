"""Asking a server of the Open Inference Protocol, by HTTP and gRPC: URLs, what is sent, what counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_bundle
from inference_stub import stubbed
from serving_client import Client as Served
from serving_client import certificate, outputs, picture, png, serving, tensor
from vertebra.errors import InvalidInputError
from vertebra.inference.clients import inputs
from vertebra.inference.clients.addresses import Address, parsed
from vertebra.inference.clients.client import Client, Refused
from vertebra.inference.clients.inputs import Input
from vertebra.inference.clients.opening import client

IMAGES = Input("images", "FP32", (-1, 3, 16, 16))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("clients") / "tiny"
    tiny_bundle.make(folder)
    with serving(folder, grpc=True, grpc_port=0, queue=1000) as one:
        yield one


def with_client(url: str, work: Any) -> Any:
    async def run() -> Any:
        one: Client = client(parsed(url), None)
        try:
            await one.opened()
            return await work(one)
        finally:
            await one.close()

    return asyncio.run(run())


# ------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("http://h:8000", Address("http", "h", 8000), "http://h:8000/v2/models/m"),
        ("https://h/v2/", Address("https", "h", 443), "https://h:443/v2/models/m"),
        ("http://h:1/v2/models/a%20b/versions/2", Address("http", "h", 1, "", "a b", "2"),
         "http://h:1/v2/models/m/versions/2"),
        ("http://h/in/v2/models/m", Address("http", "h", 80, "/in", "m"), "http://h:80/in/v2/models/m"),
        ("grpc://[::1]:9/v2/models/m", Address("grpc", "::1", 9, "", "m"), "grpc://[::1]:9/v2/models/m"),
        ("grpcs://h", Address("grpcs", "h", 443), "grpcs://h:443/v2/models/m"),
    ],
)  # fmt: skip
def test_a_url_names_a_server_and_perhaps_a_model(url: str, address: Address, shown: str) -> None:
    assert parsed(url) == address
    assert parsed(url).shown("m") == shown


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://h/v2", "begins with http://"),
        ("http://u:secret@h", "can't hold a password"),
        ("http://h:99999", "not a URL"),
        ("http:///v2", "names no server"),
        ("http://h/v2/models/m?a=1", "more than an address"),
        ("http://h/v2/models", "isn't the path of a model"),
        ("grpc://h/some", "isn't the path of a model"),
    ],
)
def test_what_is_not_the_url_of_a_server_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        parsed(url)
    assert "secret" not in str(caught.value)


# ------------------------------------------------------------------ what is sent


def test_a_tensor_fits_the_metadata_and_differs_from_request_to_request() -> None:
    found = inputs.tensors(IMAGES, batch_size=2, input_size=None, seed=1)
    assert {one.shape for one in found} == {(2, 3, 16, 16)}
    assert len({one.content for one in found}) == len(found) == 8
    body, length = found[0].http()
    given = json.loads(body[:length])["inputs"][0]
    assert (given["name"], given["datatype"], given["shape"]) == ("images", "FP32", [2, 3, 16, 16])
    values = np.frombuffer(body[length:], "<f4")
    assert values.size == 2 * 3 * 16 * 16
    assert json.loads(found[0].json())["inputs"][0]["data"] == values.tolist()
    again = inputs.tensors(IMAGES, batch_size=2, input_size=None, seed=1)
    assert [one.content for one in again] == [one.content for one in found]


@pytest.mark.parametrize(
    ("shape", "batch", "size", "sent"),
    [
        ((-1, -1, -1, 3), 1, 32, (1, 32, 32, 3)),
        ((3, 8, 8), 1, None, (3, 8, 8)),
        ((1, 3, 8, 8), 1, None, (1, 3, 8, 8)),
        ((-1, 4), 5, None, (5, 4)),
    ],
)
def test_shapes_are_those_of_the_metadata(shape: Any, batch: int, size: int | None, sent: Any) -> None:
    found = inputs.tensors(Input("x", "UINT8", shape), batch_size=batch, input_size=size, seed=0)
    assert found[0].shape == sent
    assert len(found[0].content) == np.prod(sent)


@pytest.mark.parametrize(
    ("shape", "datatype", "options", "said"),
    [
        ((-1, 3, -1, -1), "FP32", {}, "--input-size"),
        ((-1, 3, 8, 8), "FP32", {"input_size": 9}, "8x8 pixels, not 9x9"),
        ((4, 3, 8, 8), "FP32", {}, "--batch-size 4"),
        ((3, 8, 8), "FP32", {"batch_size": 2}, "--batch-size 1"),
        ((-1,), "FP32", {}, "says nothing of an image"),
        ((-1, 3, 8, 8), "BOOL", {}, "datatype BOOL"),
        ((-1, 3, 60000, 60000), "FP32", {}, "bytes"),
    ],
)
def test_inputs_that_can_not_be_made_are_refused(shape: Any, datatype: str, options: Any, said: str) -> None:
    asked = {"batch_size": 1, "input_size": None, "seed": 0} | options
    with pytest.raises(InvalidInputError) as caught:
        inputs.tensors(Input("x", datatype, shape), **asked)
    assert said in f"{caught.value} {caught.value.hint}"


def test_an_input_can_be_stated() -> None:
    assert inputs.stated("a:b:FP32:-1x3x224x224") == Input("a:b", "FP32", (-1, 3, 224, 224))
    for text in ("images", "images:FP32", "images:FP32:0x3", "images:FP32:-2", "images:FP32:3x"):
        with pytest.raises(InvalidInputError, match="doesn't describe an input"):
            inputs.stated(text)


def test_photographs_are_each_sent_equally_often() -> None:
    found = inputs.photographs(IMAGES, [b"a", b"bb", b"ccc"], batch_size=2)
    assert [one.shape for one in found] == [(2,)] * 3
    sent = b"".join(one.content for one in found)
    assert sent == b"".join(
        len(one).to_bytes(4, "little") + one for one in (b"a", b"bb", b"ccc", b"a", b"bb", b"ccc")
    )
    column = inputs.photographs(Input("x", "BYTES", (-1, 1)), [b"a"], batch_size=2)
    assert column[0].shape == (2, 1)
    assert json.loads(column[0].json())["inputs"][0]["data"] == ["YQ==", "YQ=="]


def test_pictures_of_a_folder_are_spread_over_it(tmp_path: Path) -> None:
    for number in range(130):
        (tmp_path / f"{number:03}.PNG").write_bytes(str(number).encode())
    (tmp_path / "notes.txt").write_bytes(b"text")
    found = inputs.pictures_in(tmp_path)
    assert (len(found), found[0], found[1], found[-1]) == (64, b"0", b"2", b"127")
    assert inputs.pictures_in(tmp_path / "007.PNG") == [b"7"]
    for path in (tmp_path / "none", tmp_path / "notes.txt"):
        with pytest.raises(InvalidInputError, match="no pictures"):
            inputs.pictures_in(path)


# ------------------------------------------------------------------ a real server


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_is_described_and_answers_as_it_should(served: Served, protocol: str) -> None:
    url = served.server.addresses.http if protocol == "http" else f"grpc://{served.server.addresses.grpc}"

    async def work(one: Client) -> Any:
        about = await one.about()
        values = inputs.tensors(about.taken, batch_size=2, input_size=None, seed=0)
        sent = await one.prepare(values, at_once=4)
        numbers = np.frombuffer(values[1].content, "<f4").reshape(2, 3, 16, 16)
        tensor_answer = await one.answer(1)
        encoded = [png(picture(seed)) for seed in range(3)]
        await one.prepare(inputs.photographs(about.taken, encoded, batch_size=1), at_once=4)
        return about, sent, numbers, tensor_answer, encoded, await one.answer(2)

    about, sent, numbers, answered, encoded, of_picture = with_client(url, work)
    assert (about.server, about.model, about.taken) == ("vertebra", "tiny", IMAGES)
    assert sent == f"FP32 over {'HTTP' if protocol == 'http' else 'gRPC'}"
    np.testing.assert_allclose(
        answered["logits"].reshape(2, 4), tiny_bundle.logits(numbers), rtol=1e-4, atol=1e-5
    )
    expected = outputs(served.infer({"inputs": [tensor_of(encoded[2])]}))["logits"]
    np.testing.assert_allclose(of_picture["logits"].reshape(1, 4), expected, rtol=1e-4, atol=1e-5)


def tensor_of(encoded: bytes) -> dict[str, Any]:
    import base64

    return {"name": "images", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(encoded).decode()]}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_many_requests_at_once_are_each_answered_once(served: Served, protocol: str) -> None:
    url = served.server.addresses.http if protocol == "http" else f"grpc://{served.server.addresses.grpc}"

    async def work(one: Client) -> list[tuple[int, str | None]]:
        about = await one.about()
        await one.prepare(inputs.tensors(about.taken, batch_size=1, input_size=None, seed=0), at_once=2)
        seen: list[tuple[int, str | None]] = []
        for number in range(300):
            one.ask(number, lambda why, number=number: seen.append((number, why)))
        while len(seen) < 300:
            await asyncio.sleep(0.01)
        return seen

    seen = with_client(url, work)
    assert sorted(seen) == [(number, None) for number in range(300)]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_model_that_is_not_there_and_a_port_without_a_server(served: Served, protocol: str) -> None:
    at = served.server.addresses.http if protocol == "http" else f"grpc://{served.server.addresses.grpc}"
    with pytest.raises(InvalidInputError, match="unknown model"):
        with_client(f"{at}/v2/models/rose", lambda one: one.about())
    if protocol == "http":
        with pytest.raises(InvalidInputError, match="can't be reached"):
            with_client("http://127.0.0.1:9", lambda one: one.about())


def test_a_server_over_tls_gets_the_token_and_must_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundle.make(tmp_path / "tiny")
    chain, key = certificate(tmp_path, "server")
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-good-length\n")
    tokens.chmod(0o600)

    async def asked(url: str, token: str | None) -> str:
        one = client(parsed(url), token)
        try:
            await one.opened()
            about = await one.about()
            return await one.prepare(
                inputs.tensors(about.taken, batch_size=1, input_size=None, seed=0), at_once=3
            )
        finally:
            await one.close()

    with serving(tmp_path / "tiny", tls_cert=chain, tls_key=key, token_file=tokens) as served:
        url = f"https://localhost:{served.port}"
        with pytest.raises(InvalidInputError, match=r"can't be reached: .*certificate"):
            asyncio.run(asked(url, "a-token-of-good-length"))
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        assert asyncio.run(asked(url, "a-token-of-good-length")) == "FP32 over HTTPS"
        with pytest.raises(InvalidInputError, match="status 401: a bearer token is needed") as caught:
            asyncio.run(asked(url, None))
        assert "--token-file" in str(caught.value.hint)
        with pytest.raises(InvalidInputError, match="the connection was closed") as caught:
            asyncio.run(asked(f"http://localhost:{served.port}", None))
        assert f"With TLS it is https://localhost:{served.port}" in str(caught.value.hint)


def test_a_token_that_is_missing_over_grpc_is_asked_for(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path / "tiny")
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-good-length\n")
    tokens.chmod(0o600)
    with serving(tmp_path / "tiny", grpc=True, grpc_port=0, token_file=tokens) as served:
        url = f"grpc://{served.server.addresses.grpc}"
        with pytest.raises(InvalidInputError, match="a bearer token is needed") as caught:
            with_client(url, lambda one: one.about())
    assert "--token-file" in str(caught.value.hint)


# ------------------------------------------------------------------ others' servers


def asked_of(stub: Any, requests: int) -> list[str | None]:
    """What came of requests that were sent one after another."""

    async def work(one: Client) -> list[str | None]:
        about = await one.about()
        await one.prepare(inputs.tensors(about.taken, batch_size=1, input_size=None, seed=0), at_once=1)
        seen: list[str | None] = []
        for number in range(requests):
            one.ask(number, seen.append)
            while len(seen) <= number:
                await asyncio.sleep(0.001)
        return seen

    found: list[str | None] = with_client(stub.url, work)
    return found


def test_a_server_without_binary_tensors_is_asked_in_json() -> None:
    async def work(one: Client) -> str:
        about = await one.about()
        return await one.prepare(
            inputs.tensors(about.taken, batch_size=1, input_size=None, seed=0), at_once=1
        )

    with stubbed(is_binary=False) as stub:
        assert with_client(stub.url, work) == "FP32 over HTTP as JSON"
        assert asked_of(stub, 3) == [None] * 3
        assert json.loads(stub.asked[-1])["inputs"][0]["shape"] == [1, 4]


def test_what_is_no_good_answer_is_counted_by_its_reason() -> None:
    replies = {
        20: (429, {"Connection": "close"}, b'{"error": "the queue is full"}'),
        21: (500, {}, b"oh"),
        22: (200, {"Inference-Header-Content-Length": "2"}, b"{}" + bytes(7)),
        23: (0, {}, b""),
        25: (0, {}, b""),
        26: (0, {}, b""),  # and again, when it is sent once more
    }
    with stubbed(odd=lambda number: replies.get(number)) as stub:
        seen = asked_of(stub, 20)
    # preparing took 9: one to see whether it is answered, and one of each request
    assert seen[11:] == [
        "status 429: the queue is full", "status 500", "an answer of another size",
        None,  # it was sent again over a new connection
        "the connection was closed", *[None] * 4,
    ]  # fmt: skip


def test_a_server_that_is_none_is_said() -> None:
    with stubbed(models=("a", "b")) as stub, pytest.raises(InvalidInputError, match="2 models: a, b"):
        with_client(stub.url, lambda one: one.about())
    two = [{"name": name, "datatype": "FP32", "shape": [-1]} for name in "ab"]
    with stubbed(inputs=two) as stub, pytest.raises(InvalidInputError, match="2 inputs: a, b"):
        with_client(stub.url, lambda one: one.about())
    with stubbed() as stub, pytest.raises(InvalidInputError, match="status 404"):
        with_client(f"{stub.url}/other", lambda one: one.about())
    with (
        stubbed(odd=lambda number: (400, {}, b'{"error": "no"}')) as stub,
        pytest.raises(Refused, match="no"),
    ):
        asked_of(stub, 1)


def test_tensors_are_those_of_the_test_client() -> None:
    """The two clients describe a tensor in the same words."""
    values = np.zeros((1, 3, 16, 16), np.float32)
    given = json.loads(inputs.Question("images", "FP32", values.shape, values.tobytes(), 1).json())["inputs"][
        0
    ]
    assert {**given, "data": values.tolist()} == tensor(values)
