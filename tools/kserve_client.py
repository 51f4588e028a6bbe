"""Asks a running server through the client of KServe's SDK, which others wrote; run by `.ci/more clients` in
an environment of its own, where vertebra isn't installed.

    python tools/kserve_client.py HTTP GRPC MODEL PREDICTIONS

PREDICTIONS is what `vertebra predict --json` printed for some pictures: the server must give the same classes
in order, but for ties, and the same probabilities.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)

#: the largest difference between the server's probabilities and those of `vertebra predict`
MOST = 1e-5
Ask = Callable[[InferRequest], Awaitable[Any]]


def request(model: str, values: Any, datatype: str, *, binary: bool = True) -> InferRequest:
    given = InferInput(name="images", shape=list(values.shape), datatype=datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    parameters = {"binary_data_output": True} if binary else {}
    return InferRequest(model_name=model, infer_inputs=[given], parameters=parameters)


def output(answer: Any, name: str) -> Any:
    (found,) = [one.as_numpy() for one in answer.outputs if one.name == name]
    return found


def same(shares: Any, expected: list[tuple[int, float]]) -> None:
    order = np.argsort(-shares, kind="stable")
    for place, (index, share) in enumerate(expected):
        assert abs(shares[index] - share) <= MOST, (index, shares[index], share)
        assert order[place] == index or abs(shares[order[place]] - share) <= MOST, (order[place], index)


async def checked(name: str, ask: Ask, model: str, expected: dict[str, list[tuple[int, float]]]) -> int:
    """How many checks passed. Raises where one doesn't."""
    for path, classes in expected.items():
        content = np.array([open(path, "rb").read()], dtype=object)  # noqa: SIM115
        answer = await ask(request(model, content, "BYTES"))
        same(output(answer, "probabilities")[0], classes)
    print(f"{name}: {len(expected)} pictures: passed")
    size = 224
    values = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
    binary = output(await ask(request(model, values, "FP32")), "logits")
    plain = output(await ask(request(model, values, "FP32", binary=False)), "logits")
    np.testing.assert_allclose(plain, binary, atol=1e-4)
    print(f"{name}: FP32, binary and not: passed")
    half = output(await ask(request(model, values.astype(np.float16), "FP16")), "logits")
    assert abs(half - binary).max() < 0.05 * abs(binary).max()
    print(f"{name}: FP16: passed")
    many = await asyncio.gather(*(ask(request(model, values, "FP32")) for _ in range(20)))
    for one in many:
        np.testing.assert_allclose(output(one, "logits"), binary, rtol=1e-3, atol=1e-3)
    print(f"{name}: 20 requests at a time: passed")
    for wrong, values_ in (("none", values), (model, values[:, :, :4, :4])):
        try:
            await ask(request(wrong, np.ascontiguousarray(values_), "FP32"))
        except Exception as error:
            said = str(error)
        else:
            said = "Traceback, since it is answered"
        assert "Traceback" not in said, f"{wrong}, {values_.shape}: {said}"
    print(f"{name}: an unknown model and another shape are refused: passed")
    return 5


async def main(http: str, grpc: str, model: str, predictions: str) -> int:
    expected = {}
    for line in open(predictions, encoding="utf-8"):  # noqa: SIM115
        given = json.loads(line)
        expected[given["source"]] = [(one["index"], one["probability"]) for one in given["top"]]
    base = f"http://{http}"
    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await rest.is_server_live(base)
    assert await rest.is_server_ready(base)
    assert await rest.is_model_ready(base, model)
    print("http: health: passed")
    passed = 1 + await checked(
        "http", lambda asked: rest.infer(base, asked, asked.model_name), model, expected
    )
    async with InferenceGRPCClient(grpc) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(model)
        print("grpc: health: passed")
        passed += 1 + await checked("grpc", client.infer, model, expected)
    print(f"{passed} passed")
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main(*sys.argv[1:])))
