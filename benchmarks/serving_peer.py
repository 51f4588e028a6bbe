"""One server that others made, for serving_peers.py, which runs this in an environment of its own.

    python serving_peer.py starlette|litserve|kserve SPEC PORT

SPEC is a JSON file: the network's ONNX file, its Preprocess, its labels, and the core of the engine. Each
server runs the same ONNX Runtime with one thread on that core, preprocesses with the same code, and answers
a JPEG with its label, or a UINT8 tensor with logits. MLServer imports `Runtime` from here.
"""

# LitServe looks at annotations as they are, so they are not texts here.

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Spec = dict[str, Any]


class Network:
    """The engine, and what is done before and after it; on the core of the thread that makes it."""

    def __init__(self, spec: Spec) -> None:
        import onnxruntime

        from vertebra.data.preprocess import Preprocess, preprocess

        os.sched_setaffinity(0, {spec["core"]})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(spec["onnx"], options, ["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._record, self._preprocess = Preprocess.from_dict(spec["preprocess"]), preprocess
        self._labels = spec["labels"]
        self._mean, self._std = (
            np.array(spec["preprocess"][name], np.float32).reshape(1, 3, 1, 1) for name in ("mean", "std")
        )

    def label(self, content: bytes) -> dict[str, Any]:
        """Of an encoded picture."""
        logits = self._run(self._preprocess(content, self._record)[None])[0]
        shares = np.exp(logits - logits.max())
        best = int(shares.argmax())
        return {"label": self._labels[best], "probability": float(shares[best] / shares.sum())}

    def logits(self, pixels: Any) -> Any:
        """Of pixels (N, 3, size, size)."""
        return self._run((pixels.astype(np.float32) / 255 - self._mean) / self._std)

    def _run(self, images: Any) -> Any:
        return self._session.run(None, {self._input: images})[0]


class Beside:
    """A network in a thread of its own, so that the server's thread stays on its core."""

    def __init__(self, spec: Spec) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._network = self._pool.submit(Network, spec).result()

    async def ask(self, what: str, content: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, getattr(self._network, what), content)


def starlette(spec: Spec, port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    network = Beside(spec)

    async def label(request: Any) -> Any:
        return JSONResponse(await network.ask("label", await request.body()))

    async def logits(request: Any) -> Any:
        pixels = np.frombuffer(await request.body(), np.uint8).reshape(-1, 3, spec["size"], spec["size"])
        return Response((await network.ask("logits", pixels)).tobytes())

    routes = [Route("/label", label, methods=["POST"]), Route("/logits", logits, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="error", access_log=False)


def litserve(spec: Spec, port: int) -> None:
    import litserve as sdk

    server = sdk.LitServer(Api(), accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")


def kserve(spec: Spec, port: int) -> None:
    import kserve as sdk

    class Served(sdk.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("measured")
            self.network, self.ready = Beside(spec), True

        async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            values = await self.network.ask("logits", payload.inputs[0].as_numpy())
            output = sdk.InferOutput(name="logits", shape=list(values.shape), datatype="FP32")
            output.set_data_from_numpy(values, binary_data=True)
            return sdk.InferResponse(response_id="1", model_name="measured", infer_outputs=[output])

    sdk.ModelServer(http_port=port, enable_grpc=False, workers=1).start([Served()])


def spec_of_environment() -> Spec:
    """Where a server makes its own processes, which get nothing else."""
    found: Spec = json.loads(Path(os.environ["PEER_SPEC"]).read_text())
    return found


try:
    import litserve as lit
    from fastapi import Request
except ImportError:
    pass
else:

    class Api(lit.LitAPI):  # type: ignore[misc]
        """LitServe's, whose engine has a process of its own."""

        def setup(self, device: Any) -> None:
            spec = spec_of_environment()
            self._network, self._shape = Network(spec), (-1, 3, spec["size"], spec["size"])

        def decode_request(self, request: Request) -> Any:
            return request["content"].file.read(), request["kind"]

        def predict(self, given: Any) -> Any:
            content, kind = given
            if kind == "label":
                return self._network.label(content)
            return {
                "logits": self._network.logits(np.frombuffer(content, np.uint8).reshape(self._shape)).tolist()
            }

        def encode_response(self, output: Any) -> Any:
            return output


try:
    import mlserver
except ImportError:
    pass
else:

    class Runtime(mlserver.MLModel):  # type: ignore[misc]
        """MLServer's, with the same engine."""

        async def load(self) -> bool:
            self._network = Beside(spec_of_environment())
            return True

        async def predict(self, payload: Any) -> Any:
            from mlserver.codecs import NumpyCodec

            pixels = NumpyCodec.decode_input(payload.inputs[0])
            values = await self._network.ask("logits", pixels)
            return mlserver.types.InferenceResponse(
                model_name=self.name, outputs=[NumpyCodec.encode_output("logits", values)]
            )


if __name__ == "__main__":
    kind, path, port = sys.argv[1:]
    found: Spec = json.loads(Path(path).read_text())
    {"starlette": starlette, "litserve": litserve, "kserve": kserve}[kind](found, int(port))
