"""A graph without parameters gets them in its file: drawn or given, whole, and before an engine optimises."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vertebra import engines
from vertebra.bundles import reference_images
from vertebra.errors import InvalidInputError, MeasurementError, WeightsError
from vertebra.exporting import filled
from vertebra.machine import onnx_files
from vertebra.zoo.graphs import drawing, filling, folding, store
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


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "mnn"])
def test_values_are_there_before_an_engine_optimises(engine, folded, tmp_path, monkeypatch):
    """One variance changes, and the answer with it: an engine that had folded something else shows."""
    images = reference_images(batch_size=2, in_channels=3, input_size=16, seed=0)
    answers = []
    for factor in (1, 9):
        values = arrays()
        values["bn.running_var"][3] *= factor
        folder = tmp_path / str(factor)
        folder.mkdir()
        path = folder / "model.onnx"
        filling.write(skeleton(), SLOTS, filling.given("tiny", SLOTS, values), path, folded=folded)
        answers.append(run(engine, folder, images, monkeypatch))
        np.testing.assert_allclose(answers[-1], expected(values, images), rtol=1e-4, atol=1e-4)
    assert np.abs(answers[0] - answers[1]).max() > 0.01


def run(engine: str, folder, images: np.ndarray, monkeypatch) -> np.ndarray:
    from types import SimpleNamespace

    from vertebra import bundles

    kept = SimpleNamespace(network=folder / "model.onnx", format="onnx")
    if engine == "mnn":
        pytest.importorskip("MNN")
        filled._convert("mnn")(kept.network, folder)
        kept = SimpleNamespace(network=folder / "model.mnn", format="mnn")
    monkeypatch.setattr(bundles, "read", lambda *_, **__: kept)
    module = __import__(f"vertebra.engines.{engine}", fromlist=["load"])
    settings = engines.Settings(batch_size=2, input_size=16, num_classes=10)
    session = module.load(engines.Subject("tiny", bundle=str(folder)), settings)
    return session.run(images)


def test_the_file_is_onnx_with_the_values_beside_it(tmp_path):
    path = tmp_path / "model.onnx"
    filling.write(skeleton(), SLOTS, filling.drawn("tiny", SLOTS), path, folded=False)
    onnx.checker.check_model(str(path), full_check=True)
    held = initialisers(path)
    assert list(held) == list(SHAPES)
    for key, value in arrays().items():
        np.testing.assert_array_equal(held[key], value)
    found = onnx_files.read(path)
    assert [path.name for path in onnx_files.data_files(found)] == ["model.onnx.data"]
    assert {one.name: (one.kind, one.shape) for one in found.constants} == {
        key: ("float32", shape) for key, shape in SHAPES.items()
    }


def initialisers(path: Path) -> dict[str, np.ndarray]:
    return {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def test_folded_values_are_rounded_once(tmp_path):
    path = tmp_path / "model.onnx"
    filling.write(skeleton(), SLOTS, filling.drawn("tiny", SLOTS), path)
    onnx.checker.check_model(str(path), full_check=True)
    held, own = initialisers(path), {key: value.astype(np.float64) for key, value in arrays().items()}
    assert list(held) == ["conv.weight", "conv.bias", "fc.weight", "fc.bias"]
    factors = own["bn.weight"] / np.sqrt(own["bn.running_var"] + np.float32(1e-5))
    weight = own["conv.weight"] * factors[:, None, None, None]
    np.testing.assert_array_equal(held["conv.weight"], weight.astype(np.float32))
    bias = own["bn.bias"] - own["bn.running_mean"] * factors
    np.testing.assert_array_equal(held["conv.bias"], bias.astype(np.float32))
    model = onnx.load(path)
    assert [node.op_type for node in model.graph.node] == ["Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert list(model.graph.node[0].input) == ["images", "conv.weight", "conv.bias"]
    assert list(model.graph.node[0].output) == ["b"]


# ------------------------------------------------------------------ which batch normalisations go


NORM = ["n.weight", "n.bias", "n.mean", "n.var"]
VECTORS = dict.fromkeys(NORM, (4,))
WEIGHT = {"w.weight": (4, 4, 3, 3)}


def node(kind: str, takes: str, gives: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, [*takes.split()], [gives], **attributes)


def norm(takes: str, gives: str, **attributes) -> onnx.NodeProto:
    return helper.make_node("BatchNormalization", [takes, *NORM], [gives], **attributes)


def conv(more: str = "", gives: str = "a", **attributes) -> onnx.NodeProto:
    return node("Conv", f"images w.weight {more}", gives, pads=[1, 1, 1, 1], **attributes)


def full(**attributes) -> onnx.NodeProto:
    return node("Gemm", "p w.weight w.bias", "a", **attributes)


MEAN = node("GlobalAveragePool", "images", "m"), node("Flatten", "m", "p")
END = node("GlobalAveragePool", "b", "c"), node("Flatten", "c", "logits")
SQUARE = {"w.weight": (4, 4), "w.bias": (4,)}


@pytest.mark.parametrize(
    ("nodes", "shapes", "bias"),
    [
        ([conv(), norm("a", "b"), *END], WEIGHT, "w.bias"),
        ([conv(), norm("a", "b", epsilon=0.5), *END], WEIGHT, "w.bias"),
        ([conv("w.bias"), norm("a", "b"), *END], WEIGHT | {"w.bias": (4,)}, "w.bias"),
        ([conv(group=4), norm("a", "b"), *END], {"w.weight": (4, 1, 3, 3)}, "w.bias"),
        ([conv(group=2), norm("a", "b"), *END], {"w.weight": (4, 2, 3, 3)}, "w.bias"),
        # another parameter has the name
        ([conv(), norm("a", "b"), *END[:1], node("Mul", "c w.bias", "d"), node("Flatten", "d", "logits")],
         WEIGHT | {"w.bias": (1,)}, "w.bias_"),
        ([*MEAN, full(transB=1), norm("a", "logits")], SQUARE, "w.bias"),
        ([*MEAN, full(), norm("a", "logits")], SQUARE, None),
        ([*MEAN, full(transB=1, alpha=0.5), norm("a", "logits")], SQUARE, None),
        ([node("ConvTranspose", "images w.weight", "a"), norm("a", "b"), *END], WEIGHT, None),
        ([norm("images", "a"), node("Conv", "a w.weight", "b"), *END], WEIGHT, None),
        ([conv(), norm("a", "x"), node("Add", "x a", "b"), *END], WEIGHT, None),
        ([conv(), conv(gives="x"), norm("a", "y"), node("Add", "x y", "b"), *END], WEIGHT, None),
        ([conv(), norm("a", "x"), node("PRelu", "x n.slope", "b"), *END],
         WEIGHT | {"n.slope": (4, 1, 1)}, "w.bias"),
        ([conv(), norm("a", "x"), node("GlobalAveragePool", "x", "c"), node("Flatten", "c", "f"),
          node("Mul", "f n.var", "logits")], WEIGHT, None),
        ([node("Neg", "w.weight", "v"), node("Conv", "images v", "a"), norm("a", "b"), *END], WEIGHT, None),
    ],
)  # fmt: skip
def test_which_are_folded(nodes, shapes, bias, tmp_path):
    """Those whose layer's answer and parameters have no other use; the answers stay the same."""
    slots = tuple(Slot(key, "float32", shape) for key, shape in (shapes | VECTORS).items())
    content = model_of(nodes)
    folds = folding.find(content, {slot.key: slot.shape for slot in slots})
    assert [(one.weight, one.name) for one in folds] == ([] if bias is None else [("w.weight", bias)])
    values = filling.Values(slots, lambda slot: drawing.draw("tiny", slot.key.replace("var", "running_var"),
                                                             slot.shape))  # fmt: skip
    images = drawing.draw("tiny", drawing.IMAGES, (2, 4, 8, 8))
    answers = []
    for folded in (True, False):
        path = tmp_path / f"{folded}.onnx"
        filling.write(content, slots, values, path, folded=folded)
        onnx.checker.check_model(str(path), full_check=True)
        kinds = [one.op_type for one in onnx.load(path).graph.node]
        assert ("BatchNormalization" in kinds) == (bias is None or not folded)
        answers.append(unoptimised(path, images)["logits"])
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "p t", "logits")], (5, 4)),
        ([node("Transpose", "w", "t"), node("MatMul", "p t", "logits")], (5, 4)),
        ([node("Transpose", "w", "t", perm=[2, 0, 1]), node("MatMul", "p t", "logits")], (4, 3, 1)),
        (
            [
                node("Transpose", "w", "t"),
                node("GatherND", "t places", "g"),
                node("Transpose", "g", "u"),
                node("MatMul", "p u", "logits"),
            ],
            (4, 3),
        ),
        (
            [node("GatherND", "w places", "g"), node("Transpose", "g", "t"), node("MatMul", "p t", "logits")],
            (3, 4),
        ),
        ([node("Transpose", "w", "t"), node("MatMul", "p t", "q"), node("MatMul", "q w", "logits")], None),
        ([node("Neg", "w", "v"), node("Transpose", "v", "t"), node("MatMul", "p t", "logits")], None),
    ],
)
def test_weights_that_are_used_transposed_are_stored_so(nodes, shape, tmp_path):
    slots = (Slot("w", "float32", shape or (5, 4)),)
    content, answers = model_of([*MEAN, *nodes]), []
    for folded in (True, False):
        path = tmp_path / f"{folded}.onnx"
        filling.write(content, slots, filling.drawn("tiny", slots), path, folded=folded)
        onnx.checker.check_model(str(path), full_check=len(slots[0].shape) == 2)
        kinds = [one.op_type for one in onnx.load(path).graph.node]
        assert bool({"Transpose", "GatherND"} & {*kinds}) == (shape is None or not folded)
        held = {one.name for one in onnx.load(path).graph.initializer}
        assert ("places" in held) == ("GatherND" in kinds)
        answers.append(unoptimised(path, drawing.draw("tiny", drawing.IMAGES, (2, 4, 8, 8)))["logits"])
    np.testing.assert_array_equal(*answers)


