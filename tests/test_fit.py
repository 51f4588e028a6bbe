"""`vertebra fit`: from pictures and limits to a Bundle with one's own classes, and what is refused before."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vertebra
from vertebra.cli import fitted
from vertebra.errors import (
    BundleError,
    DownloadError,
    InvalidInputError,
    MeasurementError,
    VertebraError,
)
from vertebra.inference import kept_features, loading
from vertebra.machine import downloads
from vertebra.measuring.evaluation.paired import Pair
from vertebra.measuring.evaluation.racing import Outcome
from vertebra.reading.choice.contender import MissedLimitError
from vertebra.verbs import contenders, fitting, rounded, shipping
from vertebra.zoo.graphs import drawing, store

MODEL = "squeezenet1_1"
EASY = {"latency": "60s", "engine": "onnxruntime", "folds": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Drawn parameters of SqueezeNet 1.1 as a file of weights."""
    from safetensors.numpy import save_file

    place = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_file(
        {key: drawing.draw(MODEL, key, shape) for key, _, shape in store.find(MODEL).parameters()}, place
    )
    return place


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Dark and bright pictures with noise of their own, eight of each."""
    return painted(tmp_path_factory.mktemp("data") / "shades", {"dark": 30, "bright": 200}, 8)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Measurements of half a second."""
    for module in (contenders, shipping):
        monkeypatch.setattr(module, "_CASE_S", 0.5)
    monkeypatch.setattr(shipping, "_AGAIN_S", 1.5)


