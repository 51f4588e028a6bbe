"""Files of other programs get the names of timm's and torchvision's networks by rule, never by order."""

from __future__ import annotations

import random

import numpy as np
import pytest

from vertebra.errors import WeightsError
from vertebra.zoo import renaming
from vertebra.zoo.graphs import store

#: a stem, a block that doesn't widen, two that do in the next stage, and a head
TIMM = {
    "conv_stem.weight", "bn1.weight", "bn1.running_var", "conv_head.weight", "bn2.bias", "classifier.weight",
    "blocks.0.0.conv_dw.weight", "blocks.0.0.bn1.bias", "blocks.0.0.conv_pw.weight", "blocks.0.0.bn2.weight",
    "blocks.0.0.se.conv_reduce.bias",
    *(f"blocks.1.{place}.{layer}.weight" for place in (0, 1) for layer in
      ("conv_pw", "bn1", "conv_dw", "bn2", "se.conv_expand", "conv_pwl", "bn3")),
}  # fmt: skip
THEIRS = {
    "_conv_stem.weight": "conv_stem.weight",
    "_bn0.weight": "bn1.weight",
    "_bn0.running_var": "bn1.running_var",
    "_conv_head.weight": "conv_head.weight",
    "_bn1.bias": "bn2.bias",
    "_fc.weight": "classifier.weight",
    "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
    "_blocks.0._bn1.bias": "blocks.0.0.bn1.bias",
    "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
    "_blocks.0._bn2.weight": "blocks.0.0.bn2.weight",
    "_blocks.0._se_reduce.bias": "blocks.0.0.se.conv_reduce.bias",
    **{
        f"_blocks.{place + 1}.{theirs}.weight": f"blocks.1.{place}.{ours}.weight"
        for place in (0, 1)
        for theirs, ours in {
            "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
            "_se_expand": "se.conv_expand", "_project_conv": "conv_pwl", "_bn2": "bn3",
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
def test_efficientnet_pytorchs_names_are_translated_in_any_order(prefix):
    arrays = {f"{prefix}{name}": np.full(1, number) for number, name in enumerate(THEIRS)}
    mixed = list(arrays.items())
    random.Random(0).shuffle(mixed)
    found = renaming.renamed("timm:tf_efficientnet_b0", dict(mixed), TIMM)
    assert found.arrays == {f"{prefix}{ours}": arrays[f"{prefix}{name}"] for name, ours in THEIRS.items()}
    assert "efficientnet_pytorch" in str(found.note)


@pytest.mark.parametrize(
    ("model", "arrays"),
    [
        ("timm:tf_efficientnet_b0", {name: 0 for name in THEIRS if "_blocks.2." not in name}),
        ("timm:tf_efficientnet_b0", {name: 0 for name in TIMM}),
        ("torchvision:efficientnet_b0", {name: 0 for name in THEIRS}),
        ("torchvision:squeezenet1_1", {"conv1.0": 0, "fire2/squeeze1x1.0": 0}),
    ],
    ids=["fewer blocks", "own names", "another library", "half a network"],
)
def test_what_no_rule_knows_stays_as_it_is(model, arrays):
    assert renaming.renamed(model, arrays, TIMM) == (arrays, None)


@pytest.mark.parametrize("model", ["timm:efficientnet_b0.ra_in1k", "timm:efficientnet_lite0"])
def test_a_network_that_only_looks_the_same_is_refused(model):
    with pytest.raises(WeightsError, match="pads as TensorFlow does") as caught:
        renaming.renamed(model, dict.fromkeys(THEIRS, 0), TIMM)
    assert caught.value.hint == f"use timm:tf_{model[5:].partition('.')[0]}"


def test_a_file_that_lacks_a_layer_is_not_taken_for_a_lookalike():
    """A Lite network has no squeezing layers: the names that are missing are what is wrong with it."""
    arrays = {name: 0 for name in THEIRS if "_se_" not in name}
    found = renaming.renamed("timm:efficientnet_b0", arrays, TIMM)
    assert {*TIMM} - {*found.arrays} == {name for name in TIMM if ".se." in name}


@pytest.mark.parametrize("name", ["timm:tf_efficientnet_b0", "timm:tf_efficientnet_lite0"])
def test_every_name_of_a_whole_network_is_reached(name):
    """There and back: timm's names, numbered from the first block to the last, as the package writes them."""
    if name not in store.names():
        pytest.skip(f"the graph of {name} isn't packed yet")
    wanted = [one.key for one in store.find(name).parameters()]
    back = {ours: theirs for theirs, ours in renaming._ENDS.items()}
    blocks = renaming._places(r"blocks\.(\d+)\.(\d+)\.", wanted)
    theirs = {}
    for key in wanted:
        if key.startswith("blocks."):
            _, stage, place, layer = key.split(".", 3)
            widens = f"blocks.{stage}.{place}.conv_pwl.weight" in wanted
            own = {ours: one for one, ours in (renaming._WIDENING if widens else renaming._NARROW).items()}
            layer, _, part = layer.rpartition(".")
            theirs[f"_blocks.{blocks.index((int(stage), int(place)))}.{own[layer]}.{part}"] = key
        else:
            layer, _, part = key.rpartition(".")
            theirs[f"{back[layer]}.{part}"] = key
    found = renaming.renamed(name, {one: one for one in theirs}, wanted)
    assert found.arrays == {key: one for one, key in theirs.items()}


def test_caffes_squeezenet_has_torchvisions_names_and_layout():
    generator = np.random.default_rng(0)
    widths = {"squeeze1x1": (1, 1, 5, 4), "expand1x1": (1, 1, 4, 6), "expand3x3": (3, 3, 4, 6)}
    shapes = {"conv1.0": (3, 3, 3, 7), "conv1.1": (7,), "conv10.0": (1, 1, 5, 9), "conv10.1": (9,)}
    for fire in range(2, 10):
        for layer, shape in widths.items():
            shapes |= {f"fire{fire}/{layer}.0": shape, f"fire{fire}/{layer}.1": shape[-1:]}
    arrays = {name: generator.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    places = (3, 4, 6, 7, 9, 10, 11, 12)
    wanted = {"features.0.weight", "features.0.bias", "classifier.1.weight", "classifier.1.bias"} | {
        f"features.{place}.{layer}.{kind}"
        for place in places
        for layer in ("squeeze", "expand1x1", "expand3x3")
        for kind in ("weight", "bias")
    }
    found = renaming.renamed("torchvision:squeezenet1_1", arrays, wanted)
    assert found.arrays.keys() == wanted
    third = arrays["fire4/expand3x3.0"].transpose(3, 2, 0, 1)
    assert (found.arrays["features.6.expand3x3.weight"] == third).all()
    kernel, bias = renaming.fold(arrays["conv1.0"].transpose(3, 2, 0, 1), arrays["conv1.1"])
    assert (found.arrays["features.0.weight"] == kernel).all()
    assert (found.arrays["features.0.bias"] == bias).all()


def test_the_older_names_of_densenet_lose_their_dot():
    arrays = {"features.denseblock1.denselayer2.norm.1.weight": 1, "features.conv0.weight": 2}
    found = renaming.renamed("torchvision:densenet121", arrays, ())
    assert found.arrays == {"features.denseblock1.denselayer2.norm1.weight": 1, "features.conv0.weight": 2}
