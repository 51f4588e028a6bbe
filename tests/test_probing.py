"""The probe: what it finds where the answer is known, what it leaves out, and what it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import vertebra
from vertebra.cli import cli
from vertebra.data import datasets
from vertebra.data.datasets import Dataset, Sample
from vertebra.data.preprocess import Preprocess
from vertebra.engines import Settings
from vertebra.errors import ImageError, InvalidInputError, MeasurementError, WeightsError
from vertebra.inference import kept_features
from vertebra.measurements import Measurement
from vertebra.measuring.evaluation import probing, statistics, wilson
from vertebra.progress import Progress

pytest.importorskip("sklearn")

TINY = Preprocess(input_size=(2, 2), resize=(2, 2), interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))


def dataset(samples: list[tuple[int, int]], classes: tuple[str, ...] = ("cat", "dog")) -> Dataset:
    """Pictures that are told apart by their grey and their place, one for each (grey, class)."""

    def read():
        for number, (grey, label) in enumerate(samples):
            picture = np.full((2, 2, 3), max(grey, 0), np.uint8)
            yield Sample(b"broken" if grey < 0 else picture, label, f"image {number}")

    return Dataset("pets", None, "made up", classes, len(classes), len(samples), "", read)


def greys(images: np.ndarray) -> np.ndarray:
    """Features: the grey and its square."""
    grey = images[:, 0, 0, :1]
    return np.concatenate([grey, grey**2], axis=1)


class Made:
    """Stands for a network that is loaded, whose features are what `extract` makes of the images."""

    preprocess = TINY
    content = None
    engine = "null"
    settings = Settings(batch_size=4)

    def __init__(self, model: str, extract=greys) -> None:
        self.model, self.features = model, extract

    def check_features(self) -> None:
        pass

    __enter__ = lambda self: self  # noqa: E731
    __exit__ = lambda self, *_: None  # noqa: E731


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch) -> None:
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", "0")


def probe(data: Dataset, extract=greys, *, folds: int = 5, **options) -> probing.Probe:
    images = probing.look(data)
    found = kept_features.features(Made("one", extract), data, images.kept, **options)
    return probing.probe(data, images, found.vectors, TINY, unreadable=found.unreadable, folds=folds)


APART = [(grey, 0) for grey in range(40)] + [(grey, 1) for grey in range(200, 240)]


def test_classes_that_features_separate_are_all_found():
    found = probe(dataset(APART))
    assert (found.total, found.top1, found.folds, found.by_fold) == (80, 1.0, 5, (1.0,) * 5)
    assert (found.low, found.high) == wilson(80, 80)
    assert found.majority == 0.5


def test_classes_that_features_do_not_separate_are_guessed():
    # Each grey of one class lies between two of the other, so nothing linear in these features helps.
    mixed = dataset([(grey, grey % 2) for grey in range(240)])
    found = probe(mixed)
    assert 0.3 < found.top1 < 0.6
    assert found.low < 0.5 < found.high


def test_no_image_is_answered_by_a_fit_that_has_seen_it():
    # Features that name the image: whoever has seen it knows it, whoever hasn't can only guess.
    def naming(images: np.ndarray) -> np.ndarray:
        named = np.zeros((len(images), 256), np.float32)
        named[np.arange(len(images)), np.rint(images[:, 0, 0, 0] * 255).astype(int)] = 1
        return named

    found = probe(dataset([(grey, grey % 2) for grey in range(200)]), naming)
    assert found.top1 < 0.65


def test_the_interval_holds_wilson_s_and_widens_where_folds_disagree():
    low, high = statistics.cross_validated(80, 100, [0.8] * 5)
    assert (low, high) == wilson(80, 100)
    # shares 1, 0.6, 1, 0.6, 0.8: variance 0.04, t(4) 2.7764, so ± 2.7764 · sqrt(0.45 · 0.04) = 0.3725
    low, high = statistics.cross_validated(80, 100, [1, 0.6, 1, 0.6, 0.8])
    assert (low, high) == (pytest.approx(0.4275, abs=1e-4), 1.0)


def test_the_same_probe_gives_the_same_figures():
    mixed = dataset([(grey, int(grey > 90 + 40 * (grey % 3))) for grey in range(0, 240, 2)])
    assert probe(mixed) == probe(mixed)


def test_copies_of_an_image_do_not_count():
    found = probe(dataset(APART + APART[:10]))
    assert (found.total, found.repeats) == (80, 10)
    [row] = probing.rows(found, {"model": "net"})
    assert "10 copies of other images left out" in row.grade_reasons


def test_one_image_in_two_classes_is_refused():
    with pytest.raises(InvalidInputError, match="image 0 and image 80 are the same image in two classes"):
        probe(dataset([*APART, (0, 1)]))


def test_the_identity_is_the_content_s_and_not_the_order_s():
    one, other = probing.look(dataset(APART)), probing.look(dataset(APART[::-1]))
    assert one.identity == other.identity
    assert one.identity.startswith("pets@")
    assert probing.look(dataset(APART[:-1])).identity != one.identity


def test_a_small_class_makes_fewer_folds():
    assert probe(dataset(APART[:43])).folds == 3


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (APART[:40], "All 40 images of pets are of one class, cat"),
        (APART[:41], "The class dog of pets has a single image"),
        ([(-1, 0)], "None of the images of pets can be read"),
    ],
)
def test_what_cannot_be_probed_is_refused(samples, message):
    with pytest.raises(InvalidInputError, match=message):
        probe(dataset(samples))


def test_an_unreadable_image_is_named_or_ends_the_probe():
    found = probe(dataset([*APART, (-1, 0)]))
    assert (found.total, [name for name, _ in found.unreadable]) == (80, ["image 80"])
    with pytest.raises(ImageError, match="image 80"):
        probe(dataset([*APART, (-1, 0)]), strict=True)


# ------------------------------------------------------------------ rows and limits


def probed(model: str, value: float, images: str = "pets@1") -> Measurement:
    return Measurement(
        model=model, metric="probe_top1", value=value, low=value - 0.05, high=value + 0.05,
        origin="evaluated", dataset=images, split="5-fold", precision="float32",
    )  # fmt: skip


def test_pick_limits_on_a_probe(tmp_path):
    table = vertebra.Table(tmp_path / "table.sqlite")
    table.append([probed("alexnet", 0.7), probed("vgg16", 0.9), probed("vgg11", 0.8)])
    picked = vertebra.pick(among="table", objective="probe_top1", table=table, probe="72%")
    assert [row.model for row in picked.ranked] == ["vgg16", "vgg11"]


def test_probes_of_two_sets_are_never_compared(tmp_path):
    table = vertebra.Table(tmp_path / "table.sqlite")
    table.append([probed("alexnet", 0.7), probed("vgg16", 0.9, "cells@2")])
    with pytest.raises(InvalidInputError, match="2 sets of images were probed: cells@2, pets@1"):
        vertebra.pick(among="table", objective="probe_top1", table=table)
    picked = vertebra.pick(among="table", objective="probe_top1", table=table, filters={"probed": "pets"})
    assert [row.model for row in picked.ranked] == ["alexnet"]


# ------------------------------------------------------------------ end to end


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Dark and bright noise, twelve pictures each."""
    noise = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 160)):
        (tmp_path / "shades" / name).mkdir(parents=True)
        for number in range(12):
            pixels = noise.integers(low, low + 90, (64, 64, 3), dtype=np.uint8)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            (tmp_path / "shades" / name / f"{number}.png").write_bytes(stream.getvalue())
    return tmp_path / "shades"


