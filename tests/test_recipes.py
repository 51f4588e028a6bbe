"""Recipes: the published ones against their configurations, files of your own, changes, and refusals."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from vertebra import zoo
from vertebra.data.preprocess import Preprocess, protocols
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.training import rates
from vertebra.training.classics import NAMES
from vertebra.training.recipe import WORDS, Recipe
from vertebra.training.recipes import at_most, find, override

# ------------------------------------------------------------------ published

#: What the configurations state (PaddleClas d178931fc, ppcls/configs/ImageNet; the ACNet's: release/static):
#: epochs, pictures for each of 4 GPUs, schedule, rate, L2, smoothing, mixup's alpha, input size, resized to
CONFIGURATIONS = {
    "alexnet": (120, 64, "Piecewise", [0.01, 0.001, 0.0001, 0.00001], 1e-4, None, None, 224, 256),
    "squeezenet1_0": (120, 128, "Cosine", 0.02, 1e-4, None, None, 224, 256),
    "squeezenet1_1": (120, 128, "Cosine", 0.02, 1e-4, None, None, 224, 256),
    "vgg11": (90, 128, "Cosine", 0.1, 2e-4, None, None, 224, 256),
    "vgg13": (90, 64, "Cosine", 0.01, 3e-4, None, None, 224, 256),
    "vgg16": (90, 64, "Cosine", 0.01, 4e-4, None, None, 224, 256),
    "vgg19": (150, 64, "Cosine", 0.01, 4e-4, None, None, 224, 256),
    "darknet53": (200, 64, "Cosine", 0.1, 1e-4, 0.1, 0.2, 256, 256),
    "senet154_vd": (200, 64, "Cosine", 0.1, 7e-5, 0.1, 0.2, 224, 256),
    "resnet50_acnet": (120, 64, "Piecewise", [0.1, 0.01, 0.001, 0.0001], 1e-4, None, None, 224, 256),
    "resnet50_acnet_deploy": (120, 64, "Piecewise", [0.1, 0.01, 0.001, 0.0001], 1e-4, None, None, 224, 256),
}
#: Training pictures of ILSVRC 2012, and the epochs at which the piecewise rates change.
PICTURES, MILESTONES = 1_281_167, (30, 60, 90)


def configured_rates(name: str, steps: range) -> list[float]:
    """The rates as Paddle's schedulers work them out: piecewise by the boundaries in steps, the cosine's by
    its closed form over all steps."""
    epochs, each, schedule, rate, *_ = CONFIGURATIONS[name]
    per_epoch = PICTURES // (4 * each)
    if schedule == "Piecewise":
        boundaries = [epoch * per_epoch for epoch in MILESTONES]
        return [rate[sum(step >= boundary for boundary in boundaries)] for step in steps]
    return [rate * (math.cos(step * math.pi / (epochs * per_epoch)) + 1) / 2 for step in steps]


def test_the_eleven_classics_have_a_published_recipe():
    assert set(NAMES) == set(CONFIGURATIONS) == set(zoo.CLASSICS)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_published_recipe_is_its_configuration(name: str):
    epochs, each, _, _, decay, smoothing, alpha, size, resized = CONFIGURATIONS[name]
    recipe = find("published", name)
    per_epoch = recipe.steps(PICTURES)
    assert per_epoch == PICTURES // (4 * each)
    assert (recipe.epochs, recipe.batch) == (epochs, 4 * each)
    first = range(100)
    around = [epoch * per_epoch + by for epoch in MILESTONES for by in (-1, 0)]
    for steps in (first, around, [epochs * per_epoch - 1]):
        expected = configured_rates(name, steps)
        assert [rates.rate(recipe, step, per_epoch) for step in steps] == pytest.approx(expected, rel=1e-12)
    assert (recipe.optimizer, recipe.momentum) == ("sgd", 0.9)
    assert (recipe.weight_decay, recipe.decay_1d, recipe.layer_decay) == (decay, True, 1)
    assert (recipe.label_smoothing, recipe.mixup, recipe.cutmix) == (smoothing or 0, alpha or 0, 0)
    assert (recipe.crop, recipe.crop_scale, recipe.crop_ratio) == ("paddleclas", (0.08, 1), (3 / 4, 4 / 3))
    assert (recipe.interpolation, recipe.flip, recipe.augment) == ("opencv-bilinear", 0.5, "none")
    assert (recipe.erasing, recipe.ema, recipe.amp, recipe.warmup_epochs, recipe.clip) == (0, 0, "none", 0, 0)
    assert recipe.evaluation == protocols.paddleclas(resized, size)
    assert recipe.source.startswith("PaddleClas")
    assert recipe.notes
    assert not recipe.changes
    assert not recipe.pretrained


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_published_recipe_decays_every_parameter_alike(name: str):
    with torch.device("meta"):
        network = zoo.build(name)
    [group] = rates.groups(network, find("published", name))
    assert {id(one) for one in group["params"]} == {id(one) for one in network.parameters()}
    assert (group["weight_decay"], group["lr_scale"]) == (CONFIGURATIONS[name][4], 1)


def test_what_was_decided_between_sources_is_said():
    assert "512 pictures a step" in " ".join(find("published", "squeezenet1_1").notes)
    assert "292/256 since 2021-11-15" in " ".join(find("published", "DarkNet53").notes)
    assert "1e-4" in " ".join(find("published", "senet154_vd").notes)
    assert "then fused" in " ".join(find("published", "resnet50_acnet_deploy").notes)


def test_the_spelling_of_a_network_does_not_matter():
    assert find("published", "SqueezeNet1_1") == find("published", "squeezenet1_1")


def test_a_network_without_a_published_recipe_is_refused():
    with pytest.raises(InvalidInputError, match=r"bn_alexnet has no published recipe here.*vgg19") as caught:
        find("published", "bn_alexnet")
    assert "modern" in str(caught.value.hint)


# ------------------------------------------------------------------ the others


@pytest.mark.parametrize(
    ("model", "optimizer", "rate"),
    [
        ("squeezenet1_1", "nesterov", 0.04), ("torchvision:vgg16", "nesterov", 0.04),
        ("torchvision:vgg16_bn", "nesterov", 0.5), ("resnet50_acnet", "nesterov", 0.5),
        ("darknet53", "nesterov", 0.5), ("timm:vit_tiny_patch16_224", "adamw", 1e-3),
        ("timm:convnext_tiny", "adamw", 1e-3),
    ],
)  # fmt: skip
def test_modern_fits_the_network(model: str, optimizer: str, rate: float):
    recipe = find("modern", model)
    assert (recipe.optimizer, recipe.peak, recipe.batch) == (optimizer, rate, 1024)
    assert (recipe.augment, recipe.schedule, recipe.decay_1d) == ("trivialaugment", "cosine", False)
    assert recipe.erasing
    assert recipe.ema
    assert recipe.mixup
    assert recipe.input_size == zoo.find(model).input_size
    assert "no accuracy is published for it" in recipe.notes


def test_finetune_and_head_start_from_weights_and_keep_their_preprocess():
    record = Preprocess(input_size=(288, 288), resize=(288, 288), interpolation="bicubic", mean=(0, 0, 0))
    for name in ("finetune", "head"):
        recipe = find(name, "resnet50_acnet", weights=record)
        assert recipe.evaluation == record
        assert recipe.input_size == 288
        assert recipe.interpolation == "bicubic"
        assert recipe.pretrained
        assert recipe.early_stop
    assert find("finetune", "darknet53").evaluation == protocols.paddleclas(256, 256)
    assert find("finetune", "darknet53").freeze_epochs == 1
    assert find("head", "darknet53").trained == "head"


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UnknownNameError, match='Unknown recipe "finetun"') as caught:
        find("finetun", "alexnet")
    assert 'did you mean "finetune"' in str(caught.value.hint)


# ------------------------------------------------------------------ a file of your own


def written(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_gives_a_recipe_by_a_function_or_as_it_is(tmp_path: Path):
    function = written(
        tmp_path,
        "from vertebra.training.recipes import find, override\n"
        "def recipe(model):\n    return override(find('modern', model), {'epochs': 9})\n",
    )
    found = find(function, "alexnet")
    assert (found.epochs, found.changes) == (9, ("epochs: 9 in place of 300",))
    constant = written(
        tmp_path, "from vertebra.training import recipes\nRECIPE = recipes.find('published', 'vgg11')\n"
    )
    assert find(constant, "alexnet") == find("published", "vgg11")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x = 1", "gives neither a function recipe nor a RECIPE"),
        ("RECIPE = 3", "gives a int"),
        ("def recipe(model):\n    return 1 / 0\n", r"mine.py:2: ZeroDivisionError"),
        ("import no_such_module_anywhere", r"mine.py:1: ModuleNotFoundError"),
        ("def recipe(:", "SyntaxError"),
    ],
)
def test_a_file_that_gives_none_is_refused(tmp_path: Path, text: str, word: str):
    with pytest.raises(InvalidInputError, match=word):
        find(written(tmp_path, text), "alexnet")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="There is no recipe at"):
        find(str(tmp_path / "none.py"), "alexnet")


# ------------------------------------------------------------------ as JSON


@pytest.mark.parametrize("name", ["published", "modern", "finetune", "head"])
def test_a_recipe_goes_through_json_unchanged(name: str):
    recipe = override(find(name, "darknet53"), {"seed": 7})
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"epoch": 3}, 'A recipe has no "epoch"'),
        ({"version": 2}, "version 2; this vertebra reads version 1"),
        ({"crop": "random"}, 'crop is "random"; it must be'),
        ({"epochs": "3"}, 'epochs is "3"; it must be a whole number'),
        ({"flip": 1.5}, "flip is 1.5; it must be 0 to 1"),
        ({"lr": 0}, "lr is 0.0; it must be above 0"),
        ({"crop_scale": [0.5, 0.1]}, "crop_scale is"),
        ({"milestones": [5, 3]}, "milestones is"),
        ({"batch": True}, "batch is true"),
        ({"accumulate": 3}, "a divisor of the batch, 1024"),
        ({"balanced": True, "class_weights": True}, "balanced is true"),
        ({"trained": "head", "freeze_epochs": 1}, "trained is"),
        ({"epochs": 5}, "epochs is 5; it must be more than warmup_epochs 5"),
        ({"epochs": 6, "freeze_epochs": 1}, "more than freeze_epochs 1 and warmup_epochs 5 together"),
    ],
)
def test_json_of_something_else_is_refused(change: dict, word: str):
    value = json.loads(find("modern", "darknet53").to_json()) | change
    with pytest.raises(InvalidInputError, match=word):
        Recipe.from_dict(value)


def test_what_leaves_no_epoch_is_told_how_to_change_it():
    with pytest.raises(InvalidInputError) as raised:
        override(find("modern", "darknet53"), {"epochs": 3})
    assert raised.value.hint == "raise epochs, or leave that out: --set warmup_epochs=0"


def test_json_that_lacks_something_or_is_none_is_refused():
    value = json.loads(find("modern", "darknet53").to_json())
    del value["lr"], value["batch"]
    with pytest.raises(InvalidInputError, match="lacks batch, lr"):
        Recipe.from_dict(value)
    with pytest.raises(InvalidInputError, match="is not JSON"):
        Recipe.from_json("{")
    with pytest.raises(InvalidInputError, match="a JSON object, not list"):
        Recipe.from_json("[]")


# ------------------------------------------------------------------ changes


def changed(given: dict, base: str = "published", model: str = "alexnet") -> Recipe:
    return override(find(base, model), given)


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"epochs": "30"}, "epochs", 30),
        ({"epochs": "1e2"}, "epochs", 100),
        ({"weight-decay": "1e-3"}, "weight_decay", 1e-3),
        ({"balanced": "yes"}, "balanced", True),
        ({"decay_1d": "off"}, "decay_1d", False),
        ({"crop_scale": "0.3,1"}, "crop_scale", (0.3, 1.0)),
        ({"milestones": "10, 20"}, "milestones", (10.0, 20.0)),
        ({"augment": "TrivialAugment"}, "augment", "trivialaugment"),
        ({"momentum": 0}, "momentum", 0.0),
        ({"schedule": "cosine"}, "milestones", ()),
    ],
)
def test_values_are_read_by_their_type_and_said(given: dict, name: str, value: object):
    recipe = changed(given)
    assert getattr(recipe, name) == value
    assert type(getattr(recipe, name)) is type(value)
    assert any(line.startswith(f"{name}: ") for line in recipe.changes)


@pytest.mark.parametrize(
    ("given", "word", "hint"),
    [
        ({"epoch": "3"}, 'has no "epoch"', 'did you mean "epochs"'),
        ({"label-smothing": "3"}, "has no", 'did you mean "label_smoothing"'),
        ({"evaluation.resizes": "3"}, "has no", 'did you mean "evaluation.resize"'),
        ({"name": "x"}, "has no", ""),
        ({"epochs": "ten"}, 'epochs is "ten"; it must be a whole number', None),
        ({"epochs": "1.5"}, "a whole number", None),
        ({"flip": "half"}, "a number", None),
        ({"flip": "nan"}, "flip is", None),
        ({"balanced": "maybe"}, "true or false", None),
        ({"crop_scale": "0.1"}, "crop_scale is", None),
        ({"crop": "both"}, "crop is", None),
        ({"schedule": "piecewise", "milestones": "none"}, "milestones is", None),
        ({"evaluation.resize": "100"}, "no smaller than input_size", None),
    ],
)
def test_a_change_that_cannot_be_is_refused(given: dict, word: str, hint: str | None):
    with pytest.raises(InvalidInputError, match=word) as caught:
        changed(given)
    assert hint is None or hint in str(caught.value.hint)


def test_the_rate_follows_the_batch_and_says_so():
    recipe = changed({"batch": "64"})
    assert recipe.peak == pytest.approx(0.0025)
    assert recipe.changes == (
        "batch: 64 in place of 256",
        "the highest rate follows the batch: 0.0025 at 64 pictures a step in place of 0.01 at 256",
    )
    assert rates.rate(recipe, 0, 10) == recipe.peak


def test_a_rate_that_is_asked_for_is_the_rate():
    for given in ({"batch": "64", "lr": "0.3"}, {"lr": "0.3", "batch": "64"}, {"lr": "0.3"}):
        recipe = changed(given)
        assert recipe.peak == pytest.approx(0.3)
        assert not any("follows" in line for line in recipe.changes)
    # The rate that was asked for stays with its batch where a later change has another.
    assert override(changed({"lr": "0.3"}), {"batch": 512}).peak == pytest.approx(0.6)


def test_milestones_beyond_the_last_epoch_are_said():
    assert changed({"epochs": "60"}).changes[-1] == (
        "the milestones 60,90 come after the last epoch, so they have no effect"
    )


def test_another_input_size_keeps_the_proportion_of_evaluation():
    recipe = changed({"input_size": "112"})
    assert (recipe.input_size, recipe.evaluation.resize) == (112, 128)
    assert "evaluation.resize: 128 in place of 256" in recipe.changes
    assert changed({"input_size": "112", "evaluation.resize": "112"}).evaluation.resize == 112
    assert changed({"evaluation.decode": "scaled"}).evaluation.decode == "scaled"
    assert changed({"evaluation.mean": "0,0,0"}).evaluation.mean == (0.0, 0.0, 0.0)


def test_nothing_changed_is_no_change():
    base = find("published", "alexnet")
    assert override(base, {}) == base
    assert override(base, {"epochs": str(base.epochs)}) == base


def test_a_set_smaller_than_a_step_makes_a_smaller_step():
    base = find("published", "alexnet")
    assert at_most(base, 256) is base
    small = at_most(base, 50, world=4)
    assert (small.batch, small.peak) == (48, pytest.approx(0.01 * 48 / 256))
    assert small.changes[-1] == "there are only 50 pictures to fill a step of 256"
    with pytest.raises(InvalidInputError, match="3 pictures can't be shared by 4 processes"):
        at_most(base, 3, world=4)


def test_every_field_of_every_recipe_can_be_changed_by_its_own_text():
    base = find("finetune", "darknet53")
    for field in dataclasses.fields(Recipe):
        value = getattr(base, field.name)
        if field.name in ("name", "source", "notes", "changes", "version", "evaluation"):
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert getattr(override(base, {field.name: text}), field.name) == value, field.name


def test_the_page_has_every_key_and_every_word():
    page = (Path(__file__).resolve().parents[1] / "docs" / "train-recipes.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    keys = {key for row in rows for key in re.findall(r"`([a-z0-9_]+)`", row[1])}
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert fields - keys == {"name", "source", "notes", "changes", "version", "evaluation"}
    words = {
        name: set(re.findall(r"`([a-z0-9-]+)`", row[3]))
        for row in rows
        for name in WORDS
        if f"`{name}`" in row[1]
    }
    assert words == {name: set(allowed) for name, allowed in WORDS.items()}


def test_the_crops_of_a_published_recipe_are_uniform_in_area_and_aspect():
    from scipy import stats

    from vertebra.training.augmentation import crop_of, draws_of

    recipe = find("published", "vgg16")
    boxes = np.array([crop_of(recipe, 4000, 4000, draws_of(0, 0, place)) for place in range(3000)], float)
    aspect = boxes[:, 3] / boxes[:, 2]
    assert stats.kstest(aspect, stats.uniform(3 / 4, 4 / 3 - 3 / 4).cdf).pvalue > 0.001
    # What fits is the smaller of aspect and its inverse: the area is uniform from 0.08 to that.
    share = (boxes[:, 2] * boxes[:, 3] / 4000**2 - 0.08) / (np.minimum(aspect, 1 / aspect) - 0.08)
    assert stats.kstest(share, stats.uniform.cdf).pvalue > 0.001
