"""A network's files in ONNX or OpenVINO's format: run, inspected, and replaced."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vertebra.bundles.manifest import NETWORK

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Images = npt.NDArray[np.float32]

#: Images (N, 3, H, W) to tensors by name: the logits (N, num_classes) first, then the others asked for.
Run = Callable[["Images"], "dict[str, Images]"]


@dataclass(frozen=True)
class Layer:
    """An operator with parameters: eight bits make it faster, and it may go back to float32. `takes` and
    `gives` name its inputs and its output, in the float32 network and in the quantised one."""

    name: str
    takes: tuple[str, ...]
    gives: str


class Graph(Protocol):
    """The operations on a format's files."""

    def layers(self, path: Path) -> list[Layer]:
        """The layers of the network in the file, in the order in which they run."""
        ...

    def open(self, path: Path, tensors: Sequence[str] = ()) -> Run:
        """The network, ready to run; it also gives those of the `tensors` that it has."""
        ...

    def put(self, path: Path, draft: Path) -> None:
        """Replace the network in a Bundle's folder with the one at `path`."""
        ...


class OnnxGraph:
    _WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvTranspose")

    def layers(self, path: Path) -> list[Layer]:
        import onnx

        graph = onnx.load(str(path), load_external_data=False).graph
        made = {name for node in graph.node for name in node.output}
        return [
            Layer(node.name, tuple(name for name in node.input if name in made), node.output[0])
            for node in graph.node
            if node.op_type in self._WEIGHTED
        ]

    def open(self, path: Path, tensors: Sequence[str] = ()) -> Run:
        import onnx
        import onnxruntime

        source: str | bytes = str(path)
        if tensors:
            network = onnx.load(str(path))
            there = {output.name for output in network.graph.output}
            made = {name for node in network.graph.node for name in node.output} - there
            network.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name in made)
            source = network.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda images: dict(zip(names, session.run(None, {"images": images}), strict=True))

    def put(self, path: Path, draft: Path) -> None:
        import onnx

        from vertebra.exporting.onnx import _strip

        network = onnx.load(str(path))
        _strip(network)
        for name in (NETWORK, f"{NETWORK}.data"):
            (draft / name).unlink(missing_ok=True)
        onnx.save(
            network,
            str(draft / NETWORK),
            save_as_external_data=True,
            location=f"{NETWORK}.data",
            size_threshold=1024,
        )


class OpenvinoGraph:
    _WEIGHTED = ("Convolution", "GroupConvolution", "MatMul", "ConvolutionBackpropData")

    def layers(self, path: Path) -> list[Layer]:
        nodes = read_openvino(path).get_ordered_ops()
        return [
            Layer(
                node.get_friendly_name(),
                (node.input_value(0).get_node().get_friendly_name(),),
                node.get_friendly_name(),
            )
            for node in nodes
            if node.get_type_name() in self._WEIGHTED
        ]

    def open(self, path: Path, tensors: Sequence[str] = ()) -> Run:
        import openvino

        network = read_openvino(path)
        (logits,) = (output.get_node().input_value(0).get_node() for output in network.outputs)
        named = {node.get_friendly_name(): node for node in network.get_ordered_ops()}
        asked = [name for name in tensors if name in named]
        network.add_outputs([named[name].output(0) for name in asked])
        pinned = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        compiled = openvino.Core().compile_model(network, "CPU", pinned)

        def run(images: Images) -> dict[str, Images]:
            results = compiled(images)
            names = enumerate([logits.get_friendly_name(), *asked])
            return {name: results[end].copy() for end, name in names}

        return run

    def put(self, path: Path, draft: Path) -> None:
        for file in (path, path.with_suffix(".bin")):
            shutil.copyfile(file, draft / file.name)


def read_openvino(path: Path) -> Any:
    """OpenVINO's model of the file."""
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # its file is replaced while it is in use
    return core.read_model(path)


_GRAPHS: dict[str, Graph] = {"onnx": OnnxGraph(), "openvino": OpenvinoGraph()}


def of(format: str) -> Graph:
    """The operations on files of `format`, one that can be quantised."""
    return _GRAPHS[format]


def run(network: Run, images: Images, batch_size: int) -> dict[str, Images]:
    """The network's tensors for `images`, run in batches of `batch_size`."""
    import numpy as np

    rows = [network(batch) for batch in batches(images, batch_size)]
    return {name: np.concatenate([row[name] for row in rows])[: len(images)] for name in rows[0]}


def logits(network: Run, images: Images, batch_size: int) -> Images:
    """The logits (N, num_classes) of `images`, run in batches of `batch_size`."""
    return next(iter(run(network, images, batch_size).values()))


def batches(images: Images, batch_size: int) -> list[Images]:
    """`images` in batches; if the last one is too small, it is filled from the first image on."""
    import numpy as np

    starts = range(0, len(images), batch_size)
    return [images[np.arange(start, start + batch_size) % len(images)] for start in starts]
