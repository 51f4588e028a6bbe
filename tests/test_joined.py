"""A network with one's own head is an ordinary Bundle: its answers, its record, its rows, what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import vertebra
from vertebra import bundles, engines, parity
from vertebra.bundles import Bundle, Card
from vertebra.bundles.fitted import Fitted
from vertebra.bundles.manifest import MANIFEST, NETWORK, SPLIT
from vertebra.data.preprocess import Preprocess, preprocess
from vertebra.engines import Settings, Subject
from vertebra.errors import BundleError, InvalidInputError, MeasurementError, WeightsError
from vertebra.exporting import converted, filled, joined, quantisation
from vertebra.measurements import Table
from vertebra.measuring.evaluation import fitted
from vertebra.reading.choice.terms import licence_of
from vertebra.zoo.graphs import drawing, store

SIZE, WIDTH = 64, 512
RECORD = Preprocess((SIZE, SIZE), SIZE, "bilinear")
NETWORK_NAME = "squeezenet1_1"
COLOURS = ("blue", "green", "red")
MADE = Fitted(
    pictures="photos@3fa2b1c4d5", pictures_sha256="3fa2b1c4d5" + "0" * 54,
    classes=tuple((name, 8) for name in COLOURS), folds=4, accuracy=0.875, low=0.69, high=0.957,
    how="logistic regression on frozen features, penalty 0.01", remarks=("one copy left out",),
)  # fmt: skip


def head(classes: int = 3, width: int = WIDTH) -> SimpleNamespace:
    draw = np.random.default_rng(5).normal
    return SimpleNamespace(
        weights=draw(size=(width, classes)).astype(np.float32), bias=np.arange(classes, dtype=np.float32)
    )


def graph() -> store.Graph:
    return store.find(NETWORK_NAME, SIZE)


def given() -> dict[str, np.ndarray]:
    """Weights of somebody's own, of another number of classes."""
    own = {one.key: drawing.draw("other", one.key, one.shape) for one in graph().parameters()}
    own["head.classifier.weight"], own["head.classifier.bias"] = (
        own["head.classifier.weight"][:7], own["head.classifier.bias"][:7],
    )  # fmt: skip
    return own


