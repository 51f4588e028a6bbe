"""The loads of the explorer: the page's machine is first, published devices are called so."""

from __future__ import annotations

from typing import Any

import pytest

from vertebra.machine import system
from vertebra.measurements import Measurement, wide
from vertebra.reading.reports import loads

HERE, THERE = "box-2-cores", "tower-8-cores"


def ran(on: str, model: str = "vgg16", origin: str = "benched", **more: Any) -> Measurement:
    form = {
        "device": "cpu",
        "engine": "eager",
        "precision": "float32",
        "batch_size": 1,
        "input_size": 224,
    } | more
    return Measurement(model=model, metric="latency", value=0.1, origin=origin, system=on, **form)  # type: ignore[arg-type]


def published(batch_size: int) -> list[Measurement]:
    """More rows than any machine has."""
    return [
        ran("nvidia-t4", f"net{number}", "published", device="cuda", engine="tensorrt", batch_size=batch_size,
            source="a page")
        for number in range(9)
    ]  # fmt: skip


def named(rows: list[Measurement], system: str | None) -> list[tuple[str, str]]:
    return [(load.label, load.options) for load in loads.loads(wide(rows), system).values()]


def test_the_machine_of_the_page_is_first_and_published_devices_are_last_and_called_so() -> None:
    rows = [*published(1), *published(4), ran(THERE), ran(THERE, "vgg19"), ran(HERE)]
    assert named(rows, HERE) == [
        ("Measured on box-2-cores: cpu, batch 1", ""),
        ("Measured on tower-8-cores: cpu, batch 1", "--system tower-8-cores"),
        ("Published for NVIDIA T4: cuda, batch 1", "--system nvidia-t4"),
        ("Published for NVIDIA T4: cuda, batch 4", "--system nvidia-t4"),
    ]
    assert named(rows, None)[0][0] == "Measured on tower-8-cores: cpu, batch 1"


def test_engines_that_state_their_streams_and_those_that_do_not_share_a_load() -> None:
    rows = [
        ran(HERE, engine="eager", scenario="single-stream"),
        ran(HERE, engine="onnxruntime", scenario="single-stream", streams=1),
        ran(HERE, engine="openvino"),
    ]
    assert named(rows, HERE) == [("Measured on box-2-cores: cpu, batch 1", "")]


@pytest.mark.parametrize(
    ("more", "label", "options"),
    [
        ({"device": "cuda"}, "cuda, batch 1", "--device cuda"),
        ({"scenario": "offline", "batch_size": 8, "streams": 2}, "cpu, batch 8, offline, streams 2",
         "--scenario offline"),
        ({"streams": 2}, "cpu, batch 1, streams 2", "--streams 2"),
        ({"batch_size": 4}, "cpu, batch 4", ""),
    ],
)  # fmt: skip
def test_what_tells_a_load_from_the_others_of_its_machine_is_an_option(
    more: dict[str, Any], label: str, options: str
) -> None:
    rows = [ran(HERE, "vgg11"), ran(HERE), ran(HERE, **more)]
    assert named(rows, HERE)[-1] == (f"Measured on box-2-cores: {label}", options)


def test_figures_that_were_all_estimated_are_called_so() -> None:
    assert named([ran(HERE, origin="estimated")], HERE)[0][0].startswith("Estimated for box-2-cores")


@pytest.mark.parametrize(
    ("on", "described", "expected"),
    [
        ([HERE], None, HERE),
        ([HERE, THERE, THERE], None, THERE),
        ([HERE, THERE, THERE], {"id": HERE}, HERE),
        ([THERE], {"id": "an-earlier-id"}, THERE),
        ([], {"id": HERE}, HERE),
        ([], None, None),
    ],
)
def test_the_page_is_about_one_machine(
    on: list[str], described: dict[str, str] | None, expected: str | None
) -> None:
    rows = [ran(one, f"net{number}") for number, one in enumerate(on)] + published(1)
    assert loads.main_system(rows, described) == expected


def test_of_several_machines_the_page_is_about_this_one() -> None:
    here = system.describe().id
    rows = [ran(THERE), ran(THERE, "vgg19"), ran(here)]
    assert loads.main_system(rows) == here
