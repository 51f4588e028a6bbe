"""`vertebra train`, from a folder of pictures to answers, and what it says where it can't."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import vertebra
from toys import CLASSES, photos
from vertebra.bundles import runs
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, VertebraError
from vertebra.training import beginning, recipes

#: The smallest network of timm's with batch norms, and what lets it learn the toys in seconds.
MODEL = "timm:test_resnet"
QUICK = {
    "input_size": 32, "epochs": 2, "batch": 12, "lr": 0.05, "warmup_epochs": 0, "ema": 0.5, "augment": "none",
    "mixup": 0, "cutmix": 0, "erasing": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("toys") / "photos", 10)


@pytest.fixture(scope="module")
def run(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run, and its table beside it."""
    scratch = tmp_path_factory.mktemp("run")
    done = vertebra.train(
        MODEL, place, recipe="modern", set=QUICK, output=scratch / "toys", table=scratch / "table.sqlite",
        threads=1,
    )  # fmt: skip
    return done


def test_from_a_folder_to_an_answer(run: Any, place: Path, tmp_path: Path) -> None:
    """The same accuracy and the same answers from the run, its evaluation, its Bundle and the choice."""
    table = run.folder.parent / "table.sqlite"
    assert run.accuracy == 1.0
    rows = [row for row in vertebra.table(path=table, metric="top1") if row.origin == "evaluated"]
    assert [(row.value, row.split, row.samples) for row in rows] == [(1.0, "held out", 6)]

    bundle = vertebra.export(MODEL, tmp_path / "bundle", weights=run.folder)
    assert bundle.label_set().names == CLASSES
    assert bundle.preprocess.input_size == (32, 32)
    fresh = photos(tmp_path / "fresh", 3, seed=5)
    for model, options in ((MODEL, {"weights": run.folder}), (bundle.folder, {})):
        assert vertebra.evaluate(model, fresh, table=table, **options).evaluation.top1.value == 1.0
    learnt = vertebra.evaluate(bundle.folder, place, table=table)
    assert "was trained on 24 of these 30 pictures" in learnt.rows[0].grade_reasons[0]
    vertebra.bench(bundle.folder, engine="onnxruntime", quick=True, seconds="2s", table=table)
    picked = vertebra.pick(origin="evaluated", dataset="fresh", among="table", table=table)
    assert picked.choice is not None
    assert (picked.choice.model, picked.choice.value("top1")) == (MODEL, 1.0)
    assert picked.choice.value("latency") is not None

    pictures = sorted(place.glob("*/1.png"))
    for model, options in ((MODEL, {"weights": run.folder}), (str(bundle.folder), {})):
        answers = vertebra.predict(*pictures, model=model, **options)
        assert [one.top[0].called for one in answers] == list(CLASSES)


