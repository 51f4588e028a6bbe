"""PaddlePaddle's inference models, by way of a converter in an environment of its own."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import vertebra
from vertebra import bundles, zoo
from vertebra.bundles.manifest import MANIFEST
from vertebra.campaigns import cases
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.inference import loading
from vertebra.zoo.adapters import paddle

#: A Python whose PaddlePaddle takes an ONNX file for a graph: it converts it by reading it and answers by
#: running it, with what the parameters' file says to go wrong.
FAKE = """#!{python}
import os, runpy, sys, time, types
from pathlib import Path

import numpy, onnxruntime

Path(__file__).with_name("runs").open("a").write("x")


def fault():
    return Path(sys.argv[2]).read_text()


def export(graph, parameters, save_file, opset_version):
    if fault() == "hangs":
        time.sleep(60)
    if fault() == "crashes":
        os.abort()
    if fault() == "grows":
        bytearray(2 << 30)
    if fault() == "refuses":
        print("[ERROR] no converter for the operator deform_conv2d")
        raise SystemExit(1)
    return Path(graph).read_bytes()


class Handle:
    def __init__(self, predictor):
        self.predictor = predictor

    def reshape(self, shape):
        self.shape = shape

    def copy_from_cpu(self, images):
        assert tuple(self.shape) == images.shape
        self.predictor.images = images

    def copy_to_cpu(self):
        return self.predictor.answers * (1.01 if fault() == "is off" else 1)


class Predictor:
    def __init__(self, config):
        self.session = onnxruntime.InferenceSession(config.graph)

    def get_input_names(self):
        return [self.session.get_inputs()[0].name]

    def get_input_handle(self, name):
        return Handle(self)

    def get_output_names(self):
        return ["answers"]

    def get_output_handle(self, name):
        return Handle(self)

    def run(self):
        (self.answers,) = self.session.run(None, {{self.get_input_names()[0]: self.images}})


class Config:
    def __init__(self, graph, parameters):
        self.graph = graph

    def disable_gpu(self):
        pass

    def disable_glog_info(self):
        pass


def module(name, **content):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)


module("paddle", __version__="3.0")
module("paddle.inference", Config=Config, create_predictor=Predictor)
module("paddle2onnx", __version__="2.0", export=export)
assert sys.argv[1] == "-I"
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def converter(tmp_path, monkeypatch):
    """The folder of a converter, which is named, and of an empty cache."""
    program = tmp_path / "converter" / "python"
    program.parent.mkdir()
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv(paddle.PYTHON, str(program))
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    return program.parent


WEIGHT = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)


