"""Mixup, CutMix, smoothing: the papers' distributions, from (seed, epoch, step) alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from vertebra.errors import InvalidInputError
from vertebra.training.mixing import drawn, mix
from vertebra.training.recipe import Recipe
from vertebra.training.recipes import find

PLAIN = dataclasses.replace(find("published", "alexnet"), label_smoothing=0.0)


def recipe(**given: object) -> Recipe:
    return dataclasses.replace(PLAIN, **given)


def step(count: int = 4, side: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=generator), torch.arange(count) % 3


def mixed(images: torch.Tensor, labels: torch.Tensor, given: Recipe, number: int = 0, seed: int = 0):
    return mix(images, labels, given, seed=seed, epoch=1, step=number, classes=3)


def test_without_mixing_targets_are_smoothed_only():
    images, labels = step()
    same, targets = mixed(images, labels, recipe(label_smoothing=0.3))
    assert same is images
    assert targets.dtype == torch.float32
    expected = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]
    assert targets.tolist() == [pytest.approx(row) for row in expected]


def test_mixup_mixes_neighbours_by_a_share_of_the_beta_distribution():
    images, labels = step()
    given = recipe(mixup=0.2)
    share, rectangle = drawn(given, 0, 1, 5, (8, 8))
    assert rectangle is None
    assert 0 < share < 1
    made, targets = mixed(images, labels, given, 5)
    assert torch.equal(made[0], images[0] * share + images[1] * (1 - share))
    assert torch.equal(made[3], images[3] * share + images[2] * (1 - share))
    assert targets[1].tolist() == pytest.approx([1 - share, share, 0])
    shares = [drawn(given, 0, 1, number, (8, 8))[0] for number in range(2000)]
    assert stats.kstest(shares, stats.beta(0.2, 0.2).cdf).pvalue > 0.001


def test_cutmix_pastes_the_partners_rectangle_and_its_share_is_that_of_the_pixels():
    images, labels = step(side=16)
    given = recipe(cutmix=1.0)
    wholes = 0
    for number in range(50):
        share, rectangle = drawn(given, 0, 1, number, (16, 16))
        made, targets = mixed(images, labels, given, number)
        top, left, bottom, right = rectangle
        inside = torch.zeros(16, 16, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        assert share == 1 - inside.sum().item() / 256
        assert torch.equal(made[0][:, inside], images[1][:, inside])
        assert torch.equal(made[0][:, ~inside], images[0][:, ~inside])
        assert targets[0].tolist() == pytest.approx([share, 1 - share, 0])
        wholes += share == 1
    assert wholes < 10


def test_both_have_half_of_the_steps_and_the_probability_leaves_some_as_they_are():
    kinds = [drawn(recipe(mixup=1.0, cutmix=1.0), 3, 0, number, (32, 32))[1] for number in range(2000)]
    assert np.mean([kind is not None for kind in kinds]) == pytest.approx(0.5, abs=0.045)  # 4 standard errors
    mild = recipe(mixup=1.0, mix_probability=0.3)
    shares = [drawn(mild, 3, 0, number, (32, 32))[0] for number in range(2000)]
    assert np.mean([share != 1 for share in shares]) == pytest.approx(0.3, abs=0.041)


@pytest.mark.parametrize("given", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_parts_of_a_step_are_mixed_as_the_whole_is(given: dict):
    images, labels = step(12)
    made, targets = mixed(images, labels, recipe(**given), 7)
    for size in (2, 4, 6):
        parts = [mixed(images[at : at + size], labels[at : at + size], recipe(**given), 7)
                 for at in range(0, 12, size)]  # fmt: skip
        assert torch.equal(torch.cat([part[0] for part in parts]), made)
        assert torch.equal(torch.cat([part[1] for part in parts]), targets)


def test_the_last_of_an_odd_count_stays_and_the_given_images_are_not_changed():
    images, labels = step(5)
    before = images.clone()
    for given in (recipe(mixup=0.4), recipe(cutmix=1.0)):
        made, targets = mixed(images, labels, given, 7)
        assert torch.allclose(made[4], images[4])
        assert targets[4].tolist() == pytest.approx([0, 1, 0])
        assert torch.equal(images, before)


def test_another_seed_epoch_or_step_mixes_otherwise():
    given = recipe(mixup=1.0)
    assert (
        len({drawn(given, *place, (8, 8))[0] for place in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}) == 4
    )


def test_a_label_beyond_the_classes_is_refused():
    images, _ = step()
    with pytest.raises(InvalidInputError, match="A label is 3; there are 3 classes"):
        mixed(images, torch.tensor([0, 1, 2, 3]), PLAIN)
