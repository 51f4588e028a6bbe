"""The published figures, against the printed page and the true counts."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from vertebra.measurements import Table, shipped
from vertebra.measuring import citations

_TEXT = (Path(shipped.__file__).with_name("paddleclas.csv")).read_text(encoding="utf-8")
PRINTED = list(csv.DictReader(_TEXT.splitlines()))
ROWS = citations.paddleclas()


def test_every_printed_figure_is_a_row_but_the_resize_which_is_a_protocol():
    printed = Counter(row["metric"] for row in PRINTED)
    told = Counter(row.metric for row in ROWS)
    assert printed["resize_short"] == 41
    assert told == {
        "latency": printed["latency"], "top1": 31, "top5": 31, "operations": 31, "params": 31,
        "reference_top1": 15, "reference_top5": 7,
    }  # fmt: skip
    assert len(ROWS) == len(PRINTED) - 41 == 312


@pytest.mark.parametrize(
    ("model", "metric", "value", "where"),
    [
        ("alexnet", "top1", 0.567, {}),
        ("alexnet", "operations", 1.37e9, {}),
        ("senet154_vd", "params", 114.29e6, {}),
        ("senet154_vd", "top5", 0.955, {}),
        ("vgg16", "reference_top5", 0.901, {}),
        ("resnet50_acnet_deploy", "latency", 5.626e-3, {"system": "nvidia-v100"}),
        (
            "darknet53",
            "latency",
            22.15266e-3,
            {"system": "nvidia-t4", "batch_size": 8, "precision": "float32"},
        ),
        ("alexnet", "latency", 0.81e-3, {"system": "nvidia-v100", "engine": "tensorrt", "batch_size": 1}),
        ("alexnet", "latency", 1.176e-3, {"system": "nvidia-v100", "engine": None, "batch_size": 1}),
    ],
)
def test_figures_as_printed_in_base_units(model, metric, value, where):
    found = [
        row.value
        for row in ROWS
        if (row.model, row.metric) == (model, metric)
        and all(getattr(row, name) == told for name, told in where.items())
    ]
    assert set(found) == {value}


def test_every_row_has_its_source_and_every_imported_count_its_convention():
    assert all(row.source for row in ROWS)
    assert all(bool(row.convention) == (row.metric in ("operations", "params")) for row in ROWS)


def test_what_is_disputed_is_off_and_the_rest_is_right():
    """The true figures in the texts are our own counts; undisputed counts agree with ours within 1.3 %."""
    for row in ROWS:
        if row.metric not in ("operations", "params"):
            continue
        totals = shipped.totals(row.model)
        true = totals["params"] if row.metric == "params" else 2 * totals["macs"]
        error = abs(row.value - true) / true
        if row.disputed:
            assert f"{true:,}" in row.disputed
            assert error > 0.0025
        else:
            assert error < 0.013


def test_a_latency_whose_page_names_no_device_says_so():
    unnamed = [row for row in ROWS if row.metric == "latency" and row.disputed]
    assert len(unnamed) == 17
    assert {row.system for row in unnamed} == {"nvidia-v100"}


def test_accuracies_carry_the_protocol_that_their_page_states():
    alexnet = {row.protocol for row in ROWS if (row.model, row.metric) == ("alexnet", "top1")}
    assert alexnet == {"resize 256, crop 224", None}
    assert {row.protocol for row in ROWS if row.model == "darknet53" and row.metric == "top1"} == {
        "resize 256, crop 256",
        None,
    }


def test_citing_twice_adds_nothing(tmp_path):
    table = Table(tmp_path / "table.sqlite")
    first = table.append(citations.paddleclas())
    assert table.append(citations.paddleclas()) == first
    assert len(table.rows()) == 312
