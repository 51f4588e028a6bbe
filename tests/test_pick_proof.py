"""A pick that measures little answers as one that measured everything: the benchmark that proves it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vertebra.campaigns import campaign, cases
from vertebra.measurements import Measurement, Table, shipped

#: All that was measured of one machine: `python benchmarks/pick_proof.py TABLE --measure N --csv THIS`.
EXHAUSTIVE = Path(__file__).parent / "exhaustive_rows.csv.gz"


def _benchmark() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "pick_proof.py"
    spec = importlib.util.spec_from_file_location("pick_proof", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pick_proof"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


proof = _benchmark()


def measured(
    model: str, seconds: float, engine: str = "onnxruntime", memory: float | None = None
) -> list[Measurement]:
    count = shipped.counts()[model]
    shared: dict[str, Any] = {
        "model": model, "origin": "benched", "engine": engine, "device": "cpu", "precision": "float32",
        "batch_size": 1, "threads": 1, "input_size": count.input_size, "system": "here",
        "scenario": "single-stream",
    }  # fmt: skip
    memory = 6e7 + 1.3 * count.weight_bytes if memory is None else memory
    return [
        Measurement(metric="latency", value=seconds, low=0.98 * seconds, high=1.02 * seconds, **shared),
        Measurement(metric="memory_total", value=memory, **shared),
    ]


def made_up(speed: Callable[[str], float], engines: tuple[str, ...] = ("onnxruntime",)) -> list[Measurement]:
    chosen = proof.networks(80)
    return [
        row for model in chosen for place, engine in enumerate(engines)
        for row in measured(model, speed(model) * (1 + 0.5 * place), engine)
    ]  # fmt: skip


def by_counts(model: str) -> float:
    count = shipped.counts()[model]
    return 2e-4 + count.macs / 3e10 + count.activations / 2e9


def test_the_networks_are_light_and_of_many_families_and_libraries() -> None:
    chosen = proof.networks(70)
    assert len(set(chosen)) == 70
    assert max(shipped.counts()[name].macs for name in chosen) <= proof.MOST_MACS
    assert {name.partition(":")[0] for name in chosen if ":" in name} == {"timm", "torchvision"}
    assert proof.networks(70, seed=1) != chosen


@pytest.mark.parametrize("engines", [("onnxruntime",), ("onnxruntime", "openvino")])
def test_few_measurements_answer_as_all_do(engines: tuple[str, ...]) -> None:
    answers = proof.replay(made_up(by_counts, engines), questions=5)
    assert all(answer.is_right for answer in answers)
    assert max(answer.share for answer in answers) <= proof.MOST_MEASURED
    assert any(answer.right is not None for answer in answers)


def test_a_wrong_answer_is_told() -> None:
    one, other = (
        proof.wide(measured(model, seconds))[0] for model, seconds in (("alexnet", 0.010), ("vgg16", 0.0105))
    )  # their intervals lie apart
    question = proof.Question((), "latency")
    assert not proof.Answer(question, other, one, 0, 0.0).is_right
    assert proof.Answer(question, None, None, 0, 0.0).is_right
    assert not proof.Answer(question, None, one, 0, 0.0).is_right


def test_a_file_holds_what_was_measured(tmp_path: Path) -> None:
    told = [*measured("alexnet", 0.01), *measured("vgg16", 0.1)]
    proof.write(told, tmp_path / "rows.csv.gz")
    assert proof.read(tmp_path / "rows.csv.gz") == told
    assert len(proof.read(EXHAUSTIVE)) > 0


def test_measuring_goes_on_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(cases: Any, table: Table, **_: Any) -> list[Measurement]:
        asked.extend(case.model for case in cases)
        return []

    monkeypatch.setattr(campaign, "measure", measure)
    monkeypatch.setattr(
        cases, "cases", lambda models, engines: [SimpleNamespace(model=model) for model in models]
    )
    first = proof.networks(8)[0]
    monkeypatch.setattr(
        cases, "remaining", lambda wanted, told: [case for case in wanted if case.model != first]
    )
    proof.measure(Table(tmp_path / "table.sqlite"), 8, ["onnxruntime"], 60.0, 0)
    assert asked == proof.networks(8)[1:]
    proof.measure(Table(tmp_path / "table.sqlite"), 8, ["onnxruntime"], 0.0, 0)
    assert len(asked) == 7


def test_this_machine_s_catalogue_is_answered_right_from_few_measurements() -> None:
    told = proof.read(EXHAUSTIVE)
    answers = proof.replay(told)
    assert len(answers) == 20
    assert [str(answer.question) for answer in answers if not answer.is_right] == []
    assert len({row.model for row in told}) >= 60
    shares = sorted(answer.share for answer in answers)
    assert shares[len(shares) // 2] <= proof.MOST_MEASURED / 2
    assert sum(share > proof.MOST_MEASURED for share in shares) <= 2


@pytest.mark.parametrize(
    ("known", "true_ms", "kind"),
    [
        ({"alexnet": (9, 8, 10)}, {"alexnet": 9, "vgg16": 30}, "right"),
        ({"alexnet": (9, 8, 10)}, {"alexnet": 25, "vgg16": 30}, "WRONG"),  # the choice misses the limit
        ({"alexnet": (9, 8, 10), "vgg16": (50, 40, 60)}, {"alexnet": 9, "vgg16": 15}, "WRONG"),  # ruled out
        ({"alexnet": (9, 8, 10), "vgg16": (50, 12, 60)}, {"alexnet": 9, "vgg16": 15}, "open"),
        ({"alexnet": (30, 8, 40), "vgg16": (50, 12, 60)}, {"alexnet": 9, "vgg16": 30}, "can't tell"),
        ({"alexnet": (30, 25, 40), "vgg16": (50, 42, 60)}, {"alexnet": 30, "vgg16": 50}, "right"),
    ],
)  # fmt: skip
def test_answers_on_a_disturbed_machine_are_judged_by_the_truth(
    known: dict[str, tuple[float, float, float]], true_ms: dict[str, float], kind: str
) -> None:
    """At most 20 ms; vgg16 is the more accurate."""
    accuracies = [row for row in proof.shipped_rows() if row.model in true_ms and row.metric == "top1"]

    def rows(values: dict[str, Any]) -> Any:
        made = []
        for model, value in values.items():
            middle, low, high = value if isinstance(value, tuple) else (value, value, value)
            (row, _) = measured(model, middle / 1e3)
            made.append(proof.replace(row, low=low / 1e3, high=high / 1e3))
        return proof.wide([*accuracies, *made])

    question = proof.Question((proof.Limit("latency", 0.020),), "top1")
    said = rows({**{model: (100, 10, 200) for model in true_ms}, **known})
    picked = proof.rule.pick(said, question.limits)
    assert proof.judge(question, picked, said, rows(true_ms)).kind == kind


def test_no_answer_on_a_disturbed_machine_is_wrong() -> None:
    quiet, noisy = proof.disturbances()
    assert (len(quiet), len(noisy)) == (30, 30)
    assert max(one.value for one in noisy) > 10 > 1.3 > max(one.value for one in quiet)
    for share in (0.5, 1.0):
        kinds = [one.kind for one in proof.disturbed_replay(proof.read(EXHAUSTIVE), share, questions=4)]
        assert "WRONG" not in kinds
