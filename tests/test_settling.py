"""What follows from the pictures' size while a graph is filled: shapes, constants, and where the batch is."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vertebra.zoo.graphs import extents, filling, nodes, settling, store
from vertebra.zoo.graphs.extents import Value

KINDS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


def node(kind: str, takes: str, gives: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, [name.strip("_") for name in takes.split()], gives.split(), **attributes)


def model(made: list[onnx.NodeProto], outputs: list[str], shape: list[Any], **constants: Any) -> bytes:
    """Constants are names with values; whole numbers are int64."""
    held = [
        numpy_helper.from_array(np.asarray(value, np.float32 if _is_real(value) else np.int64), name)
        for name, value in constants.items()
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        made, "net", [value("x", TensorProto.FLOAT, shape)], [value(name, 0, None) for name in outputs], held
    )
    for output in graph.output:
        output.ClearField("type")
    opset = helper.make_opsetid("", 20)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


def _is_real(value: Any) -> bool:
    return np.asarray(value).dtype.kind == "f"


def run(content: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": images}), strict=True))


W = np.ones((6, 4, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("made", "constants"),
    [
        ([node("Conv", "x w", pads=[1, 0, 1, 0], strides=[2, 1])], {"w": W}),
        ([node("Conv", "x w", dilations=[2, 2])], {"w": W}),
        ([node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": W}),
        ([node("Conv", "x w", auto_pad="VALID", strides=[2, 2])], {"w": W}),
        ([node("ConvTranspose", "x w", strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1], group=2)],
         {"w": W[:4]}),
        ([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], {}),
        ([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}),
        ([node("MaxPool", "x", kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1)], {}),
        ([node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], {}),
        ([node("GlobalAveragePool", "x"), ], {}),
        ([node("ReduceMean", "x a", keepdims=0)], {"a": [2, -1]}),
        ([node("ReduceMax", "x")], {}),
        ([node("ReduceSum", "x", noop_with_empty_axes=1)], {}),
        ([node("ArgMax", "x", axis=-1, keepdims=0)], {}),
        ([node("MatMul", "x w")], {"w": np.ones((2, 1, 10, 5), np.float32)}),
        ([node("Flatten", "x", "f"), node("Gemm", "f w", transB=1)], {"w": np.ones((7, 360), np.float32)}),
        ([node("Flatten", "x", axis=-1)], {}),
        ([node("Einsum", "x w", equation="bchw,kw->bchk")], {"w": np.ones((3, 10), np.float32)}),
        ([node("Reshape", "x t")], {"t": [0, -1, 5]}),
        ([node("Reshape", "x t", allowzero=1)], {"t": [-1, 4]}),
        ([node("Transpose", "x", perm=[0, 2, 3, 1])], {}),
        ([node("Transpose", "x")], {}),
        ([node("Unsqueeze", "x a", "u"), node("Squeeze", "u b")], {"a": [0, -1], "b": [-1]}),
        ([node("Concat", "x x", axis=-3)], {}),
        ([node("Split", "x", "y z", axis=1, num_outputs=2)], {}),
        ([node("Split", "x p", "y z", axis=1)], {"p": [1, 3]}),
        ([node("Split", "x", "y z v", axis=3, num_outputs=3)], {}),
        ([node("Slice", "x b e a s")], {"b": [-1, 1], "e": [-99, 9999], "a": [2, 3], "s": [-2, 3]}),
        ([node("Slice", "x b e")], {"b": [0, 1], "e": [1, 3]}),
        ([node("Gather", "x i", axis=2)], {"i": [[0, 1], [2, 3]]}),
        ([node("GatherElements", "x i", axis=1)], {"i": np.zeros((2, 1, 9, 10), int)}),
        ([node("GatherND", "x i", batch_dims=1)], {"i": [[[0, 1]], [[1, 2]]]}),
        ([node("Expand", "x t")], {"t": [3, 1, 1, 1, 1]}),
        ([node("Tile", "x t")], {"t": [1, 2, 3, 1]}),
        ([node("Pad", "x p")], {"p": [0, 0, 1, 2, 0, 0, 3, -4]}),
        ([node("Resize", "x _ s", mode="nearest")], {"s": [1.0, 1.0, 1.5, 2.0]}),
        ([node("Resize", "x _ _ t", mode="linear")], {"t": [2, 4, 3, 5]}),
        ([node("DepthToSpace", "x", blocksize=2)], {}),
        ([node("Pad", "x p", "q"), node("SpaceToDepth", "q", blocksize=5)], {"p": [0] * 6 + [1, 0]}),
        ([node("TopK", "x k", "y z", axis=1)], {"k": [2]}),
        ([node("Reshape", "x t", "r"), node("Col2Im", "r i b", strides=[2, 2])],
         {"t": [2, 36, -1], "i": [11, 5], "b": [3, 3]}),
        ([node("Where", "c x w", "y"), ], {"w": 1.0, "c": None}),
        ([node("Add", "x w")], {"w": np.ones((3, 1, 1, 1, 10), np.float32)}),
        ([node("LayerNormalization", "x w", "y")], {"w": np.ones(10, np.float32)}),
        ([node("Cast", "x", to=TensorProto.INT64)], {}),
        *(([node("Reshape", "x t", "q"), node(kind, "q w r", " ".join("yhc"[: 3 if kind == "LSTM" else 2]),
                                             hidden_size=3, direction=direction)],
          {"t": [8, 9, 10], "w": np.ones((ways, gates * 3, 10), np.float32),
           "r": np.ones((ways, gates * 3, 3), np.float32)})
          for kind, gates, direction, ways in (("LSTM", 4, "bidirectional", 2), ("GRU", 3, "reverse", 1),
                                               ("RNN", 1, "forward", 1))),
        # numbers that follow from shapes
        ([node("Shape", "x", "s"), node("Gather", "s i", "g"), node("Div", "g two", "h"),
          node("Concat", "h s", axis=0)], {"i": [3], "two": [3]}),
        ([node("Shape", "x", "s", start=-2, end=-1), node("Sub", "s n", "d"), node("Div", "d t")],
         {"n": [20], "t": [2]}),  # towards 0
        ([node("Size", "x", "s"), node("Unsqueeze", "s a", "u"), node("Mod", "u t")], {"a": [0], "t": [7]}),
        ([node("Shape", "x", "s"), node("Slice", "s b e", "p"), node("Cast", "p", "f", to=TensorProto.FLOAT),
          node("Sqrt", "f", "q"), node("Floor", "q", "o"), node("Cast", "o", to=TensorProto.INT64)],
         {"b": [-1], "e": [2**63 - 1]}),
        ([node("Shape", "x", "s"), node("Equal", "s t", "q"), node("Where", "q s t")], {"t": [2, 5, 9, 1]}),
        ([node("Shape", "x", "s"), node("Split", "s", "a b", num_outputs=2), node("Max", "a b")], {}),
        ([node("Range", "o n o")], {"o": 1, "n": 7}),
    ],
    ids=lambda value: value[-1].op_type if isinstance(value, list) else "",
)  # fmt: skip
def test_shapes_and_numbers_are_those_that_come_out(made, constants):
    if "c" in constants:
        del constants["c"]
        made = [node("Greater", "x w", "c"), *made]
    outputs = [name for name in made[-1].output]
    content = model(made, outputs, [2, 4, 9, 10], **constants)
    found = extents.follow(nodes.read(content), {"x": Value("float32", (2, 4, 9, 10))})
    for name, value in run(content, np.ones((2, 4, 9, 10), np.float32)).items():
        told = found[name]
        assert (told.kind, told.shape) == (str(value.dtype), value.shape)
        if told.held is not None:
            np.testing.assert_array_equal(told.held, value)
    if made[0].op_type in ("Shape", "Size", "Range"):
        assert found[outputs[0]].held is not None


def test_what_has_no_rule_is_unknown_and_what_depends_on_it():
    made = [node("NonZero", "x", "n"), node("Relu", "n", "r"), node("Relu", "x")]
    found = extents.follow(nodes.read(model(made, ["y", "r"], [2, 4, 9, 10])),
                           {"x": Value("float32", (2, 4, 9, 10))})  # fmt: skip
    assert found.keys() == {"x", "y"}


# ------------------------------------------------------------------ settled


def shuffled(**sizes: Any) -> bytes:
    """Channels in two groups change places; the shapes are computed from the pictures'."""
    made = [
        node("Shape", "x", "n", start=0, end=1), node("Shape", "x", "hw", start=2),
        node("Concat", "n groups hw", "t", axis=0), node("Reshape", "x t", "a", allowzero=1),
        node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]), node("Mul", "n two", "m"),
        node("Concat", "m rest hw", "u", axis=0), node("Reshape", "b u", "c", allowzero=1),
        node("Relu", "c", "d"), node("Shape", "d", "s"), node("Slice", "s one four", "p"),
        node("Concat", "any p", "v", axis=0), node("Reshape", "d v", "e"), node("Relu", "e", "y"),
    ]  # fmt: skip
    return model(made, ["y"], ["batch", 4, sizes.get("h", 6), sizes.get("w", 6)], groups=[2, 2], two=[2],
                 rest=[2], one=[1], four=[4], any=[-1])  # fmt: skip


