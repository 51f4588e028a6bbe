"""`fit --finetune`: networks trained on in the same folds, which ship only where they are surely better."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("safetensors")

from click.testing import CliRunner
from PIL import Image

import vertebra
from vertebra import bundles
from vertebra.cli import cli, fitted
from vertebra.data.preprocess import protocols
from vertebra.errors import InvalidInputError
from vertebra.measurements.subjects import SEEN
from vertebra.measuring.evaluation.paired import Pair
from vertebra.measuring.evaluation.racing import Outcome
from vertebra.reading.choice.contender import Contender
from vertebra.verbs import contenders, finetuning, shipping
from vertebra.zoo.graphs import drawing, store

MODEL = "squeezenet1_1"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `fit` hands to the fine-tuning of a toy that a fitted head already learns whole."""
    from safetensors.numpy import save_file

    place = tmp_path_factory.mktemp("finetuning")
    save_file(
        {key: drawing.draw(MODEL, key, shape) for key, _, shape in store.find(MODEL).parameters()},
        place / "own.safetensors",
    )
    generator = np.random.default_rng(0)
    for name, level in {"dark": 30, "bright": 200}.items():
        (place / "shades" / name).mkdir(parents=True)
        for number in range(8):
            blocks = (generator.integers(0, 50, (12, 12, 3)) + level).astype(np.uint8)
            image = Image.fromarray(blocks).resize((240, 240), Image.Resampling.BICUBIC)
            image.save(place / "shades" / name / f"{number}.png")
    seen: list[Any] = []
    patch = pytest.MonkeyPatch()
    patch.setenv("VERTEBRA_CACHE", str(place / "cache"))
    for module in (contenders, shipping):
        patch.setattr(module, "_CASE_S", 0.5)
    patch.setattr(finetuning, "MOST_EPOCHS", 1)
    real = finetuning.contend
    patch.setattr(finetuning, "contend", lambda *given: seen.append(given) or given[2])
    vertebra.fit(
        place / "shades", weights={MODEL: place / "own.safetensors"}, output=place / "out", latency="60s",
        engine="onnxruntime", folds=2, finetune="90s", table=place / "table.sqlite",
    )  # fmt: skip
    yield place, real, seen[0]
    patch.undo()


@pytest.mark.slow
def test_one_that_is_not_surely_better_stays_and_the_fitted_head_ships(asked):
    _, contend, (job, raced, done, place, budget_s) = asked
    assert budget_s == 90.0
    found = contend(job, raced, done, place, 3600.0)
    (one,) = found.finetuned
    assert (one.name, one.epochs, one.ships, one.held.total) == (MODEL, 1, False, 16)
    assert one.difference.low <= 0
    assert "surely right" in one.why
    assert not found.is_finetuned
    assert (found.bundle, found.quoted) == (done.bundle, done.quoted)
    assert f"{MODEL} trained on (1 epochs): {one.held.accuracy:.1%}; {one.why}" in fitted.text(found)
    assert fitted.record(found)["finetuned"][0]["gained_low"] == one.difference.low


@pytest.mark.slow
def test_one_that_is_surely_better_ships_with_what_it_was_trained_on(asked, monkeypatch):
    _, contend, (job, raced, done, place, _) = asked
    monkeypatch.setattr("vertebra.measuring.evaluation.paired.paired", lambda *_, **__: Pair(0.2, 0.1, 0.3))
    found = contend(job, raced, done, place, 3600.0)
    (one,) = found.finetuned
    assert one.ships
    assert "surely right more often: +10.0 to +30.0 points" in one.why
    kept = bundles.read(place)
    assert (found.quoted, found.accuracy) == (one.held, one.held.accuracy)
    assert kept.fitted.how.startswith("all layers trained on for 1 epochs")
    assert kept.fitted.accuracy == one.held.accuracy
    assert [label.name for label in kept.label_set()] == ["bright", "dark"]
    assert kept.network_sha256 != done.bundle.network_sha256
    evaluated = vertebra.evaluate(place, asked[0] / "shades", table=asked[0] / "table.sqlite")
    assert {row.split for row in evaluated.rows} == {SEEN}


def test_without_time_for_all_folds_nothing_is_trained_and_it_says_so(asked):
    _, contend, (job, raced, done, place, _) = asked
    (one,) = contend(job, raced, done, place, 0.001).finetuned
    assert (one.epochs, one.held) == (0, None)
    assert one.why.startswith("no time: an epoch takes")


def test_int8_is_refused_before_anything_runs(asked):
    with pytest.raises(InvalidInputError, match="int8 was asked for as well"):
        vertebra.fit(asked[0] / "shades", MODEL, finetune="1min", precision="int8")


def test_training_is_imported_only_where_it_is_asked_for():
    import subprocess
    import sys

    code = "import sys, vertebra.verbs.shipping; print('vertebra.training' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_command_passes_the_time(monkeypatch):
    seen: dict[str, Any] = {}
    monkeypatch.setattr(vertebra, "fit", lambda *_, **given: seen.update(given) or 1 / 0)
    CliRunner().invoke(cli, ["fit", "photos", "--finetune", "30min"])
    assert seen["finetune"] == "30min"


@pytest.mark.parametrize("tried", [False, True])
def test_a_network_is_trained_on_with_pictures_prepared_as_for_its_head(tmp_path, tried):
    from safetensors.numpy import save_file

    own = tmp_path / "own.safetensors"
    save_file({key: drawing.draw(MODEL, key, shape) for key, _, shape in store.find(MODEL).parameters()}, own)
    one = Contender(MODEL, str(own), None, {})
    trial = finetuning._Trial(SimpleNamespace(seed=0), one.otherwise() if tried else one, tmp_path)
    record = vertebra.zoo.facts(MODEL).preprocess
    assert trial._recipe(1, 64).evaluation == (protocols.whole(record) if tried else record)


def test_one_network_is_trained_on_once_however_often_it_was_tried():
    """Of each network the way that was right more often, of the one that ships the way that was chosen."""

    def outcome(name, network, accuracy):
        return Outcome(name, 1.0, 4, SimpleNamespace(accuracy=accuracy), None, "", network=network)

    a, b = (Contender(name, None, None, {}) for name in "ab")
    known = {one.label: one for each in (a, b) for one in (each, each.otherwise())}
    job = SimpleNamespace(sorted=SimpleNamespace(folds=(0, 0, 1, 1)), contender=known.get)
    outcomes = [outcome("a", "a", 0.8), outcome("a, whole pictures", "a", 0.81), outcome("b", "b", 0.7),
                outcome("b, whole pictures", "b", 0.72)]  # fmt: skip
    done = SimpleNamespace(winner=a)
    assert finetuning._few(job, SimpleNamespace(outcomes=outcomes), done) == [a, b.otherwise()]
