"""The dictionary of metrics: which way each is better."""

from __future__ import annotations

import pytest

from vertebra.metrics import METRICS

#: Quantities that are better the less there is of them, by their units.
LESS_IS_BETTER = {"s", "B", "J", "W"}
#: The others, one by one.
HIGHER = {
    "top1", "top5", "reference_top1", "reference_top5", "probe_top1", "throughput", "fps", "sustained_rate",
    "served_rate", "training_throughput", "peak_operations_rate", "memory_bandwidth", "accuracy_density",
}  # fmt: skip
LOWER = {
    "calibration_error", "unreadable", "top1_disagreement", "params", "buffers", "macs", "operations",
    "activations", "missed_deadlines", "missed_requests", "failed_requests",
    "output_error", "failure", "aa_floor",
}  # fmt: skip
NEITHER = {"model_stat_params", "model_stat_operations"}


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_has_its_direction(name: str) -> None:
    metric = METRICS[name]
    named = [
        way for way, names in (("higher", HIGHER), ("lower", LOWER), ("neither", NEITHER)) if name in names
    ]
    if metric.unit in LESS_IS_BETTER:
        assert not named
        assert metric.better == "lower"
    else:
        assert named == [metric.better]