def test_shapes_inside_attention_are_not_noted():
    """Those that an export notes not either, so that an engine needs the same memory."""
    made = [
        node("Shape", "x", "s"), node("Slice", "s two four", "p"), node("Concat", "any p", "t", axis=0),
        node("Reshape", "x t", "k"), node("Transpose", "k", "turned", perm=[0, 2, 1]),
        node("Relu", "k", "q"), node("MatMul", "q turned", "m"), node("Softmax", "m", "shares"),
        node("MatMul", "shares k", "v"), node("Relu", "v", "r"), node("Relu", "r", "y"),
    ]  # fmt: skip
    content = settling.settled(model(made, ["y"], ["batch", 4, 6, 6], two=[2], four=[4], any=[-1]), {})
    noted = {one.name for one in onnx.ModelProto.FromString(content).graph.value_info}
    assert noted == {"s", "p", "t", "q", "v", "r"}


def test_shapes_become_constants_and_are_noted():
    """But for parts of a shape that has the batch in it, which an export computes for each picture, too."""
    content = settling.settled(shuffled(), {})
    graph = onnx.ModelProto.FromString(content).graph
    assert [one.op_type for one in graph.node] == [
        "Reshape", "Transpose", "Reshape", "Relu", "Shape", "Slice", "Concat", "Reshape", "Relu",
    ]  # fmt: skip
    held = {one.name: numpy_helper.to_array(one).tolist() for one in graph.initializer}
    assert held == {"to -1 2 2 6 6": [-1, 2, 2, 6, 6], "to -1 2 6 6": [-1, 2, 6, 6],
                    "one": [1], "four": [4], "any": [-1]}  # fmt: skip
    noted = {one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
             for one in graph.value_info}  # fmt: skip
    assert noted == {
        "a": ["batch", 2, 2, 6, 6], "b": ["batch", 2, 2, 6, 6], "c": ["2*batch", 2, 6, 6],
        "d": ["2*batch", 2, 6, 6], "s": [4], "p": [3], "v": [4], "e": ["2*batch", 2, 6, 6],
    }  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
