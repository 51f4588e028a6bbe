"""The rate of each step, and the groups of parameters, against torch's own schedulers."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

from small_networks import small_net
from vertebra import zoo
from vertebra.errors import InvalidInputError
from vertebra.training import rates
from vertebra.training.recipe import Recipe
from vertebra.training.recipes import find

BASE = dataclasses.replace(
    find("published", "alexnet"), schedule="constant", milestones=(), batch=64, lr=0.1, lr_batch=64, epochs=10
)


def recipe(**given: object) -> Recipe:
    return dataclasses.replace(BASE, **given)


def of_torch(make, steps: int, lr: float = 0.1) -> list[float]:
    """The rates that a scheduler of torch sets."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def ours(given: Recipe, steps: int, per_epoch: int = 7) -> list[float]:
    return [rates.rate(given, step, per_epoch) for step in range(steps)]


@pytest.mark.parametrize(
    ("given", "make"),
    [
        ({}, lambda to: torch.optim.lr_scheduler.ConstantLR(to, 1.0)),
        (
            {"schedule": "piecewise", "milestones": (2.0, 5.0), "gamma": 0.2},
            lambda to: torch.optim.lr_scheduler.MultiStepLR(to, [14, 35], 0.2),
        ),
        ({"schedule": "cosine"}, lambda to: torch.optim.lr_scheduler.CosineAnnealingLR(to, 70)),
        (
            {"schedule": "cosine", "min_lr": 0.01},
            lambda to: torch.optim.lr_scheduler.CosineAnnealingLR(to, 70, 0.01),
        ),
        ({"schedule": "onecycle"}, lambda to: torch.optim.lr_scheduler.OneCycleLR(to, 0.1, total_steps=70)),
        (
            {"schedule": "cosine", "warmup_epochs": 2.0, "warmup_start": 0.1},
            lambda to: torch.optim.lr_scheduler.SequentialLR(
                to,
                [
                    torch.optim.lr_scheduler.LinearLR(to, 0.1, 1.0, 14),
                    torch.optim.lr_scheduler.CosineAnnealingLR(to, 56),
                ],
                [14],
            ),
        ),
    ],
)
def test_schedules_are_those_of_torch(given: dict, make):
    assert ours(recipe(**given), 70) == pytest.approx(of_torch(make, 70), rel=1e-9)


def test_the_rate_is_in_proportion_to_the_batch():
    assert ours(recipe(batch=16), 1) == [0.025]
    assert ours(recipe(batch=256), 1) == [pytest.approx(0.4)]


def test_frozen_epochs_have_the_highest_rate_and_the_schedule_begins_after_them():
    given = recipe(freeze_epochs=3, warmup_epochs=1.0, schedule="cosine")
    found = ours(given, 70)
    assert found[:21] == [0.1] * 21
    assert found[21:28] == pytest.approx([0.1 * step / 7 for step in range(7)])
    assert found[28:] == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 42)) for step in range(42)])


def test_a_step_that_cannot_be_is_refused():
    with pytest.raises(InvalidInputError, match="Step 0 of epochs of 0 steps"):
        rates.rate(BASE, 0, 0)


# ------------------------------------------------------------------ groups


def named(network: nn.Module, groups: list[dict]) -> dict[str, tuple[float, float]]:
    """Parameter -> its decay and its share of the rate; each is in one group."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [(names[id(parameter)], (group["weight_decay"], group["lr_scale"]))
             for group in groups for parameter in group["params"]]  # fmt: skip
    assert len(found) == len(dict(found))
    return dict(found)


def test_the_classics_decay_every_parameter_at_one_rate():
    network = zoo.build("squeezenet1_1", num_classes=3)
    [group] = rates.groups(network, find("published", "squeezenet1_1"))
    assert named(network, [group]) == {name: (1e-4, 1.0) for name, _ in network.named_parameters()}
    assert group["name"] == "all, decay"


def test_biases_and_norms_do_not_decay_where_the_recipe_says_so():
    network = small_net()
    found = named(network, rates.groups(network, recipe(weight_decay=0.1, decay_1d=False)))
    decayed = {name for name, (decay, _) in found.items() if decay}
    assert decayed == {"0.weight", "6.weight", "8.weight"}
    assert all(found[name] == (0.1, 1.0) for name in decayed)
    assert len(found) == 8


def test_each_block_is_slower_than_the_next_and_a_norm_belongs_to_its_convolution():
    network = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4))),
            stages=nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), nn.Conv2d(4, 4, 1)),
            pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(),
            classifier=nn.Linear(4, 2),
        )
    )  # fmt: skip
    found = named(network, rates.groups(network, recipe(weight_decay=0.1, layer_decay=0.5, decay_1d=False)))
    assert {name: scale for name, (_, scale) in found.items()} == {
        "stem.conv.weight": 0.125, "stem.conv.bias": 0.125, "stem.bn.weight": 0.125, "stem.bn.bias": 0.125,
        "stages.0.0.weight": 0.25, "stages.0.0.bias": 0.25, "stages.0.1.weight": 0.25,
        "stages.0.1.bias": 0.25, "stages.1.weight": 0.5, "stages.1.bias": 0.5,
        "classifier.weight": 1.0, "classifier.bias": 1.0,
    }  # fmt: skip


def test_timms_networks_say_their_blocks_themselves():
    network = zoo.build("timm:resnet18.a1_in1k", num_classes=3)
    found = named(network, rates.groups(network, recipe(weight_decay=0.1, layer_decay=0.5)))
    assert found["fc.weight"] == (0.1, 1.0)
    assert found["layer4.1.conv2.weight"] == (0.1, 0.5)
    assert found["layer4.0.conv1.weight"] == (0.1, 0.25)
    assert found["conv1.weight"] == found["bn1.bias"] == (0.1, 0.5**9)


def test_the_head_alone_is_the_classifier():
    network = zoo.build("squeezenet1_1", num_classes=3)
    head = find("head", "squeezenet1_1")
    assert set(named(network, rates.groups(network, head))) == {
        "head.classifier.weight",
        "head.classifier.bias",
    }
    assert rates.freeze(network, head, 5)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"head.classifier.weight", "head.classifier.bias"}


def test_frozen_epochs_end():
    network, given = zoo.build("squeezenet1_1", num_classes=3), recipe(freeze_epochs=2)
    assert [rates.freeze(network, given, epoch) for epoch in range(4)] == [True, True, False, False]
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "kind", "facts"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.8, "nesterov": False}),
        ("nesterov", torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        ("adam", torch.optim.Adam, {"betas": (0.9, 0.999)}),
        ("adamw", torch.optim.AdamW, {"betas": (0.9, 0.999)}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.8}),
        ("lamb", torch.optim.Optimizer, {}),
        ("lion", torch.optim.Optimizer, {}),
    ],
)
def test_optimizers_have_the_recipes_values(name: str, kind: type, facts: dict):
    network = small_net()
    made = rates.optimizer(network, recipe(optimizer=name, momentum=0.8, weight_decay=0.1, decay_1d=False))
    assert isinstance(made, kind)
    shares = [(len(group["params"]), group["weight_decay"], group["lr_scale"]) for group in made.param_groups]
    assert shares == [(3, 0.1, 1.0), (5, 0.0, 1.0)]
    for group in made.param_groups:
        assert {key: group[key] for key in facts} == facts
        assert group["lr"] == 0.1
