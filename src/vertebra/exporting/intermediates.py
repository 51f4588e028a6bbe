"""The result of each layer of a network, in torch and in its converted form.

Some formats show every tensor of their graph. For the others a network is converted once more, with the
result of each layer as a further output.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vertebra import bundles
from vertebra.bundles import native
from vertebra.bundles.manifest import NETWORKS
from vertebra.exporting import folding
from vertebra.exporting.orders import FORMATS, Order
from vertebra.machine import leftovers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

#: Takes a layer's name, the layer, its output, and whether its only input is the output of the layer before.
Look = Callable[[str, nn.Module, Tensor, bool], None]


@contextlib.contextmanager
def watched(network: nn.Module, look: Look) -> Iterator[None]:
    """In the block, each run of `network` calls `look` for every layer as it finishes."""
    given: list[Any] = [None]  # the output of the last layer

    def watch(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, taken: tuple[Any, ...], answer: Any) -> None:
            chained = len(taken) == 1 and taken[0] is given[0]
            if not isinstance(answer, Tensor) or (answer is given[0] and not chained):
                return  # a container, which returns the output of its last layer
            given[0] = answer
            look(name, layer, answer, chained)

        return hook

    hooks = [
        layer.register_forward_hook(watch(name or "the whole network"))
        for name, layer in network.named_modules()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# ------------------------------------------------------------------ graphs, opened


def _from_onnx(path: Path, images: Array) -> Iterable[Array]:
    import numpy as np
    import onnx
    import onnxruntime

    graph = onnx.load(str(path), load_external_data=False)
    there = {output.name for output in graph.graph.output}
    names = dict.fromkeys(name for node in graph.graph.node for name in node.output if name)
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    opened = path.with_name("opened.onnx")  # next to the parameters' file, which it names
    onnx.save(graph, str(opened))
    session = onnxruntime.InferenceSession(str(opened), providers=["CPUExecutionProvider"])
    opened.unlink()
    answers = session.run(None, {session.get_inputs()[0].name: images})
    return [answer.astype(np.float32) for answer in answers if answer.dtype.kind == "f"]


def _from_openvino(path: Path, images: Array) -> Iterable[Array]:
    import numpy as np
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(openvino.PartialShape(list(images.shape)))
    shut = ("Constant", "Parameter", "Result")
    ends = [node.output(0) for node in model.get_ordered_ops() if node.get_type_name() not in shut]
    model.add_outputs([end for end in ends if end.get_element_type().is_real()])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [answer.astype(np.float32) for answer in compiled(images).values()]


def _from_ncnn(path: Path, images: Array) -> Iterable[Array]:
    import ncnn
    import numpy as np

    from vertebra.engines.ncnn import open_network

    network = open_network(path, threads=1)
    answers: dict[str, list[Array]] = {}
    for image in (image.copy() for image in images):
        extractor = network.create_extractor()
        extractor.set_light_mode(False)  # keep the tensors in between
        extractor.input(network.input_names()[0], ncnn.Mat(image))
        for name in (blob.name for blob in network.blobs()):
            answers.setdefault(name, []).append(np.array(extractor.extract(name)[1], dtype=np.float32))
    return [np.stack(each) for each in answers.values()]


def _from_mnn(path: Path, images: Array) -> Iterable[Array]:
    import numpy as np

    from vertebra.engines.mnn import open_network
    from vertebra.engines.standard_output import kept_clean

    answers: list[Array] = []
    with kept_clean():  # MNN prints what it was asked for
        import MNN

        def on_host(array: Array) -> Any:
            return MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)

        def keep(tensors: list[Any], _: str) -> bool:
            for tensor in tensors:
                if tensor.getDataType() == MNN.Halide_Type_Float:
                    shape = tensor.getShape()
                    host = on_host(np.zeros(shape, np.float32))
                    tensor.copyToHostTensor(host)
                    answers.append(np.array(host.getNumpyData(), dtype=np.float32).reshape(shape))
            return True  # and go on

        interpreter, session = open_network(path, images.shape, threads=1)
        interpreter.getSessionInput(session).copyFrom(on_host(images.copy()))
        interpreter.runSessionWithCallBack(session, lambda tensors, name: True, keep)
    return answers


def _from_litert(path: Path, images: Array) -> Iterable[Array]:
    """Tensors with channels last are given in torch's order too."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that keeping all tensors is for debugging
        interpreter = Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    for index in {index for done in interpreter._get_ops_details() for index in done["outputs"]}:
        answer = interpreter.get_tensor(index)
        if answer.dtype == np.float32:
            yield answer
            if answer.ndim == 4:
                yield answer.transpose(0, 3, 1, 2)


#: format -> what gives every tensor that the graph at this path computes from images
OPENED: dict[str, Callable[[Path, Array], Iterable[Array]]] = {
    "onnx": _from_onnx,
    "openvino": _from_openvino,
    "ncnn": _from_ncnn,
    "mnn": _from_mnn,
    "litert": _from_litert,
}


# ------------------------------------------------------------------ converted once more


class _Showing(nn.Module):
    """A network that returns its output and then that of each layer. A convolution before a batch norm is
    left out: converters join the two, and must be able to do so here."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        answers: list[Tensor] = []

        def keep(_: str, layer: nn.Module, answer: Tensor, chained: bool) -> None:
            if chained and isinstance(layer, nn.BatchNorm2d):
                answers.pop()
            answers.append(answer * 1)  # a new tensor, which no later layer overwrites

        with watched(self.network, keep):
            end = self.network(images)
        return (end, *answers)


def shown(kept: bundles.Bundle, network: nn.Module, images: Array) -> list[Array]:
    """`network` converted once more and run in the Bundle's engine on `images`: its output, then that of each
    layer. Raises MeasurementError if that isn't possible."""
    network = copy.deepcopy(network)
    folding.fold_batch_norms(network)
    example = kept.reference_pair(kept.batch_size or kept.reference["batch_size"])[0]
    converter = importlib.import_module(FORMATS[kept.format].module)
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as folder:
        order = Order(kept.batch_size, kept.precision)
        converter.write(_Showing(network), torch.from_numpy(example), Path(folder), order)
        path = Path(folder) / NETWORKS[kept.format]
        with torch.inference_mode():
            answers = SHOWN[kept.format](path, torch.from_numpy(images))
            return [answer.numpy().copy() for answer in answers]


def _by_executorch(path: Path, images: Tensor) -> Sequence[Tensor]:
    from executorch.runtime import Runtime

    answers: Sequence[Tensor] = Runtime.get().load_program(path).load_method("forward").execute([images])
    return answers


def _by_aotinductor(path: Path, images: Tensor) -> Sequence[Tensor]:
    from torch import _inductor

    with native.own(path) as file:
        answers: Sequence[Tensor] = _inductor.aoti_load_package(str(file))(images)
    return answers


#: format that shows nothing but its outputs -> what runs the network at this path
SHOWN: dict[str, Callable[[Path, Tensor], Sequence[Tensor]]] = {
    "executorch": _by_executorch,
    "aotinductor": _by_aotinductor,
}
