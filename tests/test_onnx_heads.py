"""A graph is cut back to its classifier's input and continued by a head, on the wire format."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vertebra.machine import onnx_heads

VALUE = helper.make_tensor_value_info
WIDTH = 4


def model(*ending: onnx.NodeProto, opset: int = 18, held: dict[str, np.ndarray] | None = None) -> bytes:
    """A convolution and a mean, which give `mean` (N, 4, 1, 1), then what the test wants."""
    held = {"conv.w": np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1), **(held or {})}
    nodes = [
        helper.make_node("Conv", ["images", "conv.w"], ["conv"]),
        helper.make_node("GlobalAveragePool", ["conv"], ["mean"]),
        *ending,
    ]
    graph = helper.make_graph(
        nodes, "net", [VALUE("images", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [VALUE("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
        value_info=[VALUE("mean", TensorProto.FLOAT, ["batch", 4, 1, 1]),
                    VALUE("flat", TensorProto.FLOAT, ["batch", 4])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


FLAT = helper.make_node("Flatten", ["mean"], ["flat"])
GEMM = helper.make_node("Gemm", ["flat", "fc.w", "fc.b"], ["logits"], transB=1)
HELD = {"fc.w": np.ones((10, WIDTH), np.float32), "fc.b": np.zeros(10, np.float32)}
ENDINGS = {
    "gemm": ([FLAT, GEMM], HELD, "flat"),
    "product and sum": (
        [FLAT, helper.make_node("MatMul", ["flat", "w"], ["p"]),
         helper.make_node("Add", ["b", "p"], ["logits"])],
        {"w": np.ones((WIDTH, 10), np.float32), "b": np.zeros(10, np.float32)},
        "flat",
    ),
    "reshaped": (
        [FLAT, helper.make_node("Gemm", ["flat", "fc.w"], ["g"], transB=1),
         helper.make_node("Identity", ["g"], ["logits"])],
        HELD,
        "flat",
    ),
    "a convolution": (
        [helper.make_node("Conv", ["mean", "c"], ["c4"]), helper.make_node("Flatten", ["c4"], ["logits"])],
        {"c": np.ones((10, WIDTH, 1, 1), np.float32)},
        None,
    ),
    "a softmax": ([FLAT, helper.make_node("Gemm", ["flat", "fc.w"], ["g"], transB=1),
                   helper.make_node("Softmax", ["g"], ["logits"])], HELD, None),
    "a product of two activations": (
        [FLAT, helper.make_node("MatMul", ["flat", "flat"], ["logits"])], {}, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "held", "found"), ENDINGS.values(), ids=ENDINGS)
def test_the_classifier_is_the_last_product_with_a_constant(nodes, held, found):
    assert onnx_heads.classifier_input(model(*nodes, held=held), {*held, "conv.w"}) == found


@pytest.mark.parametrize("flattened", [True, False])
def test_what_only_the_old_classifier_needed_is_gone(flattened):
    source = "mean" if flattened else "flat"
    found = onnx_heads.headed(
        model(FLAT, GEMM, held=HELD), source, classes=3, flattened=flattened, keeps_features=True
    )
    made = onnx.ModelProto.FromString(found.model)
    assert [node.op_type for node in made.graph.node] == [
        "Conv", "GlobalAveragePool", "Flatten", "Gemm", "Identity",
    ]  # fmt: skip
    assert [one.name for one in made.graph.initializer] == ["conv.w"]
    assert len({node.name for node in made.graph.node}) == 5
    assert found.taken == {"images", "conv.w", found.weight, found.bias}
    ends = {one.name: [dim.dim_value or dim.dim_param for dim in one.type.tensor_type.shape.dim]
            for one in made.graph.output}  # fmt: skip
    assert ends["logits"] == ["batch", 3]
    weights, bias = np.arange(12, dtype=np.float32).reshape(3, WIDTH), np.float32([1, 2, 3])
    for name, value in ((found.weight, weights), (found.bias, bias)):
        made.graph.initializer.append(numpy_helper.from_array(value, name))
    onnx.checker.check_model(made, full_check=True)
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    logits, features = run(made, images)
    kernel = np.arange(12, dtype=np.float32).reshape(4, 3)
    expected = images.mean((2, 3)) @ kernel.T
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(logits, expected @ weights.T + bias, rtol=1e-5, atol=1e-5)


def run(made: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


def test_what_a_graph_inside_takes_from_outside_stays():
    """A branch uses a constant that no operator of the graph itself takes."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["flat", "far"], ["sum"])],
        "then",
        [],
        [VALUE("sum", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["flat"], ["same"])],
        "else",
        [],
        [VALUE("same", TensorProto.FLOAT, None)],
    )
    branch = helper.make_node("If", ["yes"], ["chosen"], then_branch=inner, else_branch=other)
    held = {"far": np.ones(WIDTH, np.float32), "yes": np.array(True), **HELD}
    last = helper.make_node("Gemm", ["chosen", "fc.w", "fc.b"], ["logits"], transB=1)
    found = onnx_heads.headed(model(FLAT, branch, last, held=held), "chosen", classes=3)
    made = onnx.ModelProto.FromString(found.model)
    assert {one.name for one in made.graph.initializer} == {"conv.w", "far", "yes"}
    assert "far" in found.taken


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": "nowhere"}, "no tensor nowhere"),
        ({"opset": 6}, "opset 6"),
        ({"features": "logits"}, "called logits"),
    ],
)
def test_what_can_not_be_continued(change, told):
    whole = model(FLAT, GEMM, held=HELD, opset=change.get("opset", 18))
    with pytest.raises(ValueError, match=told):
        onnx_heads.headed(whole, change.get("features", "flat"), classes=3)


def test_a_name_that_is_taken_is_not_taken_again():
    held = {"fitted.weight": np.ones((WIDTH, WIDTH), np.float32), **HELD}
    own = helper.make_node("Gemm", ["flat", "fitted.weight"], ["more"])
    last = helper.make_node("Gemm", ["more", "fc.w", "fc.b"], ["logits"], transB=1)
    found = onnx_heads.headed(model(FLAT, own, last, held=held), "more", classes=3)
    assert (found.weight, found.bias) == ("fitted.weight_", "fitted.bias")


def test_constants_in_other_files_are_lifted_out(tmp_path):
    proto = onnx.ModelProto.FromString(model(FLAT, GEMM, held=HELD))
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="data", size_threshold=0)
    skeleton, outside = onnx_heads.lifted(path.read_bytes())
    assert onnx.ModelProto.FromString(skeleton).graph.initializer == []
    content = (tmp_path / "data").read_bytes()
    for one, value in zip(outside, [np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1), *HELD.values()],
                          strict=True):  # fmt: skip
        assert (one.kind, one.shape, one.location) == (TensorProto.FLOAT, value.shape, "data")
        assert content[one.offset : one.offset + one.length] == value.tobytes()