def join(folder: Path, **more: Any) -> Bundle:
    options = {"head": head(), "made": MADE, "model": NETWORK_NAME, "card": Card(preprocess=RECORD), **more}
    return joined.join(options.pop("source", None) or graph(), folder, **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "photos"
    for place, colour in enumerate(reversed(COLOURS)):
        (folder / colour).mkdir(parents=True)
        for number in range(8):
            pixels = np.random.default_rng(number + 10 * place).integers(0, 90, (70, 80, 3), dtype=np.uint8)
            pixels[..., place] += 120
            Image.fromarray(pixels).save(folder / colour / f"{colour}{number}.png")
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Bundle:
    split = [(hashlib.sha256(path.read_bytes()).hexdigest(), place % 4)
             for place, path in enumerate(sorted(photos.rglob("*.png")))]  # fmt: skip
    return join(tmp_path_factory.mktemp("kept") / "flowers", split=split)


def features_of(folder: Path, images: np.ndarray, arrays: Mapping[str, Any] | None = None) -> np.ndarray:
    """The network's own features, from a Bundle of the whole graph."""
    whole = filled.write(
        graph(), folder, model=NETWORK_NAME, input_size=SIZE, arrays=arrays, features=True,
        card=Card(weights="own", preprocess=RECORD), compared=False,
    )  # fmt: skip
    session = engines.load(
        "onnxruntime", Subject("x", bundle=str(whole.folder)), settings(len(images), whole)
    )
    return session.features(images)


def settings(batch_size: int, kept: Bundle) -> Settings:
    return Settings(batch_size=batch_size, input_size=kept.input_size, num_classes=kept.num_classes)


def answers(kept: Bundle, images: np.ndarray, engine: str) -> np.ndarray:
    session = engines.load(engine, Subject("x", bundle=str(kept.folder)), settings(len(images), kept))
    return session.run(images)


def pictures(photos: Path) -> np.ndarray:
    return np.stack([preprocess(path, RECORD) for path in sorted(photos.rglob("*.png"))[::6]])


# ------------------------------------------------------------------ answers


@pytest.mark.parametrize("arrays", [None, given()], ids=["drawn", "given"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "mnn"])
def test_the_answers_are_those_of_the_head_on_the_features(engine, arrays, tmp_path, photos):
    if importlib.util.find_spec({"mnn": "MNN"}.get(engine, engine)) is None:
        pytest.skip(f"needs {engine}")
    images = pictures(photos)
    own = join(tmp_path / "own", arrays=arrays, engine=engine)
    expected = features_of(tmp_path / "whole", images, arrays) @ head().weights + head().bias
    assert parity.output_error(expected, answers(own, images, engine)) < joined.LIMIT
    assert (own.parity["engine"], own.parity["pictures"] >= 2) == (engine, True)


def test_the_old_classifier_is_gone(kept):
    proto = onnx.load(kept.network)
    onnx.checker.check_model(str(kept.network), full_check=True)
    names = [one.name for one in proto.graph.initializer]
    assert not [name for name in names if "classifier" in name]
    assert [one.name for one in proto.graph.output] == ["logits"]
    numbers = sum(numpy_helper.to_array(one).size for one in proto.graph.initializer)
    old = 1000 * (WIDTH + 1)
    assert 0 <= numbers - (graph().params - old + 3 * (WIDTH + 1)) < 20
    assert (kept.folder / f"{NETWORK}.data").stat().st_size < 4 * numbers + 64 * len(names)


def test_features_are_kept_if_they_are_asked_for(tmp_path, photos):
    images = pictures(photos)
    own = join(tmp_path / "own", features=True)
    session = engines.load("onnxruntime", Subject("x", bundle=str(own.folder)), settings(len(images), own))
    found = session.features(images)
    np.testing.assert_allclose(found, features_of(tmp_path / "whole", images), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        session.run(images), found @ head().weights + head().bias, rtol=1e-4, atol=1e-3
    )


def test_the_users_pictures_get_the_heads_answers(kept, tmp_path, photos):
    paths = sorted(photos.rglob("*.png"))
    images = np.stack([preprocess(path, RECORD) for path in paths])
    expected = features_of(tmp_path / "whole", images) @ head().weights + head().bias
    found = joined.agreement(kept, paths, expected, batch_size=7)
    assert (found.pictures, found.agreed) == (24, 24)
    assert found.error < found.limit == 1e-4
    wrong = expected.copy()
    wrong[17, 2] += 0.01 * expected.std()
    with pytest.raises(MeasurementError, match="most for picture 17"):
        joined.agreement(kept, paths, wrong)
    with pytest.raises(InvalidInputError, match="23 pictures and logits of 24"):
        joined.agreement(kept, paths[1:], expected)
    with pytest.raises(InvalidInputError, match="3 classes; the logits have the shape"):
        joined.agreement(kept, paths, expected[:, :2])


def test_a_joined_file_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    right = joined._fill

    def wrong(
        found: Any, slots: Any, value_of: Any, path: Path, weights: Any, bias: Any, **more: Any
    ) -> None:
        right(found, slots, value_of, path, weights, bias + np.float32([0, 0, 0.5]), **more)

    monkeypatch.setattr(joined, "_fill", wrong)
    with pytest.raises(MeasurementError, match="doesn't answer as its head"):
        join(tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ other sources


def tiny(folder: Path, *, four: bool = False, ends_in: str = "Gemm", named: bool = False) -> Bundle:
    """A Bundle of somebody's network: a mean of three channels, then a full layer."""
    flat = [] if four else [helper.make_node("Flatten", ["mean"], ["flat"])]
    last = "mean" if four else "flat"
    ending = {
        "Gemm": [helper.make_node("Gemm", [last, "w"], ["logits"])],
        "Conv": [
            helper.make_node("Conv", ["mean", "k"], ["c"]),
            helper.make_node("Flatten", ["c"], ["logits"]),
        ],
    }[ends_in]
    extra = [helper.make_node("Identity", [last], ["features"])] if named else []
    held = {"w": np.eye(3, 5, dtype=np.float32), "k": np.ones((5, 3, 1, 1), np.float32)}
    value = helper.make_tensor_value_info
    more = (
        [value("features", TensorProto.FLOAT, ["batch", 3, 1, 1] if four else ["batch", 3])] if named else []
    )
    made = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["images"], ["mean"]), *flat, *extra, *ending], "net",
        [value("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [value("logits", TensorProto.FLOAT, ["batch", 5]), *more],
        [numpy_helper.from_array(held[name], name) for node in ending for name in node.input if name in held],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    images = bundles.reference_images(batch_size=2, in_channels=3, input_size=SIZE, seed=0)
    means = images.mean((2, 3))
    logits = means @ held["w"] if ends_in == "Gemm" else np.repeat(means.sum(1, keepdims=True), 5, 1)
    return bundles.write(
        folder,
        lambda draft: onnx.save(
            model, str(draft / NETWORK), save_as_external_data=True, location=f"{NETWORK}.data",
            size_threshold=0,
        ),
        model="own", logits=logits, reference_seed=0, input_size=SIZE, in_channels=3, versions={},
        card=Card(weights="own.pth", weights_sha256="1" * 64, preprocess=RECORD),
    )  # fmt: skip


@pytest.mark.parametrize(
    "how", [{}, {"named": True}, {"named": True, "four": True, "ends_in": "Conv"}], ids=str
)
def test_a_bundle_gives_its_network_too(how, tmp_path, photos):
    source = tiny(tmp_path / "source", **how)
    own = join(tmp_path / "own", source=source, head=head(width=3), model="own")
    images = pictures(photos)
    np.testing.assert_allclose(
        answers(own, images, "onnxruntime"), images.mean((2, 3)) @ head(width=3).weights + head().bias,
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip
    held = [one.name for one in onnx.load(own.network).graph.initializer]
    assert held == ["fitted.weight", "fitted.bias"]
    assert own.graph is None


@pytest.mark.parametrize(
    ("how", "width", "told"),
    [
        ({"ends_in": "Conv"}, 3, "no classifier that a head could take the place of"),
        ({}, 4, "The head takes 4 features a picture; own gives 3"),
    ],
)
def test_a_bundle_that_takes_no_head(how, width, told, tmp_path):
    source = tiny(tmp_path / "source", **how)
    with pytest.raises(InvalidInputError, match=told):
        join(tmp_path / "own", source=source, head=head(width=width))
    assert not (tmp_path / "own").exists()


# ------------------------------------------------------------------ the record


def test_it_is_an_ordinary_bundle(kept):
    found = bundles.read(kept.folder)
    assert found.fitted == dataclasses.replace(MADE)
    assert found.label_set().names == COLOURS
    assert (found.weights, found.labels) == ("drawn+photos@3fa2b1c4d5", "photos@3fa2b1c4d5")
    assert found.network_sha256 == found.weights_sha256
    assert len(found.files[SPLIT]["sha256"]) == 64
    card = (kept.folder / "README.md").read_text()
    for words in ("| blue | 8 |", "87.5 % (95 % interval 69.0 to 95.7 %)", "3fa2b1c4d5", "one copy left out",
                  "old classifier", "Apache-2.0 (NOTICES.txt)"):  # fmt: skip
        assert words in card


def test_the_card_says_what_the_weights_licence_permits(tmp_path):
    card = Card(weights="w.a1_in1k", weights_sha256="2" * 64, licence="CC-BY-NC-4.0", preprocess=RECORD,
                assumed=("labels",))  # fmt: skip
    own = join(tmp_path / "own", card=card, arrays=given())
    assert (own.licence, own.fitted.permits) == ("CC-BY-NC-4.0", "non-commercial use only")
    assert (own.fitted.network_weights, own.fitted.network_sha256) == ("w.a1_in1k", "2" * 64)
    assert own.weights == "w.a1_in1k+photos@3fa2b1c4d5"
    assert own.assumed == []
    assert "Their licence permits: non-commercial use only." in (own.folder / "README.md").read_text()


def test_the_licence_is_that_of_the_weights_under_the_head():
    name = "resnet18.a1_in1k"
    assert licence_of("timm:resnet18", name) == "apache-2.0"
    assert licence_of("timm:resnet18", f"{name}+photos@3fa2b1c4d5") == "apache-2.0"


def test_its_identity_is_what_was_learned_whatever_the_format(kept, tmp_path):
    other = head()
    other.bias = other.bias + 1
    again = converted.convert(kept, tmp_path / "openvino", engine="openvino")
    assert again.format == "openvino"
    assert again.network_sha256 == kept.network_sha256
    assert join(tmp_path / "other", head=other).network_sha256 != kept.network_sha256
    assert join(tmp_path / "given", arrays=given()).network_sha256 != kept.network_sha256


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"folds": 0}, "folds"),
        ({"accuracy": "high"}, "accuracy"),
        ({"classes": [["blue"]]}, "classes"),
        ({"pictures_sha256": "x"}, "pictures_sha256"),
        ({"more": 1}, "more"),
        ({"how": "a\nb"}, "how"),
    ],
)
def test_a_damaged_record_is_refused(kept, tmp_path, change, told):
    copy = bundles.copy(kept, tmp_path / "copy")
    path = copy.folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["fitted"] |= change
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=f"fitted.*{told}"):
        bundles.read(copy.folder)


