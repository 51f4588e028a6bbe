"""What a file of weights states of itself, and a run's folder as others read it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from vertebra import zoo
from vertebra.bundles import runs
from vertebra.data.preprocess import Preprocess
from vertebra.errors import InvalidInputError, WeightsError
from vertebra.reading import charts

RECORD = Preprocess(input_size=(64, 64), resize=72, interpolation="bicubic")
STATED = {"version": 1, "classes": ["cat", "dog"], "preprocess": asdict(RECORD)}


def weights(path: Path, stated: Any) -> Path:
    state = zoo.build("squeezenet1_1", num_classes=2, seed=0).state_dict()
    save_file(state, path, {"vertebra": stated if isinstance(stated, str) else json.dumps(stated)})
    return path


def test_a_file_s_own_statement_is_what_counts(tmp_path: Path) -> None:
    facts = zoo.facts("squeezenet1_1", weights(tmp_path / "mine.safetensors", STATED))
    assert (facts.preprocess, facts.label_names, facts.input_size) == (RECORD, ("cat", "dog"), 64)
    assert (facts.labels, facts.assumed) == (None, ())


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({**STATED, "version": 9}, "version"),
        ("no JSON", "can't be read"),
        ({**STATED, "classes": ["cat"]}, "states 1 classes; its parameters are for 2"),
        ({"version": 1, "classes": ["cat", "dog"]}, "can't be used: 'preprocess' is missing"),
        ({**STATED, "preprocess": {**asdict(RECORD), "resize": 0}}, "can't be used: Preprocess: resize"),
    ],
    ids=["newer", "text", "classes", "missing", "value"],
)
def test_a_statement_that_can_t_be_used_is_refused(tmp_path: Path, stated: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        zoo.facts("squeezenet1_1", weights(tmp_path / "mine.safetensors", stated))


# ------------------------------------------------------------------ the folder


def test_a_run_is_read_without_the_line_that_was_never_finished(tmp_path: Path) -> None:
    (tmp_path / runs.RECORD).write_text('{"version": 1}')
    (tmp_path / runs.LOG).write_text('{"kind": "step", "step": 1}\n{"kind": "epoch", "epoch": 1}\n{"ki')
    kept = runs.read(tmp_path)
    assert (len(kept.log), len(kept.lines("epoch")), kept.result) == (2, 1, None)
    assert not kept.has_checkpoint
    assert not kept.has_weights


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "has no run.json"), ('{"version": 7}', "has version 7"), ("[]", "isn't a JSON object"),
     ("{", "Can't read")],
)  # fmt: skip
def test_a_folder_that_is_no_run_is_said_so(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / runs.RECORD).write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        runs.read(tmp_path)
    with pytest.raises(InvalidInputError, match="doesn't exist"):
        runs.read(tmp_path / "nothing")


def test_the_pictures_that_were_trained_on_are_those_of_other_parts(tmp_path: Path) -> None:
    (tmp_path / runs.RECORD).write_text('{"version": 1}')
    (tmp_path / runs.SPLIT).write_text("name,class,fold,group,sha256\na,x,0,0,11\nb,x,1,1,22\n")
    (tmp_path / runs.WEIGHTS).write_bytes(b"")
    for source in (tmp_path, tmp_path / runs.WEIGHTS):
        assert runs.trained_on(source) == {"22"}
    assert runs.trained_on(None) == runs.trained_on(tmp_path / "other.pth") == frozenset()


def test_curves_are_drawn_from_the_log() -> None:
    log = [
        {"kind": "step", "epoch": 1, "step": 5, "loss": 2.0, "top1": None, "rate": 0.1},
        {"kind": "step", "epoch": 1, "step": 10, "loss": 1.0, "top1": 0.5, "rate": 0.05},
        {"kind": "epoch", "epoch": 1, "step": 10, "evaluated": [{"weights": "raw", "top1": 0.4}]},
    ]
    chart = charts.curves_chart(log, 10, title="toys")
    assert [(row["metric"], row["of"], row["epoch"], row["value"]) for row in chart.data()] == [
        ("loss", "training", 0.5, 2.0), ("rate", "training", 0.5, 0.1), ("loss", "training", 1.0, 1.0),
        ("top1", "training", 1.0, 0.5), ("rate", "training", 1.0, 0.05), ("top1", "raw weights", 1.0, 0.4),
    ]  # fmt: skip
    assert chart.svg().startswith("<svg")
