"""What an ONNX file says of itself, and networks in files of every form: run as they are, or refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import vertebra
from vertebra import bundles, zoo
from vertebra.campaigns import cases
from vertebra.campaigns.exports import needed_bundle
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.inference import loading
from vertebra.machine import onnx_files
from vertebra.measuring import graphs as counting

onnx = pytest.importorskip("onnx")
tiny = pytest.importorskip("tiny_onnx", reason="needs onnx", exc_type=ImportError)

SIGMOID = tiny.node("Sigmoid", ["logits"], "y")
SOFTMAX = tiny.node("Softmax", ["logits"], "y", axis=1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 3, 16, 16)).astype(np.float32)


def top(name: str, **options: object) -> list[float]:
    """The probabilities that `predict` gives for one grey picture, by class."""
    pixels = np.full((16, 16, 3), (200, 90, 30), np.uint8)
    [found] = vertebra.predict(pixels, model=name, **options)
    return [answer.probability for answer in sorted(found.top, key=lambda one: one.index)]


# ------------------------------------------------------------------ the file itself


@pytest.mark.parametrize(
    ("make", "precision"),
    [(tiny.network, "float32"), (tiny.rounded, "int8"), (tiny.halved, "float16")],
)
def test_the_precision_is_read_from_the_graph_and_reaches_manifest_and_session(tmp_path, make, precision):
    name = make(tmp_path / "net.onnx")
    assert onnx_files.read(tmp_path / "net.onnx").precision == precision
    kept = vertebra.export(name, tmp_path / "bundle")
    assert kept.precision == precision
    for subject in (name, kept.folder):
        with loading.load(subject) as loaded:
            assert loaded.session.effective()["precision"] == precision
            np.testing.assert_allclose(
                loaded.logits(images(1)), images(1).mean((2, 3)) @ tiny.WEIGHT, atol=0.15
            )
    (case,) = cases.cases([name], ["onnxruntime"])
    assert (case.precision, case.num_classes) == (precision, 4)
    assert needed_bundle(case).engine == "onnxruntime"


def test_a_files_precision_is_not_replaced_by_the_one_asked_for(tmp_path):
    name = tiny.rounded(tmp_path / "net.onnx")
    with pytest.raises(InvalidInputError, match="is in int8; float32 was asked for"):
        cases.cases([name], ["onnxruntime"], precisions=["float32"])
    with pytest.raises(InvalidInputError, match=r"an ONNX file in int8.*float16 was asked for"):
        vertebra.export(name, tmp_path / "b", precision="float16")
    with pytest.raises(InvalidInputError, match="not quantised"):
        vertebra.export(name, tmp_path / "b", precision="int8", calibrate=tmp_path)


@pytest.mark.parametrize("cut", [10, 60, 200])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, cut):
    path = tmp_path / "net.onnx"
    tiny.network(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidInputError, match="can't be read as a network"):
        zoo.find(f"onnx:{path}")


@pytest.mark.parametrize("name", ["net.onnx", "folder/net.onnx"])
def test_the_bare_path_of_an_onnx_file_is_a_network(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    tiny.network(Path(name))
    assert zoo.find(name).name == f"onnx:{name}"
    assert len(top(name)) == len(top(Path(name))) == 4
    assert vertebra.profile(name, table=tmp_path / "t.sqlite")[0].params == 12
    with pytest.raises(InvalidInputError, match=r"no file other\.onnx: it doesn't exist"):
        top("other.onnx")


# ------------------------------------------------------------------ data in other files


@pytest.mark.parametrize("location", ["net.onnx.data", "weights/one.bin"])
def test_data_beside_the_file_come_along_wherever_they_are(tmp_path, location):
    (tmp_path / "weights").mkdir()
    whole = tiny.network(tmp_path / "whole.onnx")
    name = tiny.network(
        tmp_path / "net.onnx", save_as_external_data=True, location=location, size_threshold=0
    )
    kept = vertebra.export(name, tmp_path / "bundle")
    shutil.rmtree(tmp_path / "weights")
    assert ("net.onnx.data" in kept.files) == (location == "net.onnx.data")
    assert top(kept.folder) == pytest.approx(top(whole), abs=1e-6)


@pytest.mark.parametrize(
    ("location", "told"), [("../out.bin", "isn't in its folder"), ("gone.bin", "there is no file")]
)
def test_data_outside_or_missing_are_named(tmp_path, location, told):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "net.onnx"
    tiny.network(path, save_as_external_data=True, location="same8.bin", size_threshold=0)
    (tmp_path / "in" / "same8.bin").unlink()
    path.write_bytes(path.read_bytes().replace(b"\x09same8.bin", bytes([len(location)]) + location.encode()))
    if len(location) != 9:  # the lengths around it are wrong then: write it whole
        import onnx

        tiny.network(path)
        model = onnx.load(str(path))
        onnx.external_data_helper.set_external_data(model.graph.initializer[0], location)
        model.graph.initializer[0].ClearField("raw_data")
        path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidInputError, match=told):
        zoo.find(f"onnx:{path}")


# ------------------------------------------------------------------ what the outputs are


def test_one_output_is_refused_unless_it_is_told(tmp_path):
    weight = tiny.WEIGHT[:, :1]
    plain = tiny.network(tmp_path / "logit.onnx", weight=weight)
    ended = tiny.network(tmp_path / "share.onnx", SIGMOID, weight=weight, output="y")
    for name in (plain, ended):
        for ask in (lambda name=name: top(name), lambda name=name: vertebra.export(name, tmp_path / "b")):
            with pytest.raises(InvalidInputError, match="one output: as the only class") as refused:
                ask()
            assert "--outputs sigmoids" in str(refused.value.hint)
    [share] = top(ended, outputs="sigmoids")
    assert top(plain, outputs="independent-logits") == pytest.approx([share], abs=1e-6)
    assert 0.01 < share < 0.99
    with pytest.raises(InvalidInputError, match="leave the range from 0 to 1"):
        top(tiny.network(tmp_path / "big.onnx", weight=weight * 100), outputs="sigmoids")


def test_independent_sigmoids_get_no_softmax(tmp_path):
    plain = tiny.network(tmp_path / "logits.onnx")
    ended = tiny.network(tmp_path / "shares.onnx", SIGMOID, output="y")
    with pytest.raises(InvalidInputError, match="don't sum to 1"):
        top(ended)
    shares = top(ended, outputs="sigmoids")
    assert shares == pytest.approx(top(plain, outputs="independent-logits"), abs=1e-6)
    assert abs(sum(shares) - 1) > 0.05
    kept = vertebra.export(ended, tmp_path / "bundle", outputs="sigmoids")
    assert bundles.read(kept.folder).outputs == "sigmoids"
    assert top(kept.folder) == pytest.approx(shares, abs=1e-6)
    assert "a share for each class on its own" in (kept.folder / "README.md").read_text()
    with pytest.raises(InvalidInputError, match="stand each on its own"):
        vertebra.export(kept.folder, tmp_path / "embedded", embed_preprocess=True)


def test_a_softmax_at_the_end_is_seen(tmp_path):
    plain = tiny.network(tmp_path / "logits.onnx")
    ended = tiny.network(tmp_path / "shares.onnx", SOFTMAX, output="y")
    assert top(ended) == pytest.approx(top(plain), abs=1e-6)
    assert vertebra.export(ended, tmp_path / "b").outputs == "probabilities"
    assert vertebra.export(plain, tmp_path / "b").outputs == "logits"


# ------------------------------------------------------------------ what is in a batch


def test_answers_that_depend_on_the_batch_are_refused(tmp_path):
    mean = tiny.node("ReduceMean", ["x"], "m", axes=[0, 2, 3], keepdims=1)
    name = tiny.network(tmp_path / "net.onnx", before=[mean, tiny.node("Sub", ["x", "m"], "c")], pooled="c")
    for ask in (top, lambda name: vertebra.export(name, tmp_path / "bundle")):
        with pytest.raises(InvalidInputError, match="answers otherwise for a picture in a batch") as refused:
            ask(name)
        assert "network.eval()" in str(refused.value.hint)


def test_a_constant_reshape_takes_batches_of_one(tmp_path):
    reshape = tiny.node("Reshape", ["logits", "to"], "y")
    name = tiny.network(
        tmp_path / "net.onnx", reshape, output="y", constants=[("to", np.array([1, 4], np.int64))]
    )
    assert vertebra.export(name, tmp_path / "bundle").batch_size == 1
    with loading.load(name, usual_batch_size=32) as loaded:
        assert loaded.settings.batch_size == 1
        np.testing.assert_allclose(loaded.logits(images(1)), images(1).mean((2, 3)) @ tiny.WEIGHT, atol=1e-5)
    with pytest.raises(InvalidInputError, match="batches of 1 only"):
        loading.load(name, batch_size=2)
    stuck = tiny.network(
        tmp_path / "stuck.onnx", reshape, output="y", constants=[("to", np.array([7, 4], np.int64))]
    )
    with pytest.raises(InvalidInputError, match="doesn't run with a batch of 1"):
        top(stuck)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((0, 3, 16, 16), "holds nothing"), (("n", 3, 48, 192), "not square"),
        (("n", 16, 16, 3), "channels last"),
    ],
)  # fmt: skip
def test_inputs_that_are_no_square_pictures_are_refused(tmp_path, shape, told):
    with pytest.raises(InvalidInputError, match=told):
        zoo.find(tiny.network(tmp_path / "net.onnx", shape=shape, weight=np.ones((shape[1], 4), np.float32)))


def test_a_grey_network_is_measured_and_predicts_nothing(tmp_path):
    name = tiny.network(tmp_path / "net.onnx", weight=tiny.WEIGHT[:1], shape=("n", 1, 28, 28))
    (case,) = cases.cases([name], ["onnxruntime"])
    assert (case.in_channels, case.input_size) == (1, 28)
    with pytest.raises(InvalidInputError, match="1 channels"):
        top(name)


# ------------------------------------------------------------------ what is assumed


def test_what_is_assumed_is_said_and_remembered(tmp_path):
    name = tiny.network(tmp_path / "net.onnx", shape=("n", 3, "h", "w"))
    said: list[str] = []
    listen = lambda event: said.append(event.text)  # noqa: E731
    pixels = np.zeros((16, 16, 3), np.uint8)
    [found] = vertebra.predict(pixels, model=name, progress=listen)
    assert found.assumed == ("preprocess", "input_size")
    assert [text for text in said if text.startswith("assumed for onnx:net.onnx")] == [
        "assumed for onnx:net.onnx, whose file doesn't state it: preprocessing (resize 256 bilinear, "
        "crop 224, mean 0.485 0.456 0.406, std 0.229 0.224 0.225); to change it: --preprocess NAME|FILE"
    ]
    kept = vertebra.export(name, tmp_path / "bundle")
    assert json.loads((kept.folder / "vertebra.json").read_text())["assumed"] == ["preprocess", "input_size"]
    [again] = vertebra.predict(pixels, model=kept.folder)
    assert again.assumed == ("preprocess", "input_size")
    [told] = vertebra.predict(pixels, model=kept.folder, preprocess="timm")
    assert told.assumed == ()


def test_labels_of_a_thousand_classes_are_assumed(tmp_path):
    weight = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    name = tiny.network(tmp_path / "net.onnx", weight=weight)
    assert zoo.facts(name).assumed == ("preprocess", "labels")
    with loading.load(name, labels="imagenet-1k", preprocess=zoo.facts(name).preprocess) as loaded:
        assert loaded.assumed == ()


# ------------------------------------------------------------------ counted


@pytest.mark.parametrize("make", [tiny.network, tiny.rounded, tiny.halved])
def test_a_file_is_counted_as_its_graph_says(tmp_path, make):
    name = make(tmp_path / "net.onnx")
    [found] = vertebra.profile(name, table=tmp_path / "t.sqlite")
    assert (found.params, found.macs, found.activations, found.num_classes) == (12, 12, 4, 4)
    assert found.weight_bytes == {tiny.network: 48, tiny.rounded: 12, tiny.halved: 24}[make]
    rows = vertebra.Table(tmp_path / "t.sqlite").rows(metric="macs")
    assert [(row.value, row.origin) for row in rows] == [(12, "profiled")]
    assert vertebra.show(name, table=tmp_path / "t.sqlite").counted == found


def test_an_export_of_ours_is_counted_like_the_network_itself(tmp_path):
    import golden_bundle
    from vertebra.measuring import profiler

    found = vertebra.show(
        golden_bundle.folder() / "model.onnx", table=vertebra.Table(tmp_path / "t.sqlite")
    ).counted
    expected = profiler.profile(
        lambda: zoo.build("squeezenet1_1", num_classes=100), model="squeezenet1_1", input_size=224
    )
    for what in ("params", "macs", "macs_conv", "activations"):
        assert getattr(found, what) == getattr(expected, what), what


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("nhw,ixh->nixw", [(2, 5, 7), (3, 4, 5)]),
        ("bnhk,bmk->bnhm", [(2, 3, 4, 5), (2, 6, 5)]),
        ("bhwc,hkc->bhwk", [(1, 3, 4, 5), (3, 2, 5)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("...ij,...jk->...ik", [(2, 1, 3, 4), (2, 5, 4, 6)]),
        ("ij,k->k", [(2, 3), (4,)]),  # summed, then a product of elements
        ("ij,jk->k", [(2, 3), (3, 4)]),
        ("i,j->ij", [(2,), (3,)]),
        ("bi,bi->bi", [(2, 3), (2, 3)]),
        ("ii,ij->j", [(3, 3), (3, 4)]),
        ("ij->ji", [(2, 3)]),
    ],
)
def test_an_einsum_is_counted_as_torch_counts_it(equation, shapes):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        torch.einsum(equation, *(torch.zeros(shape) for shape in shapes))
    assert 2 * counting._einsum(equation, shapes) == counter.get_total_flops()


def test_an_einsum_in_a_file_is_counted(tmp_path):
    """Over 3 channels of a mean, to 4 classes."""
    nodes = [
        onnx.helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
        onnx.helper.make_node("Einsum", ["m", "w"], ["y"], equation="bc,ck->bk"),
    ]
    value, real = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "net", [value("x", real, ["n", 3, 8, 8])], [value("y", real, ["n", 4])],
        [onnx.numpy_helper.from_array(np.array([2, 3]), "axes"),
         onnx.numpy_helper.from_array(np.ones((3, 4), np.float32), "w")],
    )  # fmt: skip
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "net.onnx")
    found = counting.profile(tmp_path / "net.onnx", model="net", input_size=8)
    assert (found.params, found.macs, found.activations) == (12, 12, 4)
    nodes[1].input.append("w")
    nodes[1].attribute[0].s = b"bc,ck,ck->bk"
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "net.onnx")
    with pytest.raises(MeasurementError, match="Einsum"):
        counting.profile(tmp_path / "net.onnx", model="net", input_size=8)


def test_a_network_larger_than_a_message_may_be_is_counted(tmp_path):
    """Protobuf ends at 2 GB: weights in a file of their own stay there, even where onnx can't tell the
    shapes, as after an operator that is ONNX Runtime's own."""
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        onnx.helper.make_node("Flatten", ["p"], ["f"]),
        onnx.helper.make_node("Gelu", ["f"], ["g"], domain="com.microsoft"),
        onnx.helper.make_node("Gather", ["table", "first"], ["w"]),
        onnx.helper.make_node("MatMul", ["g", "w"], ["y"]),
    ]
    value, real = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "net", [value("x", real, ["n", 3, 8, 8])], [value("y", real, ["n", 4])],
        [onnx.numpy_helper.from_array(np.arange(3), "first")],
    )  # fmt: skip
    rows = 2**31 // 16 + 1
    table = graph.initializer.add(
        name="table", data_type=real, dims=(rows, 4), data_location=onnx.TensorProto.EXTERNAL
    )
    table.external_data.add(key="location", value="hollow.data")
    with (tmp_path / "hollow.data").open("wb") as file:
        file.truncate(rows * 16)
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "net.onnx")
    found = counting.profile(tmp_path / "net.onnx", model="net", input_size=8)
    assert (found.params, found.macs, found.activations) == (4 * rows, 12, 4)


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_a_recurrent_layer_is_counted(tmp_path, kind, gates, directions):
    """Of 8 steps of 3 numbers each, with a state of 4, of which only the last is taken."""
    direction = "bidirectional" if directions == 2 else "forward"
    nodes = [
        onnx.helper.make_node("ReduceMean", ["x", "rows"], ["m"], keepdims=0),
        onnx.helper.make_node("Transpose", ["m"], ["t"], perm=[2, 0, 1]),
        onnx.helper.make_node(kind, ["t", "w", "r", "b"], ["", "h"], hidden_size=4, direction=direction),
        onnx.helper.make_node("ReduceMean", ["h", "directions"], ["y"], keepdims=0),
    ]
    value, real = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    shapes = {"w": (directions, gates * 4, 3), "r": (directions, gates * 4, 4), "b": (directions, gates * 8)}
    graph = onnx.helper.make_graph(
        nodes, "net", [value("x", real, ["n", 3, 8, 8])], [value("y", real, ["n", 4])],
        [onnx.numpy_helper.from_array(np.array([2]), "rows"),
         onnx.numpy_helper.from_array(np.array([0]), "directions"),
         *(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items())],
    )  # fmt: skip
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "net.onnx")
    found = counting.profile(tmp_path / "net.onnx", model="net", input_size=8)
    assert found.params == directions * gates * (4 * 3 + 4 * 4 + 8)
    assert found.macs == 8 * directions * gates * (4 * 3 + 4 * 4)
    assert found.activations == directions * 4


