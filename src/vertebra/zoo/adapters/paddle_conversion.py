"""A program, run by the Python that has PaddlePaddle: one inference model into one ONNX file.

    python -I paddle_conversion.py GRAPH PARAMETERS FOLDER MEMORY_BYTES FILE_BYTES

Writes into the folder model.onnx, versions.json, and reference.npz: PaddlePaddle's own outputs for
noise. Imports nothing of vertebra, which that Python doesn't have. Exit code 3: the converter isn't
installed there.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

_USUAL = (2, 3, 224, 224)


def main() -> int:
    graph, parameters, folder, memory_bytes, file_bytes = sys.argv[1:]
    for limit, bound in (("AS", memory_bytes), ("FSIZE", file_bytes), ("CORE", "0")):
        kind = getattr(resource, f"RLIMIT_{limit}")
        resource.setrlimit(kind, (int(bound), resource.getrlimit(kind)[1]))
    try:
        converter = importlib.import_module("paddle2onnx")
        paddle = importlib.import_module("paddle")
        inference = importlib.import_module("paddle.inference")
        versions = {"paddlepaddle": str(paddle.__version__), "paddle2onnx": str(converter.__version__)}
    except (ImportError, AttributeError) as error:
        print(error, file=sys.stderr)
        return 3
    # Asked to write the file itself, it would optimise the graph with a library that installs packages.
    network = converter.export(graph, parameters, save_file=None, opset_version=17)
    Path(folder, "model.onnx").write_bytes(network)
    Path(folder, "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    shape = _input_shape(network)
    if len(shape) == 4:  # else not a network of pictures: reading the ONNX file reports that
        images, answers = _answers(inference, graph, parameters, shape)
        np = importlib.import_module("numpy")
        np.savez(Path(folder, "reference.npz"), images=images, answers=answers)
    return 0


def _input_shape(network: bytes) -> list[int]:
    """The shape of the first input, with the usual size where the network takes any."""
    inputs = importlib.import_module("onnx").load_model_from_string(network).graph.input
    extents = [extent.dim_value for extent in inputs[0].type.tensor_type.shape.dim] if inputs else []
    return [extent if extent > 0 else usual for extent, usual in zip(extents, _USUAL)]  # noqa: B905


def _answers(inference: Any, graph: str, parameters: str, shape: list[int]) -> tuple[Any, Any]:
    """Images of that shape, and PaddlePaddle's outputs for them."""
    np = importlib.import_module("numpy")
    config = inference.Config(graph, parameters)
    config.disable_gpu()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    given = predictor.get_input_handle(predictor.get_input_names()[0])
    given.reshape(images.shape)
    given.copy_from_cpu(images)
    predictor.run()
    output = predictor.get_output_handle(predictor.get_output_names()[0])
    return images, output.copy_to_cpu()


if __name__ == "__main__":
    sys.exit(main())