def test_the_command_probes_networks_and_appends_a_row_each(pictures, tmp_path):
    pytest.importorskip("torch")
    table = str(tmp_path / "table.sqlite")
    arguments = ["eval", "--probe", str(pictures), "squeezenet1_1", "--untrained", "--table", table, "--json"]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    [row] = json.loads(done.stdout)
    assert (row["metric"], row["samples"], row["split"]) == ("probe_top1", 24, "5-fold")
    assert row["dataset"] == probing.look(datasets.open(pictures)).identity
    # A row of the network, whatever runs it; even untrained features tell dark from bright.
    assert row["engine"] is None
    assert row["value"] > 0.9
    assert [one.value for one in vertebra.Table(table).rows()] == [row["value"]]


def test_a_second_probe_of_the_same_pictures_computes_nothing_and_has_the_same_figures(
    pictures, tmp_path, monkeypatch
):
    pytest.importorskip("torch")
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", "1GB")
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    figures, asked = [], []
    for engine in (None, None, "onnxruntime"):
        seen: list[Progress] = []
        [row] = vertebra.probe(
            pictures, "squeezenet1_1", untrained=True, engine=engine, table=tmp_path / "t.sqlite",
            progress=seen.append,
        )  # fmt: skip
        figures.append((row.value, row.low, row.high, row.samples, row.dataset, row.engine))
        asked.append([event.done for event in seen if event.text == "features of squeezenet1_1"])
    assert figures[0] == figures[1]
    assert asked == [[0, 24], [24], [0, 24]]
    assert (figures[2][3:], figures[2][0] > 0.9) == (figures[0][3:], True)


