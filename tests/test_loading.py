"""Loading: a name or a Bundle becomes a network that answers, and says what it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

import golden_bundle
import vertebra
from vertebra import bundles, engines, zoo
from vertebra.bundles.manifest import MANIFEST
from vertebra.data.preprocess import Preprocess, protocols
from vertebra.errors import (
    BundleError,
    DownloadError,
    InvalidInputError,
    MeasurementError,
    MissingRuntimeError,
    UnknownNameError,
    VertebraError,
    WeightsError,
)
from vertebra.exporting import export
from vertebra.exporting.process import Exporter
from vertebra.inference import loading, resolving
from vertebra.inference.prediction import probabilities
from vertebra.machine import downloads
from vertebra.progress import Progress

WEIGHTS = golden_bundle.WEIGHTS
SIZE = (224, 224)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VERTEBRA_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(3, 3, *SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def eager() -> Iterator[loading.Loaded]:
    with loading.load("squeezenet1_1", weights=WEIGHTS, batch_size=3) as loaded:
        yield loaded


# ------------------------------------------------------------------ what is loaded


def test_a_name_with_a_file_of_weights_is_a_trained_network(eager, images):
    told = (eager.model, eager.weights, eager.num_classes, eager.engine, eager.labels)
    assert told == ("squeezenet1_1", WEIGHTS.name, 100, "eager", None)
    network = zoo.build("squeezenet1_1", weights=str(WEIGHTS)).eval()
    import torch

    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_array_equal(eager.logits(images), expected)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_bundle_answers_as_the_weights_do_in_eager(engine, eager, images):
    with loading.load(golden_bundle.folder(), engine=engine, batch_size=3) as loaded:
        np.testing.assert_allclose(loaded.logits(images), eager.logits(images), atol=1e-5)
        assert (loaded.preprocess, loaded.engine) == (eager.preprocess, engine)


def test_a_bundle_runs_in_onnxruntime_unless_told_otherwise():
    with loading.load(str(golden_bundle.folder())) as loaded:
        assert loaded.engine == "onnxruntime"
        assert loaded.labels.names == tuple(golden_bundle.CLASSES)
        assert loaded.labels.name == "classes.txt"
        assert loaded.weights == WEIGHTS.name


def test_less_than_a_batch_is_answered_alike(eager, images):
    np.testing.assert_allclose(eager.logits(images[:1]), eager.logits(images)[:1], atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3, *SIZE), (3, 1, *SIZE), (3, 3, 64, 64)])
def test_images_of_another_shape_are_refused(eager, shape):
    with pytest.raises(InvalidInputError, match="were expected"):
        eager.logits(np.zeros(shape, np.float32))


def test_features_are_what_the_classifier_sees(eager, images):
    import torch

    with torch.inference_mode():
        pooled = eager.session.network.forward_features(torch.from_numpy(images)).mean((2, 3)).numpy()
    assert eager.features(images[:2]).shape == (2, 512)
    np.testing.assert_allclose(eager.features(images[:2]), pooled[:2], atol=1e-5)


def test_features_of_a_bundle_are_refused(images):
    with (
        loading.load(golden_bundle.folder(), batch_size=3) as loaded,
        pytest.raises(InvalidInputError, match="eager"),
    ):
        loaded.features(images)


def test_labels_and_preprocessing_may_be_given(tmp_path):
    record = replace(protocols.torchvision(), interpolation="bicubic")
    path = tmp_path / "preprocess.json"
    path.write_text(record.to_json())
    given = {"weights": WEIGHTS, "labels": golden_bundle.labels_file()}
    assert resolving.resolve("squeezenet1_1", preprocess=path, **given).card.preprocess == record
    resolved = resolving.resolve("squeezenet1_1", preprocess="timm", **given)
    assert resolved.card.preprocess == protocols.timm()
    assert resolved.card.labels.names == tuple(golden_bundle.CLASSES)


@pytest.mark.parametrize("way", ["whole", "own"])
def test_a_way_of_the_network_s_own_preprocessing_keeps_the_rest(way):
    own = zoo.facts("squeezenet1_1", WEIGHTS).preprocess
    wanted = replace(own, resize=own.input_size) if way == "whole" else own
    found = resolving.resolve("squeezenet1_1", weights=WEIGHTS, preprocess=way)
    assert found.card.preprocess == wanted
    assert "preprocess" in found.card.assumed  # its mean and deviation still are
    bundle = resolving.from_bundle(golden_bundle.folder(), preprocess=way.upper())
    kept = bundles.read(golden_bundle.folder()).preprocess
    assert bundle.card.preprocess == (replace(kept, resize=kept.input_size) if way == "whole" else kept)
    assert resolving.preprocess(way.upper()) == way
    assert resolving.preprocess("timm") == protocols.timm()


def test_labels_of_another_count_are_refused():
    with pytest.raises(InvalidInputError, match="1000 labels; the network has 100"):
        resolving.resolve("squeezenet1_1", weights=WEIGHTS, labels="imagenet-1k")
    with pytest.raises(InvalidInputError, match="1000 labels; the network has 100"):
        loading.load(golden_bundle.folder(), labels="imagenet-1k")


# ------------------------------------------------------------------ weights


def test_without_weights_the_published_ones_are_meant():
    with pytest.raises(DownloadError, match=r"SqueezeNet1_1_pretrained.*not in the cache"):
        loading.load("squeezenet1_1")


def test_a_network_without_published_weights_is_not_loaded_untrained():
    with pytest.raises(WeightsError, match="only guesses") as caught:
        loading.load("resnet18_acnet")
    assert "--untrained" in caught.value.hint


def test_an_untrained_network_says_so():
    seen: list[Progress] = []
    with loading.load("squeezenet1_1", untrained=True, progress=seen.append) as loaded:
        assert loaded.weights is None
        assert loaded.num_classes == 1000
    assert [event.text for event in seen] == ["squeezenet1_1 is untrained: its answers mean nothing"]


def test_an_untrained_network_is_the_same_each_time(images):
    with loading.load("squeezenet1_1", untrained=True, batch_size=3) as one:
        first = one.logits(images)
    with loading.load("squeezenet1_1", untrained=True, batch_size=3) as other:
        np.testing.assert_array_equal(other.logits(images), first)


@pytest.mark.parametrize(
    ("subject", "options", "kind", "told"),
    [
        ("squeezenet9", {}, UnknownNameError, "squeezenet9"),
        ("squeezenet1_1", {"weights": "no_such.pdparams"}, WeightsError, "no file"),
        ("vgg11", {"weights": "squeezenet1_1.paddle_in1k"}, WeightsError, "not of vgg11"),
        ("squeezenet1_1", {"weights": "x.pth", "untrained": True}, InvalidInputError, "untrained"),
        ("squeezenet1_1", {"engine": "onnx"}, UnknownNameError, "onnx"),
        ("squeezenet1_1", {"untrained": True, "preprocess": "none"}, UnknownNameError, "none"),
        ("squeezenet1_1", {"untrained": True, "preprocess": "none.json"}, InvalidInputError, "none.json"),
        ("./nowhere", {}, BundleError, "is not a Bundle"),
    ],
)
def test_what_cannot_be_loaded_is_told(subject, options, kind, told):
    with pytest.raises(kind, match=told):
        loading.load(subject, **options)


def test_weights_of_another_digest_are_refused():
    with pytest.raises(WeightsError, match="sha256"):
        loading.load("squeezenet1_1", weights=WEIGHTS, sha256="0" * 64)


def test_a_bundle_has_its_weights():
    for options in ({"weights": WEIGHTS}, {"untrained": True}):
        with pytest.raises(InvalidInputError, match="has its own weights"):
            loading.load(golden_bundle.folder(), **options)


# ------------------------------------------------------------------ names and folders


def test_a_bare_name_is_ours_even_where_a_folder_has_it(tmp_path, monkeypatch):
    (tmp_path / "squeezenet1_1").mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not resolving.is_bundle("squeezenet1_1")
    assert resolving.is_bundle("./squeezenet1_1")
    assert resolving.is_bundle(Path("squeezenet1_1"))
    assert resolving.is_bundle("mine")
    assert not resolving.is_bundle("timm:resnet50.a1_in1k")


# ------------------------------------------------------------------ the card of a Bundle


def test_a_bundle_tells_weights_preprocessing_and_labels():
    kept = bundles.read(golden_bundle.folder())
    assert kept.weights == WEIGHTS.name
    assert kept.weights_sha256 == downloads.digest(WEIGHTS)
    assert kept.preprocess == protocols.paddleclas()
    assert kept.label_set().names == tuple(golden_bundle.CLASSES)


def test_nothing_of_this_machine_is_in_a_manifest():
    text = (golden_bundle.folder() / MANIFEST).read_text()
    assert str(WEIGHTS.parent) not in text
    assert str(golden_bundle.folder().parent) not in text


def test_a_bundle_that_does_not_tell_its_preprocessing_needs_it_named(tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(golden_bundle.folder(), folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"preprocess": None}))
    with pytest.raises(InvalidInputError, match="doesn't record a preprocessing"):
        loading.load(folder)
    with loading.load(folder, preprocess="paddleclas") as loaded:
        assert loaded.preprocess == protocols.paddleclas()
    with pytest.raises(InvalidInputError, match="256x256"):
        loading.load(folder, preprocess=Preprocess((256, 256), 256, "bilinear"))
    with pytest.raises(InvalidInputError, match="a way of the network's own, and none is recorded"):
        loading.load(folder, preprocess="whole")


def test_a_bundle_with_another_file_of_the_same_size_is_refused(tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(golden_bundle.folder(), folder)
    with (folder / "model.onnx.data").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    with pytest.raises(BundleError, match=r"model\.onnx\.data"):
        loading.load(folder)


# ------------------------------------------------------------------ exporting into the cache


def test_an_engine_that_reads_bundles_gets_one_and_the_next_load_finds_it(cache, images, eager):
    seen: list[Progress] = []
    options = {"weights": WEIGHTS, "engine": "onnxruntime", "batch_size": 3}
    with loading.load("squeezenet1_1", progress=seen.append, **options) as loaded:
        np.testing.assert_allclose(loaded.logits(images), eager.logits(images), atol=1e-5)
    with loading.load("squeezenet1_1", progress=seen.append, **options):
        pass
    assumed, event, again = (text for text, _ in groupby(one.text for one in seen))
    assert assumed == again
    assert assumed.startswith("assumed for squeezenet1_1, whose file doesn't state it: preprocessing (")
    assert event.startswith("exporting squeezenet1_1 into")
    [folder] = (path for path in (cache / "bundles").iterdir() if path.is_dir())
    assert bundles.read(folder).weights == WEIGHTS.name


class _Instead:
    """An exporter that only notes what it should do, and puts a known Bundle there."""

    made: list[Path]

    def __enter__(self) -> _Instead:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def export(self, subject, folder, **_):
        self.made.append(folder)
        shutil.copytree(golden_bundle.folder(), folder)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(_Instead, "made", [], raising=False)
    monkeypatch.setattr("vertebra.exporting.process.Exporter", _Instead)
    return _Instead.made


def test_other_weights_labels_or_preprocessing_are_another_bundle(made, tmp_path):
    other = tmp_path / "other.pdparams"
    shutil.copy(WEIGHTS, other)
    for options in (
        {"weights": WEIGHTS},
        {"weights": other},
        {"weights": WEIGHTS, "labels": golden_bundle.labels_file()},
        {"weights": WEIGHTS, "preprocess": "timm"},
    ):
        loading.load("squeezenet1_1", engine="onnxruntime", **options).close()
    assert len(set(made)) == 4


def test_a_damaged_bundle_in_the_cache_is_made_again(made):
    options = {"weights": WEIGHTS, "engine": "onnxruntime"}
    loading.load("squeezenet1_1", **options).close()
    (made[0] / "model.onnx").write_bytes(b"")
    loading.load("squeezenet1_1", **options).close()
    (made[0] / MANIFEST).unlink()
    loading.load("squeezenet1_1", **options).close()
    assert len(made) == 3
    assert len(set(made)) == 1


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "file"))
    with pytest.raises(InvalidInputError, match="can't be written") as caught:
        loading.load("squeezenet1_1", untrained=True, engine="onnxruntime")
    assert "VERTEBRA_CACHE" in caught.value.hint


def test_a_process_of_its_own_writes_the_same_card(tmp_path):
    resolved = resolving.resolve("squeezenet1_1", weights=WEIGHTS, labels=golden_bundle.labels_file())
    with Exporter() as exporter:
        exporter.export(resolved.subject, tmp_path / "there", input_size=224, card=resolved.card)
    here, there = bundles.read(golden_bundle.folder()), bundles.read(tmp_path / "there")
    for told in ("weights", "weights_sha256", "licence", "preprocess", "labels"):
        assert getattr(here, told) == getattr(there, told)
    assert there.label_set() == resolved.card.labels


def test_export_refuses_labels_of_another_count(tmp_path):
    with pytest.raises(InvalidInputError, match="1000 labels; the network has 100"):
        vertebra.export("squeezenet1_1", tmp_path / "x", weights=WEIGHTS, labels="imagenet-1k")
    assert not (tmp_path / "x").exists()


# ------------------------------------------------------------------ ONNX files


def onnx_file(path: Path, *, batch: int | str = "batch", softmax: bool = False) -> str:
    """A network of 4 classes that sees the mean of each colour, in an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    weight = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        *([helper.make_node("Softmax", ["logits"], ["shares"], axis=1)] if softmax else []),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", TensorProto.FLOAT, [batch, 3, 16, 16])],
        [value("shares" if softmax else "logits", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return f"onnx:{path}"


@pytest.mark.parametrize("engine", [None, "onnxruntime", "openvino"])
def test_an_onnx_file_answers_as_it_is(tmp_path, engine):
    weight = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    images = np.random.default_rng(3).normal(size=(2, 3, 16, 16)).astype(np.float32)
    with loading.load(onnx_file(tmp_path / "net.onnx"), engine=engine, batch_size=2) as loaded:
        np.testing.assert_allclose(loaded.logits(images), images.mean((2, 3)) @ weight, atol=1e-5)
        assert (loaded.model, loaded.weights, loaded.num_classes) == ("onnx:net.onnx", "net.onnx", 4)
        assert loaded.engine == (engine or "onnxruntime")


def test_probabilities_of_an_onnx_file_are_not_taken_for_logits(tmp_path):
    images = np.random.default_rng(3).normal(size=(1, 3, 16, 16)).astype(np.float32)
    with loading.load(onnx_file(tmp_path / "logits.onnx")) as loaded:
        expected = probabilities(loaded.logits(images))
    with loading.load(onnx_file(tmp_path / "shares.onnx", softmax=True)) as loaded:
        np.testing.assert_allclose(probabilities(loaded.logits(images)), expected, atol=1e-6)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_onnx_file_that_ends_in_a_pool_answers_with_its_classes(tmp_path, engine):
    import onnx

    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.random.default_rng(2).normal(size=(4, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["scores"]),
            helper.make_node("GlobalAveragePool", ["scores"], ["pooled"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", number, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("pooled", number, ["n", 4, 1, 1])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(network, tmp_path / "pool.onnx")
    images = np.random.default_rng(3).normal(size=(2, 3, 16, 16)).astype(np.float32)
    with loading.load(f"onnx:{tmp_path / 'pool.onnx'}", engine=engine, batch_size=2) as loaded:
        expected = images.mean((2, 3)) @ weight[:, :, 0, 0].T
        np.testing.assert_allclose(loaded.logits(images), expected, atol=1e-5)


def test_an_onnx_file_of_fixed_batches_takes_no_others(tmp_path):
    name = onnx_file(tmp_path / "net.onnx", batch=2)
    for asked in (2, None):
        with loading.load(name, batch_size=asked, usual_batch_size=32) as loaded:
            assert loaded.settings.batch_size == 2
    with pytest.raises(InvalidInputError, match="batches of 2 only"):
        loading.load(name, batch_size=1)


def test_an_onnx_file_becomes_a_bundle(tmp_path):
    name = onnx_file(tmp_path / "net.onnx")
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\n")
    kept = vertebra.export(name, tmp_path / "bundle", labels=labels)
    assert bundles.read(kept.folder).label_set().names == ("a", "b", "c", "d")
    assert str(tmp_path) not in (kept.folder / MANIFEST).read_text()
    loading.load(kept.folder, engine="openvino").close()


def test_an_onnx_file_whose_data_stand_beside_it_becomes_a_bundle(tmp_path):
    shutil.copy(golden_bundle.folder() / "model.onnx", tmp_path / "other.onnx")
    shutil.copy(golden_bundle.folder() / "model.onnx.data", tmp_path / "model.onnx.data")
    kept = vertebra.export(f"onnx:{tmp_path / 'other.onnx'}", tmp_path / "bundle")
    for name in ("model.onnx", "model.onnx.data"):
        assert (kept.folder / name).read_bytes() == (golden_bundle.folder() / name).read_bytes()


def test_an_onnx_file_that_is_only_measured_may_have_its_data_beside_it(tmp_path):
    shutil.copy(golden_bundle.folder() / "model.onnx", tmp_path / "other.onnx")
    shutil.copy(golden_bundle.folder() / "model.onnx.data", tmp_path / "model.onnx.data")
    name = f"onnx:{tmp_path / 'other.onnx'}"
    subject = engines.Subject(name, builder="vertebra.zoo:build", arguments={"name": name})
    export(subject, tmp_path / "bundle", input_size=224)
    kept, golden = bundles.read(tmp_path / "bundle"), bundles.read(golden_bundle.folder())
    np.testing.assert_allclose(kept.reference_pair(2)[1], golden.reference_pair(2)[1], atol=1e-4)


# ------------------------------------------------------------------ without torch


def test_a_bundle_is_loaded_without_torch():
    program = (
        "import sys, numpy\nfrom vertebra.inference import loading\n"
        f"loaded = loading.load({str(golden_bundle.folder())!r})\n"
        "loaded.logits(numpy.zeros((1, 3, 224, 224), 'float32'))\n"
        "there = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(there & {'torch', 'onnx', 'timm', 'sqlalchemy'}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_missing_runtime_is_told_before_anything_is_fetched(monkeypatch):
    real = engines.importlib.util.find_spec
    monkeypatch.setattr(
        engines.importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name)
    )
    with pytest.raises(MissingRuntimeError, match="openvino"):
        loading.load("squeezenet1_1", engine="openvino")


def test_every_refusal_is_one_that_a_user_can_mend(tmp_path):
    (tmp_path / "vertebra.json").write_text("{}")
    with pytest.raises(VertebraError):
        loading.load(tmp_path)


# ------------------------------------------------------------------ what no file can be


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 2500, "onnx:" + "a" * 5000, "a\0b", "~nobody-here/x"])
@pytest.mark.parametrize("option", ["subject", "weights", "labels", "preprocess"])
def test_a_name_that_no_file_can_have_is_refused_with_one_message(option, name):
    given = {"subject": "squeezenet1_1", "weights": str(WEIGHTS), option: name}
    with pytest.raises(VertebraError):
        loading.load(**given)


def test_a_graph_of_other_fixed_sizes_than_its_manifest_says_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    shapes = {"images": ["N", 3, 32, 32], "logits": ["N", 3, 32, 32]}

    def write(folder: Path) -> None:
        ends = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
        node = onnx.helper.make_node("Relu", ["images"], ["logits"])
        graph = onnx.helper.make_graph([node], "small", ends[:1], ends[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, folder / "model.onnx")

    def load(size: int, classes: int) -> None:
        kept = bundles.write(
            tmp_path / "net", write, model="net", logits=np.zeros((2, classes), np.float32),
            reference_seed=0, input_size=size, in_channels=3, versions={},
        )  # fmt: skip
        subject = engines.Subject("net", bundle=str(kept.folder))
        engines.load("onnxruntime", subject, engines.Settings(input_size=size, num_classes=classes))

    with pytest.raises(BundleError, match=r"takes \['N', 3, 32, 32\]; .* says \[1, 3, 224, 224\]"):
        load(224, 10)
    with pytest.raises(BundleError, match=r"gives \['N', 3, 32, 32\]; .* says \[1, 10\]"):
        load(32, 10)


def test_whatever_a_runtime_raises_for_a_bundle_is_one_of_our_errors(monkeypatch):
    from vertebra.engines import onnxruntime

    def fail(*_):
        raise IndexError("list index out of range")

    with loading.load(golden_bundle.folder()) as loaded:
        monkeypatch.setattr(onnxruntime.OnnxruntimeSession, "run", fail)
        with pytest.raises(MeasurementError, match=r"onnxruntime can't run squeezenet1_1: list index"):
            loaded.logits(np.zeros((1, 3, *SIZE), np.float32))
    monkeypatch.setattr(onnxruntime, "load", fail)
    with pytest.raises(BundleError, match=r"onnxruntime can't load the network .*list index"):
        loading.load(golden_bundle.folder())
