"""Channels taken out: fewer multiply-adds, a record that builds the network again, a Bundle that tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")

import vertebra  # noqa: E402
from vertebra import bundles, zoo  # noqa: E402
from vertebra.errors import InvalidInputError, MissingRuntimeError, WeightsError  # noqa: E402
from vertebra.training import fusing, pruning  # noqa: E402
from vertebra.zoo import checkpoints, narrowing  # noqa: E402
from vertebra.zoo.compressed import KEY, Compressed  # noqa: E402

SIZE = 64


def built(name: str) -> zoo.backbone.Backbone:
    return zoo.build(name, num_classes=5, seed=0)


def images() -> torch.Tensor:
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def saved(pruned: pruning.Pruned, path: Path) -> Path:
    record = Compressed(widths=pruned.widths).to_json()
    torch.save({"state_dict": pruned.network.state_dict(), KEY: record}, path)
    return path


@pytest.fixture(scope="module")
def halved() -> dict[str, pruning.Pruned]:
    names = ("squeezenet1_1", "resnet18_acnet")
    return {name: pruning.prune(built(name).train(), 0.5, input_size=SIZE) for name in names}


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18_acnet"])
def test_a_pruned_network_has_few_enough_multiply_adds_and_is_built_again_from_its_file(
    name, halved, tmp_path
):
    network, pruned = built(name), halved[name]
    assert 0.3 * pruned.macs_before < pruned.macs <= 0.5 * pruned.macs_before
    assert pruned.params < pruned.params_before
    assert pruned.network.training
    assert pruned.network.num_classes == 5
    path = saved(pruned, tmp_path / "pruned.pth")
    again = zoo.build(name, weights=path).eval()
    with torch.inference_mode():
        assert torch.equal(again(images()), pruned.network.eval()(images()))
        stages = again.forward_stages(images())
    assert [one.channels for one in again.feature_info] == [one.shape[1] for one in stages]
    assert [one.channels for one in again.feature_info] != [one.channels for one in network.feature_info]


def test_the_three_branches_of_a_pruned_acnet_fuse_and_load_as_the_fused_model(halved, tmp_path):
    pruned = halved["resnet18_acnet"]
    fused = fusing.fuse(pruned.network)
    assert fusing.prove(pruned.network, fused, [images()]).pictures == 3
    deployed = zoo.build("resnet18_acnet_deploy", weights=saved(pruned, tmp_path / "pruned.pth")).eval()
    with torch.inference_mode():
        torch.testing.assert_close(deployed(images()), fused(images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"stem.0.weight": (999, 3, 3, 3)}, "pruned to"),
        ({"stem.0.nothing": (3,)}, "pruned to"),
        ({"stem.0.weight": (8, 3)}, "pruned to"),
        ({}, "has the shape"),
    ],
)
def test_widths_that_are_not_the_networks_are_refused(widths, message, tmp_path):
    state = built("squeezenet1_1").state_dict() | {"stem.0.weight": torch.zeros(8, 3, 3, 3)}
    torch.save({"state_dict": state, KEY: Compressed(widths=widths).to_json()}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=message):
        zoo.build("squeezenet1_1", weights=tmp_path / "odd.pth")


@pytest.mark.parametrize("record", ['{"version": 2}', "[]", '{"version": 1, "widths": {"a": [0]}}', "{"])
def test_a_record_that_cannot_be_read_is_refused(record, tmp_path):
    torch.save({"state_dict": built("squeezenet1_1").state_dict(), KEY: record}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match="record of a compressed network"):
        zoo.build("squeezenet1_1", weights=tmp_path / "odd.pth")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_shares_that_cannot_be_are_refused(share):
    with pytest.raises(InvalidInputError, match="share of multiply-adds"):
        pruning.prune(built("squeezenet1_1"), share, input_size=SIZE)


def test_what_cannot_be_reached_or_loaded_again_is_refused(monkeypatch):
    with pytest.raises(InvalidInputError, match="can't lose 99%"):
        pruning.prune(built("squeezenet1_1"), 0.99, input_size=SIZE)
    with pytest.raises(InvalidInputError, match="another library"):
        pruning.prune(torch.nn.Linear(3, 3), 0.5, input_size=SIZE)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingRuntimeError, match="torch_pruning"):
        pruning.prune(built("squeezenet1_1"), 0.5, input_size=SIZE)


def test_a_bundle_of_a_pruned_network_has_its_own_counts(halved, tmp_path):
    pytest.importorskip("onnxscript")
    from vertebra.campaigns.cases import _operations_of

    pruned = halved["squeezenet1_1"]
    record = zoo.facts("squeezenet1_1").preprocess
    (tmp_path / "record.json").write_text(
        json.dumps(json.loads(record.to_json()) | {"input_size": [SIZE, SIZE], "resize": SIZE})
    )
    path = saved(pruned, tmp_path / "pruned.pth")
    vertebra.export("squeezenet1_1", tmp_path / "net", weights=path, preprocess=tmp_path / "record.json")
    kept = bundles.read(tmp_path / "net")
    assert kept.pruned == {"params": pruned.params, "macs": pruned.macs}
    assert _operations_of(kept) == 2 * pruned.macs
    assert kept.network_sha256 is not None


def test_narrowing_keeps_layers_that_compute_each_channel_on_its_own():
    layer = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.Conv2d(8, 6, 1))
    narrowing.narrow(layer, {"0.weight": (3, 1, 3, 3), "0.bias": (3,), "1.weight": (6, 3, 1, 1)})
    assert layer[0].groups == layer[0].in_channels == layer[0].out_channels == 3
    assert layer(torch.zeros(1, 3, 5, 5)).shape == (1, 6, 3, 3)
    with pytest.raises(WeightsError, match="LayerNorm"):
        narrowing.narrow(torch.nn.LayerNorm(4), {"weight": (3,)})


def test_files_hold_the_record_in_either_format(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    record = Compressed(widths={"stem.0.weight": (8, 3, 3, 3)})
    state = {"stem.0.weight": torch.zeros(8, 3, 3, 3)}
    safetensors.save_file(state, tmp_path / "one.safetensors", metadata={KEY: record.to_json()})
    safetensors.save_file(state, tmp_path / "none.safetensors")
    torch.save({"state_dict": state, KEY: record.to_json()}, tmp_path / "two.pth")
    torch.save(state, tmp_path / "none.pth")
    assert (
        checkpoints.compressed(tmp_path / "one.safetensors")
        == record
        == checkpoints.compressed(tmp_path / "two.pth")
    )
    assert not checkpoints.compressed(tmp_path / "none.safetensors")
    assert not checkpoints.compressed(tmp_path / "none.pth")
    assert checkpoints.take(tmp_path / "two.pth").beside == ()
