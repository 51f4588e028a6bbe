"""Parameters and multiply-accumulates of a network in an ONNX file, counted in its graph.

The shapes are those that onnx infers for one picture; where an operator is none of onnx's own, as in some
quantised networks, ONNX Runtime runs the network once and tells them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.machine import onnx_files, system
from vertebra.measurements import Measurement
from vertebra.measurements.shipped import Count, Layer
from vertebra.zoo import adapters
from vertebra.zoo.adapters import onnx as files

_CONVOLUTIONS = ("Conv", "ConvInteger", "FusedConv", "NhwcFusedConv", "QLinearConv", "DeformConv")
_PRODUCTS = (
    "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "QGemm", "FusedMatMul", "FusedGemm",
    "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
)  # fmt: skip
_RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
_COUNTED = (*_CONVOLUTIONS, *_PRODUCTS, *_RECURRENT, "ConvTranspose", "Einsum")
#: operators with products inside that are counted nowhere here
_UNCOUNTED = (
    "Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention", "MatMulNBits",
    "If", "Loop", "Scan",
)  # fmt: skip
#: operator -> which input is the other factor, where that isn't the second
_FACTOR = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
#: operator -> which inputs only say how numbers are rounded
_ROUNDING = {
    "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7), "QGemm": (1, 2, 4, 5, 7, 8), "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3), "DynamicQuantizeLSTM": (8, 9, 10, 11),
}  # fmt: skip
#: operator -> which inputs are statistics, as torch's buffers are
_STATISTICS = {"BatchNormalization": (3, 4)}
_WHOLE = ("int64", "bool", "uint64", "uint32")
#: Constants of at most this many elements may say what shape another tensor has.
_SMALL = 1024


@dataclass(frozen=True, kw_only=True)
class GraphProfile(Count):
    """The counts of a network in a file, layer by layer too, and what the file states of itself.

    Parameters are the constants that it computes with, as it stores them: a batch norm that the exporter
    folded into a convolution isn't there to be counted. `weight_bytes` is their size in the file.
    """

    layers: tuple[Layer, ...]
    precision: str
    opset: int
    num_classes: int
    in_channels: int
    batch_size: int | None
    ends_in: str

    @property
    def stages(self) -> tuple[()]:
        """None: a graph's names say nothing of its parts."""
        return ()


def profile(path: Path, *, model: str, input_size: int) -> GraphProfile:
    """Count the network in the file for one picture of `input_size`. Raises InvalidInputError for a file that
    isn't a network of pictures, MissingRuntimeError without onnx, and MeasurementError for operators that
    can't be counted."""
    found, seen = files.graph(path), files.signature(path)
    _check_countable(found)
    shapes = _shapes(found, seen, input_size)
    layers = tuple(_layers(found, shapes))
    params, buffers, weight_bytes = sizes(found)
    macs_conv = sum(one.macs for one in layers if one.kind in (*_CONVOLUTIONS, "ConvTranspose"))
    macs = sum(one.macs for one in layers)
    return GraphProfile(
        model=model,
        input_size=input_size,
        params=params,
        unused_params=0,
        buffers=buffers,
        macs_conv=macs_conv,
        macs_linear=macs - macs_conv,
        activations=sum(one.activations for one in layers),
        weight_bytes=weight_bytes,
        macs_fvcore=macs,
        layers=layers,
        precision=found.precision,
        opset=found.opset,
        num_classes=seen.num_classes,
        in_channels=seen.in_channels,
        batch_size=seen.batch_size,
        ends_in=found.ending,
    )


def sizes(found: onnx_files.OnnxFile) -> tuple[int, int, int]:
    """The numbers in a file's parameters and buffers, and the bytes of both; needs no onnx."""
    kinds = _roles(found)
    params = [one for one in found.constants if kinds.get(one.name) == "parameter"]
    buffers = [one for one in found.constants if kinds.get(one.name) == "buffer"]
    size_bytes = sum(one.size_bytes for one in (*params, *buffers))
    return sum(one.elements for one in params), sum(one.elements for one in buffers), size_bytes


def rows(counted: GraphProfile, *, measured_at: str | None = None) -> list[Measurement]:
    """The totals as rows, of the network that the file holds."""
    counts, content = counted.totals(), adapters.content_sha256(counted.model)
    sizeless = ("params", "buffers", "weight_bytes")
    return [
        Measurement(
            model=adapters.name_of_file(counted.model),
            network_sha256=content,
            metric=metric,
            value=counts[metric],
            origin="profiled",
            input_size=None if metric in sizeless else counted.input_size,
            precision=counted.precision if metric == "weight_bytes" else None,
            versions=system.library_versions(("onnx", "vertebra")),
            measured_at=measured_at,
        )
        for metric in ("params", "buffers", "weight_bytes", "macs", "activations")
    ]


# ------------------------------------------------------------------ parameters