def test_answers_stay_the_same_at_any_batch(batch):
    images = np.random.default_rng(0).normal(size=(batch, 4, 6, 6)).astype(np.float32)
    before, after = (run(one, images)["y"] for one in (shuffled(), settling.settled(shuffled(), {})))
    np.testing.assert_array_equal(before, after)


def test_without_a_fixed_size_nothing_changes():
    assert settling.settled(shuffled(h="h"), {}) == shuffled(h="h")


NAMES = sorted(store.names())
SOME = random.Random(5).sample(NAMES, min(12, len(NAMES)))


def check(name: str) -> None:
    """Every value's shape is known, and what onnx finds where it finds one."""
    for graph in store.graphs(name):
        size = graph.input_size or graph.native_size
        skeleton = filling.with_size(store.skeleton(graph, features=True), size)
        parameters = {one.key: Value(one.kind, one.shape) for one in graph.parameters()}
        images = {"images": Value("float32", (3, 3, size, size))}
        found = extents.follow(nodes.read(skeleton), parameters | images)
        proto = onnx.ModelProto.FromString(skeleton)
        made = {name for one in proto.graph.node for name in one.output}
        assert made <= found.keys(), (name, sorted(made - found.keys())[:3])
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
        for key, one in parameters.items():
            proto.graph.input.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, one.shape))
        for output in proto.graph.output:
            output.type.tensor_type.ClearField("shape")
        whole = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        for value in (*whole.value_info, *whole.output):
            dims = value.type.tensor_type.shape.dim
            if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
                assert found[value.name].shape == tuple(dim.dim_value for dim in dims), (name, value.name)
            assert value.type.tensor_type.elem_type == KINDS.get(found[value.name].kind, 0), value.name


@pytest.mark.parametrize("name", SOME)
def test_shapes_in_a_sample_of_graphs_are_those_that_onnx_finds(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_shapes_in_every_graph_are_those_that_onnx_finds(name):
    check(name)
