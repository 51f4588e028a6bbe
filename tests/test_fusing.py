"""ACNet trained in three branches, fused, and proved on the trained weights."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from vertebra.errors import InvalidInputError, MeasurementError  # noqa: E402
from vertebra.training import fusing  # noqa: E402
from vertebra.zoo.acnet import ACNet  # noqa: E402


def small_acnet(num_classes: int = 4) -> ACNet:
    torch.manual_seed(0)
    return ACNet((1, 1, 1, 1), False, num_classes=num_classes)


@pytest.fixture(scope="module")
def network() -> ACNet:
    """Trained for some steps, so that its norms have statistics of their own."""
    made = small_acnet()
    optimizer = torch.optim.SGD(made.parameters(), 0.05, momentum=0.9)
    for step in range(6):
        generator = torch.Generator().manual_seed(step)
        targets = torch.arange(8) % 4
        images = torch.randn(8, 3, 32, 32, generator=generator) + targets[:, None, None, None]
        optimizer.zero_grad()
        nn.functional.cross_entropy(made(images), targets).backward()
        optimizer.step()
    return made


def batches(count: int = 3) -> list[torch.Tensor]:
    return [torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(one)) for one in range(count)]


def test_the_fused_network_gives_the_trained_ones_answers(network):
    fused = fusing.fuse(network)
    assert fused.deploy
    assert not fusing.has_branches(fused)
    assert fusing.has_branches(network)
    proof = fusing.prove(network, fused, batches())
    assert proof.pictures == 24
    assert 0 < proof.largest < 1e-4
    assert network.training


def test_a_logit_that_differs_is_told(network):
    wrong = fusing.fuse(network)
    with torch.no_grad():
        wrong.classifier.bias[2] += 1e-3
    with pytest.raises(MeasurementError, match=r"differs by 0\.001"):
        fusing.prove(network, wrong, batches())


class Fixed(nn.Module):
    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


def test_another_first_class_is_let_pass_only_in_a_tie():
    one = [torch.zeros(5, 1)]
    assert fusing.prove(Fixed(0.0, 1e-5), Fixed(1e-5, 0.0), one).ties == 5
    assert fusing.prove(Fixed(0.0, 1.0), Fixed(0.0, 1.0), one).ties == 0
    with pytest.raises(MeasurementError, match="No picture"):
        fusing.prove(Fixed(0.0), Fixed(0.0), [])
    with pytest.raises(MeasurementError, match="differs by nan"):
        fusing.prove(Fixed(0.0), Fixed(float("nan")), one)


def test_only_branches_are_fused(network):
    with pytest.raises(InvalidInputError, match="no branches"):
        fusing.fuse(fusing.fuse(network))
    with pytest.raises(InvalidInputError, match="no branches"):
        fusing.fuse(nn.Linear(1, 1))


def test_fusing_leaves_the_trained_network_as_it_was(network):
    before = copy.deepcopy(network.state_dict())
    fusing.fuse(network)
    assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18_acnet", "resnet18_acnet_deploy", "vgg11"])
def test_the_name_of_the_fused_model(name):
    assert fusing.deployed(name) == {"vgg11": "vgg11"}.get(name, "resnet18_acnet_deploy")
