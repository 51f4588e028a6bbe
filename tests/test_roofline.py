"""A latency's share of the roofline, worked out by hand, and only where like stands with like."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vertebra.measurements import Measurement
from vertebra.metrics import MACHINE
from vertebra.reading import roofline
from vertebra.reading.roofline import Roof, Work

LATENCY = Measurement(
    model="net", metric="latency", value=0.05, origin="benched", system="box", engine="onnxruntime",
    device="cpu", precision="float32", batch_size=1, input_size=224, threads=2, scenario="single-stream",
)  # fmt: skip
PEAK = Measurement(
    model=MACHINE, metric="peak_operations_rate", value=1e11, origin="benched", system="box",
    engine="openvino", device="cpu", precision="float32", threads=2,
)  # fmt: skip
BANDWIDTH = Measurement(
    model=MACHINE, metric="memory_bandwidth", value=1e10, origin="benched", system="box", device="cpu",
    threads=2,
)  # fmt: skip
#: 2 G operations take 20 ms at that rate; 25 MB of parameters and activations 10 ms.
WORK = Work(operations=2e9, params=5e6, activations=1e7)


def test_arithmetic_or_traffic_bounds_the_time_whichever_is_longer():
    roof = Roof(1e11, 1e10)
    assert WORK.bytes_moved(1, 4) == 4 * 25e6
    assert roof.least_s(WORK, 1) == 0.02
    assert Roof(1e12, 1e10).least_s(WORK, 1) == pytest.approx(0.01)


def test_a_batch_reads_its_parameters_once():
    assert WORK.bytes_moved(8, 4) == 4 * (5e6 + 8 * 2e7)


def test_the_share_is_the_roofline_over_the_latency():
    assert roofline.share(LATENCY, [PEAK, BANDWIDTH], WORK) == pytest.approx(0.02 / 0.05)
    batch = replace(LATENCY, batch_size=4, value=0.1)
    assert roofline.share(batch, [PEAK, BANDWIDTH], WORK) == pytest.approx(0.08 / 0.1)


def test_the_roof_is_that_of_the_best_engine():
    slower = replace(PEAK, engine="numpy", value=5e10)
    assert roofline.roof([slower, PEAK, BANDWIDTH], LATENCY) == Roof(1e11, 1e10)


@pytest.mark.parametrize(
    "changed", [{"system": "other"}, {"device": "cuda"}, {"threads": 1}, {"precision": "int8"}]
)
def test_a_roof_of_other_conditions_is_none(changed):
    row = Measurement.restored({**vars(LATENCY), **changed})  # as an older table may hold it
    assert roofline.share(row, [PEAK, BANDWIDTH], WORK) is None


@pytest.mark.parametrize("machine", [[], [PEAK], [BANDWIDTH]])
def test_half_a_roof_is_none(machine):
    assert roofline.share(LATENCY, machine, WORK) is None


def test_figures_of_networks_are_no_roof():
    assert roofline.roof([replace(PEAK, model="net"), BANDWIDTH], LATENCY) is None


@pytest.mark.parametrize("changed", [{"scenario": "server"}, {"value": 0.0}])
def test_only_a_forward_pass_alone_has_a_share(changed):
    row = Measurement.restored({**vars(LATENCY), **changed})  # as an older table may hold it
    assert roofline.share(row, [PEAK, BANDWIDTH], WORK) is None


def counted(metric: str, value: float, input_size: int | None = 224) -> Measurement:
    return Measurement(model="net", metric=metric, value=value, origin="profiled", input_size=input_size)


def test_shares_stand_beside_the_figures_and_only_beside_latencies_measured_here():
    published = replace(LATENCY, origin="published", system=None)
    small = replace(LATENCY, input_size=64)
    figures = [
        counted("macs", 1e9), counted("params", 5e6, None), counted("activations", 1e7),
        LATENCY, published, small,
    ]  # fmt: skip
    shares = roofline.shares(figures, [PEAK, BANDWIDTH])
    assert shares == [None, None, None, pytest.approx(0.4), None, None]


def test_shipped_counts_hold_at_their_size_only():
    shipped = {"macs": 1e9, "params": 5e6, "activations": 1e7, "input_size": 224}
    small = replace(LATENCY, input_size=64)
    told = roofline.shares([LATENCY, small], [PEAK, BANDWIDTH], shipped)
    assert told == [pytest.approx(0.4), None]