def model(folder, graph="inference.json", fault="", size=16, batch="n"):
    """The name of a model whose logits are the channels' means times WEIGHT."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
    ]
    drawn = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    network = helper.make_model(drawn, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir(exist_ok=True)
    (folder / graph).write_bytes(network.SerializeToString())
    (folder / "inference.pdiparams").write_text(fault)
    return f"paddle:{folder}"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("graph", ["inference.json", "inference.pdmodel"])
def test_a_folder_with_an_inference_model_answers_as_it_is(tmp_path, converter, graph):
    images = np.random.default_rng(3).normal(size=(2, 3, 16, 16)).astype(np.float32)
    with loading.load(model(tmp_path / "net", graph), batch_size=2) as loaded:
        np.testing.assert_allclose(loaded.logits(images), images.mean((2, 3)) @ WEIGHT, atol=1e-5)
        assert (loaded.model, loaded.weights, loaded.num_classes) == ("paddle:net", "net", 4)
        assert loaded.preprocess.interpolation == "opencv-bilinear"


def test_a_bundle_tells_what_it_was_converted_from_and_how_near_it_is(tmp_path, converter):
    kept = vertebra.export(model(tmp_path / "net"), tmp_path / "bundle")
    text = (kept.folder / MANIFEST).read_text()
    told = bundles.read(kept.folder).converted_from
    assert {name: file["sha256"] for name, file in told["files"].items()} == {
        name: sha256(tmp_path / "net" / name) for name in ("inference.json", "inference.pdiparams")
    }
    assert told["parity"]["output_error"] <= told["parity"]["limit"]
    assert kept.weights_sha256 == sha256(tmp_path / "net" / "inference.pdiparams")
    assert {"paddlepaddle": "3.0", "paddle2onnx": "2.0"}.items() <= kept.versions.items()
    assert str(tmp_path) not in text


def test_a_bundle_that_was_never_converted_says_so(tmp_path, converter):
    model(tmp_path / "net")
    kept = vertebra.export(f"onnx:{tmp_path / 'net' / 'inference.json'}", tmp_path / "bundle")
    assert kept.converted_from is None


def test_a_model_is_converted_once_and_again_where_it_changed(tmp_path, converter):
    name = model(tmp_path / "net")
    zoo.find(name)
    zoo.facts(name)
    loading.load(name, engine="onnxruntime").close()
    assert (converter / "runs").read_text() == "x"
    model(tmp_path / "net", size=20)
    assert zoo.find(name).input_size == 20
    assert (converter / "runs").read_text() == "xx"


def test_what_was_converted_needs_no_converter(tmp_path, converter, monkeypatch):
    name = model(tmp_path / "net")
    zoo.find(name)
    monkeypatch.setenv(paddle.PYTHON, str(tmp_path / "nothing"))
    assert zoo.find(name).source == "paddle"


def test_a_benchmark_takes_the_model_to_every_engine_that_opens_onnx(tmp_path, converter):
    name = model(tmp_path / "net")
    (planned,) = cases.cases([name], ["onnxruntime"])
    from vertebra.exporting import export

    kept = export(planned.subject, tmp_path / "bundle", input_size=planned.input_size)
    assert kept.converted_from["files"]["inference.json"]["sha256"] == sha256(
        tmp_path / "net" / "inference.json"
    )
    with pytest.raises(InvalidInputError, match="is not a torch module"):
        zoo.build(name)
    with pytest.raises(InvalidInputError, match="ncnn"):
        export(
            Subject(name, builder="vertebra.zoo:build", arguments={"name": name}),
            tmp_path / "other",
            input_size=16,
            engine="ncnn",
        )


def test_a_model_of_fixed_batches_takes_no_others(tmp_path, converter):
    name = model(tmp_path / "net", batch=3)
    loading.load(name, batch_size=3).close()
    with pytest.raises(InvalidInputError, match="batches of 3"):
        cases.cases([name], ["onnxruntime"])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refuses", "operator deform_conv2d"),
        ("crashes", "ended with -6"),
        ("grows", "MemoryError"),
        ("is off", "differ from the reference"),
        ("hangs", "no result within 5 s"),
    ],
)
def test_a_conversion_that_goes_wrong_is_told_and_leaves_nothing(
    tmp_path, converter, monkeypatch, fault, reason
):
    monkeypatch.setattr(paddle, "_LIBRARY_BYTES", 2**30)
    monkeypatch.setattr(paddle, "TIMEOUT_S", 5.0 if fault == "hangs" else 60.0)
    with pytest.raises(InvalidInputError, match=reason) as refusal:
        zoo.find(model(tmp_path / "net", fault=fault))
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "cache" / "paddle").iterdir())


def test_a_folder_without_a_model_is_refused_with_the_file_that_is_missing(tmp_path, converter):
    with pytest.raises(InvalidInputError, match=r"inference\.json") as refusal:
        zoo.find(f"paddle:{tmp_path}")
    assert "inference.pdiparams" in refusal.value.hint
    model(tmp_path / "net")
    (tmp_path / "net" / "inference.pdiparams").unlink()
    with pytest.raises(InvalidInputError, match=r"inference\.pdiparams"):
        zoo.find(f"paddle:{tmp_path / 'net'}")


def test_without_a_converter_the_lines_that_make_one_are_told(tmp_path, converter, monkeypatch):
    name = model(tmp_path / "net")
    monkeypatch.setenv(paddle.PYTHON, str(tmp_path / "nothing"))
    with pytest.raises(MissingRuntimeError, match="nothing"):
        zoo.find(name)
    monkeypatch.delenv(paddle.PYTHON)
    monkeypatch.setattr(paddle, "find_spec", lambda name: None)
    with pytest.raises(MissingRuntimeError, match="paddle2onnx") as refusal:
        zoo.find(name)
    for part in ("python -m venv", "pip install paddlepaddle==", f"export {paddle.PYTHON}="):
        assert part in refusal.value.hint


def test_a_python_without_the_converter_is_told(tmp_path, converter, monkeypatch):
    empty = tmp_path / "empty"
    empty.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    empty.chmod(0o755)
    monkeypatch.setenv(paddle.PYTHON, str(empty))
    with pytest.raises(MissingRuntimeError, match="empty has no usable paddlepaddle"):
        zoo.find(model(tmp_path / "net"))


# ------------------------------------------------------------------ PaddlePaddle itself

_REAL = """
import json, sys
import numpy, paddle
from paddle import inference

folder, name = sys.argv[1:]
paddle.seed(0)
network = getattr(paddle.vision.models, name)()
network.eval()
spec = paddle.static.InputSpec([None, 3, 224, 224], "float32", "x")
paddle.jit.save(paddle.jit.to_static(network, input_spec=[spec], full_graph=True), f"{folder}/inference")
config = inference.Config(f"{folder}/inference.json", f"{folder}/inference.pdiparams")
config.disable_gpu()
predictor = inference.create_predictor(config)
images = numpy.load(f"{folder}/images.npy")
given = predictor.get_input_handle("x")
given.reshape(images.shape)
given.copy_from_cpu(images)
predictor.run()
told = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
numpy.save(f"{folder}/answers.npy", told)
"""


@pytest.mark.slow
@pytest.mark.skipif(paddle.PYTHON not in os.environ, reason=f"needs PaddlePaddle: {paddle._HINT}")
@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_0"])
def test_a_model_saved_by_paddlepaddle_answers_as_paddle_inference_does(tmp_path, monkeypatch, name):
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / name
    folder.mkdir()
    images = np.random.default_rng(5).normal(size=(3, 3, 224, 224)).astype(np.float32)
    np.save(folder / "images.npy", images)
    command = [os.environ[paddle.PYTHON], "-c", _REAL, str(folder), name]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kept = vertebra.export(f"paddle:{folder}", tmp_path / "bundle")
    answers = np.load(folder / "answers.npy")
    for engine in ("onnxruntime", "openvino"):
        with loading.load(kept.folder, engine=engine, batch_size=3) as loaded:
            np.testing.assert_allclose(loaded.logits(images), answers, rtol=1e-4, atol=1e-4)
    assert json.loads((kept.folder / MANIFEST).read_text())["versions"]["paddlepaddle"]