def test_an_answer_that_comes_out_is_left(tmp_path):
    content = model_of([conv(gives="features"), norm("features", "b"), *END], ("logits", "features"))
    assert folding.find(content, WEIGHT | VECTORS) == ()


def model_of(nodes: list[onnx.NodeProto], outputs: tuple[str, ...] = ("logits",)) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [value("images", TensorProto.FLOAT, ["batch", 4, "h", "w"])],
        [value(name, TensorProto.FLOAT, ["batch", "k"]) for name in outputs],
        [numpy_helper.from_array(np.array([[0], [2], [1], [0], [2], [1]]), "places")]
        if any("places" in node.input for node in nodes) else [],
    )  # fmt: skip
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


def unoptimised(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


# ------------------------------------------------------------------ the graphs that ship


def test_every_key_is_used_once_as_it_is_or_in_a_fold():
    for name in sorted(store.names()):
        graph = store.graphs(name)[0]
        shapes = {one.key: one.shape for one in graph.parameters()}
        skeleton = store.skeleton(graph, features=True)
        folds, turned = folding.find(skeleton, shapes), folding.turns(skeleton, shapes)
        taken = Counter(key for one in folds for key in one.taken) + Counter(one.key for one in turned)
        assert set(taken.values()) <= {1}
        left = onnx.ModelProto.FromString(filling.spliced(skeleton, [], folds, turned)).graph
        used = {key for node in left.node for key in node.input} & shapes.keys()
        kept = {one.weight for one in folds} | {one.bias for one in folds if one.bias}
        assert used - kept == shapes.keys() - taken.keys(), name
        assert {one.name for one in folds} | {one.out for one in turned} <= {
            key for node in left.node for key in node.input
        }


NETWORK = "timm:lcnet_050"


@pytest.mark.parametrize("classes", [1000, 10])
def test_own_weights_and_features_through_folds(classes, tmp_path):
    graph = store.find(NETWORK)
    slots = tuple(Slot(*one) for one in graph.parameters())
    own = {slot.key: drawing.draw("other", slot.key, slot.shape) for slot in slots}
    skeleton = filling.with_size(store.skeleton(graph, features=True), 64)
    if classes != 1000:
        own |= {key: value[:classes] for key, value in own.items() if key.startswith("classifier")}
        assert filling.other_classes(skeleton, slots, own) == classes
        skeleton, slots = filling.with_classes(skeleton, classes), filling.resized(slots, own)
    images = drawing.draw(NETWORK, drawing.IMAGES, (2, 3, 64, 64))
    answers = []
    for folded in (True, False):
        path = tmp_path / f"{folded}.onnx"
        filling.write(skeleton, slots, filling.given(NETWORK, slots, own), path, folded=folded)
        answers.append(unoptimised(path, images))
    assert answers[0]["logits"].shape == (2, classes)
    for what in ("logits", "features"):
        spread = np.ptp(answers[1][what])
        assert np.abs(answers[0][what] - answers[1][what]).max() < 1e-5 * spread
    kinds = {node.op_type for node in onnx.load(tmp_path / "True.onnx", load_external_data=False).graph.node}
    assert "BatchNormalization" not in kinds


def test_a_fold_that_is_wrong_is_found(tmp_path, monkeypatch):
    """In drawn parameters by eager's answers, in own ones by those of the graph as it ships."""
    graph, right = store.find(NETWORK), folding.factors
    own = {one.key: drawing.draw("other", one.key, one.shape) for one in graph.parameters()}
    monkeypatch.setattr(folding, "factors", lambda *one: right(*one) * 1.01)
    with pytest.raises(MeasurementError, match="doesn't answer as PyTorch did"):
        filled.write(graph, tmp_path / "drawn", model=NETWORK, input_size=224)
    monkeypatch.setattr(filled, "_proved", lambda *_: 0.0)
    with pytest.raises(MeasurementError, match="Wrong outputs"):
        filled.write(graph, tmp_path / "own", model=NETWORK, input_size=224, arrays=own)


@pytest.mark.parametrize(("size", "arrays"), [(224, False), (96, False), (96, True)])
def test_a_bundle_is_for_its_size_and_folded(size, arrays, tmp_path):
    graph = store.find(NETWORK)
    own = {one.key: drawing.draw("other", one.key, one.shape) for one in graph.parameters()}
    kept = filled.write(
        graph, tmp_path / "bundle", model=NETWORK, input_size=size, arrays=own if arrays else None
    )
    model = onnx.load(kept.network, load_external_data=False).graph
    dims = model.input[0].type.tensor_type.shape.dim
    assert [one.dim_param or one.dim_value for one in dims] == ["batch", 3, size, size]
    assert "BatchNormalization" not in {node.op_type for node in model.node}
    assert kept.graph["against_eager"] < 3e-4
    assert kept.parity["output_error"] < 3e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(store.names()))
