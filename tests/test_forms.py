"""benchmarks/forms.py: what it makes of kept rounds, and the page that shows them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[1]
HEAD = "model,batch_size,side,name,version,round,latency_s,samples\n"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("forms", ROOT / "benchmarks" / "forms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["forms"] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_fastest_form_in_float32_is_held_against_the_fastest_peer(script: Any, tmp_path: Path) -> None:
    rounds = {
        ("ours", "mnn"): (1.0, 2.0), ("ours", "ncnn"): (3.0, 3.0), ("ours", "openvino:int8"): (0.5, 0.5),
        ("peer", "torch"): (9.0, 9.0), ("peer", "onnxruntime"): (2.0, 4.0),
        ("peer", "PaddleClas"): (4.0, 8.0),
    }  # fmt: skip
    lines = [
        f"vgg11,1,{side},{name},1.0,{number},{seconds},5\n"
        for (side, name), both in rounds.items()
        for number, seconds in enumerate(both)
    ]
    (tmp_path / "kept.csv").write_text(HEAD + "".join(lines))
    told = script.tables(tmp_path / "kept.csv").splitlines()
    assert (
        "| vgg11 | mnn | 1500.00 | onnxruntime | 3000.00 | 0.500 [0.500, 0.500] | 0.250 [0.250, 0.250] |"
        in told
    )
    assert "geometric mean, batch 1, PaddleClas: 0.250 [0.250, 0.250] over 1 networks" in told


def test_rounds_are_compared_with_those_that_both_were_in(script: Any, tmp_path: Path) -> None:
    lines = "".join(f"vgg11,1,ours,mnn,1.0,{number},{1 + number},5\n" for number in range(5))
    lines += "vgg11,1,peer,torch,1.0,1,4.0,5\n"
    (tmp_path / "kept.csv").write_text(HEAD + lines)
    assert "| 0.500 [0.500, 0.500] |" in script.tables(tmp_path / "kept.csv")


def test_the_page_shows_what_the_kept_rounds_say(script: Any) -> None:
    page = (ROOT / "docs" / "fastest.md").read_text(encoding="utf-8")
    told = script.tables(ROOT / "docs" / "forms.csv")
    assert told.strip() in page
    mean = next(line for line in told.splitlines() if "batch 1, PaddleClas" in line).split(": ")[1].split()[0]
    assert f"in {mean} of the time of PaddleClas" in (ROOT / "README.md").read_text(encoding="utf-8")
