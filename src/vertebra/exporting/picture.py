"""A second graph in a Bundle: a picture's pixels in, probabilities out, for programs in any language.

picture.onnx takes `image` (height, width, 3), uint8, RGB, of any size, and gives `probabilities` (1,
num_classes). Resize, crop and normalisation are ONNX operators before the network's own; the parameters stay
in the network's file. The caller decodes the picture, and turns it upright if the record says so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundles
from vertebra.bundles import Bundle
from vertebra.bundles.manifest import INDEPENDENT, PICTURE
from vertebra.data.preprocess import Preprocess, preprocess
from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]

#: interpolation -> mode of ONNX's Resize; OpenCV's is built from simpler operators, exact to the bit
_MODES = {"bilinear": "linear", "bicubic": "cubic"}

#: The first ONNX operator set in which Resize has antialias.
_LEAST_OPSET = 18

#: (height, width) of the pictures of the proof: larger, smaller, wide, high, square
PROOF_SIZES = ((480, 640), (333, 250), (90, 120), (256, 256), (700, 200))

#: The largest allowed difference of a grey level, of their mean, and of a probability. ONNX Runtime's
#: bilinear weights are float32 and Pillow's float64: a sum between two levels may be rounded either way.
MOST_LEVELS, MEAN_LEVELS, MOST_PROBABILITY = 2, 0.05, 1e-3


def check(record: Preprocess | None) -> None:
    """Raise InvalidInputError if the record can't be put into an ONNX graph."""
    if record is None:
        raise InvalidInputError(
            "No preprocessing is known for this network.",
            "name one, a protocol or a JSON file: --preprocess NAME|FILE",
        )
    known = (*_MODES, "opencv-bilinear")
    if record.interpolation not in known:
        raise InvalidInputError(
            f'ONNX has no resize with the interpolation "{record.interpolation}"; it has {", ".join(known)}.',
            "leave --embed-preprocess out, or pass a preprocessing with one of these that the network "
            "works nearly as well with",
        )


def embed(kept: Bundle) -> Bundle:
    """The same Bundle with picture.onnx, which has been checked against Python's preprocessing.

    Raises what `check` raises, InvalidInputError if the Bundle's network can't follow a resize in one graph,
    MissingRuntimeError without onnx, and MeasurementError if the two results differ.
    """
    check(kept.preprocess)
    assert kept.preprocess is not None
    if kept.format != "onnx":
        raise InvalidInputError(
            f'Preprocessing can only be embedded in ONNX; this Bundle has the format "{kept.format}".',
            "export the network for the engine onnxruntime",
        )
    if kept.outputs in INDEPENDENT or kept.num_classes == 1:
        raise InvalidInputError(
            "picture.onnx answers with one class of several; this network's outputs stand each on its own.",
            "leave --embed-preprocess out",
        )
    onnx = _onnx()
    network = onnx.load(str(kept.network), load_external_data=False)
    opset = _opset(network, kept.network)
    graph = _Graph()
    source = _picture_input(graph, kept.preprocess)
    alone = graph.model(source, opset, (1, 3, *kept.preprocess.input_size))
    whole = _joined(network, graph, source, kept)

    def write(folder: Path) -> dict[str, Any]:
        path = folder / PICTURE
        path.write_bytes(whole.SerializeToString(deterministic=True))
        return prove(kept, alone.SerializeToString(), path)

    return bundles.add_picture(kept, write)


def _onnx() -> Any:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of("Embedding the preprocessing", "onnx", "torch") from error
    return onnx


