"""Divergence: of a converted network that answers otherwise, the layer where it begins."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from vertebra import engines  # noqa: E402
from vertebra.engines import Subject  # noqa: E402
from vertebra.errors import MeasurementError  # noqa: E402
from vertebra.exporting import divergence, export  # noqa: E402
from vertebra.exporting.divergence import Layer  # noqa: E402

SIZE = 30  # the pools give 14 and 6 pixels a side, or rounded up 15 and 7
CONVERTERS = {"onnxruntime": "onnx", "openvino": "openvino", "ncnn": "ncnn"}
HERE = [engine for engine in CONVERTERS if engines.missing(engine) is None]


@pytest.fixture(scope="module", autouse=True)
def _networks_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


def told(change: Callable[[Any], None], engine: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of a converter that makes the `change` to the network on its way."""
    converter = importlib.import_module(f"vertebra.exporting.{CONVERTERS[engine]}")
    faithful = converter.write

    def faulty(network: Any, *rest: Any) -> None:
        with torch.no_grad():
            change(network)
        faithful(network, *rest)

    # the batch norms' own epsilons must still be there when the converter comes
    monkeypatch.setattr("vertebra.exporting.folding.fold_batch_norms", lambda network: network)
    monkeypatch.setattr(converter, "write", faulty)
    subject = Subject("branched", builder="small_networks:branched_net")
    with pytest.raises(MeasurementError, match="Wrong outputs") as caught:
        export(subject, folder / "net", input_size=SIZE, engine=engine)
    assert not (folder / "net").exists()
    return caught.value.message


def setting(layer: str, name: str, value: Any) -> Callable[[Any], None]:
    return lambda network: setattr(network.get_submodule(layer), name, value)


def shift_bias(network: Any) -> None:
    network.full.bias[3] += 1


FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "an epsilon in one branch": (setting("left.1", "eps", 1e-3), r"left\.1 \(BatchNorm2d"),
    "an epsilon in the other": (setting("right.1", "eps", 1e-3), r"right\.1 \(BatchNorm2d"),
    "the first pool rounded up": (setting("pool1", "ceil_mode", True), r"pool1 \(MaxPool2d\), of whose size"),
    "the second pool rounded up": (setting("pool2", "ceil_mode", True), r"pool2 \(MaxPool2d\), of whose"),
    "a bias": (shift_bias, r"full \(Linear\), off by [\d.]+ of its spread, after"),
}


#: Without the mark "slow": every fault of one engine, and one fault of each.
QUICK = {("openvino", "an epsilon in one branch"), ("ncnn", "the second pool rounded up")}
GRID = [
    pytest.param(
        fault, engine, marks=[] if engine == HERE[0] or (engine, fault) in QUICK else pytest.mark.slow
    )
    for engine in HERE
    for fault in FAULTS
]


@pytest.mark.parametrize(("fault", "engine"), GRID)
def test_the_layer_that_a_converter_changed_is_named(
    fault: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, layer = FAULTS[fault]
    assert re.search(f"It begins at the layer {layer}", told(change, engine, tmp_path, monkeypatch))


@pytest.mark.parametrize("engine", HERE)
def test_a_fault_after_the_last_layer_is_told_as_that(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def softmax(network: Any) -> None:
        answer = network.forward
        network.forward = lambda images: torch.softmax(answer(images), 1)

    message = told(softmax, engine, tmp_path, monkeypatch)
    assert "all layers agree when opened: the fault comes after the last" in message


@pytest.mark.parametrize("engine", HERE)
def test_a_faithful_converter_leaves_no_layer_in_doubt(engine: str, tmp_path: Path) -> None:
    from vertebra.engines.eager import build

    subject = Subject("branched", builder="small_networks:branched_net")
    kept = export(subject, tmp_path / "net", input_size=SIZE, engine=engine)
    images = kept.reference_pair(1)[0]
    layers = divergence.compare(build(subject), images, divergence.tensors(kept, images), limit := 3e-4)
    assert {"pool1", "pool2", "full"} <= {layer.name for layer in layers}
    assert max(layer.error for layer in layers) < limit


def test_a_format_that_shows_no_layers_is_told_honestly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engines.missing("mnn") is not None:
        pytest.skip("no MNN")
    monkeypatch.setitem(CONVERTERS, "mnn", "mnn")
    message = told(shift_bias, "mnn", tmp_path, monkeypatch)
    assert "can't be told: mnn gives nothing but its end" in message


# ------------------------------------------------------------------ the verdict alone


def layers(*errors: float) -> list[Layer]:
    return [Layer(f"layer{number}", "Conv2d", error, True) for number, error in enumerate(errors)]


def test_the_first_layer_is_the_one_that_jumps_and_not_the_one_that_is_worst() -> None:
    said = divergence.verdict(layers(1e-6, 1e-6, 2e-4, 1e-3, 1.7e-3), 3e-4)
    assert "It begins at the layer layer2 (Conv2d), off by 0.0002" in said
    assert "the worst is layer4 (Conv2d), off by 0.0017" in said


def test_an_error_that_grows_evenly_is_pinned_on_nobody() -> None:
    said = divergence.verdict(layers(1e-5, 5e-5, 2e-4, 6e-4), 3e-4)
    assert said == "No layer stands out; the worst is layer3 (Conv2d), off by 0.0006 of its spread."


def test_layers_that_are_off_by_rounding_alone_are_all_acquitted() -> None:
    assert "all layers agree" in divergence.verdict(layers(1e-6, 2e-5, 1e-5), 3e-4)
    assert "they agree" in divergence.verdict([], 3e-4)
