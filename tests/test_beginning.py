"""Where a training begins: the parameters of the weights, and a head that answers nothing yet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vertebra import zoo
from vertebra.training import beginning


@pytest.mark.parametrize(
    ("model", "head"), [("squeezenet1_1", "head.classifier"), ("timm:test_resnet.r160_in1k", "fc")]
)
def test_a_new_head_has_small_weights_and_the_rest_is_of_the_file(model: str, head: str, tmp_path: Path):
    trained = zoo.build(model, num_classes=10, seed=3)
    file = tmp_path / "trained.pth"
    torch.save(trained.state_dict(), file)
    checks = {"accept_unverified": True}
    made, about = beginning.network(model, ("a", "b", "c"), weights=file, checks=checks, seed=1)
    again, _ = beginning.network(model, ("a", "b", "c"), weights=file, checks=checks, seed=1)
    assert about == "parameters of trained.pth, with a new head for 3 classes"
    for (name, value), same in zip(made.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, same)
        if not name.startswith(head):
            assert torch.equal(value, trained.state_dict()[name])
    weight, bias = made.get_submodule(head).weight, made.get_submodule(head).bias
    assert weight.shape[0] == 3
    assert weight.detach().std().item() == pytest.approx(0.01, rel=0.15)
    assert not bias.any()