def _opset(network: Any, path: Path) -> int:
    found = max(
        (entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx")), default=0
    )
    if found < _LEAST_OPSET:
        raise InvalidInputError(
            f"{path} has ONNX's operator set {found}; the resize needs {_LEAST_OPSET} or newer.",
            f"export the network again with opset {_LEAST_OPSET} or newer",
        )
    return int(found)


def _joined(network: Any, graph: _Graph, source: str, kept: Bundle) -> Any:
    """The picture's graph followed by the network, with a softmax at the end if it has none."""
    parameters = {tensor.name for tensor in network.graph.initializer}
    [images] = [value for value in network.graph.input if value.name not in parameters]
    batch = images.type.tensor_type.shape.dim[0]
    if batch.dim_value > 1:
        raise InvalidInputError(
            f"The network takes batches of {batch.dim_value} only; embedding needs single pictures.",
            "export it again without --batch-size",
        )
    graph.add("Identity", source, output=images.name)
    logits = network.graph.output[0].name
    ending = _Graph(prefix="answer")
    if kept.gives_probabilities():
        ending.add("Identity", logits, output="probabilities")
    else:
        ending.add("Softmax", logits, output="probabilities", axis=-1)
    nodes = [*graph.nodes, *network.graph.node, *ending.nodes]
    del network.graph.node[:], network.graph.input[:], network.graph.output[:]
    network.graph.node.extend(nodes)
    network.graph.initializer.extend(graph.constants)
    network.graph.input.append(_picture_value())
    network.graph.output.append(_float_value("probabilities", (1, kept.num_classes)))
    return network


# ------------------------------------------------------------------ the graph


class _Graph:
    """Nodes and constants under construction; each method returns the name of its result."""

    def __init__(self, prefix: str = "picture") -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._prefix = prefix

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = f"{self._prefix}/{len(self.nodes)}_{operator}"
        node = _onnx().helper.make_node(operator, inputs, [output or name], name, **attributes)
        self.nodes.append(node)
        return output or name

    def constant(self, value: Any, dtype: str) -> str:
        import numpy as np

        name = f"{self._prefix}/constant_{len(self.constants)}"
        self.constants.append(_onnx().numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def whole(self, value: int) -> str:
        return self.constant(value, "int64")

    def cast(self, name: str, dtype: str) -> str:
        return self.add("Cast", name, to=getattr(_onnx().TensorProto, dtype))

    def real(self, name: str) -> str:
        return self.cast(name, "DOUBLE")

    def rounded(self, name: str) -> str:
        """To whole numbers, halves to even, as Python rounds."""
        return self.cast(self.add("Round", name), "INT64")

    def model(self, output: str, opset: int, shape: tuple[int, ...]) -> Any:
        helper = _onnx().helper
        inner = helper.make_graph(
            self.nodes, self._prefix, [_picture_value()], [_float_value(output, shape)], self.constants
        )
        return helper.make_model(inner, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def _picture_value() -> Any:
    onnx = _onnx()
    return onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["height", "width", 3])


def _float_value(name: str, shape: tuple[int, ...]) -> Any:
    onnx = _onnx()
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))


def _picture_input(graph: _Graph, record: Preprocess) -> str:
    """From `image` to the network's input (1, 3, H, W)."""
    shape = graph.add("Shape", "image")
    height, width = (graph.add("Gather", shape, graph.whole(axis)) for axis in (0, 1))
    size = _resized(graph, record, height, width)
    corner = tuple(
        _edge(graph, record, side, crop) for side, crop in zip(size, record.input_size, strict=True)
    )
    resize = _opencv_bilinear if record.interpolation == "opencv-bilinear" else _antialiased
    pixels = resize(graph, record, (height, width), size, corner)  # (1, 3, H, W), whole numbers
    values = graph.add("Div", graph.cast(pixels, "FLOAT"), graph.constant(255, "float32"))
    mean, std = (
        graph.constant([[[[part]] for part in parts]], "float32") for parts in (record.mean, record.std)
    )
    return graph.add("Div", graph.add("Sub", values, mean), std)


Names = tuple[str, ...]


def _resized(graph: _Graph, record: Preprocess, height: str, width: str) -> Names:
    """`Preprocess.resized`, in the graph."""
    if isinstance(record.resize, tuple):
        return tuple(graph.whole(side) for side in record.resize)
    short = graph.add("Min", height, width)
    if record.resize_rounding == "nearest":
        scale = graph.add("Div", graph.constant(record.resize, "float64"), graph.real(short))
        return tuple(graph.rounded(graph.add("Mul", graph.real(side), scale)) for side in (height, width))
    target = graph.whole(record.resize)
    long = graph.add("Div", graph.add("Mul", target, graph.add("Max", height, width)), short)
    upright = graph.add("Greater", height, width)
    return graph.add("Where", upright, long, target), graph.add("Where", upright, target, long)


