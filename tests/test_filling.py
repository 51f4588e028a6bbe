"""A graph without parameters gets them in its file: drawn or given, whole, and before an engine optimises."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vertebra import engines
from vertebra.bundles import reference_images
from vertebra.errors import InvalidInputError, WeightsError
from vertebra.machine import onnx_files
from vertebra.zoo.graphs import filling
from vertebra.zoo.graphs.filling import Slot

SHAPES = {
    "conv.weight": (8, 3, 3, 3), "bn.weight": (8,), "bn.bias": (8,), "bn.running_mean": (8,),
    "bn.running_var": (8,), "fc.weight": (10, 8), "fc.bias": (10,),
}  # fmt: skip
SLOTS = tuple(Slot(key, "float32", shape) for key, shape in SHAPES.items())


def skeleton() -> bytes:
    """Convolution, batch norm, mean, full layer: all parameters are names that nothing gives."""
    nodes = [
        helper.make_node("Conv", ["images", "conv.weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["a", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"],
            ["b"],
        ),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "fc.weight", "fc.bias"], ["logits"], transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [value("images", TensorProto.FLOAT, ["batch", 3, "h", "w"])],
        [value("logits", TensorProto.FLOAT, ["batch", 10])],
        value_info=[value("d", TensorProto.FLOAT, ["batch", 8])],
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()


def arrays() -> dict[str, np.ndarray]:
    return dict(zip(SHAPES, filling.drawn("tiny", SLOTS), strict=True))


def expected(values: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """The answers by plain arithmetic."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    convolved = np.einsum("nchwij,ocij->nohw", views, values["conv.weight"].astype(np.float64))
    mean, var, scale, shift = (
        values[f"bn.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    normed = (convolved - mean) / np.sqrt(var + 1e-5) * scale + shift
    return normed.mean((2, 3)) @ values["fc.weight"].T + values["fc.bias"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_values_are_there_before_an_engine_optimises(engine, tmp_path, monkeypatch):
    """One variance changes, and the answer with it: an engine that had folded something else shows."""
    images = reference_images(batch_size=2, in_channels=3, input_size=16, seed=0)
    answers = []
    for factor in (1, 9):
        values = arrays()
        values["bn.running_var"][3] *= factor
        folder = tmp_path / str(factor)
        folder.mkdir()
        filling.write(skeleton(), SLOTS, filling.given("tiny", SLOTS, values), folder / "model.onnx")
        answers.append(run(engine, folder, images, monkeypatch))
        np.testing.assert_allclose(answers[-1], expected(values, images), rtol=1e-4, atol=1e-4)
    assert np.abs(answers[0] - answers[1]).max() > 0.01


def run(engine: str, folder, images: np.ndarray, monkeypatch) -> np.ndarray:
    from types import SimpleNamespace

    from vertebra import bundles

    kept = SimpleNamespace(network=folder / "model.onnx", format="onnx")
    monkeypatch.setattr(bundles, "read", lambda *_, **__: kept)
    module = __import__(f"vertebra.engines.{engine}", fromlist=["load"])
    settings = engines.Settings(batch_size=2, input_size=16, num_classes=10)
    session = module.load(engines.Subject("tiny", bundle=str(folder)), settings)
    return session.run(images)


def test_the_file_is_onnx_with_the_values_beside_it(tmp_path):
    path = tmp_path / "model.onnx"
    filling.write(skeleton(), SLOTS, filling.drawn("tiny", SLOTS), path)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    held = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    assert list(held) == list(SHAPES)
    for key, value in arrays().items():
        np.testing.assert_array_equal(held[key], value)
    found = onnx_files.read(path)
    assert [path.name for path in onnx_files.data_files(found)] == ["model.onnx.data"]
    assert {one.name: (one.kind, one.shape) for one in found.constants} == {
        key: ("float32", shape) for key, shape in SHAPES.items()
    }


def test_large_parameters_begin_at_pages(tmp_path):
    slots = (Slot("small", "float32", (3,)), Slot("large", "float32", (2**18 + 1,)), Slot("x", "float32", ()))
    filling.write(skeleton(), slots, filling.drawn("tiny", slots), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    entries = [{one.key: one.value for one in held.external_data} for held in model.graph.initializer]
    assert [int(one["offset"]) for one in entries] == [0, 4096, 4096 + 4 * (2**18 + 1) + 60]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fc.bias": None}, "1 missing (fc.bias), 0 unexpected"),
        ({"fc.bias": None, "head.bias": (10,)}, "1 missing (fc.bias), 1 unexpected (head.bias)"),
        ({"conv.weight": (8, 3, 5, 5)}, "conv.weight has the shape (8, 3, 5, 5); (8, 3, 3, 3) was expected"),
        ({"bn.num_batches_tracked": ()}, None),
    ],
)
def test_names_and_shapes_must_be_the_networks(change, told):
    values = arrays() | {key: np.zeros(shape) for key, shape in change.items() if shape is not None}
    values = {key: value for key, value in values.items() if change.get(key, ()) is not None}
    if told is None:
        filling.check("tiny", SLOTS, values)
        return
    with pytest.raises(WeightsError) as error:
        filling.check("tiny", SLOTS, values)
    assert error.value.message == f"The weights don't fit tiny: {told}."


def test_only_floats_are_drawn():
    with pytest.raises(InvalidInputError, match="index of tiny holds int64"):
        list(filling.drawn("tiny", [Slot("index", "int64", (3,))]))


def test_another_number_of_classes():
    model = onnx.load_from_string(filling.with_classes(skeleton(), 3))
    dims = model.graph.output[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value, len(model.graph.value_info)) == ("batch", 3, 0)
    original = onnx.load_from_string(skeleton())
    assert model.graph.node == original.graph.node
    assert model.graph.input == original.graph.input


@pytest.mark.parametrize(
    ("change", "classes"),
    [
        ({}, None),
        ({"fc.weight": (3, 8), "fc.bias": (3,)}, 3),
        ({"fc.weight": (3, 9), "fc.bias": (3,)}, None),
        ({"fc.weight": (3, 8), "fc.bias": (4,)}, None),
        ({"fc.bias": (3,)}, None),
        ({"conv.weight": (3, 3, 3, 3)}, None),  # it has no first extent of 10
    ],
)
def test_the_number_of_classes_of_weights(change, classes):
    values = arrays() | {key: np.zeros(shape) for key, shape in change.items()}
    assert filling.other_classes(skeleton(), SLOTS, values) == classes
    if classes:
        filling.check("tiny", filling.resized(SLOTS, values), values)


@pytest.mark.parametrize("content", [b"", b"\x08\x07", b"\xff" * 12])
def test_what_is_no_graph_is_refused(content):
    with pytest.raises(ValueError, match=r"it has no graph|not a protobuf"):
        filling.spliced(content, [])