@pytest.mark.filterwarnings("ignore")  # torch's of its own exporters
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("any_batch", [True, False])
def test_an_exported_recurrent_network_is_counted_also_in_eight_bits(tmp_path, dynamo, any_batch):
    """Both exporters write the zeros that a state begins with, as constants or filled in."""
    torch = pytest.importorskip("torch")

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 4, bidirectional=True, batch_first=True)
            self.fc = torch.nn.Linear(8, 5)

        def forward(self, images):
            return self.fc(self.lstm(images.mean(2).transpose(1, 2))[0][:, -1])

    network = Network().eval()
    told = {"dynamic_axes": {"x": {0: "n"}}} if any_batch else {}
    if any_batch and dynamo:
        told = {"dynamic_shapes": ({0: torch.export.Dim("n")},)}
    images = torch.zeros(1, 3, 8, 8)
    torch.onnx.export(
        network, (images,), str(tmp_path / "net.onnx"), dynamo=dynamo, verbose=False, input_names=["x"],
        output_names=["y"], opset_version=18, **told,
    )  # fmt: skip
    expected = (sum(one.numel() for one in network.parameters()), 8 * 2 * 4 * (4 * 3 + 4 * 4) + 8 * 5)
    found = counting.profile(tmp_path / "net.onnx", model="net", input_size=8)
    assert (found.params, found.macs) == expected
    if not dynamo:  # ONNX Runtime's tool can't infer what the other one writes
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(tmp_path / "net.onnx", tmp_path / "int8.onnx")
        assert "DynamicQuantizeLSTM" in {one.op_type for one in onnx.load(tmp_path / "int8.onnx").graph.node}
        found = counting.profile(tmp_path / "int8.onnx", model="int8", input_size=8)
        assert (found.params, found.macs) == expected


