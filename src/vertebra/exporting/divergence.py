"""Where a converted network leaves eager: the layer at which the two begin to differ, and the worst one.

Converters rename, fold and reorder layers, so none is looked up by its name. What each of eager's layers
gives is compared with every tensor of the converted graph that has as many elements: the nearest one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import parity
from vertebra.bundle import Bundle

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    Array = npt.NDArray[np.float32]

#: How often as large as before it an error must be to be a layer's own.
_JUMP = 10
#: Errors of less than this share of the limit are rounding, and so is the least one.
_ROUNDING, _LEAST = 0.01, 1e-7
_INSTEAD = "Exported for onnxruntime, openvino or ncnn the network can be opened."
#: Of two tensors so many places are compared, to find the nearest of many.
_PLACES = 1000


@dataclass(frozen=True)
class Layer:
    """What one of eager's layers gives, against the graph: the largest difference from the nearest tensor,
    relative to the spread of eager's; infinite where none has its size. `chained`: all that it takes is what
    the layer before it gave."""

    name: str
    kind: str
    error: float
    chained: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


def tell(kept: Bundle, network: nn.Module, images: Array) -> str:
    """One sentence on where the Bundle's graph, in float32, leaves `network` on `images` (N, C, H, W)."""
    if kept.format not in _OPENED:
        return f"At which layer can't be told: {kept.format} gives nothing but its end. {_INSTEAD}"
    limit = parity.LIMITS["float32"]
    return verdict(compare(network, images, tensors(kept, images), limit), limit)


def tensors(kept: Bundle, images: Array) -> Iterable[Array]:
    """All that the Bundle's graph makes of `images` on its way, of a format that can be opened."""
    return _OPENED[kept.format](kept.network, images)


def verdict(layers: Iterable[Layer], limit: float) -> str:
    """The layer whose error is larger than all before it by the greatest factor, and the worst one."""
    floor = before = max(limit * _ROUNDING, _LEAST)
    first, jump, told_before, worst = None, float(_JUMP), before, None
    for layer in layers:
        if layer.error > jump * before:
            first, jump, told_before = layer, layer.error / before, before
        if worst is None or layer.error > worst.error:
            worst = layer
        before = max(before, layer.error)
    if worst is None or worst.error <= floor * _JUMP:
        last = "they" if worst is None else "all layers"
        return f"In float32 {last} agree when opened: the fault comes after the last, or with the precision."
    if first is None:
        return f"No layer stands out; the worst is {_off(worst)}."
    so_far = f"at most {told_before:.1g}" if told_before > floor else "rounding alone"
    also = "" if worst == first else f"; the worst is {_off(worst)}"
    return f"It begins at the layer {_off(first)}, after {so_far}{also}."


def _off(layer: Layer) -> str:
    if layer.error == float("inf"):
        return f"{layer}, of whose size the graph has nothing"
    return f"{layer}, off by {layer.error:.2g} of its spread"


def compare(network: nn.Module, images: Array, theirs: Iterable[Array], limit: float) -> list[Layer]:
    """Every layer of `network`, in the order in which they answer, against `theirs`, the graph's tensors.
    Left out is what has none because it was folded into a layer behind it that agrees within `limit`."""
    import torch

    by_size: dict[int, list[Array]] = {}
    for tensor in theirs:
        by_size.setdefault(tensor.size, []).append(tensor.ravel())
    layers: list[Layer] = []
    given: list[Any] = [None]  # what the last layer gave

    def watch(name: str, module: nn.Module) -> Callable[..., None]:
        def look(_: nn.Module, taken: tuple[Any, ...], answer: Any) -> None:
            chained = len(taken) == 1 and taken[0] is given[0]
            if not isinstance(answer, torch.Tensor) or (answer is given[0] and not chained):
                return  # a container, which gives what its last layer gave
            given[0] = answer
            expected = answer.numpy().ravel()
            error = _error(expected, by_size.get(expected.size, []))
            _append(layers, Layer(name, type(module).__name__, error, chained), limit)

        return look

    for name, module in network.named_modules():
        module.register_forward_hook(watch(name or "the whole network", module))
    with torch.inference_mode():
        network(torch.from_numpy(images))
    return layers


def _append(layers: list[Layer], layer: Layer, limit: float) -> None:
    """The layer, in place of those before it that were folded into it."""
    if layer.error <= limit:
        chained = layer.chained
        while chained and layers and layers[-1].error > limit:
            chained = layers.pop().chained
    elif layer.chained and layers and layers[-1].error > limit and layer.kind.startswith("BatchNorm"):
        before = layers.pop()
        layer = Layer(layer.name, f"{layer.kind}, with {before}", layer.error, before.chained)
    layers.append(layer)


def _error(expected: Array, candidates: list[Array]) -> float:
    import numpy as np

    if not candidates:
        return float("inf")
    step = -(-expected.size // _PLACES)
    gaps = [float(np.abs(one[::step] - expected[::step]).sum()) for one in candidates]
    nearest = candidates[int(np.argmin(np.nan_to_num(gaps, nan=np.inf)))]
    spread = float(expected.std()) or float(np.abs(expected).max()) or 1.0
    error = float(np.abs(nearest - expected).max()) / spread
    return error if np.isfinite(error) else float("inf")


# ------------------------------------------------------------------ graphs, opened


def _from_onnx(path: Path, images: Array) -> Iterable[Array]:
    import numpy as np
    import onnx
    import onnxruntime

    graph = onnx.load(str(path), load_external_data=False)
    there = {output.name for output in graph.graph.output}
    names = dict.fromkeys(name for node in graph.graph.node for name in node.output if name)
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    opened = path.with_name("opened.onnx")  # beside the parameters' file, which it names
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
        extractor.set_light_mode(False)  # keep what lies between
        extractor.input(network.input_names()[0], ncnn.Mat(image))
        for name in (blob.name for blob in network.blobs()):
            answers.setdefault(name, []).append(np.array(extractor.extract(name)[1], dtype=np.float32))
    return [np.stack(each) for each in answers.values()]


_OPENED: dict[str, Callable[[Path, Array], Iterable[Array]]] = {
    "onnx": _from_onnx,
    "openvino": _from_openvino,
    "ncnn": _from_ncnn,
}
