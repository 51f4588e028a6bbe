"""The benchmark that asks one survey a hundred questions and has another judge the answers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from vertebra.measurements import Measurement, WideRow
from vertebra.reading.choice.rule import Limit

_PATH = Path(__file__).parent.parent / "benchmarks" / "limit_sets.py"
_SPEC = importlib.util.spec_from_file_location("limit_sets", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
limit_sets = importlib.util.module_from_spec(_SPEC)
sys.modules["limit_sets"] = limit_sets  # where dataclasses look their module up
_SPEC.loader.exec_module(limit_sets)


def network(name: str, top1: float, ms: float, half: float = 0.1) -> WideRow:
    accuracy = Measurement(model=name, metric="top1", value=top1, origin="published")
    told = {"engine": "onnxruntime", "device": "cpu", "precision": "float32", "batch_size": 1, "threads": 2,
            "input_size": 224, "scenario": "single-stream", "system": "here"}  # fmt: skip
    latency = Measurement(
        model=name, metric="latency", value=ms / 1e3, low=ms / 1e3 / (1 + half), high=ms / 1e3 * (1 + half),
        origin="benched", **told,
    )  # fmt: skip
    fps = latency.like(metric="fps", value=1e3 / ms, low=1e3 / ms / (1 + half), high=1e3 / ms * (1 + half))
    return WideRow(name, {"engine": "onnxruntime"}, {"top1": accuracy, "latency": latency, "fps": fps})


def survey(small: float, large: float, half: float = 0.1) -> list[WideRow]:
    """Two networks by their milliseconds."""
    return [network("small", 0.6, small, half), network("large", 0.8, large, half)]


FIRST = survey(5.0, 20.0)


@pytest.mark.parametrize(
    ("second", "bound_ms", "verdict"),
    [
        (FIRST, 10, "sure"),  # the small one, and the large one surely doesn't
        (FIRST, 30, "sure"),  # the large one
        (FIRST, 1, "sure"),  # none
        (FIRST, 21, "can't tell"),  # the large one may
        (FIRST, 5.2, "can't tell"),  # the small one may
        (survey(5.0, 40.0), 30, "wrong"),  # the large one doesn't
        (survey(5.0, 32.0), 30, "sure"),  # it may
        (survey(5.0, 8.0), 10, "wrong"),  # the large one does
        (survey(5.0, 9.5), 10, "sure"),  # it may
        (survey(0.5, 20.0), 1, "wrong"),  # the small one does
    ],
)
def test_an_answer_is_wrong_only_where_the_other_survey_is_sure_of_the_opposite(
    second: list[WideRow], bound_ms: float, verdict: str
) -> None:
    found = limit_sets.judged((Limit("latency", bound_ms / 1e3),), FIRST, second)
    assert found.verdict == verdict


def test_sets_are_drawn_the_same_from_one_seed_and_lie_within_what_was_measured() -> None:
    every = limit_sets.drawn([*FIRST], 50, seed=3, others=())
    assert every == limit_sets.drawn([*FIRST], 50, seed=3, others=())
    assert every != limit_sets.drawn([*FIRST], 50, seed=4, others=())
    bounds = [limit.bound for limits in every for limit in limits if limit.metric == "latency"]
    assert bounds
    assert all(0.0049 < bound < 0.0201 for bound in bounds)
    assert len(set(bounds)) > 5
