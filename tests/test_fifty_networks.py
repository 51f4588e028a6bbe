"""The tool that exports networks drawn from timm: whom it draws, what it keeps, and when it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import fifty_networks

pytest.importorskip("timm")

TINY = ("timm:test_resnet", "timm:test_vit")


def line(model: str, engine: str = "openvino", **more: Any) -> dict[str, Any]:
    return {"model": model, "engine": engine, "output_error": 1e-6, "limit": 3e-4} | more


def test_a_seed_always_draws_the_same_networks_and_another_seed_others() -> None:
    pool = fifty_networks.candidates()
    drawn = fifty_networks.draw(pool, 50, 3)
    assert drawn == fifty_networks.draw(dict(reversed(pool.items())), 50, 3)
    assert len(set(drawn)) == 50
    assert set(drawn) != set(fifty_networks.draw(pool, 50, 4))


def test_the_draw_is_over_timm_up_to_the_bounds() -> None:
    pool = fifty_networks.candidates()
    assert {"timm:resnet50", "timm:vit_small_patch16_224"} < set(pool)
    assert not {"timm:vit_large_patch16_224", "resnet50", "torchvision:resnet50"} & set(pool)


def test_networks_are_exported_for_each_engine_and_a_second_run_only_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    arguments = [*TINY, "--out", str(out), "--memory-gb", "0"]
    assert fifty_networks.main(arguments) == 0
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert [(one["model"], one["engine"]) for one in lines] == [
        (name, engine) for name in TINY for engine in ("onnxruntime", "openvino")
    ]
    assert all(0 < one["output_error"] < one["limit"] for one in lines)
    monkeypatch.setattr(fifty_networks, "Exporter", None)  # nothing is left to export
    assert fifty_networks.main(arguments) == 0
    assert capsys.readouterr().out.count("2 of 2 networks pass.") == 2


def test_an_ended_run_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text(json.dumps(line(TINY[0], "onnxruntime")) + "\n")
    asked = []

    def outcomes(count: Any, wanted: list[str], timeout_s: float) -> Any:
        asked.append((count.model, wanted))
        return [line(count.model, engine) for engine in wanted]

    monkeypatch.setattr(fifty_networks, "outcomes", outcomes)
    assert fifty_networks.main([*TINY, "--out", str(out), "--memory-gb", "0"]) == 0
    assert asked == [(TINY[0], ["openvino"]), (TINY[1], ["onnxruntime", "openvino"])]


def test_more_than_a_tenth_of_failures_is_told_with_reasons_and_ends_with_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = [
        line(f"timm:net{number}", engine) for number in range(9) for engine in ("onnxruntime", "openvino")
    ]
    bad = [line("timm:bad"), line("timm:bad", "onnxruntime", failure="export: it melted")]
    assert fifty_networks.summary([*good, *bad]) == 0
    assert fifty_networks.summary([*good, *bad, line("timm:worse", failure="export: hung")]) == 1
    told = capsys.readouterr().out.splitlines()
    assert "failed: timm:bad onnxruntime: export: it melted" in told
    assert told[-1] == "9 of 11 networks pass."
