"""What a served model gets of processes, threads and batch: as measured on this machine, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tiny_bundle
import vertebra
from serving_client import serving
from vertebra import engines
from vertebra.bundles import Bundle
from vertebra.cli import cli
from vertebra.errors import TableError
from vertebra.inference.serving import choice
from vertebra.inference.serving.choice import Asked, Choice
from vertebra.machine import system
from vertebra.measurements import Measurement


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    four = replace(system.describe(), usable_cores=4)
    monkeypatch.setattr(system, "describe", lambda: four)
    monkeypatch.setattr(system, "default_threads", lambda: 4)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle.make(tmp_path / "tiny")


def row(value: float, streams: int, threads: int, batch: int, **more: Any) -> Measurement:
    usual = {
        "model": "tiny", "metric": "throughput", "origin": "benched", "system": system.describe().id,
        "device": "cpu", "engine": "onnxruntime", "precision": "float32", "input_size": tiny_bundle.SIZE,
        "scenario": "offline", "grade": "A", "measured_at": "2026-11-01T10:00:00+00:00",
    }  # fmt: skip
    given = {"value": value, "streams": streams, "threads": threads, "batch_size": batch}
    return Measurement(**{**usual, **given, **more})


#: (images per second, streams, threads of all, batch)
GRID = [
    (100.0, 1, 4, 1), (110.0, 1, 4, 8), (150.0, 2, 4, 1), (168.0, 2, 4, 8), (198.0, 4, 4, 1),
    (200.0, 4, 4, 8),
]  # fmt: skip


def chosen(bundle: Bundle, rows: list[Measurement], **asked: Any) -> Choice:
    return choice.choose_from(rows, Asked(**asked), bundle, ["onnxruntime"], Path("a b"))


def sizes(found: Choice) -> tuple[int, int, int]:
    return found.instances, found.threads, found.max_batch


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (4, 1, 1)),  # within 2 % of the best, the one with the fewest images at once
        ({"instances": 2}, (2, 2, 8)),
        ({"threads": 4}, (1, 4, 8)),
        ({"max_batch": 8}, (4, 1, 8)),
        ({"max_batch": 4}, (4, 1, 4)),  # measured up to 1
        ({"max_batch": 8, "timeout_s": 0.05}, (1, 4, 8)),  # none is in time: the quickest
        ({"timeout_s": 0.05}, (4, 1, 1)),
        ({"timeout_s": 0.035}, (2, 2, 1)),  # four images at 198/s take longer than half of it
        ({"instances": 3}, (3, 1, 8)),
    ],
)
def test_the_measured_load_with_the_most_images_is_chosen_within_what_was_asked(
    bundle: Bundle, asked: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    assert sizes(chosen(bundle, [row(*one) for one in GRID], **asked)) == expected


def test_why_it_was_chosen_is_said(bundle: Bundle) -> None:
    assert str(chosen(bundle, [row(*one) for one in GRID])) == (
        "onnxruntime, 4 processes with 1 thread each, calls of up to 1 image: the best of 6 loads measured "
        "here (198/s offline, grade A, 2026-11-01)"
    )


def test_what_wasn_t_compared_is_chosen_by_default_and_how_to_measure_it_is_said(bundle: Bundle) -> None:
    command = "vertebra bench 'a b' --engine onnxruntime --scenario offline"
    threads = chosen(bundle, [row(90, 1, 1, 1), row(100, 1, 2, 1)])
    assert (sizes(threads), threads.to_measure) == ((1, 2, 8), command)
    assert threads.reason.endswith("; other batch sizes weren't measured, so by default")
    batches = chosen(bundle, [row(90, 1, 2, 1), row(100, 1, 2, 4)])
    assert (sizes(batches), batches.to_measure) == ((1, 4, 4), command)
    assert batches.reason.endswith("; other processes and threads weren't measured, so by default")
    one = chosen(bundle, [row(90, 2, 2, 1)])
    assert (sizes(one), one.to_measure) == ((1, 4, 8), command)
    assert one.reason == (
        "by default: the table has only one load of tiny on onnxruntime in float32 measured on this machine"
    )
    none = chosen(bundle, [row(90, 2, 2, 1)], threads=3)
    assert "the table has no load that fits what was asked of tiny" in none.reason
    assert sizes(none) == (1, 3, 8)


@pytest.mark.parametrize(
    ("more", "instances"),
    [
        ([row(900.0, 8, 8, 1)], 4),  # more threads than there are cores
        ([row(900.0, 2, 2, 1, scenario="server", arrival_rate=1.0, protocol="p")], 4),
        ([row(900.0, 1, 4, 1, scenario="single-stream")], 4),  # one load of another scenario
    ],
)
def test_figures_that_can_t_be_compared_are_left_out(
    bundle: Bundle, more: list[Measurement], instances: int
) -> None:
    assert chosen(bundle, [*(row(*one) for one in GRID), *more]).instances == instances


def test_no_more_processes_are_chosen_than_memory_holds(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_a_gigabyte = replace(system.describe(), memory_bytes=500_000_000)
    monkeypatch.setattr(system, "describe", lambda: half_a_gigabyte)
    rows = [row(*one) for one in GRID]
    assert sizes(chosen(bundle, rows)) == (2, 2, 8)
    assert chosen(bundle, rows, instances=4).instances == 4


def test_a_bundle_of_one_batch_size_keeps_it(tmp_path: Path) -> None:
    three = tiny_bundle.make(tmp_path / "three", batch=3)
    rows = [row(200.0, 1, 4, 1), row(100.0, 1, 4, 3), row(150.0, 4, 4, 3)]
    assert sizes(chosen(three, rows)) == (4, 1, 3)
    assert chosen(three, rows).to_measure is None


def test_only_rows_of_this_network_engine_precision_and_machine_count(bundle: Bundle, tmp_path: Path) -> None:
    table = vertebra.Table(tmp_path / "table.sqlite")
    others = [
        {"engine": "openvino"}, {"precision": "bfloat16"}, {"system": "other"}, {"model": "vgg16"},
        {"beside": 2}, {"input_size": 224}, {"origin": "estimated"},
    ]  # fmt: skip
    table.append([row(900.0, 1, 1, 1, **other) for other in others])
    assert choice.rows_of(bundle, "onnxruntime", table) == []
    table.append([row(*one) for one in GRID])
    assert len(choice.rows_of(bundle, "onnxruntime", table)) == 6


ENGINES = ["onnxruntime", "openvino"]


@pytest.mark.parametrize(
    ("theirs", "engine", "told"),
    [
        ([row(120, 1, 4, 1), row(240, 4, 4, 1)], "openvino",
         "openvino is faster here than onnxruntime (240/s against 200/s, offline)"),
        ([row(203, 4, 4, 1)], "onnxruntime", "openvino isn't faster here (203/s against 198/s, offline)"),
        ([row(210, 4, 4, 1)], "onnxruntime", "openvino isn't faster here (210/s against 200/s, offline)"),
        ([row(215, 4, 4, 1)], "openvino", "openvino is faster here than onnxruntime (215/s against 200/s"),
        # the shared load is faster, but onnxruntime's best is faster still
        ([row(150, 1, 4, 1)], "onnxruntime", "openvino isn't faster here (150/s against 200/s, offline)"),
        ([row(240, 4, 4, 1, low=190.0, high=290.0)], "onnxruntime", "isn't faster here (240/s against"),
        ([row(900, 4, 4, 2)], "onnxruntime", None),  # no load that both were measured with
        ([row(900, 1, 4, 1, scenario="single-stream")], "onnxruntime", None),
        ([row(900, 8, 8, 1)], "onnxruntime", None),  # more than the cores
        ([], "onnxruntime", None),
    ],
)  # fmt: skip
def test_another_engine_is_chosen_where_it_was_measured_to_be_faster_with_equal_loads(
    bundle: Bundle, theirs: list[Measurement], engine: str, told: str | None
) -> None:
    rows = [*(row(*one) for one in GRID), *(replace(one, engine="openvino") for one in theirs)]
    found = choice.choose_from(rows, Asked(), bundle, ENGINES, Path("a b"))
    assert found.engine == engine
    if told is None:
        assert found.to_measure == "vertebra bench 'a b' --engine openvino --scenario offline"
        assert "openvino" not in str(found)
    else:
        assert found.to_measure is None if engine == "onnxruntime" else sizes(found)[:2] in ((4, 1), (1, 4))
        assert told in found.reason


def test_an_engine_is_chosen_though_all_else_is_asked(bundle: Bundle, tmp_path: Path) -> None:
    table = vertebra.Table(tmp_path / "table.sqlite")
    table.append([row(100, 2, 4, 8), row(150, 2, 4, 8, engine="openvino"), row(900, 1, 4, 8)])
    asked = Asked(instances=2, threads=2, max_batch=8)
    found = choice.from_table(asked, table, is_named=True)(bundle, ENGINES, Path("a"))
    assert str(found) == (
        "openvino, 2 processes with 2 threads each, calls of up to 8 images: as asked; openvino is faster "
        "here than onnxruntime (150/s against 100/s, offline)"
    )
    only = choice.from_table(asked, table, is_named=True)(bundle, ENGINES[:1], Path("a"))
    assert (only.engine, only.reason) == ("onnxruntime", "as asked")


def test_the_engine_that_is_named_serves(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "table.sqlite"
    vertebra.Table(path).append([row(100, 1, 1, 1), row(150, 1, 1, 1, engine="openvino")])
    with serving(bundle.folder, table=path, threads=1) as client:
        assert client.get("/v2/models/tiny/config")["backend"] == "openvino"
        assert client.get("/v2/models/tiny")["platform"] == "onnx_openvino"
    server = vertebra.serve(bundle.folder, port=0, grpc=False, table=path, engine="onnxruntime")
    server.close()
    assert [one.engine for one in server.choices.values()] == ["onnxruntime"]


def test_rows_of_other_parameters_count_and_that_is_said(bundle: Bundle, tmp_path: Path) -> None:
    table = vertebra.Table(tmp_path / "table.sqlite")
    table.append([row(*one, network_sha256="ab" * 32) for one in GRID])
    rows = choice.rows_of(bundle, "onnxruntime", table)
    assert "measured here with other parameters (198/s" in chosen(bundle, rows).reason
    table.append([row(50.0, 1, 4, 1), row(60.0, 2, 4, 1)])
    assert len(choice.rows_of(bundle, "onnxruntime", table)) == 2  # its own


def test_a_server_uses_and_says_what_was_chosen(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "table.sqlite"
    vertebra.Table(path).append([row(90, 1, 1, 1), row(100, 2, 2, 1), row(120, 2, 2, 4)])
    with serving(bundle.folder, table=path) as client:
        assert len(client.workers()) == 2
        config = client.get("/v2/models/tiny/config")
        assert (config["max_batch_size"], config["instance_group"][0]["count"]) == (4, 2)
        assert config["parameters"]["threads"] == {"string_value": "1"}
        assert config["parameters"]["chosen"]["string_value"].startswith(
            "onnxruntime, 2 processes with 1 thread each"
        )


def test_the_command_says_it_before_it_loads(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vertebra.inference.serving.server import Server

    monkeypatch.setattr(Server, "run", lambda self, ready: self.close())
    monkeypatch.setattr(engines, "missing", lambda name: None if name == "onnxruntime" else "not installed")
    where = ["--table", str(tmp_path / "table.sqlite"), "--port", "0", "--no-grpc"]
    vertebra.Table(tmp_path / "table.sqlite")
    done = CliRunner().invoke(cli, ["serve", str(bundle.folder), *where])
    assert done.stderr.splitlines() == [
        "loading tiny",
        "tiny: onnxruntime, 1 process with 4 threads, calls of up to 8 images: by default: the table has no "
        "load of tiny on onnxruntime in float32 measured on this machine",
        f"to measure: vertebra bench {bundle.folder} --engine onnxruntime --scenario offline",
        "stopped",
    ]


def test_a_table_that_can_t_be_read_stops_only_who_named_it(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no table" * 1000)
    with pytest.raises(TableError):
        vertebra.serve(bundle.folder, port=0, grpc=False, table=broken)
    monkeypatch.setenv("VERTEBRA_TABLE", str(broken))
    server = vertebra.serve(bundle.folder, port=0, grpc=False)
    server.close()
    assert [sizes(one) for one in server.choices.values()] == [(1, 4, 8)]
    assert "aren't chosen by measurements" in caplog.text


def test_all_that_is_asked_needs_no_table(bundle: Bundle) -> None:
    server = vertebra.serve(bundle.folder, port=0, grpc=False, instances=1, threads=2, max_batch=3)
    server.close()
    (found,) = server.choices.values()
    assert str(found) == "onnxruntime, 1 process with 2 threads, calls of up to 3 images: as asked"