def test_a_probe_s_progress_names_the_network(pictures, tmp_path):
    pytest.importorskip("torch")
    seen: list[Progress] = []
    table = tmp_path / "table.sqlite"
    vertebra.probe(pictures, "squeezenet1_1", untrained=True, table=table, progress=seen.append)
    notice, *counts = seen
    assert notice == Progress("squeezenet1_1 is untrained: its answers mean nothing")
    assert counts == [Progress("features of squeezenet1_1", done, 24, "images") for done in (0, 24)]


def test_a_network_without_features_is_told_before_any_picture_is_read(pictures, tmp_path):
    pytest.importorskip("onnx")
    import tiny_onnx

    name = tiny_onnx.network(tmp_path / "tiny.onnx")
    with pytest.raises(InvalidInputError, match=r'tiny.* gives no features on "onnxruntime"'):
        vertebra.probe(pictures, name, table=tmp_path / "t.sqlite")


def test_an_engine_without_features_is_refused_before_anything_is_exported(pictures, tmp_path, monkeypatch):
    pytest.importorskip("ncnn")
    monkeypatch.setattr("vertebra.inference.kept_exports.as_bundle", lambda *_, **__: pytest.fail("exported"))
    with pytest.raises(InvalidInputError, match='alexnet gives no features on "ncnn"'):
        vertebra.probe(pictures, "alexnet", untrained=True, engine="ncnn", table=tmp_path / "t.sqlite")
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", "much")
    with pytest.raises(InvalidInputError, match="VERTEBRA_FEATURES_LIMIT"):
        vertebra.probe(pictures, "alexnet", untrained=True, table=tmp_path / "t.sqlite")


def test_the_command_refuses_what_a_probe_has_no_use_for(pictures):
    done = CliRunner().invoke(cli, ["eval", "--probe", str(pictures), "alexnet", "--limit", "3"])
    assert done.exit_code == 2
    assert "--limit can't be combined with --probe" in done.stderr


# ------------------------------------------------------------------ what is left out, and several networks


@pytest.mark.parametrize("broken", [b"\0\0\0\x18ftypheic", b"\x89PNG\r\n\x1a\n"])
def test_a_class_without_a_readable_image_is_refused_before_any_features(pictures, broken):
    (pictures / "third").mkdir()
    for number in range(3):
        (pictures / "third" / f"{number}.jpg").write_bytes(broken + bytes([number]))
    with pytest.raises(InvalidInputError, match=r"no image of the class third can be read: third/0\.jpg: "):
        probing.look(datasets.open(pictures))


def test_a_class_whose_images_break_only_when_decoded_is_refused_too(pictures):
    (pictures / "third").mkdir()
    whole = next((pictures / "dark").iterdir()).read_bytes()
    for number in range(3):
        (pictures / "third" / f"{number}.png").write_bytes(whole[: 200 + number])
    data = datasets.open(pictures)
    with pytest.raises(InvalidInputError, match="no image of the class third can be read"):
        probe(data)


