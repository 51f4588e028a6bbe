"""The graph from a picture's pixels on: it answers like Python's preprocessing, or isn't written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import golden_bundle
import vertebra
from vertebra import bundles, cli
from vertebra.bundles import Bundle, Card
from vertebra.bundles.manifest import MANIFEST, NETWORK, PICTURE
from vertebra.data.preprocess import Preprocess, decode, preprocess
from vertebra.errors import BundleError, InvalidInputError, MeasurementError
from vertebra.exporting import picture

PHOTOGRAPHS = sorted(Path("/usr/share/libjxl-testdata/jxl/flower").glob("*.jpg"))[:3]
SIZES = [(120, 90), (90, 123), (57, 201), (64, 64), (48, 64), (33, 35), (401, 300), (96, 97), (99, 96)]


def pixels_of_graph(record: Preprocess, image: np.ndarray) -> np.ndarray:
    """What the graph alone gives the network, as grey levels (H, W, 3)."""
    graph = picture._Graph()
    source = picture._picture_input(graph, record)
    model = graph.model(source, 18, (1, 3, *record.input_size))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return levels(session.run(None, {"image": image})[0][0], record)


def levels(values: np.ndarray, record: Preprocess) -> np.ndarray:
    parts = [np.reshape(part, (3, 1, 1)) for part in (record.std, record.mean)]
    return np.rint((values * parts[0] + parts[1]) * 255).transpose(1, 2, 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rounding", ["floor", "nearest"])
@pytest.mark.parametrize("resize", [48, (50, 61)])
def test_the_graph_makes_opencvs_grey_levels_exactly(size, rounding, resize):
    record = Preprocess((47, 44), resize, "opencv-bilinear", resize_rounding=rounding, crop_rounding=rounding)
    image = picture.proof_picture(*size)
    np.testing.assert_array_equal(pixels_of_graph(record, image), levels(preprocess(image, record), record))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rounding", ["floor", "nearest"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_graph_makes_the_antialiased_grey_levels_nearly(size, rounding, interpolation):
    record = Preprocess((47, 44), 48, interpolation, resize_rounding=rounding, crop_rounding=rounding)
    image = picture.proof_picture(*size)
    off = np.abs(pixels_of_graph(record, image) - levels(preprocess(image, record), record))
    assert off.max() <= picture.MOST_LEVELS
    assert off.mean() <= picture.MEAN_LEVELS


def small(folder: Path, record: Preprocess | None, *, ending: str | None = None, opset: int = 18) -> Bundle:
    """A Bundle of a network that tells how red, green and blue a picture is."""
    weight = numpy_helper.from_array(5 * np.eye(3, dtype=np.float32), "weight")
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["sums" if ending else "logits"]),
    ]
    if ending:
        nodes.append(helper.make_node(ending, ["sums"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    images = bundles.reference_images(batch_size=2, in_channels=3, input_size=32, seed=0)
    logits = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"images": images})[0]
    return bundles.write(
        folder,
        lambda draft: onnx.save(model, str(draft / NETWORK)),
        model="small", logits=logits, reference_seed=0, input_size=32, in_channels=3, versions={},
        card=Card(preprocess=record),
    )  # fmt: skip


def answer(folder: Path, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / PICTURE, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["image"]
    assert session.get_inputs()[0].type == "tensor(uint8)"
    return session.run(["probabilities"], {"image": np.ascontiguousarray(image)})[0]


def test_a_trained_network_answers_photographs_alike(tmp_path):
    kept = vertebra.export(golden_bundle.folder(), tmp_path / "net", embed_preprocess=True)
    images = [decode(path, apply_orientation=True) for path in PHOTOGRAPHS]
    for image in [*images, picture.proof_picture(300, 451)]:
        [expected] = vertebra.predict(image, model=tmp_path / "net")
        got = answer(tmp_path / "net", image)
        assert got.shape == (1, 100)
        assert [int(index) for index in np.argsort(-got[0])[:5]] == [one.index for one in expected.top]
        for one in expected.top:
            assert got[0, one.index] == pytest.approx(one.probability, abs=1e-3)
    proof = kept.picture["proof"]
    assert proof["grey_levels_most"] == 0  # OpenCV's arithmetic is whole-numbered
    assert proof["pictures"] == [list(size) for size in picture.PROOF_SIZES]
    assert "picture.onnx" in (tmp_path / "net" / "README.md").read_text()


def test_the_parameters_stand_in_the_bundle_once(tmp_path):
    kept = vertebra.export(golden_bundle.folder(), tmp_path / "net", embed_preprocess=True)
    before = bundles.read(golden_bundle.folder())
    assert kept.files["model.onnx.data"] == before.files["model.onnx.data"]
    assert kept.files["picture.onnx"]["bytes"] < before.files["model.onnx"]["bytes"] + 20_000
    assert kept.file_bytes == before.file_bytes
    assert before.picture is None
    assert (before.folder / "vertebra.json").stat().st_nlink == 1
    assert (before.folder / "model.onnx.data").stat().st_nlink == 1  # nothing shared with the original


RECORD = Preprocess((32, 32), 36, "bilinear")


def test_a_network_that_ends_in_a_softmax_gets_no_second_one(tmp_path):
    image = np.full((50, 60, 3), (200, 100, 50), np.uint8)
    once = answer(picture.embed(small(tmp_path / "a", RECORD)).folder, image)
    twice = answer(picture.embed(small(tmp_path / "b", RECORD, ending="Softmax")).folder, image)
    np.testing.assert_allclose(once, twice, atol=1e-6)
    assert once[0, 0] > 0.9


def test_what_onnx_can_not_resize_is_refused_and_nothing_is_written(tmp_path):
    kept = small(tmp_path / "net", dataclasses.replace(RECORD, interpolation="lanczos"))
    with pytest.raises(InvalidInputError, match=r'no resize with the interpolation "lanczos"') as caught:
        vertebra.export(kept.folder, tmp_path / "other", embed_preprocess=True)
    assert "\n" not in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_bundle_without_a_record_or_of_an_old_operator_set_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="No preprocessing is known"):
        picture.embed(small(tmp_path / "a", None))
    with pytest.raises(InvalidInputError, match="operator set 17"):
        picture.embed(small(tmp_path / "b", RECORD, opset=17))


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.1, 0.2, 0.3)},  # another mean
        {"crop_rounding": "floor", "resize": 35},  # the crop a pixel off
        {"interpolation": "bicubic"},
    ],
)
def test_a_graph_of_another_record_fails_the_proof(tmp_path, monkeypatch, change):
    kept = small(tmp_path / "net", dataclasses.replace(RECORD, **{"resize": change.get("resize", 36)}))
    real = picture._picture_input
    monkeypatch.setattr(
        picture, "_picture_input", lambda graph, record: real(graph, dataclasses.replace(record, **change))
    )
    with pytest.raises(MeasurementError, match="differs from Python's"):
        picture.embed(kept)
    assert bundles.read(tmp_path / "net").picture is None


def test_embedding_again_changes_nothing(tmp_path):
    picture.embed(small(tmp_path / "net", RECORD))
    first = {path.name: path.read_bytes() for path in (tmp_path / "net").iterdir()}
    picture.embed(bundles.read(tmp_path / "net"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "net").iterdir()} == first


def test_a_graph_that_the_manifest_lost_is_refused(tmp_path):
    kept = picture.embed(small(tmp_path / "net", RECORD))
    path = kept.folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"picture": {"file": "../x", "proof": {}}}))
    with pytest.raises(BundleError, match='"picture" lacks'):
        bundles.read(kept.folder)


def test_the_command_embeds(tmp_path):
    folder = tmp_path / "net"
    done = CliRunner().invoke(
        cli.cli, ["export", str(golden_bundle.folder()), "--embed-preprocess", "-o", str(folder)]
    )
    assert (done.exit_code, done.stdout) == (0, f"{folder}\n"), done.output
    assert (folder / PICTURE).is_file()