# ------------------------------------------------------------------ evaluated


def test_an_evaluation_of_independent_classes_takes_each_share_for_its_confidence(tmp_path):
    from PIL import Image

    for number, colour in enumerate(("red", "green", "blue", "white")):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        Image.new("RGB", (20, 20), colour).save(tmp_path / "data" / str(number) / "a.png")
    name = tiny.network(tmp_path / "net.onnx", SIGMOID, output="y")
    asked = {"labels": "index", "table": tmp_path / "t.sqlite"}
    with pytest.raises(InvalidInputError, match="don't sum to 1"):
        vertebra.evaluate(name, tmp_path / "data", **asked)
    done = vertebra.evaluate(name, tmp_path / "data", outputs="sigmoids", **asked)
    assert {row.grade_reasons for row in done.rows} == {("preprocess assumed, not stated",)}
    picture = np.asarray(Image.new("RGB", (20, 20), "red"))
    [found] = vertebra.predict(picture, model=name, outputs="sigmoids", top=1)
    wrong = [one for one in done.evaluation.mistakes if one.truth == 0]
    right = found.top[0].index == 0
    assert right or wrong[0].confidence == pytest.approx(found.top[0].probability, abs=1e-6)
    assert sum(one.confidence + one.share for one in done.evaluation.mistakes) > 1.05 * len(wrong)


def test_counts_of_a_file_are_of_the_same_network_as_its_latency(tmp_path):
    (tmp_path / "folder").mkdir()
    name = tiny.network(tmp_path / "folder" / "net.onnx")
    table = vertebra.Table(tmp_path / "t.sqlite")
    vertebra.profile(name, table=table)
    subjects = {(row.model, row.network_sha256) for row in table.rows()}
    assert subjects == {
        ("onnx:net.onnx", hashlib.sha256((tmp_path / "folder/net.onnx").read_bytes()).hexdigest())
    }