def test_every_graph_answers_as_eager_when_it_is_folded(name, tmp_path):
    for graph in store.graphs(name):
        size = graph.input_size or graph.native_size
        kept = filled.write(graph, tmp_path / str(size), model=name, input_size=size, compared=False)
        assert graph.answers is None or kept.graph["against_eager"] < 3e-4
        shutil.rmtree(kept.folder)


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


def test_another_size():
    dims = onnx.load_from_string(filling.with_size(skeleton(), 96)).graph.input[0].type.tensor_type.shape.dim
    assert [one.dim_param or one.dim_value for one in dims] == ["batch", 3, 96, 96]


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ({"start": 2, "end": 3}, [96]),
        ({"start": 1}, [3, 96, 96]),
        ({"start": 2, "end": 4}, [96, 96]),
        ({"start": 0, "end": 1}, None),
        ({"start": 0}, None),
        ({"start": -1}, None),
    ],
)
def test_what_asks_for_the_pictures_size_is_told(asked, held):
    content = model_of([node("Shape", "images", "s", **asked), node("Cast", "s", "logits", to=1)])
    told = onnx.load_from_string(filling.with_size(content, 96)).graph
    assert [one.op_type for one in told.node] == (["Shape", "Cast"] if held is None else ["Cast"])
    assert [onnx.numpy_helper.to_array(one).tolist() for one in told.initializer] == (
        [] if held is None else [held]
    )


@pytest.mark.parametrize("content", [b"", b"\x08\x07", b"\xff" * 12])
def test_what_is_no_graph_is_refused(content):
    with pytest.raises(ValueError, match=r"it has no graph|not a protobuf"):
        filling.spliced(content, [])
