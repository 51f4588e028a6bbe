"""Asks a running server through NVIDIA's clients, which others wrote; run by `.ci/more clients` in their own
environment, where vertebra isn't installed.

    python tools/serving_clients.py HTTP GRPC MODEL PREDICTIONS

HTTP and GRPC are addresses of a server started with --manage and --max-body 8MB. PREDICTIONS is what
`vertebra predict --json` printed for some pictures: the server must give the same classes and probabilities.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio
from tritonclient.utils import InferenceServerException

#: the largest difference between the server's probabilities and those of `vertebra predict`
MOST = 1e-5


def tensor(client: Any, values: np.ndarray, datatype: str, name: str = "images", **how: Any) -> Any:
    made = client.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, **how)
    return made


def pictures(client: Any, contents: list[bytes], **how: Any) -> Any:
    return tensor(client, np.array(contents, dtype=object), "BYTES", **how)


def best(client: Any, classes: int, **how: Any) -> Any:
    return client.InferRequestedOutput("probabilities", class_count=classes, **how)


def classes_of(answer: Any) -> list[list[tuple[int, float]]]:
    return [
        [(int(index), float(value)) for value, index, *_ in (one.decode().split(":", 2) for one in row)]
        for row in answer.as_numpy("probabilities")
    ]


def same(found: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    """The same classes in order but for ties, and the same probabilities."""
    assert len(found) == len(expected)
    for (index, value), (other, share) in zip(found, expected, strict=True):
        assert abs(value - share) <= MOST, (found, expected)
        assert index == other or any(abs(one - value) <= MOST for key, one in expected if key == index)


def refused(call: Callable[[], Any], part: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        said = str(error)
    else:
        said = "an answer"
    assert part in said, f"{said} hasn't {part}"
    assert "Traceback" not in said


# ------------------------------------------------------------------ the checks


def looks(client: Any, module: Any, model: str) -> Iterator[str]:
    assert [client.is_server_live(), client.is_server_ready(), client.is_model_ready(model)] == [True] * 3
    yield "health"
    about = client.get_server_metadata(**({} if module is over_http else {"as_json": True}))
    assert about["name"] == "vertebra"
    yield "server metadata"
    kind = {} if module is over_http else {"as_json": True}
    metadata = client.get_model_metadata(model, **kind)
    assert metadata["inputs"][0]["name"] == "images"
    assert client.get_model_metadata(model, "1", **kind) == metadata
    yield "model metadata"
    config = client.get_model_config(model, **kind)
    assert int(config.get("config", config)["max_batch_size"]) == 8
    yield "model config"
    index = client.get_model_repository_index(**kind)
    (one,) = index if isinstance(index, list) else index["models"]
    assert (one["name"], one["state"]) == (model, "READY")
    yield "repository index"


def answers(
    client: Any, module: Any, model: str, expected: dict[str, list[tuple[int, float]]], size: int
) -> Iterator[str]:
    top = len(next(iter(expected.values())))
    contents = {path: open(path, "rb").read() for path in expected}  # noqa: SIM115
    for path, content in contents.items():
        answer = client.infer(model, [pictures(module, [content])], outputs=[best(module, top)])
        same(classes_of(answer)[0], expected[path])
    yield f"{len(contents)} pictures"
    some = list(contents)[:5]
    answer = client.infer(
        model, [pictures(module, [contents[one] for one in some])], outputs=[best(module, top)]
    )
    for found, path in zip(classes_of(answer), some, strict=True):
        same(found, expected[path])
    yield "5 pictures in a request"
    values = np.random.default_rng(0).normal(size=(3, 3, size, size)).astype(np.float32)
    first = client.infer(model, [tensor(module, values, "FP32")], request_id="seven")
    logits = first.as_numpy("logits")
    yield "FP32"
    close = client.infer(model, [tensor(module, values.astype(np.float16), "FP16")]).as_numpy("logits")
    assert abs(close - logits).max() < 0.05 * abs(logits).max()
    yield "FP16"
    pixels = np.random.default_rng(1).integers(0, 256, (2, 300, 200, 3), np.uint8)
    assert client.infer(model, [tensor(module, pixels, "UINT8")]).as_numpy("logits").shape == logits[:2].shape
    planes = np.ascontiguousarray(pixels[:, :size, :1].repeat(size, 2).transpose(0, 3, 1, 2))
    assert client.infer(model, [tensor(module, planes, "UINT8")]).as_numpy("logits").shape == logits[:2].shape
    yield "UINT8"
    for algorithm in ("gzip", "deflate"):
        how = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        if module is not over_http:
            how = {"compression_algorithm": algorithm}
        again = client.infer(model, [tensor(module, values, "FP32")], **how).as_numpy("logits")
        np.testing.assert_allclose(again, logits, atol=1e-4)
        yield f"{algorithm}"
    if module is over_http:
        plain = [module.InferRequestedOutput("logits", binary_data=False)]
        again = client.infer(model, [tensor(module, values[:1], "FP32", binary_data=False)], outputs=plain)
        np.testing.assert_allclose(again.as_numpy("logits"), logits[:1], atol=1e-4)
        yield "JSON"


def errors(client: Any, module: Any, model: str, size: int) -> Iterator[str]:
    good = tensor(module, np.zeros((1, 3, size, size), np.float32), "FP32")
    small = np.zeros((1, 3, 4, 4), np.float32)
    boxes = [module.InferRequestedOutput("boxes")]

    def ask(*inputs: Any, **how: Any) -> Any:
        return client.infer(model, list(inputs), **how)

    cases: dict[str, tuple[Callable[[], Any], str]] = {
        "unknown model": (lambda: client.infer("none", [good]), "unknown model"),
        "unknown version": (lambda: ask(good, model_version="9"), "unknown version"),
        "another input": (lambda: ask(tensor(module, small, "FP32", "x")), "'x'"),
        "another shape": (lambda: ask(tensor(module, small, "FP32")), "unexpected shape"),
        "another datatype": (lambda: ask(tensor(module, small.astype(np.int64), "INT64")), "datatype"),
        "two inputs": (lambda: ask(good, good), "expected 1 input"),
        "another output": (lambda: ask(good, outputs=boxes), "boxes"),
        "no picture": (lambda: ask(pictures(module, [b"no picture"])), "not a JPEG"),
        "a sequence": (lambda: ask(good, sequence_id=5, sequence_start=True), "sequences"),
        "a short deadline": (lambda: ask(good, timeout=1), "deadline"),
        "too many bytes": (lambda: ask(pictures(module, [bytes(9_000_000)])), "larger than"),
        "shared memory": (lambda: client.get_system_shared_memory_status(), "shared memory"),
        "CUDA's shared memory": (lambda: client.get_cuda_shared_memory_status(), "shared memory"),
        "trace settings": (lambda: client.get_trace_settings(model), "trace settings"),
        "log settings": (lambda: client.get_log_settings(), "log settings"),
        "a config of the client's": (lambda: client.load_model(model, config="{}"), "takes no 'config'"),
        "a file of the client's": (
            lambda: client.load_model(model, config="{}", files={"file:1/a": b"x"}), "takes no",
        ),
        "loading what isn't known": (lambda: client.load_model("none"), "unknown model"),
    }  # fmt: skip
    for name, (call, part) in cases.items():
        refused(call, part)
        yield name


def counts(client: Any, module: Any, model: str, size: int) -> Iterator[str]:
    """What the server counts between two looks is what this client did."""

    def look() -> dict[str, Any]:
        if module is over_http:
            return dict(client.get_inference_statistics(model)["model_stats"][0])
        stats = client.get_inference_statistics(model, as_json=True)
        return dict(stats["model_stats"][0])

    def success(stats: dict[str, Any]) -> int:
        return int(stats["inference_stats"]["success"]["count"])

    before = look()
    good = tensor(module, np.zeros((2, 3, size, size), np.float32), "FP32")
    for _ in range(50):
        client.infer(model, [good])
    after = look()
    assert success(after) - success(before) == 50
    assert int(after["inference_count"]) - int(before["inference_count"]) == 100
    yield "statistics"


def reloads(client: Any, model: str) -> Iterator[str]:
    client.load_model(model)
    assert client.is_model_ready(model)
    client.unload_model(model)
    assert not client.is_model_ready(model)
    client.load_model(model)
    assert client.is_model_ready(model)
    yield "load, unload, load"


async def at_once(module: Any, address: str, model: str, size: int) -> None:
    """20 requests at a time, five times, each answered as it is alone."""
    values = np.random.default_rng(3).normal(size=(20, 1, 3, size, size)).astype(np.float32)
    plain = over_http if module is over_http_aio else over_grpc
    async with module.InferenceServerClient(address) as client:
        alone = [
            (await client.infer(model, [tensor(plain, one, "FP32")])).as_numpy("logits") for one in values
        ]
        for _ in range(5):
            many = await asyncio.gather(
                *(client.infer(model, [tensor(plain, one, "FP32")]) for one in values)
            )
            for answer, expected in zip(many, alone, strict=True):
                np.testing.assert_allclose(answer.as_numpy("logits"), expected, rtol=1e-3, atol=1e-3)


def main(http: str, grpc: str, model: str, predictions: str) -> int:
    expected = {}
    for line in open(predictions, encoding="utf-8"):  # noqa: SIM115
        given = json.loads(line)
        expected[given["source"]] = [(one["index"], one["probability"]) for one in given["top"]]
    failed = passed = 0
    for name, module, address in (("http", over_http, http), ("grpc", over_grpc, grpc)):
        client = module.InferenceServerClient(address)
        shape = client.get_model_metadata(model, **({} if name == "http" else {"as_json": True}))
        size = int(shape["inputs"][0]["shape"][-1])
        for checks in (
            looks(client, module, model), answers(client, module, model, expected, size),
            errors(client, module, model, size), counts(client, module, model, size), reloads(client, model),
        ):  # fmt: skip
            try:
                for check in checks:
                    passed += 1
                    print(f"{name}: {check}: passed")
            except Exception as error:
                failed += 1
                print(f"{name}: after {passed} checks: failed: {type(error).__name__}: {error!s:.500}")
        asynchronous = over_http_aio if name == "http" else over_grpc_aio
        asyncio.run(at_once(asynchronous, address, model, size))
        passed += 1
        print(f"{name}: 20 requests at a time: passed")
        client.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
