"""Run one peer or one of our forms in its own process: `python form_worker.py JSON`, for forms.py."""

from __future__ import annotations

import json
import sys

import numpy as np

from paddle_worker import serve
from vertebra import engines, zoo
from vertebra.engines import Settings, Subject


def work(text: str) -> None:
    """Load what the JSON names and serve it."""
    job = json.loads(text)
    images = np.load(job["images"])
    load = {"ours": our_form, "torch": torch_eager, "torch.compile": torch_compile,
            "onnxruntime": plain_onnxruntime, "openvino": plain_openvino}[job["kind"]]  # fmt: skip
    serve(*load(job, images))


def our_form(job, images):
    session = engines.load(job["engine"], Subject(**job["subject"]), Settings(**job["settings"]))
    prepared = session.prepare(images)
    return lambda: session.infer(prepared), lambda: session.run(images), session.effective()


def torch_eager(job, images, change=lambda network: network):
    import torch

    torch.set_num_threads(job["threads"])
    network = zoo.build(job["network"], seed=0).eval()
    given, call = torch.from_numpy(images), change(network)

    def infer():
        with torch.inference_mode():
            return call(given)

    return infer, lambda: infer().numpy(), {"version": torch.__version__, "threads": torch.get_num_threads()}


def torch_compile(job, images):
    import torch

    return torch_eager(job, images, torch.compile)


def plain_onnxruntime(job, images):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = onnxruntime.InferenceSession(job["onnx"], options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images}
    about = {"version": onnxruntime.__version__, "threads": job["threads"]}
    return lambda: session.run(None, feed), lambda: session.run(None, feed)[0], about


def plain_openvino(job, images):
    import openvino

    core = openvino.Core()
    network = core.read_model(job["onnx"])
    network.reshape(list(images.shape))
    pinned = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": job["threads"]}
    compiled = core.compile_model(network, "CPU", pinned)
    about = {"version": openvino.__version__, "threads": compiled.get_property("INFERENCE_NUM_THREADS")}
    return lambda: compiled(images), lambda: compiled(images)[0], about


if __name__ == "__main__":
    work(sys.argv[1])
