"""Batch norms folded before an export: fewer layers, the same answers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vertebra import zoo
from vertebra.exporting.folding import fold_batch_norms


def with_statistics(network: nn.Module) -> nn.Module:
    """The network as if trained: norms with means, variances, scales and shifts of their own."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval().double()


def norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


@pytest.mark.parametrize("name", ["darknet53", "resnet18_acnet", "resnet18_acnet_deploy"])
def test_a_folded_network_answers_alike_to_1e_10_without_its_norms(name):
    network = with_statistics(zoo.build(name, num_classes=5, seed=0))
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(images)
        assert norms(network) > 3
        after = fold_batch_norms(network)(images)
    assert norms(network) == 0
    spread = before.std()
    assert spread > 0
    assert (after - before).abs().max() / spread < 1e-10


def test_a_norm_that_does_not_follow_a_convolution_is_left_alone():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with_statistics(network)
    with torch.inference_mode():
        before = network(images)
        assert torch.equal(fold_batch_norms(network)(images), before)
    assert norms(network) == 2