def painted(folder: Path, levels: dict[str, int], count: int, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for name, level in levels.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            blocks = generator.integers(0, 50, (12, 12, 3)) + level
            image = Image.fromarray(blocks.astype(np.uint8)).resize((240, 240), Image.Resampling.BICUBIC)
            image.save(folder / name / f"{number}.png")
    return folder


@contextlib.contextmanager
def fit_in(place: Path, pictures: Path, weights: Path, **options: Any) -> Iterator[tuple[Path, Any]]:
    """A fit with its own cache, table and folder in `place`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_CACHE", str(place / "cache"))
        for module in (contenders, shipping):
            patch.setattr(module, "_CASE_S", 0.5)
        yield (
            place,
            vertebra.fit(pictures, weights={MODEL: weights}, table=place / "table.sqlite", **EASY, **options),
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory, weights, pictures):
    """A fit, with its table and folder."""
    place = tmp_path_factory.mktemp("fit")
    with fit_in(place, pictures, weights, output=place / "shades", save=place / "details") as found:
        yield found


def test_a_learnable_toy_is_learnt_whole(made):
    place, done = made
    assert (done.accuracy, done.race.nested.total, done.race.nested.learnt) == (1.0, 16, True)
    assert done.winner.name == MODEL
    assert done.bundle.folder == place / "shades"
    assert [label.name for label in done.bundle.label_set()] == ["bright", "dark"]
    assert done.bundle.fitted.accuracy == 1.0
    assert done.bundle.fitted.classes == (("bright", 8), ("dark", 8))
    assert all(limit.verdict(done.row) == "met" for limit in done.limits)


def test_the_bundle_answers_at_every_end(made, pictures):
    place, done = made
    new = painted(place / "new", {"dark": 40, "bright": 190}, 3, seed=1)
    found = vertebra.predict(*sorted(new.rglob("*.png")), model=place / "shades", top=1)
    assert [one.top[0].name for one in found] == ["bright"] * 3 + ["dark"] * 3
    evaluated = vertebra.evaluate(place / "shades", new, table=place / "table.sqlite", name="new")
    assert evaluated.evaluation.top1.value == 1.0
    picked = vertebra.pick(
        latency="60s", origin="evaluated", dataset=done.inspection.identity, among="table",
        table=place / "table.sqlite",
    )  # fmt: skip
    assert picked.choice.figures["top1"].value == 1.0
    assert picked.choice.figures["latency"].origin == "benched"
    assert picked.choice.figures["latency"].network_sha256 == done.bundle.network_sha256


def test_details_are_saved(made):
    place, _ = made
    assert {path.name for path in (place / "details").iterdir()} == {
        "classes.csv", "confusion.csv", "networks.csv", "pictures.json", "split.csv",
    }  # fmt: skip
    lines = (place / "details" / "classes.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["class", "bright", "dark"]
    assert len((place / "details" / "split.csv").read_text().splitlines()) == 17


def test_a_second_run_decodes_and_computes_nothing(made, weights, pictures, monkeypatch):
    place, done = made
    from vertebra.data import fingerprints
    from vertebra.inference.loading import Loaded

    monkeypatch.setattr(fingerprints, "_of_image", lambda *_: pytest.fail("a picture was decoded again"))

    monkeypatch.setenv("VERTEBRA_CACHE", str(place / "cache"))
    monkeypatch.setattr(Loaded, "features", lambda *_: pytest.fail("features were computed again"))
    monkeypatch.setattr(contenders.campaign, "measure", lambda *_, **__: pytest.fail("measured again"))
    again = vertebra.fit(
        pictures, weights={MODEL: weights}, output=place / "again", table=place / "table.sqlite", **EASY
    )
    assert again.accuracy == done.accuracy
    assert again.bundle.network_sha256 == done.bundle.network_sha256


def test_a_head_that_learnt_nothing_is_not_shipped(tmp_path, weights):
    folder = painted(tmp_path / "noise", {"a": 100, "b": 100}, 8)
    asked = {"weights": {MODEL: weights}, "output": tmp_path / "out", "table": tmp_path / "t.sqlite", **EASY}
    with pytest.raises(MeasurementError, match="no sure difference") as raised:
        vertebra.fit(folder, **asked)
    assert "--anyway" in raised.value.hint
    assert not (tmp_path / "out").exists()
    done = vertebra.fit(folder, anyway=True, **asked)
    assert not done.race.nested.learnt
    assert (tmp_path / "out" / "vertebra.json").is_file()


@pytest.mark.parametrize(
    ("classes", "asked", "message", "hint"),
    [
        ({"a": 3}, {}, "one class, a", "at least two classes"),
        ({"a": 0, "b": 0}, {}, "not a data set: it contains 2 folders", None),
        ({"a": 3, "b": 1}, {}, "The class b has a single picture", "at least 2"),
        ({"a": 3, "b": 3}, {"speed": 3}, 'no limit "speed"', "latency, fps"),
        ({"a": 3, "b": 3}, {"networks": 0}, "0 networks were asked for", None),
        ({"a": 3, "b": 3}, {"engine": "ncnn"}, "fit doesn't run on ncnn", "onnxruntime"),
        ({"a": 3, "b": 3}, {"weights": {}, "models": ["resnet50_acnet"]}, "be checked", "accept_unverified"),
        ({"a": 3, "b": 3}, {"models": ["nonesuch"], "weights": {}}, "nonesuch", None),
        ({"a": 3, "b": 3}, {"weights": {MODEL: "absent.pth"}}, "absent.pth", None),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused_before_anything_runs(
    tmp_path, weights, monkeypatch, classes, asked, message, hint
):
    import re

    folder = tmp_path / "data"
    for number, (name, count) in enumerate(classes.items()):
        painted(folder, {name: 60 + 100 * number}, count, seed=number)
    monkeypatch.setattr(
        contenders.campaign, "measure", lambda *_, **__: pytest.fail("something was measured")
    )
    models = asked.pop("models", [])
    options = {"weights": {MODEL: weights}, "table": tmp_path / "t.sqlite", **EASY, **asked}
    with pytest.raises(InvalidInputError, match=message) as raised:
        vertebra.fit(folder, *models, output=tmp_path / "out", **options)
    assert hint is None or re.search(hint, raised.value.hint)
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken_is_refused_first(tmp_path, pictures, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("kept")
    monkeypatch.setattr(fitting, "look", lambda *_, **__: pytest.fail("pictures were read"))
    with pytest.raises(BundleError, match="is not a Bundle"):
        vertebra.fit(pictures, output=tmp_path / "mine", **EASY)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "kept"


def test_limits_that_no_network_meets_name_the_miss(tmp_path, weights, pictures):
    asked = {**EASY, "latency": "1us"}
    with pytest.raises(
        InvalidInputError, match=r"squeezenet1_1: it misses the limits: latency .* limit 1\.00 µs"
    ) as raised:
        vertebra.fit(
            pictures, weights={MODEL: weights}, output=tmp_path / "out",
            table=tmp_path / "t.sqlite", **asked,
        )  # fmt: skip
    assert "relax a limit" in raised.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("told", ["There is no connection", "VERTEBRA_OFFLINE forbids the network"])
def test_without_weights_and_connection_it_ends_before_anything_runs(tmp_path, pictures, monkeypatch, told):
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VERTEBRA_OFFLINE", "1" if "OFFLINE" in told else "")
    monkeypatch.setattr(downloads, "reachable", lambda _: False)
    monkeypatch.setattr(fitting, "look", lambda *_, **__: pytest.fail("pictures were read"))
    with pytest.raises(InvalidInputError, match=f"{told}, and the cache has no") as raised:
        vertebra.fit(pictures, output=tmp_path / "out", table=tmp_path / "t.sqlite", fps=30)
    assert "--weights MODEL=FILE" in raised.value.hint


def test_without_a_connection_only_weights_in_the_cache_are_considered(monkeypatch):
    asked = []

    def checked(name, *_):
        assert downloads.offline()
        asked.append(name)
        if name != MODEL:
            raise DownloadError("it is not in the cache")
        return name

    monkeypatch.setattr(downloads, "reachable", lambda _: False)
    monkeypatch.setattr(contenders, "_checked", checked)
    assert contenders.at_hand(contenders.Search(None, None, ())) == [MODEL]
    assert asked == list(store.names())
    assert not downloads.offline()


def test_a_picture_in_two_classes_is_refused_or_left_out(tmp_path):
    folder = painted(tmp_path / "data", {"dark": 30, "bright": 200}, 4)
    (folder / "bright" / "copy.png").write_bytes((folder / "dark" / "0.png").read_bytes())
    data = fitting.opened(folder, split=None)
    asked = {"count": 2, "group": None, "seed": 0, "strict": False, "progress": None}
    with pytest.raises(InvalidInputError, match="same picture in two classes") as raised:
        fitting.look(data, **asked)
    assert '--conflicts "leave out"' in raised.value.hint
    assert fitting.look(data, **asked, conflicts="leave out").inspection.classes == (
        ("bright", 4), ("dark", 3),
    )  # fmt: skip


def test_the_last_lines_name_the_runner_up_and_what_a_limit_left_out(made):
    _, done = made
    pair = Pair(-0.054, -0.094, -0.016)
    second = Outcome("slow_one", 24.8, 481, done.held, pair, "surely less often right")
    text = fitted.text(replace(
        done, race=replace(done.race, outcomes=(*done.race.outcomes, second)),
        failures={"alexnet": MissedLimitError("latency 30 ms, limit 10 ms"),
                  "resnet18": InvalidInputError("no file")},
    ))  # fmt: skip
    assert "Runner-up: slow_one, 24.8 ms: -5.4 points of top-1 (-9.4 to -1.6 points) on 481 pictures." in text
    assert "With a relaxed limit alexnet competes too: latency 30 ms, limit 10 ms." in text
    assert "resnet18" not in text
    assert "your own file; it states no licence" in text


def test_a_notebook_shows_the_worst_mistakes(made):
    _, done = made
    assert "<img" not in done._repr_html_()
    swapped = replace(done, held=replace(done.held, logits=-done.held.logits))
    page = swapped._repr_html_()
    assert (page.count('src="data:image/jpeg;base64,'), page.count('<li class="wrong"')) == (12, 12)


def test_a_killed_run_goes_on_from_the_features_it_had(tmp_path, weights):
    """The process is killed when half of the features are there; no Bundle is left."""
    folder = painted(tmp_path / "shades", {"dark": 30, "bright": 200}, 40)
    script = f"""
import os, signal
import vertebra
from vertebra.verbs import contenders
contenders._CASE_S = 0.5

def listen(event):
    if event.text.startswith("features of") and event.done >= 64:
        os.kill(os.getpid(), signal.SIGKILL)

vertebra.fit({str(folder)!r}, weights={{{MODEL!r}: {str(weights)!r}}}, output="out", latency="60s",
             engine="onnxruntime", folds=2, progress=listen)
"""
    environment = {**os.environ, "VERTEBRA_TABLE": str(tmp_path / "t.sqlite"),
                   "VERTEBRA_CACHE": str(tmp_path / "cache")}  # fmt: skip
    killed = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    again = script.replace("signal.SIGKILL)", "0)").replace("vertebra.fit(", "done = vertebra.fit(")
    again = again.replace("def listen(event):", "seen = []\ndef listen(event):\n    seen.append(event)")
    again += """
first = [event.done for event in seen if event.text.startswith("features of")][0]
print(first, done.accuracy)
"""
    told = subprocess.run(
        [sys.executable, "-c", again], cwd=tmp_path, env=environment, check=True, capture_output=True,
        text=True,
    ).stdout.split()  # fmt: skip
    assert int(told[0]) >= 32
    assert float(told[1]) == 1.0
    assert (tmp_path / "out" / "vertebra.json").is_file()


def test_a_network_that_takes_the_choice_s_place_is_told_with_its_own_accuracy(made):
    from dataclasses import replace

    from vertebra.cli import fitted

    _, done = made
    own = replace(done.held, accuracy=0.5, low=0.4, high=0.6)
    other = replace(
        done, held=own, race=replace(done.race, winner="alexnet"), unmet={"alexnet": "latency 2 s, limit 1 s"}
    )
    assert (other.accuracy, other.interval) == (0.5, (0.4, 0.6))
    assert fitted.record(other)["top1"] == 0.5
    told = " ".join(fitted._head(other)[1:2])
    assert "50.0%" in told
    assert "alexnet was chosen, but missed a limit" in " ".join(told.split())


def test_what_is_asked_of_a_network_binds_for_named_ones_too(tmp_path, weights, pictures):
    asked = {"output": tmp_path / "out", "table": tmp_path / "t.sqlite", **EASY}
    with pytest.raises(InvalidInputError, match="squeezenet1_1: family squeezenet, wanted: resnet"):
        vertebra.fit(pictures, weights={MODEL: weights}, family="resnet", **asked)
    with pytest.raises(InvalidInputError, match="files of your own state none"):
        vertebra.fit(pictures, weights={MODEL: weights}, licence="mit", **asked)


def test_a_broken_training_split_is_an_error_and_no_other_is_read(tmp_path):
    painted(tmp_path / "set" / "val", {"a": 60, "b": 160}, 3)
    painted(tmp_path / "set" / "train", {"a": 60, "b": 160}, 0)
    with pytest.raises(InvalidInputError, match="train"):
        fitting.opened(tmp_path / "set", split=None)
    (tmp_path / "set" / "train").rename(tmp_path / "set" / "test")
    painted(tmp_path / "set" / "train", {"a": 60, "b": 160}, 2)
    opened = fitting.opened(tmp_path / "set", split=None)
    assert opened.split == "train"
    assert "the split train is read, not val; to choose: --split" in opened.assumed
    assert fitting.opened(tmp_path / "set", split="val").assumed == ()


def test_a_second_run_fits_no_head_again_and_another_question_does(made, weights, pictures, monkeypatch):
    """Whatever changes, a label, a picture, the folds or an option, is computed."""
    place, done = made
    from vertebra.measuring.evaluation import logistic

    fits: list[int] = []
    path = logistic.path
    monkeypatch.setattr(logistic, "path", lambda *given, **how: fits.append(1) or path(*given, **how))
    monkeypatch.setenv("VERTEBRA_CACHE", str(place / "cache"))

    def again(folder=pictures, **changed):
        fits.clear()
        asked = {"weights": {MODEL: weights}, "output": place / "again", "table": place / "table.sqlite"}
        return vertebra.fit(folder, **{**asked, **EASY, **changed})

    same = again()
    assert not fits
    assert same.bundle.network_sha256 == done.bundle.network_sha256
    assert (same.accuracy, same.interval, same.race.curve) == (done.accuracy, done.interval, done.race.curve)
    np.testing.assert_array_equal(same.race.nested.logits, done.race.nested.logits)
    monkeypatch.setattr(shipping, "ship", lambda job, raced, *_, **__: raced)
    for changed in ({"balanced": True}, {"seed": 1}, {"folds": 3}):
        again(**changed)
        assert fits, changed
    moved = place / "moved"
    shutil.copytree(pictures, moved / "shades")
    (moved / "shades" / "dark" / "3.png").rename(moved / "shades" / "bright" / "33.png")
    wrong = again(moved / "shades", anyway=True)
    assert fits
    assert wrong.nested.right < 16
    with Image.open(pictures / "dark" / "0.png") as image:
        image.point(lambda level: level + 3).save(moved / "shades" / "bright" / "33.png")
    again(moved / "shades", anyway=True)
    assert fits


def test_fit_leaves_torch_alone_where_it_is_installed(tmp_path, pictures):
    """Importing it takes seconds and hundreds of megabytes, and nothing of fit needs it."""
    pytest.importorskip("torchvision")
    from safetensors.numpy import save_file

    name = f"torchvision:{MODEL}"
    save_file(
        {key: drawing.draw(name, key, shape) for key, _, shape in store.find(name).parameters()},
        tmp_path / "own.safetensors",
    )
    script = f"""
import sys
import vertebra
from vertebra.verbs import contenders, fitting, rounded, shipping
contenders._CASE_S = shipping._CASE_S = 0.5
vertebra.fit({str(pictures)!r}, weights={{{name!r}: "own.safetensors"}}, output="out", latency="60s",
             engine="onnxruntime", folds=2)
print(sorted({{"torch", "torchvision", "timm"}} & sys.modules.keys()))
"""
    environment = {**os.environ, "VERTEBRA_TABLE": str(tmp_path / "t.sqlite"),
                   "VERTEBRA_CACHE": str(tmp_path / "cache")}  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    assert told.stdout == "[]\n"


def test_rounds_do_not_repeat_what_is_there(made, weights, pictures, monkeypatch):
    place, _ = made
    monkeypatch.setenv("VERTEBRA_CACHE", str(place / "cache"))
    told = []
    vertebra.fit(
        pictures, weights={MODEL: weights}, output=place / "again", table=place / "table.sqlite",
        progress=lambda event: told.append(event.text), **EASY,
    )  # fmt: skip
    assert not [text for text in told if text.startswith("features of")]


def test_a_network_s_features_of_all_pictures_are_read_once(made, weights, pictures, monkeypatch):
    place, _ = made
    monkeypatch.setenv("VERTEBRA_CACHE", str(place / "cache"))
    calls, given = [], kept_features.features
    monkeypatch.setattr(kept_features, "features", lambda *a, **k: calls.append(len(a[2])) or given(*a, **k))
    vertebra.fit(
        pictures, weights={MODEL: weights}, output=place / "once", table=place / "table.sqlite", **EASY
    )
    assert calls == [16, 16]  # as for the weights, and whole


def test_the_card_says_plainly_what_is_known_of_the_licence_of_ones_own_weights(made):
    place, done = made
    page = (place / "shades" / "README.md").read_text()
    assert (
        "These weights are a file of your own, which states no licence: the terms on which you have it "
        in page
    )
    assert "authors" not in page
    assert done.bundle.fitted.permits.startswith("these weights are a file of your own")


@pytest.mark.parametrize(
    ("precision", "message", "hint"),
    [("bfloat16", "fit makes no Bundle in bfloat16", "eval BUNDLE PICTURES --precision bfloat16"),
     ("int9", "fit makes no Bundle in int9", "made in: int8, int8-weights")],
)  # fmt: skip
def test_a_precision_without_a_bundle_of_its_own_is_refused_first(
    tmp_path, pictures, monkeypatch, precision, message, hint
):
    monkeypatch.setattr(fitting, "opened", lambda *_, **__: pytest.fail("pictures were read"))
    with pytest.raises(InvalidInputError, match=message) as raised:
        vertebra.fit(pictures, output=tmp_path / "out", precision=precision, **EASY)
    assert hint in raised.value.hint


def test_too_few_pictures_to_round_with_are_told_before_anything_is_measured(tmp_path, weights, monkeypatch):
    folder = painted(tmp_path / "shades", {"dark": 30, "bright": 200}, 8)
    monkeypatch.setattr(contenders.campaign, "measure", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(InvalidInputError, match="8 pictures are left; int8 is calibrated on at least 16"):
        vertebra.fit(
            folder, weights={MODEL: weights}, output=tmp_path / "out", table=tmp_path / "t.sqlite",
            precision="int8", **EASY,
        )  # fmt: skip


def test_a_network_that_cannot_be_rounded_is_named_with_the_reason(tmp_path, weights, monkeypatch):
    from vertebra.exporting import converted

    def refused(*_, **__):
        raise MeasurementError("The guard doesn't hold: 90.0 % of the first classes are the same.")

    monkeypatch.setattr(converted, "convert", refused)
    monkeypatch.setattr(rounded, "engines", lambda _, engines: engines)
    folder = painted(tmp_path / "shades", {"dark": 30, "bright": 200}, 16)
    with pytest.raises(MeasurementError, match=r"squeezenet1_1: in int8: The guard doesn't hold") as raised:
        vertebra.fit(
            folder, weights={MODEL: weights}, output=tmp_path / "out", table=tmp_path / "t.sqlite",
            precision="int8", **EASY,
        )  # fmt: skip
    assert "fit in float32" in raised.value.hint
    assert not (tmp_path / "out").exists()


def test_a_fitted_bundle_that_is_rounded_later_does_not_claim_float32_s_accuracy(made, tmp_path):
    pytest.importorskip("onnx")
    from vertebra.measuring.evaluation import fitted as facts

    place, _ = made
    folder = painted(tmp_path / "more", {"dark": 30, "bright": 200}, 12)
    kept = vertebra.export(place / "shades", tmp_path / "int8", precision="int8", calibrate=folder)
    assert (
        "That is of the network in float32; how accurate this one in int8 is wasn't measured."
        in (tmp_path / "int8" / "README.md").read_text()
    )
    with pytest.raises(InvalidInputError, match=r"accuracy is of float32, and .* is in int8"):
        facts.rows(kept)


@pytest.mark.parametrize(
    ("classes", "message", "hint"),
    [(("photos/a", "photos/b"), "All 4 pictures are in one folder, photos, which holds", "photos"),
     (("data/set/Train/a", "data/set/Train/b", "data/set/VALID/a"), "one folder, data/set, which holds the "
      "folders Train, VALID", "or the splits, pass the folder data/set"),
     (("a\nb", "c"), r"Class 0 has no name that can be printed: 'a\\nb'", "rename"),
     (("red", "red "), 'The classes 0 and 1 have the same name, "red"', "different names")],
)  # fmt: skip
def test_class_folders_that_no_bundle_can_have_are_refused_first(
    tmp_path, weights, monkeypatch, classes, message, hint
):
    folder = tmp_path / "set"
    for number, name in enumerate(classes):
        painted(folder, {name: 40 + 150 * number}, 2, seed=number)
    monkeypatch.setattr(contenders.campaign, "measure", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(InvalidInputError, match=message) as raised:
        vertebra.fit(folder, weights={MODEL: weights}, output=tmp_path / "out", **EASY)
    assert hint in raised.value.hint


def test_a_list_whose_numbers_begin_at_1_gives_a_head_for_those_that_there_are(tmp_path, weights):
    folder = painted(tmp_path / "set", {"dark": 30, "bright": 200}, 4)
    lines = [f"{name}/{n}.png,{label}" for name, label in (("dark", 1), ("bright", 2)) for n in range(4)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    done = vertebra.fit(
        folder / "labels.csv", weights={MODEL: weights}, output=tmp_path / "out",
        table=tmp_path / "t.sqlite", **EASY,
    )  # fmt: skip
    assert [label.name for label in done.bundle.label_set()] == ["1", "2"]
    found = vertebra.predict(folder / "dark" / "1.png", model=tmp_path / "out", top=1)
    assert [one.top[0].name for one in found] == ["1"]


# ------------------------------------------------------------------ how pictures are prepared


@pytest.fixture(scope="module")
def edges(tmp_path_factory) -> Path:
    """Wide pictures of which only the outer fifths on both sides show the class: a centre crop has none."""
    folder, generator = tmp_path_factory.mktemp("edges") / "edges", np.random.default_rng(5)
    for name, level in {"dark": 0, "bright": 200}.items():
        (folder / name).mkdir(parents=True)
        for number in range(12):
            blocks = generator.integers(60, 160, (8, 20, 3))
            blocks[:, :4] = blocks[:, -4:] = level + generator.integers(0, 50, (8, 4, 3))
            image = Image.fromarray(blocks.astype(np.uint8)).resize((600, 240), Image.Resampling.NEAREST)
            image.save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def squeezed(tmp_path_factory, weights, edges):
    """A fit of pictures that no crop can tell apart, with its folder."""
    place = tmp_path_factory.mktemp("squeezed")
    with fit_in(place, edges, weights, output=place / "edges") as found:
        yield found


def test_whole_pictures_are_chosen_where_a_crop_loses_what_matters(squeezed, edges):
    place, done = squeezed
    assert (done.accuracy, done.race.winner, done.winner.tried) == (1.0, f"{MODEL}, whole pictures", "whole")
    own = done.race.otherwise
    assert (own.name, own.held.learnt) == (MODEL, False)
    assert done.race.chosen == (f"{MODEL}, whole pictures",) * 2
    record = done.bundle.preprocess
    assert (record.input_size, record.resize) == ((224, 224), (224, 224))
    assert record == replace(vertebra.zoo.facts(MODEL).preprocess, resize=(224, 224))
    assert "as were whole pictures" in done.bundle.fitted.how
    found = vertebra.predict(*sorted(edges.rglob("*.png")), model=place / "edges", top=1)
    assert [one.top[0].name for one in found] == ["bright"] * 12 + ["dark"] * 12
    told = fitted.text(done)
    assert "how pictures are prepared, too, was chosen without them" in told
    assert "pictures are squeezed whole to 224x224, not cropped as for its weights: +" in told
    given = fitted.record(done)
    assert (given["model"], given["prepared"]) == (MODEL, "whole")
    assert given["preprocess"]["resize"] == (224, 224)
    gain = 1 - own.held.accuracy
    assert given["gained_by_preparation"]["difference"] == pytest.approx(gain)
    assert 0 < given["gained_by_preparation"]["low"] < gain < given["gained_by_preparation"]["high"]


def test_a_tie_goes_to_the_network_s_own_preprocessing(made):
    _, done = made
    assert (done.winner.tried, done.race.otherwise.name) == (None, f"{MODEL}, whole pictures")
    assert done.bundle.preprocess == vertebra.zoo.facts(MODEL).preprocess
    assert "as were pictures prepared as for its weights" in done.bundle.fitted.how
    assert done.preparation == Pair(0.0, -done.preparation.high, done.preparation.high)
    told = "pictures are prepared as for its weights; squeezed whole: +0.0 points ("
    assert told in fitted.text(done)
    assert "which isn't sure; to take them so: --preprocess whole" in fitted.text(done)
    gained = Outcome(
        done.race.otherwise.name, 1.0, 16, done.held, Pair(0.031, -0.014, 0.081), "", network=MODEL
    )
    other = replace(done, race=replace(done.race, outcomes=(done.race.outcomes[0], gained)))
    assert "squeezed whole: +3.1 points (-1.4 to +8.1 points), which isn't sure" in fitted.text(other)
    worse = replace(gained, difference=Pair(-0.031, -0.05, -0.01))
    other = replace(done, race=replace(done.race, outcomes=(done.race.outcomes[0], worse)))
    assert "squeezed whole: -3.1 points (-5.0 to -1.0 points), surely less" in fitted.text(other)
    assert fitted.record(done)["prepared"] == "own"


def test_a_preprocessing_that_was_asked_for_binds(squeezed, weights, edges, monkeypatch):
    place, done = squeezed
    monkeypatch.setenv("VERTEBRA_CACHE", str(place / "cache"))
    asked = {"weights": {MODEL: weights}, "table": place / "table.sqlite", **EASY}
    with pytest.raises(MeasurementError, match="Nothing is shipped"):
        vertebra.fit(edges, output=place / "own", preprocess="own", **asked)
    whole = vertebra.fit(edges, output=place / "whole", preprocess="WHOLE", **asked)
    assert (whole.accuracy, whole.race.otherwise, whole.winner.tried) == (1.0, None, None)
    assert whole.bundle.preprocess == done.bundle.preprocess
    assert whole.race.winner == MODEL
    assert "pictures are prepared as asked: whole" in fitted.text(whole)
    assert fitted.record(whole)["prepared"] == "asked"
    record = replace(done.bundle.preprocess, resize=(230, 230), mean=(0.5, 0.5, 0.5))
    (place / "mine.json").write_text(record.to_json())
    found = vertebra.fit(edges, output=place / "mine", preprocess=place / "mine.json", anyway=True, **asked)
    assert found.bundle.preprocess == record


def test_features_of_pictures_prepared_otherwise_are_not_those_in_the_cache(squeezed, weights, monkeypatch):
    place, done = squeezed
    monkeypatch.setenv("VERTEBRA_CACHE", str(place / "cache"))
    found = []
    whole = done.bundle.preprocess
    for record in ("own", "whole", replace(whole, interpolation="bicubic")):
        with loading.load(
            MODEL,
            weights=weights,
            engine="onnxruntime",
            features=True,
            preprocess=record,
            usual_batch_size=32,
        ) as loaded:
            told = kept_features.features(loaded, done.data, done.inspection.kept)
        found.append((told.found, told.computed))
    assert found == [(24, 0), (24, 0), (0, 24)]


def test_of_many_pictures_no_other_way_is_tried_and_it_is_said(made, weights, pictures, monkeypatch):
    place, _ = made
    monkeypatch.setenv("VERTEBRA_CACHE", str(place / "cache"))
    monkeypatch.setattr(fitting, "MOST_TRIED", 15)
    told = []
    done = vertebra.fit(
        pictures, weights={MODEL: weights}, output=place / "many", table=place / "table.sqlite",
        progress=lambda event: told.append(event.text), **EASY,
    )  # fmt: skip
    assert done.race.otherwise is None
    assert [text for text in told if "with more than 15 no other way is tried: --preprocess whole" in text]


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ("hole", 'Unknown preprocessing protocol "hole"', 'did you mean "whole"'),
        ("absent.json", "absent.json can't be read", "to_json"),
        ("paddleclas-darknet53-page", f"256x256 pixels; {MODEL} takes 224x224", "whole"),
    ],
)
def test_a_preprocessing_that_cannot_be_is_refused_first(
    tmp_path, weights, pictures, monkeypatch, given, message, hint
):
    monkeypatch.setattr(contenders.campaign, "measure", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(VertebraError, match=message) as raised:
        vertebra.fit(pictures, weights={MODEL: weights}, preprocess=given, output=tmp_path / "out",
                     table=tmp_path / "t.sqlite", **EASY)  # fmt: skip
    assert hint in raised.value.hint


def test_a_fitted_bundle_names_no_way_to_spoil_its_head(made, pictures, caplog):
    place, _ = made
    told = []
    picture = next(pictures.rglob("*.png"))
    vertebra.predict(picture, model=place / "shades", progress=lambda event: told.append(event.text))
    assert [text for text in told if text.startswith("assumed for ") and "preprocessing (" in text]
    assert not [text for text in told if "--preprocess" in text]
    vertebra.predict(picture, model=place / "shades", preprocess="own")
    assert not caplog.messages
    vertebra.predict(picture, model=place / "shades", preprocess="whole")
    assert "was fitted on pictures prepared as the Bundle records, not as asked for" in caplog.text
