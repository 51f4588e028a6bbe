"""How often another precision classes pictures otherwise than float32, by hand and through the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import golden_bundle
import vertebra
from vertebra.cli import cli
from vertebra.data.datasets import Dataset, Sample, unlabelled
from vertebra.data.preprocess import Preprocess
from vertebra.errors import ImageError, InvalidInputError, MeasurementError
from vertebra.inference import loading, reference
from vertebra.measuring.evaluation import wilson
from vertebra.measuring.evaluation.disagreement import compare

TINY = Preprocess(input_size=(2, 2), resize=(2, 2), interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))
WEIGHTS = str(golden_bundle.WEIGHTS)


def greys(*pixels: int) -> Dataset:
    """One grey picture for each of `pixels`, a broken one for -1."""
    pictures = [b"broken" if one < 0 else np.full((3, 3, 3), one, np.uint8) for one in pixels]
    samples = [Sample(picture, 0, f"image {place}") for place, picture in enumerate(pictures)]
    return Dataset("greys", None, "made up", ("",), 1, len(pixels), "", lambda: iter(samples))


def classing(*classes: int, value: float = 1.0) -> Any:
    """A network that gives a picture of grey n the class `classes[n]`."""

    def answer(images: Any) -> Any:
        logits = np.zeros((len(images), 4), np.float32)
        for place, grey in enumerate(np.rint(images[:, 0, 0, 0] * 255).astype(int)):
            logits[place, classes[grey]] = value
        return logits

    return answer


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_pictures_that_get_another_first_class_are_counted_and_copies_once(batch_size: int) -> None:
    data = greys(0, 1, 1, 2, -1, 3, 0)
    found = compare(data, classing(0, 1, 2, 0), classing(0, 2, 2, 3), TINY, batch_size=batch_size)
    share = found.classed_otherwise
    assert (share.right, share.total, share.interval) == (2, 4, wilson(2, 4))
    assert (found.copies, found.num_unreadable, found.unreadable[0][0]) == (2, 1, "image 4")
    assert (found.dataset, found.split) == ("greys", "all")
    part = compare(data, classing(0, 1, 2, 0), classing(0, 2, 2, 3), TINY, limit=3, batch_size=batch_size)
    assert (part.classed_otherwise.right, part.classed_otherwise.total, part.split) == (1, 2, "all[:3]")


def test_what_can_not_be_compared_is_refused() -> None:
    same = classing(0, 1, 2, 3)
    with pytest.raises(InvalidInputError, match="None of the 1 images"):
        compare(greys(-1), same, same, TINY)
    with pytest.raises(ImageError, match="image 1"):
        compare(greys(0, -1), same, same, TINY, strict=True)
    with pytest.raises(MeasurementError, match="answer to image 0 isn't finite"):
        compare(greys(0), same, classing(0, value=float("nan")), TINY)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture, and two below it, one of them a copy."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0)
    for name in ("first.png", "below/second.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / name)
    shutil.copy(folder / "first.png", folder / "below" / "copy.png")
    return folder


def test_pictures_need_no_labels_and_no_class_folders(pictures: Path) -> None:
    found = unlabelled.pictures(pictures)
    assert [one.name for one in found] == ["first.png", "below/copy.png", "below/second.png"]
    assert (found.name, found.split) == (pictures.name, None)
    with pytest.raises(InvalidInputError, match="There is nothing at"):
        unlabelled.pictures(pictures / "absent")


def test_the_command_compares_a_precision_with_float32_and_appends_the_row(
    pictures: Path, tmp_path: Path
) -> None:
    table = str(tmp_path / "table.sqlite")
    asked = ["eval", "squeezenet1_1", str(pictures), "--weights", WEIGHTS, "--engine", "eager"]
    asked += ["--precision", "bfloat16", "--table", table]
    done = CliRunner().invoke(cli, [*asked, "--against", "float32"], catch_exceptions=False)
    assert "in bfloat16 on eager, against float32 on eager: 2 images" in done.stdout
    assert "Left out: 1 that are exact copies of others." in done.stdout
    assert "vertebra pick doesn't count it: that needs at least 200 images." in done.stdout
    [row] = vertebra.Table(table).rows()
    told = (row.metric, row.precision, row.engine, row.samples, row.input_size, row.dataset, row.convention)
    assert told == ("top1_disagreement", "bfloat16", "eager", 2, 224, "photos0", "against float32 on eager")
    assert (row.low, row.high) == wilson(round(row.value * 2), 2)
    assert row.network_sha256 is not None
    record = json.loads(CliRunner().invoke(cli, [*asked, "--against", "float32", "--json"]).stdout)[0]
    assert record["value"] == row.value


def test_an_accuracy_is_evaluated_in_the_precision_that_is_asked_for(pictures: Path, tmp_path: Path) -> None:
    asked = {"weights": WEIGHTS, "engine": "eager", "labels": "index", "table": tmp_path / "t.sqlite"}
    truth = tmp_path / "truth.csv"
    truth.write_text("first.png,0\nbelow/second.png,1\n")
    found = vertebra.evaluate("squeezenet1_1", pictures, truth=truth, precision="bfloat16", **asked)
    assert {row.precision for row in found.rows} == {"bfloat16"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "runs in float32 itself"),
        ({"precision": "int8"}, "isn't rounded to int8"),
        ({"precision": "bfloat16", "weights": None, "untrained": True}, "is untrained"),
        ({"precision": "bfloat16", "against": "nowhere/"}, "doesn't exist"),
        ({"precision": "bfloat16", "against": "vgg16"}, "vgg16 is not a Bundle's folder"),
    ],
)
def test_what_has_no_float32_form_to_compare_with_is_refused(
    pictures: Path, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    asked = {"weights": WEIGHTS, "engine": "eager", "table": tmp_path / "t.sqlite", **options}
    with pytest.raises(vertebra.errors.VertebraError, match=told):
        vertebra.disagreement("squeezenet1_1", pictures, **asked)


def session(precision: str) -> Any:
    return SimpleNamespace(effective=lambda: {"precision": precision}, close=lambda: None)


def form(precision: str, **more: Any) -> loading.Loaded:
    told: dict[str, Any] = {"model": "timm:resnet18", "weights": "resnet18.a1_in1k", "weights_sha256": "aa"}
    settings = loading.Settings(batch_size=4, precision=precision)
    return loading.Loaded(
        session=session(precision), preprocess=TINY, labels=None, engine="openvino", settings=settings,
        num_classes=1000, **(told | more),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("own", "other", "told"),
    [
        ({}, {}, None),
        ({}, {"weights_sha256": "bb"}, "weights are not the same"),
        ({"weights_sha256": None}, {"weights": "resnet18.a2_in1k"}, "weights are not the same"),
        ({}, {"model": "timm:resnet34"}, "weights are not the same"),
        ({"weights": "best.pth"}, {}, "can't be found by their name"),
    ],
)
def test_a_rounded_bundle_is_compared_with_the_published_weights_that_it_was_made_from(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, Any], other: dict[str, Any], told: str | None
) -> None:
    asked: list[Any] = []

    def load(subject: Any, **options: Any) -> loading.Loaded:
        asked.append((subject, options["engine"], options["batch_size"]))
        return form("float32", **other)

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr("vertebra.bundles.read", lambda *of, **how: SimpleNamespace(precision="int8"))
    loaded = replace(form("int8"), **own)
    if told is None:
        assert reference.load("rounded/", loaded).model == "timm:resnet18"
        assert asked == [("timm:resnet18.a1_in1k", "openvino", 4)]
        return
    with pytest.raises(InvalidInputError, match=told):
        reference.load("rounded/", loaded)
