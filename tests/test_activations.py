"""Untrained networks: ordinary activations in every layer, and a network without them is caught."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from vertebra import bundles, zoo
from vertebra.engines import Subject
from vertebra.errors import UnsuitableNetworkError
from vertebra.exporting.process import Exporter
from vertebra.measuring.profiler import activations
from vertebra.measuring.profiler.activations import Range
from vertebra.zoo import names

#: The parameters that networks are measured with.
SEED = 0


def told_of(model: str, input_size: int) -> list[Range]:
    images = bundles.reference_images(batch_size=1, in_channels=3, input_size=input_size, seed=0)
    return activations.run(zoo.build(model, seed=SEED).eval(), torch.from_numpy(images))[1]


def sizes(native: bool) -> list[tuple[str, int]]:
    models = [names.find(name) for name in names.CLASSICS]
    return [(model.name, model.input_size if native else model.min_size) for model in models]


@pytest.mark.parametrize(("model", "input_size"), sizes(native=False))
def test_a_classics_seeded_parameters_give_ordinary_activations_at_its_smallest_size(model, input_size):
    assert activations.defects(told_of(model, input_size)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("model", "input_size"), sizes(native=True))
def test_a_classics_seeded_parameters_give_ordinary_activations_at_its_own_size(model, input_size):
    told = told_of(model, input_size)
    assert activations.defects(told) == []
    assert max(one.subnormal for one in told) == max(one.nonfinite for one in told) == 0
    # Within a few thousand of 1, so that no precision that engines offer cuts them off.
    assert all(1e-3 < one.largest < 1e3 for one in told)


def scaled_chain(*factors: float) -> nn.Module:
    """Layers without bias, each of which multiplies by one of `factors`."""
    layers = [nn.Conv2d(3, 3, 1, bias=False) for _ in factors]
    for layer, factor in zip(layers, factors, strict=True):
        layer.weight.data = factor * torch.eye(3)[:, :, None, None]
    return nn.Sequential(*layers, nn.Flatten())


def ranges_of(network: nn.Module, images: torch.Tensor | None = None) -> list[Range]:
    return activations.run(network, torch.ones(2, 3, 2, 2) if images is None else images)[1]


def test_layers_are_told_in_call_order_with_their_exact_ranges():
    images = torch.tensor([0.0, -2.0, 0.5]).reshape(1, 3, 1, 1)
    told = ranges_of(scaled_chain(1.0, 4.0), images)
    assert [(one.layer, one.kind) for one in told] == [
        ("0", "Conv2d"), ("1", "Conv2d"), ("2", "Flatten"), ("(outputs)", "Sequential"),
    ]  # fmt: skip
    assert [(one.smallest, one.largest) for one in told] == [(0.5, 2.0), (2.0, 8.0), (2.0, 8.0), (2.0, 8.0)]
    assert not any(one.subnormal or one.nonfinite for one in told)


def test_the_answer_is_that_of_the_network_itself():
    network = zoo.build("squeezenet1_1", seed=SEED).eval()
    images = torch.ones(1, 3, 64, 64)
    logits, _ = activations.run(network, images)
    with torch.inference_mode():
        assert torch.equal(logits, network(images))
    assert not any(module._forward_hooks for module in network.modules())


def test_subnormal_activations_are_caught_where_they_begin():
    # 1, then 1e-20, then 1e-40, which float32 holds as a subnormal number, then 1e-60, which is 0.
    with pytest.raises(UnsuitableNetworkError, match="100 % subnormal activations in layer 1"):
        activations.check(ranges_of(scaled_chain(0.9e-20, 1e-20, 1e-20)))


def test_a_few_subnormal_numbers_among_thousands_cost_nothing():
    images = torch.ones(1, 3, 100, 100)
    images[0, 0, 0, :20] = 1e-39  # 20 of 30,000
    (told, *_) = ranges_of(scaled_chain(1.0), images)
    assert told.subnormal == pytest.approx(20 / 30_000)
    assert activations.defects([told]) == []
    images[0, 0, 0, :40] = 1e-39
    assert activations.defects(ranges_of(scaled_chain(1.0), images))


def test_overflow_is_caught_and_finite_numbers_are_still_told():
    images = torch.ones(1, 3, 1, 1)
    images[0, 0] = 1e-3
    told = ranges_of(scaled_chain(1e30, 1e10), images)
    assert told[1].nonfinite == pytest.approx(2 / 3)
    assert told[1].largest == pytest.approx(1e37, rel=1e-3)
    found = activations.defects(told)
    assert any("66.7 % infinite or NaN in layer 1" in text for text in found)
    assert any("up to 1e+30 in layer 0" in text for text in found)


def test_a_network_whose_activations_vanish_is_caught():
    assert "no activation above 1e-25" in activations.defects(ranges_of(scaled_chain(1e-25)))[0]


def test_zeros_are_ordinary():
    assert activations.defects(ranges_of(scaled_chain(0.0))) == []


def test_nan_alone_is_caught():
    assert "100 % infinite or NaN" in activations.defects(ranges_of(scaled_chain(float("nan"))))[0]


# Where networks are made ready to be measured.


def subject(**arguments: object) -> Subject:
    return Subject(model="fading", builder="small_networks:fading_net", arguments=arguments)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporter]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Exporter() as started:
        yield started


def test_a_network_with_subnormal_activations_is_refused_before_it_is_measured(exporter, tmp_path):
    with pytest.raises(UnsuitableNetworkError, match="subnormal activations in layer"):
        exporter.export(subject(seed=0), tmp_path / "bundle", input_size=32)
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(UnsuitableNetworkError, match="subnormal activations in layer"):
        exporter.check(subject(seed=0), input_size=32)
    exporter.check(subject(seed=0, factor=1.0), input_size=32)
