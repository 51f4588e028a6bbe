"""The evaluation after an epoch: parts of the pictures that are added equal the whole."""

from __future__ import annotations

import numpy as np
import pytest

from vertebra.data.datasets import Sample
from vertebra.errors import MeasurementError
from vertebra.measuring.evaluation.tally import Tally
from vertebra.training import evaluating
from vertebra.zoo import build


@pytest.mark.parametrize("parts", [2, 3])
def test_tallies_that_are_merged_equal_one(parts: int) -> None:
    chance = np.random.default_rng(0)
    samples = [Sample(b"", int(label), f"{number}.png") for number, label in
               enumerate(chance.integers(0, 7, 60))]  # fmt: skip
    logits = chance.normal(0, 2, (60, 7)).astype(np.float32)
    truths = [sample.label for sample in samples]
    whole = Tally(10)
    whole.add(samples, truths, logits)
    merged = Tally(10)
    for part in range(parts):
        own = Tally(10)
        own.add(samples[part::parts], truths[part::parts], logits[part::parts])
        merged.merge(own)
    assert merged.mistakes() == whole.mistakes()
    assert len(whole.mistakes()) == 10
    for name in ("total", "top1", "top5", "pairs", "top5_by_class", "bin_counts", "bin_right"):
        assert getattr(merged, name) == getattr(whole, name)
    assert merged.calibration_error() == whole.calibration_error()


def test_parameters_that_aren_t_finite_are_named() -> None:
    network = build("squeezenet1_1", num_classes=2, seed=0)
    evaluating.check_finite(network)
    network.head.classifier.bias.data[1] = float("inf")
    with pytest.raises(MeasurementError, match=r"head\.classifier\.bias of the network isn't finite"):
        evaluating.check_finite(network)
