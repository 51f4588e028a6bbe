"""benchmarks/gpu_forms.py as far as it goes without a card: its plan, its lines, and no claims."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from vertebra import engines
from vertebra.machine import system
from vertebra.measurements import Measurement

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_forms.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_forms", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_forms_are_those_that_the_engines_have_on_a_card(script: Any) -> None:
    made = script.forms(engines.known())
    assert made[0] == script.REFERENCE
    assert len(set(made)) == len(made)
    assert set(made) >= {
        ("eager", None, "NHWC", "bfloat16"),
        ("eager", "cuda-graph", "NCHW", "float16"),
        ("compile", None, "NHWC", "tf32"),
        ("onnxruntime", "CUDAExecutionProvider", None, "tf32"),
        ("onnxruntime", "TensorrtExecutionProvider", None, "float16"),
        ("tensorrt", None, None, "bfloat16"),
    }
    assert not {"openvino", "ncnn", "aotinductor"} & {engine for engine, *_ in made}
    assert not {"int8", "int8-weights"} & {precision for *_, precision in made}
    assert ("onnxruntime", "CUDAExecutionProvider", None, "float16") not in made
    assert all(provider != "CPUExecutionProvider" for _, provider, _, _ in made)


def test_every_form_that_is_planned_is_one_that_its_engine_offers(script: Any) -> None:
    for engine, provider, layout, precision in script.forms(engines.known()):
        info = engines.find(engine)
        assert precision in info.precisions
        assert provider in (None, *info.providers)
        assert layout in (None, *info.layouts)


def test_a_case_stands_for_each_network_form_and_batch_and_all_run_on_the_card(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "cuda_cards", lambda: 1)
    chosen = script.forms([engines.find("eager")])
    planned = script.cases(["alexnet", "vgg11"], chosen, (1, 256))
    assert len(planned) == 2 * 2 * len(chosen)
    assert {case.device for case in planned} == {"cuda"}
    assert {(case.model, case.batch_size) for case in planned} == {
        (model, batch_size) for model in ("alexnet", "vgg11") for batch_size in (1, 256)
    }
    assert {(case.engine, case.provider, case.layout, case.precision) for case in planned} == set(chosen)


def row(metric: str, value: float, **changes: Any) -> Measurement:
    conditions: dict[str, Any] = {
        "model": "alexnet", "engine": "eager", "layout": "NCHW", "precision": "float32", "batch_size": 4,
        "input_size": 224, "device": "cuda", "threads": 1, "system": "x", "origin": "benched",
        "scenario": "single-stream", "streams": 1, "grade": "A", "grade_reasons": (),
    }  # fmt: skip
    return Measurement(metric=metric, value=value, **conditions | changes)


def test_a_form_is_told_beside_eager_at_the_same_batch_and_a_failure_with_its_reason(script: Any) -> None:
    told = script.lines(
        [
            row("latency", 0.008),
            row("latency", 0.002, provider="cuda-graph", precision="float16"),
            row("latency", 0.003, batch_size=8, layout="NHWC"),
            row("failure", 1, engine="tensorrt", layout=None, grade_reasons=("Wrong outputs: all",)),
        ]
    )
    assert [line.split()[:2] for line in told] == [["alexnet", "4"]] * 2 + [
        ["alexnet", "8"],
        ["alexnet", "4"],
    ]
    assert "8.000 ms  1.000" in told[0]
    assert "eager cuda-graph NCHW float16" in told[1]
    assert "2.000 ms  0.250" in told[1]
    assert " - A" in told[2], "there is no eager in float32 at batch 8 to compare with"
    assert told[3].endswith("tensorrt float32: Wrong outputs: all")


def test_without_a_card_it_says_so_and_writes_nothing(script: Any, tmp_path: Path) -> None:
    if script.why_not() is None:
        pytest.skip("there is a card")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "rows.csv"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout == "PyTorch finds no CUDA device: nothing was measured\n"
    assert list(tmp_path.iterdir()) == []