def _check_countable(found: onnx_files.OnnxFile) -> None:
    others = sorted({
        node.kind for node in found.nodes
        if node.kind in _UNCOUNTED or (node.kind == "Einsum" and len(node.takes) > 2)
    })  # fmt: skip
    if others:
        raise MeasurementError(
            f"The network in {found.path} can't be counted: it has the operators {', '.join(others)}.",
            "export it without control flow, and with plain matrix products instead of fused attention",
        )


def _roles(found: onnx_files.OnnxFile) -> dict[str, str]:
    """Of each constant that the network computes with: whether it is a parameter, a buffer, or a rounding's
    scale. Shapes, axes and single numbers of an operator are none of these."""
    held = {one.name: one for one in found.constants}
    starts = _starts(found)
    roles: dict[str, str] = {}
    for node in found.nodes:
        for place, name in enumerate(node.takes):
            one = held.get(name) if name else None  # without one it is left out
            if one is None or one.kind in _WHOLE:
                continue
            if place in _ROUNDING.get(node.kind, ()) or _is_scale(node, place) or not one.shape:
                roles.setdefault(name, "rounding")
            elif place in _STATISTICS.get(node.kind, ()):
                roles.setdefault(name, "buffer")
            elif name not in starts and not _gives_shape(node, place):
                roles[name] = "parameter"
    return roles


def _starts(found: onnx_files.OnnxFile) -> set[str]:
    """What the states of recurrent layers begin with: nearly always zeros, which aren't parameters; as they
    are, or widened to the batch."""
    names = {name for node in found.nodes if node.kind in _RECURRENT for name in node.takes[5:7]}
    wide = {node.takes[0] for node in found.nodes if node.kind == "Expand" and node.gives[0] in names}
    return names | wide


def _is_scale(node: onnx_files.Node, place: int) -> bool:
    """Whether the input only says how numbers are rounded: of ONNX Runtime's own operators, and of products
    of scales, which its tools name so."""
    if node.kind.startswith("QLinear") and node.kind not in _ROUNDING:
        return place not in (0, 3)
    return node.takes[place].endswith(("_scale", "_zero_point"))


def _gives_shape(node: onnx_files.Node, place: int) -> bool:
    return place > 0 and node.kind in ("Resize", "Upsample", "Clip", "Pad", "Reshape", "Slice", "Expand")


# ------------------------------------------------------------------ layers


def _layers(found: onnx_files.OnnxFile, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Layer]:
    """The operators with products, in order."""
    held = {one.name: one for one in found.constants}
    roles = _roles(found)
    sources = _widened(found)
    told = set[str]()
    for node in found.nodes:
        if node.kind not in _COUNTED:
            continue
        own = {sources.get(name, name) for name in node.takes} - told
        told |= own
        params = sum(held[name].elements for name in own if name in held and roles.get(name) == "parameter")
        name = _given(node)
        gives = shapes[name]
        yield Layer(name, node.kind, gives, params, _macs(node, shapes), prod(gives))


def _given(node: onnx_files.Node) -> str:
    """The first result that is taken: of a recurrent operator it can be the last state alone."""
    return next(filter(None, node.gives))


def _widened(found: onnx_files.OnnxFile) -> dict[str, str]:
    """The name of a parameter after it was widened or turned -> its name in the file."""
    sources: dict[str, str] = {}
    for node in found.nodes:
        if node.kind in ("DequantizeLinear", "Cast", "Identity", "Transpose") and node.takes:
            sources[node.gives[0]] = sources.get(node.takes[0], node.takes[0])
    return sources