# ------------------------------------------------------------------ eight bits, other engines


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_eight_bits_on_the_same_pictures(engine, kept, tmp_path, photos):
    if engine == "openvino" and importlib.util.find_spec("nncf") is None:
        pytest.skip("needs nncf")
    made = vertebra.export(
        kept.folder, tmp_path / "int8", engine=engine, precision="int8", calibrate=photos, guard=0.9
    )
    assert (made.precision, made.quantisation["guard"], made.quantisation["calibrated_on"]) == (
        "int8",
        0.9,
        12,
    )
    assert made.quantisation["value"] >= 0.9
    assert made.file_bytes < kept.file_bytes / 2
    assert made.fitted == kept.fitted
    assert made.network_sha256 != kept.network_sha256
    paths = sorted(photos.rglob("*.png"))
    told = [vertebra.predict(*paths, model=one.folder) for one in (made, kept)]
    alike = [one.top[0].name == other.top[0].name for one, other in zip(*told, strict=True)]
    assert sum(alike) >= 20  # a random head decides narrowly
    with pytest.raises(InvalidInputError, match="accuracy is of float32"):
        fitted.rows(made)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"engine": "ncnn"}, 'Bundles for "ncnn" aren\'t made from an ONNX file'),
        ({"engine": "openvino", "precision": "float16"}, "isn't made from one in float32"),
        ({"precision": "int8"}, "must be given together"),
        ({"engine": "eager"}, "nothing to export"),
    ],
)
def test_an_engine_that_can_not_be_served_is_refused_at_once(asked, told, kept, tmp_path):
    with pytest.raises(InvalidInputError, match=told):
        join(tmp_path / "own", **asked)
    with pytest.raises(InvalidInputError, match=told):
        vertebra.export(kept.folder, tmp_path / "own", **asked)
    assert list(tmp_path.iterdir()) == []