@pytest.fixture
def networks(monkeypatch) -> list[tuple[str, dict]]:
    """Stands for every network but those called misfit…; notes how each was loaded."""
    loads: list[tuple[str, dict]] = []

    def broken(images: np.ndarray) -> np.ndarray:
        raise MeasurementError("null can't run broken: no memory.")

    def load(model: str, **options) -> Made:
        loads.append((model, options))
        if model.startswith("misfit"):
            raise WeightsError(f"{model} doesn't fit.", "use others")
        return Made(model, {"broken": broken, "endless": lambda images: greys(images) / 0}.get(model, greys))

    monkeypatch.setattr("vertebra.inference.loading.load", load)
    monkeypatch.setattr(
        "vertebra.verbs.evaluate._conditions",
        lambda made, *_: {"model": made.model, "engine": "null", "device": "cpu"},
    )
    return loads


def test_a_network_that_does_not_fit_leaves_the_others_their_results(pictures, tmp_path, networks):
    table = str(tmp_path / "t.sqlite")
    (pictures / "dark" / "broken.png").write_bytes(b"no picture")
    arguments = ["eval", "--probe", str(pictures), "one", "misfit", "two", "--table", table]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1
    assert "error: misfit: misfit doesn't fit.\nhint: use others" in done.stderr
    assert "unreadable: dark/broken.png: not a" in done.stderr
    assert "Data: 24 images of 2 classes, in alphabetical order: bright, dark." in done.stdout
    assert "Left out: 1 unreadable." in done.stdout
    assert len(vertebra.Table(table).rows()) == 2
    # all are looked at before the first image
    assert [name for name, _ in networks] == ["one", "misfit", "two", "one", "two"]


def test_a_network_that_fails_while_it_runs_leaves_the_others_their_results(pictures, tmp_path, networks):
    table = str(tmp_path / "t.sqlite")
    arguments = ["eval", "--probe", str(pictures), "one", "broken", "endless", "two", "--table", table]
    with np.errstate(all="ignore"):
        done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1
    assert "error: broken: null can't run broken: no memory." in done.stderr
    assert (
        "error: endless: endless in float32 on null gives features that aren't finite numbers." in done.stderr
    )
    assert [row.model for row in vertebra.Table(table).rows()] == ["one", "two"]


def test_pictures_that_change_between_two_networks_leave_the_first_its_result(pictures, tmp_path, networks):
    table = vertebra.Table(tmp_path / "t.sqlite")
    told: list[Progress] = []

    def break_some(event: Progress) -> None:
        if event.text == "features of two" and not told:
            told.append(event)
            for number in range(11):
                (pictures / "dark" / f"{number}.png").write_bytes(b"gone")

    found = vertebra.probe(pictures, "one", "two", table=table, progress=break_some)
    assert [row.model for row in found] == ["one"]
    assert "The class dark of shades has a single image" in found.failures["two"].message


def test_where_no_network_fits_each_is_named(pictures, tmp_path, networks):
    with pytest.raises(InvalidInputError, match=r"misfit a: misfit a doesn't fit\. misfit b: misfit b"):
        vertebra.probe(pictures, "misfit a", "misfit b", table=tmp_path / "t.sqlite")
    with pytest.raises(WeightsError, match="misfit a doesn't fit"):
        vertebra.probe(pictures, "misfit a", table=tmp_path / "t.sqlite")


def test_each_network_has_its_own_weights(pictures, tmp_path, networks):
    arguments = [
        "eval",
        "--probe",
        str(pictures),
        "one",
        "two",
        "three",
        "--table",
        str(tmp_path / "t.sqlite"),
    ]
    given = ["--weights", "one=a=b.pth", "--weights", "three=hf:c"]
    assert CliRunner().invoke(cli, [*arguments, *given]).exit_code == 0
    assert {name: options.get("weights") for name, options in networks} == {
        "one": "a=b.pth", "two": None, "three": "hf:c",
    }  # fmt: skip
    for wrong in (
        ["--weights", "a.pth", "--weights", "b.pth"],
        [*given, "--weights", "x.pth"],
        given[:2] * 2,
    ):
        done = CliRunner().invoke(cli, [*arguments, *wrong])
        assert (done.exit_code, "--weights" in done.stderr) == (2, True)
    with pytest.raises(InvalidInputError, match="given for four, which isn't probed"):
        vertebra.probe(pictures, "one", weights={"four": "a.pth"}, table=tmp_path / "t.sqlite")
