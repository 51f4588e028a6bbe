"""`train` with a teacher, in eight bits and pruned: what the run leaves, and the row that each ends in."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("safetensors")
pytest.importorskip("onnxscript")

from click.testing import CliRunner

import vertebra
from toys import CLASSES, SIDE, job, photos, recipe
from vertebra import bundles, zoo
from vertebra.cli import cli
from vertebra.errors import InvalidInputError
from vertebra.measurements import Table
from vertebra.training import loop
from vertebra.training.job import Hooks
from vertebra.zoo import checkpoints

RECIPE = """
from vertebra.data.preprocess import Preprocess
from vertebra.training.recipe import Recipe

def recipe(model):
    return Recipe(
        name="toy", epochs=2, batch=6, lr_batch=6, optimizer="adam", lr=0.0005, crop="evaluation",
        evaluation=Preprocess(input_size=({side}, {side}), resize={side}, interpolation="bilinear"),
    )
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compressed")
    photos(folder / "photos", 10)
    (folder / "toy.py").write_text(RECIPE.format(side=SIDE))
    return folder


def train(place: Path, name: str, model: str = "squeezenet1_1", **options: Any) -> Any:
    return vertebra.train(
        model, place / "photos", recipe=str(place / "toy.py"), output=place / name, threads=1, workers=0,
        table=place / "table.sqlite", **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(place: Path) -> Any:
    return train(place, "plain")


def test_a_run_in_eight_bits_leaves_an_int8_bundle_whose_accuracy_is_the_runs(place, plain):
    done = train(place, "rounded", weights=place / "plain", quantise="moving")
    kept = bundles.read(place / "rounded" / "int8")
    assert kept.precision == "int8"
    assert kept.quantisation["learnt_ranges"]["without_tensor"] == 0
    row = next(
        row for row in Table(place / "table.sqlite").rows() if row.network_sha256 == kept.network_sha256
    )
    assert row.precision == "int8"
    assert {row.value for row in done.rows if row.metric == "top1"} == {done.evaluated.evaluation.top1.value}
    (outcome,) = done.outcomes
    assert (outcome["before"], outcome["after"]) == ("before", "in eight bits")
    assert outcome["pictures"] == done.best["total"]
    assert outcome["top1_before"] == pytest.approx(plain.accuracy)
    assert outcome["top1"] == pytest.approx(done.accuracy, abs=1.5 / done.best["total"])
    assert outcome["bytes"] < 0.5 * outcome["bytes_before"]
    assert outcome["low"] <= outcome["gained"] <= outcome["high"]
    assert json.loads((place / "rounded" / "outcomes.json").read_text()) == {"outcomes": [dict(outcome)]}
    shown = CliRunner().invoke(cli, ["show", str(place / "rounded")]).output
    assert outcome["line"] in " ".join(shown.split())


@pytest.mark.slow
def test_a_pruned_run_goes_on_pruned_and_says_what_it_cost(place, plain):
    pytest.importorskip("torch_pruning")
    done = train(place, "pruned", weights=place / "plain", prune="50%")
    (outcome,) = done.outcomes
    assert outcome["bytes"] < 0.8 * outcome["bytes_before"]
    widths = checkpoints.compressed(place / "pruned" / "model.safetensors").widths
    assert widths
    again = train(place, "again", weights=place / "pruned", teacher="squeezenet1_1",
                  teacher_weights=place / "plain", teacher_share=0.7)  # fmt: skip
    assert checkpoints.compressed(place / "again" / "model.safetensors").widths == widths
    shapes = {name: tuple(one.shape) for name, one in
              zoo.build("squeezenet1_1", weights=place / "again").state_dict().items()}  # fmt: skip
    assert {name: shapes[name] for name in widths} == widths
    (taught,) = again.outcomes
    assert (taught["before"], taught["after"]) == ("squeezenet1_1", "squeezenet1_1")
    assert taught["top1_before"] == pytest.approx(plain.accuracy)
    assert taught["bytes"] < taught["bytes_before"]
    assert any("70% of the loss" in one for one in again.record["remarks"])


def test_a_run_goes_on_only_with_the_same_compression(place, plain):
    with pytest.raises(InvalidInputError, match="quantise"):
        vertebra.train(resume=place / "plain", quantise="moving", table=place / "table.sqlite")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantise": "moving", "prune": 0.5}, "lost channels"),
        ({"teacher_weights": "x.pth"}, "without its name"),
        ({"prune": "150%"}, "150%"),
        ({"quantise": "guessed"}, "guessed"),
        ({"quantise": "moving", "compile": True}, "operator by operator"),
        ({"quantise": "moving", "set": {"amp": "bf16"}}, "operator by operator"),
        ({"teacher": "squeezenet1_1", "teacher_weights": "plain", "teacher_share": 2.0}, "share"),
        ({"teacher": "nothing"}, "nothing"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(options, message, place, plain):
    if options.get("teacher_weights") == "plain":
        options = options | {"teacher_weights": place / "plain"}
    with pytest.raises(vertebra.errors.VertebraError, match=message):
        train(place, "refused", **options)
    assert not (place / "refused" / "run.json").exists()


@pytest.mark.slow
def test_an_acnet_is_trained_fused_proved_and_faster_or_said_not_to_be(place):
    done = train(place, "acnet", "resnet18_acnet")
    (outcome,) = done.outcomes
    assert (outcome["before"], outcome["after"]) == ("three branches", "fused")
    assert outcome["top1"] == outcome["top1_before"]
    assert outcome["gained"] == 0
    facts = zoo.facts("resnet18_acnet_deploy", place / "acnet" / "fused")
    assert facts.label_names == tuple(done.record["classes"])


def test_a_run_in_eight_bits_that_was_stopped_goes_on_to_the_same_bits(place, tmp_path):
    from vertebra.training import compressing

    wanted = compressing.Compression(quantise="learnt")

    def hooks(stop_at: int) -> Hooks:
        found, _ = compressing.hooks(wanted, recipe=recipe(), classes=CLASSES, steps=6)
        calls = 0

        def loss(answer: Any, images: Any, targets: Any, hard: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop_at:
                os.kill(os.getpid(), signal.SIGINT)
            return hard(answer(images), targets)

        return replace(found, loss=loss)

    whole = job(place / "photos", tmp_path / "whole", recipe=recipe(), hooks=hooks(0))
    assert loop.train(whole).is_whole
    stopped = job(place / "photos", tmp_path / "stopped", recipe=recipe(), hooks=hooks(4))
    assert not loop.train(stopped).is_whole
    assert loop.train(replace(stopped, resume=True, hooks=hooks(0))).is_whole
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()
    assert checkpoints.compressed(tmp_path / "whole" / "last.safetensors").ranges is not None
