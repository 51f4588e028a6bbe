"""What to type after an answer: it names the network, its weights and its engine, or there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from classic_rows import SYSTEM
from vertebra.cli import cli
from vertebra.measurements import Measurement, Table, wide
from vertebra.reading.choice.rule import pick
from vertebra.verbs.next_command import next_command


@pytest.mark.parametrize(
    ("model", "columns", "is_named"),
    [("vgg16", {}, True), ("vgg16", {"network_sha256": "a" * 64}, False),
     ("vgg16", {"network_sha256": "a" * 64, "precision": "int8"}, True), ("vgg16#3fa2b1c4", {}, False),
     ("onnx:here.onnx", {"network_sha256": "a" * 64}, True),
     ("onnx:gone.onnx", {"network_sha256": "a" * 64}, False), ("onnx:here.onnx (no digest)", {}, False)],
)  # fmt: skip
def test_the_next_command_names_only_what_can_be_found(
    model: str, columns: dict[str, str], is_named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.onnx").touch()
    conditions: dict[str, Any] = {"system": SYSTEM, "engine": "onnxruntime", "device": "cpu"}
    conditions |= {"precision": "float32", "batch_size": 1, "input_size": 224, "threads": 2}
    told: dict[str, Any] = conditions | columns
    row = Measurement(
        model="vgg16", metric="top1", value=0.7, origin="evaluated", dataset="mine", split="all", **told
    )
    picked = pick(wide([row]), [])
    assert picked.choice is not None
    form = conditions | {name: value for name, value in columns.items() if name == "precision"}
    command = next_command(replace(picked.choice, model=model, conditions=form))
    assert (command is not None) is is_named
    assert not is_named or command.startswith(f"vertebra export {model} ")


def test_the_terminal_and_the_report_name_the_weights_of_the_accuracy(tmp_path: Path) -> None:
    """A library's default weights may be others than those whose accuracy was published."""
    table = Table(tmp_path / "t.sqlite")
    form: dict[str, Any] = {
        "system": vertebra.machine.system.describe().id, "engine": "onnxruntime", "device": "cpu",
        "precision": "float32", "batch_size": 1, "threads": 2, "scenario": "single-stream",
    }  # fmt: skip
    accuracy = Measurement(
        model="timm:resnet50", metric="top1", value=0.81, origin="published", source="timm",
        weights="resnet50.c2_in1k", input_size=224, dataset="imagenet-1k", split="val",
    )  # fmt: skip
    latency = Measurement(
        model="timm:resnet50",
        metric="latency",
        value=0.02,
        origin="benched",
        input_size=224,
        grade="A",
        **form,
    )
    table.append([accuracy, latency])
    told = "vertebra export timm:resnet50.c2_in1k --engine onnxruntime -o resnet50"
    options = ["--table", str(table.path), "--fps", "30", "--among", "table"]
    picked = CliRunner().invoke(cli, ["pick", *options])
    assert picked.output.endswith(f"next: {told}\n")
    page = tmp_path / "report.html"
    assert CliRunner().invoke(cli, ["report", *options, "-o", str(page)]).exit_code == 0
    assert told in page.read_text()