def test_only_a_bundle_in_onnx_and_float32_is_converted(kept, tmp_path):
    again = converted.convert(kept, tmp_path / "openvino", engine="openvino")
    with pytest.raises(InvalidInputError, match="is in openvino and float32"):
        converted.convert(again, tmp_path / "mnn")


def test_int8_is_joined_in_one_step(tmp_path, photos):
    asked = quantisation.asked("int8", calibrate=photos, guard=0.9)
    own = join(tmp_path / "own", precision="int8", calibration=asked)
    assert (own.precision, own.fitted) == ("int8", MADE)


# ------------------------------------------------------------------ the table


def test_the_rows_join_a_bench_of_the_bundle(kept, tmp_path):
    """One candidate with the accuracy, the counts and the latency; eval on its own pictures isn't one."""
    table = Table(tmp_path / "table.db")
    rows = fitted.rows(kept)
    table.append(rows)
    assert (rows[0].metric, rows[0].value, rows[0].low, rows[0].high) == ("top1", 0.875, 0.69, 0.957)
    assert (rows[0].dataset, rows[0].split, rows[0].samples) == ("photos@3fa2b1c4d5", "4-fold", 24)
    counts = {row.metric: row.value for row in rows[1:]}
    assert counts["params"] == graph().params - 1000 * (WIDTH + 1) + 3 * (WIDTH + 1)
    assert counts["macs"] > 3 * WIDTH
    latency = dataclasses.replace(
        rows[0], metric="latency", value=0.002, low=None, high=None, samples=None, origin="benched",
        dataset=None, dataset_sha256=None, split=None, protocol=None, engine="onnxruntime",
        precision="float32", device="cpu", batch_size=1, threads=2, streams=1, scenario="single-stream",
        system="here", grade="A", grade_reasons=(),
    )  # fmt: skip
    table.append([latency])
    for more in ({}, {"dataset": "photos@3fa2b1c4d5"}):
        picked = vertebra.pick(fps=30, params="1M", origin="evaluated", table=table, system="here", **more)
        assert picked.choice.model.startswith(f"{NETWORK_NAME}#")
        assert picked.choice.value("top1") == 0.875
        assert picked.choice.value("fps") == 500