def _edge(graph: _Graph, record: Preprocess, side: str, crop: int) -> str:
    """One part of `Preprocess.corner`, in the graph."""
    spare = graph.add("Sub", side, graph.whole(crop))
    if record.crop_rounding == "nearest":
        return graph.rounded(graph.add("Div", graph.real(spare), graph.constant(2, "float64")))
    return graph.add("Div", spare, graph.whole(2))


def _antialiased(graph: _Graph, record: Preprocess, _: Names, size: Names, corner: Names) -> str:
    axis = graph.constant([0], "int64")
    planar = graph.add("Unsqueeze", graph.add("Transpose", "image", perm=[2, 0, 1]), axis)
    sides = [graph.add("Unsqueeze", side, axis) for side in size]
    sizes = graph.add("Concat", graph.constant([1, 3], "int64"), *sides, axis=0)
    resized = graph.add(
        "Resize", planar, "", "", sizes, antialias=1, exclude_outside=1, cubic_coeff_a=-0.5,
        coordinate_transformation_mode="half_pixel", mode=_MODES[record.interpolation],
    )  # fmt: skip
    starts = graph.add("Concat", *[graph.add("Unsqueeze", edge, axis) for edge in corner], axis=0)
    ends = graph.add("Add", starts, graph.constant(record.input_size, "int64"))
    return graph.add("Slice", resized, starts, ends, graph.constant([2, 3], "int64"))


def _opencv_bilinear(graph: _Graph, record: Preprocess, sides: Names, size: Names, corner: Names) -> str:
    """The integer arithmetic of `preprocess.resize`: at one half it gives OpenCV's mean of four too."""
    (row, below), (column, beside) = (
        _places(graph, side, resized, edge, crop)
        for side, resized, edge, crop in zip(sides, size, corner, record.input_size, strict=True)
    )
    height, width = sides
    one, zero = graph.whole(1), graph.whole(0)
    upper = _clipped(graph, row, height)
    lower = _clipped(graph, graph.add("Add", row, one), height)
    weights = [_fixed(graph, graph.add("Sub", graph.constant(1, "float32"), below)), _fixed(graph, below)]
    near = _clipped(graph, column, width)
    far = _clipped(graph, graph.add("Add", near, one), width)
    last = graph.add("Sub", width, one)
    outside = graph.add("Or", graph.add("Less", column, zero), graph.add("GreaterOrEqual", column, last))
    share = graph.add("Where", outside, graph.constant(0, "int32"), _fixed(graph, beside))
    share = graph.add("Unsqueeze", share, graph.constant([1], "int64"))  # (W, 1)
    parts = []
    for rows, weight in zip((upper, lower), weights, strict=True):
        strip = graph.add("Gather", "image", rows, axis=0)
        mixed = _mixed(graph, strip, near, far, share)
        weight = graph.add("Unsqueeze", weight, graph.constant([1, 2], "int64"))  # (H, 1, 1)
        parts.append(_divided(graph, graph.add("Mul", mixed, weight), 2**16))
    total = graph.add("Add", graph.add("Add", *parts), graph.constant(2, "int32"))
    pixels = _divided(graph, total, 4)  # (H, W, 3)
    return graph.add(
        "Unsqueeze", graph.add("Transpose", pixels, perm=[2, 0, 1]), graph.constant([0], "int64")
    )


def _places(graph: _Graph, side: str, resized: str, edge: str, crop: int) -> tuple[str, str]:
    """The pixel at or before each output's centre, and how far beyond it the centre lies."""
    scale = graph.add("Div", graph.real(side), graph.real(resized))
    end = graph.add("Add", edge, graph.whole(crop))
    outputs = graph.real(graph.add("Range", edge, end, graph.whole(1)))
    half = graph.constant(0.5, "float64")
    centre = graph.add("Sub", graph.add("Mul", graph.add("Add", outputs, half), scale), half)
    centre = graph.cast(centre, "FLOAT")
    floor = graph.add("Floor", centre)
    return graph.cast(floor, "INT64"), graph.add("Sub", centre, floor)