def test_a_run_s_folder_holds_all_of_it(run: Any) -> None:
    there = {one.name for one in run.folder.iterdir()}
    assert there >= {
        "run.json", "log.jsonl", "last.pt", "model.safetensors", "last.safetensors", "result.json",
        "split.csv", "pictures.json", "epochs.csv", "curves.png", "report.html", "confusion.png",
        "classes.csv", "tensorboard",
    }  # fmt: skip
    kept = runs.read(run.folder)
    assert kept.record["recipe"]["epochs"] == 2
    assert kept.record["versions"]["vertebra"] == vertebra.__version__
    assert [line["epoch"] for line in kept.lines("epoch")] == [1, 2]
    assert kept.lines("step")[-1]["step"] == 4
    assert kept.result is not None
    assert kept.result["status"] == "finished"
    page = (run.folder / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_what_was_trained_on_is_said_where_it_is_evaluated(run: Any, place: Path, tmp_path: Path) -> None:
    seen = vertebra.evaluate(MODEL, place, weights=run.folder, table=tmp_path / "table.sqlite")
    assert {row.split for row in seen.rows} == {"seen in fitting"}
    assert "was trained on 24 of these 30 pictures" in seen.rows[0].grade_reasons[0]
    fresh = photos(tmp_path / "fresh", 2, seed=5)
    unseen = vertebra.evaluate(MODEL, fresh, weights=run.folder, table=tmp_path / "table.sqlite")
    assert {row.split for row in unseen.rows} == {"all"}


def test_a_finished_run_has_nothing_left_to_do(run: Any, tmp_path: Path) -> None:
    again = vertebra.train(resume=run.folder, table=tmp_path / "table.sqlite")
    assert (again.status, again.accuracy) == ("finished", run.accuracy)


def test_a_run_that_torchrun_starts_again_continues(
    run: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    again = vertebra.train(
        MODEL, place, recipe="modern", set=QUICK, output=run.folder, table=tmp_path / "table.sqlite"
    )
    assert (again.status, again.accuracy) == ("finished", run.accuracy)


def test_a_run_is_shown(run: Any) -> None:
    text = CliRunner().invoke(cli, ["show", str(run.folder)]).output
    assert f"{MODEL}, recipe modern: top-1 100.0%" in text
    assert "epochs: 2 in place of 300" in text
    [shown] = json.loads(CliRunner().invoke(cli, ["show", str(run.folder), "--json"]).output)
    assert shown["status"] == "finished"
    assert shown["best"]["total"] == 6


def test_labels_travel_by_name(run: Any, place: Path, tmp_path: Path) -> None:
    """A set to evaluate on that lacks a class: its second class isn't the network's second."""
    other = photos(tmp_path / "other", 3, seed=9)
    for picture in (other / "amber").iterdir():
        picture.unlink()
    (other / "amber").rmdir()
    told: list[str] = []
    done = vertebra.train(
        MODEL, place, recipe="modern", set=QUICK, output=tmp_path / "run", validation=other, threads=1,
        table=tmp_path / "table.sqlite", progress=lambda event: told.append(event.text),
    )  # fmt: skip
    assert done.accuracy == 1.0
    assert "none of these is of amber" in told
    assert done.rows[0].samples == 6


def test_a_dry_run_trains_nothing(place: Path, tmp_path: Path) -> None:
    planned = vertebra.train(
        MODEL, place, recipe="modern", set=QUICK, output=tmp_path / "run", dry_run=True, threads=1
    )
    assert (planned.record["steps_per_epoch"], planned.record["steps"]) == (2, 4)
    assert planned.record["seconds"] > 0
    assert planned.record["memory"] > 10**7
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------ bad input


def one_class(folder: Path) -> Path:
    return photos(folder, 4, classes=("only",))


def one_picture_each(folder: Path) -> Path:
    return photos(folder, 1)


def no_picture(folder: Path) -> Path:
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "notes.md").write_text("none")
    return folder


def two_labels(folder: Path) -> Path:
    photos(folder, 4)
    same = Image.fromarray(np.random.default_rng(7).integers(0, 255, (40, 40, 3), np.uint8))
    for name in CLASSES[:2]:
        same.save(folder / name / "same.png")
    return folder


BAD: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "one class": (one_class, {}, "All 4 pictures of photos are of one class, only"),
    "one picture each": (one_picture_each, {}, "The class amber has a single picture"),
    "no picture": (no_picture, {}, "is not a data set"),
    "two labels": (two_labels, {}, "are the same picture in two classes"),
    "key": (photos, {"set": {"epoch": 3}}, 'A recipe has no "epoch"'),
    "recipe": (photos, {"recipe": "moderm"}, 'Unknown recipe "moderm"'),
    "size": (photos, {"model": "alexnet", "set": {**QUICK, "input_size": 32}}, "32x32, which alexnet"),
    "network": (photos, {"model": "alexnett"}, 'Unknown model "alexnett"'),
    "share": (photos, {"hold_out": 0.9}, "hold_out is 0.9"),
    "itself": (photos, {"validation": "."}, "are those that are trained on"),
    "split": (photos, {"validation": "val"}, "val"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_can_t_be_learnt_is_said_first(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, options, message = BAD[what]
    place = make(tmp_path / "photos")
    monkeypatch.chdir(place)
    given = {"model": MODEL, "recipe": "modern", "set": QUICK, **options}
    with pytest.raises(VertebraError, match=message):
        vertebra.train(given.pop("model"), place, output=tmp_path / "run", **given)
    assert not (tmp_path / "run" / runs.LOG).exists()


def other_weights(place: Path) -> dict[str, Any]:
    state = vertebra.build("squeezenet1_1", num_classes=3, seed=0).state_dict()
    torch.save(state, place / "other.pth")
    return {"weights": place / "other.pth"}


def a_file(place: Path) -> dict[str, Any]:
    (place / "file").write_text("mine")
    return {"output": place / "file" / "run"}


def read_only(place: Path) -> dict[str, Any]:
    (place / "kept").mkdir()
    return {"output": place / "kept"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (other_weights, "test_resnet"),
        (lambda place: {"weights": place / "nowhere.pth"}, "There is no file"),
        (a_file, "Can't make the folder"),
        (read_only, r"kept can't be written: Read-only file system"),
    ],
)
def test_what_can_t_begin_is_said_before_the_pictures_are_looked_at(
    options: Callable[[Path], dict[str, Any]], message: str, place: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refused(**_: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    given = {"output": tmp_path / "run", **options(tmp_path)}
    if options is read_only:
        monkeypatch.setattr("vertebra.training.run.tempfile.TemporaryFile", refused)
    told: list[str] = []
    with pytest.raises(VertebraError, match=message):
        vertebra.train(
            MODEL, place, recipe="modern", set=QUICK, progress=lambda event: told.append(event.text), **given
        )
    assert not [text for text in told if "inspecting" in text]
    assert not (tmp_path / "run").exists()


def test_the_documented_recipe_for_fashion_mnist_fits_its_network() -> None:
    file = Path(__file__).parents[1] / "benchmarks" / "fashion_mnist.py"
    found = recipes.find(str(file), "resnet18_acnet_deploy")
    network = vertebra.build("resnet18_acnet_deploy", num_classes=10, seed=0)
    beginning.check_size(network, "resnet18_acnet_deploy", found.input_size)
    assert (found.input_size, found.epochs) == (28, 3)


def test_a_recipe_from_published_weights_needs_some(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="there are none of bn_nin") as raised:
        vertebra.train("bn_nin", place, output=tmp_path / "run")
    assert raised.value.hint is not None
    assert "--weights FILE" in raised.value.hint


RESUMED: dict[str, tuple[dict[str, Any], str]] = {
    "another recipe": ({"recipe": "published"}, "began with recipe modern; published"),
    "another value": ({"set": {"epochs": "9"}}, "The run began with set"),
    "another network": ({"model": "alexnet"}, "trains timm:test_resnet; alexnet was asked for"),
    "another folder": ({"output": "other"}, "continues in the run's own folder"),
}


@pytest.mark.parametrize("what", RESUMED)
def test_a_run_continues_as_it_began(run: Any, what: str) -> None:
    options, message = RESUMED[what]
    with pytest.raises(InvalidInputError, match=message):
        vertebra.train(options.pop("model", None), resume=run.folder, **options)


def test_a_run_doesn_t_continue_with_other_pictures(tmp_path: Path) -> None:
    place = photos(tmp_path / "photos", 6)
    options: dict[str, Any] = {"table": tmp_path / "table.sqlite", "threads": 1}
    done = vertebra.train(MODEL, place, recipe="modern", set=QUICK, output=tmp_path / "run", **options)
    (place / "blue" / "1.png").unlink()
    with pytest.raises(InvalidInputError, match="The pictures have changed since the run began"):
        vertebra.train(resume=done.folder, **options)


def test_a_run_whose_pictures_have_moved_is_told_where_they_are(tmp_path: Path) -> None:
    place = photos(tmp_path / "photos", 6)
    options: dict[str, Any] = {"table": tmp_path / "table.sqlite", "threads": 1}
    done = vertebra.train(MODEL, place, recipe="modern", set=QUICK, output=tmp_path / "run", **options)
    place.rename(tmp_path / "moved")
    with pytest.raises(InvalidInputError, match="The run's pictures were at") as raised:
        vertebra.train(resume=done.folder, **options)
    assert raised.value.hint is not None
    assert f"vertebra train {MODEL} PICTURES --resume {done.folder}" in raised.value.hint
    again = vertebra.train(MODEL, tmp_path / "moved", resume=done.folder, **options)
    assert (again.status, again.accuracy) == ("finished", done.accuracy)


def test_a_folder_that_holds_something_isn_t_taken(run: Any, place: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="already holds a run"):
        vertebra.train(MODEL, place, output=run.folder, recipe="modern", set=QUICK)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match=r"isn't empty: it holds notes\.txt"):
        vertebra.train(MODEL, place, output=tmp_path, recipe="modern", set=QUICK)


def test_a_run_s_folder_is_no_bundle(run: Any) -> None:
    with pytest.raises(InvalidInputError, match="is the folder of a training") as raised:
        vertebra.export(run.folder, run.folder.parent / "bundle")
    assert raised.value.hint == f"name it, and the folder with --weights: {MODEL} --weights {run.folder}"


def test_a_run_continues_from_another_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"table": tmp_path / "table.sqlite", "threads": 1}
    photos(tmp_path / "others" / "set", 2, seed=3)
    monkeypatch.chdir(tmp_path)
    begun = vertebra.train(
        MODEL, place, recipe="modern", set=QUICK, output="run", validation="others/set", **options
    )
    monkeypatch.chdir(place)
    again = vertebra.train(resume=tmp_path / "run", **options)
    assert (again.status, again.accuracy) == ("finished", begun.accuracy)