def test_pictures_that_the_head_was_fitted_on_are_told(kept, tmp_path, photos, caplog):
    table = Table(tmp_path / "table.db")
    table.append(fitted.rows(kept))
    told = vertebra.evaluate(kept.folder, photos, table=table)
    assert {row.split for row in told.rows} == {"seen in fitting"}
    assert "fitted on 24 of these 24 pictures" in caplog.text
    assert "fitted on 24 of these 24 pictures" in told.rows[0].grade_reasons[0]
    found = vertebra.reading.choice.candidates.comparable(table, system=None)
    assert [row.value for row in found if row.metric == "top1"] == []
    caplog.clear()
    new = tmp_path / "new"
    for colour in COLOURS:
        (new / colour).mkdir(parents=True)
        Image.new("RGB", (70, 70), colour).save(new / colour / "a.png")
    rows = vertebra.evaluate(kept.folder, new, table=table).rows
    assert ({row.split for row in rows}, caplog.text) == ({"all"}, "")


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"head": head(width=100)}, "The head takes 100 features a picture; squeezenet1_1 gives 512"),
        ({"head": head(4)}, "The head has 4 classes, and 3 are named"),
        ({"head": SimpleNamespace(weights=np.ones((WIDTH, 3)), bias=np.ones(2))}, r"bias of \(2,\)"),
        ({"head": SimpleNamespace(weights=np.ones((WIDTH, 1)), bias=np.ones(1))}, "at least two"),
        ({"head": SimpleNamespace(weights=np.full((WIDTH, 3), np.nan), bias=np.ones(3))}, "not finite"),
        ({"made": dataclasses.replace(MADE, classes=(("a", 1), ("b", 1), (" a", 1)))}, "same name, \"a\""),
        ({"made": dataclasses.replace(MADE, classes=(("a", 1), (" ", 1), ("b", 1)))}, "Class 1 has no name"),
        ({"made": dataclasses.replace(MADE, accuracy=0.1)}, "isn't within its interval"),
        ({"made": dataclasses.replace(MADE, how="x" * 2000)}, '"fitted" has a wrong or missing value: how'),
        ({"card": Card()}, "No preprocessing is known"),
        ({"card": Card(preprocess=Preprocess((20, 20), 20, "bilinear"))}, "takes no pictures of 20x20"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(change, told, tmp_path):
    with pytest.raises(InvalidInputError, match=told):
        join(tmp_path / "own", **change)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_leave_nothing_behind(tmp_path):
    with pytest.raises(WeightsError, match="don't fit squeezenet1_1"):
        join(tmp_path / "own", arrays={"a": np.ones(3, np.float32)})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "letter.txt").write_text("mine")
    with pytest.raises(BundleError, match="is not a Bundle"):
        join(tmp_path / "own")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["letter.txt"]