def _clipped(graph: _Graph, place: str, side: str) -> str:
    return graph.add("Clip", place, graph.whole(0), graph.add("Sub", side, graph.whole(1)))


def _fixed(graph: _Graph, weight: str) -> str:
    scaled = graph.add("Mul", weight, graph.constant(2048, "float32"))
    return graph.cast(graph.add("Round", scaled), "INT32")


def _mixed(graph: _Graph, strip: str, near: str, far: str, share: str) -> str:
    pair = [graph.cast(graph.add("Gather", strip, place, axis=1), "INT32") for place in (near, far)]
    rest = graph.add("Sub", graph.constant(2048, "int32"), share)
    total = graph.add("Add", graph.add("Mul", pair[0], rest), graph.add("Mul", pair[1], share))
    return _divided(graph, total, 16)


def _divided(graph: _Graph, value: str, divisor: int) -> str:
    return graph.add("Div", value, graph.constant(divisor, "int32"))


# ------------------------------------------------------------------ the proof


def prove(kept: Bundle, alone: bytes, whole: Path) -> dict[str, Any]:
    """The largest differences from Python's preprocessing over pictures of the PROOF_SIZES: in grey levels of
    the network's input, and in probabilities. Raises MeasurementError if they are too large.

    `alone` is the picture's part of the graph in `whole`; `whole` needs the network's parameters next to it.
    """
    import numpy as np

    assert kept.preprocess is not None
    sessions = [_session(alone), _session(str(whole)), _session(str(kept.network))]
    found = [_differences(kept, sessions, size) for size in PROOF_SIZES]
    levels, mean, probabilities = (float(np.max(parts)) for parts in zip(*found, strict=True))
    if levels > MOST_LEVELS or mean > MEAN_LEVELS or probabilities > MOST_PROBABILITY:
        raise MeasurementError(
            f"The preprocessing in the graph differs from Python's: by up to {levels:g} grey levels "
            f"({MOST_LEVELS} allowed), {mean:.2g} on average ({MEAN_LEVELS:g}), and {probabilities:.2g} "
            f"in a probability ({MOST_PROBABILITY:g})."
        )
    return {
        "grey_levels_most": int(levels),
        "grey_levels_mean": float(f"{mean:.2g}"),
        "probability_most": float(f"{probabilities:.1g}"),
        "pictures": [list(size) for size in PROOF_SIZES],
    }


def _session(model: bytes | str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _differences(kept: Bundle, sessions: list[Any], size: tuple[int, int]) -> tuple[float, float, float]:
    import numpy as np

    assert kept.preprocess is not None
    image = proof_picture(*size)
    ours = preprocess(image, replace(kept.preprocess, decode="exact"))
    alone, whole, network = sessions
    theirs = alone.run(None, {"image": image})[0][0]
    scale = 255 * np.reshape(kept.preprocess.std, (3, 1, 1))
    levels = np.rint(np.abs(theirs - ours) * scale)
    answers = network.run(None, {network.get_inputs()[0].name: ours[None]})[0]
    expected = answers if kept.gives_probabilities() else _softmax(answers)
    got = whole.run(None, {"image": image})[0]
    return float(levels.max()), float(levels.mean()), float(np.abs(got - expected).max())


def _softmax(logits: Array) -> Array:
    import numpy as np

    powers = np.exp(logits.astype(np.float64) - logits.max())
    shares: Array = powers / powers.sum()
    return shares


def proof_picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pixels (height, width, 3), the same on every machine: slopes, edges and fine stripes."""
    import numpy as np

    y, x, channel = np.ogrid[:height, :width, :3]
    slopes = (x * 255 // width + y * 255 // height * (channel + 1)) % 256
    striped = np.where((x // 9 + y // 7) % 3 == 0, (x * 37 + y * 91) % 256, slopes)
    pixels: npt.NDArray[np.uint8] = striped.astype(np.uint8)
    return pixels