def _macs(node: onnx_files.Node, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if node.kind == "Einsum":
        return _einsum(node.equation, [shapes[name] for name in node.takes])
    takes, factor = shapes[node.takes[0]], shapes[node.takes[_FACTOR.get(node.kind, 1)]]
    if node.kind in _RECURRENT:  # every step of every sequence, by the weights of input and of state
        return prod(takes[:2]) * (prod(factor) + prod(shapes[node.takes[2]]))
    if node.kind == "ConvTranspose":
        return prod(takes) * prod(factor[1:])
    if node.kind in _CONVOLUTIONS:
        return prod(shapes[_given(node)]) * prod(factor[1:])
    gives = shapes[_given(node)]
    # What is summed over is in both factors, and not in the result.
    rows_, columns = (gives[-2] if len(takes) > 1 else 1), (gives[-1] if len(factor) > 1 else 1)
    common = prod(factor[-2:]) // columns if columns else 0
    return (prod(gives) if len(takes) > 1 else rows_ * columns) * common


def _einsum(equation: str, shapes: list[tuple[int, ...]]) -> int:
    """As torch computes it: what is in one factor alone and doesn't come out is summed first; then the
    factors are multiplied, and what is in both and doesn't come out is summed over. Where nothing is, it is
    a product of elements, which isn't counted."""
    takes, arrow, gives = equation.replace(" ", "").partition("->")
    terms = takes.split(",")
    if len(terms) < 2:
        return 0
    first, second = (_extents(term, shape) for term, shape in zip(terms, shapes, strict=True))
    spelled = "".join(terms)
    out = set(gives) if arrow else {label for label in spelled if spelled.count(label) == 1 or label == "."}
    both = {label: max(first[label], second[label]) for label in first.keys() & second.keys()}
    summed = prod(extent for label, extent in both.items() if label[0] not in out)
    comes_out = prod(extent for label, extent in (first | second | both).items() if label[0] in out)
    return comes_out * summed if summed > 1 else 0


def _extents(term: str, shape: tuple[int, ...]) -> dict[str, int]:
    """The extent of each label of an einsum's factor; those that "..." stands for are counted from its
    end."""
    before, dots, after = term.partition("...")
    rest = [f".{place}" for place in range(len(shape) - len(before + after), 0, -1)] if dots else []
    return dict(zip([*before, *rest, *after], shape, strict=True))


# ------------------------------------------------------------------ shapes


def _shapes(found: onnx_files.OnnxFile, seen: files.Signature, input_size: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor for one picture, or for the batch that the file fixes, cut to one."""
    network = _loaded(found, seen, input_size)
    shapes = {one.name: one.shape for one in found.constants}
    shapes |= _inferred(network)
    wanted = _needed(found)
    if not wanted <= shapes.keys():
        shapes |= _run(found, seen, input_size, sorted(wanted - shapes.keys()))
    batch = seen.batch_size or 1
    if batch == 1:
        return shapes
    constants = {one.name for one in found.constants}
    return {
        name: (shape[0] // batch, *shape[1:]) if name not in constants and shape and shape[0] % batch == 0
        else shape
        for name, shape in shapes.items()
    }  # fmt: skip


def _needed(found: onnx_files.OnnxFile) -> set[str]:
    nodes = [node for node in found.nodes if node.kind in _COUNTED]
    names = {name for node in nodes for name in (node.takes[0], _given(node))}
    names |= {node.takes[2] for node in nodes if node.kind in _RECURRENT}
    return names | {node.takes[_FACTOR.get(node.kind, 1)] for node in nodes if len(node.takes) > 1}


def _loaded(found: onnx_files.OnnxFile, seen: files.Signature, input_size: int) -> Any:
    """The graph for one picture, without the values of its parameters."""
    onnx = _onnx()
    network = onnx.load(str(found.path), load_external_data=False)
    if network.functions:
        network = onnx.inliner.inline_local_functions(network)
    for tensor in network.graph.initializer:
        if prod(tensor.dims) > _SMALL:
            tensor.ClearField("raw_data")
        elif tensor.data_location == onnx.TensorProto.EXTERNAL:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(found.path.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
    given = next(one for one in network.graph.input if one.name == seen.input_name)
    extents = (seen.batch_size or 1, seen.in_channels, input_size, input_size)
    for dimension, extent in zip(given.type.tensor_type.shape.dim, extents, strict=True):
        dimension.dim_value = extent
    for value in (*network.graph.output, *network.graph.value_info):
        value.type.tensor_type.ClearField("shape")  # what the exporter wrote may be of another batch
    return network


def _onnx() -> Any:
    try:
        import onnx
        import onnx.inliner
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of("Counting a network in an ONNX file", "onnx", "torch") from error
    return onnx


def _inferred(network: Any) -> dict[str, tuple[int, ...]]:
    import onnx

    try:
        whole = onnx.shape_inference.infer_shapes(network, data_prop=True)
    except Exception:  # of several types; then ONNX Runtime tells the shapes
        return {}
    found = {}
    for value in (*whole.graph.input, *whole.graph.value_info, *whole.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(one.HasField("dim_value") for one in dims):
            found[value.name] = tuple(one.dim_value for one in dims)
    return found


def _run(
    found: onnx_files.OnnxFile, seen: files.Signature, input_size: int, names: list[str]
) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors as ONNX Runtime gives them."""
    import numpy as np

    onnx = _onnx()
    network = onnx.load(str(found.path), load_external_data=False)  # which can be too much for one message
    del network.graph.output[:]
    network.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    picture = np.zeros((seen.batch_size or 1, seen.in_channels, input_size, input_size), np.float32)
    try:
        session = files.open_session(network.SerializeToString(), found.path.absolute().parent)
        return {
            name: tuple(given.shape)
            for name, given in zip(names, session.run(names, {seen.input_name: picture}), strict=True)
        }
    except InvalidInputError:
        raise
    except Exception as error:  # ONNX Runtime's and protobuf's share no base but this one
        reason = str(error).strip().partition("\n")[0][:300]
        raise MeasurementError(
            f"The shapes in {found.path} can't be found: {reason}", "export it again with a newer opset"
        ) from error
