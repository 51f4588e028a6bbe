"""`vertebra serve` against servers that others made, and its own protocols against each other.

    python benchmarks/serving_peers.py BUNDLE --envs FOLDER [--seconds 10] [--rounds 3] [--only litserve]

BUNDLE is of squeezenet1_1, as ONNX. Each other server has an environment of its own in FOLDER, which is made
if it isn't there. All run the same network on the same ONNX Runtime with one thread on one core, with the
same preprocessing, and everything else, this client too, on another core. Ours calls the engine with up to
as many images as a look at the engine alone finds best, but at most half of the 8 connections over which all
are asked in turns, so that images wait while others run. Each server is started, asked and ended in each
round. Both rates and their ratio are printed:

JPEG     a photograph in, its label out: LitServe and a plain Starlette handler, asked >= 1 on squeezenet1_1;
         on a network that does next to nothing LitServe >= 2, Starlette >= 1.2, though decoding, which is the
         same in all, takes most of the time
pixels   150 kB of UINT8 on a network that does next to nothing: LitServe >= 2, Starlette >= 1.2, KServe's SDK
         >= 10 (binary tensors), MLServer (JSON, since it has no binary tensors)
bRPC     224 x 224 FP32 over bRPC against gRPC, both ours: asked >= 0.5

Run it on a quiet machine: 15 x --rounds x (--seconds + about 5 s).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import serving
import serving_parts as parts
from serving_parts import CONNECTIONS, ENGINE_CORE, OTHER_CORE, Client, Process
from vertebra import bundles
from vertebra.inference.clients import addresses, inputs
from vertebra.inference.clients.over_grpc import GrpcClient
from vertebra.inference.serving import brpc
from vertebra.machine import protobuf

HERE = Path(__file__).resolve().parent
MODEL = "measured"
SHARED = tuple(f"{name}=={version(name)}" for name in ("numpy", "onnxruntime", "pillow", "simplejpeg"))
PACKAGES = {
    "starlette": tuple(
        f"{name}=={version(name)}" for name in ("starlette", "uvicorn", "httptools", "uvloop")
    ),
    "litserve": ("litserve==0.2.19", "python-multipart"),
    "kserve": ("kserve==0.21.0",),
    "mlserver": ("mlserver",),
}
#: The pixels of the network that does next to nothing, and what is asked of the ratio.
SIZE = 224
ASKED = {
    ("squeezenet", "JPEG", "litserve"): 1.0, ("squeezenet", "JPEG", "starlette"): 1.0,
    ("nothing", "pixels", "litserve"): 2.0, ("nothing", "pixels", "starlette"): 1.2,
    ("nothing", "pixels", "kserve"): 10.0, ("nothing", "pixels", "mlserver"): None,
    ("nothing", "JPEG", "litserve"): 2.0, ("nothing", "JPEG", "starlette"): 1.2,
}  # fmt: skip


# ------------------------------------------------------------------ networks


def nothing(folder: Path, like: Path) -> Path:
    """A Bundle whose network takes the mean of each colour times a small matrix."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    def put(draft: Path) -> None:
        value = helper.make_tensor_value_info
        nodes = [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ]
        graph = helper.make_graph(
            nodes, "nothing", [value("x", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
            [value("logits", TensorProto.FLOAT, ["n", 4])], [numpy_helper.from_array(weight, "w")],
        )  # fmt: skip
        opset = [helper.make_opsetid("", 17)]
        save_model(helper.make_model(graph, opset_imports=opset, ir_version=9), draft / "model.onnx")

    weight = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    images = bundles.bundle.reference_images(batch_size=2, in_channels=3, input_size=SIZE, seed=5)
    logits = images.mean(axis=(2, 3), dtype=np.float64).astype(np.float32) @ weight
    card = bundles.Card(weights="nothing", preprocess=bundles.read(like).preprocess)
    bundles.write(
        folder, put, model="nothing", logits=logits, reference_seed=5, input_size=SIZE, in_channels=3,
        versions={}, card=card,
    )  # fmt: skip
    return folder


@dataclass(frozen=True)
class Subject:
    """A network that all serve."""

    name: str
    bundle: Path
    spec: Path
    most: int


def subject(name: str, bundle: Path, work: Path, photo: Path, seconds: float) -> Subject:
    kept = bundles.read(bundle)
    assert kept.preprocess is not None
    known = kept.label_set()
    labels = [str(place) for place in range(kept.num_classes)] if known is None else list(known.names)
    record = asdict(replace(kept.preprocess, apply_orientation=True))
    spec = {
        "onnx": str((bundle / "model.onnx").resolve()), "preprocess": record, "labels": labels,
        "core": ENGINE_CORE, "size": kept.input_size,
    }  # fmt: skip
    path = work / f"{name}.json"
    path.write_text(json.dumps(spec))
    most = min(serving.best_batch(bundle, photo, seconds), CONNECTIONS // 2)
    print(f"{name}: calls of up to {most} images", flush=True)
    return Subject(name, bundle, path, most)


# ------------------------------------------------------------------ servers


def environment(folder: Path, name: str) -> Path:
    """The Python of a peer's environment, which is made if it isn't there."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        print(f"making {folder / name}")
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)
    # the engine and what decodes are those of ours, whatever the peer would take
    subprocess.run([str(python), "-m", "pip", "install", "-q", *SHARED], check=True)
    return python


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@contextmanager
def ours(one: Subject, *options: str) -> Iterator[Process]:
    server = parts.measured(one.bundle, MODEL, *options, most=one.most)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def peer(name: str, python: Path, one: Subject) -> Iterator[Process]:
    """Another's server, its own threads on the other core; the engine's went to theirs by themselves."""
    port = free_port()
    environ = {"PYTHONPATH": f"{HERE.parent / 'src'}{os.pathsep}{HERE}", "PEER_SPEC": str(one.spec)}
    command = [str(python), str(HERE / "serving_peer.py"), name, str(one.spec), str(port)]
    with tempfile.TemporaryDirectory() as folder:
        if name == "mlserver":
            ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
            settings = {**ports, "host": "127.0.0.1", "parallel_workers": 0}
            (Path(folder) / "settings.json").write_text(json.dumps(settings))
            model = {"name": MODEL, "implementation": "serving_peer.Runtime"}
            (Path(folder) / "model-settings.json").write_text(json.dumps(model))
            command = [str(python.with_name("mlserver")), "start", folder]
        server = Process(["taskset", "-c", str(OTHER_CORE), *command], port=port, env=environ)
        try:
            yield server
        finally:
            server.close()


def body_for(name: str, kind: str, photo: bytes, pixels: Any) -> bytes:
    """A whole request as the server takes it."""
    content = photo if kind == "JPEG" else pixels.tobytes()
    what = "label" if kind == "JPEG" else "logits"
    if name == "starlette":
        return parts.request(f"/{what}", content, Content_Type="application/octet-stream")
    if name == "litserve":
        edge = b"7d1cbe"
        body = b'--%b\r\nContent-Disposition: form-data; name="kind"\r\n\r\n%b\r\n' % (edge, what.encode())
        body += b'--%b\r\nContent-Disposition: form-data; name="content"; filename="a"\r\n\r\n' % edge
        body += content + b"\r\n--%b--\r\n" % edge
        return parts.request("/predict", body, Content_Type=f"multipart/form-data; boundary={edge.decode()}")
    if name == "mlserver":
        given = {"name": "images", "shape": list(pixels.shape), "datatype": "UINT8"}
        body = json.dumps({"inputs": [{**given, "data": pixels.ravel().tolist()}]}).encode()
        return parts.request(f"/v2/models/{MODEL}/infer", body, Content_Type="application/json")
    return parts.inference(MODEL, content, pixels.shape, "UINT8")


def labelled(photo: bytes) -> bytes:
    """Our request for a label."""
    content = len(photo).to_bytes(4, "little") + photo
    given = {
        "name": "images", "shape": [1], "datatype": "BYTES",
        "parameters": {"binary_data_size": len(content)},
    }  # fmt: skip
    wanted = [{"name": "probabilities", "parameters": {"classification": 1}}]
    head = json.dumps({"inputs": [given], "outputs": wanted}).encode()
    path = f"/v2/models/{MODEL}/infer"
    return parts.request(path, head + content, Inference_Header_Content_Length=str(len(head)))


# ------------------------------------------------------------------ figures


def rate(server: Process, body: bytes, seconds: float) -> float:
    """Good answers per second; every answer must be good."""

    async def run() -> float:
        warm = Client(server.port, body)
        for _ in range(600):  # a server may take connections before it can answer
            answer = await warm.ask()
            if warm.statuses["200"]:
                break
            await asyncio.sleep(0.1)
        assert warm.statuses["200"], f"{warm.statuses}: {answer[:500]!r}"
        client = Client(server.port, body)
        await client.steady(min(1.0, seconds))
        found = await client.steady(seconds)
        assert set(client.statuses) == {"200"}, client.statuses
        return found

    return asyncio.run(run())


def compared(
    title: str, runs: dict[str, Callable[[], float]], asked: dict[str, float | None], rounds: int
) -> None:
    """Each in turns; ours is first."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    first, *others = runs
    mine = statistics.median(found[first])
    for name in others:
        theirs = statistics.median(found[name])
        least = asked.get(name)
        each = ", ".join(
            f"{one:.1f}/{other:.1f}" for one, other in zip(found[first], found[name], strict=True)
        )
        print(
            f"{title}: {first} {mine:.1f}/s, {name} {theirs:.1f}/s: {mine / theirs:.2f} times"
            + ("" if least is None else f" (asked: {least:g})") + f"; rounds {each}",
            flush=True,
        )  # fmt: skip


def against_peers(asked: argparse.Namespace, subjects: dict[str, Subject], photo: bytes) -> None:
    pythons = {name: environment(asked.envs, name) for name in PACKAGES if asked.only in (None, name)}
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, SIZE, SIZE), np.uint8)

    def run_ours(one: Subject, body: bytes) -> float:
        with ours(one, "--no-grpc") as server:
            return rate(server, body, asked.seconds)

    def run_peer(name: str, one: Subject, body: bytes) -> float:
        with peer(name, pythons[name], one) as server:
            return rate(server, body, asked.seconds)

    for network, kind in dict.fromkeys((network, kind) for network, kind, _ in ASKED):
        one = subjects[network]
        mine = labelled(photo) if kind == "JPEG" else body_for("ours", kind, photo, pixels)
        runs: dict[str, Callable[[], float]] = {"vertebra": lambda one=one, mine=mine: run_ours(one, mine)}
        least: dict[str, float | None] = {}
        for (of, way, name), wanted in ASKED.items():
            if (of, way) == (network, kind) and name in pythons:
                body = body_for(name, kind, photo, pixels)
                runs[name] = lambda name=name, one=one, body=body: run_peer(name, one, body)
                least[name] = wanted
        if len(runs) > 1:
            compared(f"{network}, {kind}", runs, least, asked.rounds)


#: The beginning of a response's RpcMeta without an error.
_NO_ERROR = protobuf.message(2, protobuf.number(1, 0))


def brpc_frame(question: inputs.Question) -> bytes:
    """The question as Paddle Serving's clients ask it."""
    shape = b"".join(protobuf.number(11, size) for size in question.shape)
    floats = protobuf.message(2, question.content)
    tensor = floats + protobuf.number(10, 1) + shape + protobuf.text(13, question.name)
    payload = protobuf.message(1, tensor) + protobuf.text(2, "logits")
    named = protobuf.text(1, brpc.SERVICE) + protobuf.text(2, brpc.METHOD)
    return brpc.frame(protobuf.message(1, named) + protobuf.number(4, 1), payload)


async def over_brpc(port: int, question: inputs.Question, seconds: float) -> float:
    content, loop = brpc_frame(question), asyncio.get_running_loop()

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count, begin = 0, loop.time()
        while loop.time() - begin < seconds:
            writer.write(content)
            head = await reader.readexactly(12)
            body = await reader.readexactly(int.from_bytes(head[4:8], "big"))
            assert body.startswith(_NO_ERROR), f"an error: {body[:500]!r}"
            count += 1
        writer.close()
        return count

    begin = loop.time()
    counts = await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return sum(counts) / (loop.time() - begin)


async def over_grpc(address: str, seconds: float) -> float:
    client, loop = GrpcClient(addresses.parsed(f"grpc://{address}"), None), asyncio.get_running_loop()
    await client.opened()
    taken = (await client.about()).taken
    await client.prepare(
        inputs.tensors(taken, batch_size=1, input_size=None, seed=0)[:1], at_once=CONNECTIONS
    )

    async def one() -> int:
        count, begin = 0, loop.time()
        while loop.time() - begin < seconds:
            await client.answer(0)
            count += 1
        return count

    begin = loop.time()
    counts = await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    found = sum(counts) / (loop.time() - begin)
    await client.close()
    return found


def protocols(asked: argparse.Namespace, one: Subject) -> None:
    """bRPC against gRPC, of one server each time."""
    taken = inputs.Input("images", "FP32", (-1, 3, SIZE, SIZE))
    (question, *_) = inputs.tensors(taken, batch_size=1, input_size=None, seed=0)

    def run(which: str) -> float:
        ports = ("--grpc-port", "0", "--brpc-port", str(free_port()))
        with ours(one, *ports) as server:
            grpc_at, brpc_at = re.findall(r"(?:gRPC|bRPC) at (\S+:\d+)", server.ready)
            if which == "gRPC":
                return asyncio.run(over_grpc(grpc_at, asked.seconds))
            return asyncio.run(over_brpc(int(brpc_at.rpartition(":")[2]), question, asked.seconds))

    runs: dict[str, Callable[[], float]] = {
        which: lambda which=which: run(which) for which in ("bRPC", "gRPC")
    }
    compared(f"{one.name}, FP32", runs, {"gRPC": 0.5}, asked.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--envs", type=Path, required=True)
    parser.add_argument("--photo", type=Path, help="a JPEG file; drawn if none is named")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[*PACKAGES, "brpc"])
    asked = parser.parse_args()
    picture = asked.photo or parts.drawn()
    os.sched_setaffinity(0, {OTHER_CORE})
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        subjects = {
            name: subject(name, bundle, work, picture, asked.seconds)
            for name, bundle in (
                ("squeezenet", asked.bundle), ("nothing", nothing(work / "nothing", asked.bundle))
            )
        }  # fmt: skip
        if asked.only != "brpc":
            against_peers(asked, subjects, picture.read_bytes())
        if asked.only in (None, "brpc"):
            protocols(asked, subjects["nothing"])
            protocols(asked, subjects["squeezenet"])


if __name__ == "__main__":
    main()
