"""What training programs write: each file gives the network that was trained, or is refused with a reason."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from vertebra import zoo
from vertebra.errors import InvalidInputError, UnknownNameError, WeightsError
from vertebra.inference import resolving
from vertebra.inference.resolving import Resolved
from vertebra.zoo.checkpoints import prefixes

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

SMALL = "timm:test_resnet"  # the smallest network of timm, for its own tests
State = dict[str, Any]


def trained(name: str = SMALL, **options: Any) -> State:
    return dict(zoo.build(name, **({"num_classes": 5, "seed": 1} | options)).state_dict())


def under(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def resolved(name: str, weights: Path, **options: Any) -> tuple[Resolved, str]:
    """What is loaded, and the lines that are said."""
    lines: list[str] = []
    found = resolving.resolve(name, weights=weights, progress=lambda e: lines.append(e.text), **options)
    return found, "\n".join(lines)


def loaded(name: str, weights: Path, **options: Any) -> tuple[State, str]:
    """The state dict that other processes build, and the lines that are said."""
    found, lines = resolved(name, weights, **options)
    assert found.subject.arguments is not None
    return dict(zoo.build(**found.subject.arguments).state_dict()), lines


def equal(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# ------------------------------------------------------------------ wrappings

WRAPPINGS: dict[str, tuple[Callable[[State], object], str]] = {
    "alone": (lambda state: state, ""),
    "data-parallel": (lambda state: under("module.", state), "without the prefix module."),
    "compiled around data-parallel": (
        lambda state: under("_orig_mod.module.", state), "without the prefix _orig_mod.module."
    ),
    "averaged by torch": (
        lambda state: {"n_averaged": torch.tensor(5), **under("module.", state)}, "passed over: n_averaged"
    ),
    "timm's program": (
        lambda state: {"epoch": 3, "state_dict": state, "args": argparse.Namespace(lr=0.1)},
        "took state_dict; passed over: epoch, args",
    ),
    "Lightning": (
        lambda state: {"state_dict": under("model.", state), "callbacks": {}},
        "took state_dict, without the prefix model.; passed over: callbacks",
    ),
    "Lightning with a loss": (
        lambda state: {"state_dict": {**under("net.", state), "criterion.weight": torch.ones(5)}},
        "without the prefix net.; passed over: criterion.weight",
    ),
    "a prefix of several parts": (
        lambda state: under("learner.backbone.", state), "without the prefix learner.backbone."
    ),
    "an attribute of a wrapper": (
        lambda state: {"model_state_dict": under("encoder.module.", state), "loss": 0.1},
        "took model_state_dict, without the prefix encoder.module.; passed over: loss",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRAPPINGS)
@pytest.mark.parametrize("name", [SMALL, "squeezenet1_1"])
def test_the_network_in_a_training_checkpoint_is_found_and_what_was_taken_is_said(tmp_path, name, case):
    wrap, said = WRAPPINGS[case]
    state = trained(name)
    torch.save(wrap(state), tmp_path / "last.pth")
    found, lines = loaded(name, tmp_path / "last.pth")
    assert equal(found, state)
    assert said in lines
    assert bool(lines) == bool(said)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"head.weight": torch.ones(3, 5)}, r"more than the network under model\.: head\.weight"),
        (under("teacher.", trained()), r"2 times, under model\., teacher\."),
    ],
)
def test_a_file_with_more_than_the_network_is_refused(tmp_path, more, reason):
    torch.save({**under("model.", trained()), **more}, tmp_path / "last.pth")
    with pytest.raises(WeightsError, match=reason):
        zoo.build(SMALL, weights=tmp_path / "last.pth")


def test_a_prefix_is_only_taken_off_at_a_dot():
    assert prefixes.without({"submodule.w": 1}, {"module.w"}).prefix == ""
    assert prefixes.without({"a.w": 1, "a.b": 2}, {"w", "b"}) == ({"w": 1, "b": 2}, "a.", (), False)


# ------------------------------------------------------------------ averaged weights


@pytest.mark.parametrize("form", ["beside", "prefixes"])
@pytest.mark.parametrize(("ema", "takes_average"), [(None, True), (True, True), (False, False)])
def test_averaged_weights_are_taken_unless_the_raw_ones_are_asked_for(tmp_path, form, ema, takes_average):
    raw, averaged = trained(seed=1), trained(seed=2)
    content = {
        "beside": {"state_dict": raw, "state_dict_ema": under("module.", averaged)},
        "prefixes": {"state_dict": {**under("model.", raw), **under("ema_model.module.", averaged)}},
    }[form]
    torch.save(content, tmp_path / "last.pth")
    found, lines = loaded(SMALL, tmp_path / "last.pth", ema=ema)
    assert equal(found, averaged if takes_average else raw)
    assert ("averaged weights (raw ones: --no-ema)" in lines) == takes_average
    names = {"beside": ("state_dict_ema", "state_dict"), "prefixes": ("ema_model.module", "model")}[form]
    card = resolved(SMALL, tmp_path / "last.pth", ema=ema)[0].card
    assert card.weights == f"last.pth ({names[not takes_average]})"


@pytest.mark.parametrize("ema", [True, False])
def test_a_choice_that_the_file_does_not_offer_is_refused(tmp_path, ema):
    prefix = "model." if ema else "ema."
    torch.save({"state_dict": under(prefix, trained())}, tmp_path / "last.pth")
    with pytest.raises(WeightsError, match=r"holds no (averaged|raw) weights"):
        zoo.build(SMALL, weights=tmp_path / "last.pth", ema=ema)


@pytest.mark.parametrize("ema", [True, False])
def test_a_choice_without_weights_is_refused(ema):
    with pytest.raises(InvalidInputError, match="no weights to choose from"):
        zoo.build(SMALL, ema=ema)


# ------------------------------------------------------------------ older names, other heads


def test_densenets_older_names_are_those_of_torchvisions_published_files(tmp_path):
    name = "torchvision:densenet121"
    state = trained(name)
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): state[key] for key in state}
    assert older.keys() != state.keys()
    torch.save({key: one for key, one in older.items() if "num_batches" not in key}, tmp_path / "old.pth")
    assert equal(zoo.build(name, weights=tmp_path / "old.pth").state_dict(), state)


def test_networks_that_know_versions_of_their_layers_are_loaded(tmp_path):
    state = trained("torchvision:mnasnet0_5")
    torch.save(dict(state), tmp_path / "mine.pth")
    assert equal(zoo.build("torchvision:mnasnet0_5", weights=tmp_path / "mine.pth").state_dict(), state)


HEADS = {
    "dropout before it": ("torchvision:resnet18", {"fc.": "fc.1."}, "took fc.1 as the network's fc"),
    "in timm's network": (SMALL, {"fc.": "fc.0."}, "took fc.0 as the network's fc"),
    "in place of a group": (
        "torchvision:mobilenet_v2", {"classifier.1.": "classifier."}, "took classifier as the network's"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADS)
def test_a_head_of_one_layer_under_another_name_is_the_networks_own(tmp_path, case):
    name, (pair,), said = HEADS[case][0], HEADS[case][1].items(), HEADS[case][2]
    state = trained(name)
    moved = {key.replace(*pair) if key.startswith(pair[0]) else key: value for key, value in state.items()}
    assert moved.keys() != state.keys()
    torch.save({"state_dict": under("module.", moved)}, tmp_path / "mine.pth")
    found, lines = loaded(name, tmp_path / "mine.pth")
    assert equal(found, state)
    assert said in lines


def test_a_head_of_several_layers_is_refused_by_its_names(tmp_path):
    state = trained("torchvision:resnet18")
    del state["fc.weight"], state["fc.bias"]
    state |= {"fc.0.weight": torch.ones(8, 512), "fc.0.bias": torch.ones(8)}
    state |= {"fc.2.weight": torch.ones(5, 8), "fc.2.bias": torch.ones(5)}
    torch.save(state, tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="unexpected") as caught:
        zoo.build("torchvision:resnet18", weights=tmp_path / "mine.pth")
    assert "its head (fc.0.bias, fc.0.weight, fc.2.bias, fc.2.weight)" in str(caught.value.hint)


# ------------------------------------------------------------------ what the file doesn't state

AUXILIARY = {"torchvision:googlenet": "aux", "torchvision:inception_v3": "AuxLogits."}


@pytest.mark.parametrize(
    ("name", "with_aux"),
    [
        ("torchvision:googlenet", False),
        pytest.param("torchvision:googlenet", True, marks=pytest.mark.slow),
        pytest.param("torchvision:inception_v3", False, marks=pytest.mark.slow),
        pytest.param("torchvision:inception_v3", True, marks=pytest.mark.slow),
    ],
)
def test_networks_without_their_second_classifiers_load_and_the_assumption_is_said(tmp_path, name, with_aux):
    state = trained(name, seed=None)
    if not with_aux:
        state = {key: one for key, one in state.items() if not key.startswith(AUXILIARY[name])}
    torch.save(under("model.", state), tmp_path / "mine.pth")
    found, lines = resolved(name, tmp_path / "mine.pth")
    assert "--no-transform-input" in lines
    assert equal(zoo.build(**(found.subject.arguments or {})).state_dict(), state)
    for asked in (True, False):
        found, lines = resolved(name, tmp_path / "mine.pth", transform_input=asked)
        assert "transform_input" not in lines
        network: Any = zoo.build(**(found.subject.arguments or {}))
        assert network.transform_input is asked
        assert ("(transform_input off)" in str(found.card.weights)) is not asked


@pytest.mark.parametrize("name", [SMALL, "alexnet", "torchvision:resnet18", "timm:inception_v3"])
def test_other_networks_have_no_transform_input(name):
    with pytest.raises(InvalidInputError, match="has no transform_input"):
        zoo.build(name, transform_input=True)


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("name", "make", "size"),
    [
        ("timm:test_vit", {"img_size": 96}, 96),
        ("timm:test_vit", {"img_size": 320}, 320),
        pytest.param("timm:vit_tiny_patch16_224", {"img_size": 384}, 384, marks=pytest.mark.slow),
        pytest.param("timm:beit_base_patch16_224", {"img_size": 64}, 64, marks=pytest.mark.slow),
    ],
)
def test_a_network_fine_tuned_at_another_size_is_built_for_that_size(tmp_path, name, make, size):
    network = timm.create_model(name.partition(":")[2], num_classes=3, **make).eval()
    torch.save({"state_dict": under("module.", network.state_dict())}, tmp_path / "mine.pth")
    found, lines = resolved(name, tmp_path / "mine.pth")
    assert f"built for {size}x{size} pictures" in lines
    assert (found.input_size, found.card.preprocess.input_size) == (size, (size, size))
    built = zoo.build(**(found.subject.arguments or {})).eval()
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(built(images), network(images))
    with pytest.raises(InvalidInputError, match=f"takes {size}x{size}"):
        resolved(name, tmp_path / "mine.pth", preprocess=zoo.facts("timm:resnet18").preprocess)


def test_torchvisions_transformer_is_built_for_its_files_size_and_renames_older_names(tmp_path, monkeypatch):
    from torchvision.models import vision_transformer

    whole, small = vision_transformer._vision_transformer, {"num_layers": 1, "hidden_dim": 48, "mlp_dim": 96}
    monkeypatch.setattr(vision_transformer, "_vision_transformer", lambda **more: whole(**more | small))
    state = torchvision.models.vit_b_32(num_classes=3, image_size=96).state_dict()
    names = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."}
    older = {re.sub(r"\.mlp\.[03]\.", lambda part: names[part[0]], key): state[key] for key in state}
    assert older.keys() != state.keys()
    torch.save(older, tmp_path / "old.pth")
    facts = zoo.facts("torchvision:vit_b_32", tmp_path / "old.pth")
    assert (facts.input_size, facts.preprocess.input_size, facts.preprocess.resize) == (96, (96, 96), 110)
    assert equal(zoo.build("torchvision:vit_b_32", weights=tmp_path / "old.pth").state_dict(), state)


def test_nothing_is_resampled_where_the_size_can_not_be_had(tmp_path):
    network = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3, img_size=448, window_size=14)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=r"relative_position_bias_table has the shape \(729, 3\)"):
        zoo.build("timm:swin_tiny_patch4_window7_224", weights=tmp_path / "mine.pth")


# ------------------------------------------------------------------ folders of the hub


def hub_folder(folder: Path, **said: Any) -> Path:
    folder.mkdir()
    torch.save(trained(), folder / "pytorch_model.bin")
    config = {"input_size": [3, 96, 96], "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0}
    content = {"architecture": "test_resnet", "num_classes": 5, "pretrained_cfg": config, **said}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_a_folder_of_the_hub_gives_weights_labels_and_preprocessing(tmp_path):
    folder = hub_folder(tmp_path / "mine", label_names=["a", "b", "c", "d", "e"])
    found, lines = resolved(SMALL, folder)
    assert "labels are those of its config.json" in lines
    assert equal(zoo.build(**(found.subject.arguments or {})).state_dict(), trained())
    record, labels = found.card.preprocess, found.card.labels
    assert (record.input_size, record.mean, record.std) == ((96, 96), (0.5,) * 3, (0.25,) * 3)
    assert labels is not None
    assert labels.names == ("a", "b", "c", "d", "e")
    assert found.card.weights == "mine"
    assert len(found.card.weights_sha256 or "") == 64


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"architecture": "resnet50"}, "is of resnet50, not of timm:test_resnet"),
        ({"pretrained_cfg": {"mean": ["x", 1, 2]}}, "states mean as"),
        ({"pretrained_cfg": {"input_size": [3, 96, 64]}}, "states input_size as"),
        ({"pretrained_cfg": {"crop_pct": 3.0}}, "doesn't fit"),
    ],
)
def test_a_folder_of_the_hub_that_says_something_else_is_refused(tmp_path, said, reason):
    with pytest.raises(WeightsError, match=reason):
        resolved(SMALL, hub_folder(tmp_path / "mine", **said))


# ------------------------------------------------------------------ names

SPELLINGS = {
    "timm/resnet18.a1_in1k": "timm:resnet18.a1_in1k",
    "hf-hub:timm/resnet18.a1_in1k": "timm:resnet18.a1_in1k",
    "hf_hub:timm/resnet18.a1_in1k": "timm:resnet18.a1_in1k",
    "timm:timm/resnet18.a1_in1k": "timm:resnet18.a1_in1k",
    "https://huggingface.co/timm/resnet18.a1_in1k": "timm:resnet18.a1_in1k",
    "torchvision:ResNet18_Weights.IMAGENET1K_V1": "torchvision:resnet18.IMAGENET1K_V1",
    "ResNet50_Weights.DEFAULT": "torchvision:resnet50.IMAGENET1K_V2",
    "torchvision:resnet50.default": "torchvision:resnet50.IMAGENET1K_V2",
    "torchvision:ViT_B_16_Weights": "torchvision:vit_b_16",
    "torchvision.models.resnet18": "torchvision:resnet18",
}


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_the_spellings_of_the_libraries_are_understood(spelled):
    assert zoo.find(spelled).name == SPELLINGS[spelled]
    assert not resolving.is_bundle(spelled)


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("hf-hub:someone/model", "timm:NAME --weights hf:OWNER/REPOSITORY/model.safetensors"),
        ("mobilenetv3_small_050", '"timm:mobilenetv3_small_050"?'),
        ("mobilenet", '"torchvision:mobilenet_v2"'),
    ],
)
def test_an_unknown_name_is_told_what_is_like_it(name, offered):
    with pytest.raises(UnknownNameError) as caught:
        zoo.find(name)
    assert offered in str(caught.value.hint)


@pytest.mark.parametrize("given", ["best.pth", "runs/best.pth.tar.pt", Path("last.ckpt"), "x.safetensors"])
def test_a_file_of_weights_in_place_of_a_network_is_told_where_it_belongs(given):
    with pytest.raises(InvalidInputError, match="is a file of weights") as caught:
        resolving.is_bundle(given)
    assert f"--weights {given}" in str(caught.value.hint)
