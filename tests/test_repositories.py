"""Bundles as other servers take them: each file against its schema, the network in it against the Bundle."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from google.protobuf import text_format

import tiny_bundle
import vertebra
from serving_client import images
from vertebra import bundles
from vertebra.cli import cli
from vertebra.data.preprocess import Preprocess
from vertebra.errors import BundleError, InvalidInputError, UnknownNameError
from vertebra.exporting import repositories
from vertebra.inference.serving.messages import open_inference
from vertebra.machine import onnx_files

#: written after the documentation of OpenVINO Model Server's configuration
CONFIG = {
    "type": "object", "required": ["model_config_list"], "additionalProperties": False,
    "properties": {"model_config_list": {"type": "array", "minItems": 1, "items": {
        "type": "object", "required": ["config"], "additionalProperties": False,
        "properties": {"config": {
            "type": "object", "required": ["name", "base_path"], "additionalProperties": False,
            "properties": {
                "name": {"type": "string"}, "base_path": {"type": "string"},
                "target_device": {"type": "string"}, "nireq": {"type": "integer", "minimum": 0},
                "batch_size": {"type": ["integer", "string"]}, "shape": {"type": ["object", "string"]},
                "layout": {"type": ["object", "string"]}, "plugin_config": {"type": "object"},
                "model_version_policy": {"type": "object"},
            },
        }},
    }}},
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    tiny_bundle.make(tmp_path / "tiny")
    return tmp_path / "tiny"


def published(bundle: Path, kind: str) -> Path:
    folder = bundle.parent / "out" / kind
    assert vertebra.export(bundle, folder, repository=kind).folder == bundle
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def config(path: Path) -> Any:
    return text_format.Parse(path.read_text(encoding="utf-8"), open_inference()["ModelConfig"]())


def run(path: Path, **inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


# ------------------------------------------------------------------ Triton


def test_triton_s_repository_describes_the_network_in_it(bundle: Path) -> None:
    folder = published(bundle, "triton")
    assert files(folder) == {
        "README.md", "vertebra-repository.json", "tiny/config.pbtxt", "tiny/labels.txt", "tiny/1/model.onnx",
    }  # fmt: skip
    found = config(folder / "tiny" / "config.pbtxt")
    assert (found.name, found.backend, found.max_batch_size) == ("tiny", "onnxruntime", 8)
    assert found.HasField("dynamic_batching")
    ((given,), (answer,)) = found.input, found.output
    size = tiny_bundle.SIZE
    assert (given.name, given.data_type, given.format, list(given.dims)) == ("x", 11, 2, [3, size, size])
    assert (answer.name, answer.data_type, list(answer.dims)) == ("logits", 11, [4])
    assert (folder / "tiny" / answer.label_filename).read_text().splitlines() == list(tiny_bundle.NAMES)
    values = images(3)
    found_logits = run(folder / "tiny/1/model.onnx", x=values)
    np.testing.assert_allclose(found_logits, tiny_bundle.logits(values), atol=2e-6)


def test_a_network_of_one_batch_size_isn_t_batched_by_triton(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path / "three", batch=3)
    found = config(published(tmp_path / "three", "triton") / "three" / "config.pbtxt")
    assert (found.max_batch_size, found.HasField("dynamic_batching")) == (0, False)
    assert (list(found.input[0].dims), list(found.output[0].dims)) == ([3, 3, 16, 16], [3, 4])


def test_a_network_of_several_files_is_a_folder_for_triton_and_its_picture_graph_a_model(
    tmp_path: Path,
) -> None:
    from vertebra.exporting import picture

    tiny_bundle.make(tmp_path / "tiny", apart=True)
    kept = picture.embed(bundles.read(tmp_path / "tiny"))
    folder = published(kept.folder, "triton")
    for model in ("tiny", "tiny_picture"):
        inside = {"config.pbtxt", "labels.txt", "1/model.onnx/model.onnx", "1/model.onnx/model.onnx.data"}
        assert files(folder / model) == inside
    found = config(folder / "tiny_picture" / "config.pbtxt")
    assert (found.max_batch_size, found.input[0].name, list(found.input[0].dims)) == (0, "image", [-1, -1, 3])
    assert (found.input[0].data_type, found.input[0].format) == (2, 0)
    assert (found.output[0].name, list(found.output[0].dims)) == ("probabilities", [1, 4])
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    (expected,) = vertebra.predict(pixels, model=kept.folder, top=4)
    shares = run(folder / "tiny_picture/1/model.onnx/model.onnx", image=pixels)[0]
    assert [shares[one.index] for one in expected.top] == pytest.approx(
        [one.probability for one in expected.top], abs=1e-3
    )
    assert "`tiny_picture` does these steps itself" in (folder / "README.md").read_text()


def test_openvino_s_own_format_is_read_without_openvino(tmp_path: Path, bundle: Path) -> None:
    openvino = pytest.importorskip("openvino")
    made = vertebra.export(bundle, tmp_path / "own", engine="openvino")
    graph = openvino.Core().read_model(made.network)
    inputs, outputs = repositories.openvino_ends(made.network)
    for ends, ports in ((inputs, graph.inputs), (outputs, graph.outputs)):
        assert [one.name for one in ends] == [port.get_any_name() for port in ports]
        assert [one.shape for one in ends] == [
            tuple(None if part.is_dynamic else part.get_length() for part in port.partial_shape)
            for port in ports
        ]
    found = config(published(made.folder, "triton") / "own" / "config.pbtxt")
    assert (found.backend, found.max_batch_size, found.output[0].name) == ("openvino", 8, "logits")
    assert files(made.folder.parent / "out/triton/own/1") == {"model.xml", "model.bin"}
    damaged = tmp_path / "damaged.xml"
    damaged.write_text("<net><layers><layer id='0' type='Result'/></layers></net>")
    with pytest.raises(InvalidInputError, match="can't be read as a network"):
        repositories.openvino_ends(damaged)


# ------------------------------------------------------------------ OpenVINO Model Server


@pytest.mark.parametrize("apart", [False, True])
def test_openvino_model_server_s_configuration_leads_to_the_network(tmp_path: Path, apart: bool) -> None:
    openvino = pytest.importorskip("openvino")
    tiny_bundle.make(tmp_path / "tiny", apart=apart)
    folder = published(tmp_path / "tiny", "openvino")
    found = json.loads((folder / "config.json").read_text())
    jsonschema.validate(found, CONFIG)
    ((entry,),) = (found["model_config_list"],)
    assert entry == {"config": {"name": "tiny", "base_path": "tiny", "target_device": "CPU"}}
    (network,) = (folder / entry["config"]["base_path"] / "1").glob("*.onnx")
    values = images(2)
    logits = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(values)[0]
    np.testing.assert_allclose(logits, tiny_bundle.logits(values), atol=2e-6)


# ------------------------------------------------------------------ where vertebra serve runs


def test_an_image_is_a_few_lines_that_serve_the_bundle(bundle: Path) -> None:
    folder = published(bundle, "docker")
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["FROM", "RUN", "COPY", "USER", "EXPOSE", "CMD"]
    assert f'"vertebra[serve]=={vertebra.__version__}"' in lines[1]
    assert lines[2] == "COPY --chown=65534 bundle /bundle"
    command = json.loads(lines[5].removeprefix("CMD "))
    assert command[:3] == ["vertebra", "serve", "tiny=/bundle"]
    # the command's own parser takes what follows
    asked = [f"tiny={folder / 'bundle'}", *command[3:], "--port", "70000"]
    refused = CliRunner().invoke(cli, ["serve", *asked])
    assert (refused.exit_code, "70000 is not in the range" in refused.stderr) == (2, True)
    assert bundles.read(folder / "bundle").files == bundles.read(bundle).files


def test_kserve_s_manifest_runs_that_image(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path / "2 Tiny_roses")
    folder = published(tmp_path / "2 Tiny_roses", "kserve")
    found = yaml.safe_load((folder / "inference-service.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    service = found["metadata"]["name"]
    assert service == "model-2-tiny-roses"
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", service)
    (container,) = found["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["image"] == "registry.example/2-tiny-roses:1"
    assert container["ports"] == [{"containerPort": 8000, "protocol": "TCP"}]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness")}
    assert probes == {
        "liveness": {"path": "/v2/health/live", "port": 8000},
        "readiness": {"path": "/v2/health/ready", "port": 8000},
    }
    assert container["securityContext"]["runAsNonRoot"] is True
    assert '"2-Tiny_roses=/bundle"' in (folder / "Dockerfile").read_text()


# ------------------------------------------------------------------ the folder


@pytest.mark.parametrize("kind", repositories.KINDS)
def test_the_folder_says_what_a_client_must_do_and_has_the_full_record(bundle: Path, kind: str) -> None:
    folder = published(bundle, kind)
    text = (folder / "README.md").read_text()
    said = json.loads((folder / "vertebra-repository.json").read_text())
    record = replace(tiny_bundle.RECORD, apply_orientation=True)  # as `vertebra predict` does it
    assert Preprocess.from_dict(said["preprocess"]) == record
    assert (said["repository"], said["model"], said["outputs"]) == (kind, "tiny", "logits")
    assert set(said["files"]) == files(folder) - {"vertebra-repository.json"}
    assert ("doesn't preprocess" in text) == (kind in ("triton", "openvino"))
    assert ("clients send encoded pictures" in text) == (kind in ("kserve", "docker"))


def test_readme_s_python_preprocesses_as_the_bundle_does(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from vertebra.data.preprocess import preprocess

    folder = published(bundle, "triton")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(
        folder / "photo.jpg"
    )
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    expected = preprocess(folder / "photo.jpg", replace(tiny_bundle.RECORD, apply_orientation=True))
    assert np.array_equal(names["images"], expected[None])


def test_what_isn_t_known_of_a_network_is_said(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path / "tiny", weights=None, assumed=("labels",))
    text = (published(tmp_path / "tiny", "openvino") / "README.md").read_text()
    assert "untrained: its answers mean nothing" in text
    assert "Not stated by its maker, and assumed: labels." in text


def test_a_repository_is_replaced_and_nothing_else_is(bundle: Path, tmp_path: Path) -> None:
    folder = published(bundle, "triton")
    published(bundle, "triton")
    (folder / "other").mkdir()
    (folder / "other" / "config.pbtxt").write_text("mine")
    with pytest.raises(BundleError, match="holds other files"):
        vertebra.export(bundle, folder, repository="openvino")
    assert (folder / "other" / "config.pbtxt").read_text() == "mine"
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "a").write_text("mine")
    with pytest.raises(BundleError, match="not a repository that vertebra wrote"):
        vertebra.export(bundle, strange, repository="docker")
    assert files(strange) == {"a"}


def test_a_repository_doesn_t_lie_in_a_bundle_or_take_the_current_folder(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match="lies inside the Bundle"):
        vertebra.export(bundle, bundle / "triton", repository="triton")
    with pytest.raises(BundleError, match="is not a repository"):
        vertebra.export(bundle, bundle, repository="triton")
    monkeypatch.chdir(bundle.parent)
    with pytest.raises(BundleError, match="is the current folder"):
        vertebra.export(bundle, ".", repository="triton")
    assert os.listdir(bundle.parent) == ["tiny"]


def test_an_archive_is_named_without_its_ending(bundle: Path) -> None:
    archive = shutil.make_archive(str(bundle.parent / "roses"), "zip", bundle)
    folder = bundle.parent / "out"
    vertebra.export(archive, folder, repository="triton")
    assert config(folder / "roses" / "config.pbtxt").name == "roses"


def test_a_repository_that_can_t_be_finished_leaves_nothing(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "_write_manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vertebra.export(bundle, bundle.parent / "out", repository="triton")
    assert os.listdir(bundle.parent) == ["tiny"]


@pytest.mark.parametrize(
    ("model", "options", "kind", "message"),
    [
        ("tiny", {"repository": "triten"}, UnknownNameError, 'Unknown repository "triten"'),
        ("squeezenet1_1", {"repository": "triton"}, InvalidInputError, "needs a Bundle"),
        ("tiny", {"repository": "triton", "web": True}, InvalidInputError, "combined with --web"),
        ("tiny", {"repository": "triton", "precision": "int8"}, InvalidInputError, "with --precision"),
        ("bare", {"repository": "triton"}, InvalidInputError, "doesn't record a preprocessing"),
        ("odd", {"repository": "openvino"}, InvalidInputError, 'has the format "ncnn"'),
        ("native", {"repository": "docker"}, InvalidInputError, "holds native code"),
    ],
)
def test_what_can_t_be_a_repository_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    options: dict[str, Any],
    kind: Any,
    message: str,
) -> None:
    tiny_bundle.make(tmp_path / "tiny")
    tiny_bundle.make(tmp_path / "bare", preprocess=None)
    read = bundles.read
    formats = {"odd": "ncnn", "native": "aotinductor"}
    for name in formats:
        tiny_bundle.make(tmp_path / name)
    monkeypatch.setattr(
        bundles, "read",
        lambda folder, **more: replace(read(folder, **more), format=formats.get(Path(folder).name, "onnx")),
    )  # fmt: skip
    subject: Any = tmp_path / model if (tmp_path / model).exists() else model
    with pytest.raises(kind, match=message):
        vertebra.export(subject, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_command_writes_it_and_prints_where(bundle: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["export", str(bundle), "--repository", "docker", "-o", str(tmp_path / "image")]
    )
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'image'}\n")


def test_the_ends_of_a_graph_are_read_without_onnx(bundle: Path) -> None:
    inputs, outputs = onnx_files.ends(bundle / "model.onnx")
    assert inputs == [onnx_files.End("x", "float32", (None, 3, 16, 16))]
    assert outputs == [onnx_files.End("logits", "float32", (None, 4))]
