"""Whether the intervals of repeated runs hold each other's values."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from vertebra.cli import cli
from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, Table, calibration, spread
from vertebra.measurements.spread import Seen


def _benchmark() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibration_benchmark"] = module
    spec.loader.exec_module(module)
    return module


benchmark = _benchmark()


def run(model: str, ms: float, minute: int = 0, **more: Any) -> Measurement:
    row = Measurement(
        model=model, metric="latency", value=ms / 1e3, low=0.99 * ms / 1e3, high=1.01 * ms / 1e3,
        origin="benched", engine="onnxruntime", device="cpu", precision="float32", batch_size=1, threads=1,
        input_size=224, scenario="single-stream", system="here",
        measured_at=f"2026-11-01T{12 + minute // 60}:{minute % 60:02}:00+00:00",
    )  # fmt: skip
    return replace(row, **more)


def test_of_drawn_runs_nineteen_in_twenty_survey_intervals_hold_and_few_of_the_runs_own():
    draw, known = random.Random(3), spread.prior()
    deviation = math.sqrt(known.times**2 + known.processes**2 + known.blocks**2 / 8)
    rows = [
        run(f"net{number}", 10 * math.exp(draw.gauss(0, deviation)), 60 * place)
        for number in range(60) for place in range(4)
    ]  # fmt: skip
    found = calibration.examine(rows, {}, learn=False)
    assert found.forms == 60
    assert found.quiet[1].pairs == 60 * 12
    assert 0.92 <= found.quiet[1].survey / found.quiet[1].pairs <= 0.99
    assert found.quiet[1].own < 0.5 * found.quiet[1].pairs
    assert found.quiet[1].own_half_width == pytest.approx(0.01)
    assert found.disturbed.pairs == 0


def test_the_spread_is_split_between_samples_processes_and_times():
    draw = random.Random(5)
    rows = []
    for number in range(80):
        for hour in range(3):
            level = draw.gauss(0, 0.06)
            for place in range(3):
                log = math.log(10) + level + draw.gauss(0, math.hypot(0.03, 0.01 / 1.96))
                rows.append(run(f"net{number}", math.exp(log), 120 * hour + place))
    split = calibration.examine(rows, {}).split
    assert split.samples == pytest.approx(0.01 / 1.96, rel=0.01)
    assert split.processes == pytest.approx(0.03, rel=0.15)
    assert split.times == pytest.approx(0.06, rel=0.15)


def test_of_a_disturbed_and_a_quiet_run_the_disturbed_ones_interval_is_asked():
    noisy, quiet = run("net", 30, run="noisy"), run("net", 10, 2, run="quiet")
    found = calibration.examine([noisy, quiet], {"noisy": Seen(1, 8, 0.5), "quiet": Seen(1, 8, 0.0)})
    assert (found.disturbed.pairs, found.disturbed.survey, found.disturbed.own) == (1, 1, 0)
    assert not found.quiet
    assert found.split == calibration.Split(None, None, None)


def test_the_command_tells_of_a_table_and_measures_nothing(tmp_path):
    table = Table(tmp_path / "t.sqlite")
    for place, ms in enumerate((10, 10.2, 30)):
        table.append([run("net", ms, place)])
    given = ["doctor", "--calibration", "--table", str(table.path)]
    shown = CliRunner().invoke(cli, given)
    assert shown.exit_code == 0, shown.output
    assert "1 form was measured more than once" in shown.output
    assert "33.3 %" in shown.output  # 10 and 10.2 hold each other, 30 holds and is held by none
    (found,) = json.loads(CliRunner().invoke(cli, [*given, "--json"]).stdout)
    assert (found["quiet"]["1"]["pairs"], found["quiet"]["1"]["survey"]) == (6, 2)
    assert vertebra.doctor(calibration=True, table=table.path).quiet[1].survey == 2


def test_a_table_without_repeats_is_refused(tmp_path):
    table = Table(tmp_path / "t.sqlite")
    table.append([run("net", 10)])
    with pytest.raises(InvalidInputError, match="No form in the table was measured twice"):
        vertebra.doctor(calibration=True, table=table.path)


def test_the_kept_repeats_are_covered_as_asked_also_where_the_prior_was_not_fitted():
    rows, seen = benchmark.evidence([])
    forms = calibration.repeated(rows, seen)
    for some in (forms, benchmark.halves(forms)[1]):
        own = [row for runs in some for row, _ in runs]
        one = calibration.examine(own, seen).quiet[1]
        assert benchmark.LEAST <= one.survey / one.pairs <= benchmark.MOST
        assert one.own / one.pairs < 0.55
        assert one.half_width <= benchmark.HALF_WIDTHS[1]


def test_the_shipped_prior_is_what_the_fit_gives():
    rows, seen = benchmark.evidence([])
    forms = calibration.repeated(rows, seen)
    found = benchmark.fit(benchmark.halves(forms)[0], forms)
    known = spread.prior()
    for name, value in found.items():
        assert getattr(known, name) == pytest.approx(value, rel=0.05), name
    assert "30 runs of 3 forms" in known.evidence


def test_runs_that_end_where_a_surveys_do_hold_each_others_values_too():
    whole, seen_whole = benchmark.evidence([])
    rows, seen = benchmark.evidence([], brief=True)
    quiet = [run for run, one in seen_whole.items() if one.others < 0.1]
    assert len(quiet) == 30
    assert sum(seen[run].blocks for run in quiet) < sum(seen_whole[run].blocks for run in quiet) / 1.5
    assert all(seen[run].blocks <= seen_whole[run].blocks for run in seen_whole)
    assert {one.processes for one in seen.values()} == {1}
    assert len(rows) == len(whole)
    found = calibration.examine(rows, seen).quiet[1]
    assert found.survey >= benchmark.LEAST * found.pairs
    assert found.half_width <= benchmark.HALF_WIDTHS[1]
